// Package flight lets equal calls that are under way at the same time be one: the first of them leads, the others get
// what it brings. It knows keys, callers and ages, and nothing of what is called.
//
// It promises:
//   - a flight belongs to those who wait for it: its context is the group's, each waiter leaves alone, the last one out
//     cancels it;
//   - nothing is remembered but which keys are not to be shared: an error reaches those who waited for it, and the next
//     caller leads anew;
//   - one that is over its age takes nobody any more, and those who wait for it go on to the next one, so that a leader that
//     is stalled harms nobody for longer; if that fails they come back. A leader that panics brings nothing, and the others go
//     by themselves;
//   - what only those need who join is made for the first of them: a flight that nobody joins has no timer and no channel.
package flight

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Key says which calls are one. Question is what they ask; Epoch is another one after whatever makes answers stale, so that
// nobody joins a flight of before.
type Key struct {
	Question [32]byte
	Epoch    uint64
}

// Options are those of a Group. A zero field stands for its default.
type Options struct {
	Base   context.Context // its end ends all flights, with its cause; nil: no end
	MaxAge time.Duration   // how long a flight takes callers, and how long they wait for it; 30 s
	Hold   time.Duration   // how long nobody shares under a question after a Landing with Hold; 30 s
}

// Group is flights that share what they bring: an A. A caller is known by its C. Make one with New; it is safe for
// concurrent use.
type Group[C, A any] struct {
	opts   Options
	shards [shardCount]shard[C, A]
	wg     sync.WaitGroup // the flights under way
}

const shardCount = 16

// shard is the flights and the held questions of a part of all.
type shard[C, A any] struct {
	mu      sync.Mutex // guards the following, and what flight says
	flights map[Key]*flight[C, A]
	held    holds
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

// Landing is what a leader brings for those who follow it. The zero Landing is nothing: they go by themselves.
type Landing struct {
	Share bool  // they get the leader's Answer
	Err   error // the call has failed: they get this
	Own   bool  // but the failure is the leader's alone: they go by themselves
	Hold  bool  // nobody shares under the question for a while
	Open  bool  // the leader goes on using the flight's context, and ends it
}

// Leader makes the call of a flight, on the goroutine of its caller.
type Leader[A any] interface {
	// Lead makes the call. ctx is the flight's; end ends that.
	Lead(ctx context.Context, end context.CancelCauseFunc) Landing
	// Answer makes what those get who follow. It is called once after a Landing with Share, if anybody follows.
	Answer() A
}

// Role is how a call went.
type Role uint8

// The roles.
const (
	Led      Role = iota // the caller's leader was called and has returned
	Followed             // there is an answer or an error of the flight's
	Alone                // nothing is to be had here: the caller goes by itself
	Left                 // the caller's ctx has ended before there was anything
	Released             // the caller was taken out by Cancel
)

// flight is one call, and those who wait for it. All but the first row is guarded by the shard's lock.
type flight[C, A any] struct {
	key    Key
	shard  *shard[C, A]
	caller C
	born   time.Time
	end    context.CancelCauseFunc

	waiting int // the leader included
	old     bool
	state   state
	joined  *joined[C, A] // nil while nobody has joined
}

// state is what a flight has for those who follow it.
type state uint8

const (
	flying  state = iota
	landed        // joined.answer or joined.err
	nothing       // they go by themselves
)

// joined is what a flight has for those who follow it.
type joined[C, A any] struct {
	changed chan struct{} // closed, and made anew, when somebody is to look
	timer   *time.Timer
	callers []*follower[C]
	answer  A
	err     error
}

type follower[C any] struct {
	caller   C
	released bool
}

// Do makes the call of the first of equal callers, by its leader, and has the others wait for what that brings.
//
// The leader is called with the flight's context, and Do returns no sooner than it does, though ctx has ended and others wait
// on. It is not called for a caller of any other role than Led, unless that is over after it: an error of two flights is both
// errors joined.
func (g *Group[C, A]) Do(ctx context.Context, key Key, caller C, l Leader[A]) (Role, A, error) {
	role, answer, first, err := g.try(ctx, key, caller, l, nil)
	if role != again {
		return role, answer, err
	}
	role, answer, _, err = g.try(ctx, key, caller, l, first)
	if role == Left || role == Released || role != Alone && err == nil {
		first.f.leave(first.mine)
		return role, answer, err
	}
	late, answer, failed := first.f.follow(ctx, first.mine, false)
	switch {
	case late == Alone:
		return role, answer, err // as the second went
	case failed != nil && err != nil:
		failed = errors.Join(failed, err)
	}
	return late, answer, failed
}

// again is no role: the flight is over its age.
const again Role = 255

// place is a follower's in a flight.
type place[C, A any] struct {
	f    *flight[C, A]
	mine *follower[C]
}

// try is Do for one flight: for the first, which the caller keeps its place in where that is over its age, or for the one
// after that. err is a leader's as well.
func (g *Group[C, A]) try(ctx context.Context, key Key, caller C, l Leader[A], first *place[C, A]) (Role, A, *place[C, A], error) {
	var none A
	f, mine := g.join(&g.shards[key.Question[0]%shardCount], key, caller)
	switch {
	case f == nil:
		return Alone, none, nil, nil
	case mine == nil:
		return Led, none, nil, g.lead(ctx, f, l).Err
	}
	role, answer, err := f.follow(ctx, mine, first == nil)
	if role == again {
		return again, none, &place[C, A]{f, mine}, nil
	}
	return role, answer, nil, err
}

// join makes the caller a follower of the flight of its key, or the leader of a new one, or nothing if the question is held.
func (g *Group[C, A]) join(sh *shard[C, A], key Key, caller C) (*flight[C, A], *follower[C]) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.held.has(key.Question) {
		return nil, nil
	}
	if f := sh.flights[key]; f != nil {
		if mine := f.joinLocked(caller, g.opts.MaxAge); mine != nil {
			return f, mine
		}
	}
	f := &flight[C, A]{key: key, shard: sh, caller: caller, born: time.Now(), waiting: 1}
	sh.flights[key] = f
	g.wg.Add(1)
	return f, nil
}

// joinLocked returns nil for a flight that is over its age.
func (f *flight[C, A]) joinLocked(caller C, maxAge time.Duration) *follower[C] {
	left := maxAge - time.Since(f.born)
	if left <= 0 || f.old {
		return nil
	}
	if f.joined == nil {
		f.joined = &joined[C, A]{changed: make(chan struct{}), timer: time.AfterFunc(left, f.retire)}
	}
	mine := &follower[C]{caller: caller}
	f.joined.callers = append(f.joined.callers, mine)
	f.waiting++
	return mine
}

// forgetLocked takes the flight off the table, if another has not taken its place.
func (f *flight[C, A]) forgetLocked() {
	if f.shard.flights[f.key] == f {
		delete(f.shard.flights, f.key)
	}
}

// becomeLocked tells those who follow what there is for them, once.
func (f *flight[C, A]) becomeLocked(s state) {
	f.forgetLocked()
	if f.state != flying {
		return
	}
	f.state = s
	if f.joined != nil {
		f.joined.timer.Stop()
		close(f.joined.changed)
	}
}

// retire sends those who follow on to the next flight.
func (f *flight[C, A]) retire() {
	f.shard.mu.Lock()
	defer f.shard.mu.Unlock()
	f.forgetLocked()
	if f.old = true; f.state == flying {
		f.wakeLocked()
	}
}

// wakeLocked has those who follow look.
func (f *flight[C, A]) wakeLocked() {
	close(f.joined.changed)
	f.joined.changed = make(chan struct{})
}

// lead runs the flight of its leader.
func (g *Group[C, A]) lead(ctx context.Context, f *flight[C, A], l Leader[A]) (landing Landing) {
	defer g.wg.Done()
	var own context.Context
	own, f.end = context.WithCancelCause(g.opts.Base)
	stays := context.AfterFunc(ctx, func() { f.leaderLeft(context.Cause(ctx)) })
	defer func() { // also where the leader panics
		stays()
		f.land(landing, l, g.opts.Hold)
		if !landing.Open {
			f.end(nil)
		}
	}()
	return l.Lead(own, f.end)
}

// leaderLeft is for a leader whose ctx has ended: its call goes on if others wait for it.
func (f *flight[C, A]) leaderLeft(why error) {
	f.shard.mu.Lock()
	f.waiting--
	last := f.waiting == 0 && f.state == flying
	if last {
		f.forgetLocked()
	}
	f.shard.mu.Unlock()
	if last {
		f.end(why)
	}
}

// land gives those who follow what the leader brings.
func (f *flight[C, A]) land(l Landing, leader Leader[A], hold time.Duration) {
	var answer A
	f.shard.mu.Lock()
	f.forgetLocked() // nobody joins any more
	follow := f.joined != nil && f.state == flying
	f.shard.mu.Unlock()
	if follow && l.Share {
		answer = leader.Answer()
	}
	f.shard.mu.Lock()
	defer f.shard.mu.Unlock()
	if l.Hold && f.state != nothing { // after a cancellation it says nothing of the others
		f.shard.held.add(f.key.Question, time.Now(), hold)
	}
	if !follow || l.Own || !l.Share && l.Err == nil {
		f.becomeLocked(nothing)
		return
	}
	f.joined.answer, f.joined.err = answer, l.Err
	f.becomeLocked(landed)
}

// errGone is why a flight ends for which nobody waits any more.
var errGone = errors.New("nobody waits for the call any more")

// follow waits for what a flight brings, or for the flight's age.
func (f *flight[C, A]) follow(ctx context.Context, mine *follower[C], ages bool) (Role, A, error) {
	var none A
	for {
		f.shard.mu.Lock()
		s, old, j, released := f.state, f.old, f.joined, mine.released
		changed := j.changed
		f.shard.mu.Unlock()
		switch {
		case released:
			f.leave(mine)
			return Released, none, nil
		case s == landed:
			return Followed, j.answer, j.err
		case s == nothing:
			f.leave(mine)
			return Alone, none, nil
		case old && ages:
			return again, none, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			f.leave(mine)
			return Left, none, nil
		}
	}
}

// leave takes a follower out. The last one out ends the flight.
func (f *flight[C, A]) leave(mine *follower[C]) {
	f.shard.mu.Lock()
	f.waiting--
	j := f.joined
	for i, other := range j.callers {
		if other == mine {
			j.callers[i] = j.callers[len(j.callers)-1]
			j.callers = j.callers[:len(j.callers)-1]
			break
		}
	}
	last := f.waiting == 0 && f.state != landed
	if last {
		f.becomeLocked(nothing)
	}
	f.shard.mu.Unlock()
	if last {
		f.end(errGone)
	}
}

// Cancel is for callers that do not want an answer any more. Those who follow one of them go by themselves at once: what
// becomes of its call is not for them. Where none leads, and take allows it, and exactly one follows, that is released: of
// two nobody knows which one is meant.
func (g *Group[C, A]) Cancel(is func(C) bool, take bool) (led, released bool) {
	var found *flight[C, A]
	var one *follower[C]
	n := 0
	for i := range g.shards {
		sh := &g.shards[i]
		sh.mu.Lock()
		for _, f := range sh.flights {
			if is(f.caller) {
				f.becomeLocked(nothing)
				led = true
				continue
			}
			if f.joined == nil {
				continue
			}
			for _, w := range f.joined.callers {
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

// release takes one follower out, if it still waits.
func (f *flight[C, A]) release(w *follower[C]) bool {
	f.shard.mu.Lock()
	defer f.shard.mu.Unlock()
	if f.state != flying {
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

// Wait returns when the last flight has landed. No caller comes after it has been called; the end of Base makes it soon.
func (g *Group[C, A]) Wait() { g.wg.Wait() }
