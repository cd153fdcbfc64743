package cache_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// staleTTL is the life of answers in these tests: short enough for no jitter.
const staleTTL = 4 * time.Second

// staleTest runs f on false time, with memory alone.
func staleTest(t *testing.T, o cache.StageOptions, scope string, f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{upstream: o, server: &rigServer{ttl: staleTTL, scope: scope, says: "v1"}})
		f(r)
		r.close(10 * time.Second)
	})
}

// begun is a call under way.
type begun struct {
	told rigTold
	took time.Duration
	done chan struct{}
}

// begin starts a call, and returns when all is quiet.
func (r *rig) begin(who, what string) *begun { return r.beginFor(context.Background(), who, what) }

func (r *rig) beginFor(ctx context.Context, who, what string) *begun {
	b := &begun{done: make(chan struct{})}
	start := time.Now()
	go func() {
		defer close(b.done)
		b.told = r.askFor(ctx, who, what)
		b.took = time.Since(start)
	}()
	synctest.Wait()
	return b
}

// end waits for the call.
func (b *begun) end() rigTold {
	<-b.done
	return b.told
}

// running reports whether the call has not come to its end yet.
func (b *begun) running() bool {
	synctest.Wait()
	select {
	case <-b.done:
		return false
	default:
		return true
	}
}

// wantEnd checks what came of a call, and when.
func (r *rig) wantEnd(b *begun, says, from string, took time.Duration) {
	r.tb.Helper()
	told := b.end()
	if told.err != nil || told.says != says || told.from() != from || b.took != took {
		r.tb.Fatalf("%q by %q (%v) after %v, want %q by %q after %v", told.says, told.from(), told.err, b.took, says, from, took)
	}
}

// stalls has the server hold calls of a method until it is let go, and then answer by then. Others are answered at once.
func (r *rig) stalls(method string, then func(c *mcp.Call) (*mcp.Result, error)) (goOn func()) {
	gate := make(chan struct{})
	r.own.set(func() {
		r.own.script = func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
			if c.Method().String() == method {
				select {
				case <-gate:
				case <-ctx.Done():
					return nil, &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentUnknown, Cause: context.Cause(ctx)}
				}
				return then(c)
			}
			return r.own.plain(c), nil
		}
	})
	return func() {
		close(gate)
		synctest.Wait()
	}
}

// breaks has the server fail from now on.
func (r *rig) breaks(f func(c *mcp.Call) (*mcp.Result, error)) {
	r.own.set(func() {
		r.own.script = func(_ context.Context, c *mcp.Call, _ int) (*mcp.Result, error) { return f(c) }
	})
}

// mends has the server answer as it did.
func (r *rig) mends(says string) { r.own.set(func() { r.own.script, r.own.says = nil, says }) }

// plain answers as the server does when nothing is wrong.
func (r *rig) plain(c *mcp.Call) (*mcp.Result, error) { return r.own.plain(c), nil }

// badGateway is how calls fail whose server is gone.
func badGateway(*mcp.Call) (*mcp.Result, error) {
	return nil, &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonConnect, Sent: mcp.SentNo, Message: "no server"}
}

func unauthorized(*mcp.Call) (*mcp.Result, error) {
	return &mcp.Result{Status: http.StatusUnauthorized, Header: header.Of(http.Header{"Www-Authenticate": {"Bearer"}})}, nil
}

// isStale reports whether the answer says that it is expired: by ttlMs and by Cache-Status.
func (g rigTold) isStale() bool {
	return g.ttl == 0 && g.status == 200 && strings.Contains(g.cache, "; ttl=-") && strings.Contains(g.cache, "detail=stale-")
}
