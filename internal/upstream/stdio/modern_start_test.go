package stdio_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	"fluentd-perf/internal/upstream/stdio"
)

// TestSlowDisk holds that a call does not wait for the look at the disk that another call has begun.
func TestSlowDisk(t *testing.T) {
	x := &server{}
	looks, slow := make(chan struct{}, 10), make(chan struct{})
	u, _ := newUpstream(t, x, func(_ *stdio.PoolOptions, o *stdio.Options) {
		o.OnDisk = func() string {
			looks <- struct{}{}
			<-slow
			return "1"
		}
	})
	first := make(chan *mcp.Failure, 1)
	go func() {
		_, f := do(u, t.Context(), request("1", "tools/list", ""))
		first <- f
	}()
	<-looks
	leaves, cancel := context.WithCancel(t.Context())
	cancel()
	second := make(chan *mcp.Failure, 1)
	go func() {
		_, f := do(u, leaves, request("2", "tools/list", ""))
		second <- f
	}()
	select {
	case f := <-second:
		if f == nil || f.Reason != mcp.ReasonCanceled {
			t.Errorf("the second call: %v", f)
		}
	case <-time.After(10 * time.Second):
		t.Error("the second call waits")
	}
	close(slow)
	if f := <-first; f != nil {
		t.Errorf("the first call: %v", f)
	}
}

// TestSpeaksBeforeDiscover holds that what a server writes before it has answered server/discover is taken like what comes later.
func TestSpeaksBeforeDiscover(t *testing.T) {
	for name, c := range map[string]struct{ wrote, wants string }{
		"a log message": {`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"hello"}}`, ""},
		"a ping":        {`{"jsonrpc":"2.0","id":"p","method":"ping"}`, `{"jsonrpc":"2.0","id":"p","result":{}}`},
		"a request":     {`{"jsonrpc":"2.0","id":7,"method":"roots/list"}`, `"id":7,"error":{"code":-32601`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := &server{discover: func(s *mcptest.Stdio, r mcptest.StdioRequest) {
					s.Write("%s\n", c.wrote)
					s.Result(r, `{"resultType":"complete","supportedVersions":["2026-07-28"]}`)
					s.Write("%s\n", c.wrote)
				}}
				u, _ := newUpstream(t, x, nil)
				if res, f := do(u, t.Context(), request("1", "tools/list", "")); f != nil || res.Status != 200 {
					t.Errorf("%+v, %v", res, f)
				}
				synctest.Wait()
				x.mu.Lock()
				defer x.mu.Unlock()
				if n := strings.Count(strings.Join(x.lines, ""), c.wants); c.wants != "" && n != 2 {
					t.Errorf("%d answers, want 2: %q", n, x.lines)
				}
			})
		})
	}
}

// TestEndedAtDiscover holds that only a server which made an exit of its own at server/discover is taken for one without the modern era.
func TestEndedAtDiscover(t *testing.T) {
	for exit, refuses := range map[string]bool{"exit status 1": true, "signal: segmentation fault": true, "signal: killed": false} {
		x := &server{}
		x.discover = func(s *mcptest.Stdio, r mcptest.StdioRequest) {
			if x.started() == 1 {
				s.End(exit)
				return
			}
			s.Result(r, `{"resultType":"complete","supportedVersions":["2026-07-28"]}`)
		}
		u, _ := newUpstream(t, x, nil)
		res, f := do(u, t.Context(), request("1", "tools/list", ""))
		if refused := f == nil && res.Status == 404; refused != refuses || !refuses && (f == nil || f.Reason != mcp.ReasonStartFailed) {
			t.Errorf("%s: %+v, %v", exit, res, f)
		}
		res, f = do(u, t.Context(), request("2", "tools/list", ""))
		if refused := f == nil && res.Status == 404; refused != refuses || f != nil {
			t.Errorf("%s: the next one: %+v, %v", exit, res, f)
		}
	}
}

// TestSlowStart holds that a start goes on when the agents that waited for it have their error, and serves those that come later.
func TestSlowStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := &server{discover: func(s *mcptest.Stdio, r mcptest.StdioRequest) {
			time.Sleep(2 * time.Minute)
			s.Result(r, `{"resultType":"complete"}`)
		}}
		u, _ := newUpstream(t, x, nil)
		for i, after := range []time.Duration{55 * time.Second, 55 * time.Second, 10 * time.Second} {
			begun := time.Now()
			_, f := do(u, t.Context(), request("1", "tools/list", ""))
			if late := f != nil && f.Reason == mcp.ReasonStillStarting; late != (i < 2) || time.Since(begun) != after {
				t.Errorf("%d: %v after %v", i, f, time.Since(begun))
			}
			if so := []string{"after 55s;", "after 1m50s;", ""}[i]; f != nil && !strings.Contains(f.Message, so) {
				t.Errorf("%d: %s, want %s", i, f.Message, so)
			}
		}
		if n := x.started(); n != 1 {
			t.Errorf("%d starts", n)
		}
	})
}

// TestNoProcessYet holds that who waits for a start that has no process yet is told what it waits for: while the start goes on, and when
// its time is over.
func TestNoProcessYet(t *testing.T) {
	for doing, says := range map[string]string{"": "", "installing": ": installing"} {
		synctest.Test(t, func(t *testing.T) {
			u, _ := newUpstream(t, &server{}, func(p *stdio.PoolOptions, _ *stdio.Options) {
				p.Doing = func() string { return doing }
				p.Start = func(ctx context.Context) (stdio.Process, func(), error) {
					<-ctx.Done()
					return nil, nil, ctx.Err()
				}
			})
			for _, want := range []struct {
				reason mcp.Reason
				says   string
			}{{mcp.ReasonStillStarting, "the start goes on"}, {mcp.ReasonStartFailed, "(processes.start_timeout)"}} {
				if _, f := do(u, t.Context(), request("1", "tools/list", "")); f == nil || f.Reason != want.reason || !strings.HasSuffix(f.Message, want.says+says) {
					t.Errorf("%v, want %s that ends with %s", f, want.reason, want.says+says)
				}
				time.Sleep(5*time.Minute - 56*time.Second) // false time, until the start's own is nearly over
			}
		})
	}
}

// TestOddFraming holds that who waits for a server that answers over several lines, or after headers, is told what comes in the place of
// messages, without the entry's secrets: while the start goes on, and when its time is over.
func TestOddFraming(t *testing.T) {
	for _, c := range []struct{ writes, says string }{
		{"{\n  \"jsonrpc\": \"2.0\",\n  \"id\": 1,\n  \"result\": {}\n}\n", `; the first line on its stdout that is no message: "{"`},
		{"Content-Length: 38 hunter2!\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}", `no message: "Content-Length: 38 [masked]"`},
	} {
		synctest.Test(t, func(t *testing.T) {
			x := &server{discover: func(s *mcptest.Stdio, _ mcptest.StdioRequest) { s.Write("%s", c.writes) }}
			u, _ := newUpstream(t, x, func(p *stdio.PoolOptions, _ *stdio.Options) {
				p.Mask = func(text string) string { return strings.ReplaceAll(text, "hunter2!", "[masked]") }
			})
			for _, reason := range []mcp.Reason{mcp.ReasonStillStarting, mcp.ReasonStartFailed} {
				if _, f := do(u, t.Context(), request("1", "tools/list", "")); f == nil || f.Reason != reason || !strings.HasSuffix(f.Message, c.says) {
					t.Errorf("%v, want %s that ends with %s", f, reason, c.says)
				}
				time.Sleep(5*time.Minute - 56*time.Second) // false time, until the start's own is nearly over
			}
		})
	}
}
