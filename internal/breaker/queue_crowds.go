package breaker

// crowds knows which agents have the most calls waiting.
type crowds struct {
	of   []*agent // by number of calls that wait: a ring of the agents with as many
	most int      // the greatest number with agents
}

// count changes how many calls an agent has waiting by one.
func (q *queue) count(a *agent, by int) {
	if a.waiting > 0 {
		q.crowds.leave(a)
	}
	a.waiting += by
	q.waiting += by
	if a.waiting > 0 {
		q.crowds.join(a)
	}
	if by < 0 && q.crowds.of[q.crowds.most] == nil {
		q.crowds.most-- // whose number was the greatest has one less now
	}
}

// newestOfMost returns the call that gives way to one of the named agent when the queue is full: the newest of the agent
// with the most calls waiting, if those are more than the named one's would be with this call; else nil.
func (q *queue) newestOfMost(name string) *waiter {
	own := 1
	if a := q.find(name); a != nil {
		own += a.waiting
	}
	if q.crowds.most <= own {
		return nil
	}
	return q.crowds.of[q.crowds.most].last
}

func (c *crowds) join(a *agent) {
	for len(c.of) <= a.waiting {
		c.of = append(c.of, nil)
	}
	if head := c.of[a.waiting]; head != nil {
		a.prev, a.next = head.prev, head
		head.prev.next, head.prev = a, a
	} else {
		a.prev, a.next = a, a
		c.of[a.waiting] = a
	}
	c.most = max(c.most, a.waiting)
}

func (c *crowds) leave(a *agent) {
	switch {
	case a.next == a:
		c.of[a.waiting] = nil
	case c.of[a.waiting] == a:
		c.of[a.waiting] = a.next
	}
	a.prev.next, a.next.prev = a.next, a.prev
	a.prev, a.next = nil, nil
}
