package dispatch_test

import (
	"slices"
	"time"

	"fluentd-perf/internal/breaker"
)

// reference is the breaker of one endpoint as docs/resilience.md says it, in the simplest form: it is told what happens
// in the order in which it happens, by one goroutine.
type reference struct {
	now     time.Time
	open    bool
	changed int // times that it opened or closed so far
	start   time.Time
	reports []report // since the breaker closed
	row     int      // failures without a success between
	refused int
	opened  time.Time
	step    time.Duration
	due     time.Time
	probe   *refCall // the one under way
	early   bool     // the last one was an initialize
	waited  time.Duration
	proof   int // the change of state from which on a probe is proof
	pending []*refCall
}

type report struct {
	at     time.Time
	failed bool
}

// effect is what a call says of the endpoint.
type effect int

const (
	sNothing effect = iota
	sGood
	sFail
	sRefused
)

// refCall is a call under way.
type refCall struct {
	changed int // when it was allowed
	probe   bool
	forced  bool
	begun   time.Time
	ends    time.Time // where that is known beforehand
	says    effect
	over    bool
}

func newReference() *reference {
	return &reference{now: time.Now(), start: time.Now()}
}

// state is half-open from when a probe is due until one has failed.
func (r *reference) state() string {
	switch {
	case !r.open:
		return breaker.Closed
	case r.probe != nil || !r.now.Before(r.due):
		return breaker.HalfOpen
	}
	return breaker.Open
}

// fail opens it, or has it wait for the next probe.
func (r *reference) fail() {
	r.open, r.opened, r.probe, r.waited = true, r.now, nil, 0
	r.changed++
	if r.early { // ordinary calls are due when they were
		if least := r.now.Add(time.Second); r.due.Before(least) {
			r.due = least
		}
		return
	}
	r.step = min(max(2*r.step, time.Second), 30*time.Second)
	r.due = r.now.Add(r.step)
}

func (r *reference) close() {
	r.changed++
	r.open, r.early, r.step, r.row, r.refused, r.probe, r.proof = false, false, 0, 0, 0, nil, r.changed
	r.start, r.reports = r.now, nil
}

// advance lets time pass: calls end, and a probe of which nothing is heard in ten seconds has failed.
func (r *reference) advance(to time.Time) {
	for {
		next, what := to, func() {}
		if p := r.probe; p != nil {
			if at := p.begun.Add(10*time.Second - r.waited); !at.After(next) {
				next, what = at, r.fail
			}
		}
		for i, c := range r.pending {
			if !c.ends.After(next) {
				next, what = c.ends, func() { r.pending = slices.Delete(r.pending, i, i+1); r.end(c, c.says) }
			}
		}
		if next.After(r.now) {
			r.now = next
		}
		if what(); next == to && !r.left(to) {
			return
		}
	}
}

// left reports whether something is still to happen by then.
func (r *reference) left(to time.Time) bool {
	if p := r.probe; p != nil && !p.begun.Add(10*time.Second-r.waited).After(to) {
		return true
	}
	return slices.ContainsFunc(r.pending, func(c *refCall) bool { return !c.ends.After(to) })
}

// isDue reports whether a probe is.
func (r *reference) isDue(early bool) bool {
	due := r.due
	if early {
		due = r.opened.Add(time.Second)
		if r.early && !r.due.After(due) {
			due = due.Add(time.Second)
		}
	}
	return !r.now.Before(due)
}

// kind is how a breaker sees a call.
type kind int

const (
	ordinary kind = iota
	opening       // initialize
	discovering
	urgent
)

// ask allows a call or not.
func (r *reference) ask(c *refCall, k kind) bool {
	c.changed, c.begun, c.over, c.probe, c.forced = r.changed, r.now, false, false, false
	switch {
	case k == discovering:
		c.over = true // it reports nothing
		return !r.open
	case !r.open:
		return true
	case r.probe == nil && r.isDue(k == opening):
		c.probe, r.probe, r.early = true, c, k == opening
		return true
	}
	c.forced = k == urgent
	return c.forced
}

// again is ask for a call that is sent once more.
func (r *reference) again(c *refCall, k kind) bool {
	return !c.probe && r.ask(c, k)
}

// end counts a call.
func (r *reference) end(c *refCall, v effect) {
	if c.over {
		return
	}
	c.over = true
	failed := v == sFail || v == sRefused
	switch {
	case c.forced:
		if v == sGood {
			r.alive()
		}
		return
	case c.changed != r.changed:
		r.late(c, v)
		return
	case v == sNothing:
		if c.probe {
			r.waited += r.now.Sub(c.begun)
			r.probe = nil
		}
		return
	case c.probe && failed:
		r.proof = max(r.proof, c.changed+1)
		r.fail()
		return
	case c.probe:
		r.close()
		return
	}
	r.count(v, failed)
}

// count counts an ordinary call at a closed breaker.
func (r *reference) count(v effect, failed bool) {
	r.reports = append(r.reports, report{r.now, failed})
	if !failed {
		r.row, r.refused = 0, 0
		return
	}
	r.row++
	if v == sRefused {
		r.refused++
	}
	second := func(at time.Time) int { return int(at.Sub(r.start) / time.Second) }
	r.reports = slices.DeleteFunc(r.reports, func(p report) bool { return second(p.at) <= second(r.now)-10 })
	bad := 0
	for _, p := range r.reports {
		if p.failed {
			bad++
		}
	}
	if r.row >= 3 || r.refused >= 2 || len(r.reports) >= 20 && 2*bad >= len(r.reports) {
		r.fail()
	}
}

// late counts a call of before the last change of state.
func (r *reference) late(c *refCall, v effect) {
	switch {
	case v == sGood && c.probe && c.changed >= r.proof:
		r.close()
	case v == sGood:
		r.alive()
	case v != sNothing && c.probe:
		r.proof = max(r.proof, c.changed+1)
	}
}

// alive lets the waits begin anew.
func (r *reference) alive() {
	r.step = 0
	if due := r.opened.Add(time.Second); due.Before(r.due) {
		r.due = due
	}
}
