package upstream

import (
	"context"
	"sync"
)

// room bounds the connections for calls that are open or being opened, to each address. Connections alone do not: a
// connection may still be closing when its call has given it back, and net/http goes on dialing for a call that has
// been given another connection meanwhile, as often as that happens while a dial lasts.
type room struct {
	mu    sync.Mutex // guards the following
	bound int
	taken map[string]int // by address
	freed chan struct{}  // closed when there may be room again; nil: nobody waits
}

// take waits for room for one more connection.
func (r *room) take(ctx context.Context, addr string) error {
	for {
		freed := r.tryTake(addr)
		if freed == nil {
			return nil
		}
		select {
		case <-freed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tryTake returns nil if there was room, else what is closed when it is worth another look.
func (r *room) tryTake(addr string) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken[addr] < r.bound {
		if r.taken == nil {
			r.taken = map[string]int{}
		}
		r.taken[addr]++
		return nil
	}
	if r.freed == nil {
		r.freed = make(chan struct{})
	}
	return r.freed
}

func (r *room) put(addr string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken[addr]--; r.taken[addr] == 0 {
		delete(r.taken, addr)
	}
	r.wakeLocked()
}

// widen changes the bound. Connections that are there already stay.
func (r *room) widen(by int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bound += by
	r.wakeLocked()
}

func (r *room) wakeLocked() {
	if r.freed != nil {
		close(r.freed)
		r.freed = nil
	}
}
