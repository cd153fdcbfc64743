package process

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// scopeWatch notes for which starts in a scope of systemd's the kernel met the limit of memory. The cgroup of a scope is removed when
// its last process ends, so it is looked at while something happens there, which is before a process that is killed has ended, and again
// at the end. Where the service manager is quicker than both, nobody knows.
type scopeWatch struct {
	processes, cgroups string // where they are: /proc and /sys/fs/cgroup

	mu     sync.Mutex // guards the following
	notify *os.File   // an inotify instance, one for all scopes; nil before the first
	fd     int        // the same
	scopes map[int]*scope
	all    sync.WaitGroup
}

// scope is the cgroup of one start. All methods work on nil.
type scope struct {
	watch  *scopeWatch
	dir    atomic.Pointer[string] // nil until it is known
	killed atomic.Bool            // something was, for want of memory
}

func newScopeWatch() *scopeWatch {
	return &scopeWatch{processes: "/proc", cgroups: "/sys/fs/cgroup", scopes: map[int]*scope{}}
}

func (w *scopeWatch) new() *scope { return &scope{watch: w} }

// How often a process is asked whether it is in a scope yet.
const (
	firstAsked = 10 * time.Millisecond
	lastAsked  = time.Second
)

// follow finds the cgroup into which systemd-run moves a process, and watches it until done is closed.
func (s *scope) follow(pid int, done <-chan struct{}) {
	if s == nil {
		return
	}
	w := s.watch
	own, _ := unifiedPath(filepath.Join(w.processes, "self", "cgroup"))
	membership := filepath.Join(w.processes, strconv.Itoa(pid), "cgroup")
	timer, pause := time.NewTimer(firstAsked), firstAsked
	defer timer.Stop()
	for {
		if path, err := unifiedPath(membership); err == nil && path != own {
			dir := filepath.Join(w.cgroups, path)
			s.dir.Store(&dir)
			break
		}
		select {
		case <-done:
			return
		case <-timer.C:
			pause = min(2*pause, lastAsked)
			timer.Reset(pause)
		}
	}
	id, ok := w.add(s)
	if !ok {
		return
	}
	s.look() // what was before that
	<-done
	w.remove(id)
}

// look notes whether something was killed.
func (s *scope) look() {
	if dir := s.dir.Load(); dir != nil && killedForMemory(*dir) {
		s.killed.Store(true)
	}
}

// outOfMemory reports whether something was killed in it for want of memory, as far as that can be known.
func (s *scope) outOfMemory() bool {
	if s == nil {
		return false
	}
	s.look()
	return s.killed.Load()
}

// add watches a scope; false where that cannot be.
func (w *scopeWatch) add(s *scope) (id int, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.notify == nil {
		fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
		if err != nil {
			return 0, false
		}
		notify := os.NewFile(uintptr(fd), "inotify")
		w.fd, w.notify = fd, notify
		w.all.Go(func() { w.receive(notify) })
	}
	id, err := unix.InotifyAddWatch(w.fd, filepath.Join(*s.dir.Load(), memoryEvents), unix.IN_MODIFY)
	if err != nil {
		return 0, false
	}
	w.scopes[id] = s
	return id, true
}

func (w *scopeWatch) remove(id int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.scopes, id)
	if w.notify != nil {
		_, _ = unix.InotifyRmWatch(w.fd, uint32(id)) // it has gone with the cgroup perhaps
	}
}

// receive reads what happens in the scopes until close: see inotify(7).
func (w *scopeWatch) receive(notify *os.File) {
	buf := make([]byte, 4<<10)
	for {
		n, err := notify.Read(buf)
		if err != nil {
			return
		}
		for events := buf[:n]; len(events) >= unix.SizeofInotifyEvent; {
			id, name := binary.NativeEndian.Uint32(events), binary.NativeEndian.Uint32(events[12:])
			events = events[min(unix.SizeofInotifyEvent+int(name), len(events)):]
			w.mu.Lock()
			s := w.scopes[int(id)]
			w.mu.Unlock()
			if s != nil {
				s.look()
			}
		}
	}
}

// close ends the watch. No scope is followed any more.
func (w *scopeWatch) close() {
	w.mu.Lock()
	if w.notify != nil {
		w.notify.Close()
		w.notify = nil
	}
	w.mu.Unlock()
	w.all.Wait()
}
