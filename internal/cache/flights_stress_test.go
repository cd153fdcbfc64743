package cache_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fluentd-perf/internal/mcp"
)

// TestStress lets callers of a few keys come, leave, fence and fail at once under the race detector, in real time: each
// gets an answer to its own request, or a failure that it may get, and at the end nothing is under way.
func TestStress(t *testing.T) {
	var closed atomic.Int64
	r := flightNewRig(func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
		text := fmt.Sprint(keyOfCall(c)[0])
		switch n % 7 {
		case 0:
			return nil, &mcp.Failure{Code: mcp.CodeUnavailable, Reason: mcp.ReasonConnect}
		case 1:
			panic("planted")
		case 2:
			return nil, flightAfter(ctx, time.Hour)
		case 3:
			return stream(ctx, fmt.Sprintf("data: {\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":{}}\n\n", c.ID()), io.EOF, &closed), nil
		case 4:
			return checked(c, text), nil
		}
		return shareable(c, text), flightAfter(ctx, time.Duration(n%50)*time.Microsecond)
	})
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := range 400 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+i%5)*time.Millisecond)
				c := list(fmt.Sprintf(`"%d-%d"`, worker, i))
				setKey(c, flightKey{byte(1 + i%3), byte(i / 100)})
				if i%50 == 0 {
					r.Fence()
				}
				g := recovered(func() got { return r.call(ctx, c) })
				cancel()
				if g.err == nil && g.header != nil && !strings.Contains(g.body, `"id":`+g.id) {
					t.Errorf("the call %s got %q", g.id, g.body)
				}
				if g.err == nil && strings.Contains(g.body, "text") && !strings.Contains(g.body, fmt.Sprintf("%q", fmt.Sprint(keyOfCall(c)[0]))) {
					t.Errorf("the call of %d got %q", keyOfCall(c)[0], g.body)
				}
			}
		})
	}
	wg.Wait()
	r.Wait()
	if n := r.stage.inside.Load(); n != 0 {
		t.Errorf("%d calls are still under way", n)
	}
}

// recovered calls f, which may panic: a call that goes by itself does so in its own goroutine.
func recovered(f func() got) (g got) {
	defer func() {
		if recover() != nil {
			g = got{}
		}
	}()
	return f()
}
