package admission

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"time"

	"fluentd-perf/internal/mcp"
)

// ConnectionOptions are those of Connections. All but Metrics are required.
type ConnectionOptions struct {
	Upstream string        // the label "pool" of metrics: the upstream's name, where no cache tier has that
	Max      int           // connections for calls
	Wait     time.Duration // how long one call waits for one
	Metrics  *Metrics      // nil: not shown
}

// Beside the connections for calls there are two more kinds.
const (
	urgentConnections = 4 // for notifications, answers to the server and ends of sessions, while calls hold all of theirs
	fetchConnections  = 4 // for documents beside the endpoint, which strangers may ask for: they take no connection from calls
)

// The kinds of connections, as Enter returns them.
const (
	forCalls = iota
	forUrgent
	forFetches
)

// Connections bounds the connections to one endpoint, whoever uses them. Who has to wait for one waits in the order of asking.
// It is safe for concurrent use.
type Connections struct {
	wait  time.Duration
	gates [3]gate // by kind
}

// NewConnections returns Connections of which none is in use. It panics if a required option is missing.
func NewConnections(o ConnectionOptions) *Connections {
	if o.Upstream == "" || o.Max <= 0 || o.Wait <= 0 {
		panic("admission: connections without a name, a number or a wait (this is a bug)")
	}
	waits := cmp.Or(o.Metrics, NewMetrics(nil)).poolWaits.WithLabelValues(o.Upstream)
	c := &Connections{wait: o.Wait}
	for kind, n := range []int{forCalls: o.Max, forUrgent: urgentConnections, forFetches: fetchConnections} {
		c.gates[kind] = newGate(n, math.MaxInt, o.Wait, waits)
	}
	return c
}

// Enter takes a connection for a call or a document, and returns its kind, 0 for one of those for calls, and how long it
// waited. Leave has to be told that kind when the connection is free again.
//
// It fails with pool_wait (1429) where none came free in time, and as mcp.Canceled says where ctx ended.
func (c *Connections) Enter(ctx context.Context, l mcp.Lane) (kind int, waited time.Duration, f *mcp.Failure) {
	if l == mcp.LaneFetch {
		kind = forFetches
	}
	got := c.gates[kind].tryEnter()
	if got == waiting && urgent(l) {
		kind = forUrgent
		got = c.gates[kind].tryEnter()
	}
	if got == waiting {
		got, waited = c.gates[kind].wait(ctx, "", 1)
	}
	switch got {
	case admitted:
		return kind, waited, nil
	case left:
		return kind, waited, mcp.Canceled(ctx, mcp.SentNo)
	}
	return kind, waited, &mcp.Failure{
		Code: mcp.CodeOverloaded, Reason: mcp.ReasonPoolWait, Sent: mcp.SentNo, RetryAfter: time.Second,
		Message: "no connection to the server came free in time",
		Cause:   fmt.Errorf("pool.wait_timeout of %v is over", c.wait),
	}
}

// urgent reports whether calls that hold connections may be waiting for this one: for the answer to a request of the
// server's, or to be told that they are cancelled.
func urgent(l mcp.Lane) bool {
	return l == mcp.LaneResponse || l == mcp.LaneNotification || l == mcp.LaneEnd
}

// Leave gives a connection back, to whoever waits for it.
func (c *Connections) Leave(kind int) { c.gates[kind].leave() }
