package breaker

import (
	"errors"
	"time"
)

// permit is one call that was allowed. Its fields are guarded by the tier's lock.
type permit struct {
	tier   *Tier
	report func(error) // gobreaker's, which must be called once at most
	epoch  uint64
	timer  *time.Timer // of a probe
	ended  bool
}

// errNoReport is the failure of a probe of which nothing was heard.
var errNoReport = errors.New("the tier did not answer in twice its timeout")

// done is what Allow returns.
func (p *permit) done(err error) {
	p.end(err)
	p.tier.tell()
}

// expire ends a probe that has not reported: gobreaker would wait for it for ever.
func (p *permit) expire() { p.done(errNoReport) }

func (p *permit) end(err error) {
	t := p.tier
	t.mu.Lock()
	defer t.mu.Unlock()
	if p.ended {
		return
	}
	p.ended = true
	if p.timer != nil {
		p.timer.Stop()
	}
	if p.epoch == t.epoch {
		t.countLocked(err)
	}
	p.report(err)
}

// countLocked keeps the row.
func (t *Tier) countLocked(err error) {
	switch {
	case err == nil:
		t.row = 0
	case !isIgnored(err):
		t.row++
		t.lastErr = err
	}
}
