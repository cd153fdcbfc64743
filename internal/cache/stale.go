package cache

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"fluentd-perf/internal/mcp"
)

// came is what a call of the daemon's own came to.
type came struct {
	res  *mcp.Result
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
func (b *back) orStale(ctx context.Context, q *query) (*mcp.Result, error) {
	key := q.private.Key
	if q.open {
		key = q.public.Key
	}
	if !b.fetching.begin(key) {
		if b.mayStandIn(q) {
			return b.standIn(q, "stale-revalidating"), nil
		}
		return b.fetch(ctx, q)
	}
	// Before the server is asked: what it says of the credential meanwhile is for the next one.
	atOnce := time.Now().UnixMilli() < q.stale.freshUntil+b.opts.StaleWhileRevalidate.Milliseconds() && b.mayStandIn(q)
	own, call := *q, *q.call // this half goes on reading q, and its caller's body is no longer than its call
	call.Body, own.call = bytes.Clone(call.Body), &call
	done, left := make(chan came), make(chan struct{})
	defer close(left)
	if !b.store.background(func(life context.Context) { b.fetchFor(life, &own, key, done, left) }) {
		b.fetching.end(key)
		res, err := b.fetch(ctx, q)
		return b.staleOr(q, res, err)
	}
	if atOnce {
		return b.standIn(q, "stale-while-revalidate"), nil
	}
	return b.await(ctx, q, done)
}

// await waits for the server's answer, and no longer than an agent should where the expired one may be given instead.
func (b *back) await(ctx context.Context, q *query, done <-chan came) (*mcp.Result, error) {
	patience := time.NewTimer(b.opts.StaleAfter)
	defer patience.Stop()
	for {
		select {
		case r := <-done:
			r.tie(ctx)
			return b.staleOr(q, r.res, r.err)
		case <-patience.C:
			if b.mayStandIn(q) {
				return b.standIn(q, "stale-slow"), nil
			}
		case <-ctx.Done():
			return nil, &mcp.Failure{
				Reason: mcp.ReasonCanceled, Sent: mcp.SentUnknown, Message: "the agent left", Cause: context.Cause(ctx),
			}
		}
	}
}

// fetchFor asks the server on the daemon's own behalf, and hands the answer to the call that wanted it, if that is still
// there.
func (b *back) fetchFor(life context.Context, q *query, key Key, done chan<- came, left <-chan struct{}) {
	ctx, cancel := context.WithCancel(life)
	res, err := b.fetchSafely(ctx, q)
	b.fetching.end(key)
	if err != nil {
		cancel()
	} else {
		release := res.Release
		res.Release = func() {
			cancel()
			if release != nil {
				release()
			}
		}
	}
	select {
	case done <- came{res, err, cancel}:
	case <-left:
		if err == nil {
			b.unread(res, cancel)
		} else {
			b.store.log.Debug("fetching an answer that nobody waits for", "upstream", b.opts.Name, "error", err)
		}
	}
}

// fetchSafely is fetch where nobody else would catch a panic: it would end the daemon.
func (b *back) fetchSafely(ctx context.Context, q *query) (res *mcp.Result, err error) {
	defer func() {
		if r := recover(); r != nil {
			b.store.log.Error("a call ended in the middle (this is a bug)", slog.String("upstream", b.opts.Name),
				slog.String("method", q.name), slog.Any("panic", r), slog.String("stack", string(debug.Stack())))
			res, err = nil, &mcp.Failure{
				Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentUnknown,
				Message: "the call broke off inside the daemon", Cause: fmt.Errorf("panic: %v", r),
			}
		}
	}()
	return b.fetch(ctx, q)
}

// drainFor is how long a stream that nobody waits for may take to end by itself, so that its connection can be used again.
const drainFor = time.Second

// unread takes an answer that nobody waits for any more. What a stream says of what has changed counts all the same.
func (b *back) unread(res *mcp.Result, stop context.CancelFunc) {
	defer b.store.discard(res)
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
func (b *back) staleOr(q *query, res *mcp.Result, err error) (*mcp.Result, error) {
	if !failed(res, err) || !b.mayStandIn(q) {
		return res, err
	}
	if !b.failing.Swap(true) {
		b.store.log.Warn("the server fails: expired answers stand in for it", "upstream", b.opts.Name, "error", errorOf(res, err))
	}
	if err == nil {
		b.store.discard(res)
	}
	return b.standIn(q, "stale-error"), nil
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
func (b *back) mayStandIn(q *query) bool {
	now := time.Now()
	return q.stale.usable(now.UnixMilli()) && b.holds(q, q.stale.public) && (!q.stale.public || b.seen.known(q.asker, now))
}

// standIn is the expired answer, with nothing left of its time.
func (b *back) standIn(q *query, detail string) *mcp.Result {
	b.metrics.count(q.staleTier, outcomeStale)
	res := b.tierAnswer(q, q.stale, 0)
	addStatus(res, hitStatus(q.stale, time.Now(), detail)[len("fluentd-perf; "):])
	return res
}
