package admission

import "container/heap"

// maxAgents is how many agents have a queue of their own; any more share one.
const maxAgents = 10_000

// waiter is one call that waits. Its fields are guarded by the gate's lock, but ready.
type waiter struct {
	agent      *agent
	prev, next *waiter // of the same agent
	cost       uint64
	result     result
	ready      chan struct{} // closed with a result
}

// end tells a waiter, which is out of the queue, what becomes of it.
func (w *waiter) end(r result) {
	w.result = r
	close(w.ready)
}

// agent is one agent's calls that wait, at least one. Once it has none it is forgotten: it has spent all credit then.
type agent struct {
	name        string
	first, last *waiter
	waiting     int

	since uint64 // the round after which it saves for its first call
	turn  uint64 // the round in which it has saved enough
	order uint64 // among those with a turn in the same round
	place [2]int // in the queue's heaps
}

// queue is who waits, and whose turn it is. It is a deficit round robin with a quantum of one, told the other way round: an
// agent whose first call costs n gets its turn n rounds after it began to save for it, and has spent all it had with that.
// So nobody needs to be visited before its turn; every operation takes at most the logarithm of the number of agents.
type queue struct {
	waiting int
	agents  map[string]*agent
	turns   agents // the one whose turn it is on top
	lengths agents // one with the most calls waiting on top
	round   uint64 // of the last turn
	order   uint64
}

func newQueue() queue {
	return queue{
		agents:  map[string]*agent{},
		turns:   agents{which: 0, less: func(a, b *agent) bool { return a.turn < b.turn || a.turn == b.turn && a.order < b.order }},
		lengths: agents{which: 1, less: func(a, b *agent) bool { return a.waiting > b.waiting }},
	}
}

// find returns the agent of a name, nil if it has no calls waiting.
func (q *queue) find(name string) *agent {
	if a := q.agents[name]; a != nil || len(q.agents) < maxAgents {
		return a
	}
	return q.agents[""] // the one whom those share for whom there was no room
}

// newestOfLongest returns the call that gives way to one of the named agent when the queue is full: the newest of the agent
// with the most calls waiting, if those are more than the named one's would be with this call; else nil.
func (q *queue) newestOfLongest(name string) *waiter {
	own := 1
	if a := q.find(name); a != nil {
		own += a.waiting
	}
	if q.waiting == 0 || q.lengths.list[0].waiting <= own {
		return nil
	}
	return q.lengths.list[0].last
}

// push puts a call behind the others of its agent.
func (q *queue) push(w *waiter, name string) {
	a := q.find(name)
	if a == nil {
		a = q.begin(name, w)
	} else {
		w.prev, a.last.next = a.last, w
	}
	a.last, w.agent = w, a
	q.count(a, +1)
}

// begin adds an agent with its first call.
func (q *queue) begin(name string, first *waiter) *agent {
	if len(q.agents) >= maxAgents {
		name = ""
	}
	a := &agent{name: name, first: first, since: q.round}
	q.agents[name] = a
	q.schedule(a)
	heap.Push(&q.turns, a)
	heap.Push(&q.lengths, a)
	return a
}

// pop takes out the call whose turn it is, nil if there is none.
func (q *queue) pop() *waiter {
	if q.waiting == 0 {
		return nil
	}
	a := q.turns.list[0]
	w := a.first
	q.round, a.since = a.turn, a.turn
	q.unlink(w)
	if a.first != nil {
		q.schedule(a)
		heap.Fix(&q.turns, 0)
	}
	return w
}

// remove takes out a call before its turn. What its agent has saved for it is kept for the next, but gives no second turn.
func (q *queue) remove(w *waiter) {
	a := w.agent
	first := a.first == w
	q.unlink(w)
	if first && a.first != nil {
		a.turn = max(a.since+a.first.cost, q.round)
		heap.Fix(&q.turns, a.place[q.turns.which])
	}
}

// schedule gives an agent its turn for its first call.
func (q *queue) schedule(a *agent) {
	a.turn, a.order = a.since+a.first.cost, q.order
	q.order++
}

// unlink takes a call out of its agent's list, and forgets an agent that has no other.
func (q *queue) unlink(w *waiter) {
	a := w.agent
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		a.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		a.last = w.prev
	}
	w.prev, w.next = nil, nil
	q.count(a, -1)
	if a.waiting == 0 {
		heap.Remove(&q.turns, a.place[q.turns.which])
		heap.Remove(&q.lengths, a.place[q.lengths.which])
		delete(q.agents, a.name)
	}
}

// count changes how many calls an agent has waiting by one.
func (q *queue) count(a *agent, by int) {
	a.waiting += by
	q.waiting += by
	heap.Fix(&q.lengths, a.place[q.lengths.which])
}

// agents is a heap of agents, each of which knows its place in it. It implements heap.Interface.
type agents struct {
	list  []*agent
	which int // of agent.place
	less  func(a, b *agent) bool
}

func (h *agents) Len() int           { return len(h.list) }
func (h *agents) Less(i, j int) bool { return h.less(h.list[i], h.list[j]) }

func (h *agents) Swap(i, j int) {
	h.list[i], h.list[j] = h.list[j], h.list[i]
	h.list[i].place[h.which], h.list[j].place[h.which] = i, j
}

func (h *agents) Push(x any) {
	a := x.(*agent)
	a.place[h.which] = len(h.list)
	h.list = append(h.list, a)
}

func (h *agents) Pop() any {
	last := len(h.list) - 1
	a := h.list[last]
	h.list[last] = nil
	h.list = h.list[:last]
	return a
}
