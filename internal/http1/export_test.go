package http1

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

// LookAtIdle is what the pool does by itself from time to time.
func (c *Client) LookAtIdle() { c.pool.closeIdle() }
