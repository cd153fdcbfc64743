package flight

import "time"

// maxHeld is how many requests are remembered as not to be shared, over all shards.
const maxHeld = 10_000

// heldRequests are those of which calls are not shared. Each is held equally long, so that the oldest is the next to end.
type heldRequests struct {
	until map[[32]byte]time.Time
	queue [][32]byte // in the order of their ends, from first on
	first int
}

// has reports whether the request is held. Most of the time nothing is, and it does not look at the clock.
func (h *heldRequests) has(request [32]byte) bool {
	if len(h.until) == 0 {
		return false
	}
	until, ok := h.until[request]
	return ok && time.Now().Before(until)
}

// add holds a request for d from now on. One that is held already is held no longer than it was; where there is no room the
// oldest goes.
func (h *heldRequests) add(request [32]byte, now time.Time, d time.Duration) {
	for h.first < len(h.queue) && !now.Before(h.until[h.queue[h.first]]) {
		h.drop()
	}
	if _, ok := h.until[request]; ok {
		return
	}
	if len(h.until) == maxHeld/shardCount {
		h.drop()
	}
	h.until[request] = now.Add(d)
	h.queue = append(h.queue, request)
}

// drop forgets the oldest request, and moves the queue to its start when half of it is used up.
func (h *heldRequests) drop() {
	delete(h.until, h.queue[h.first])
	h.first++
	if 2*h.first >= len(h.queue) {
		h.queue = h.queue[:copy(h.queue, h.queue[h.first:])]
		h.first = 0
	}
}
