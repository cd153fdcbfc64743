package http1

import (
	"cmp"
	"os"
	"sync"
	"syscall"
)

// watcher sees that agents leave: that they close a connection, or their direction of it, while nobody reads from it. It has
// an epoll instance of its own, which is in Go's, so that no thread waits for it. A connection is registered once; the kernel
// forgets it when it is closed.
type watcher struct {
	file  *os.File
	raw   syscall.RawConn
	ended chan struct{}

	mu    sync.Mutex // guards the following
	slots []slot
	free  []uint32 // slots without a connection
}

// slot is a place for a connection. Events carry its number and its use: one that comes late, of a connection that was closed, is
// not taken for the next one's.
type slot struct {
	conn *serverConn
	use  uint32
}

func newWatcher() (*watcher, error) {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	if err := syscall.SetNonblock(fd, true); err != nil { // what has Go wait for it by its own
		_ = syscall.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	w := &watcher{file: os.NewFile(uintptr(fd), "epoll"), ended: make(chan struct{})}
	if w.raw, err = w.file.SyscallConn(); err != nil {
		_ = w.file.Close()
		return nil, err
	}
	go w.run()
	return w, nil
}

// run waits for events until the watcher is closed.
func (w *watcher) run() {
	defer close(w.ended)
	var events [64]syscall.EpollEvent
	_ = w.raw.Read(func(fd uintptr) bool {
		for {
			n, err := syscall.EpollWait(int(fd), events[:], 0)
			if err == syscall.EINTR {
				continue
			}
			for _, e := range events[:max(n, 0)] {
				if c := w.at(uint32(e.Fd), uint32(e.Pad)); c != nil {
					c.left()
				}
			}
			if n < len(events) {
				return false // and is called again when there are more
			}
		}
	})
}

// at returns the connection that an event is of, nil if it was closed.
func (w *watcher) at(number, use uint32) *serverConn {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.slots[number]; s.use == use {
		return s.conn
	}
	return nil
}

// add registers a connection, once.
func (w *watcher) add(c *serverConn) error {
	number, use := w.take(c)
	var failed error
	// Edges: what stays true, since an agent does not come back, is told once. EPOLLERR and EPOLLHUP are told of always.
	event := syscall.EpollEvent{Events: syscall.EPOLLRDHUP | 1<<31, Fd: int32(number), Pad: int32(use)} // 1<<31 is EPOLLET, which syscall has as a negative number
	err := c.raw.Control(func(fd uintptr) {
		closed := w.raw.Control(func(own uintptr) { failed = syscall.EpollCtl(int(own), syscall.EPOLL_CTL_ADD, int(fd), &event) })
		failed = cmp.Or(closed, failed)
	})
	if err = cmp.Or(err, failed); err != nil {
		w.remove(c)
	}
	return err
}

func (w *watcher) take(c *serverConn) (number, use uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.free); n > 0 {
		number = w.free[n-1]
		w.free = w.free[:n-1]
	} else {
		number = uint32(len(w.slots))
		w.slots = append(w.slots, slot{})
	}
	w.slots[number].conn = c
	c.slot = number + 1
	return number, w.slots[number].use
}

// remove frees the place of a connection that is closed.
func (w *watcher) remove(c *serverConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.slot == 0 {
		return
	}
	s := &w.slots[c.slot-1]
	s.conn = nil
	s.use++
	w.free = append(w.free, c.slot-1)
	c.slot = 0
}

// close ends the watch over all connections.
func (w *watcher) close() {
	_ = w.file.Close() // whoever waits for it is woken
	<-w.ended
}
