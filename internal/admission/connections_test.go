package admission_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/admission"
	"fluentd-perf/internal/mcp"
)

func newConnections(n int, metrics *admission.Metrics) *admission.Connections {
	return admission.NewConnections(admission.ConnectionOptions{Upstream: "files", Max: n, Wait: 5 * time.Second, Metrics: metrics})
}

// mustEnter takes a connection that has to be free, and returns its kind.
func mustEnter(t *testing.T, c *admission.Connections, l mcp.Lane) int {
	t.Helper()
	kind, waited, f := c.Enter(t.Context(), l)
	if f != nil || waited != 0 {
		t.Fatalf("lane %d: waited %v, %v", l, waited, f)
	}
	return kind
}

// TestConnectionsInOrder: who waits gets the next connection in the order of asking, and one who leaves meanwhile loses none.
func TestConnectionsInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConnections(1, nil)
		mustEnter(t, c, mcp.LaneRequest)
		ctx, leave := context.WithCancelCause(t.Context())
		var mu sync.Mutex
		var order []int
		for i := range 4 {
			own := t.Context()
			if i == 1 {
				own = ctx
			}
			go func() {
				_, waited, f := c.Enter(own, mcp.LaneRequest)
				if i == 1 {
					if f == nil || f.Reason != mcp.ReasonDraining || f.Sent != mcp.SentNo {
						t.Errorf("the one that was ended got %v", f)
					}
					return
				}
				if f != nil || waited != time.Second {
					t.Errorf("%d waited %v: %v", i, waited, f)
				}
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				c.Leave(0)
			}()
			synctest.Wait()
		}
		leave(mcp.Draining())
		pass(time.Second)
		c.Leave(0)
		synctest.Wait()
		if len(order) != 3 || order[0] != 0 || order[1] != 2 || order[2] != 3 {
			t.Errorf("they came in the order %v", order)
		}
		mustEnter(t, c, mcp.LaneRequest)
	})
}

// TestConnectionsWait: who has waited long enough is refused, and only who waits is observed.
func TestConnectionsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		c := newConnections(1, admission.NewMetrics(reg))
		mustEnter(t, c, mcp.LaneRequest)
		_, waited, f := c.Enter(t.Context(), mcp.LaneRequest)
		if f == nil || f.Code != mcp.CodeOverloaded || f.Reason != mcp.ReasonPoolWait || f.Sent != mcp.SentNo || f.RetryAfter != time.Second {
			t.Errorf("got %v", f)
		}
		if waited != 5*time.Second {
			t.Errorf("waited %v", waited)
		}
		families, err := reg.Gather()
		if err != nil || len(families) != 1 || families[0].GetName() != "fluentd_perf_pool_wait_seconds" {
			t.Fatalf("got %v, %v", families, err)
		}
		m := families[0].GetMetric()
		if len(m) != 1 || m[0].GetLabel()[0].GetName() != "pool" || m[0].GetLabel()[0].GetValue() != "files" ||
			m[0].GetHistogram().GetSampleCount() != 1 {
			t.Errorf("got %v", m)
		}
	})
}

// TestConnectionsBeside: what calls may wait for, and documents, have connections of their own, four of each kind.
func TestConnectionsBeside(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newConnections(2, nil)
		if kind := mustEnter(t, c, mcp.LaneNotification); kind != 0 {
			t.Errorf("a notification has a connection of the kind %d though there is one for calls", kind)
		}
		mustEnter(t, c, mcp.LaneBatch)
		kinds := map[int]int{}
		for i := range 4 {
			kinds[mustEnter(t, c, []mcp.Lane{mcp.LaneResponse, mcp.LaneNotification, mcp.LaneEnd}[i%3])]++
			kinds[mustEnter(t, c, mcp.LaneFetch)]++
		}
		if len(kinds) != 2 || kinds[0] != 0 {
			t.Errorf("got so many of each kind: %v", kinds)
		}
		for _, lane := range []mcp.Lane{mcp.LaneResponse, mcp.LaneFetch, mcp.LaneRequest} {
			if _, _, f := c.Enter(t.Context(), lane); f == nil || f.Reason != mcp.ReasonPoolWait {
				t.Errorf("lane %d: got %v", lane, f)
			}
		}
	})
}
