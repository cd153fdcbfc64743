package stdio

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

// PoolOptions are what a Pool needs; Name and Start are required. A zero field stands for its default.
type PoolOptions struct {
	Name        string // the configured name
	Start       Start
	StartBehind Start         // starts what nobody waits for, after all that somebody does; nil: Start
	OnDisk      func() string // what the command is on disk now: with another, a process that was started ahead is nobody's; nil: it never changes
	Total       *Total        // nil: one of its own

	// Started is told of each process that has answered its first message: in which time, and whether it was started ahead of
	// whoever needs it. nil: nobody is.
	Started func(p Process, took time.Duration, ahead bool)
	// Initialized is told of each process that has answered an initialize, once: its params, what was on disk before its start, the
	// response, raw. Failed is told of each start that failed for a session, or ahead of one. nil: nobody is.
	Initialized func(params []byte, onDisk string, answer []byte)
	Failed      func()
	// Replaced is told when what processes have said may not hold for the next one: one that an agent could have asked something has ended
	// by itself, or one has answered its first message that was started with something else on disk. Who waits for that process learns of
	// it later. It may take no lock that is held while the pool is called. nil: nobody is.
	Replaced func()
	Doing    func() string // what a Start does that has not returned, "" where there is nothing to say; nil: never

	Warm         int           // `processes.warm`: processes that are started ahead, for each of the initializes used last
	Max          int           // `processes.max`: processes of sessions, and spares; 16
	IdleTimeout  time.Duration // `processes.idle_timeout`: a process that nobody uses goes after it; 10 min
	QueueWait    time.Duration // `limits.queue_wait`: for room for a process; 10 s
	Handshake    time.Duration // `timeouts.handshake`: how long an agent waits for a start; 55 s
	FirstByte    time.Duration // `timeouts.first_byte`: how long a process may not read; 55 s
	StartTimeout time.Duration // `processes.start_timeout`: a start; 5 min
	LineLimit    int           // bytes of a message of the server's; 16 MiB

	Mask func(string) string // takes secrets out of what a server wrote, before it is logged; nil: there are none

	Base    context.Context // the daemon's; nil: context.Background
	Buffers *mcp.BufferPool // nil: one of its own
	Log     *slog.Logger    // nil: silent
}

func (o *PoolOptions) fill() {
	o.Total = cmp.Or(o.Total, new(Total))
	o.Max = cmp.Or(o.Max, 16)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 10*time.Minute)
	o.QueueWait = cmp.Or(o.QueueWait, 10*time.Second)
	o.Handshake = cmp.Or(o.Handshake, 55*time.Second)
	o.FirstByte = cmp.Or(o.FirstByte, 55*time.Second)
	o.StartTimeout = cmp.Or(o.StartTimeout, 5*time.Minute)
	o.LineLimit = cmp.Or(o.LineLimit, 16<<20)
	o.Buffers = cmp.Or(o.Buffers, new(mcp.BufferPool))
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Base == nil {
		o.Base = context.Background()
	}
	if o.Mask == nil {
		o.Mask = func(text string) string { return text }
	}
	if o.Started == nil {
		o.Started = func(Process, time.Duration, bool) {}
	}
	if o.Initialized == nil {
		o.Initialized = func([]byte, string, []byte) {}
	}
	if o.Failed == nil {
		o.Failed = func() {}
	}
	if o.Replaced == nil {
		o.Replaced = func() {}
	}
	if o.OnDisk == nil {
		o.OnDisk = func() string { return "" }
	}
	if o.StartBehind == nil {
		o.StartBehind = o.Start
	}
	if o.Doing == nil {
		o.Doing = func() string { return "" }
	}
}

// Pool is the processes of one entry. Make it with NewPool.
type Pool struct {
	opts  PoolOptions
	total *Total
	conns connOptions
	junk  junk
	base  context.Context // ends with Options.Base, or with Close
	stop  context.CancelFunc

	// Guarded by total.mu.
	closed  bool
	ahead   ahead
	spares  []*spare
	left    []*start       // that go on, for which nobody waits
	running sync.WaitGroup // starts and processes; none is added once closed
	backoff backoff
	starts  uint64 // so far
	newest  uint64 // the number of the latest start whose process has answered; 0: none has
	onDisk  string // at that start; "": it cannot be known
}

// NewPool makes a Pool. It is to be closed.
func NewPool(o PoolOptions) *Pool {
	o.fill()
	p := &Pool{opts: o, total: o.Total, junk: junk{name: o.Name, log: o.Log, mask: o.Mask}}
	p.conns = connOptions{limit: o.LineLimit, blocked: o.FirstByte, ids: mcp.NewIDs(), buffers: o.Buffers, junk: &p.junk}
	p.base, p.stop = context.WithCancel(o.Base)
	return p
}

// Close ends all processes and returns when nothing is left of them. No other is started after it.
func (p *Pool) Close() {
	p.total.mu.Lock()
	p.closed = true
	p.stop()
	for l := range p.total.leases {
		if l.pool == p {
			l.evictLocked()
		}
	}
	p.total.mu.Unlock()
	p.running.Wait()
}

// PoolStatus is what a Pool has at the moment.
type PoolStatus struct {
	Processes     int    `json:"processes"` // those that are starting or going included
	Spare         int    `json:"spare"`
	Used          int    `json:"used"`                    // by a session
	WithoutSpares string `json:"withoutSpares,omitempty"` // why there are none, though Options.Warm wants them; "": there may be some
	Junk          uint64 `json:"junk"`                    // lines on stdout that were no message, since the start
}

// Status returns the pool's numbers.
func (p *Pool) Status() PoolStatus {
	st := PoolStatus{Junk: p.junk.count()}
	p.total.mu.Lock()
	defer p.total.mu.Unlock()
	st.Spare, st.WithoutSpares = len(p.spares), p.withoutSparesLocked()
	for l := range p.total.leases {
		if l.pool != p {
			continue
		}
		st.Processes++
		if state := l.stateLocked(); l.session && (state == StateBusy || state == StateIdle) {
			st.Used++
		}
	}
	return st
}

// Open gives a session a process whose first message is its initialize, and the answer to that: the raw response, under the
// id of the initialize. other gets what the process sends and no request of the session's asked for; the process's reader
// calls it, and what it is given is its own. The Lease is entered once, by the caller.
//
// The start is the pool's own: where an agent does not wait for it, the process is kept for another session with the same
// initialize. With PoolOptions.Warm others are started behind.
func (p *Pool) Open(ctx context.Context, initialize []byte, m *mcp.Message, other func([]byte, *mcp.Message)) (*Lease, []byte, *mcp.Failure) {
	params, onDisk := string(m.Params.Of(initialize)), p.opts.OnDisk()
	l, answer := p.takeSpare(params, onDisk, initialize, m)
	var s *start
	if l == nil {
		if s = p.join(params, onDisk); s == nil { // one may have become a spare just now
			l, answer = p.takeSpare(params, onDisk, initialize, m)
		}
	}
	if l != nil {
		l.adopt(other)
		p.Use(initialize, m)
		return l, answer, nil
	}
	joined := s != nil
	if !joined {
		if f := p.refusal(); f != nil { // before another process gives way for this one
			return nil, nil, f
		}
		l, f := p.total.acquire(ctx, p, true)
		if f != nil {
			return nil, nil, f
		}
		s = p.newStart(l, initialize, m, onDisk)
		if !p.begin(s) {
			return nil, nil, mcp.Draining()
		}
	}
	if f := s.wait(ctx); f != nil {
		return nil, nil, f
	}
	s.lease.adopt(other)
	if joined {
		return s.lease, underID(s.answer, initialize, m), nil
	}
	return s.lease, s.answer, nil
}

// join returns a start with that form that goes on and for which nobody waits, nil where there is none: an agent that tries again
// must not begin another one beside it, of what takes long most of all. One whose turn comes after all others does not go on yet.
func (p *Pool) join(params, onDisk string) *start {
	p.total.mu.Lock()
	i := slices.IndexFunc(p.left, func(s *start) bool {
		return s.form == params && s.onDisk == onDisk && (!s.behind || s.lease.conn != nil)
	})
	if i < 0 {
		p.total.mu.Unlock()
		return nil
	}
	s := p.left[i]
	p.left = slices.Delete(p.left, i, i+1)
	p.total.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	p.total.mu.Lock()
	defer p.total.mu.Unlock()
	if s.over || s.lease.evicted { // just now: it is a spare, has failed, or gives way
		return nil
	}
	s.left, s.lease.spare = false, false // somebody waits for it: it gives way to nobody
	return s
}

// underID returns an answer to an initialize under the id of another one.
func underID(answer, initialize []byte, m *mcp.Message) []byte {
	var am mcp.Message
	if mcp.Scan(answer, &am) != nil {
		panic("stdio: an answer that was read cannot be read again (this is a bug)")
	}
	return am.Splice(nil, answer, am.ID, m.ID.Of(initialize))
}

// run runs f on a goroutine of the pool's, unless that is closed.
func (p *Pool) run(f func()) bool {
	p.total.mu.Lock()
	defer p.total.mu.Unlock()
	if p.closed {
		return false
	}
	p.running.Go(f)
	return true
}

// begin begins a start, unless the pool is closed.
func (p *Pool) begin(s *start) bool {
	if p.run(s.run) {
		return true
	}
	p.drop(s.lease)
	return false
}

// drop gives back the room of a lease of which nothing is left.
func (p *Pool) drop(l *Lease) {
	t := p.total
	t.mu.Lock()
	defer t.mu.Unlock()
	l.evicted = true
	delete(t.leases, l)
	close(l.gone)
	t.settleLocked()
}

// attend waits for the end of a process, and gives its room back when nothing is left of it.
func (p *Pool) attend(l *Lease, process Process) {
	<-l.conn.ended
	l.Release()
	<-process.Gone()
	_ = process.Stdout().Close()
	l.conn.running.Wait()
	p.drop(l)
	p.replenish() // there is room
}
