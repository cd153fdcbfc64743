package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/mcp"
)

// fetchResult is the result of a call that the daemon makes on its own behalf.
type fetchResult struct {
	served
	err  error
	stop context.CancelFunc // ends the call
}

// fetchOrStale calls the server while an expired answer is at hand. The expired one is served where the server fails, where it
// takes longer than StaleAfter, or at once where the operator allows that. The call goes on for the next one who makes the request;
// while it does, the expired answer is served without another call.
func (u *Stage) fetchOrStale(ctx context.Context, q *load) (served, error) {
	key := q.keys.of(q.forAll).Key
	if _, busy := u.fetching.LoadOrStore(key, nil); busy {
		if u.mayServeStale(q) {
			return u.serveStale(q, "stale-revalidating"), nil
		}
		return u.fetch(ctx, q)
	}
	// Before the server is called: what it says of the credential meanwhile concerns the next call.
	atOnce := time.Now().UnixMilli() < q.stale.freshUntil+u.opts.StaleWhileRevalidate.Milliseconds() && u.mayServeStale(q)
	// Copies: this function goes on reading q, and a fetch that outlives the agent's request must not keep all of that in memory,
	// of which the call is a part, and a short body too.
	detached, call := *q, *q.call
	call.Body, detached.call = bytes.Clone(call.Body), &call
	done, left := make(chan fetchResult), make(chan struct{})
	defer close(left)
	u.fetches.Add(1)
	if !u.store.background(func(life context.Context) {
		defer u.fetches.Done()
		u.fetchDetached(life, &detached, key, done, left)
	}) {
		u.fetches.Done()
		u.fetching.Delete(key)
		return u.fetchInTime(ctx, q)
	}
	if atOnce {
		return u.serveStale(q, "stale-while-revalidate"), nil
	}
	return u.awaitFetch(ctx, q, done)
}

// fetchInTime calls the server as any call does, without going on by itself: too many do already. Where the expired answer may be
// served, the call ends after StaleAfter.
func (u *Stage) fetchInTime(ctx context.Context, q *load) (served, error) {
	limited, end := context.WithCancel(ctx)
	own := *q // fetch goes on changing q
	late := time.AfterFunc(u.opts.StaleAfter, func() {
		if u.mayServeStale(&own) {
			end()
		}
	})
	a, err := u.fetch(limited, q)
	late.Stop()
	slow := limited.Err() != nil && ctx.Err() == nil
	if err == nil {
		onRelease(a.res, end)
	} else {
		end()
	}
	if slow && u.mayServeStale(q) {
		if err == nil {
			u.store.discard(a.res)
		}
		return u.serveStale(q, "stale-slow"), nil
	}
	return u.staleIfFailed(q, a, err)
}

// awaitFetch waits for the server's answer, at most StaleAfter where the expired one may be served then.
func (u *Stage) awaitFetch(ctx context.Context, q *load, done <-chan fetchResult) (served, error) {
	deadline := time.NewTimer(u.opts.StaleAfter)
	defer deadline.Stop()
	for {
		select {
		case r := <-done:
			if r.err == nil { // from here on the answer ends with the agent's ctx
				untie := context.AfterFunc(ctx, r.stop)
				onRelease(r.res, func() { untie() })
			}
			return u.staleIfFailed(q, r.served, r.err)
		case <-deadline.C:
			if u.mayServeStale(q) {
				return u.serveStale(q, "stale-slow"), nil
			}
		case <-ctx.Done():
			return served{}, mcp.Canceled(ctx, mcp.SentUnknown)
		}
	}
}

// fetchDetached calls the server on the daemon's own behalf, and hands the result to the call that waits for it, if it still does.
func (u *Stage) fetchDetached(life context.Context, q *load, key tier.Key, done chan<- fetchResult, left <-chan struct{}) {
	ctx, end := context.WithCancelCause(life)
	cancel, base := func() { end(nil) }, u.opts.Base
	untie := context.AfterFunc(base, func() { end(context.Cause(base)) }) // the upstream may be closed before the store
	defer untie()
	a, err := u.fetchRecovered(ctx, q)
	u.fetching.Delete(key)
	if err != nil {
		cancel()
	} else {
		onRelease(a.res, cancel)
	}
	select {
	case done <- fetchResult{a, err, cancel}:
	case <-left:
		if err == nil {
			u.drainUnread(a.res, cancel)
		} else {
			u.store.log.Debug("fetching an answer that nobody waits for", "upstream", u.opts.Name, "error", err)
		}
	}
}

// fetchRecovered is fetch in a goroutine of its own, where a panic would end the daemon.
func (u *Stage) fetchRecovered(ctx context.Context, q *load) (a served, err error) {
	defer func() {
		if r := recover(); r != nil {
			a, err = served{}, u.crashed(q.name, r)
		}
	}()
	return u.fetch(ctx, q)
}

// crashed is the failure of a call that panicked.
func (u *Stage) crashed(method string, panicked any) *mcp.Failure {
	u.store.log.Error("a call ended in the middle (this is a bug)", slog.String("upstream", u.opts.Name),
		slog.String("method", method), slog.Any("panic", panicked), slog.String("stack", string(debug.Stack())))
	return mcp.InternalFailure(fmt.Errorf("panic: %v", panicked))
}

// drainFor is how long a stream that nobody waits for may take to end by itself, so that its connection can be used again.
const drainFor = time.Second

// drainUnread reads and closes an answer that nobody waits for: what a stream says of changes is still applied.
func (u *Stage) drainUnread(res *mcp.Result, stop context.CancelFunc) {
	defer u.store.discard(res)
	if res.Events == nil {
		return
	}
	defer time.AfterFunc(drainFor, stop).Stop()
	var err error
	for err == nil {
		_, err = res.Events.Next()
	}
}

// staleIfFailed returns the server's answer, or the expired one where the server failed.
func (u *Stage) staleIfFailed(q *load, a served, err error) (served, error) {
	if !failed(a.res, err) || !u.mayServeStale(q) {
		return a, err
	}
	if !u.failing.Swap(true) {
		u.store.log.Warn("the server fails: expired answers are served instead", "upstream", u.opts.Name, "error", errorOf(a.res, err))
	}
	if err == nil {
		u.store.discard(a.res)
	}
	return u.serveStale(q, "stale-error"), nil
}

// errorOf says in words how the server failed.
func errorOf(res *mcp.Result, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("HTTP status %d", res.Status)
}

// mayServeStale reports whether the expired answer may still be served: nothing has invalidated it meanwhile, and the server has not
// refused the credential.
func (u *Stage) mayServeStale(q *load) bool {
	now := time.Now()
	return q.stale.usable(now.UnixMilli()) && u.tokensHold(q, q.stale.public) && (!q.stale.public || u.credentials.known(q.principal, q.credential, now))
}

// serveStale returns the expired answer, with ttlMs 0.
func (u *Stage) serveStale(q *load, detail string) served {
	u.metrics.count(q.staleTier, outcomeStale)
	return u.tierAnswer(q, q.stale, 0, detail)
}

// failed reports whether a stale answer may be served instead of a call's result: the server or the connection to it has failed. A
// refusal that concerns the agent alone is no such failure.
func failed(res *mcp.Result, err error) bool {
	if err == nil {
		return res.Status == http.StatusTooManyRequests || res.Status >= http.StatusInternalServerError
	}
	var f *mcp.Failure
	if !errors.As(err, &f) {
		return false
	}
	switch f.Code {
	case mcp.CodeOverloaded, mcp.CodeBadGateway, mcp.CodeUnavailable, mcp.CodeDeadlinePassed:
		return f.Reason != mcp.ReasonDraining
	}
	return false
}
