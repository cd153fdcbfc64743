package guard

import (
	"errors"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"
)

// name is the guard's argv[0]: how the binary knows what it is to be. A variable would reach servers that are this binary.
const name = "fluentd-perf-guard"

// socket is the guard's end of the socketpair.
const socket = 3

const (
	// idle is how long nothing happens before the program's pages are given back again: the runtime looks for garbage by itself.
	idle       = 10 * time.Second
	alwaysBusy = time.Millisecond // the shortest wait for what is due
)

// How often a start that ends is looked at.
const (
	firstLook = 10 * time.Millisecond
	lastLook  = 200 * time.Millisecond
)

// init runs the guard and does not return where this process was started as one. It is no function for main to call: by then all
// packages of the program have set themselves up, which takes the guard 5 MB and its first start 20 ms. The linker has those packages
// come first that need no others, in the order of their names (the Go specification, Program initialization), so this one comes before
// whatever is not of the standard library as long as that alone is imported here, and little of it.
func init() {
	if len(os.Args) == 0 || os.Args[0] != name {
		return
	}
	if err := run(os.Args[1:]); err != nil {
		_, _ = os.Stderr.WriteString("guard: " + err.Error() + "\n")
		syscall.Exit(1)
	}
	syscall.Exit(0) // at once: os.Exit would take a second under the race detector
}

// stage is how far the end of a start has come.
type stage int

const (
	running  stage = iota
	closing        // stdin was closed; SIGTERM is next
	terming        // SIGTERM was sent; SIGKILL is next
	killing        // SIGKILL was sent, and is again
	finished       // nothing is left
)

// start is one of the guard's children and all that descends from it. Its leader is reaped last: its pid, its group's and its
// session's number cannot be given to others before.
type start struct {
	id    uint64
	pid   int
	dead  bool // the leader is a zombie
	stage stage
	until time.Time     // when the next stage begins, except in running and killing
	look  time.Time     // when it is looked at next, where not zero
	pause time.Duration // between looks
}

// guardian is the guard: one goroutine owns all of it.
type guardian struct {
	self      int
	mark      string
	eof       time.Duration // from end of file on stdin to SIGTERM
	term      time.Duration // from SIGTERM to SIGKILL
	last      time.Duration // from SIGTERM to SIGKILL where the daemon is gone
	unwritten []mapping
	oom       oomScore
	starts    map[uint64]*start
	sweep     time.Time // when strays are looked for again, where not zero
	table     []Entry   // room for the process table
	requests  chan request
	children  chan os.Signal
}

// request is a message with what came beside it.
type request struct {
	Message
	fds []int
}

// run serves until the socketpair is closed, and returns when nothing is left.
func run(args []string) error {
	runtime.LockOSThread() // PR_SET_PDEATHSIG of the children is about this thread
	g, err := newGuardian(args)
	if err != nil {
		return err
	}
	if err := g.becomeGuard(); err != nil {
		return err
	}
	g.giveBackFile() // what the start of the whole program touched
	go g.receive()
	g.serve()
	g.endAll()
	return nil
}

func newGuardian(args []string) (*guardian, error) {
	if len(args) != 4 {
		return nil, errors.New("it is started by the daemon only")
	}
	g := &guardian{
		self: os.Getpid(), mark: args[0], unwritten: unwritten(), starts: map[uint64]*start{},
		requests: make(chan request), children: make(chan os.Signal, 1),
	}
	for i, d := range []*time.Duration{&g.eof, &g.term, &g.last} {
		var err error
		if *d, err = time.ParseDuration(args[i+1]); err != nil {
			return nil, err
		}
	}
	if kind, err := syscall.GetsockoptInt(socket, syscall.SOL_SOCKET, syscall.SO_TYPE); err != nil || kind != syscall.SOCK_SEQPACKET {
		return nil, errors.New("it is started by the daemon only")
	}
	return g, nil
}

// becomeGuard sets what the process keeps for its life, and what its children inherit.
func (g *guardian) becomeGuard() error {
	// Not ignored but received and forgotten: what is ignored would be ignored by the children too.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	signal.Notify(g.children, syscall.SIGCHLD)
	defaultSignals()
	// What the daemon inherited without the flag is not the children's either.
	if err := closeOnExec(socket); err != nil {
		syscall.CloseOnExec(socket) // before Linux 5.11
	}
	setName("fluentd-guard")
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return os.NewSyscallError("RLIMIT_CORE", err)
	}
	if err := prctl(prSetSubreaper, 1); err != nil {
		return os.NewSyscallError("PR_SET_CHILD_SUBREAPER", err)
	}
	g.oom = openOOMScore()
	return nil
}

// receive hands on what the daemon sends. It ends with the socketpair.
func (g *guardian) receive() {
	defer close(g.requests)
	buf, oob := make([]byte, MessageSize+1), make([]byte, syscall.CmsgSpace(MaxDescriptors*4))
	for {
		n, oobn, _, _, err := syscall.Recvmsg(socket, buf, oob, syscall.MSG_CMSG_CLOEXEC)
		if err == syscall.EINTR {
			continue
		}
		m, fault := DecodeMessage(buf[:max(n, 0)])
		if err != nil || fault != nil { // closed
			return
		}
		g.requests <- request{m, Descriptors(oob[:oobn])}
	}
}

// send tells the daemon. Where that is dead nobody needs to know.
func (g *guardian) send(m Message, fds ...int) {
	var rights []byte
	if len(fds) > 0 {
		rights = syscall.UnixRights(fds...)
	}
	for syscall.Sendmsg(socket, m.Encode(), rights, nil, syscall.MSG_NOSIGNAL) == syscall.EINTR {
	}
}

func (g *guardian) serve() {
	timer := time.NewTimer(idle)
	for {
		select {
		case r, ok := <-g.requests:
			if !ok {
				return
			}
			g.answer(r)
		case <-g.children:
			g.noteDead()
		case <-timer.C:
		}
		timer.Reset(g.advance(time.Now()))
		g.giveBackFile()
	}
}

func (g *guardian) answer(r request) {
	switch r.Op {
	case OpStart:
		g.start(r)
	case OpStop:
		if s := g.starts[r.ID]; s != nil && s.stage == running {
			s.enter(closing, g.eof, time.Now())
		}
	}
}

// start runs one command. Every descriptor that came with it is closed before the daemon hears of it.
func (g *guardian) start(r request) {
	pid, pidfd, err := g.spawn(r.fds)
	for _, fd := range r.fds {
		syscall.Close(fd)
	}
	if err != nil {
		errno, ok := err.(syscall.Errno)
		if !ok {
			errno = syscall.EPROTO
		}
		g.send(Message{Op: OpFailed, ID: r.ID, Value: int32(errno)})
		return
	}
	g.starts[r.ID] = &start{id: r.ID, pid: pid}
	if pidfd < 0 { // before Linux 5.2
		g.send(Message{Op: OpStarted, ID: r.ID, Value: int32(pid)})
		return
	}
	g.send(Message{Op: OpStarted, ID: r.ID, Value: int32(pid)}, pidfd)
	syscall.Close(pidfd)
}

// spawn makes the child. It returns when the program runs, or cannot.
func (g *guardian) spawn(fds []int) (pid, pidfd int, err error) {
	if len(fds) < 4 {
		return 0, -1, syscall.EPROTO
	}
	l, err := readLaunch(fds[0])
	if err != nil {
		return 0, -1, err
	}
	attr := &syscall.ProcAttr{
		Dir: l.Dir, Env: l.Env, Files: []uintptr{uintptr(fds[1]), uintptr(fds[2]), uintptr(fds[3])},
		Sys: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL, PidFD: &pidfd},
	}
	if len(fds) > 4 {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, fds[4]
	}
	// The child begins with the score, so that what it forks at once has it as well.
	g.oom.raise()
	defer g.oom.restore()
	pid, _, err = syscall.StartProcess(l.Path, l.Argv, attr)
	return pid, pidfd, err
}

// noteDead finds the leaders that have ended, and reaps whoever else has.
func (g *guardian) noteDead() {
	for _, s := range g.starts {
		if !s.dead {
			g.noteLeader(s)
		}
	}
	for {
		child, err := waitID(pAll, 0, wexited|syscall.WNOHANG|wnowait)
		if err != nil || child.pid == 0 || g.leads(int(child.pid)) {
			return // one that hides behind a dead leader is reaped when that is looked at
		}
		g.reap(int(child.pid))
	}
}

// noteLeader reports a leader's end. It stays a zombie, so that its group can be signalled.
func (g *guardian) noteLeader(s *start) {
	child, err := waitID(pPID, s.pid, wexited|syscall.WNOHANG|wnowait)
	if err != nil || child.pid == 0 {
		return
	}
	m := Message{Op: OpExited, ID: s.id, Value: child.status}
	switch {
	case child.code != exitedNormally:
		m.Value, m.Signal = -1, child.status
	case isCalled(s.pid, ScopeProgram):
		m.Op = OpNotRun
	}
	g.send(m)
	s.dead = true
	if s.stage < terming { // what is left has no more to wait for
		s.stage, s.until = closing, time.Now()
	}
	s.pause, s.look = firstLook, time.Now()
}

func (g *guardian) leads(pid int) bool {
	for _, s := range g.starts {
		if s.pid == pid {
			return true
		}
	}
	return false
}

// reap reports whether the child is no more.
func (g *guardian) reap(pid int) bool {
	got, err := syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
	return got == pid || err == syscall.ECHILD
}

// advance ends what is to be ended by now, and returns how long nothing is to be done.
func (g *guardian) advance(now time.Time) time.Duration {
	due := !g.sweep.IsZero() && !g.sweep.After(now)
	for _, s := range g.starts {
		due = due || s.due(now)
	}
	if due {
		g.look(now)
	}
	next := g.sweep
	for _, s := range g.starts {
		if at := s.next(); !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	if next.IsZero() {
		return idle
	}
	return max(time.Until(next), alwaysBusy)
}

// look reads the process table once and takes every start that is due a step on.
func (g *guardian) look(now time.Time) {
	table := g.read()
	for _, s := range g.starts {
		if s.due(now) {
			g.step(s, table, now)
		}
	}
	g.sweep = time.Time{}
	for i := range table {
		// A stray is ended when nobody is left whose it could be, and looked for again: it may fork meanwhile.
		if e := &table[i]; e.Owned && e.Owner == strays && !e.Zombie() && len(g.starts) == 0 {
			e.Signal(syscall.SIGKILL)
			g.sweep = now.Add(firstLook)
		}
	}
}

// read returns the process table with whose the guard's descendants are, and reaps those children that nobody else does. It is nil
// where there is no process table, and valid until the next time.
func (g *guardian) read() []Entry {
	table, err := ProcessTable(g.table)
	if err != nil {
		return nil
	}
	leaders := make(map[int]uint64, len(g.starts))
	for _, s := range g.starts {
		leaders[s.pid] = s.id
	}
	g.table = slices.DeleteFunc(table, func(e Entry) bool {
		return e.Parent == g.self && e.Zombie() && leaders[e.PID] == 0 && g.reap(e.PID)
	})
	Owners{leaders, g.mark, g.self}.Assign(g.table)
	return g.table
}

// step looks what is left of a start, and ends it as far as its stage says.
func (g *guardian) step(s *start, table []Entry, now time.Time) {
	if table == nil { // the group is what is known
		_ = syscall.Kill(-s.pid, syscall.SIGKILL)
	}
	var left []*Entry
	for i := range table {
		e := &table[i]
		if e.Owned && e.PID != s.pid && (e.Owner == s.id || e.Owner == dying) { // the next look sees less of the dying
			left = append(left, e)
		}
	}
	if s.dead && len(left) == 0 && g.reap(s.pid) {
		delete(g.starts, s.id)
		g.send(Message{Op: OpGone, ID: s.id})
		return
	}
	s.look = now.Add(s.pause)
	s.pause = min(s.pause*2, lastLook)
	switch {
	case s.stage == closing && !now.Before(s.until):
		s.enter(terming, g.term, now)
		s.signal(left, syscall.SIGTERM)
	case s.stage == terming && !now.Before(s.until):
		s.enter(killing, 0, now)
		s.signal(left, syscall.SIGKILL)
	case s.stage == killing:
		s.signal(left, syscall.SIGKILL)
	}
}

// signal reaches the whole group at once, what it forks at the moment included, and the others one by one.
func (s *start) signal(left []*Entry, sig syscall.Signal) {
	_ = syscall.Kill(-s.pid, sig)
	for _, e := range left {
		if e.Group != s.pid {
			e.Signal(sig)
		}
	}
}

// enter begins a stage.
func (s *start) enter(to stage, lasts time.Duration, now time.Time) {
	s.stage, s.until, s.pause, s.look = to, now.Add(lasts), firstLook, time.Time{}
	if s.dead || to == killing {
		s.look = now.Add(firstLook)
	}
}

// due reports whether the start is to be looked at.
func (s *start) due(now time.Time) bool {
	at := s.next()
	return !at.IsZero() && !at.After(now)
}

// next is when it is to be looked at, zero for not before something happens.
func (s *start) next() time.Time {
	switch {
	case s.stage == running:
		return time.Time{}
	case s.stage == killing:
		return s.look
	case !s.look.IsZero() && s.look.Before(s.until):
		return s.look
	}
	return s.until
}

// endAll ends every descendant: the daemon is gone, or wants the guard to go. It returns when there is none.
func (g *guardian) endAll() {
	killAt := time.Now().Add(g.last)
	timer := time.NewTimer(0)
	for sig := syscall.SIGTERM; ; sig = 0 {
		if !time.Now().Before(killAt) {
			sig = syscall.SIGKILL
		}
		if sig != 0 {
			g.signalAll(sig)
		}
		if g.reapAll() {
			return
		}
		timer.Reset(PauseBetweenKills(killAt))
		select {
		case <-g.children:
		case <-timer.C:
		}
	}
}

// PauseBetweenKills is how long to wait before SIGKILL is sent again, since killAt. It is short as long as somebody may still fork, and long when the kernel holds who does not end.
func PauseBetweenKills(killAt time.Time) time.Duration {
	if time.Since(killAt) > 2*time.Second {
		return time.Second
	}
	return 20 * time.Millisecond
}

func (g *guardian) signalAll(sig syscall.Signal) {
	table := g.read()
	for _, s := range g.starts { // whose leader is not reaped: reapAll forgets the others
		_ = syscall.Kill(-s.pid, sig)
	}
	for i := range table {
		e := &table[i]
		if s := g.starts[e.Owner]; e.Owned && !e.Zombie() && (s == nil || e.Group != s.pid) {
			e.Signal(sig)
		}
	}
}

// reapAll reaps whoever has ended and reports whether no descendant is left.
func (g *guardian) reapAll() bool {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil: // ECHILD
			return true
		case pid == 0:
			return false
		}
		for id, s := range g.starts {
			if s.pid == pid {
				delete(g.starts, id)
				g.reportEnd(s, status)
			}
		}
	}
}

// reportEnd tells how a leader ended, where noteLeader has not.
func (g *guardian) reportEnd(s *start, status syscall.WaitStatus) {
	if s.dead {
		return
	}
	m := Message{Op: OpExited, ID: s.id, Value: int32(status.ExitStatus())}
	if status.Signaled() {
		m.Signal = int32(status.Signal())
	}
	g.send(m)
}

// oomScore is the guard's own /proc/self/oom_score_adj.
type oomScore struct {
	fd           int
	low, highest string
}

// ServerOOMScore is added to the daemon's score for the servers: they go first.
const ServerOOMScore = 300

func openOOMScore() oomScore {
	fd, err := syscall.Open("/proc/self/oom_score_adj", syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return oomScore{fd: -1}
	}
	var buf [16]byte
	n, _ := syscall.Pread(fd, buf[:], 0)
	own, err := strconv.Atoi(string(trimNewline(buf[:max(n, 0)])))
	if err != nil {
		syscall.Close(fd)
		return oomScore{fd: -1}
	}
	return oomScore{fd, strconv.Itoa(own), strconv.Itoa(min(own+ServerOOMScore, 1000))}
}

func trimNewline(b []byte) []byte {
	if n := len(b); n > 0 && b[n-1] == '\n' {
		return b[:n-1]
	}
	return b
}

func (o oomScore) raise()   { _, _ = syscall.Pwrite(o.fd, []byte(o.highest), 0) }
func (o oomScore) restore() { _, _ = syscall.Pwrite(o.fd, []byte(o.low), 0) }
