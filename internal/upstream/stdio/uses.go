package stdio

import "time"

// State is what becomes of a process.
type State string

// The states of a process.
const (
	StateStarting State = "starting" // it has not answered its first message
	StateSpare    State = "spare"    // nobody has it yet
	StateBusy     State = "busy"     // a call, or a request of its own, is under way
	StateIdle     State = "idle"
	StateEnding   State = "ending" // nothing is sent to it any more
)

// States are all of them.
var States = []State{StateStarting, StateSpare, StateBusy, StateIdle, StateEnding}

// Use is one process of a Pool, and what it is for.
type Use struct {
	Process Process // nil: it does not run yet
	State   State
	Session bool      // it is for sessions; else for all modern agents
	Shared  bool      // several sessions may have it
	Holders int       // sessions that have it
	Unused  time.Time // since when no call, and no request of its own, is under way; zero: one is; a listen is no call
}

// Uses returns the processes of the pool, in no order.
func (p *Pool) Uses() (all []Use) {
	p.total.mu.Lock()
	defer p.total.mu.Unlock()
	for l := range p.total.leases {
		if l.pool != p {
			continue
		}
		u := Use{State: l.stateLocked(), Session: l.session, Shared: l.shared, Holders: l.holdersLocked()}
		if l.busy == l.listens {
			u.Unused = l.since
		}
		if l.conn != nil {
			u.Process = l.conn.p
		}
		all = append(all, u)
	}
	return all
}

// EndUnused ends a process that no session has, unless somebody does more with it than listen. It reports whether that was so: nothing
// is sent to the process from then on, and its end is not counted as one that it made by itself.
func (p *Pool) EndUnused(process Process) bool {
	p.total.mu.Lock()
	defer p.total.mu.Unlock()
	for l := range p.total.leases {
		if l.pool != p || l.conn == nil || l.conn.p != process {
			continue
		}
		if l.evicted || l.holdersLocked() > 0 || l.busy != l.listens {
			return false
		}
		l.evictLocked()
		p.total.settleLocked()
		return true
	}
	return false
}

// holdersLocked returns how many sessions have the process.
func (l *Lease) holdersLocked() int {
	state := l.stateLocked()
	if l.session && !l.shared && (state == StateBusy || state == StateIdle) {
		return 1
	}
	return l.holders
}

func (l *Lease) stateLocked() State {
	switch {
	case l.evicted:
		return StateEnding
	case !l.ready:
		return StateStarting
	case l.spare:
		return StateSpare
	case l.busy > 0:
		return StateBusy
	}
	return StateIdle
}

// setReady notes that the process has answered its first message, and reports whether another one than before was on disk at its start.
// One that answers after another that was started later says nothing of what is there now.
func (l *Lease) setReady(onDisk string) (isOther bool) {
	p := l.pool
	p.total.mu.Lock()
	defer p.total.mu.Unlock()
	l.ready = true
	if onDisk == "" || l.number < p.newest { // it cannot be known, or the command is just being replaced
		return false
	}
	p.newest = l.number
	isOther = p.onDisk != "" && p.onDisk != onDisk
	p.onDisk = onDisk
	return isOther
}
