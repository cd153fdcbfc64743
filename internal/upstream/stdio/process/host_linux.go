package process

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"fluentd-perf/internal/upstream/stdio/guard"
)

// sendTimeout bounds how long a guard that does not read is waited for.
const sendTimeout = 10 * time.Second

// host is the daemon's side of the guards: one at a time that takes starts, and those before it until nothing is left of them.
type host struct {
	guard *Guard

	mu     sync.Mutex // guards the following
	link   *link      // nil: the next start begins another
	closed bool
	all    sync.WaitGroup
}

// link is the connection to one guard.
type link struct {
	host *host
	mark string
	cmd  *exec.Cmd
	conn *net.UnixConn

	mu      sync.Mutex // guards the following
	closing bool       // the guard was asked to end
	lost    bool       // it has ended
	waiting map[uint64]*pending
	live    map[uint64]*child
}

// pending is a start that the guard has not answered.
type pending struct {
	process *Process
	answer  chan error // one value
	left    bool       // nobody waits any more
}

// child is a process that is not gone.
type child struct {
	process *Process
	pidfd   int // -1 where the system has none
	exited  bool
}

// start has the guard run a command.
func (h *host) start(ctx context.Context, p *Process, r resolved, ends pipes) error {
	l, err := h.current()
	if err != nil {
		return err
	}
	file, err := launchFile(guard.Launch{
		Path: r.path, Dir: r.Dir, Argv: r.argv(), Env: withMark(r.Env, guard.Mark(l.mark, p.id)),
	})
	if err != nil {
		return err
	}
	defer file.Close()
	one := &pending{process: p, answer: make(chan error, 1)}
	if !l.expect(one) {
		return ErrGuardLost
	}
	fds := []int{int(file.Fd()), ends.stdin, ends.stdout, ends.stderr}
	if fd := p.cgroup.descriptor(); fd >= 0 {
		fds = append(fds, fd)
	}
	if err := l.send(guard.Message{Op: guard.OpStart, ID: p.id}, fds...); err != nil {
		l.leave(one)
		return err
	}
	return l.await(ctx, one)
}

// launchFile returns a memfd with the launch in it. The caller closes it.
func launchFile(l guard.Launch) (*os.File, error) {
	fd, err := unix.MemfdCreate("launch", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), "launch")
	if _, err := f.Write(l.Encode()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// withMark returns the environment with the mark first, where it is found soonest, and no other.
func withMark(env []string, mark string) []string {
	marked := append(make([]string, 0, len(env)+1), mark)
	for _, variable := range env {
		if !strings.HasPrefix(variable, guard.MarkName+"=") {
			marked = append(marked, variable)
		}
	}
	return marked
}

// current returns the link to a guard that lives, as far as is known.
func (h *host) current() (*link, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	if h.link != nil {
		return h.link, nil
	}
	l, err := h.launch()
	if err != nil {
		return nil, fmt.Errorf("starting the process that guards the servers: %w", err)
	}
	h.link = l
	h.all.Go(l.receive)
	return l, nil
}

// launch starts a guard.
func (h *host) launch() (*link, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "guard"), os.NewFile(uintptr(fds[1]), "guard")
	defer ours.Close() // net.FileConn has a copy
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, err
	}
	var random [16]byte
	_, _ = rand.Read(random[:]) // it never fails
	mark := hex.EncodeToString(random[:])
	ends := h.guard.ladder
	cmd := &exec.Cmd{
		Path: h.guard.program,
		Args: guard.Arguments(mark, ends.eof, ends.term, ends.last), Env: guard.Environment(), Dir: "/", ExtraFiles: []*os.File{theirs},
		Stderr:      newStderr(&lineLog{name: "the guard of the servers", log: h.guard.log}, nil),
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := cmd.Start(); err != nil {
		conn.Close()
		return nil, err
	}
	return &link{
		host: h, mark: mark, cmd: cmd, conn: conn.(*net.UnixConn),
		waiting: map[uint64]*pending{}, live: map[uint64]*child{},
	}, nil
}

// close lets the guard end what is left, and waits until that and the guard are gone.
func (h *host) close() {
	h.mu.Lock()
	h.closed = true
	l := h.link
	h.mu.Unlock()
	if l != nil {
		l.mu.Lock()
		l.closing = true
		l.mu.Unlock()
		_ = l.conn.CloseWrite()
	}
	h.all.Wait()
}

// expect counts a start among those that will be answered; false where the guard has ended.
func (l *link) expect(one *pending) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost {
		return false
	}
	l.waiting[one.process.id] = one
	l.host.guard.all.Add(1) // until the answer, which may come after the caller has left
	return true
}

func (l *link) await(ctx context.Context, one *pending) error {
	select {
	case err := <-one.answer:
		return err
	case <-ctx.Done():
	}
	l.leave(one)
	select {
	case err := <-one.answer: // it came before that
		return err
	default:
		return ctx.Err()
	}
}

// leave says that nobody waits for a start any more: if it comes, it is stopped.
func (l *link) leave(one *pending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	one.left = true
}

// send sends a message, with descriptors beside it, which stay the caller's.
func (l *link) send(m guard.Message, fds ...int) error {
	_ = l.conn.SetWriteDeadline(time.Now().Add(sendTimeout))
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	if _, _, err := l.conn.WriteMsgUnix(m.Encode(), rights, nil); err != nil {
		return ErrGuardLost
	}
	return nil
}

// receive reads what the guard says, to its end.
func (l *link) receive() {
	defer l.conn.Close()
	buf, oob := make([]byte, guard.MessageSize+1), make([]byte, unix.CmsgSpace(guard.MaxDescriptors*4))
	for {
		n, oobn, _, _, err := l.conn.ReadMsgUnix(buf, oob)
		if err != nil {
			break
		}
		m, err := guard.DecodeMessage(buf[:n])
		if err != nil {
			break
		}
		l.handle(m, guard.Descriptors(oob[:oobn]))
	}
	l.end()
}

func (l *link) handle(m guard.Message, fds []int) {
	switch m.Op {
	case guard.OpStarted:
		l.started(m, fds)
	case guard.OpFailed:
		l.answer(m.ID, commandError(l.command(m.ID), syscall.Errno(m.Value)))
	case guard.OpExited:
		l.exited(m.ID, Exit{Code: int(m.Value), Signal: syscall.Signal(m.Signal)})
	case guard.OpNotRun:
		l.exited(m.ID, Exit{Code: int(m.Value), NotRun: true})
	case guard.OpGone:
		l.gone(m.ID)
	}
}

func (l *link) command(id uint64) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if one := l.waiting[id]; one != nil {
		return one.process.spec.Command[0]
	}
	return ""
}

func (l *link) started(m guard.Message, fds []int) {
	l.mu.Lock()
	one := l.waiting[m.ID] // it is there until it is answered
	c := &child{process: one.process, pidfd: -1}
	if len(fds) > 0 {
		c.pidfd = fds[0]
	}
	l.live[m.ID] = c
	p := one.process
	p.pid, p.end = int(m.Value), func() { _ = l.send(guard.Message{Op: guard.OpStop, ID: p.id}) } // where that fails, end does it
	l.mu.Unlock()
	p.cgroup.add(p.pid)
	l.host.guard.follow(p)
	if l.answer(m.ID, nil) {
		p.Stop()
	}
}

// answer ends the waiting for a start, and reports whether nobody waited any more.
func (l *link) answer(id uint64, err error) (left bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	one := l.waiting[id]
	delete(l.waiting, id)
	if one == nil {
		return false
	}
	one.answer <- err
	l.host.guard.all.Done() // what has started is followed already
	return one.left
}

func (l *link) exited(id uint64, exit Exit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.live[id]; c != nil && !c.exited {
		c.exited = true
		exit.NotRun = exit.NotRun && c.process.scope != nil
		if exit.NotRun {
			l.host.guard.noteNotRun()
		}
		c.process.dead <- exit
	}
}

func (l *link) gone(id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c := l.live[id]; c != nil {
		delete(l.live, id)
		closeDescriptor(c.pidfd)
		close(c.process.empty)
	}
}

// end is for when the guard has ended: asked to, it has left nothing. Else what it left is ended here.
func (l *link) end() {
	h := l.host
	h.mu.Lock()
	h.link = nil
	h.mu.Unlock()
	l.mu.Lock()
	l.lost = true
	closing, waiting := l.closing, l.waiting
	l.waiting = map[uint64]*pending{}
	l.mu.Unlock()
	if !closing {
		_ = l.cmd.Process.Kill() // where it only closed the socket
	}
	err := l.cmd.Wait()
	if !closing {
		h.guard.log.Error("the process that guards the servers ended; the servers are ended too", "error", err, "servers", len(l.ids()))
		l.endOrphans()
	}
	for _, one := range waiting {
		one.answer <- ErrGuardLost
		h.guard.all.Done()
	}
	for _, id := range l.ids() {
		l.exited(id, Exit{Code: -1, Lost: true})
		l.gone(id)
	}
}

func (l *link) ids() []uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	ids := make([]uint64, 0, len(l.live))
	for id := range l.live {
		ids = append(ids, id)
	}
	return slices.Sorted(slices.Values(ids))
}

// endOrphans ends what a guard left that was killed: SIGTERM, then SIGKILL until nothing is found.
func (l *link) endOrphans() {
	find := l.orphans(os.Geteuid())
	killAt := time.Now().Add(l.host.guard.ladder.last)
	for _, e := range find() {
		e.Signal(unix.SIGTERM)
	}
	for _, id := range l.ids() {
		l.exited(id, Exit{Code: -1, Lost: true})
	}
	timer := time.NewTimer(0)
	for {
		left := find()
		if len(left) == 0 {
			find() // what these had not reaped is the daemon's only now
			return
		}
		if !time.Now().Before(killAt) {
			for _, e := range left {
				e.Signal(unix.SIGKILL)
			}
		}
		timer.Reset(guard.PauseBetweenKills(killAt))
		<-timer.C
	}
}

// orphans returns what finds the processes of this guard's starts that are left and are that user's: one of another user's has copied
// the mark, or has a leader's number by chance. The leaders' numbers are good for that: they were not reaped before the guard ended, and
// a number is not given again while a group or a session has it. In a container the daemon may be the first process, whose children they
// are now: those that have ended it reaps, since nobody else does.
func (l *link) orphans(uid int) func() []guard.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	who := guard.Owners{Leaders: map[int]uint64{}, Mark: l.mark}
	for id, c := range l.live {
		who.Leaders[c.process.pid] = id
		if c.pidfd >= 0 {
			_ = unix.PidfdSendSignal(c.pidfd, unix.SIGKILL, nil, 0) // PR_SET_PDEATHSIG has sent the same
		}
	}
	known := map[int]uint64{} // pid to when it began: one that has ended shows no mark any more
	return func() (left []guard.Entry) {
		table, err := guard.ProcessTable(nil)
		if err != nil {
			return nil
		}
		who.Assign(table)
		for _, e := range table {
			switch {
			case !e.Owned && known[e.PID] != e.Began:
			case e.Zombie():
				if e.Parent == os.Getpid() {
					_, _ = unix.Wait4(e.PID, nil, unix.WNOHANG, nil)
				}
			case ownedBy(e.PID, uid):
				known[e.PID] = e.Began
				left = append(left, e)
			}
		}
		return left
	}
}

// ownedBy reports whether a process is a user's.
func ownedBy(pid, uid int) bool {
	var stat unix.Stat_t
	err := unix.Stat("/proc/"+strconv.Itoa(pid), &stat)
	return err == nil && int(stat.Uid) == uid
}

func closeDescriptor(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}

// pid is the guard's, -1 where there is none.
func (h *host) pid() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.link == nil {
		return -1
	}
	return h.link.cmd.Process.Pid
}
