// Streams of calls: how they end when the server breaks off, when the agent leaves, and what keeps quiet ones open.

package relay

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// TestPOSTStreamThatBreaks: with no way to resume the agent gets an error event, with one a mere end.
func TestPOSTStreamThatBreaks(t *testing.T) {
	t.Parallel()
	body, fields := harness.Modern("1", "tools/call")
	listening, listenFields := harness.Modern("1", "subscriptions/listen")
	for _, c := range []struct {
		name      string
		body      string
		fields    []string
		lines     []string // of the event before the break
		resumable bool
	}{
		{"legacy", harness.Request("1", "tools/call"), nil, nil, false},
		{"legacy with an event id", harness.Request("1", "tools/call"), nil, []string{"id: e1", "retry: 700"}, true},
		{"modern", body, fields, nil, false},
		{"modern with an event id", body, fields, []string{"id: e1"}, false},
		{"subscriptions/listen", listening, listenFields, nil, false},
	} {
		for ending, finish := range map[string]func(*mcptest.Exchange, *mcptest.Stream){
			"reset": func(x *mcptest.Exchange, _ *mcptest.Stream) { x.Reset() },
			"cut":   func(x *mcptest.Exchange, _ *mcptest.Stream) { x.Close() },
			"ended": func(_ *mcptest.Exchange, st *mcptest.Stream) { st.End() },
		} {
			t.Run(c.name+"/"+ending, func(t *testing.T) {
				t.Parallel()
				s, d := harness.StartMinimal(t)
				passed := mcptest.NewGate()
				s.Once(func(x *mcptest.Exchange) {
					st := x.Stream()
					st.Event(harness.ProgressMessage, c.lines...)
					x.Wait(passed.Opened())
					finish(x, st)
				})
				a := d.Agent(t)
				l := a.Listen(http.MethodPost, "/mcp/s", c.body, c.fields...)
				if e := l.Next(); e.Data != harness.ProgressMessage {
					t.Errorf("first event %+v", e)
				}
				passed.Open()
				if !c.resumable {
					last := l.Next()
					r := harness.Reply{Header: http.Header{}, Body: last.Data}
					harness.CheckFailure(t, r.RPC(t), "1", "s", 1502, "broke_off", "yes")
				}
				l.CleanEnd(harness.Soon)
				a.Works()
			})
		}
	}
}

// TestAgentLeaves: whatever the agent was waiting for, the server's side is closed within a second of its leaving.
func TestAgentLeaves(t *testing.T) {
	t.Parallel()
	quiet := harness.StreamingGET(func(x *mcptest.Exchange) {
		x.Stream()
		x.Hang()
	})
	for _, c := range []struct {
		name, verb, body string
		script           mcptest.Script
	}{
		{"a call not yet answered", http.MethodPost, harness.Request("1", "tools/call"), mcptest.Hang},
		{"a call half answered", http.MethodPost, harness.Request("1", "tools/call"), mcptest.Stalling},
		{"a stream of a call", http.MethodPost, harness.Request("1", "tools/call"), mcptest.StallingStream},
		{"a quiet GET stream", http.MethodGet, "", quiet},
		{"a GET stream that waits for its server", http.MethodGet, "", mcptest.Saying(503, "", "")},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := mcptest.NewServer(t, mcptest.Minimal)
			conf := harness.OneUpstream(s.URL(), "")
			conf.Top = "drain: 1s"
			d := harness.Start(t, conf)
			gone := make(chan struct{})
			s.Once(func(x *mcptest.Exchange) {
				c.script(x)
				<-x.Gone()
				close(gone)
			})
			conn := harness.DialAgent(t, d)
			conn.Write("%s /mcp/s HTTP/1.1\r\nHost: %s\r\nLast-Event-ID: x\r\nContent-Length: %d\r\n\r\n%s", c.verb, d.Addr, len(c.body), c.body)
			s.AwaitRequest(1)
			conn.Close()
			if strings.Contains(c.name, "waits") { // its connection is idle, and may stay so
				harness.Eventually(t, "rid of the stream", func() bool { return d.Scrape().Sum("fluentd_perf_streams_open") == 0 })
				s.Close()
				return
			}
			select {
			case <-gone:
			case <-time.After(time.Second + harness.Soon): // a timeout would end it after a minute
				t.Error("the server's side is still open")
			}
			harness.Eventually(t, "without a call", func() bool { return d.Scrape().Sum("fluentd_perf_active_connections") == 0 })
		})
	}
}

// TestQuietStreamsAreKeptAlive: a comment every 15 s, on GET streams and on streams of calls.
func TestQuietStreamsAreKeptAlive(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
		x.Stream()
		x.Hang()
	})
	c := harness.OneUpstream(s.URL(), "")
	c.Top = "drain: 1s"
	d := harness.Start(t, c)
	for verb, body := range map[string]string{http.MethodGet: "", http.MethodPost: harness.Request("1", "tools/call")} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			conn := harness.DialAgent(t, d)
			conn.Write("%s /mcp/s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s", verb, d.Addr, len(body), body)
			res := conn.Response(verb)
			begun := time.Now()
			line := make([]byte, 1)
			if _, err := io.ReadFull(res.Body, line); err != nil || line[0] != ':' {
				t.Fatalf("got %q, %v, want a comment", line, err)
			}
			if quiet := time.Since(begun); quiet < 10*time.Second || quiet > 15*time.Second+harness.Soon {
				t.Errorf("the first comment came after %v, want about 15 s", quiet)
			}
		})
	}
}
