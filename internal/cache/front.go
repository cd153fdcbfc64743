package cache

import (
	"context"
	"crypto/sha256"
	"net/http"
	"strconv"
	"time"

	"fluentd-perf/internal/mcp"
)

// Front returns the half before the flights: it answers from memory what it may, and watches everything that passes for
// what makes entries old. Calls go on to next.
func (u *Upstream) Front(next mcp.Caller) mcp.Caller { return &front{u, next} }

type front struct {
	*Upstream
	next mcp.Caller
}

// Call answers one call.
func (f *front) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	buf := f.store.buffers.Get(512)
	asker, buf := f.store.partitions.of(c.Header, buf)
	f.store.buffers.Put(buf)
	p := f.planFor(c, asker)
	if p == nil {
		return f.pass(ctx, c, asker)
	}
	now := time.Now()
	e := f.store.fromMemory(f.Upstream, p, now)
	if e != nil && now.Before(e.freshUntil) {
		f.metrics.count(tierMemory, outcomeHit)
		return f.hit(c, e, now, "memory"), nil
	}
	if e != nil && now.Before(e.staleUntil) {
		p.stale = e
	}
	return f.miss(ctx, c, p, now)
}

// hit is the answer from an entry: JSON, with this caller's id and the time that is left.
func (f *front) hit(c *mcp.Call, e *entry, now time.Time, detail string) *mcp.Result {
	res := f.answer(c, e, e.remaining(now))
	ttl := e.freshUntil.Sub(now)
	res.Header["Cache-Status"] = []string{status("hit; ttl="+strconv.FormatInt(int64(ttl/time.Second), 10), detail)}
	return res
}

// status is a Cache-Status field (RFC 9211).
func status(what, detail string) string {
	s := "fluentd-perf; " + what
	if detail != "" {
		s += "; detail=" + detail
	}
	return s
}

var jsonType = []string{"application/json"}

func (u *Upstream) answer(c *mcp.Call, e *entry, ttlMs int64) *mcp.Result {
	id := c.ID()
	body := e.appendAnswer(u.store.buffers.Get(len(e.body)+len(id)+20), id, ttlMs)
	res := &mcp.Result{
		Status: http.StatusOK, Header: make(http.Header, 8), Body: body,
		Release: func() { u.store.buffers.Put(body) },
	}
	res.Header["Content-Type"] = jsonType
	return res
}

// miss hands the call on, and falls back to an expired answer where that may stand in.
func (f *front) miss(ctx context.Context, c *mcp.Call, p *plan, now time.Time) (*mcp.Result, error) {
	out := *c
	out.Notes = p
	out.Scope = f.scope(p.asker)
	out.Flight = f.flight(p)
	if p.stale == nil {
		res, err := f.next.Call(ctx, &out)
		return f.missed(c, p, res, err)
	}
	if now.Before(p.stale.freshUntil.Add(f.opts.StaleWhileRevalidate)) {
		f.store.refresh(&out, f.next)
		return f.serveStale(c, p, "stale-while-revalidate"), nil
	}
	return f.race(ctx, c, &out, p)
}

// flight is the key under which equal calls are one: the private one, while the same tokens hold. A call after an
// invalidation joins none of before.
func (f *front) flight(p *plan) mcp.FlightKey {
	buf := append(make([]byte, 0, 96), p.private.Key[:]...)
	for _, t := range f.store.memory.tokens.read(p.private.Generations, make([]Token, 0, MaxGuards)) {
		buf = strconv.AppendUint(append(buf, ' '), uint64(t), 16)
	}
	return sha256.Sum256(buf)
}

// race waits for the server as long as an agent with an expired answer at hand should wait. The call goes on for whoever
// comes next.
func (f *front) race(ctx context.Context, c, out *mcp.Call, p *plan) (*mcp.Result, error) {
	type came struct {
		res *mcp.Result
		err error
	}
	done := make(chan came, 1)
	call, cancel := context.WithCancelCause(ctx)
	detached := f.store.background(func(life context.Context) {
		stop := context.AfterFunc(life, func() { cancel(context.Cause(life)) })
		defer stop()
		res, err := f.next.Call(call, out)
		done <- came{res, err}
	})
	if !detached {
		defer cancel(nil)
		res, err := f.next.Call(ctx, out)
		return f.staleOr(c, p, res, err)
	}
	timer := time.NewTimer(f.opts.StaleAfter)
	defer timer.Stop()
	select {
	case r := <-done:
		if r.err == nil {
			hold := r.res.Release
			r.res.Release = func() {
				cancel(nil)
				if hold != nil {
					hold()
				}
			}
		} else {
			cancel(nil)
		}
		return f.staleOr(c, p, r.res, r.err)
	case <-timer.C:
	}
	f.store.background(func(context.Context) {
		if r := <-done; r.err == nil {
			f.store.discard(r.res)
		}
		cancel(nil)
	})
	return f.serveStale(c, p, "stale-error"), nil
}

// staleOr returns the server's answer, or the expired one where the server failed and it still holds.
func (f *front) staleOr(c *mcp.Call, p *plan, res *mcp.Result, err error) (*mcp.Result, error) {
	now := time.Now()
	if !failed(res, err) || !now.Before(p.stale.staleUntil) || f.store.fromMemory(f.Upstream, p, now) == nil {
		return f.missed(c, p, res, err)
	}
	if err == nil {
		f.store.discard(res)
	}
	return f.serveStale(c, p, "stale-error"), nil
}

func (f *front) serveStale(c *mcp.Call, p *plan, detail string) *mcp.Result {
	f.metrics.count(tierMemory, outcomeStale)
	res := f.answer(c, p.stale, 0)
	age := time.Until(p.stale.freshUntil)
	res.Header["Cache-Status"] = []string{status("hit; ttl="+strconv.FormatInt(int64(age/time.Second), 10), detail)}
	return res
}

// missed notes what an answer from behind says of its credential, and how it came.
func (f *front) missed(c *mcp.Call, p *plan, res *mcp.Result, err error) (*mcp.Result, error) {
	if err != nil {
		return nil, err
	}
	f.judged(p.asker, res)
	if res.Header == nil {
		res.Header = make(http.Header, 1)
	}
	if len(res.Header["Cache-Status"]) == 0 {
		what := "fwd=miss"
		switch {
		case res.Collapsed:
			what = "fwd=miss; collapsed"
			f.metrics.count(tierMemory, outcomeCollapsed)
		case p.detail != "":
			what = "hit"
		case p.stored:
			what = "fwd=miss; stored"
		}
		res.Header["Cache-Status"] = []string{status(what, p.detail)}
	}
	if res.Events != nil {
		res.Events = f.watch(res.Events, c)
	}
	return res, nil
}

// judged notes whether the server takes the credential.
func (f *front) judged(asker Partition, res *mcp.Result) {
	switch {
	case res.Status == http.StatusUnauthorized || res.Status == http.StatusForbidden:
		f.seen.refused(asker)
		f.store.bumpNow([]Generation{f.Upstream.asker(asker)})
	case res.Status < http.StatusMultipleChoices:
		f.seen.accepted(asker, time.Now())
	}
}
