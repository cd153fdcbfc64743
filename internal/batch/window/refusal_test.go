package window_test

import (
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/batch/window"
	"fluentd-perf/internal/mcp"
)

// TestWindowRefusal: while the circuit is open no call waits for others.
func TestWindowRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &arrays{}
		server.reply = server.echo
		open := &mcp.Failure{Code: mcp.CodeUnavailable, Reason: mcp.ReasonBreakerOpen, Sent: mcp.SentNo}
		w := window.New(window.Options{
			Repeatable: func(*mcp.Call) bool { return false },
			Upstream:   "node", Next: server, Max: 10, Window: time.Minute,
			Partition: func(*mcp.Call) (p [32]byte) { return p },
			Refusal:   func(*mcp.Call) *mcp.Failure { return open },
		})
		start := time.Now()
		res, err := w.Call(t.Context(), plainCall("1", "getBlock", 1))
		if f := failureIn(t, ended{res, err}); f != open || time.Since(start) != 0 {
			t.Errorf("after %v: %v", time.Since(start), f)
		}
		open = nil
		call := plainCall("2", "getBlock", 2)
		res, err = w.Call(t.Context(), call)
		wantOwn(t, call, ended{res, err})
		w.Wait()
	})
}
