package batch

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// shardCount is how many locks the keys are spread over.
const shardCount = 16

// maxHeld is how many keys are remembered as not to be shared, over all shards.
const maxHeld = 10_000

// shard is the flights and the held keys of a part of all keys.
type shard struct {
	mu      sync.Mutex // guards the following, and what flight says
	flights map[mcp.FlightKey]*flight
	held    holds
}

func (sh *shard) init() {
	sh.flights = map[mcp.FlightKey]*flight{}
	sh.held.until = map[mcp.FlightKey]time.Time{}
}

// forget takes a flight off the table, if another has not taken its place. The caller holds the lock.
func (sh *shard) forget(f *flight) {
	if sh.flights[f.key] == f {
		delete(sh.flights, f.key)
	}
}

// join makes the call a waiter of the flight of its key, or the leader of a new one, which is the caller's to run; or no
// waiter if the key is held.
func (g *Flights) join(c *mcp.Call) waiter {
	sh := &g.shards[c.Flight[0]%shardCount]
	fence := g.fences.height(c.Scope)
	sh.mu.Lock()
	if sh.held.has(c.Flight) {
		sh.mu.Unlock()
		return waiter{}
	}
	if f := sh.flights[c.Flight]; f != nil && f.fence >= fence {
		f.waiters++
		sh.mu.Unlock()
		return waiter{f: f}
	}
	f := g.begin(c, sh, fence)
	sh.flights[c.Flight] = f
	g.wg.Add(1)
	sh.mu.Unlock()
	return waiter{f: f, leads: true}
}

// holds are the keys under which nobody shares. Each is held equally long, so that the oldest is the next to end.
type holds struct {
	until map[mcp.FlightKey]time.Time
	queue []mcp.FlightKey // in the order of their ends, from first on
	first int
}

// has reports whether the key is held. Most of the time nothing is, and it does not look at the clock.
func (h *holds) has(key mcp.FlightKey) bool {
	if len(h.until) == 0 {
		return false
	}
	until, ok := h.until[key]
	return ok && time.Now().Before(until)
}

// add holds a key for d from now on. One that is held already is held no longer than it was; where there is no room the
// oldest goes.
func (h *holds) add(key mcp.FlightKey, now time.Time, d time.Duration) {
	h.expire(now)
	if _, ok := h.until[key]; ok {
		return
	}
	if len(h.until) == maxHeld/shardCount {
		h.drop()
	}
	h.until[key] = now.Add(d)
	h.queue = append(h.queue, key)
}

// expire drops the keys whose time is over.
func (h *holds) expire(now time.Time) {
	for h.first < len(h.queue) && !now.Before(h.until[h.queue[h.first]]) {
		h.drop()
	}
}

// drop forgets the oldest key, and moves the queue to its start when half of it is used up.
func (h *holds) drop() {
	delete(h.until, h.queue[h.first])
	h.first++
	if 2*h.first >= len(h.queue) {
		h.queue = h.queue[:copy(h.queue, h.queue[h.first:])]
		h.first = 0
	}
}

// fences counts how often each scope was fenced. Scopes share counters, which costs a flight now and then and nothing
// else.
type fences [1024]atomic.Uint64

func (n *fences) of(s mcp.Scope) *atomic.Uint64 {
	return &n[binary.BigEndian.Uint16(s[:])%uint16(len(n))]
}

func (n *fences) raise(s mcp.Scope) { n.of(s).Add(1) }

func (n *fences) height(s mcp.Scope) uint64 { return n.of(s).Load() }
