package http1

import "time"

// ParseHead reads a whole head.
func ParseHead(text string) error {
	var a Answer
	a.Header = a.fields[:0]
	return a.parse(text)
}

// LateCancel returns what the end of the call's context does, to be done when the call may be over.
func LateCancel(a *Answer) func() {
	c, use := a.conn, a.use
	return func() { c.cancel(use) }
}

// Asked returns how many calls' contexts are asked whether they have ended.
func (c *Client) Asked() int {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	return len(c.pool.callers)
}

// LookAtIdle is what the pool does by itself from time to time.
func (c *Client) LookAtIdle() { c.pool.closeIdle() }

// ParseRequest reads the head at the start of data. Taken: the request would be answered without net/http.
func ParseRequest(data string) (q *Inbound, length int, taken bool) {
	c := &serverConn{data: []byte(data)}
	if why, err := c.examine(); why != "" || err != nil || c.head == 0 {
		return nil, 0, false
	}
	q = &Inbound{conn: c}
	why, err := q.parse(data[:c.head], nil)
	return q, c.head, why == "" && err == nil
}

// Buffered reports whether a connection of the server has memory for what it reads.
func (s *Server) Buffered() bool {
	for _, c := range s.all() {
		if c.buf != nil || c.data != nil {
			return true
		}
	}
	return false
}

// Workers returns how many workers have no request.
func (s *Server) Workers() int {
	s.workers.mu.Lock()
	defer s.workers.mu.Unlock()
	return len(s.workers.idle)
}

// CloseIdleAfter is CloseIdle so much later.
func (s *Server) CloseIdleAfter(d time.Duration) {
	for _, c := range s.all() {
		c.closeIdle(s.now() + d)
	}
}

// Phases returns what the connections are at.
func (s *Server) Phases() (idle, reading, serving int) {
	for _, c := range s.all() {
		switch phaseOf(c.phase.Load()) {
		case phaseIdle:
			idle++
		case phaseReading:
			reading++
		case phaseServing:
			serving++
		}
	}
	return idle, reading, serving
}

// The times of CloseIdle.
const (
	IdleGrace    = idleGrace
	ReadingGrace = readingGrace
)
