package http_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	upstreamhttp "fluentd-perf/internal/upstream/http"
)

// After a timeout a legacy server is told, with the id as sent and the call's headers.
func TestLegacyServerIsToldOfATimeout(t *testing.T) {
	for name, script := range map[string]mcptest.Script{
		"no head": mcptest.Hang, "in the body": mcptest.Stalling, "in the stream": mcptest.StallingStream, "in a large body": hangLarge,
	} {
		for _, id := range []string{"7", `"a\u0062c"`, "9007199254740993", "1.0"} {
			t.Run(name+" "+id, func(t *testing.T) {
				t.Parallel()
				s := mcptest.NewServer(t, mcptest.Minimal)
				s.Once(script)
				u := newUpstream(t, s.URL(), short, func(o *upstreamhttp.Options) { o.CheckBody = 2000 })
				c := onLane(mcp.LaneRequest, `{"jsonrpc":"2.0","id":`+id+`,"method":"tools/list"}`)
				c.Header.Set("Authorization", "Bearer t")
				res, err := u.Call(t.Context(), c)
				if err == nil {
					err = drainResult(res)
					closeResult(t, res)
				}
				if f, ok := err.(*mcp.Failure); !ok || f.Code != mcp.CodeDeadlinePassed {
					t.Fatal(err)
				}
				u.Close() // waits for it
				all := s.Requests()
				if len(all) != 2 {
					t.Fatalf("%d requests, want 2", len(all))
				}
				want := `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + id + `,"reason":"timed out"}}`
				r := all[1]
				if string(r.Body) != want || r.Get("Mcp-Session-Id") != "s1" || r.Get("Authorization") != "Bearer t" || r.Get("Content-Type") != "application/json" {
					t.Errorf("got %q", r.Raw)
				}
				if err := mcp.Scan(r.Body, new(mcp.Message)); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// The agent's query is a part of who it is: the cancellation of its call goes with it, behind what the configured URL has.
func TestCancelledGoesWithTheQuery(t *testing.T) {
	for configured, want := range map[string]string{"": "?tenant=a&y", "?key=s": "?key=s&tenant=a&y"} {
		s := mcptest.NewServer(t, mcptest.Minimal)
		s.Once(mcptest.Hang)
		u := newUpstream(t, s.URL()+configured, short)
		c := request()
		c.Query = "tenant=a&y"
		_, err := u.Call(t.Context(), c)
		wantFailure(t, err, mcp.CodeDeadlinePassed, mcp.ReasonFirstByte, mcp.SentUnknown)
		u.Close() // waits for it
		all := s.Requests()
		if len(all) != 2 || all[1].Method() != "notifications/cancelled" {
			t.Fatalf("%d requests, want the call and its cancellation", len(all))
		}
		for _, r := range all {
			if r.Target != "/mcp"+want {
				t.Errorf("%s went to %s, want /mcp%s", r.Method(), r.Target, want)
			}
		}
	}
}

// Who is not told: a modern server, and a legacy one where the protocol says not to, or where there is nothing to cancel.
func TestWhoIsNotTold(t *testing.T) {
	task := onLane(mcp.LaneRequest, `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"x","task":{"ttl":1}}}`)
	null := onLane(mcp.LaneRequest, `{"jsonrpc":"2.0","id":null,"method":"tools/list"}`)
	afterAnswer := func(x *mcptest.Exchange) {
		x.Stream().Answer("{}")
		x.Hang()
	}
	for name, tt := range map[string]struct {
		call   *mcp.Call
		script mcptest.Script
	}{
		"modern":           {modern(request()), mcptest.Hang},
		"initialize":       {requestOf("initialize"), mcptest.Hang},
		"a task":           {task, mcptest.Hang},
		"null id":          {null, mcptest.Hang},
		"notification":     {notification(), mcptest.Hang},
		"batch":            {onLane(mcp.LaneBatch, batch), mcptest.Hang},
		"answered already": {request(), afterAnswer},
		"broke off":        {request(), mcptest.CloseBeforeHead},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mcptest.NewServer(t, mcptest.Minimal)
			s.Once(tt.script)
			u := newUpstream(t, s.URL(), short, func(o *upstreamhttp.Options) { o.Timeouts.Call = o.Timeouts.Idle })
			res, err := u.Call(t.Context(), tt.call)
			if err == nil {
				err = drainResult(res)
				closeResult(t, res)
			}
			if err == nil {
				t.Fatal("no failure")
			}
			u.Close()
			if s.Received() != 1 {
				t.Errorf("%d requests: %q", s.Received(), s.Requests()[1].Body)
			}
		})
	}
}

// A call that never left is not cancelled, and one that cannot be cancelled holds Close up for five seconds, no longer.
func TestCancellationsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, _ := piped(t, func(p *peer) { p.request(); p.gone() }, timed)
		_, err := u.Call(t.Context(), request())
		wantFailure(t, err, mcp.CodeDeadlinePassed, mcp.ReasonFirstByte, mcp.SentUnknown)
		start := time.Now()
		u.Close()
		took(t, start, 5*time.Second)
	})
	synctest.Test(t, func(t *testing.T) {
		const calls = 100
		var mu sync.Mutex
		told := 0
		var log bytes.Buffer
		u, shut := piped(t, func(p *peer) {
			r := p.request()
			body := new(bytes.Buffer)
			_, _ = body.ReadFrom(r.Body)
			if strings.Contains(body.String(), "notifications/cancelled") {
				mu.Lock()
				told++
				mu.Unlock()
			}
			p.gone()
		}, timed, func(o *upstreamhttp.Options) { o.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		var wg sync.WaitGroup
		for i := range calls {
			wg.Go(func() {
				c := onLane(mcp.LaneRequest, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/list"}`, i))
				_, err := u.Call(t.Context(), c)
				wantFailure(t, err, mcp.CodeDeadlinePassed, mcp.ReasonFirstByte, mcp.SentUnknown)
			})
		}
		wg.Wait()
		start := time.Now()
		shut()
		took(t, start, 5*time.Second)
		if lines := strings.Count(log.String(), "was not cancelled"); told != 64 || lines != calls-64 {
			t.Errorf("%d told, %d logged", told, lines)
		}
	})
}
