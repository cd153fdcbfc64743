// Package admission bounds what is under way at once, and is the one place where a call waits.
//
// An Admission bounds the calls of one upstream, a Total those of all upstreams together, and Connections those to one
// endpoint. It promises:
//   - never more at once than configured, and never a slot free while somebody waits for it;
//   - an agent that floods an upstream costs others nothing but their fair share;
//   - every queue has a size or a time, and who leaves is out of it at once;
//   - who gets nothing is told when to come again;
//   - no call of one upstream waits for a lock of another's, and no function of others is called under a lock.
//
// It leaves to others: which server is called, and whether it works.
package admission

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

// Options are those of an Admission. Upstream and MaxInFlight are required, and QueueWait where there is a queue.
type Options struct {
	Upstream    string        // the upstream's name: a label of metrics
	MaxInFlight int           // calls under way at once
	Queue       int           // calls that wait, of all agents together; 0: nobody waits
	QueueWait   time.Duration // how long one call waits
	Total       *Total        // the bound over all upstreams; nil: none

	// Partition names the credential of a request. It is called without a lock, and only for a call that has
	// to wait and has no session. nil: an agent without a session is its connection.
	Partition func(*mcp.Call) [32]byte

	Metrics *Metrics     // nil: not shown
	Log     *slog.Logger // nil: silent
}

// Admission bounds the calls of one upstream that are under way, and lets others wait for their turn, each agent's in the
// order of asking and the agents by deficit round robin: in each round an agent is credited one, and a call costs one and
// another for every 16 KiB of its body. It is safe for concurrent use.
type Admission struct {
	opts  Options
	gate  gate
	leave func() // gate.leave, made once

	mu    sync.Mutex          // guards the following
	lines [overTotal + 1]line // by result
}

// New returns an Admission with all slots free. It panics if a required option is missing or one is below zero.
func New(o Options) *Admission {
	if o.Upstream == "" || o.MaxInFlight <= 0 || o.Queue < 0 || o.Queue > 0 && o.QueueWait <= 0 {
		panic("admission: no name, slots or wait (this is a bug)")
	}
	o.Metrics, o.Log = cmp.Or(o.Metrics, NewMetrics(nil)), cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	a := &Admission{opts: o}
	a.gate = newGate(o.MaxInFlight, o.Queue, o.QueueWait, o.Metrics.queueWaits.WithLabelValues(o.Upstream))
	a.gate.total, a.leave = o.Total, a.gate.leave
	o.Metrics.attach(a)
	return a
}

// Close ends the gauges of the upstream. Calls that are under way or wait go on.
func (a *Admission) Close() { a.opts.Metrics.detach(a) }

// Stats says how many calls hold a slot and how many wait for one.
func (a *Admission) Stats() (inFlight, queued int) {
	a.gate.mu.Lock()
	defer a.gate.mu.Unlock()
	return int(a.gate.inFlight.Load()), a.gate.queue.waiting
}

// Enter gets the call a slot, for which it may have to wait, and returns how long it did. leave has to be called exactly once, when
// the call is over, from whatever goroutine. Calls without a request in them, and streams, take no slot and get nil at
// once: those that hold slots may be waiting for just them.
//
// Of the failures all have Sent no: queue_full, queue_wait and in_flight (1429) with RetryAfter; where ctx ends while the
// call waits, the *mcp.Failure that is its cause, else canceled.
func (a *Admission) Enter(ctx context.Context, c *mcp.Call) (leave func(), waited time.Duration, f *mcp.Failure) {
	if !c.HoldsRequest() {
		return nil, 0, nil
	}
	got := a.gate.tryEnter()
	if got == waiting {
		got, waited = a.gate.wait(ctx, agentOf(c, a.opts.Partition), costOf(c))
	}
	switch got {
	case admitted:
		return a.leave, waited, nil
	case left:
		return nil, waited, mcp.Canceled(ctx, mcp.SentNo)
	}
	return nil, waited, a.refuse(got)
}
