// An agent's GET stream outlives the server's: it is opened again, resumed, and ends when there is nothing to resume.

package session

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

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
			s, d := harness.StartMinimal(t)
			s.Once(func(x *mcptest.Exchange) {
				st := x.Stream()
				st.Event(harness.PingMessage("1"), "id: first", "retry: 50")
				st.Event(harness.PingMessage("2"), "id: second")
				st.Raw("id: third\ndata: {")
				x.Reset()
			}, second, func(x *mcptest.Exchange) {
				x.Stream().Event(harness.PingMessage("3"), "id: third")
				x.Hang()
			})
			l := d.Agent(t).GetStream(harness.SessionField)
			for i, want := range []string{"1", "2", "3"} {
				e := l.Next()
				if e.Data == harness.ProgressMessage { // what the second stream said before it broke
					e = l.Next()
				}
				if e.Data != harness.PingMessage(want) || e.ID != []string{"first", "second", "third"}[i] {
					t.Errorf("event %d: %+v", i, e)
				}
			}
			l.StillOpen()
			for n := 2; n <= 3; n++ {
				r := s.AwaitRequest(n)
				if r.Verb != http.MethodGet || r.Get("Last-Event-ID") != "second" || r.Get("Mcp-Session-Id") != "s-1" {
					t.Errorf("re-opened with %q", r.Raw)
				}
			}
			if m := d.Scrape(); m.Sum("fluentd_perf_stream_reopens_total", `result="reopened"`) < 1 {
				t.Error("no re-opening was counted")
			}
		})
	}
}

// TestGETStreamOutlivesItsServer: the server goes away and comes back.
func TestGETStreamOutlivesItsServer(t *testing.T) {
	t.Parallel()
	open := func(x *mcptest.Exchange) {
		x.Stream().Event(harness.PingMessage("1"), "id: "+x.Get("Last-Event-ID")+"+")
		x.Hang()
	}
	s := mcptest.NewServer(t, harness.StreamingGET(open))
	c := harness.FaultConfig(t, s, "")
	c.Upstreams["s"] = strings.Replace(c.Upstreams["s"], "reopen: 2s", "reopen: 60s", 1)
	d := harness.Start(t, c)
	l := d.Agent(t).GetStream(harness.SessionField)
	if e := l.Next(); e.ID != "+" {
		t.Errorf("first event %+v", e)
	}
	s.Down()

	// An agent that was connected before, by its Last-Event-ID or its session, gets its stream at once, and so does one that
	// may have been: its session began before the daemon did.
	byEvent := d.Agent(t).GetStream("Last-Event-ID: e")
	bySession := d.Agent(t).GetStream(harness.SessionField)
	fromBefore := d.Agent(t).GetStream("Mcp-Session-Id: s-2")
	// One of which nothing says so is told, in text, which leaves the session of a client alone.
	r := d.Agent(t).Must(http.MethodGet, "/mcp/s", "")
	if ct := r.Header.Get("Content-Type"); r.Status != http.StatusServiceUnavailable || !strings.HasPrefix(ct, "text/plain") {
		t.Errorf("a first GET while the server is down: %d %s %q", r.Status, ct, r.Body)
	}
	l.StillOpen()
	byEvent.StillOpen()

	s.Up()
	if e := l.Next(); e.ID != "++" {
		t.Errorf("after the server came back: %+v", e)
	}
	if e := byEvent.Next(); e.ID != "e+" {
		t.Errorf("the waiting stream by event id: %+v", e)
	}
	if e := bySession.Next(); e.ID != "+" {
		t.Errorf("the waiting stream by session: %+v", e)
	}
	if e := fromBefore.Next(); e.ID != "+" {
		t.Errorf("the waiting stream of a session from before: %+v", e)
	}
}

// TestGETStreamWhileTheServerSays5xx: where the agent had a stream before, a 5xx is like an unreachable server.
func TestGETStreamWhileTheServerSays5xx(t *testing.T) {
	t.Parallel()
	s, d := harness.StartMinimal(t)
	s.Once(mcptest.Saying(503, "text/plain", "not yet"), func(x *mcptest.Exchange) {
		x.Stream().Event(harness.PingMessage("1"), "id: new")
		x.Hang()
	})
	l := d.Agent(t).GetStream("Last-Event-ID: old")
	if e := l.Next(); e.ID != "new" || s.AwaitRequest(2).Get("Last-Event-ID") != "old" {
		t.Errorf("got %+v", e)
	}
}

// TestGETStreamFirstRefusal: what the server says to a first GET is the agent's to read.
func TestGETStreamFirstRefusal(t *testing.T) {
	t.Parallel()
	s, d := harness.StartMinimal(t)
	a := d.Agent(t)
	for _, c := range []struct {
		status int
		body   string
	}{{405, "no stream here"}, {404, "session not found"}, {400, `{"jsonrpc":"2.0","error":{"code":-32000,"message":"m"},"id":null}`}, {500, "broken"}, {503, "later"}} {
		s.Once(mcptest.Saying(c.status, "text/plain", c.body, "Allow: POST"))
		if r := a.Must(http.MethodGet, "/mcp/s", "", "Mcp-Session-Id: s-9"); r.Status != c.status || r.Body != c.body || r.Header.Get("Allow") != "POST" {
			t.Errorf("got %d %q, want %d %q", r.Status, r.Body, c.status, c.body)
		}
	}
	r := a.Must(http.MethodGet, "/mcp/refused", "")
	if ct := r.Header.Get("Content-Type"); r.Status != http.StatusServiceUnavailable || !strings.HasPrefix(ct, "text/plain") {
		t.Errorf("unreachable: %d %s %q", r.Status, ct, r.Body)
	}
}

// TestGETStreamEnds: the ends of a stream that agents must see as clean ones.
func TestGETStreamEnds(t *testing.T) {
	t.Parallel()
	begin := func(x *mcptest.Exchange) *mcptest.Stream {
		st := x.Stream()
		st.Event(harness.PingMessage("1"), "id: 1", "retry: 20")
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
			s := mcptest.NewServer(t, harness.StreamingGET(again))
			d := harness.Start(t, harness.FaultConfig(t, s, ""))
			s.Once(c.scripts...)
			a := d.Agent(t)
			l := a.GetStream(harness.SessionField)
			if e := l.Next(); e.ID != "1" {
				t.Errorf("first event %+v", e)
			}
			l.CleanEnd(10 * time.Second)
			if n := s.Received(); c.gets > 0 && n != c.gets || n < 2 && c.gets == 0 {
				t.Errorf("the server saw %d GETs, want %d", n, c.gets)
			}
			const most = 20 // 20 ms, 40 ms, 80 ms and so on for two seconds are fewer than ten
			if n := s.Received(); n > most {
				t.Errorf("the server saw %d GETs within two seconds: that is no backoff", n)
			}
			a.Works()
			harness.Eventually(t, "rid of the stream", func() bool {
				return d.Scrape().Sum("fluentd_perf_streams_open") == 0
			})
		})
	}
}
