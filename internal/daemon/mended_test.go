package daemon

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/cache/tier/tiertest"
	"fluentd-perf/internal/cache/worker"
	"fluentd-perf/internal/config"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// The tests of this file join the cache and the flights, as the daemon does.

// mendedRefused is an error of HTTP's. ID in the body stands for the call's.
func mendedRefused(c *mcp.Call, status int, body string) *mcp.Result {
	return &mcp.Result{
		Status: status, Body: []byte(strings.ReplaceAll(body, "ID", string(c.ID()))),
		Header: header.Of(http.Header{"Retry-After": {"5"}, "Www-Authenticate": {"Bearer"}, "Set-Cookie": {"user=leader"}}),
	}
}

// TestMendedRefusals has the server refuse a thousand equal calls: it is asked once per wave, everybody gets its answer
// under its own id, and nobody but the one whose call it was a cookie.
func TestMendedRefusals(t *testing.T) {
	for name, tt := range map[string]struct {
		status int
		body   string
	}{
		"busy": {503, "busy"}, "too many": {429, ""}, "who are you": {401, ""}, "an error": {400, `{"jsonrpc":"2.0","id":ID,"error":{"code":-1,"message":"no"}}`},
	} {
		for _, method := range []string{"tools/list", "prompts/get"} { // what may be kept, and what is shared only
			t.Run(name+" "+method, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					p := newPipe(t, nil, func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
						return mendedRefused(c, tt.status, tt.body), pipeAfter(ctx, time.Second)
					})
					for range 3 {
						testMendedRefusal(p, method, tt.status, tt.body)
					}
				})
			})
		}
	}
}

func testMendedRefusal(p *pipe, method string, status int, body string) {
	p.t.Helper()
	calls := make([]*mcp.Call, 1000)
	for i := range calls {
		calls[i] = pipeCall("A", pipeID(i), method, map[bool]string{true: `"name":"p",`}[method == "prompts/get"])
	}
	cookies := 0
	for i, r := range p.wave(calls...) {
		if want := strings.ReplaceAll(body, "ID", string(calls[i].ID())); r.code != status || r.body != want || r.failure != nil {
			p.t.Fatalf("call %d: %d %q, %v; want %d %q", i, r.code, r.body, r.failure, status, want)
		}
		if r.cookie != "" {
			cookies++
		}
	}
	if cookies != 1 {
		p.t.Errorf("%d got the leader's cookie", cookies)
	}
	p.wantCalls(1)
}

// TestMendedRefusalOfAll has the server refuse a call that all principals share: each then gets the refusal of its own call.
func TestMendedRefusalOfAll(t *testing.T) {
	for _, status := range []int{401, 429, 503} {
		synctest.Test(t, func(t *testing.T) {
			refuse := false
			p := newPipe(t, nil, func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
				if err := pipeAfter(ctx, time.Second); err != nil {
					return nil, err
				}
				if refuse {
					return mendedRefused(c, status, pipeOwnText(c, n)), nil
				}
				return pipeAnswered(c, pipePublic, pipeOwnText(c, n)), nil
			})
			p.wave(pipeList("A", "1"), pipeList("B", "1"), pipeList("C", "1"))
			pipeWait(2 * time.Minute)
			p.server.seen()
			refuse = true
			for i, r := range p.wave(pipeList("A", "2"), pipeList("B", "2"), pipeList("C", "2")) {
				if whose := []string{"A", "B", "C"}[i]; r.code != status || !strings.HasPrefix(r.body, whose+":") || r.collapsed {
					t.Errorf("%d: %s got %d %q, collapsed %v", status, whose, r.code, r.body, r.collapsed)
				}
			}
			if got := p.server.whose(); got != "A B C" {
				t.Errorf("%d: calls of %q", status, got)
			}
		})
	}
}

// mendedStream is a stream that ends with err, or where that is nil with its call.
type mendedStream struct {
	pipeStream
	ctx context.Context
	err error
}

func (s *mendedStream) Next() (mcp.Event, error) {
	ev, err := s.pipeStream.Next()
	if err != io.EOF {
		return ev, err
	}
	if s.err == nil {
		<-s.ctx.Done()
		return ev, &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentYes, Cause: context.Cause(s.ctx)}
	}
	return ev, s.err
}

// mendedStreamed is a stream of notifications that ends so.
func mendedStreamed(ctx context.Context, err error, texts ...string) *mcp.Result {
	s := &mendedStream{ctx: ctx, err: err}
	for _, text := range texts {
		ev := mcp.Event{Raw: fmt.Appendf(nil, "data: %s\n\n", text), Data: []byte(text)}
		if err := mcp.Scan(ev.Data, &ev.Message); err != nil {
			panic(err)
		}
		s.events = append(s.events, ev)
	}
	return &mcp.Result{Status: http.StatusOK, Header: header.Of(http.Header{"Content-Type": {"text/event-stream"}}), Events: s}
}

const mendedChanged = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`

// TestMendedBrokenStream has a framed answer break off with nothing in it: everybody who asked gets the failure of the one
// call, or the expired answer where there is one, and nothing keeps the next from sharing.
func TestMendedBrokenStream(t *testing.T) {
	for _, end := range []error{io.EOF, &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes}} {
		for _, stale := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				good := stale
				p := newPipe(t, func(c *config.Upstream) { c.Cache.StaleIfError = time.Hour },
					func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
						if err := pipeAfter(ctx, time.Second/2); err != nil {
							return nil, err
						}
						if good {
							return pipeStreamed(pipeAnswered(c, pipePrivate, "kept")), nil
						}
						return mendedStreamed(ctx, end), nil
					})
				if stale {
					p.ask(t.Context(), pipeList("A", "1"))
					pipeWait(2 * time.Minute)
					p.server.seen()
				}
				good = false
				for range 3 {
					testMendedBroken(p, stale)
				}
			})
		}
	}
}

func testMendedBroken(p *pipe, stale bool) {
	p.t.Helper()
	calls := pipeEqual(100, "A")
	replies := p.wave(calls...)
	if stale {
		p.wantIDs(calls, replies)
	}
	for i, r := range replies {
		switch {
		case stale && !(pipeText(r) == "kept" && strings.HasPrefix(r.status, "fluentd-perf; hit; ttl=-") && strings.HasSuffix(r.status, "detail=stale-error")):
			p.t.Fatalf("call %d: %s, %s", i, r.body, r.status)
		case !stale && (r.failure == nil || r.failure.Reason != mcp.ReasonBrokeOff || r.failure.Code != mcp.CodeBadGateway):
			p.t.Fatalf("call %d: %d %v %s", i, r.code, r.failure, r.body)
		}
	}
	p.wantCalls(1)
}

// TestMendedLeaverOfAStream: the agent for which a stream was opened leaves, and the server's call ends, also where an
// expired answer was at hand when it began.
func TestMendedLeaverOfAStream(t *testing.T) {
	for _, stale := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var ended atomic.Bool
			p := newPipe(t, func(c *config.Upstream) { c.Cache.StaleIfError = time.Hour },
				func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
					if stale && n == 1 {
						return pipeAnswered(c, pipePrivate, "kept"), nil
					}
					context.AfterFunc(ctx, func() { ended.Store(true) })
					return mendedStreamed(ctx, nil, `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}`), nil
				})
			if stale {
				p.ask(t.Context(), pipeList("A", "1"))
				pipeWait(2 * time.Minute)
			}
			ctx, leave := context.WithCancel(context.Background())
			defer leave()
			reply := make(chan pipeReply, 1)
			go func() { reply <- p.ask(ctx, pipeList("A", "2")) }()
			synctest.Wait()
			if ended.Load() {
				t.Fatal("the call ended before its agent left")
			}
			leave()
			select {
			case r := <-reply:
				if r.notifications != 1 {
					t.Errorf("it received %d notifications", r.notifications)
				}
			case <-time.After(time.Minute):
				t.Fatalf("an expired answer at hand %v: a minute after its agent has left the stream stands", stale)
			}
			synctest.Wait()
			if !ended.Load() {
				t.Error("the server still works for nobody")
			}
		})
	}
}

// TestMendedNotificationForNobody: the agent whose call it was has left when the server says what has changed. It counts.
func TestMendedNotificationForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipe(t, nil, func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			if err := pipeAfter(ctx, time.Second); err != nil {
				return nil, err
			}
			if c.Method() == mcp.MethodPromptsList {
				return pipeStreamed(pipeAnswered(c, pipeOnce, "prompts"), mendedChanged), nil
			}
			return pipeAnswered(c, pipePrivate, pipeOwnText(c, n)), nil
		})
		p.ask(t.Context(), pipeList("A", "1"))
		ctx, leave := context.WithCancel(context.Background())
		defer leave()
		gone, follower := make(chan pipeReply, 1), make(chan pipeReply, 1)
		go func() { gone <- p.ask(ctx, pipeCall("A", "2", "prompts/list", "")) }()
		synctest.Wait()
		go func() { follower <- p.ask(context.Background(), pipeCall("A", "3", "prompts/list", "")) }()
		pipeWait(time.Second / 2)
		leave()
		<-gone
		pipeWait(3 * time.Second / 4) // the flight has ended, and the follower's own call is on its way
		p.server.seen()
		p.ask(t.Context(), pipeList("A", "4"))
		p.wantCalls(1)
		<-follower
	})
}

// mendedSlowTier is a tier that answers reads after a while.
type mendedSlowTier struct{ tiertest.Map }

func (s *mendedSlowTier) Read(ctx context.Context, lookups []tier.Lookup) ([]tier.Found, error) {
	if err := pipeAfter(ctx, time.Second/10); err != nil {
		return nil, err
	}
	return s.Map.Read(ctx, lookups)
}

// mendedBreaker is always closed.
type mendedBreaker struct{}

func (mendedBreaker) Allow(time.Duration) (func(error), bool) { return func(error) {}, true }
func (mendedBreaker) State() string                           { return "closed" }

// TestMendedStatusOfFollowers: those who share a flight that a tier answered say that they were hits, the others that they
// were collapsed.
func TestMendedStatusOfFollowers(t *testing.T) {
	for _, members := range []string{pipePrivate, pipePublic} {
		synctest.Test(t, func(t *testing.T) {
			p := newPipe(t, func(c *config.Upstream) { c.Cache.StaleIfError = time.Hour }, pipeSlowly(members))
			p.d.store.Add(worker.Options{Tier: new(mendedSlowTier), Timeout: time.Second, Breaker: mendedBreaker{}, Private: true})
			wave := func(what, leader, follower string, collapsed int) {
				t.Helper()
				calls := pipeEqual(20, "A")
				replies, others := p.wave(calls...), 0
				p.wantIDs(calls, replies)
				for i, r := range replies {
					want := leader
					if r.collapsed {
						want, others = follower, others+1
					}
					if got := mendedPlain(r.status); got != want {
						t.Errorf("%s: call %d, collapsed %v, says %q, want %q", what, i, r.collapsed, got, want)
					}
				}
				if others != collapsed {
					t.Errorf("%s: %d were collapsed, want %d", what, others, collapsed)
				}
			}
			wave("the server", "fwd=miss; stored", "fwd=miss; collapsed", 19)
			wave("memory", "hit; detail=memory", "", 0)
			p.d.store.Listener().Lost()
			wave("a tier", "hit; detail=database", "hit; detail=database", 19)
			pipeWait(2 * time.Minute)
			p.server.answer = func(ctx context.Context, _ *mcp.Call, _ int) (*mcp.Result, error) {
				if err := pipeAfter(ctx, time.Second); err != nil {
					return nil, err
				}
				return nil, &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonConnect, Sent: mcp.SentNo}
			}
			wave("an expired answer", "hit; detail=stale-error", "hit; detail=stale-error", 19)
		})
	}
}

// mendedPlain is a Cache-Status without the daemon's name and the time.
func mendedPlain(status string) string {
	var parts []string
	for part := range strings.SplitSeq(strings.TrimPrefix(status, "fluentd-perf; "), "; ") {
		if !strings.HasPrefix(part, "ttl=") {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, "; ")
}

// TestMendedCoalescedTools: equal calls of a tool share one call, also those that come while it runs; a request sent
// after it was sent, or answered, joins no flight of before it, and another credential's goes on as it was.
func TestMendedCoalescedTools(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipe(t, func(c *config.Upstream) { c.Coalesce.Tools = []string{"join_*"} }, pipeSlowly(pipeOnce))
		replies := make(chan pipeReply, 20)
		send := func(c *mcp.Call) {
			go func() { replies <- p.ask(context.Background(), c) }()
			synctest.Wait()
		}
		tool := func(id string) *mcp.Call { return pipeCall("A", id, "tools/call", `"name":"join_x",`) }
		step := func(what string, calls int, all ...*mcp.Call) {
			t.Helper()
			for _, c := range all {
				send(c)
			}
			if got := len(p.server.seen()); got != calls {
				t.Errorf("%s: the server was called %d times, want %d", what, got, calls)
			}
		}
		step("two lists, of two credentials", 2, pipeList("A", "1"), pipeList("A", "2"), pipeList("B", "3"), pipeList("B", "4"))
		pipeWait(time.Second / 4)
		step("the tool, twice", 1, tool("5"), tool("6"))
		step("lists after it was sent", 1, pipeList("A", "7"), pipeList("B", "8"))
		pipeWait(time.Second / 4)
		step("the tool again, while it runs", 0, tool("9"))
		step("lists after that", 0, pipeList("A", "10"), pipeList("B", "11"))
		pipeWait(3*time.Second/4 - time.Millisecond) // the lists of before are answered
		step("the tool a moment before its answer", 0, tool("12"))
		pipeWait(time.Millisecond)
		synctest.Wait()
		step("a list after its answer", 1, pipeList("A", "13"))
		for range 13 {
			if r := <-replies; r.failure != nil || r.code != 200 {
				t.Errorf("%d %v", r.code, r.failure)
			}
		}
	})
}
