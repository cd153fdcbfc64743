package batch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"fluentd-perf/internal/mcp"
)

// flight is one call of the stage behind, and those who wait for it.
type flight struct {
	group  *Flights
	shard  *shard
	key    mcp.FlightKey
	fence  uint64 // the scope's fence when the flight began
	call   mcp.Call
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	old    chan struct{} // closed when the flight is over its age
	done   chan struct{} // closed when it has landed: the next three do not change after that

	failure *mcp.Failure // if not nil, the next two are nil
	shared  *shared      // what everybody may have, if they may
	own     *mcp.Result  // the leader's, if it was still there

	// Guarded by shard.mu.
	waiters int
	led     bool // the leader waits
	landed  bool
}

// seat is one caller's place in a flight. The zero seat is none.
type seat struct {
	f     *flight
	leads bool // the flight's call is this caller's
}

// old returns what tells a follower that the flight is over its age. A leader has no better place to go.
func (s seat) old() <-chan struct{} {
	if s.leads {
		return nil
	}
	return s.f.old
}

// leave gives the seat up. The last one out cancels the flight, and is told so; a leader that leaves when the answer is
// there ends it.
func (s seat) leave(why error) (last bool) {
	f := s.f
	f.shard.mu.Lock()
	if s.leads {
		f.led = false
	}
	f.waiters--
	landed := f.landed
	last = !landed && f.waiters == 0
	if last {
		f.shard.forget(f)
	}
	f.shard.mu.Unlock()
	switch {
	case landed && s.leads && f.own != nil:
		closeQuietly(f.own)
		f.cancel(why)
	case last:
		f.cancel(why)
	}
	return last
}

// begin makes a flight of the call. The caller holds the shard's lock, and calls launch without it.
func (g *Flights) begin(c *mcp.Call, sh *shard, fence uint64) *flight {
	f := &flight{
		group: g, shard: sh, key: c.Flight, fence: fence, waiters: 1, led: true,
		old: make(chan struct{}), done: make(chan struct{}),
	}
	f.ctx, f.cancel = context.WithCancelCause(g.opts.Base)
	f.timer = time.AfterFunc(g.opts.MaxAge, f.retire)
	return f
}

// launch sends the flight off, under an id of its own: the leader's may be cancelled by the leader's agent at any time.
func (f *flight) launch(c *mcp.Call) {
	id := f.group.ids.next()
	f.call = *c
	f.call.Body = splice(make([]byte, 0, len(c.Body)+len(id)), c.Body, c.Message.ID, id)
	move(&f.call.Message, c.Message.ID, len(id))
	go f.fly(c.ID())
}

func (f *flight) hasLanded() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// retire ends the joining of a flight over its age, and tells the followers.
func (f *flight) retire() {
	f.shard.mu.Lock()
	f.shard.forget(f)
	f.shard.mu.Unlock()
	close(f.old)
}

// fly calls the stage behind, and lands whatever happens there. leaderID is a part of the leader's body, which is never
// changed.
func (f *flight) fly(leaderID []byte) {
	defer f.group.wg.Done()
	var res *mcp.Result
	var all *shared
	err := errNoReturn
	defer func() { f.settle(res, all, f.failureOf(err, recover())) }()
	res, err = f.group.opts.Next.Call(f.ctx, &f.call)
	if err == nil && f.canShare(res) {
		res, all = f.share(res, leaderID)
	}
}

// settle publishes what came of the flight: a failure, or else the leader's result and what of it is for everybody.
func (f *flight) settle(res *mcp.Result, all *shared, failure *mcp.Failure) {
	f.timer.Stop()
	sh := f.shard
	sh.mu.Lock()
	f.landed = true
	sh.forget(f)
	switch {
	case failure != nil:
		f.failure = failure
	case all != nil:
		f.shared = all
	default:
		sh.held.add(f.key, time.Now(), f.group.opts.Hold)
	}
	if failure == nil && f.led {
		f.own, res = res, nil
	}
	lives := f.own != nil && (f.shared == nil || f.own.Events != nil) // the leader's answer goes on
	sh.mu.Unlock()
	close(f.done)
	if res != nil {
		closeQuietly(res)
	}
	if !lives {
		f.cancel(nil)
	}
}

// errNoReturn stands for a stage that ended its goroutine and did not return.
var errNoReturn = errors.New("the goroutine of the call was ended")

// failureOf makes a failure of an error or a panic, nil if there was neither. Its reason is never that the agent left:
// those who wait have not.
func (f *flight) failureOf(err error, panicked any) *mcp.Failure {
	if panicked != nil {
		err = fmt.Errorf("panic: %v", panicked)
	}
	if panicked != nil || err == errNoReturn {
		f.group.opts.Log.Error("a shared call ended in the middle (this is a bug)",
			slog.String("upstream", f.group.opts.Upstream), slog.String("method", f.call.Method().String()),
			slog.Any("error", err), slog.String("stack", string(debug.Stack())))
		return inside(err)
	}
	if err == nil {
		return nil
	}
	var failure *mcp.Failure
	if !errors.As(err, &failure) {
		return inside(err)
	}
	if failure.Reason == mcp.ReasonCanceled {
		if f.ctx.Err() == nil {
			return inside(failure)
		}
		return stopped(f.ctx, failure)
	}
	return failure
}

// inside is the failure of a call that the daemon lost itself.
func inside(err error) *mcp.Failure {
	return &mcp.Failure{
		Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentUnknown,
		Message: "the call broke off inside the daemon", Cause: err,
	}
}

// stopped is the failure of a call whose flight was cancelled under it: the daemon is stopping.
func stopped(ctx context.Context, canceled *mcp.Failure) *mcp.Failure {
	if f := causeOf(ctx); f != nil {
		f.Sent = canceled.Sent
		return f
	}
	return &mcp.Failure{
		Code: mcp.CodeUnavailable, Reason: mcp.ReasonDraining, Sent: canceled.Sent,
		Message: "fluentd-perf is stopping", Cause: canceled,
	}
}

// causeOf returns a copy of the failure that ended ctx, or nil.
func causeOf(ctx context.Context) *mcp.Failure {
	var f *mcp.Failure
	if !errors.As(context.Cause(ctx), &f) {
		return nil
	}
	own := *f
	return &own
}

// closeQuietly closes an answer that nobody wants: how its stream ends is no news.
func closeQuietly(res *mcp.Result) { _ = res.Close() }
