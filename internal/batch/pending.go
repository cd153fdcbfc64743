package batch

import (
	"errors"
	"slices"
	"sync"
)

// pendingCalls are the legacy calls that wait for flights, by mcp.CancelKey: their agents may cancel them by
// `notifications/cancelled`, and of a follower's id the server knows nothing (2025-11-25, basic/utilities/cancellation).
// Where there are no sessions two agents of one credential may have calls under one name.
type pendingCalls struct {
	mu sync.Mutex
	by map[string][]*pendingCall
}

// pendingCall is one of them. Its waiters and over are guarded by pendingCalls.mu.
type pendingCall struct {
	all      *pendingCalls
	name     string
	waiters  []waiter
	over     bool          // it has its answer, or has been released
	released chan struct{} // closed when its agent has cancelled it
}

// errCancelled is why a flight ends whose last waiter was cancelled.
var errCancelled = errors.New("the agent cancelled the request")

// begin notes a call that waits. It is nil for one that nobody can cancel.
func (p *pendingCalls) begin(name string, w waiter) *pendingCall {
	if name == "" {
		return nil
	}
	own := &pendingCall{all: p, name: name, waiters: []waiter{w}, released: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.by[name] = append(p.by[name], own)
	return own
}

// also notes another flight for which the call waits, and reports whether it still does.
func (p *pendingCall) also(w waiter) bool {
	if p == nil {
		return true
	}
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	if !p.over {
		p.waiters = append(p.waiters, w)
	}
	return !p.over
}

// end takes the call off, and reports whether it still waited.
func (p *pendingCall) end() bool {
	if p == nil {
		return true
	}
	p.all.mu.Lock()
	defer p.all.mu.Unlock()
	return p.endLocked()
}

func (p *pendingCall) endLocked() bool {
	if p.over {
		return false
	}
	p.over = true
	others := slices.DeleteFunc(p.all.by[p.name], func(c *pendingCall) bool { return c == p })
	if p.all.by[p.name] = others; len(others) == 0 {
		delete(p.all.by, p.name)
	}
	return true
}

// gone is closed when the call has been cancelled; nil for one that cannot be.
func (p *pendingCall) gone() <-chan struct{} {
	if p == nil {
		return nil
	}
	return p.released
}

// cancelled takes a cancellation to the calls of the name. It returns the flights that one of them leads, whose followers
// are to go by themselves; or else, if the daemon may answer the cancellation itself and the name is one follower's, what
// that waits for, which is released.
func (p *pendingCalls) cancelled(name string, answers bool) (led []*flight, released []waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	calls := p.by[name]
	for _, c := range calls {
		for _, w := range c.waiters {
			if w.leads {
				led = append(led, w.f)
			}
		}
	}
	if len(led) > 0 || len(calls) != 1 || !answers { // of two followers nobody knows which one is meant
		return led, nil
	}
	c := calls[0]
	c.endLocked()
	close(c.released)
	return nil, c.waiters
}
