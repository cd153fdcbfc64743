package breaker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

// AdmissionOptions are those of an Admission. Upstream and MaxInFlight are required, and QueueWait where there is a queue.
type AdmissionOptions struct {
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
// another for every 16 KiB of its body. It is safe for concurrent use, and an agent that floods it costs others nothing but
// their fair share.
//
// A slot that comes free goes on to the next one who waits without ever being free in between: while anybody waits there is
// no free slot, and who waits takes over the place in Total as well.
type Admission struct {
	opts  AdmissionOptions
	meter admissionMeter

	mu       sync.Mutex // guards the following
	inFlight int
	queue    queue
	pace     pace
	tallies  map[mcp.Reason]*tally // of the three reasons
}

// NewAdmission returns an Admission with all slots free. It panics if a required option is missing or one is below zero.
func NewAdmission(o AdmissionOptions) *Admission {
	if o.Upstream == "" || o.MaxInFlight <= 0 || o.Queue < 0 || o.Queue > 0 && o.QueueWait <= 0 {
		panic("breaker: an admission without a name, slots or a wait (this is a bug)")
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	a := &Admission{opts: o, queue: newQueue(), tallies: map[mcp.Reason]*tally{}}
	a.meter = o.Metrics.admission.attach(o.Upstream, a)
	return a
}

// Close ends the gauges of the upstream. Calls that are under way or wait go on.
func (a *Admission) Close() { a.opts.Metrics.admission.detach(a) }

// Stats says how many calls hold a slot and how many wait for one.
func (a *Admission) Stats() (inFlight, queued int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.inFlight, a.queue.waiting
}

// Enter gets the call a slot, for which it may have to wait. The Ticket must be left exactly when the call is over. Calls
// without a request in them, and streams, take no slot and get the zero Ticket at once: those that hold slots may be
// waiting for just them.
//
// Of the failures all have Sent no: queue_full, queue_wait and in_flight (1429) with RetryAfter; where ctx ends while the
// call waits, the *mcp.Failure that is its cause, else canceled.
func (a *Admission) Enter(ctx context.Context, c *mcp.Call) (Ticket, *mcp.Failure) {
	if !takesSlot(c) {
		return Ticket{}, nil
	}
	return a.enter(ctx, c)
}

// enter is Enter for a call that takes a slot.
func (a *Admission) enter(ctx context.Context, c *mcp.Call) (Ticket, *mcp.Failure) {
	a.mu.Lock()
	v := a.tryLocked()
	a.mu.Unlock()
	switch v {
	case admitted:
		return Ticket{&hold{admission: a}}, nil
	case overTotal:
		return Ticket{}, a.refuse(mcp.ReasonInFlight)
	}
	return a.wait(ctx, c)
}

// verdict is what becomes of a call that asks, or waits.
type verdict uint8

const (
	waits     verdict = iota // there is no slot yet
	admitted                 // it has one
	gaveWay                  // it waited, and lost its place to another agent's call
	noRoom                   // there is no place to wait
	overTotal                // there is a slot, and no place in Total
)

// tryLocked takes a slot if there is one. Total is an atomic number, so that no lock of another upstream is met here.
func (a *Admission) tryLocked() verdict {
	switch {
	case a.inFlight >= a.opts.MaxInFlight:
		return waits
	case !a.opts.Total.take():
		return overTotal
	}
	if a.inFlight++; a.inFlight == a.opts.MaxInFlight {
		a.pace.resume(time.Now())
	}
	return admitted
}

// wait is Enter where no slot was free.
func (a *Admission) wait(ctx context.Context, c *mcp.Call) (Ticket, *mcp.Failure) {
	if ctx.Err() != nil {
		return Ticket{}, left(ctx)
	}
	w := &waiter{cost: costOf(c), since: time.Now(), ready: make(chan struct{})}
	switch a.join(w, agentOf(c, a.opts.Partition)) {
	case admitted:
		return Ticket{&hold{admission: a}}, nil
	case noRoom:
		return Ticket{}, a.refuse(mcp.ReasonQueueFull)
	case overTotal:
		return Ticket{}, a.refuse(mcp.ReasonInFlight)
	}
	timer := time.NewTimer(a.opts.QueueWait)
	defer timer.Stop()
	select {
	case <-w.ready:
	case <-timer.C:
	case <-ctx.Done():
	}
	v := a.settle(w)
	waited := time.Since(w.since)
	a.meter.waited(waited)
	switch {
	case ctx.Err() != nil:
		if v == admitted {
			a.release() // it came just when the caller left
		}
		return Ticket{}, left(ctx)
	case v == admitted:
		return Ticket{&hold{admission: a, waited: waited}}, nil
	case v == gaveWay:
		return Ticket{}, a.refuse(mcp.ReasonQueueFull)
	}
	return Ticket{}, a.refuse(mcp.ReasonQueueWait)
}

// join puts a call into the queue, if there is no slot now and there is room or another agent has to make some.
func (a *Admission) join(w *waiter, agent string) verdict {
	a.mu.Lock()
	defer a.mu.Unlock()
	if v := a.tryLocked(); v != waits {
		return v
	}
	if a.queue.waiting >= a.opts.Queue {
		loser := a.queue.newestOfMost(agent)
		if loser == nil {
			return noRoom
		}
		a.queue.remove(loser)
		loser.end(gaveWay)
	}
	a.queue.push(w, agent)
	return waits
}

// settle takes a call that waits no longer out of the queue, and returns what became of it.
func (a *Admission) settle(w *waiter) verdict {
	a.mu.Lock()
	defer a.mu.Unlock()
	if w.verdict == waits {
		a.queue.remove(w)
	}
	return w.verdict
}

// release hands a slot on to the next one who waits, or lets it go.
func (a *Admission) release() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.inFlight == a.opts.MaxInFlight {
		a.pace.note(1, time.Now())
	}
	if w := a.queue.pop(); w != nil {
		w.end(admitted)
		return
	}
	a.inFlight--
	a.opts.Total.give()
}

// left is the failure of a call whose context ended before it had a slot.
func left(ctx context.Context) *mcp.Failure {
	cause := context.Cause(ctx)
	var f *mcp.Failure
	if errors.As(cause, &f) {
		own := *f // the cause may be shared by all calls that it ended
		own.Sent = mcp.SentNo
		return &own
	}
	return &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentNo, Message: "the caller left", Cause: cause}
}
