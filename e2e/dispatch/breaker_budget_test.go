// Retries have a budget: an upstream that fails everything does not get many times the calls.

package dispatch

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// TestRetryBudget: an upstream that fails everything sees no more than 1.2 times the calls that agents made, and three.
// What may have had an effect it sees once. Both with and without a breaker before it.
func TestRetryBudget(t *testing.T) {
	t.Parallel()
	const calls, agents = 200, 4
	for name, script := range map[string]mcptest.Script{
		"503, nothing done":   mcptest.Saying(http.StatusServiceUnavailable, "text/plain", "busy"),
		"503, answer lost":    mcptest.Executing(mcptest.Saying(http.StatusServiceUnavailable, "text/plain", "busy")),
		"reset, nothing done": mcptest.ResetBeforeHead,
		"reset, answer lost":  mcptest.Executing(mcptest.ResetBeforeHead),
		"down":                nil,
	} {
		for _, breaker := range []string{"off", "{in_a_row: 3}"} {
			t.Run(name+"/breaker "+breaker, func(t *testing.T) {
				t.Parallel()
				s := mcptest.NewServer(t, script)
				if script == nil {
					s.Down()
				}
				c := harness.OneUpstream(s.URL(), "breaker: "+breaker)
				c.Args = []string{"--log-level", "error"}
				d := harness.Start(t, c)
				fails(t, d, "resources/read", calls, agents)
				sent := s.Received()
				t.Logf("the server saw %d requests for %d calls", sent, calls)
				if sent > calls*12/10+3 {
					t.Errorf("that is more than %d", calls*12/10+3)
				}
				if retried := retried(d.Scrape()); script == nil && retried > calls*2/10+3 {
					t.Errorf("%d connections were tried again", retried)
				} else if breaker == "off" && retried == 0 {
					t.Error("nothing was sent again")
				}
				if script == nil {
					return // nothing was ever sent
				}
				fails(t, d, "tools/call", calls/10, 1)
				if again := s.Received() - sent; again > calls/10 || breaker == "off" && again != calls/10 {
					t.Errorf("the server saw %d requests for %d calls with a side effect", again, calls/10)
				}
			})
		}
	}
}

// fails makes calls of which none succeeds, by some agents at once. No two are equal.
func fails(t *testing.T, d *harness.Daemon, method string, calls, agents int) {
	t.Helper()
	var callers sync.WaitGroup
	for n := range agents {
		a := d.Agent(t)
		callers.Go(func() {
			for i := n; i < calls; i += agents {
				body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":{"name":"echo","uri":"item:%d"}}`, i, method, i)
				if r, err := a.Send(http.MethodPost, "/mcp/s", body); err != nil || rpcOK(r) {
					t.Errorf("%d: %v, %s", i, err, r.Body)
				}
			}
		})
	}
	callers.Wait()
}

// retried is how often something was sent again.
func retried(m harness.Metrics) int {
	return int(m.Sum("fluentd_perf_retries_total") - m.Sum("fluentd_perf_retries_total", `reason="budget_exhausted"`))
}
