package dispatch_test

import (
	"io"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/dispatch"
	"fluentd-perf/internal/mcp"
)

// TestTrouble: what is wrong with an endpoint, and since when, with a breaker or without; once it works nothing is.
func TestTrouble(t *testing.T) {
	down := unreachable
	down.Message = "could not reach the server: connection refused"
	gone := givesUp(12*time.Second, true)
	gone.Message = "it sent nothing for 12s"
	for name, tt := range map[string]struct {
		play            play
		reason, message string
	}{
		"not reached":   {fails(down), "connect", down.Message},
		"500":           {says(500), "http_500", "the server answered with status 500"},
		"503 in pieces": {raws(503, io.EOF), "http_503", "the server answered with status 503"},
		"500 cut off":   {raws(500, &cutOff), "http_500", "the server answered with status 500"},
		"given up":      {fails(gone), "given_up", gone.Message},
		"slow":          {after(2*time.Second, answers), "slow_call", "the call took longer than breaker.slow_call"},
	} {
		for _, noBreaker := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					server := newServer(tt.play)
					o := setup{noBreaker: noBreaker, inARow: 100}
					o.SlowCall = time.Second
					o.Retry = dispatch.RetryOptions{Budget: 1}
					s := newStage(t, o, server)
					trouble := func() *dispatch.Trouble { return s.Status().Endpoints[0].Trouble }
					if trouble() != nil {
						t.Error("there is trouble before the first call")
					}
					var since time.Time
					for range 3 {
						s.do(t.Context(), post(callBody))
						if since.IsZero() {
							since = time.Now()
						}
						server.set(fails(leaves)) // which says nothing
						s.do(t.Context(), post(callBody))
						server.set(tt.play)
					}
					want := dispatch.Trouble{Since: since, Failures: 3, Reason: tt.reason, Message: tt.message}
					if got := trouble(); got == nil || *got != want {
						t.Errorf("got %+v, want %+v", got, want)
					}
					server.set(says(404))
					s.do(t.Context(), post(callBody))
					if got := trouble(); got != nil {
						t.Errorf("it works, and there is %+v", got)
					}
				})
			})
		}
	}
}

// TestRefusalHoldsNoAddress: a refusal is in words that hold no address, whatever the cause has.
func TestRefusalHoldsNoAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := mcp.Failure{Code: 1502, Reason: mcp.ReasonConnect, Sent: mcp.SentNo, Message: "could not reach the server", Cause: refused.Cause}
		s := newStage(t, setup{}, newServer(fails(down)))
		s.down()
		_, f := s.do(t.Context(), post(callBody))
		const want = "the server failed too often just now and is not called for a while: could not reach the server"
		if f == nil || f.Message != want {
			t.Errorf("got %+v, want %q", f, want)
		}
	})
}

// TestRefusalAfterSilence: where the probe was not answered in time, a refusal says that.
func TestRefusalAfterSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newServer(fails(refused))
		s := newStage(t, setup{}, server)
		s.down()
		server.set(after(20*time.Second, answers))
		pass(2 * time.Second)
		go s.do(t.Context(), post(callBody))
		pass(11 * time.Second)
		_, f := s.do(t.Context(), post(callBody))
		const want = "the server failed too often just now and is not called for a while: " +
			"the call that tried whether it works again was not answered in time"
		if f == nil || f.Message != want {
			t.Errorf("got %+v, want %q", f, want)
		}
		pass(time.Minute)
	})
}
