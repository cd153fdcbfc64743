package stdio

import (
	"context"
	"slices"
	"time"

	"fluentd-perf/internal/mcp"
)

// Processes are started ahead of the agents that need them. A spare has answered an initialize that agents used lately, and has not been
// told notifications/initialized: so far it has said nothing that depends on who comes. The one whose turn it is gets what it wrote
// meanwhile. Nobody waits for a spare's start, so it comes after all others, and a spare gives way before any process of a session's.

const (
	maxForms = 4        // initializes for which there are spares: those used last
	maxForm  = 64 << 10 // bytes of one
	maxUnfit = 2        // spares that nobody may have: then there are none

	slowTalk = 10 * time.Minute // a spare that took longer to say too much says a little now and then: another one takes its place
)

// form is an initialize that agents used.
type form struct {
	params     string // byte for byte
	initialize []byte // whole
	m          mcp.Message
}

// ahead is what a pool knows of spares to come. Guarded by total.mu.
type ahead struct {
	forms    []*form   // the one used last first
	used     time.Time // when sessions used the pool last
	starting bool      // one is, which nobody asked for
	unfit    int       // spares that nobody may have, by what they said before anybody had them
	why      string    // of the last of them
}

// spare is a process that has answered an initialize and that nobody has.
type spare struct {
	lease  *Lease
	form   string // the params of that initialize, byte for byte
	onDisk string // PoolOptions.OnDisk from before its start
	answer []byte // its result, raw
}

// Use notes that an agent was given the answer to an initialize of that form without a process: it will need one soon.
func (p *Pool) Use(initialize []byte, m *mcp.Message) {
	p.used(initialize, m)
	p.replenish()
}

// used notes an initialize that a process has answered well.
func (p *Pool) used(initialize []byte, m *mcp.Message) {
	p.total.mu.Lock()
	defer p.total.mu.Unlock()
	a := &p.ahead
	a.used = time.Now()
	f := &form{params: string(m.Params.Of(initialize))}
	if len(initialize) > maxForm || m.Loose || m.ProgressToken.Present() {
		return
	}
	a.forms = slices.DeleteFunc(a.forms, func(other *form) bool {
		if other.params != f.params {
			return false
		}
		f = other
		return true
	})
	if f.initialize == nil {
		f.initialize, f.m = slices.Clone(initialize), *m
	}
	a.forms = slices.Insert(a.forms, 0, f)
	for _, old := range a.forms[min(len(a.forms), maxForms):] {
		p.dropSparesLocked(func(s *spare) bool { return s.form == old.params })
	}
	a.forms = a.forms[:min(len(a.forms), maxForms)]
}

// forgetLocked drops an initialize that a process refused.
func (p *Pool) forgetLocked(params string) {
	p.ahead.forms = slices.DeleteFunc(p.ahead.forms, func(f *form) bool { return f.params == params })
}

// dropSparesLocked ends the spares of which that is so.
func (p *Pool) dropSparesLocked(is func(*spare) bool) {
	for _, s := range slices.Clone(p.spares) { // evictLocked takes them out
		if is(s) {
			s.lease.evictLocked()
		}
	}
}

// replenish begins to start a spare, where one is missing and may be.
func (p *Pool) replenish() {
	if p.opts.Warm == 0 {
		return
	}
	onDisk := p.opts.OnDisk()
	p.total.mu.Lock()
	defer p.total.mu.Unlock()
	p.dropSparesLocked(func(s *spare) bool { return s.onDisk != onDisk })
	f := p.missingLocked(onDisk)
	if f == nil {
		return
	}
	l := p.total.spareLocked(p)
	if l == nil {
		return
	}
	s := p.newStart(l, f.initialize, &f.m, onDisk)
	s.behind, s.left = true, true
	s.base, l.abandon = context.WithCancelCause(p.base)
	p.ahead.starting = true
	p.left = append(p.left, s)
	p.running.Go(s.run)
}

// missingLocked returns the form for which a spare is to be started, nil where there is none: one after the other, none of a server that
// nobody uses, that does not stay, or that says too much before anybody has it.
func (p *Pool) missingLocked(onDisk string) *form {
	a := &p.ahead
	if p.closed || a.starting || a.unfit >= maxUnfit || time.Since(a.used) >= p.opts.IdleTimeout || !p.staysLocked() {
		return nil
	}
	for _, f := range a.forms {
		n := 0
		for _, s := range p.spares {
			if s.form == f.params {
				n++
			}
		}
		for _, s := range p.left {
			if s.form == f.params && s.onDisk == onDisk {
				n++
			}
		}
		if n < p.opts.Warm {
			return f
		}
	}
	return nil
}

// Stable reports whether processes of the pool do not end by themselves soon after their start, as far as is known.
func (p *Pool) Stable() bool {
	p.total.mu.Lock()
	defer p.total.mu.Unlock()
	return p.staysLocked()
}

// staysLocked reports whether processes of the pool do not end by themselves soon after their start, as far as is known.
func (p *Pool) staysLocked() bool {
	if p.backoff.failures == 0 {
		return true
	}
	for l := range p.total.leases {
		if l.pool == p && l.session && l.ready && !l.evicted && time.Since(l.started) >= goodLife {
			return true
		}
	}
	return false
}

// spareLocked gives a spare of a pool room, where there is some for which nobody waits.
func (t *Total) spareLocked(p *Pool) *Lease {
	w := &waiter{pool: p, session: true}
	isOwn := func(other *waiter) bool { return other.pool == p }
	if !t.hasRoomLocked(w) || t.Max > 0 && len(t.leases)+len(t.waiting) >= t.Max || slices.ContainsFunc(t.waiting, isOwn) {
		return nil
	}
	l := t.leaseLocked(w)
	l.spare = true
	return l
}

// takeSpare returns a spare for an initialize, and the answer to it, nil where there is none. A spare of something else than what is on
// disk now is nobody's.
func (p *Pool) takeSpare(params, onDisk string, initialize []byte, m *mcp.Message) (*Lease, []byte) {
	p.total.mu.Lock()
	defer p.total.mu.Unlock()
	p.ahead.used = time.Now()
	p.dropSparesLocked(func(s *spare) bool { return s.onDisk != onDisk })
	i := slices.IndexFunc(p.spares, func(s *spare) bool { return s.form == params && s.lease.unfit() == "" && !s.lease.conn.hasEnded() })
	if i < 0 {
		return nil, nil
	}
	s := p.spares[i]
	p.spares = slices.Delete(p.spares, i, i+1)
	s.lease.spare, s.lease.ahead = false, true
	s.lease.busy++
	return s.lease, underID(s.answer, initialize, m)
}

// keep makes a spare of the process of a start for which nobody waits, and reports whether it is one: it has answered with a result.
func (s *start) keep() bool {
	p, l := s.pool, s.lease
	p.total.mu.Lock()
	defer p.total.mu.Unlock()
	l.busy--
	l.since = time.Now()
	defer p.total.settleLocked()
	why := l.unfit()
	switch {
	case l.evicted:
	case !isGood(s.answer):
		p.forgetLocked(s.form) // or another one would be started when it has gone
		l.evictLocked()
	case s.behind && !p.hasFormLocked(s.form):
		l.evictLocked()
	case why != "":
		p.throwAwayLocked(l, why)
	default:
		if l.spare = true; !s.behind { // somebody wanted it
			p.ahead.used = l.since
		}
		p.spares = append(p.spares, &spare{lease: l, form: s.form, onDisk: s.onDisk, answer: s.answer})
		return true
	}
	return false
}

// hasFormLocked reports whether an initialize is one of those used last.
func (p *Pool) hasFormLocked(params string) bool {
	return slices.ContainsFunc(p.ahead.forms, func(f *form) bool { return f.params == params })
}

// isGood reports whether an answer to an initialize is a result.
func isGood(answer []byte) bool {
	var m mcp.Message
	return mcp.Scan(answer, &m) == nil && m.Kind == mcp.KindResult && !m.Loose
}

// isThrownAway ends a process that nobody may have any more, and reports false where somebody has it, or waits for it.
func (l *Lease) isThrownAway(why string) bool {
	t := l.pool.total
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.spare && !l.evicted {
		l.pool.throwAwayLocked(l, why)
	}
	return l.spare
}

// throwAwayLocked ends a process that has sent a request before anybody had it, or more than is kept. A server that soon does so has no
// spares: what it asks for may depend on when it is asked what, and who gets half of what it said is not told so.
func (p *Pool) throwAwayLocked(l *Lease, why string) {
	l.evictLocked()
	if why == saidTooMuch && time.Since(l.started) >= slowTalk {
		return
	}
	p.ahead.why = why
	if p.ahead.unfit++; p.ahead.unfit != maxUnfit {
		return
	}
	p.opts.Log.Warn("no process of a stdio server is started ahead any more", "upstream", p.opts.Name, "reason", why)
	p.dropSparesLocked(func(*spare) bool { return true })
}

// withoutSparesLocked says why there are no spares, though they are wanted; "" where there may be some.
func (p *Pool) withoutSparesLocked() string {
	switch {
	case p.opts.Warm == 0:
	case p.ahead.unfit >= maxUnfit:
		return p.ahead.why
	case !p.staysLocked():
		return "its processes end by themselves"
	}
	return ""
}
