package http

import (
	"context"
	"sync"
)

// room bounds the connections for calls that are open or being opened, to each address. Connections alone do not: a
// connection may still be closing when its call has given it back, and net/http goes on dialing for a call that has
// been given another connection meanwhile, as often as that happens while a dial lasts.
type room struct {
	mu      sync.Mutex     // guards the following
	bound   int            // to one address
	taken   map[string]int // by address
	changed sync.Cond      // there may be room again, or whoever waits need not any more
}

// newRoom returns room for bound connections to an address.
func newRoom(bound int) *room {
	r := &room{bound: bound, taken: map[string]int{}}
	r.changed.L = &r.mu
	return r
}

// take waits for room for one more connection.
func (r *room) take(ctx context.Context, addr string) error {
	stop := context.AfterFunc(ctx, func() { r.widen(0) })
	defer stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.taken[addr] >= r.bound {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.changed.Wait()
	}
	r.taken[addr]++
	return nil
}

func (r *room) put(addr string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.taken[addr]--; r.taken[addr] == 0 {
		delete(r.taken, addr)
	}
	r.changed.Broadcast()
}

// widen changes the bound. Connections that are there already stay.
func (r *room) widen(by int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.bound += by
	r.changed.Broadcast()
}
