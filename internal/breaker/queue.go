package breaker

import (
	"container/heap"
	"time"
)

// maxAgents is how many agents have a queue of their own; any more share one.
const maxAgents = 10_000

// waiter is one call that waits. Its fields are guarded by the admission's lock, but ready.
type waiter struct {
	agent      *agent
	prev, next *waiter // of the same agent
	cost       uint64
	since      time.Time
	verdict    verdict
	ready      chan struct{} // closed with a verdict
}

// end tells a waiter, which is out of the queue, what becomes of it.
func (w *waiter) end(v verdict) {
	w.verdict = v
	close(w.ready)
}

// agent is one agent's calls that wait, at least one. Once it has none it is forgotten: it owes nothing then and nothing is
// owed to it.
type agent struct {
	name        string
	first, last *waiter
	waiting     int

	since uint64 // the round after which it saves for its first call
	turn  uint64 // the round in which it has saved enough
	order uint64 // among those with a turn in the same round
	place int    // in the queue's turns

	prev, next *agent // among those with as many calls waiting
}

// queue is who waits, and whose turn it is. It is a deficit round robin with a quantum of one, told the other way round: an
// agent whose first call costs n gets its turn n rounds after it began to save for it, and has spent all it had with that.
// So nobody needs to be visited before its turn; every operation takes at most the logarithm of the number of agents.
type queue struct {
	waiting int
	agents  map[string]*agent
	turns   turns
	round   uint64 // of the last turn
	order   uint64
	crowds  crowds
}

func newQueue() queue { return queue{agents: map[string]*agent{}} }

// find returns the agent of a name, nil if it has no calls waiting.
func (q *queue) find(name string) *agent {
	if a := q.agents[name]; a != nil || len(q.agents) < maxAgents {
		return a
	}
	return q.agents[""] // the one whom those share for whom there was no room
}

// push puts a call behind the others of its agent.
func (q *queue) push(w *waiter, name string) {
	a := q.find(name)
	if a == nil {
		if len(q.agents) >= maxAgents {
			name = ""
		}
		a = &agent{name: name, since: q.round}
		q.agents[name] = a
	}
	w.agent, w.prev = a, a.last
	a.last = w
	q.count(a, +1)
	if w.prev != nil {
		w.prev.next = w
		return
	}
	a.first = w
	q.schedule(a)
	heap.Push(&q.turns, a)
}

// pop takes out the call whose turn it is, nil if there is none.
func (q *queue) pop() *waiter {
	if q.waiting == 0 {
		return nil
	}
	a := q.turns[0]
	w := a.first
	q.round = a.turn
	a.since = a.turn
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
		heap.Fix(&q.turns, a.place)
	}
}

// schedule gives an agent its turn for its first call.
func (q *queue) schedule(a *agent) {
	a.turn = a.since + a.first.cost
	a.order = q.order
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
		heap.Remove(&q.turns, a.place)
		delete(q.agents, a.name)
	}
}

// turns is a heap of agents, the one whose turn it is on top.
type turns []*agent

func (t turns) Len() int { return len(t) }

func (t turns) Less(i, j int) bool {
	if t[i].turn != t[j].turn {
		return t[i].turn < t[j].turn
	}
	return t[i].order < t[j].order
}

func (t turns) Swap(i, j int) {
	t[i], t[j] = t[j], t[i]
	t[i].place, t[j].place = i, j
}

func (t *turns) Push(x any) {
	a := x.(*agent)
	a.place = len(*t)
	*t = append(*t, a)
}

func (t *turns) Pop() any {
	last := len(*t) - 1
	a := (*t)[last]
	(*t)[last] = nil
	*t = (*t)[:last]
	return a
}
