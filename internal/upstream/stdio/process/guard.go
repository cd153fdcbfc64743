package process

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Options are a Guard's. The zero value is silent and makes no cgroups.
type Options struct {
	Log *slog.Logger
	// Cgroup is the directory in which each start with a limit gets a cgroup (v2) of its own. It must be delegated to this user
	// with its memory and pids controllers, and hold no process itself. Empty: no limits.
	Cgroup string
	// Scopes has systemd-run start what has a limit, where Cgroup is empty and that works.
	Scopes bool
}

// ladder is how long an end may take.
type ladder struct {
	eof  time.Duration // from end of file on stdin to SIGTERM
	term time.Duration // from SIGTERM to SIGKILL
	last time.Duration // from SIGTERM to SIGKILL where the daemon or the guard is gone
}

var usualLadder = ladder{eof: 2 * time.Second, term: 2 * time.Second, last: 500 * time.Millisecond}

// Guard starts processes and ends them. All methods may be called at the same time.
type Guard struct {
	log     *slog.Logger
	cgroup  string
	scopes  bool // Options.Scopes
	ladder  ladder
	program string // that is the guard
	host    host   // what does it on this system

	watch *scopeWatch

	scopeTimeout time.Duration   // scopeTimeout, but for tests
	base         context.Context // of what Close does not wait for
	stop         context.CancelFunc

	mu      sync.Mutex // guards the following
	closed  bool
	try     *scopeTry // the last one; nil: there was none, or another is due
	noScope bool      // it failed
	lastID  uint64
	running map[uint64]*Process // until they are gone
	logs    map[string]*lineLog // by server; as many as were ever configured
	all     sync.WaitGroup      // goroutines of running, and starts until their answer, also those for which nobody waits
}

// NewGuard returns a Guard. It starts no process before the first Start.
func NewGuard(o Options) *Guard { return newGuard(o, usualLadder) }

func newGuard(o Options, l ladder) *Guard {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	g := &Guard{
		log: o.Log, cgroup: o.Cgroup, scopes: o.Scopes, ladder: l, program: "/proc/self/exe", // this very binary, even when its file was replaced
		watch: newScopeWatch(), scopeTimeout: scopeTimeout, running: map[uint64]*Process{}, logs: map[string]*lineLog{},
	}
	g.base, g.stop = context.WithCancel(context.Background())
	g.host.guard = g
	return g
}

// Start runs a command. When ctx ends first, what was started is stopped. Errors: *CommandError for what the next start would
// meet too; ErrClosed; ErrGuardLost; the context's; else the system's.
func (g *Guard) Start(ctx context.Context, s Spec) (*Process, error) {
	r, err := s.resolve()
	if err != nil {
		return nil, err
	}
	p, err := g.start(ctx, r)
	if err == ErrGuardLost { // it was asked for nothing yet, so that it began twice hurts nobody
		p, err = g.start(ctx, r)
	}
	return p, err
}

func (g *Guard) start(ctx context.Context, r resolved) (*Process, error) {
	id, log, err := g.reserve(r.Name)
	if err != nil {
		return nil, err
	}
	defer g.all.Done()
	how, err := g.limited(ctx, r)
	if err != nil {
		return nil, err
	}
	p, child, err := newProcess(r.Spec, id, log)
	if err != nil {
		return nil, err
	}
	defer child.close()
	if p.cgroup, err = newCgroup(g.cgroup, id, r.Memory, r.Tasks); err != nil {
		g.log.Warn("a server starts without limits", "upstream", r.Name, "error", err)
	}
	if how.scoped {
		p.scope = g.watch.new()
	}
	if err = g.host.start(ctx, p, how, child); err != nil {
		p.closePipes()
		p.cgroup.remove()
		return nil, withLack(err, how.path)
	}
	return p, nil
}

// reserve gives a start its id. The caller calls g.all.Done.
func (g *Guard) reserve(name string) (uint64, *lineLog, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return 0, nil, ErrClosed
	}
	g.lastID++
	g.all.Add(1)
	log := g.logs[name]
	if log == nil {
		log = &lineLog{name: name, log: g.log}
		g.logs[name] = log
	}
	return g.lastID, log, nil
}

// follow counts a process that runs among the running until it is gone.
func (g *Guard) follow(p *Process) {
	p.started = time.Now()
	g.mu.Lock()
	g.running[p.id] = p
	closed := g.closed
	g.all.Go(func() {
		p.run(func() {
			g.mu.Lock()
			defer g.mu.Unlock()
			delete(g.running, p.id)
		})
	})
	g.mu.Unlock()
	if closed { // Close has not seen it
		p.Stop()
	}
}

// Processes returns those that are not gone, in the order of their starts.
func (g *Guard) Processes() []*Process {
	g.mu.Lock()
	defer g.mu.Unlock()
	all := make([]*Process, 0, len(g.running))
	for _, p := range g.running {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b *Process) int { return int(a.id) - int(b.id) })
	return all
}

// DroppedLines returns how many lines of a server's stderr were not written to the log.
func (g *Guard) DroppedLines(name string) uint64 {
	g.mu.Lock()
	log := g.logs[name]
	g.mu.Unlock()
	if log == nil {
		return 0
	}
	return log.droppedLines()
}

// closeTimeout bounds how long Close waits for what does not end on SIGKILL: the kernel has it.
const closeTimeout = 5 * time.Second

// Close stops all processes and waits until they are gone. When ctx ends first, what is left gets SIGTERM and half a second
// later SIGKILL, and Close waits for that, up to 5 s.
func (g *Guard) Close(ctx context.Context) {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.stop()
	for _, p := range g.Processes() {
		p.Stop()
	}
	gone := make(chan struct{})
	go func() {
		g.all.Wait()
		close(gone)
	}()
	select {
	case <-gone:
	case <-ctx.Done():
	}
	closed := make(chan struct{})
	go func() {
		g.host.close()
		<-gone
		g.watch.close()
		close(closed)
	}()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-closed:
	case <-timer.C:
		if left := len(g.Processes()); left > 0 {
			g.log.Error("servers do not end, not even on SIGKILL", "servers", left)
		} else { // it ends by itself: nothing holds the other end of its pipe
			g.log.Warn("the guard of the servers' processes has not ended yet; all servers have", "waited", closeTimeout)
		}
	}
}
