package proxy

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// longCall is the age from which on a call under way is worth a line in the log.
const longCall = 30 * time.Second

// calls are those of one upstream that are under way: all that is relayed but streams without end. A call costs it two
// locks and, once the list has grown, no memory.
type calls struct {
	log *slog.Logger

	mu   sync.Mutex // guards the following, and underWay of the requests in the list
	list []*request // in no order
	set  bool       // the timer is: it fires before the next call is long under way
}

// underWay is a request's place among the calls under way.
type underWay struct {
	index  int
	logged bool // as long under way
}

// begin puts a request in. Its call does not change any more, so that others may read it, also after end.
func (c *calls) begin(q *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q.index = len(c.list)
	c.list = append(c.list, q)
	if !c.set {
		c.setLocked(longCall)
	}
}

// end takes a request out: the last one of the list gets its place.
func (c *calls) end(q *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.list) - 1
	last := c.list[n]
	c.list[q.index], last.index = last, q.index
	c.list[n] = nil
	c.list = c.list[:n]
}

func (c *calls) setLocked(d time.Duration) {
	c.set = true
	time.AfterFunc(max(d, time.Second), c.logLong)
}

// logLong logs the calls that have become long, each once.
func (c *calls) logLong() {
	for _, q := range c.long(time.Now()) {
		method, tool, agent := q.who()
		c.log.LogAttrs(context.Background(), slog.LevelWarn, "a call has been under way for long",
			slog.String("id", q.id()), slog.String("upstream", q.upstream.Name), slog.String("method", method),
			slog.String("tool", tool), slog.String("agent", agent), slog.String("for", time.Since(q.call.Start).Round(time.Second).String()))
	}
}

// long returns the calls that have become long, the oldest first, and sets the timer for the next.
func (c *calls) long(now time.Time) []*request {
	c.mu.Lock()
	defer c.mu.Unlock()
	var long []*request
	next := time.Duration(-1)
	for _, q := range c.list {
		switch left := longCall - now.Sub(q.call.Start); {
		case q.logged:
		case left <= 0:
			q.logged = true
			long = append(long, q)
		case next < 0 || left < next:
			next = left
		}
	}
	if c.set = false; next >= 0 {
		c.setLocked(next)
	}
	slices.SortFunc(long, byAge)
	return long
}

// byAge puts the oldest first.
func byAge(a, b *request) int {
	return cmp.Or(a.call.Start.Compare(b.call.Start), cmp.Compare(a.seq, b.seq))
}

// CallStatus is a call under way.
type CallStatus struct {
	Request  string `json:"request"` // its id in log and error data
	Upstream string `json:"upstream"`
	AgeMs    int64  `json:"ageMs"` // since the head of its request came
	Method   string `json:"method"`
	Tool     string `json:"tool,omitempty"`
	Agent    string `json:"agent"` // the name that it gives itself, else its connection
}

// Calls returns the calls of an upstream that are under way, the oldest first and at most so many, and how many there are.
// Streams without end are none, and an array is one.
func (h *Handler) Calls(upstream string, most int) (oldest []CallStatus, count int) {
	u := h.upstreams.Load().byName[upstream]
	if u == nil {
		return nil, 0
	}
	u.calls.mu.Lock()
	all, now := slices.Clone(u.calls.list), time.Now()
	u.calls.mu.Unlock()
	slices.SortFunc(all, byAge)
	for _, q := range all[:min(most, len(all))] {
		method, tool, agent := q.who()
		oldest = append(oldest, CallStatus{q.id(), u.Name, now.Sub(q.call.Start).Milliseconds(), method, tool, agent})
	}
	return oldest, len(all)
}
