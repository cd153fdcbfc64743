package breaker

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// The states of a breaker, as State returns them.
const (
	Closed   = "closed"    // it lets everything through
	HalfOpen = "half-open" // one call tries whether it works again
	Open     = "open"      // it is left alone
)

// Verdict is what came of a call that was allowed.
type Verdict uint8

// The verdicts. The zero one says nothing.
const (
	Ignored   Verdict = iota // nothing was learnt: the caller left, say. A probe that ends so makes room for the next
	Succeeded                // it works
	Failed
	Refused // it failed because nobody listens there
)

// rules say when a machine opens, and when it is tried again.
type rules struct {
	name       string
	window     time.Duration // for the ratio, in ten steps
	minReports int           // in the window, for the ratio to count
	ratio      float64       // of failures
	inARow     int           // failures, without a success between and however old
	refused    int           // the same of refused connections; 0: they count as failures only
	first      time.Duration // from the opening to the first probe; no two probes are nearer than that
	most       time.Duration // from one probe's failure to the next: first, doubled each time, up to this
	patient    bool          // a probe that succeeds closes it though its time was over; probes whose callers leave share a time
}

// machine is what the breakers of this package have in common: gobreaker, with a row of failures, probes that end, and
// news that is told without a lock.
type machine struct {
	rules    rules
	announce func(change) // called without the lock, in order and one at a time
	phase    atomic.Uint64

	mu      sync.Mutex // guards the following, and is held around every use of breaker, so that they agree
	breaker *gobreaker.TwoStepCircuitBreaker[struct{}]
	state   string
	epoch   uint64        // changes of state so far: what was allowed in an older one counts no more
	probe   *probe        // the one under way, nil: none
	early   bool          // the last probe was an early one
	waited  time.Duration // by the probes of this epoch whose callers left
	proves  uint64        // the epoch from which on a probe is proof, however late: none that began after it has failed
	row     int           // failures since the last success
	refused int           // refused connections since then
	step    time.Duration
	opened  time.Time // last: by a failure that was one too many, or by a failed probe
	due     time.Time // the next probe, while open
	last    error
	lastAt  time.Time
	changes []change
	telling bool // somebody is handing out changes
}

// change is a change of state, and the failure before it.
type change struct {
	from, to string
	err      error
}

// errFailed and errIgnored are what gobreaker hears.
var (
	errFailed  = errors.New("failed")
	errIgnored = errors.New("ignored")
)

func newMachine(r rules, announce func(change)) *machine {
	m := &machine{rules: r, announce: announce, state: Closed}
	m.breaker = m.newBreaker()
	m.noteLocked(Closed)
	return m
}

func (m *machine) newBreaker() *gobreaker.TwoStepCircuitBreaker[struct{}] {
	r := &m.rules
	return gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		Name: r.name, MaxRequests: 1, Interval: r.window, BucketPeriod: r.window / 10,
		Timeout:       r.first - 1, // it waits for more than that
		ReadyToTrip:   m.tripsLocked,
		IsExcluded:    func(err error) bool { return err == errIgnored },
		OnStateChange: func(_ string, _, to gobreaker.State) { m.changedLocked(nameOf(to)) },
	})
}

// noteLocked sets the state. The phase is the epoch, with its lowest bit set in closed ones, so that a call of a closed
// breaker needs no lock.
func (m *machine) noteLocked(state string) {
	m.state = state
	m.epoch++
	phase := m.epoch << 1
	if state == Closed {
		phase |= 1
	}
	m.phase.Store(phase)
}

// closed returns the epoch and whether it is a closed one.
func (m *machine) closed() (epoch uint64, yes bool) {
	phase := m.phase.Load()
	return phase >> 1, phase&1 != 0
}

// allow lets a call through. If it is a probe, its time is over when nothing is heard for most: of it, and in a patient
// machine of those before it whose callers left. Or a server that hangs had a probe whenever an agent loses its patience.
// An early call is the probe whatever the backoff.
func (m *machine) allow(most time.Duration, early bool) (Permit, bool) {
	if epoch, yes := m.closed(); yes {
		return Permit{machine: m, epoch: epoch}, true
	}
	defer m.tell()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wakeLocked(early)
	switch m.state {
	case Closed:
		return Permit{machine: m, epoch: m.epoch}, true
	case Open:
		return Permit{}, false
	}
	report, err := m.breaker.Allow()
	if err != nil {
		return Permit{}, false // there is a probe already
	}
	m.probe, m.early = newProbe(m, report, most-m.waited), early
	return Permit{machine: m, epoch: m.epoch, probe: m.probe}, true
}

// wakeLocked makes an open machine half-open when a probe is due.
func (m *machine) wakeLocked(early bool) {
	if m.state == Open && !time.Now().Before(m.dueLocked(early)) {
		m.breaker.State()
	}
}

// dueLocked is when the next probe of an open machine is due. An early one waits no longer than gobreaker does, but after
// another early one it lets an ordinary call go first that is due.
func (m *machine) dueLocked(early bool) time.Time {
	if !early {
		return m.due
	}
	due := m.opened.Add(m.rules.first)
	if m.early && !m.due.After(due) {
		due = due.Add(m.rules.first)
	}
	return due
}

// retryAfter returns how long it is until the next probe is due, leastRetry at least; 0 while the machine is closed.
func (m *machine) retryAfter(early bool) time.Duration {
	if _, yes := m.closed(); yes {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch m.state {
	case Closed:
		return 0
	case HalfOpen:
		return leastRetry // a probe is under way
	}
	return max(time.Until(m.dueLocked(early)), leastRetry)
}

// refuses reports whether the machine is open and no probe is due.
func (m *machine) refuses(early bool) bool {
	if m.current() != Open {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state == Open && time.Now().Before(m.dueLocked(early))
}

// current returns the state.
func (m *machine) current() string {
	if _, yes := m.closed(); yes {
		return Closed
	}
	defer m.tell()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wakeLocked(false)
	return m.state
}

// countLocked counts the report of a call that has none yet.
func (m *machine) countLocked(p *Permit, v Verdict, cause error) {
	if v == Failed || v == Refused {
		m.last, m.lastAt = cause, time.Now()
	}
	if p.epoch != m.epoch { // a probe that was not answered in time, too
		m.lateLocked(p, v)
		return
	}
	m.rowLocked(v)
	switch {
	case p.probe != nil:
		if m.rules.patient {
			m.waited += time.Since(p.probe.begun)
		}
		p.probe.endLocked(v)
		m.disproveLocked(p, v)
	case v != Ignored:
		// Here, and not in allow: what ends within the window counts in it, however long ago it began, and gobreaker's
		// counts hold reports only.
		if report, err := m.breaker.Allow(); err == nil {
			report(errorOf(v))
		}
	}
}

// lateLocked counts the report of a call that was allowed before the state last changed. A probe that succeeds is what
// everybody waits for, though it took longer than a probe may hold its place: a server all of whose calls take that long
// would never be used again.
func (m *machine) lateLocked(p *Permit, v Verdict) {
	switch {
	case v == Succeeded && m.rules.patient && p.probe != nil && p.epoch >= m.proves:
		m.closeLocked()
	case v == Succeeded:
		m.aliveLocked()
	default:
		m.disproveLocked(p, v)
	}
}

// disproveLocked takes note of a probe that failed: one that began before it is no proof any more.
func (m *machine) disproveLocked(p *Permit, v Verdict) {
	if p.probe != nil && (v == Failed || v == Refused) {
		m.proves = max(m.proves, p.epoch+1)
	}
}

// closeLocked closes the machine from whatever state. Gobreaker closes by a probe of its own only, and a second after it
// opened, so it begins anew; the probe under way, if there is one, is an ordinary call of before from now on.
func (m *machine) closeLocked() {
	if m.probe != nil {
		m.probe.dropLocked()
	}
	m.rowLocked(Succeeded)
	m.breaker = m.newBreaker()
	m.changedLocked(Closed)
}

func errorOf(v Verdict) error {
	switch v {
	case Succeeded:
		return nil
	case Ignored:
		return errIgnored
	}
	return errFailed
}

// rowLocked keeps the rows.
func (m *machine) rowLocked(v Verdict) {
	switch v {
	case Succeeded:
		m.row, m.refused = 0, 0
	case Refused:
		m.refused++
		m.row++
	case Failed:
		m.row++
	}
}

// tripsLocked reports whether a closed breaker opens. It counts the rows itself: gobreaker forgets what has left the
// window.
func (m *machine) tripsLocked(c gobreaker.Counts) bool {
	r, reports := &m.rules, int(c.TotalSuccesses+c.TotalFailures)
	return m.row >= r.inARow || r.refused > 0 && m.refused >= r.refused ||
		reports >= r.minReports && float64(c.TotalFailures) >= r.ratio*float64(reports)
}

// changedLocked notes a change of state for tell: it may be called under gobreaker's lock.
func (m *machine) changedLocked(to string) {
	c := change{from: m.state, to: to, err: m.last}
	m.noteLocked(c.to)
	m.waited = 0
	m.changes = append(m.changes, c)
	switch c.to {
	case Open:
		m.openedLocked(c.from)
	case Closed:
		m.step, m.early = 0, false
		m.proves = m.epoch // another outage has probes of its own
	}
}

// openedLocked sets when the next probe is due. An early one that failed says nothing of ordinary calls: theirs stays due when
// it was, as far as gobreaker lets it.
func (m *machine) openedLocked(from string) {
	m.opened = time.Now()
	if m.early && from == HalfOpen {
		if least := m.opened.Add(m.rules.first); m.due.Before(least) {
			m.due = least
		}
		return
	}
	m.step = min(max(2*m.step, m.rules.first), m.rules.most)
	m.due = m.opened.Add(m.step)
}

// aliveLocked lets the waits begin anew: something that does not count went well there. Gobreaker's own time stays.
func (m *machine) aliveLocked() {
	m.step = 0
	m.dueWithinLocked(m.rules.first)
}

// dueWithinLocked makes the next probe of an open machine due d after it opened, if that is sooner.
func (m *machine) dueWithinLocked(d time.Duration) {
	if due := m.opened.Add(max(d, m.rules.first)); m.state == Open && due.Before(m.due) {
		m.due = due
	}
}

// tell hands out the changes so far, without a lock. If another goroutine is at it, that one does these as well.
func (m *machine) tell() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.telling {
		return
	}
	m.telling = true
	for len(m.changes) > 0 {
		changes := m.changes
		m.changes = nil
		m.mu.Unlock()
		for _, c := range changes {
			m.announce(c)
		}
		m.mu.Lock()
	}
	m.telling = false
}

func nameOf(s gobreaker.State) string {
	switch s {
	case gobreaker.StateClosed:
		return Closed
	case gobreaker.StateHalfOpen:
		return HalfOpen
	}
	return Open
}
