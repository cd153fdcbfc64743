package dispatch_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/dispatch"
	"fluentd-perf/internal/mcp"
)

// TestRefusal: it says what Call would say, and takes nothing, not even the place of a probe.
func TestRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreaker(0, 3)
		down := true
		server := mcp.CallerFunc(func(context.Context, *mcp.Call) (*mcp.Result, error) {
			if down {
				return nil, &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentUnknown, Message: "it broke", Cause: errDown}
			}
			return &mcp.Result{Status: 200}, nil
		})
		s := dispatch.New(complete(dispatch.Options{Endpoints: []dispatch.Endpoint{{Caller: server, Breaker: b}}}))
		call := &mcp.Call{Lane: mcp.LaneRequest, Message: mcp.Message{Kind: mcp.KindRequest, Method: mcp.MethodToolsCall}}
		if f := s.Refusal(call); f != nil {
			t.Errorf("closed: %v", f)
		}
		for range 3 {
			_, _ = s.Call(t.Context(), call)
		}
		if f := s.Refusal(call); f == nil || f.Reason != mcp.ReasonBreakerOpen || f.Sent != mcp.SentNo || f.RetryAfter <= 0 {
			t.Errorf("open: %+v", f)
		} else if want := "the server failed too often just now and is not called for a while: it broke"; f.Message != want {
			t.Errorf("an agent reads %q, want %q", f.Message, want)
		}
		<-time.After(1100 * time.Millisecond) // the next call tries
		down = false
		for range 3 {
			if f := s.Refusal(call); f != nil {
				t.Errorf("due: %v", f)
			}
		}
		if _, err := s.Call(t.Context(), call); err != nil {
			t.Errorf("the probe: %v", err)
		}
		if f := s.Refusal(call); f != nil {
			t.Errorf("closed again: %v", f)
		}
	})
}
