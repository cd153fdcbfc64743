package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/mcptest"
)

// streaming plays one script for GETs and Minimal for the rest.
func streaming(get mcptest.Script) mcptest.Script {
	return func(x *mcptest.Exchange) {
		if x.Verb == http.MethodGet {
			get(x)
			return
		}
		mcptest.Minimal(x)
	}
}

const session = "Mcp-Session-Id: s-1"

// ping is a server's message with a number.
func ping(n string) string { return `{"jsonrpc":"2.0","id":` + n + `,"method":"ping"}` }

// TestGETStreamIsReopened: the server's side breaks, the agent's stays open, and the next one is asked for from where the
// first one stopped.
func TestGETStreamIsReopened(t *testing.T) {
	t.Parallel()
	broken := map[string]mcptest.Script{
		"reset":                  func(x *mcptest.Exchange) { x.Reset() },
		"cut":                    func(x *mcptest.Exchange) { x.Close() },
		"500":                    mcptest.Saying(500, "text/plain", "no"),
		"503":                    mcptest.Saying(503, "text/plain", "no"),
		"reset after its head":   mcptest.ResetAfterStreamHead,
		"stream that breaks off": mcptest.ResetInEvent,
	}
	for name, second := range broken {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mcptest.NewServer(t, mcptest.Minimal)
			d := runSidecar(t, faultConf(t, s, ""))
			s.Once(func(x *mcptest.Exchange) {
				st := x.Stream()
				st.Event(ping("1"), "id: first", "retry: 50")
				st.Event(ping("2"), "id: second")
				st.Raw("id: third\ndata: {")
				x.Reset()
			}, second, func(x *mcptest.Exchange) {
				x.Stream().Event(ping("3"), "id: third")
				x.Hang()
			})
			l := d.agent(t).get(session)
			for i, want := range []string{"1", "2", "3"} {
				e := l.next()
				if e.data == progress { // what the second stream said before it broke
					e = l.next()
				}
				if e.data != ping(want) || e.id != []string{"first", "second", "third"}[i] {
					t.Errorf("event %d: %+v", i, e)
				}
			}
			l.stillOpen()
			for n := 2; n <= 3; n++ {
				r := s.AwaitRequest(n)
				if r.Verb != http.MethodGet || r.Get("Last-Event-ID") != "second" || r.Get("Mcp-Session-Id") != "s-1" {
					t.Errorf("re-opened with %q", r.Raw)
				}
			}
			if m := d.scrape(); m.sum("fluentd_perf_stream_reopens_total", `result="reopened"`) < 1 {
				t.Error("no re-opening was counted")
			}
		})
	}
}

// TestGETStreamOutlivesItsServer: the server goes away and comes back.
func TestGETStreamOutlivesItsServer(t *testing.T) {
	t.Parallel()
	open := func(x *mcptest.Exchange) {
		x.Stream().Event(ping("1"), "id: "+x.Get("Last-Event-ID")+"+")
		x.Hang()
	}
	s := mcptest.NewServer(t, streaming(open))
	c := faultConf(t, s, "")
	c.upstreams["s"] = strings.Replace(c.upstreams["s"], "reopen: 2s", "reopen: 60s", 1)
	d := runSidecar(t, c)
	l := d.agent(t).get(session)
	if e := l.next(); e.id != "+" {
		t.Errorf("first event %+v", e)
	}
	s.Down()

	// An agent that was connected before, by its Last-Event-ID or its session, gets its stream at once, and so does one that
	// may have been: its session began before the daemon did.
	byEvent := d.agent(t).get("Last-Event-ID: e")
	bySession := d.agent(t).get(session)
	fromBefore := d.agent(t).get("Mcp-Session-Id: s-2")
	// One of which nothing says so is told, in text, which leaves the session of a client alone.
	r := d.agent(t).must(http.MethodGet, "/mcp/s", "")
	if ct := r.header.Get("Content-Type"); r.status != http.StatusServiceUnavailable || !strings.HasPrefix(ct, "text/plain") {
		t.Errorf("a first GET while the server is down: %d %s %q", r.status, ct, r.body)
	}
	l.stillOpen()
	byEvent.stillOpen()

	s.Up()
	if e := l.next(); e.id != "++" {
		t.Errorf("after the server came back: %+v", e)
	}
	if e := byEvent.next(); e.id != "e+" {
		t.Errorf("the waiting stream by event id: %+v", e)
	}
	if e := bySession.next(); e.id != "+" {
		t.Errorf("the waiting stream by session: %+v", e)
	}
	if e := fromBefore.next(); e.id != "+" {
		t.Errorf("the waiting stream of a session from before: %+v", e)
	}
}

// TestGETStreamWhileTheServerSays5xx: where the agent had a stream before, a 5xx is like an unreachable server.
func TestGETStreamWhileTheServerSays5xx(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := runSidecar(t, faultConf(t, s, ""))
	s.Once(mcptest.Saying(503, "text/plain", "not yet"), func(x *mcptest.Exchange) {
		x.Stream().Event(ping("1"), "id: new")
		x.Hang()
	})
	l := d.agent(t).get("Last-Event-ID: old")
	if e := l.next(); e.id != "new" || s.AwaitRequest(2).Get("Last-Event-ID") != "old" {
		t.Errorf("got %+v", e)
	}
}

// TestGETStreamFirstRefusal: what the server says to a first GET is the agent's to read.
func TestGETStreamFirstRefusal(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := runSidecar(t, faultConf(t, s, ""))
	a := d.agent(t)
	for _, c := range []struct {
		status int
		body   string
	}{{405, "no stream here"}, {404, "session not found"}, {400, `{"jsonrpc":"2.0","error":{"code":-32000,"message":"m"},"id":null}`}, {500, "broken"}, {503, "later"}} {
		s.Once(mcptest.Saying(c.status, "text/plain", c.body, "Allow: POST"))
		if r := a.must(http.MethodGet, "/mcp/s", "", "Mcp-Session-Id: s-9"); r.status != c.status || r.body != c.body || r.header.Get("Allow") != "POST" {
			t.Errorf("got %d %q, want %d %q", r.status, r.body, c.status, c.body)
		}
	}
	r := a.must(http.MethodGet, "/mcp/refused", "")
	if ct := r.header.Get("Content-Type"); r.status != http.StatusServiceUnavailable || !strings.HasPrefix(ct, "text/plain") {
		t.Errorf("unreachable: %d %s %q", r.status, ct, r.body)
	}
}

// TestGETStreamEnds: the ends of a stream that agents must see as clean ones.
func TestGETStreamEnds(t *testing.T) {
	t.Parallel()
	begin := func(x *mcptest.Exchange) *mcptest.Stream {
		st := x.Stream()
		st.Event(ping("1"), "id: 1", "retry: 20")
		return st
	}
	breaks := func(x *mcptest.Exchange) {
		begin(x)
		x.Reset()
	}
	for _, c := range []struct {
		name    string
		scripts []mcptest.Script
		gets    int // how many the server must have seen; 0: any
	}{
		{"the server ends it", []mcptest.Script{func(x *mcptest.Exchange) { begin(x).End() }}, 1},
		{"404 on re-opening", []mcptest.Script{breaks, mcptest.Saying(404, "text/plain", "session not found")}, 2},
		{"405 on re-opening", []mcptest.Script{breaks, mcptest.Saying(405, "", "")}, 2},
		{"401 on re-opening", []mcptest.Script{breaks, mcptest.Saying(401, "", "", "WWW-Authenticate: Bearer")}, 2},
		{"streams.reopen is over", []mcptest.Script{breaks}, 0},
		{"the server takes it and breaks it, over and over", []mcptest.Script{breaks}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			again := mcptest.ResetBeforeHead
			if strings.HasPrefix(c.name, "the server takes it and") {
				again = mcptest.ResetAfterStreamHead
			}
			s := mcptest.NewServer(t, streaming(again))
			d := runSidecar(t, faultConf(t, s, ""))
			s.Once(c.scripts...)
			a := d.agent(t)
			l := a.get(session)
			if e := l.next(); e.id != "1" {
				t.Errorf("first event %+v", e)
			}
			l.cleanEnd(10 * time.Second)
			if n := s.Received(); c.gets > 0 && n != c.gets || n < 2 && c.gets == 0 {
				t.Errorf("the server saw %d GETs, want %d", n, c.gets)
			}
			const most = 20 // 20 ms, 40 ms, 80 ms and so on for two seconds are fewer than ten
			if n := s.Received(); n > most {
				t.Errorf("the server saw %d GETs within two seconds: that is no backoff", n)
			}
			a.works()
			eventually(t, "rid of the stream", func() bool {
				return d.scrape().sum("fluentd_perf_streams_open") == 0
			})
		})
	}
}
