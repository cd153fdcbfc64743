package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// agent is an MCP client that checks nothing and hides nothing. Every agent has connections of its own.
type agent struct {
	t    *testing.T
	base string
	http *http.Client
}

func newAgent(t *testing.T, base string) *agent {
	tr := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &agent{t: t, base: base, http: &http.Client{Transport: tr, CheckRedirect: stay}}
}

func (d *sidecar) agent(t *testing.T) *agent { return newAgent(t, "http://"+d.addr) }

// reply is a whole answer.
type reply struct {
	status int
	header http.Header
	body   string
	took   time.Duration
}

// send sends a request and reads its answer whole. Fields are "Name: value" each.
func (a *agent) send(verb, path, body string, fields ...string) (reply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	begun := time.Now()
	res, err := a.open(ctx, verb, path, body, fields...)
	if err != nil {
		return reply{}, err
	}
	defer func() { _ = res.Body.Close() }()
	got, err := io.ReadAll(res.Body)
	return reply{res.StatusCode, res.Header, string(got), time.Since(begun)}, err
}

// open sends a request and returns its answer, of which the head has come.
func (a *agent) open(ctx context.Context, verb, path, body string, fields ...string) (*http.Response, error) {
	var content io.Reader
	if body != "" {
		content = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, verb, a.base+path, content)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json, text/event-stream")
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		if name == "Host" {
			req.Host = value
			continue
		}
		req.Header.Add(name, value)
	}
	return a.http.Do(req)
}

// must is send for what has to be answered.
func (a *agent) must(verb, path, body string, fields ...string) reply {
	a.t.Helper()
	r, err := a.send(verb, path, body, fields...)
	if err != nil {
		a.t.Fatalf("%s %s: %v", verb, path, err)
	}
	return r
}

// post posts a message to the upstream s.
func (a *agent) post(body string, fields ...string) reply {
	a.t.Helper()
	return a.must(http.MethodPost, "/mcp/s", body, fields...)
}

// works fails the test if an ordinary call to s is not answered.
func (a *agent) works() {
	a.t.Helper()
	worksOn(a.t, a, "s")
}

// worksOn fails the test if an ordinary call to that upstream is not answered.
func worksOn(t *testing.T, a *agent, upstream string) {
	t.Helper()
	r, err := a.send(http.MethodPost, "/mcp/"+upstream, request(`"after"`, "tools/call"))
	if err != nil {
		t.Fatalf("the next request: %v", err)
	}
	if r.status != http.StatusOK || r.rpc(t).Result == nil {
		t.Errorf("the next request: got %d %s", r.status, r.body)
	}
}

// request returns a legacy request with that id, which is JSON.
func request(id, method string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":{"name":"echo"}}`, id, method)
}

// notification returns a notification.
func notification(method string) string { return fmt.Sprintf(`{"jsonrpc":"2.0","method":%q}`, method) }

// modern returns a 2026-07-28 request with that id, and the header fields that belong to it.
func modern(id, method string) (body string, fields []string) {
	body = fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":{"name":"echo","_meta":{`+
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`, id, method)
	fields = []string{"MCP-Protocol-Version: 2026-07-28", "Mcp-Method: " + method}
	if method == "tools/call" {
		fields = append(fields, "Mcp-Name: echo")
	}
	return body, fields
}

// rpcAnswer is a JSON-RPC answer.
type rpcAnswer struct {
	ID     json.RawMessage
	Result json.RawMessage
	Error  *rpcError
}

type rpcError struct {
	Code    int
	Message string
	Data    *failureData
}

// failureData is the data of the daemon's own errors (docs/resilience.md).
type failureData struct {
	Source, Upstream, Reason, Sent, RequestID string
	RetryAfterMs                              int64
}

// rpc returns the answer in a JSON body, or in the last event of a stream.
func (r reply) rpc(t *testing.T) rpcAnswer {
	t.Helper()
	text := r.body
	if strings.HasPrefix(r.header.Get("Content-Type"), "text/event-stream") {
		events := readEvents(t, strings.NewReader(r.body))
		if len(events) == 0 {
			t.Fatalf("a stream without an event: %q", r.body)
		}
		text = events[len(events)-1].data
	}
	var a rpcAnswer
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		t.Fatalf("%d, not a JSON-RPC answer: %q (%v)", r.status, r.body, err)
	}
	return a
}
