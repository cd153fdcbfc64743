package breaker

import (
	"errors"
	"time"
)

// Permit is a call that was allowed. Whoever has it reports what came of it by Done. It is a value, so that it costs
// nothing; it must not be copied once Done may have been called. The zero Permit reports to nobody.
type Permit struct {
	machine *machine
	epoch   uint64
	probe   *probe // nil: an ordinary call
	ended   bool   // guarded by the machine's lock
}

// Done reports what came of the call, and of a failure the cause, which may be nil. Only the first call counts; it is safe
// for concurrent use. A report of a call that was allowed before the state last changed counts no more; but if it
// succeeded, the next probe is due at once, see Circuit.Alive, and a Circuit's late probe may close it.
func (p *Permit) Done(v Verdict, cause error) {
	m := p.machine
	if m == nil {
		return
	}
	if m.settle(p, v, cause) {
		m.tell()
	}
}

// settle counts the first report of p, and reports whether there is something to tell.
func (m *machine) settle(p *Permit, v Verdict, cause error) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !p.ended {
		p.ended = true
		m.countLocked(p, v, cause)
	}
	return len(m.changes) > 0
}

// Probe reports whether the call tries an endpoint that was left alone.
func (p *Permit) Probe() bool { return p.probe != nil }

// probe is the one call of a half-open machine. Its fields are guarded by the machine's lock.
type probe struct {
	machine *machine
	report  func(error) // gobreaker's, which must be called once at most
	begun   time.Time
	timer   *time.Timer
	ended   bool
}

// errNoReport is the failure of a probe of which nothing was heard.
var errNoReport = errors.New("the call that tried whether it works again was not answered in time")

func newProbe(m *machine, report func(error), most time.Duration) *probe {
	p := &probe{machine: m, report: report, begun: time.Now()}
	p.timer = time.AfterFunc(most, p.expire)
	return p
}

// expire makes room for the next probe after one that has not reported: gobreaker would wait for it for ever. The call goes
// on, and what its Permit says in the end is the verdict, see lateLocked.
func (p *probe) expire() {
	m := p.machine
	defer m.tell()
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.ended {
		return
	}
	m.last, m.lastAt = errNoReport, time.Now()
	m.rowLocked(Failed)
	p.endLocked(Failed)
}

// endLocked tells gobreaker how the probe ended.
func (p *probe) endLocked(v Verdict) {
	p.dropLocked()
	p.report(errorOf(v))
}

// dropLocked makes the probe hold its place no longer.
func (p *probe) dropLocked() {
	p.ended = true
	p.timer.Stop()
	p.machine.probe = nil
}
