package process

import (
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Process is one start of a server: its leader and all that descends from it.
type Process struct {
	spec    Spec
	id      uint64
	pid     int // known before Start returns
	started time.Time
	stdin   *os.File
	stdout  *os.File
	errors  *os.File // the read end of stderr's pipe
	stderr  *stderr
	cgroup  *cgroup // nil where it has none
	scope   *scope  // nil where it is in none of systemd's
	end     func()  // begins the ladder, where stdin is closed already

	stopping atomic.Bool
	dead     chan Exit     // the leader ended: one value
	empty    chan struct{} // closed: nothing is left of the start
	drained  chan struct{} // closed: what the leader wrote to stderr has been read
	done     chan struct{}
	gone     chan struct{}
	exit     Exit // read after done
}

// Stdin is the pipe to the server. Write deadlines work. It is closed by Stop and when the leader has ended.
func (p *Process) Stdin() *os.File { return p.stdin }

// Stdout is the pipe from the server. Read deadlines work. It is the caller's to close. After Done something may still be in it,
// and end of file comes only when nobody holds the other end any more.
func (p *Process) Stdout() *os.File { return p.stdout }

// PID is the leader's.
func (p *Process) PID() int { return p.pid }

// Name is the server's, as in Spec.
func (p *Process) Name() string { return p.spec.Name }

// Started is when the program began to run.
func (p *Process) Started() time.Time { return p.started }

// Done is closed when the leader has ended, within 100 ms. The rest of the start is ended then: SIGTERM, after 2 s SIGKILL.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit is how the leader ended. It is valid after Done.
func (p *Process) Exit() Exit {
	select {
	case <-p.done:
		return p.exit
	default:
		return Exit{}
	}
}

// Stderr returns the last 20 lines of it, at most 512 bytes each, the Spec's secrets masked. After Done all that the leader
// wrote is in it.
func (p *Process) Stderr() []string { return p.stderr.lines() }

// Stop closes stdin, and what is left after 2 s gets SIGTERM, 2 s later SIGKILL. It returns at once; Gone is closed when
// that has succeeded.
func (p *Process) Stop() {
	if p.stopping.CompareAndSwap(false, true) {
		p.stdin.Close()
		p.end()
	}
}

// Gone is closed when nothing is left of the start. A place that it took is free then. It comes after Done.
func (p *Process) Gone() <-chan struct{} { return p.gone }

// pipes are a process's ends, which the daemon gives away and closes.
type pipes struct{ stdin, stdout, stderr int }

func (e pipes) close() {
	for _, fd := range []int{e.stdin, e.stdout, e.stderr} {
		closeDescriptor(fd)
	}
}

// newProcess makes the pipes of a process that does not run yet, and the child's ends of them.
func newProcess(s Spec, id uint64, log *lineLog) (*Process, pipes, error) {
	p := &Process{
		spec: s, id: id, stderr: newStderr(log, s.Secrets), dead: make(chan Exit, 1),
		empty: make(chan struct{}), drained: make(chan struct{}), done: make(chan struct{}), gone: make(chan struct{}),
	}
	child := pipes{-1, -1, -1}
	var err error
	for _, pipe := range []struct {
		ours   **os.File
		theirs *int
		reads  bool // we do
	}{{&p.stdin, &child.stdin, false}, {&p.stdout, &child.stdout, true}, {&p.errors, &child.stderr, true}} {
		if *pipe.ours, *pipe.theirs, err = newPipe(pipe.reads); err != nil {
			p.closePipes()
			child.close()
			return nil, pipes{}, err
		}
	}
	return p, child, nil
}

func (p *Process) closePipes() {
	for _, f := range []*os.File{p.stdin, p.stdout, p.errors} {
		if f != nil {
			f.Close()
		}
	}
}

// run follows a process that has started to its end, and calls ended then.
func (p *Process) run(ended func()) {
	var all sync.WaitGroup
	p.stderr.pid = p.pid
	all.Go(p.readStderr)
	all.Go(func() { p.scope.follow(p.pid, p.done) })
	exit := <-p.dead
	exit.Memory = exit.mayBeMemory() && (p.cgroup.outOfMemory() || p.scope.outOfMemory()) // at once: a scope goes with its last process
	p.stdin.Close()
	_ = p.errors.SetReadDeadline(time.Now())
	<-p.drained
	exit.Life, exit.Limit = time.Since(p.started), p.spec.Memory
	p.exit = exit
	close(p.done)
	<-p.empty
	_ = p.errors.SetReadDeadline(time.Now()) // whoever holds it open still is none of ours
	all.Wait()
	p.errors.Close()
	p.cgroup.remove()
	ended()
	close(p.gone)
}

// readStderr reads stderr to its end. The first read deadline says that the leader has ended: what it wrote is in the pipe then, which
// somebody else may hold open. The second one is the end.
func (p *Process) readStderr() {
	goesOn := p.stderr.drain(p.errors) && p.errors.SetReadDeadline(time.Time{}) == nil && p.stderr.drainNow(p.errors)
	if !goesOn {
		p.stderr.end()
	}
	close(p.drained)
	if goesOn {
		p.stderr.drain(p.errors)
		p.stderr.end()
	}
}

// Usage is what all processes of a start take together.
type Usage struct {
	Processes int
	RSS       int64         // bytes; pages that several share count in each
	PSS       int64         // bytes; 0 where it was not asked for or cannot be read
	CPU       time.Duration // user and system time, what has ended and was waited for included
}
