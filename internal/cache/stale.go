package cache

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/mcp"
)

// came is what a call of the daemon's own came to.
type came struct {
	served
	err  error
	stop context.CancelFunc // ends the call
}

// tie makes the answer end with ctx, as if it were that of a call with it.
func (c *came) tie(ctx context.Context) {
	if c.err != nil {
		return
	}
	loose, release := context.AfterFunc(ctx, c.stop), c.res.Release
	c.res.Release = func() {
		loose()
		if release != nil {
			release()
		}
	}
}

// orStale asks the server while an expired answer is at hand: that one is given where the server fails, takes longer
// than an agent should wait, or where the operator lets it be given at once. The call goes on all the same, for whoever
// comes next; while it does, the expired answer is given without another.
func (u *Upstream) orStale(ctx context.Context, q *query) (served, error) {
	key := q.private.Key
	if q.open {
		key = q.public.Key
	}
	if !u.fetching.begin(key) {
		if u.mayStandIn(q) {
			return u.standIn(q, "stale-revalidating"), nil
		}
		return u.fetch(ctx, q)
	}
	// Before the server is asked: what it says of the credential meanwhile is for the next one.
	atOnce := time.Now().UnixMilli() < q.stale.freshUntil+u.opts.StaleWhileRevalidate.Milliseconds() && u.mayStandIn(q)
	own, call := *q, *q.call // this half goes on reading q, and its caller's body is no longer than its call
	call.Body, own.call = bytes.Clone(call.Body), &call
	done, left := make(chan came), make(chan struct{})
	defer close(left)
	if !u.store.background(func(life context.Context) { u.fetchFor(life, &own, key, done, left) }) {
		u.fetching.end(key)
		a, err := u.fetch(ctx, q)
		return u.staleOr(q, a, err)
	}
	if atOnce {
		return u.standIn(q, "stale-while-revalidate"), nil
	}
	return u.await(ctx, q, done)
}

// await waits for the server's answer, and no longer than an agent should where the expired one may be given instead.
func (u *Upstream) await(ctx context.Context, q *query, done <-chan came) (served, error) {
	patience := time.NewTimer(u.opts.StaleAfter)
	defer patience.Stop()
	for {
		select {
		case r := <-done:
			r.tie(ctx)
			return u.staleOr(q, r.served, r.err)
		case <-patience.C:
			if u.mayStandIn(q) {
				return u.standIn(q, "stale-slow"), nil
			}
		case <-ctx.Done():
			return served{}, &mcp.Failure{
				Reason: mcp.ReasonCanceled, Sent: mcp.SentUnknown, Message: "the agent left", Cause: context.Cause(ctx),
			}
		}
	}
}

// fetchFor asks the server on the daemon's own behalf, and hands the answer to the call that wanted it, if that is still
// there.
func (u *Upstream) fetchFor(life context.Context, q *query, key tier.Key, done chan<- came, left <-chan struct{}) {
	ctx, cancel := context.WithCancel(life)
	a, err := u.fetchSafely(ctx, q)
	u.fetching.end(key)
	if err != nil {
		cancel()
	} else {
		release := a.res.Release
		a.res.Release = func() {
			cancel()
			if release != nil {
				release()
			}
		}
	}
	select {
	case done <- came{a, err, cancel}:
	case <-left:
		if err == nil {
			u.unread(a.res, cancel)
		} else {
			u.store.log.Debug("fetching an answer that nobody waits for", "upstream", u.opts.Name, "error", err)
		}
	}
}

// fetchSafely is fetch where nobody else would catch a panic: it would end the daemon.
func (u *Upstream) fetchSafely(ctx context.Context, q *query) (a served, err error) {
	defer func() {
		if r := recover(); r != nil {
			a, err = served{}, u.crashed(q.name, r)
		}
	}()
	return u.fetch(ctx, q)
}

// crashed is the failure of a call that panicked.
func (u *Upstream) crashed(method string, panicked any) *mcp.Failure {
	u.store.log.Error("a call ended in the middle (this is a bug)", slog.String("upstream", u.opts.Name),
		slog.String("method", method), slog.Any("panic", panicked), slog.String("stack", string(debug.Stack())))
	return mcp.Inside(fmt.Errorf("panic: %v", panicked))
}

// drainFor is how long a stream that nobody waits for may take to end by itself, so that its connection can be used again.
const drainFor = time.Second

// unread takes an answer that nobody waits for any more. What a stream says of what has changed counts all the same.
func (u *Upstream) unread(res *mcp.Result, stop context.CancelFunc) {
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

// staleOr returns the server's answer, or the expired one where the server failed.
func (u *Upstream) staleOr(q *query, a served, err error) (served, error) {
	if !failed(a.res, err) || !u.mayStandIn(q) {
		return a, err
	}
	if !u.failing.Swap(true) {
		u.store.log.Warn("the server fails: expired answers are served instead", "upstream", u.opts.Name, "error", errorOf(a.res, err))
	}
	if err == nil {
		u.store.discard(a.res)
	}
	return u.standIn(q, "stale-error"), nil
}

// errorOf says in words how the server failed.
func errorOf(res *mcp.Result, err error) string {
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("HTTP status %d", res.Status)
}

// mayStandIn reports whether the expired answer still may be given: nothing has made it old meanwhile, and the server has
// not refused the credential.
func (u *Upstream) mayStandIn(q *query) bool {
	now := time.Now()
	return q.stale.usable(now.UnixMilli()) && u.holds(q, q.stale.public) && (!q.stale.public || u.seen.known(q.asker, q.bearer, now))
}

// standIn is the expired answer, with nothing left of its time.
func (u *Upstream) standIn(q *query, detail string) served {
	u.metrics.count(q.staleTier, outcomeStale)
	a := u.tierAnswer(q, q.stale, 0)
	addStatus(a.res, hitStatus(q.stale, time.Now(), detail)[len("fluentd-perf; "):])
	return a
}
