// Details of HTTP that agents and servers rely on: paths, queries, hop-by-hop fields, redirects, encodings, the order
// of GET and calls.

package relay

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// TestAnswerOnTheGETStream: a server that says 202 to a request and answers on the session's GET stream.
func TestAnswerOnTheGETStream(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"tools/call", "tools/list", "initialize", "no/such"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			answers := make(chan string, 1)
			s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
				if x.Verb == http.MethodGet {
					st := x.Stream()
					st.Comment("open")
					select {
					case a := <-answers:
						st.Event(a)
					case <-x.Gone():
					}
					x.Hang()
					return
				}
				x.Accept()
				answers <- x.Answer(mcptest.ToolResult)
			})
			a := harness.Start(t, harness.FaultConfig(t, s, "")).Agent(t)
			l := a.GetStream(harness.SessionField)
			if r := a.Post(harness.Request(`"1"`, method), harness.SessionField); r.Status != 202 || r.Body != "" {
				t.Errorf("got %d %q", r.Status, r.Body)
			}
			if e := l.Next(); e.Data != `{"jsonrpc":"2.0","id":"1","result":`+mcptest.ToolResult+`}` {
				t.Errorf("the answer on the stream: %+v", e)
			}
		})
	}
}

// TestPathsAndQueries: a trailing slash is the same as none, and the agent's query goes on behind the configured one's, but
// for the names that the operator holds.
func TestPathsAndQueries(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	s.Script(func(x *mcptest.Exchange) {
		if x.Verb == http.MethodGet {
			x.Say(405, "", "")
			return
		}
		mcptest.Minimal(x)
	})
	held := harness.Start(t, harness.OneUpstream(s.URL()+"?key=operator%27s&mode=a+b", ""))
	free := harness.Start(t, harness.OneUpstream(s.URL(), ""))
	for _, c := range []struct {
		d            *harness.Daemon
		path, target string
	}{
		{free, "/mcp/s", "/mcp"},
		{free, "/mcp/s/", "/mcp"},
		{free, "/mcp", "/mcp"},
		{free, "/mcp/", "/mcp"},
		{free, "/mcp/s?toolsets=core", "/mcp?toolsets=core"},
		{free, "/mcp/s/?toolsets=core&x=%20%26+&x=2&flag", "/mcp?toolsets=core&x=%20%26+&x=2&flag"},
		{free, "/mcp?a=b", "/mcp?a=b"},
		{free, "/mcp/?a=b", "/mcp?a=b"},
		{held, "/mcp/s", "/mcp?key=operator%27s&mode=a+b"},
		{held, "/mcp/s?toolsets=core", "/mcp?key=operator%27s&mode=a+b&toolsets=core"},
		{held, "/mcp/s?key=mine&toolsets=core", "/mcp?key=operator%27s&mode=a+b&toolsets=core"},
		{held, "/mcp/s?%6bey=mine&mode=x&key=again", "/mcp?key=operator%27s&mode=a+b"},
	} {
		for verb, body := range map[string]string{"POST": harness.Request("1", "tools/call"), "GET": "", "DELETE": ""} {
			asked := s.Received()
			r := c.d.Agent(t).Must(verb, c.path, body)
			if s.Received() != asked+1 {
				t.Errorf("%s %s: %d, and the server got %d requests", verb, c.path, r.Status, s.Received()-asked)
			} else if got := s.AwaitRequest(asked + 1).Target; got != c.target {
				t.Errorf("%s %s arrived at %s, want %s", verb, c.path, got, c.target)
			}
		}
	}
	for _, path := range []string{"/mcp/s//", "/mcp/s/x", "/mcp/nobody/", "//mcp/s"} {
		if r := free.Agent(t).Must("POST", path, harness.Request("1", "tools/call")); r.Status == 200 {
			t.Errorf("%s is answered: %s", path, r.Body)
		}
	}
}

// TestQueriesAreCredentials: what is kept for one query is not served to another, and the daemon logs none.
func TestQueriesAreCredentials(t *testing.T) {
	t.Parallel()
	m := harness.StartModern(t, harness.ModernOptions{Hint: harness.Hint{TTL: 10 * time.Minute, Scope: "private"}})
	d := harness.Start(t, harness.OneUpstream(m.URL, ""))
	a := d.Agent(t)
	serial := map[string]int{}
	for _, query := range []string{"", "?set=a", "?set=SECRET-b"} {
		first := a.Ask("/mcp/s"+query, "tools/list", "")
		again := a.Ask("/mcp/s"+query, "tools/list", "")
		if again.Serial != first.Serial || first.Serial == 0 {
			t.Errorf("%q: answer %d, then %d: %d %s", query, first.Serial, again.Serial, first.Status, first.Body)
		}
		for other, n := range serial {
			if n == first.Serial {
				t.Errorf("%q got the answer to %q", query, other)
			}
		}
		serial[query] = first.Serial
	}
	d.Finish()
	if log := d.Out.String(); strings.Contains(log, harness.SecretMark) {
		t.Errorf("a query in the log: %s", log)
	}
}

// TestGETPlaceIsTheAgents: a legacy server that allows one GET stream has its place free for the agent: the daemon opens
// none of its own, whatever was asked before.
func TestGETPlaceIsTheAgents(t *testing.T) {
	t.Parallel()
	for _, sessions := range []bool{false, true} {
		t.Run(fmt.Sprint("sessions=", sessions), func(t *testing.T) {
			t.Parallel()
			place := make(chan struct{}, 1)
			s := mcptest.NewServer(t, mcptest.Minimal)
			s.Script(func(x *mcptest.Exchange) {
				switch {
				case x.Verb == http.MethodGet:
					select {
					case place <- struct{}{}:
						x.Stream().Event(harness.PingMessage("1"))
						x.Hang()
						<-place
					default:
						x.Say(409, "text/plain", "there is a stream already")
					}
				case x.Method() == "initialize":
					var fields []string
					if sessions {
						fields = []string{"Mcp-Session-Id: s-1"}
					}
					x.Result(`{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"resources":{"subscribe":true,"listChanged":true}},`+
						`"serverInfo":{"name":"s","version":"1"}}`, fields...)
				default:
					mcptest.Minimal(x)
				}
			})
			a := harness.Start(t, harness.OneUpstream(s.URL(), "cache: {ttl: {resources/read: 1m, tools/list: 1m}}")).Agent(t)
			fields := []string{harness.LegacyVersionField}
			if sessions {
				fields = append(fields, harness.SessionField)
			}
			a.Post(harness.InitializeRequest)
			for _, method := range []string{"tools/list", "resources/list", "resources/read", "tools/call", "tools/list"} {
				a.Post(strings.Replace(harness.Request("1", method), `"name"`, `"uri":"a://1","name"`, 1), fields...)
			}
			<-time.After(500 * time.Millisecond) // in which a stream of the daemon's own would be opened
			for _, r := range s.Requests() {
				if r.Verb == http.MethodGet {
					t.Fatalf("the daemon asked for a stream of its own: %q", r.Raw)
				}
			}
			if e := a.GetStream(fields...).Next(); e.Data != harness.PingMessage("1") {
				t.Errorf("the agent's stream began with %+v", e)
			}
		})
	}
}

// TestEncodedRequests: /mcp passes an encoded body as it is; /rpc, which takes it apart, says 415.
func TestEncodedRequests(t *testing.T) {
	t.Parallel()
	s, d := harness.StartMinimal(t)
	a := d.Agent(t)
	for _, coding := range []string{"gzip", "br", "zstd", "deflate, gzip"} {
		body := gzipped(harness.Request("1", "tools/call"))
		asked := s.Received()
		if r := a.Must("POST", "/rpc/s", body, "Content-Encoding: "+coding); r.Status != http.StatusUnsupportedMediaType || s.Received() != asked {
			t.Errorf("%s to /rpc: %d %s, %d requests", coding, r.Status, r.Body, s.Received()-asked)
		}
		s.Once(mcptest.Saying(415, "text/plain", "not that"))
		if r := a.Post(body, "Content-Encoding: "+coding); r.Status != 415 || r.Body != "not that" {
			t.Errorf("%s to /mcp: %d %s", coding, r.Status, r.Body)
		}
		if got := s.AwaitRequest(asked + 1); string(got.Body) != body || got.Get("Content-Encoding") != coding {
			t.Errorf("%s arrived as %q %q", coding, got.Get("Content-Encoding"), got.Body)
		}
	}
	if r := a.Must("POST", "/rpc/s", harness.Request("1", "tools/call"), "Content-Encoding: identity"); r.Status != 200 {
		t.Errorf("identity to /rpc: %d %s", r.Status, r.Body)
	}
	a.Works()
}

// TestHopByHopFieldsComeOffFirst: a field that `Connection` names is the connection's. It neither goes on nor does it count
// for what is kept and for whom.
func TestHopByHopFieldsComeOffFirst(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"MCP-Protocol-Version", "Mcp-Method", "Authorization", "X-Other"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
				x.Result(`{"resultType":"complete","ttlMs":600000,"cacheScope":"private","tools":[]}`)
			})
			a := harness.Start(t, harness.OneUpstream(s.URL(), "")).Agent(t)
			body, fields := harness.ModernRequest("1", "tools/list", "")
			fields = append(fields, harness.Bearer("ada"), "X-Other: 1")
			a.Post(body, append(fields, "Connection: "+name)...)
			if got := s.Requests()[0]; got.Has(name) {
				t.Errorf("the server got %s: %q", name, got.Get(name))
			}
			a.Post(body, fields...)
			if n := listsAt(s); n != 2 {
				t.Errorf("what was answered without %s is served to a request with it", name)
			}
			a.Post(body, fields...)
			if n := listsAt(s); n != 2 {
				t.Errorf("a whole request is not served from what was kept: %d", n)
			}
		})
	}
}

// listsAt is how many lists the server was asked for: it may be asked for the daemon's own streams, too.
func listsAt(s *mcptest.Server) (n int) {
	for _, r := range s.Requests() {
		if r.Method() == "tools/list" {
			n++
		}
	}
	return n
}

// TestTemporaryRedirects: a 307 is for the caller alone who got it, every time; a 308 is remembered for all.
func TestTemporaryRedirects(t *testing.T) {
	t.Parallel()
	for _, status := range []int{307, 308} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
				if x.Target == "/mcp" {
					x.Say(status, "", "", "Location: /of/"+strings.TrimPrefix(x.Get("Authorization"), "Bearer "))
					return
				}
				mcptest.Minimal(x)
			})
			a := harness.Start(t, harness.FaultConfig(t, s, "")).Agent(t)
			want := []string{"/mcp", "/of/ada", "/mcp", "/of/bob", "/mcp", "/of/ada"}
			if status == 308 {
				want = []string{"/mcp", "/of/ada", "/of/ada", "/of/ada"}
			}
			for _, who := range []string{"ada", "bob", "ada"} {
				if r := a.Post(harness.Request("1", "tools/call"), harness.Bearer(who)); r.Status != 200 {
					t.Errorf("%s: %d %s", who, r.Status, r.Body)
				}
			}
			var got []string
			for _, r := range s.Requests() {
				got = append(got, r.Target)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("the server was asked at %q, want %q", got, want)
			}
		})
	}
}

// TestOwnOrigin: an Origin that is the daemon's own becomes the server's; another one that is let in passes as it is.
func TestOwnOrigin(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	c := harness.OneUpstream(s.URL(), "")
	c.Top += "\norigins: [\"https://inspector.example\"]"
	d := harness.Start(t, c)
	port := d.Addr[strings.LastIndexByte(d.Addr, ':'):]
	for _, x := range []struct{ host, origin, want string }{
		{d.Addr, "http://" + d.Addr, "http://" + s.Addr()},
		{"localhost" + port, "http://localhost" + port, "http://" + s.Addr()},
		{d.Addr, "https://inspector.example", "https://inspector.example"},
		{d.Addr, "", ""},
	} {
		asked := s.Received()
		fields := []string{"Host: " + x.host}
		if x.origin != "" {
			fields = append(fields, "Origin: "+x.origin)
		}
		r := d.Agent(t).Post(harness.Request("1", "tools/call"), fields...)
		if r.Status == 403 && x.origin == "http://localhost"+port {
			continue // only what was let in can go on
		}
		if r.Status != 200 {
			t.Errorf("%q: %d %s", x.origin, r.Status, r.Body)
			continue
		}
		if got := s.AwaitRequest(asked + 1).Get("Origin"); got != x.want {
			t.Errorf("%q arrived as %q, want %q", x.origin, got, x.want)
		}
	}
}

// TestOrderOfGETAndCalls: an agent that opens its stream and then calls has its stream at the server first, as often as it has
// directly: whoever reads two connections may take the later message first, the more so on a machine that does other things.
// The server is a process of its own for that reason. Both are tried in turn.
func TestOrderOfGETAndCalls(t *testing.T) {
	addr := startOrderServer(t)
	c := harness.OneUpstream("http://"+addr+"/mcp", "")
	c.Plain = true
	d := harness.Start(t, c)
	const tries, rounds = 100, 10
	for round := range rounds { // a daemon that changes the order does so in each; another process that takes the processors does not
		var direct, through int
		for i := range tries {
			direct += callBeforeGET(t, addr, "/mcp", round*tries+i)
			through += callBeforeGET(t, d.Addr, "/mcp/s", round*tries+i)
		}
		t.Logf("the call was at the server first in %d of %d directly, in %d through the daemon", direct, tries, through)
		if through <= direct+10 { // the spread of two such counts; internal/session holds the order itself
			return
		}
	}
	t.Errorf("the call was at the server first more often through the daemon than directly, in each of %d rounds", rounds)
}

// callBeforeGET returns 1 if a call that was sent half a millisecond after a GET was at the server first, else 0.
func callBeforeGET(t *testing.T, addr, path string, try int) int {
	t.Helper()
	own := fmt.Sprintf("Mcp-Session-Id: %s-%d", path[1:], try)
	calls := rawTo(t, addr)
	defer calls.Close()
	post := func(body string) string {
		calls.Write("POST %s HTTP/1.1\r\nHost: %s\r\n%s\r\n%s\r\nContent-Length: %d\r\n\r\n%s", path, addr, harness.JSONContent, own, len(body), body)
		answer, err := calls.Whole("POST")
		if err != nil {
			t.Fatal(err)
		}
		return answer.Body
	}
	post(harness.PingMessage("0")) // a warm connection
	stream := rawTo(t, addr)
	defer stream.Close()
	stream.Write("GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n%s\r\n\r\n", path, addr, own)
	<-time.After(500 * time.Microsecond)
	switch body := post(harness.Request("1", "tools/call")); {
	case strings.Contains(body, `"first":"POST"`):
		return 1
	case !strings.Contains(body, `"first":"GET"`):
		t.Fatalf("the server answered %s", body)
	}
	return 0
}

// TestMain is this program's other life as the server of TestOrderOfGETAndCalls.
func TestMain(m *testing.M) {
	if os.Getenv(orderServerEnv) != "" {
		runOrderServer()
		return
	}
	harness.RunTests(m)
}

// orderServerEnv makes this program the server of TestOrderOfGETAndCalls.
const orderServerEnv = "E2E_ORDER_SERVER"

// startOrderServer starts one that says in its answer to a call whether the session's GET was there first.
func startOrderServer(t *testing.T) (addr string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), orderServerEnv+"=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdin, err := cmd.StdinPipe() // it ends with this
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stdin.Close(); _ = cmd.Wait() })
	if _, err := fmt.Fscanln(out, &addr); err != nil {
		t.Fatal(err)
	}
	return addr
}

// runOrderServer is the server's main function.
func runOrderServer() {
	var mu sync.Mutex
	open := make(map[string]bool) // sessions whose GET came
	go func() {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		fmt.Println(l.Addr())
		panic(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			id, first := r.Header.Get("Mcp-Session-Id"), "POST"
			mu.Lock()
			if r.Method == http.MethodGet {
				open[id] = true
			} else if open[id] {
				first = "GET"
			}
			mu.Unlock()
			if r.Method == http.MethodGet {
				w.Header().Set("Content-Type", "text/event-stream")
				w.WriteHeader(http.StatusOK)
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
				return
			}
			body, _ := io.ReadAll(r.Body)
			msg := struct{ ID json.RawMessage }{}
			_ = json.Unmarshal(body, &msg)
			w.Header().Set("Content-Type", "application/json")
			_, _ = fmt.Fprintf(w, `{"jsonrpc":"2.0","id":%s,"result":{"first":%q}}`, msg.ID, first)
		})))
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// rawTo connects to an address.
func rawTo(t *testing.T, addr string) *harness.RawAgent {
	t.Helper()
	return harness.Dial(t, addr)
}

// TestEveryEndpointEventIsRewritten: on an old stream every `endpoint` event gives the agent a path of this stream's own,
// whatever the server says and however it writes it, and what is posted there goes to this server alone.
func TestEveryEndpointEventIsRewritten(t *testing.T) {
	t.Parallel()
	for name, second := range map[string]string{
		"its own path":                   "event: endpoint\ndata: /message?b\n\n",
		"another upstream of the daemon": "event: endpoint\ndata: /rpc/other\n\n",
		"the other one's MCP":            "event: endpoint\ndata: /mcp/other\n\n",
		"without blanks":                 "event:endpoint\ndata:/mcp/other\n\n",
		"with CRLF":                      "event: endpoint\r\ndata: /mcp/other\r\n\r\n",
		"named twice":                    "event: message\nevent: endpoint\ndata: /mcp/other\n\n",
		"data first":                     "data: /mcp/other\nevent: endpoint\n\n",
		"with an id":                     "id: 1\nevent: endpoint\nretry: 5\ndata: /mcp/other\n\n",
		"in two lines":                   "event: endpoint\ndata: /mcp/\ndata: other\n\n",
		"another origin":                 "event: endpoint\ndata: http://127.0.0.2:9/x\n\n",
		"rubbish":                        "event: endpoint\ndata: ://\x01\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var posted []string
			s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
				if x.Verb == http.MethodGet {
					st := x.Stream()
					st.Event("/message?a", "event: endpoint")
					st.Raw(second)
					st.Event(harness.PingMessage("1"), "event: message")
					x.Hang()
					return
				}
				mu.Lock()
				posted = append(posted, x.Target)
				mu.Unlock()
				x.Accept()
			})
			other := mcptest.NewServer(t, mcptest.Minimal)
			c := harness.OneUpstream(s.URL(), "transport: sse")
			c.Upstreams["other"] = fmt.Sprintf("{url: %q, headers: {Authorization: Bearer secret}}", other.URL())
			d := harness.Start(t, c)
			a := d.Agent(t)
			l := a.GetStream()
			endpoints := 0
			for ended := false; !ended; {
				select {
				case e, more := <-l.Events:
					ended = !more || e.Name != "endpoint"
					if ended {
						break
					}
					endpoints++
					if !strings.HasPrefix(e.Data, "/mcp/s/message/") || strings.ContainsAny(e.Data, "\n ") {
						t.Errorf("endpoint %d is %q", endpoints, e.Data)
						break
					}
					if r := a.Must("POST", e.Data, harness.PingMessage("7")); r.Status != 202 {
						t.Errorf("posted to endpoint %d: %d %s", endpoints, r.Status, r.Body)
					}
				case <-time.After(harness.MaxWait):
					t.Fatal("neither an event nor the end")
				}
			}
			mu.Lock()
			defer mu.Unlock()
			if endpoints == 0 || len(posted) != endpoints {
				t.Errorf("%d endpoints, posted at %q", endpoints, posted)
			}
			if n := other.Received(); n != 0 {
				t.Errorf("the other upstream got %d requests", n)
			}
		})
	}
}
