package stdio

import (
	"crypto/sha256"
	"math"

	"fluentd-perf/internal/mcp"
)

// Several processes may serve the modern era, by the operator's word. A call goes to the one with the fewest calls under way; where
// that is busy, another one is started behind the call. What a process gave that has a meaning in it alone, a request state or a task,
// goes back to it. A listen stays where it is by itself.

// maxPlaces bounds what is remembered of where states and tasks belong.
const maxPlaces = 10_000

// places are the processes that gave states and tasks, by a hash of these.
type places struct {
	by    map[[32]byte]*calls
	order [][32]byte // as they came, from next on
	next  int
}

func (p *places) put(key [32]byte, at *calls) {
	if p.by == nil {
		p.by = make(map[[32]byte]*calls)
	}
	if _, known := p.by[key]; !known {
		if len(p.order) < maxPlaces {
			p.order = append(p.order, key)
		} else {
			delete(p.by, p.order[p.next])
			p.order[p.next] = key
			p.next = (p.next + 1) % maxPlaces
		}
	}
	p.by[key] = at
}

// chooseLocked returns the replica for a call: where one may not answer, another. Where none runs, it is the first.
func (d *modern) chooseLocked(c *mcp.Call) *replica {
	first := &d.replicas[0]
	if len(d.replicas) == 1 {
		return first
	}
	own := d.places.by[placeOf(c)]
	var best, free *replica
	least := 0
	for i := range d.replicas {
		r := &d.replicas[i]
		switch {
		case r.process == nil && r.opening == nil && free == nil:
			free = r
		case r.process == nil:
		case &r.process.calls == own:
			return r
		default:
			if n := r.process.load(); best == nil || n < least {
				best, least = r, n
			}
		}
	}
	if best == nil {
		return first
	}
	if least > 0 && free != nil {
		d.beginLocked(free) // nobody waits for it
	}
	return best
}

// load is how many calls are under way, and more than any number where the process is being asked whether it answers.
func (p *process) load() int {
	if p.lease.Checking() != nil {
		return math.MaxInt
	}
	return p.calls.underWay()
}

func (k *calls) underWay() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.open)
}

// placeOf is the key of the state or the task that a call names, zero where it names none.
func placeOf(c *mcp.Call) [32]byte {
	if state := c.Message.RequestState; state.Present() {
		return sha256.Sum256(state.Of(c.Body))
	}
	if task := mcp.MemberOf(c.Message.Params.Of(c.Body), "taskId"); task != nil {
		return sha256.Sum256(task)
	}
	return [32]byte{}
}

// noteGiven notes which process gave the state or the task in an answer.
func (d *modern) noteGiven(at *calls, data []byte, m *mcp.Message) {
	if len(d.replicas) == 1 || m.Kind != mcp.KindResult {
		return
	}
	result := m.Result.Of(data)
	for _, value := range [][]byte{
		mcp.MemberOf(result, "requestState"), mcp.MemberOf(result, "taskId"), mcp.MemberOf(mcp.MemberOf(result, "task"), "taskId"),
	} {
		if value != nil {
			d.mu.Lock()
			d.places.put(sha256.Sum256(value), at)
			d.mu.Unlock()
		}
	}
}
