package loadgen

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Loop is when the next call is made.
type Loop string

// The loops.
const (
	Closed Loop = "closed" // as soon as one is answered: as many at once as there are clients
	Open   Loop = "open"   // at a constant rate, whatever becomes of those before
	Burst  Loop = "burst"  // all clients at once, the next burst when the last of them is answered
)

// Load is how many calls are made, and when. An open loop needs a Rate; one of Requests and DurationMs is given, a burst has
// Requests. Calls of an open loop that cannot be sent because Concurrency are under way wait, which is part of their time from the
// intended send; those that were not sent when the last one should have been are dropped.
type Load struct {
	Loop        Loop    `json:"loop" jsonschema:"closed, open or burst"`
	Concurrency int     `json:"concurrency" jsonschema:"calls at once; at most so many in an open loop"`
	Requests    int64   `json:"requests,omitempty" jsonschema:"in each round; left out where the duration says when it ends"`
	DurationMs  int64   `json:"durationMs,omitempty" jsonschema:"of each round; left out where the number of requests says when it ends"`
	Rate        float64 `json:"rate,omitempty" jsonschema:"calls a second, of an open loop"`
	MaxRate     float64 `json:"maxRate,omitempty" jsonschema:"bound of calls a second that keeps a server from being loaded without leave"`
}

// ErrNoSuccess is the error of a load of which no call succeeded.
var ErrNoSuccess = errors.New("no call succeeded")

// giveUpAfter is how many calls may fail, and none succeed, before a load ends: whatever is wrong then is wrong for all. So is a server
// that answers nothing for giveUpTime.
const (
	giveUpAfter = 1000
	giveUpTime  = 2 * callTimeout
)

// connectPause keeps a client that cannot connect from trying all the time.
const connectPause = 20 * time.Millisecond

// run is a load that is being put on a target.
type run struct {
	load   Load
	work   *Work
	pool   *Clients
	record *record
	until  <-chan struct{} // nil, or closed when no further call is to be made
	done   atomic.Int64    // calls that are over
	failed atomic.Int64
	begun  time.Time
}

// Run puts a load on the target and returns what it came to. watch is called a few times a second with the counts so far; nil is
// nobody. The error is ctx's, after which the clients cannot be used again, or ErrNoSuccess with the first fault.
func (p *Clients) Run(ctx context.Context, load Load, work *Work, watch func(Point)) (*Tally, error) {
	return p.run(ctx, &run{load: load, work: work}, watch)
}

// RunUntil makes calls in a closed loop, so many at once, until a channel is closed, and waits for the calls that are under way then. The
// error is as Run's.
func (p *Clients) RunUntil(ctx context.Context, until <-chan struct{}, concurrency int, work *Work) (*Tally, error) {
	return p.run(ctx, &run{load: Load{Loop: Closed, Concurrency: concurrency}, work: work, until: until}, nil)
}

func (p *Clients) run(ctx context.Context, r *run, watch func(Point)) (*Tally, error) {
	kinds := r.work.tallyKinds()
	r.pool, r.record = p, newRecord(len(kinds), r.load.Loop == Open)
	stop := context.AfterFunc(ctx, p.abort)
	defer stop()
	opened := p.opened.Load()
	r.begun = time.Now()
	curve := startCurve(r, watch)
	dropped := r.put(ctx)
	took := time.Since(r.begun)
	t := r.record.tally(kinds)
	t.curve = curve.end()
	t.seconds, t.dropped, t.opened = took.Seconds(), dropped, p.opened.Load()-opened
	switch {
	case ctx.Err() != nil:
		return t, context.Cause(ctx)
	case r.load.Loop == Open && t.Requests()+dropped == 0:
		return t, fmt.Errorf("%w: at %g calls a second none is due within %v", ErrNoSuccess, r.load.Rate, r.duration())
	case t.succeeded == 0:
		return t, noSuccess(t)
	}
	return t, nil
}

func noSuccess(t *Tally) error {
	if t.firstFault == "" {
		return ErrNoSuccess
	}
	return errors.Join(ErrNoSuccess, errors.New(t.firstFault))
}

// put makes the calls, and returns how many of an open loop were not made.
func (r *run) put(ctx context.Context) (dropped int64) {
	switch r.load.Loop {
	case Open:
		return r.open(ctx)
	case Burst:
		r.bursts(ctx)
	default:
		r.closed(ctx)
	}
	return 0
}

// hopeless reports whether nothing works.
func (r *run) hopeless() bool {
	failed := r.failed.Load()
	return failed > 0 && failed == r.done.Load() && (failed >= giveUpAfter || time.Since(r.begun) >= giveUpTime)
}

// one makes the nth call, which was meant to be sent at due; a zero due is now.
func (r *run) one(ctx context.Context, worker int, c *client, n int64, due time.Time) {
	kind, key := r.work.Pick(n)
	k := &r.work.Kinds[kind]
	var t timing
	var f *fault
	cache := cacheNone
	if k.Session {
		t, f = r.life(ctx, worker, len(r.work.Kinds))
	} else {
		t, f = c.call(ctx, k, key)
		cache = c.answer.cache
	}
	if f != nil && ctx.Err() != nil { // it was ended, which is no fault of the server's
		return
	}
	if due.IsZero() {
		due = t.sent
	}
	r.record.count(worker, kind, cache, due, t, f)
	if f != nil {
		r.failed.Add(1)
	}
	r.done.Add(1)
	if f != nil && f.reason == FaultConnect {
		_ = sleepUntil(ctx, time.Now().Add(connectPause)) // its error is looked at by who calls
	}
}

// closed makes calls one after the other with each client.
func (r *run) closed(ctx context.Context) {
	var next atomic.Int64
	var workers sync.WaitGroup
	for worker := range r.load.Concurrency {
		workers.Go(func() {
			c := r.pool.get()
			defer r.pool.put(c)
			for n := next.Add(1) - 1; r.more(n) && ctx.Err() == nil && !r.hopeless(); n = next.Add(1) - 1 {
				r.one(ctx, worker, c, n, time.Time{})
			}
		})
	}
	workers.Wait()
}

// more reports whether the nth call is to be made.
func (r *run) more(n int64) bool {
	if r.until != nil {
		select {
		case <-r.until:
			return false
		default:
			return true
		}
	}
	if r.load.Requests > 0 {
		return n < r.load.Requests
	}
	return time.Since(r.begun) < r.duration()
}

func (r *run) duration() time.Duration { return time.Duration(r.load.DurationMs) * time.Millisecond }

// bursts makes Concurrency calls at once until all are made.
func (r *run) bursts(ctx context.Context) {
	team := newTeam(r)
	defer team.end()
	size := int64(r.load.Concurrency)
	for n := int64(0); n < r.load.Requests && ctx.Err() == nil && !r.hopeless(); n += size {
		var all sync.WaitGroup
		members := make([]*member, min(size, r.load.Requests-n))
		for i := range members { // all are ready before the first one sends
			members[i] = team.take(ctx, nil)
		}
		for i, m := range members {
			all.Add(1)
			m.jobs <- job{n: n + int64(i), over: all.Done}
		}
		all.Wait()
	}
}

// open makes calls at their times. It returns how many were not made.
func (r *run) open(ctx context.Context) (dropped int64) {
	total := r.load.Requests
	if total == 0 {
		total = int64(r.load.Rate * r.duration().Seconds())
	}
	apart := float64(time.Second) / r.load.Rate
	due := func(n int64) time.Time { return r.begun.Add(time.Duration(float64(n) * apart)) }
	sleep := sleepExactly
	if r.pool.target.Dial != nil { // no real connections, and perhaps no real time
		sleep = sleepUntil
	}
	end := time.NewTimer(time.Until(due(total)))
	defer end.Stop()
	team := newTeam(r)
	defer team.end()
	for n := range total {
		if sleep(ctx, due(n)) != nil || r.hopeless() {
			return total - n
		}
		m := team.take(ctx, end.C)
		if m == nil {
			return total - n
		}
		m.jobs <- job{n: n, due: due(n)}
	}
	return 0
}
