package dispatch_test

import (
	"context"
	"testing"

	"fluentd-perf/internal/dispatch"
	"fluentd-perf/internal/mcp"
)

// TestListedCallsAreHeldWhole holds that the answer to a call which only the operator says may be sent again is asked for whole,
// so that no byte of one that breaks off has left.
func TestListedCallsAreHeldWhole(t *testing.T) {
	for _, listed := range []bool{true, false} {
		var whole bool
		s := dispatch.New(complete(dispatch.Options{
			Repeatable: func(c *mcp.Call) bool { return listed && c.Method() == mcp.MethodToolsCall },
			Endpoints: []dispatch.Endpoint{{Caller: mcp.CallerFunc(func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
				whole = c.Whole
				return &mcp.Result{Status: 200}, nil
			})}},
		}))
		c := post(callBody)
		res, err := s.Call(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Close()
		if whole != listed || c.Whole {
			t.Errorf("listed %v: held whole %v; the agent's call was changed: %v", listed, whole, c.Whole)
		}
	}
}
