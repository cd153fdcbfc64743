// Package flight makes equal calls that are under way at the same time into one: the first caller leads, the others wait and
// get its answer. It knows keys, callers and ages, and nothing of what is called.
//
// It promises:
//   - a flight belongs to those who wait for it: its context is the group's, each waiter may leave at any time, and the last
//     one to leave cancels it;
//   - nothing is remembered but which requests are not to be shared: an error reaches those who waited for it, and the next
//     caller leads a new flight;
//   - a flight that has reached its maximum age takes no more callers, and those who wait for it go on to the next one, so
//     that a stalled leader harms nobody for longer; if the next one fails they come back. Where a leader panics, the others
//     call by themselves;
//   - what only waiters need is made for the first of them: a flight that nobody joins has no timer and no channel.
package flight

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Key says which calls are equal. Request is what they ask for. Epoch changes with whatever invalidates answers, so that nobody
// joins a flight that began before an invalidation.
type Key struct {
	Request [32]byte
	Epoch   uint64
}

// Options are those of a Group. A zero field stands for its default.
type Options struct {
	Base   context.Context // its end ends all flights, with its cause; nil: no end
	MaxAge time.Duration   // how long a flight takes callers, and how long they wait for it; 30 s
	Hold   time.Duration   // how long calls of a request are not shared after an Outcome with Hold; 30 s
}

// Group is flights whose answers, of type A, are shared. A caller is known by its C. Make one with New; it is safe for
// concurrent use.
type Group[C, A any] struct {
	opts   Options
	shards [shardCount]shard[C, A]
	wg     sync.WaitGroup // the flights under way
}

const shardCount = 16

// shard is the flights and the held requests of a part of all keys.
type shard[C, A any] struct {
	mu      sync.Mutex // guards the following, and what flight says
	flights map[Key]*flight[C, A]
	held    heldRequests
}

// New returns a Group.
func New[C, A any](o Options) *Group[C, A] {
	if o.Base == nil {
		o.Base = context.Background()
	}
	if o.MaxAge <= 0 {
		o.MaxAge = 30 * time.Second
	}
	if o.Hold <= 0 {
		o.Hold = 30 * time.Second
	}
	g := &Group[C, A]{opts: o}
	for i := range g.shards {
		g.shards[i].flights = make(map[Key]*flight[C, A])
		g.shards[i].held.until = make(map[[32]byte]time.Time)
	}
	return g
}

// Outcome is what a leader has for those who wait. With the zero Outcome they call by themselves.
type Outcome struct {
	Share bool  // they get the leader's Answer
	Err   error // the call has failed: they get this
	Own   bool  // but the failure is the leader's alone: they call by themselves
	Hold  bool  // calls of the request are not shared for a while
	Open  bool  // the leader goes on using the flight's context, and ends it
}

// Leader makes the call of a flight, on the goroutine of its caller.
type Leader[A any] interface {
	// Lead makes the call. ctx is the flight's; end ends that.
	Lead(ctx context.Context, end context.CancelCauseFunc) Outcome
	// Answer makes what the waiters get. It is called once after an Outcome with Share, if anybody waits.
	Answer() A
}

// Role is how a call went.
type Role uint8

// The roles.
const (
	Led      Role = iota // the caller's leader was called and has returned
	Waited               // the caller waited, and the flight has an answer or an error for it
	Alone                // there is nothing to share: the caller calls by itself
	Left                 // the caller's ctx has ended before there was anything
	Released             // the caller was removed by Cancel
)

// flight is one call, and those who wait for it. All but the first group of fields is guarded by the shard's lock.
type flight[C, A any] struct {
	key    Key
	shard  *shard[C, A]
	caller C
	born   time.Time
	end    context.CancelCauseFunc

	waiting int // the leader included
	aged    bool
	state   state
	sharing *sharing[C, A] // nil while nobody has joined
}

// state is what a flight has for those who wait.
type state uint8

const (
	running   state = iota
	delivered       // sharing.answer or sharing.err
	withheld        // they call by themselves
)

// sharing is what a flight needs once somebody waits for it.
type sharing[C, A any] struct {
	changed chan struct{} // closed, and replaced, when the waiters are to look at the state
	timer   *time.Timer
	waiters []*waiter[C]
	answer  A
	err     error
}

type waiter[C any] struct {
	caller   C
	released bool
}

// Do makes the call of the first of equal callers, by its leader, and has the others wait for its outcome.
//
// The leader is called with the flight's context, and Do returns no sooner than it does, though ctx has ended and others wait
// on. It is not called for a caller of any other role than Led, unless that is over after it: an error of two flights is both
// errors joined.
func (g *Group[C, A]) Do(ctx context.Context, key Key, caller C, l Leader[A]) (Role, A, error) {
	role, answer, first, err := g.try(ctx, key, caller, l, nil)
	if role != aged {
		return role, answer, err
	}
	role, answer, _, err = g.try(ctx, key, caller, l, first)
	if role == Left || role == Released || role != Alone && err == nil {
		first.f.leave(first.w)
		return role, answer, err
	}
	late, answer, failed := first.f.wait(ctx, first.w, false)
	switch {
	case late == Alone:
		return role, answer, err // as the second went
	case failed != nil && err != nil:
		failed = errors.Join(failed, err)
	}
	return late, answer, failed
}

// aged is no role that Do returns: the flight has reached its maximum age.
const aged Role = 255

// position is a waiter's in a flight.
type position[C, A any] struct {
	f *flight[C, A]
	w *waiter[C]
}

// try is Do for one flight: for the first, in which the caller keeps its position where that has reached its maximum age, or for the one
// after that. err is a leader's as well.
func (g *Group[C, A]) try(ctx context.Context, key Key, caller C, l Leader[A], first *position[C, A]) (Role, A, *position[C, A], error) {
	var none A
	f, w := g.join(&g.shards[key.Request[0]%shardCount], key, caller)
	switch {
	case f == nil:
		return Alone, none, nil, nil
	case w == nil:
		return Led, none, nil, g.lead(ctx, f, l).Err
	}
	role, answer, err := f.wait(ctx, w, first == nil)
	if role == aged {
		return aged, none, &position[C, A]{f, w}, nil
	}
	return role, answer, nil, err
}

// join makes the caller a waiter of the flight of its key, or the leader of a new one, or neither if the request is held.
func (g *Group[C, A]) join(sh *shard[C, A], key Key, caller C) (*flight[C, A], *waiter[C]) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.held.has(key.Request) {
		return nil, nil
	}
	if f := sh.flights[key]; f != nil {
		if w := f.joinLocked(caller, g.opts.MaxAge); w != nil {
			return f, w
		}
	}
	f := &flight[C, A]{key: key, shard: sh, caller: caller, born: time.Now(), waiting: 1}
	sh.flights[key] = f
	g.wg.Add(1)
	return f, nil
}

// joinLocked makes the caller a waiter; nil for a flight that has reached its maximum age.
func (f *flight[C, A]) joinLocked(caller C, maxAge time.Duration) *waiter[C] {
	left := maxAge - time.Since(f.born)
	if left <= 0 || f.aged {
		return nil
	}
	if f.sharing == nil {
		f.sharing = &sharing[C, A]{changed: make(chan struct{}), timer: time.AfterFunc(left, f.retire)}
	}
	w := &waiter[C]{caller: caller}
	f.sharing.waiters = append(f.sharing.waiters, w)
	f.waiting++
	return w
}

// forgetLocked removes the flight from the table, if another has not replaced it.
func (f *flight[C, A]) forgetLocked() {
	if f.shard.flights[f.key] == f {
		delete(f.shard.flights, f.key)
	}
}

// finishLocked tells the waiters what there is for them, once.
func (f *flight[C, A]) finishLocked(s state) {
	f.forgetLocked()
	if f.state != running {
		return
	}
	f.state = s
	if f.sharing != nil {
		f.sharing.timer.Stop()
		close(f.sharing.changed)
	}
}

// retire sends the waiters on to the next flight.
func (f *flight[C, A]) retire() {
	f.shard.mu.Lock()
	defer f.shard.mu.Unlock()
	f.forgetLocked()
	if f.aged = true; f.state == running {
		f.wakeLocked()
	}
}

// wakeLocked has the waiters look at the state.
func (f *flight[C, A]) wakeLocked() {
	close(f.sharing.changed)
	f.sharing.changed = make(chan struct{})
}

// lead runs the flight of its leader.
func (g *Group[C, A]) lead(ctx context.Context, f *flight[C, A], l Leader[A]) (outcome Outcome) {
	defer g.wg.Done()
	flightCtx, end := context.WithCancelCause(g.opts.Base)
	f.end = end
	stays := context.AfterFunc(ctx, func() { f.leaderLeft(context.Cause(ctx)) })
	defer func() { // also where the leader panics
		stays()
		f.deliver(outcome, l, g.opts.Hold)
		if !outcome.Open {
			f.end(nil)
		}
	}()
	return l.Lead(flightCtx, end)
}

// leaderLeft is for a leader whose ctx has ended: its call goes on if others wait for it.
func (f *flight[C, A]) leaderLeft(why error) {
	f.shard.mu.Lock()
	f.waiting--
	last := f.waiting == 0 && f.state == running
	if last {
		f.forgetLocked()
	}
	f.shard.mu.Unlock()
	if last {
		f.end(why)
	}
}

// deliver gives the waiters what the leader has for them.
func (f *flight[C, A]) deliver(o Outcome, leader Leader[A], hold time.Duration) {
	var answer A
	f.shard.mu.Lock()
	f.forgetLocked() // nobody joins any more
	wanted := f.sharing != nil && f.state == running
	f.shard.mu.Unlock()
	if wanted && o.Share {
		answer = leader.Answer()
	}
	f.shard.mu.Lock()
	defer f.shard.mu.Unlock()
	if o.Hold && f.state != withheld { // after a cancellation it says nothing of the others
		f.shard.held.add(f.key.Request, time.Now(), hold)
	}
	if !wanted || o.Own || !o.Share && o.Err == nil {
		f.finishLocked(withheld)
		return
	}
	f.sharing.answer, f.sharing.err = answer, o.Err
	f.finishLocked(delivered)
}

// errNoWaiter is why a flight ends for which nobody waits any more.
var errNoWaiter = errors.New("nobody waits for the call any more")

// wait waits for the outcome of a flight, with moveOn no longer than to its maximum age.
func (f *flight[C, A]) wait(ctx context.Context, w *waiter[C], moveOn bool) (Role, A, error) {
	var none A
	for {
		f.shard.mu.Lock()
		s, isAged, j, released := f.state, f.aged, f.sharing, w.released
		changed := j.changed
		f.shard.mu.Unlock()
		switch {
		case released:
			f.leave(w)
			return Released, none, nil
		case s == delivered:
			return Waited, j.answer, j.err
		case s == withheld:
			f.leave(w)
			return Alone, none, nil
		case isAged && moveOn:
			return aged, none, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			f.leave(w)
			return Left, none, nil
		}
	}
}

// leave removes a waiter. The last one to leave ends the flight.
func (f *flight[C, A]) leave(w *waiter[C]) {
	f.shard.mu.Lock()
	f.waiting--
	j := f.sharing
	for i, other := range j.waiters {
		if other == w {
			j.waiters[i] = j.waiters[len(j.waiters)-1]
			j.waiters = j.waiters[:len(j.waiters)-1]
			break
		}
	}
	last := f.waiting == 0 && f.state != delivered
	if last {
		f.finishLocked(withheld)
	}
	f.shard.mu.Unlock()
	if last {
		f.end(errNoWaiter)
	}
}

// Cancel is for callers that do not want an answer any more. Where one of them leads, those who wait for it call by themselves at
// once: what becomes of its call is not for them. Where none leads, take allows it, and exactly one waits, that is released: of
// two nobody knows which one is meant.
func (g *Group[C, A]) Cancel(is func(C) bool, take bool) (led, released bool) {
	var found *flight[C, A]
	var one *waiter[C]
	n := 0
	for i := range g.shards {
		sh := &g.shards[i]
		sh.mu.Lock()
		for _, f := range sh.flights {
			if is(f.caller) {
				f.finishLocked(withheld)
				led = true
				continue
			}
			if f.sharing == nil {
				continue
			}
			for _, w := range f.sharing.waiters {
				if is(w.caller) {
					found, one, n = f, w, n+1
				}
			}
		}
		sh.mu.Unlock()
	}
	if led || !take || n != 1 {
		return led, false
	}
	return false, found.release(one)
}

// release removes one waiter, if it still waits.
func (f *flight[C, A]) release(w *waiter[C]) bool {
	f.shard.mu.Lock()
	defer f.shard.mu.Unlock()
	if f.state != running {
		return false
	}
	w.released = true
	f.wakeLocked()
	return true
}

// Len returns how many flights take callers at this moment.
func (g *Group[C, A]) Len() (n int) {
	for i := range g.shards {
		sh := &g.shards[i]
		sh.mu.Lock()
		n += len(sh.flights)
		sh.mu.Unlock()
	}
	return n
}

// Wait returns when the last flight has ended. No caller comes after it has been called; the end of Base makes it soon.
func (g *Group[C, A]) Wait() { g.wg.Wait() }
