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
// locks and no memory: the exchanges are the list.
type calls struct {
	log *slog.Logger

	mu    sync.Mutex // guards the following, and the links of the exchanges
	first *exchange
	last  *exchange
	set   bool // the timer is: it fires before the next call is long under way
}

// links is an exchange's place among the calls under way.
type links struct {
	next, prev *exchange
	said       bool // the log has it
}

// begin puts a call in. The exchange's call does not change any more, so that others may read it, also after end.
func (c *calls) begin(x *exchange) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x.prev = c.last; x.prev != nil {
		x.prev.next = x
	} else {
		c.first = x
	}
	c.last = x
	if !c.set {
		c.setLocked(longCall)
	}
}

func (c *calls) end(x *exchange) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if x.prev != nil {
		x.prev.next = x.next
	} else {
		c.first = x.next
	}
	if x.next != nil {
		x.next.prev = x.prev
	} else {
		c.last = x.prev
	}
	x.next, x.prev = nil, nil
}

func (c *calls) setLocked(d time.Duration) {
	c.set = true
	time.AfterFunc(max(d, time.Second), c.look)
}

// look logs the calls that have become long, each once.
func (c *calls) look() {
	for _, x := range c.long(time.Now()) {
		method, tool, agent := x.who()
		c.log.LogAttrs(context.Background(), slog.LevelWarn, "a call has been under way for long",
			slog.String("id", x.requestID()), slog.String("upstream", x.up.Name), slog.String("method", method),
			slog.String("tool", tool), slog.String("agent", agent), slog.String("for", time.Since(x.call.Start).Round(time.Second).String()))
	}
}

// long returns the calls that have become long, and sets the timer for the next.
func (c *calls) long(now time.Time) []*exchange {
	c.mu.Lock()
	defer c.mu.Unlock()
	var long []*exchange
	next := time.Duration(-1)
	for x := c.first; x != nil; x = x.next {
		switch left := longCall - now.Sub(x.call.Start); {
		case x.said:
		case left <= 0:
			x.said = true
			long = append(long, x)
		case next < 0 || left < next:
			next = left
		}
	}
	if c.set = false; next >= 0 {
		c.setLocked(next)
	}
	return long
}

// all returns the calls under way, the oldest first.
func (c *calls) all() []*exchange {
	c.mu.Lock()
	var all []*exchange
	for x := c.first; x != nil; x = x.next {
		all = append(all, x)
	}
	c.mu.Unlock()
	slices.SortStableFunc(all, func(a, b *exchange) int { return a.call.Start.Compare(b.call.Start) })
	return all
}

// who says what is called, and by whom: the name that the agent gives itself, else its connection. Another goroutine may
// ask, so that only the call is looked at.
func (x *exchange) who() (method, tool, agent string) {
	session := ""
	if header(x.call.Header, sessionHeader) != "" {
		session = x.session()
	}
	return methodLabel(&x.call), toolName(&x.call), cmp.Or(x.agent(session), x.call.Conn)
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
func (d *Door) Calls(upstream string, most int) (oldest []CallStatus, count int) {
	u := d.upstreams[upstream]
	if u == nil {
		return nil, 0
	}
	all, now := u.calls.all(), time.Now()
	for _, x := range all[:min(most, len(all))] {
		method, tool, agent := x.who()
		oldest = append(oldest, CallStatus{x.requestID(), u.Name, now.Sub(x.call.Start).Milliseconds(), method, tool, agent})
	}
	return oldest, len(all)
}
