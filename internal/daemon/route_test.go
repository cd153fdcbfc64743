package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/config"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
)

// replaced is a legacy server with one session. It answers a call of the tool "slow" when it is released, streams with its name, and
// everything else at once.
type replaced struct {
	name    string
	slow    *mcptest.Gate // a call of "slow" has come
	release *mcptest.Gate
	ended   *mcptest.Gate // the session was ended
}

func newReplaced(name string) *replaced {
	return &replaced{name, mcptest.NewGate(), mcptest.NewGate(), mcptest.NewGate()}
}

func (s *replaced) script(x *mcptest.Exchange) {
	switch {
	case x.Verb == http.MethodGet:
		x.Stream().Event(fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":%q}}`, s.name))
		x.Hang()
	case x.Verb == http.MethodDelete:
		s.ended.Open()
		x.Say(http.StatusOK, "", "")
	case x.Method() == "initialize":
		x.Result(`{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}`, "Mcp-Session-Id: "+s.name)
	case x.Method() == "server/discover":
		x.JSON(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"Method not found"}}`, x.ID()))
	case x.ID() == "":
		x.Accept()
	case strings.Contains(string(x.Body), `"slow"`):
		s.slow.Open()
		x.Wait(s.release.Opened())
		fallthrough
	default:
		x.Result(fmt.Sprintf(`{"content":[{"type":"text","text":%q}]}`, s.name))
	}
}

// routing is a daemon whose pipelines are replaced, and its agents.
type routing struct {
	t *testing.T
	d *daemon
}

// pipeline makes the pipeline of an upstream at a URL.
func (r routing) pipeline(name, url string) *pipeline {
	r.t.Helper()
	cfg, _, err := config.Load(config.Sources{Upstreams: []string{name + "=" + url}})
	if err != nil {
		r.t.Fatal(err)
	}
	return newPipeline(r.d.shared, cfg, cfg.Upstreams[0])
}

func (r routing) route(list ...*pipeline) {
	r.t.Helper()
	if err := r.d.route(list); err != nil {
		r.t.Fatal(err)
	}
}

// call sends one request of an agent and returns its answer, which is to be an answer. In a session where that has a name.
func (r routing) call(path, session, method, params string) string {
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":%q,"params":{%s}}`, method, params)
	resp := losingAgent{r.t, "http://" + r.d.addresses()[0]}.to(http.MethodPost, path, session, body)
	if resp == nil {
		return ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(text), `"result"`) {
		r.t.Errorf("%s %s: %d %q, %v", path, method, resp.StatusCode, text, err)
	}
	return string(text)
}

func (r routing) tool(upstream, tool string) string {
	return r.call("/mcp/"+upstream, upstream, "tools/call", fmt.Sprintf(`"name":%q`, tool))
}

// stream opens a GET stream, and returns a channel of whose events come, which closes when it ends.
func (r routing) stream(wg *sync.WaitGroup, upstream string) <-chan string {
	from := make(chan string, 10)
	resp := losingAgent{r.t, "http://" + r.d.addresses()[0]}.to(http.MethodGet, "/mcp/"+upstream, upstream, "")
	if resp == nil || resp.StatusCode != http.StatusOK {
		r.t.Fatalf("no stream: %+v", resp)
	}
	wg.Go(func() {
		defer close(from)
		defer resp.Body.Close()
		for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
			if _, data, ok := strings.Cut(lines.Text(), `"data":"`); ok {
				from <- strings.TrimRight(data, `"}`)
			}
		}
	})
	return from
}

// shows reports whether the metrics have the state of an upstream's breaker.
func (r routing) shows(upstream string) bool {
	resp, err := http.Get("http://" + r.d.addresses()[0] + "/metrics")
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		r.t.Fatalf("metrics: %d, %v", resp.StatusCode, err)
	}
	return strings.Contains(string(text), fmt.Sprintf(`fluentd_perf_breaker_state{endpoint="0",upstream=%q} 0`, upstream))
}

// TestRoute replaces an upstream by another while requests and streams of it and of a second one are under way: no request fails, the
// stream ends and is opened at the new one, what was under way at the old one ends there, and with its last request everything of it:
// goroutines, connections, sessions of the daemon's own. The other upstream notices nothing.
func TestRoute(t *testing.T) {
	first, second, other := newReplaced("first"), newReplaced("second"), newReplaced("other")
	servers := map[*replaced]*mcptest.Server{}
	for _, s := range []*replaced{first, second, other} {
		servers[s] = mcptest.NewServer(t, s.script)
	}
	cfg, _, err := config.Load(config.Sources{Upstreams: []string{"b=" + servers[other].URL()}, Listen: []string{"127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := assemble(t.Context(), Options{Config: cfg, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	d.start()
	r := routing{t, d}
	b := d.routed()[0]
	var agents, streams sync.WaitGroup
	streamOfB := r.stream(&streams, "b")
	if got := <-streamOfB; got != "other" {
		t.Errorf("b's stream is of %q", got)
	}
	r.tool("b", "quick")
	before := goleak.IgnoreCurrent()

	old := r.pipeline("a", servers[first].URL())
	r.route(old, b)
	r.call("/mcp/a", "", "initialize", `"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"a","version":"1"}`)
	r.call("/rpc/a", "", "tools/list", "") // begins a session of the daemon's own
	stream := r.stream(&streams, "a")
	if got := <-stream; got != "first" {
		t.Errorf("the stream is of %q", got)
	}
	slow := make(chan string, 1)
	agents.Go(func() { slow <- r.tool("a", "slow") })
	<-first.slow.Opened()
	stop := make(chan struct{})
	for _, upstream := range []string{"a", "a", "b"} {
		agents.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					r.tool(upstream, "quick")
				}
			}
		})
	}

	next := r.pipeline("a", servers[second].URL())
	r.route(next, b)
	if got := r.tool("a", "quick"); !strings.Contains(got, "second") {
		t.Errorf("a call after the swap got %s", got)
	}
	first.release.Open()
	if got := <-slow; !strings.Contains(got, "first") {
		t.Errorf("the call from before got %s", got)
	}
	close(stop) // while calls of a's sessions come without a pause, its old stream stays for them
	agents.Wait()
	for range stream {
		t.Error("another event on the old stream")
	}
	stream = r.stream(&streams, "a")
	if got := <-stream; got != "second" {
		t.Errorf("the stream that was opened again is of %q", got)
	}
	d.retiring.Wait()
	<-first.ended.Opened()
	servers[first].AwaitOpen(0)
	if n := d.routed(); len(n) != 2 || n[0] != next || n[1] != b {
		t.Errorf("requests go to %v", n)
	}
	if !r.shows("a") || !r.shows("b") {
		t.Error("the metrics have lost an upstream that is there")
	}

	r.route(b)
	for range stream {
		t.Error("another event on the stream of an upstream that is gone")
	}
	d.retiring.Wait()
	if r.shows("a") || !r.shows("b") {
		t.Error("the metrics have an upstream that is gone, or not the other")
	}
	http.DefaultClient.CloseIdleConnections()
	servers[second].AwaitOpen(0)
	awaitNoLeak(t, before)

	select {
	case got, open := <-streamOfB:
		t.Errorf("b's stream brought %q, %v", got, open)
	default:
	}
	if got := r.tool("b", "quick"); !strings.Contains(got, "other") || b.ctx.Err() != nil {
		t.Errorf("b answers %s, its context: %v", got, b.ctx.Err())
	}
	if err := d.drain(time.Second); err != nil {
		t.Error(err)
	}
	streams.Wait()
}

// awaitNoLeak waits until no goroutine is left but those that were there before.
func awaitNoLeak(t *testing.T, before goleak.Option) {
	t.Helper()
	var err error
	for end := time.Now().Add(time.Minute); time.Now().Before(end); { // each Find waits a little
		if err = goleak.Find(before); err == nil {
			return
		}
	}
	t.Error(err)
}

// otherServer is a server of another kind: it is at no URL.
type otherServer struct {
	mcp.CallerFunc
	closed bool
}

func (*otherServer) GivenUp(*mcp.Call, time.Duration) *mcp.Failure { return nil }
func (*otherServer) Status() string                                { return "a process" }
func (*otherServer) Identity() string                              { return "/bin/server" }
func (p *otherServer) Close()                                      { p.closed = true }

// TestAnotherKind: an upstream whose servers are at no URL is routed to, shown and ended like any other.
func TestAnotherKind(t *testing.T) {
	d := runningDaemon(t, "http://127.0.0.1:1/mcp")
	r := routing{t, d}
	var origin string
	s := &otherServer{CallerFunc: func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
		origin = c.Header.Get("Origin")
		return says(c, `"result":{"content":[]}`), nil
	}}
	p := &pipeline{shared: d.shared, cfg: d.routed()[0].cfg, entry: d.routed()[0].entry, servers: []server{s}}
	p.entry.Name, p.entry.URL, p.entry.URLs = "local", nil, nil
	p.ctx, p.cancel = context.WithCancelCause(d.base)
	p.join()
	r.route(p)
	if got := r.tool("local", "x"); !strings.Contains(got, "content") || origin != "" {
		t.Errorf("got %s, the server was told the origin %q", got, origin)
	}
	if s := p.status(nil, time.Now()); len(s.Hosts) != 1 || s.Hosts[0] != "a process" || len(s.Endpoints) != 1 {
		t.Errorf("the status is %+v", s)
	}
	resp := losingAgent{t, "http://" + d.addresses()[0]}.to(http.MethodGet, "/.well-known/oauth-protected-resource/mcp/local", "", "")
	if resp == nil || resp.StatusCode != http.StatusNotFound {
		t.Fatalf("its OAuth metadata: %+v", resp)
	}
	_ = resp.Body.Close()
	r.route()
	d.retiring.Wait()
	if !s.closed || p.ctx.Err() == nil {
		t.Error("it is still open")
	}
}

// TestPurgeOfNothing: programs that go through the lists of a purge find them also where they are empty.
func TestPurgeOfNothing(t *testing.T) {
	d := runningDaemon(t, "http://127.0.0.1:1/mcp")
	if err := d.route(nil); err != nil {
		t.Fatal(err)
	}
	d.retiring.Wait()
	answer, err := d.purge(t.Context(), api.CachePurgeParams{})
	text, merr := json.Marshal(answer)
	if err != nil || merr != nil || string(text) != `{"purged":[],"pending":[]}` {
		t.Errorf("%s, %v, %v", text, err, merr)
	}
}
