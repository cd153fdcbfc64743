package breaker

import (
	"errors"
	"log/slog"
	"net/url"
	"time"

	"fluentd-perf/internal/mcp"
)

// When an endpoint is tried again, and what a caller is told to wait at least.
const (
	refusedInARow = 2 // connections, without a success between
	firstProbe    = time.Second
	longestWait   = 30 * time.Second // between probes
	leastRetry    = 100 * time.Millisecond
)

// CircuitOptions are those of a Circuit. Upstream and Endpoint are required; any other zero stands for its default.
type CircuitOptions struct {
	Upstream string // the upstream's configured name, a label of metrics
	Endpoint string // which of its URLs, "0" for the first, a label of metrics

	Window       time.Duration // for FailureRatio, 10 s
	MinRequests  int           // that ended within Window, for FailureRatio to count, 20
	FailureRatio float64       // of the requests that ended within Window, from which on it opens, 0.5
	InARow       int           // failures without a success between, however old, from which on it opens, 3

	ProbeTimeout time.Duration // how long probes may go without a verdict before the Circuit waits again, 10 s
	Metrics      *Metrics      // nil: not shown
	Log          *slog.Logger  // nil: silent
}

// Circuit is the breaker of one endpoint of an upstream. It is safe for concurrent use, and waits for nobody.
//
// It opens on too large a part of failures, on too many in a row, and on two refused connections in a row. Open, it lets
// one call at a time through, first after a second; each that fails, or is not over within ProbeTimeout, doubles the wait for
// the next, up to 30 s; AllowEarly waits a second only. One that succeeds closes it, however late, unless one that was let through after it has failed.
type Circuit struct {
	opts    CircuitOptions
	machine *machine
	meter   meter
}

// NewCircuit returns a closed Circuit. It panics without names, or with an option below zero or a ratio above 1.
func NewCircuit(o CircuitOptions) *Circuit {
	o.complete()
	c := &Circuit{opts: o, meter: o.Metrics.circuit(o.Upstream, o.Endpoint)}
	c.machine = newMachine(rules{
		name: o.Upstream, window: o.Window, minReports: o.MinRequests, ratio: o.FailureRatio, inARow: o.InARow,
		refused: refusedInARow, first: firstProbe, most: longestWait, patient: true,
	}, c.announce)
	return c
}

func (o *CircuitOptions) complete() {
	if o.Upstream == "" || o.Endpoint == "" {
		panic("breaker: a circuit without a name (this is a bug)")
	}
	if min(o.Window, o.ProbeTimeout) < 0 || min(o.MinRequests, o.InARow) < 0 || !(o.FailureRatio >= 0 && o.FailureRatio <= 1) {
		panic("breaker: a circuit with an option that cannot be (this is a bug)")
	}
	byDefault(&o.Window, window)
	byDefault(&o.MinRequests, minReports)
	byDefault(&o.FailureRatio, failureRatio)
	byDefault(&o.InARow, inARow)
	byDefault(&o.ProbeTimeout, 10*time.Second)
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

func byDefault[T comparable](value *T, d T) {
	var zero T
	if *value == zero {
		*value = d
	}
}

// Allow reports whether a call may go to the endpoint now. If so, the Permit must be told what came of it. It is false
// while the Circuit is open and no probe is due, and while a probe is under way.
func (c *Circuit) Allow() (Permit, bool) { return c.machine.allow(c.opts.ProbeTimeout, false) }

// AllowEarly is Allow for a call that is worth a probe whatever the backoff: while the Circuit is open, it is the probe once
// a second has passed since it opened or the last probe failed.
func (c *Circuit) AllowEarly() (Permit, bool) { return c.machine.allow(c.opts.ProbeTimeout, true) }

// Alive says that something which does not count went well there, a stream that was accepted, say: if the Circuit is open,
// the next probe is due at once, though not before a second has passed since it opened or a probe failed, and the waits
// begin anew at a second.
func (c *Circuit) Alive() {
	if _, yes := c.machine.closed(); yes {
		return
	}
	c.machine.mu.Lock()
	defer c.machine.mu.Unlock()
	c.machine.aliveLocked()
}

// ProbeWithin makes the next probe of an open Circuit due at the latest d after it opened or the last probe failed; a d
// under a second counts as a second. It holds for the next probe only.
func (c *Circuit) ProbeWithin(d time.Duration) {
	if _, yes := c.machine.closed(); yes {
		return
	}
	c.machine.mu.Lock()
	defer c.machine.mu.Unlock()
	c.machine.dueWithinLocked(d)
}

// RetryAfter returns how long it is until the next probe is due, 100 ms at least; 0 while the Circuit is closed.
func (c *Circuit) RetryAfter() time.Duration { return c.machine.retryAfter(false) }

// State returns Closed, HalfOpen or Open. An open Circuit becomes half-open by the first Allow or State after a probe has
// become due.
func (c *Circuit) State() string { return c.machine.current() }

// Last returns the cause of the last failure that was reported and when that was: nil and zero if there was none.
//
//lint:ignore ST1008 the cause is what Last tells, and no error of its own
func (c *Circuit) Last() (cause error, at time.Time) {
	c.machine.mu.Lock()
	defer c.machine.mu.Unlock()
	return c.machine.last, c.machine.lastAt
}

// announce makes a change known. That an open circuit is tried again is no news.
func (c *Circuit) announce(to change) {
	c.meter.show(to.to)
	log := c.opts.Log.With(slog.String("upstream", c.opts.Upstream), slog.String("endpoint", c.opts.Endpoint))
	switch {
	case to.to == Closed:
		log.Info("a server works again")
	case to.from == Closed:
		log.Warn("a server fails and is left alone; it is tried again from time to time", slog.String("error", describe(to.err)))
	default:
		log.Debug("a server is tried again", slog.String("state", to.to))
	}
}

// describe is an error's text for the log. An error of net/http's names its URL, whose query may hold a secret.
func describe(err error) string {
	if err == nil {
		return "unknown"
	}
	var ue *url.Error
	if !errors.As(err, &ue) {
		return err.Error()
	}
	text := ue.Op + ": " + describe(ue.Err)
	var f *mcp.Failure
	if errors.As(err, &f) {
		return f.Message + " (" + string(f.Reason) + "): " + text
	}
	return text
}
