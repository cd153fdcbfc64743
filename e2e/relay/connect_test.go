// Clients of every age connect through the daemon where they connect directly, whatever the server says to what it
// does not know.

package relay

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"fluentd-perf/e2e/harness"
)

// discoverAnswer is what a server of before 2026-07-28 says to server/discover, which it does not know. Everything else it
// answers well.
type discoverAnswer struct {
	name  string
	reply http.HandlerFunc
	weird bool // no client need connect: the Go SDK gives up at a success that it cannot read
}

var discoverAnswers = []discoverAnswer{
	{"400 text", sayText(400, "text/plain", "Bad Request: Server not initialized"), false},
	{"400 JSON-RPC", sayText(400, "application/json", `{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: Server not initialized"}}`), false},
	{"400 no session", sayText(400, "text/plain", "Bad Request: No valid session ID provided"), false},
	{"401 without a challenge", sayText(401, "text/plain", "Unauthorized: Session not found"), false},
	{"404 text", sayText(404, "text/plain", "404 page not found"), false},
	{"404 JSON-RPC", sayText(404, "application/json", `{"jsonrpc":"2.0","id":null,"error":{"code":-32601,"message":"Method not found"}}`), false},
	{"405", sayText(405, "text/plain", "Method Not Allowed"), false},
	{"422", sayText(422, "application/json", `{"detail":"unknown method"}`), false},
	{"429", sayText(429, "text/plain", "slow down"), false},
	{"500 text", sayText(500, "text/plain", "Internal Server Error"), false},
	{"500 empty", sayText(500, "", ""), false},
	{"501", sayText(501, "text/plain", "Not Implemented"), false},
	{"502 HTML", sayText(502, "text/html", "<html><body>Bad Gateway</body></html>"), false},
	{"503", sayText(503, "text/plain", "Service Unavailable"), false},
	{"504", sayText(504, "text/plain", ""), false},
	{"200 HTML", sayText(200, "text/html; charset=utf-8", "<!doctype html><title>Welcome</title>"), false},
	{"200 nothing", sayText(200, "application/json", ""), true},
	{"202", sayText(202, "", ""), true},
	{"200 JSON-RPC error without id", sayText(200, "application/json", `{"jsonrpc":"2.0","id":null,"error":{"code":-32601,"message":"Method not found"}}`), true},
	{"hang-up", hangUpAtOnce, false},
	{"half an answer", halfAnswer, false},
	{"silence and hang-up", func(w http.ResponseWriter, r *http.Request) { silence(w, r, time.Second); hangUpAtOnce(w, r) }, false},
	{"silence", func(w http.ResponseWriter, r *http.Request) { silence(w, r, harness.MaxWait) }, false},
}

func sayText(status int, contentType, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header()["Content-Type"] = []string{contentType}
		if contentType == "" {
			w.Header()["Content-Type"] = nil
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func hangUpAtOnce(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// halfAnswer breaks off within a body of a known length.
func halfAnswer(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", "1000")
	_, _ = io.WriteString(w, `{"jsonrpc":"2.0",`)
	hangUpAtOnce(w, r)
}

// silence says nothing until the client has left or the time is up.
func silence(_ http.ResponseWriter, r *http.Request, bound time.Duration) {
	select {
	case <-r.Context().Done():
	case <-time.After(bound):
	}
}

// oldServer is a legacy server with sessions that counts what it is asked.
type oldServer struct {
	discover http.HandlerFunc

	mu    sync.Mutex // guards the following
	asked map[string]int
}

func startOldServer(t *testing.T, discover http.HandlerFunc) (*oldServer, string) {
	t.Helper()
	s := &oldServer{discover: discover, asked: map[string]int{}}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	return s, server.URL + "/mcp"
}

func (s *oldServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	var m struct {
		ID     json.RawMessage
		Method string
		Params struct{ ProtocolVersion string }
	}
	body, _ := io.ReadAll(r.Body)
	if err := json.Unmarshal(body, &m); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.count(m.Method)
	switch m.Method {
	case "server/discover":
		s.discover(w, r)
	case "initialize":
		w.Header().Set("Mcp-Session-Id", fmt.Sprintf("session-%d", s.count("session")))
		writeResult(w, m.ID, fmt.Sprintf(`{"protocolVersion":%q,"capabilities":{"tools":{}},"serverInfo":{"name":"old","version":"1"}}`, legacyVersion(m.Params.ProtocolVersion)))
	case "tools/call":
		writeResult(w, m.ID, `{"content":[{"type":"text","text":"echo"}]}`)
	case "tools/list":
		writeResult(w, m.ID, `{"tools":[{"name":"echo","inputSchema":{"type":"object"}}]}`)
	default:
		w.WriteHeader(http.StatusAccepted)
	}
}

// legacyVersion is what an old server agrees to.
func legacyVersion(asked string) string { return min(asked, "2025-06-18") }

func writeResult(w http.ResponseWriter, id json.RawMessage, result string) {
	w.Header().Set("Content-Type", "application/json")
	fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":%s}`, id, result)
}

// counts returns how often what was asked for so far.
func (s *oldServer) counts() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.asked)
}

func (s *oldServer) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked[what]++
	return s.asked[what]
}

func (s *oldServer) times(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[what]
}

// connected is what became of one agent.
type connected struct {
	MS    int
	Error string
}

// agentsInARow is how many agents connect to each server, one after the other: the third would meet an open breaker.
const agentsInARow = 3

// probeWait is how long a client, or the daemon, waits for an answer to server/discover.
const probeWait = 2 * time.Second

// connectClients connect agents to every URL. Those marked always go on to initialize whatever a server says, or would if
// they had a timeout of their own for server/discover: through the daemon they connect to each of the servers.
var connectClients = []struct {
	name   string
	always bool
	run    func(t *testing.T, urls []string) [][]connected
}{
	{"go", true, connectGo},
	{"ts-1.12", true, connectTypeScript("ts-1.12")},
	{"ts1", true, connectTypeScript("ts1")},
	{"ts2", true, connectTypeScript("ts2")},
	{"ts2-auto", false, connectTypeScript("ts2-auto")},
}

// TestConnect connects clients of several generations to servers that do not know server/discover and say so in all sorts
// of ways. Wherever a client connects directly it connects through the daemon, as the first agent and as the third, and the
// server is asked to initialize as often. Time is compared by order of magnitude.
func TestConnect(t *testing.T) {
	for _, client := range connectClients {
		t.Run(client.name, func(t *testing.T) {
			t.Parallel()
			direct, directURLs := startOldServers(t)
			through, throughURLs := startOldServers(t)
			d := connectDaemon(t, throughURLs)
			want := client.run(t, directURLs)
			got := client.run(t, d)
			for i, answer := range discoverAnswers {
				t.Run(answer.name, func(t *testing.T) {
					t.Logf("directly %v, asked %v", want[i], direct[i].counts())
					t.Logf("through  %v, asked %v", got[i], through[i].counts())
					checkConnected(t, client.always && !answer.weird, want[i], got[i])
					checkAsked(t, direct[i], through[i], want[i])
				})
			}
		})
	}
}

func startOldServers(t *testing.T) (servers []*oldServer, urls []string) {
	t.Helper()
	for _, answer := range discoverAnswers {
		s, url := startOldServer(t, answer.reply)
		servers, urls = append(servers, s), append(urls, url)
	}
	return servers, urls
}

// connectDaemon starts one daemon in front of all servers and returns where agents find them.
func connectDaemon(t *testing.T, servers []string) (urls []string) {
	t.Helper()
	c := harness.Config{Upstreams: map[string]string{}, Args: []string{"--log-level", "warn"}, Steady: true}
	for i, url := range servers {
		c.Upstreams[fmt.Sprint("s", i)] = fmt.Sprintf("{url: %q, timeouts: {handshake: %v}}", url, probeWait)
	}
	d := harness.Start(t, c)
	for i := range servers {
		urls = append(urls, d.URL(fmt.Sprintf("/mcp/s%d", i)))
	}
	return urls
}

// checkConnected holds that whoever connected directly did so through the daemon, in about the same time.
func checkConnected(t *testing.T, always bool, want, got []connected) {
	t.Helper()
	for n := range want {
		if got[n].Error != "" && (always || want[n].Error == "") {
			t.Errorf("agent %d did not connect: %s", n+1, got[n].Error)
		}
		if bound := 10*want[n].MS + int((2 * probeWait).Milliseconds()); want[n].Error == "" && got[n].MS > bound {
			t.Errorf("agent %d connected after %d ms, directly after %d ms", n+1, got[n].MS, want[n].MS)
		}
	}
}

// checkAsked holds that nothing was asked that the agent did not ask, but for server/discover, which may be sent again
// twice; where an agent does not connect directly the counts have nothing to be compared with.
func checkAsked(t *testing.T, direct, through *oldServer, want []connected) {
	t.Helper()
	for _, agent := range want {
		if agent.Error != "" {
			return
		}
	}
	for _, method := range []string{"initialize", "notifications/initialized", "tools/call"} {
		if d, g := direct.times(method), through.times(method); d != g {
			t.Errorf("%s came %d times, directly %d times", method, g, d)
		}
	}
	const method = "server/discover"
	if d, g := direct.times(method), through.times(method); g > 3*d {
		t.Errorf("%s came %d times, directly %d times", method, g, d)
	}
}

func connectTypeScript(kind string) func(t *testing.T, urls []string) [][]connected {
	return func(t *testing.T, urls []string) (result [][]connected) {
		t.Helper()
		args := []string{filepath.Join(harness.NodeDir, "connect.mjs"), kind, fmt.Sprint((2 * probeWait).Milliseconds()), fmt.Sprint(agentsInARow)}
		printed := harness.RunNode(t, append(args, urls...)...)
		if err := json.Unmarshal(printed, &result); err != nil || len(result) != len(urls) {
			t.Fatalf("%v\n%s", err, printed)
		}
		return result
	}
}

func connectGo(t *testing.T, urls []string) [][]connected {
	t.Helper()
	result := make([][]connected, len(urls))
	var all sync.WaitGroup
	for i, url := range urls {
		all.Go(func() {
			for range agentsInARow {
				result[i] = append(result[i], connectOnce(t.Context(), url))
			}
		})
	}
	all.Wait()
	return result
}

// connectOnce connects a client of the Go SDK, which has no timeout of its own for server/discover.
func connectOnce(ctx context.Context, url string) connected {
	ctx, cancel := context.WithTimeout(ctx, 5*probeWait)
	defer cancel()
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	client := mcp.NewClient(&mcp.Implementation{Name: "e2e-go", Version: "1"}, nil)
	begun := time.Now()
	session, err := client.Connect(ctx, &mcp.StreamableClientTransport{Endpoint: url, HTTPClient: &http.Client{Transport: base}}, nil)
	if err != nil {
		return connected{Error: err.Error()}
	}
	defer session.Close()
	ms := int(time.Since(begun).Milliseconds())
	if _, err := session.CallTool(ctx, &mcp.CallToolParams{Name: "echo"}); err != nil {
		return connected{MS: ms, Error: err.Error()}
	}
	return connected{MS: ms}
}
