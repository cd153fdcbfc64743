package dispatch_test

import (
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/breaker"
	"fluentd-perf/internal/dispatch"
	"fluentd-perf/internal/mcp"
)

// TestGivenUpByCancelling: a call that its agent cancels after it was silent for long enough counts as given up, once: neither its
// own end counts again nor the silence of the cancellation.
func TestGivenUpByCancelling(t *testing.T) {
	silent := timeoutOf(true)
	counted := silent
	counted.Counted = true
	broke := brokeOff
	broke.Counted = true
	for name, tt := range map[string]struct {
		waited       time.Duration // of the call that is named; 0: there is none
		cancellation play
		end          mcp.Failure // of the call itself, afterwards
		failures     int         // that one cancellation makes
	}{
		"nobody answers":         {12 * time.Second, fails(silent), counted, 1},
		"it breaks off":          {12 * time.Second, fails(silent), broke, 1},
		"cancelled early":        {9 * time.Second, fails(leaves), leaves, 0},
		"no such call":           {0, fails(leaves), leaves, 0},
		"no call, and no answer": {0, fails(silent), leaves, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newServer(tt.cancellation)
				b := newBreaker(0, 3)
				s := dispatch.New(complete(dispatch.Options{Endpoints: []dispatch.Endpoint{{
					Caller: server, Breaker: b,
					GivenUp: func(_ *mcp.Call, least time.Duration) *mcp.Failure {
						if tt.waited == 0 || tt.waited < least {
							return nil
						}
						return &mcp.Failure{Reason: mcp.ReasonCanceled, Silent: true, Waited: tt.waited, Message: "it sent nothing"}
					},
				}}}))
				for n := 1; n <= 3; n++ {
					server.set(tt.cancellation)
					_, _ = s.Call(t.Context(), of(mcp.LaneNotification, cancelledBody)) // what comes of it is tt.failures
					server.set(fails(tt.end))
					if n < 3 {
						_, _ = s.Call(t.Context(), post(callBody))
					}
					trouble := s.Status().Endpoints[0].Trouble
					if got := failuresOf(trouble); got != n*tt.failures {
						t.Errorf("after %d there are %d failures, want %d", n, got, n*tt.failures)
					}
					if tt.waited > 10*time.Second && trouble.Reason != "given_up" {
						t.Errorf("the trouble is %+v", trouble)
					}
				}
				if open := b.State() == breaker.Open; open != (tt.failures > 0) {
					t.Errorf("after three the breaker is %s", b.State())
				}
			})
		})
	}
}

func failuresOf(trouble *dispatch.Trouble) int {
	if trouble == nil {
		return 0
	}
	return trouble.Failures
}
