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
	method mcp.Method
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	aged   chan struct{} // closed when the flight is over its age
	done   chan struct{} // closed when it has ended: the next four do not change after that
	free   chan struct{} // closed when the followers need not wait any more: with done, or when the leader was cancelled

	failure *mcp.Failure // if not nil, the next two are nil
	crashed bool         // the failure is the leader's alone: a panic, or that of a call of its session
	shared  *shared      // what followers may have, if they may
	own     *mcp.Result  // the leader's, if it was still there

	// Guarded by shard.mu.
	waiters int
	led     bool // the leader waits
	ended   bool
	freed   bool // the followers were let go before the end; not changed after free was closed
}

// waiter is one caller's place in a flight. The zero waiter is none.
type waiter struct {
	f     *flight
	leads bool // the flight's call is this caller's
}

// ready returns what is closed when there is something for the waiter, or will be nothing.
func (w waiter) ready() <-chan struct{} {
	if w.leads {
		return w.f.done
	}
	return w.f.free
}

func (w waiter) isReady() bool {
	select {
	case <-w.ready():
		return true
	default:
		return false
	}
}

// failure and shared return what a waiter that is ready has. Without either a follower goes by itself.
func (w waiter) failure() *mcp.Failure {
	if !w.leads && (w.f.freed || w.f.crashed) {
		return nil
	}
	return w.f.failure
}

func (w waiter) shared() *shared {
	if w.leads || w.f.freed {
		return nil
	}
	return w.f.shared
}

// leave gives the place up. The last one out cancels the flight; a leader that leaves when the answer is there ends it.
func (w waiter) leave(why error) {
	f := w.f
	f.shard.mu.Lock()
	if w.leads {
		f.led = false
	}
	f.waiters--
	ended := f.ended
	last := !ended && f.waiters == 0
	if last {
		f.shard.forget(f)
	}
	f.shard.mu.Unlock()
	switch {
	case ended && w.leads && f.own != nil:
		closeQuietly(f.own)
		f.cancel(why)
	case last:
		f.cancel(why)
	}
}

// begin makes a flight of the call. The caller holds the shard's lock, and runs it without that.
func (g *Flights) begin(c *mcp.Call, sh *shard, fence uint64) *flight {
	f := &flight{
		group: g, shard: sh, key: c.Flight, fence: fence, method: c.Method(), waiters: 1, led: true,
		aged: make(chan struct{}), done: make(chan struct{}), free: make(chan struct{}),
	}
	f.ctx, f.cancel = context.WithCancelCause(g.opts.Base)
	f.timer = time.AfterFunc(g.opts.MaxAge, f.retire)
	return f
}

// retire ends the joining of a flight over its age, and tells the followers.
func (f *flight) retire() {
	f.close()
	close(f.aged)
}

// close lets nobody join any more, and returns how many follow.
func (f *flight) close() (followers int) {
	f.shard.mu.Lock()
	defer f.shard.mu.Unlock()
	f.shard.forget(f)
	if f.led {
		return f.waiters - 1
	}
	return f.waiters
}

// letGo sends the followers by themselves: what becomes of the leader's call is no longer for them.
func (f *flight) letGo() {
	f.shard.mu.Lock()
	defer f.shard.mu.Unlock()
	f.shard.forget(f)
	if !f.ended && !f.freed {
		f.freed = true
		close(f.free)
	}
}

// run calls the stage behind with the leader's call as it is, and ends the flight whatever happens there.
func (f *flight) run(c *mcp.Call) {
	defer f.group.wg.Done()
	var res *mcp.Result
	err := errNoReturn
	defer func() {
		failure, crashed := f.failureOf(err, recover())
		f.crashed = crashed || c.Bound
		f.end(c, res, failure)
	}()
	res, err = f.group.opts.Next.Call(f.ctx, c)
}

// end publishes what came of the flight: a failure, or else the leader's result and what of it is for everybody. A copy is
// made only where somebody follows.
func (f *flight) end(c *mcp.Call, res *mcp.Result, failure *mcp.Failure) {
	f.timer.Stop()
	share := failure == nil && canShare(c, res)
	var all *shared
	if f.close() > 0 && share {
		all = newShared(res)
	}
	sh := f.shard
	sh.mu.Lock()
	f.ended = true
	f.failure, f.shared = failure, all
	if failure == nil && !share && !f.freed { // after a cancellation it says nothing of the others
		sh.held.add(f.key, time.Now(), f.group.opts.Hold)
	}
	if failure == nil && f.led {
		f.own, res = res, nil
	}
	lives := goesOn(f.own)
	close(f.done)
	if !f.freed {
		close(f.free)
	}
	sh.mu.Unlock()
	if res != nil {
		closeQuietly(res)
	}
	if !lives {
		f.cancel(nil)
	}
}

// goesOn reports whether an answer has only begun: it needs the flight's context until it is closed.
func goesOn(res *mcp.Result) bool { return res != nil && (res.Events != nil || res.Raw != nil) }

// bind makes the flight's context end with the leader's, or when its answer is closed.
func (f *flight) bind(ctx context.Context, res *mcp.Result) {
	stop := context.AfterFunc(ctx, func() { f.cancel(context.Cause(ctx)) })
	release := res.Release
	res.Release = func() {
		stop()
		f.cancel(nil)
		if release != nil {
			release()
		}
	}
}

// errNoReturn stands for a stage that ended its goroutine and did not return.
var errNoReturn = errors.New("the goroutine of the call was ended")

// failureOf makes a failure of an error or a panic, nil if there was neither. A call that crashed says nothing of the
// others. The reason is never that the agent left: those who wait have not.
func (f *flight) failureOf(err error, panicked any) (failure *mcp.Failure, crashed bool) {
	if panicked != nil {
		err = fmt.Errorf("panic: %v", panicked)
	}
	if panicked != nil || err == errNoReturn {
		f.group.opts.Log.Error("a shared call ended in the middle (this is a bug)",
			slog.String("upstream", f.group.opts.Upstream), slog.String("method", f.method.String()),
			slog.Any("error", err), slog.String("stack", string(debug.Stack())))
		return mcp.Inside(err), true
	}
	if err == nil {
		return nil, false
	}
	if !errors.As(err, &failure) {
		return mcp.Inside(err), false
	}
	if failure.Reason == mcp.ReasonCanceled {
		if f.ctx.Err() == nil {
			return mcp.Inside(failure), false
		}
		return mcp.Stopped(f.ctx, failure), false
	}
	return failure, false
}

// closeQuietly closes an answer that nobody wants: how its stream ends is no news.
func closeQuietly(res *mcp.Result) { _ = res.Close() }
