package http1

import (
	"sync"
	"time"
)

const (
	maxIdleWorkers = 64          // how many without a request are kept
	workersEnd     = time.Second // and for how long those that nobody needed
)

// workers are goroutines on which requests run. A request leaves a deep stack behind; it is used by the next one, of whatever
// connection, and connections that wait have a small one. There is no bound: what a request waits for bounds them.
type workers struct {
	mu     sync.Mutex // guards the following
	idle   []chan *serverConn
	spare  int         // how many of them were needed at no time since the last look
	timer  *time.Timer // of the next look; nil: there is none
	closed bool
}

// serve has the request of a connection served, whose head has been read.
func (w *workers) serve(c *serverConn) {
	w.mu.Lock()
	if n := len(w.idle); n > 0 {
		next := w.idle[n-1] // which was used last: its stack is warm
		w.idle = w.idle[:n-1]
		w.spare = min(w.spare, n-1)
		w.mu.Unlock()
		next <- c
		return
	}
	w.mu.Unlock()
	go w.run(c)
}

// run serves one connection after another.
func (w *workers) run(c *serverConn) {
	next := make(chan *serverConn, 1)
	for c != nil {
		c.serve()
		w.mu.Lock()
		if w.closed || len(w.idle) == maxIdleWorkers {
			w.mu.Unlock()
			return
		}
		w.idle = append(w.idle, next)
		if w.timer == nil {
			w.spare = 0
			w.timer = time.AfterFunc(workersEnd, w.look)
		}
		w.mu.Unlock()
		c = <-next
	}
}

// look ends the workers that were not needed since the last look, and comes again as long as there are some: one that is quiet has none.
func (w *workers) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, next := range w.idle[:w.spare] { // those that were used longest ago
		close(next)
	}
	w.idle = append(w.idle[:0], w.idle[w.spare:]...)
	w.spare = len(w.idle)
	w.timer = nil
	if len(w.idle) > 0 && !w.closed {
		w.timer = time.AfterFunc(workersEnd, w.look)
	}
}

// close ends the workers that have no request, and the others when theirs has ended.
func (w *workers) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for _, next := range w.idle {
		close(next)
	}
	w.idle, w.spare = nil, 0
	if w.timer != nil {
		w.timer.Stop()
	}
}
