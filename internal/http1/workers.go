package http1

import "sync"

// maxIdleWorkers is how many workers without a request are kept.
const maxIdleWorkers = 64

// workers are goroutines on which requests run. A request leaves a deep stack behind; it is used by the next one, of whatever
// connection, and connections that wait have a small one. There is no bound: what a request waits for bounds them.
type workers struct {
	mu     sync.Mutex // guards the following
	idle   []chan *serverConn
	closed bool
}

// serve has the request of a connection served, whose head has been read.
func (w *workers) serve(c *serverConn) {
	w.mu.Lock()
	if n := len(w.idle); n > 0 {
		next := w.idle[n-1] // which was used last: its stack is warm
		w.idle = w.idle[:n-1]
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
		w.mu.Unlock()
		c = <-next
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
	w.idle = nil
}
