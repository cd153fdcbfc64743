package cache

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"fluentd-perf/internal/mcp"
)

// Back returns the half inside the flights: memory again, then the slow tiers, then next, which is the way to the server.
func (u *Upstream) Back(next mcp.Caller) mcp.Caller { return &back{u, next} }

type back struct {
	*Upstream
	next mcp.Caller
}

// Call answers one call. A Result that every caller of the flight may have is marked Shareable.
func (b *back) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	p, ok := c.Notes.(*plan)
	if !ok {
		return b.next.Call(ctx, c)
	}
	now := time.Now()
	if e := b.store.fromMemory(b.Upstream, p, now); e != nil && now.Before(e.freshUntil) {
		return b.found(c, p, e, now, "memory"), nil
	}
	g := b.gather(p)
	if p.storable() {
		if e, tier := b.store.fromSlow(ctx, b.Upstream, p, g); e != nil {
			b.metrics.count(tier, outcomeHit)
			return b.found(c, p, e, time.Now(), tier), nil
		}
	}
	b.metrics.count(tierMemory, outcomeMiss)
	res, err := b.next.Call(ctx, c)
	if err != nil {
		return nil, err
	}
	return b.take(c, p, g, res)
}

// gathered are the tokens that guard what a call will store, as they were before the server was asked.
type gathered struct {
	private, public []Token
	slow            []slowTokens // of each slow tier, nil where it could not be read
}

func (b *back) gather(p *plan) *gathered {
	t := b.store.memory.tokens
	return &gathered{
		private: t.read(p.private.Generations, make([]Token, 0, MaxGuards)),
		public:  t.read(p.public.Generations, make([]Token, 0, MaxGuards)),
		slow:    make([]slowTokens, len(b.store.slow)),
	}
}

// found is a whole answer from a tier, as the flight's call gets it.
func (b *back) found(c *mcp.Call, p *plan, e *entry, now time.Time, detail string) *mcp.Result {
	p.detail = detail
	res := b.answer(c, e, e.remaining(now))
	var m mcp.Message
	if err := mcp.Scan(res.Body, &m); err == nil {
		res.Message, res.Checked = m, true
	}
	res.Shareable = res.Checked
	res.Release = nil // shared bytes belong to whoever still reads them
	return res
}

// take looks at the server's answer: whether it is one whole answer, may be kept, and may be shared.
func (b *back) take(c *mcp.Call, p *plan, g *gathered, res *mcp.Result) (*mcp.Result, error) {
	if res.Events != nil && res.Status == http.StatusOK {
		var err error
		if res, err = b.single(res); err != nil {
			return nil, err
		}
	}
	if !res.Checked || res.Status != http.StatusOK || res.Message.Kind != mcp.KindResult && res.Message.Kind != mcp.KindError {
		return res, nil
	}
	m := &res.Message
	if b.pageGone(c, m, res.Body) {
		b.store.bumpNow([]Generation{b.family(p.family)})
	}
	if !complete(m, res.Body) {
		return res, nil // input_required and the like belong to this caller alone
	}
	b.own(res)
	res.Shareable = true
	if m.Kind == mcp.KindResult && !m.Ambiguous && !isTrue(m.IsError.Of(res.Body)) {
		b.notice(res)
		p.stored = b.store.keep(b.Upstream, p, g, b.entryOf(p, res))
	}
	return res, nil
}

// own gives the result memory of its own in place of a pooled buffer: its bytes may go to many.
func (b *back) own(res *mcp.Result) {
	if res.Release == nil {
		return
	}
	body := append(make([]byte, 0, len(res.Body)), res.Body...)
	release := res.Release
	res.Body, res.Release = body, nil
	release()
}

// complete reports whether a result is whole (2026-07-28: resultType, absent is complete). An error is.
func complete(m *mcp.Message, body []byte) bool {
	return !m.ResultType.Present() || mcp.TextIs(m.ResultType.Of(body), "complete")
}

func isTrue(token []byte) bool { return string(token) == "true" }

// pageGone reports whether the server refused a cursor: what is kept of the list's pages is of another list.
func (b *back) pageGone(c *mcp.Call, m *mcp.Message, body []byte) bool {
	return m.Kind == mcp.KindError && c.Message.Cursor.Present() && string(m.ErrorCode.Of(body)) == "-32602"
}

// notice makes everything old when another server answers at the address.
func (b *back) notice(res *mcp.Result) {
	meta, err := mcp.Member(res.Message.Result.Of(res.Body), "_meta")
	if err != nil || !meta.Present() {
		return
	}
	object := meta.Of(res.Message.Result.Of(res.Body))
	info, err := mcp.Member(object, "io.modelcontextprotocol/serverInfo")
	if err == nil && b.server.changed(info.Of(object)) {
		b.store.bumpNow(b.families[:])
	}
}

// entryOf makes an entry of an answer, nil where there is nothing to keep it for.
func (b *back) entryOf(p *plan, res *mcp.Result) *entry {
	m, now := &res.Message, time.Now()
	serverTTL := int64(-1)
	if m.TTL.Present() {
		serverTTL = ttlOf(m.TTL.Of(res.Body))
	}
	ttl := b.lifetime(p, serverTTL)
	if ttl <= 0 {
		return nil
	}
	public := !p.legacy && serverTTL > 0 && mcp.TextIs(m.CacheScope.Of(res.Body), "public")
	stale := min(10*ttl, b.opts.StaleIfError)
	fresh := now.Add(ttl - jitter(ttl))
	return &entry{
		public: public, storedAt: now, freshUntil: fresh, staleUntil: fresh.Add(max(stale, b.opts.StaleWhileRevalidate)),
		serverTTL: serverTTL, id: m.ID, ttl: m.TTL, body: res.Body,
	}
}

// ttlOf reads ttlMs: an integer, and 0 for anything else, a negative one included.
func ttlOf(token []byte) int64 {
	n, err := strconv.ParseInt(string(token), 10, 64)
	if errors.Is(err, strconv.ErrRange) && n > 0 {
		return int64(dayTTL / time.Millisecond)
	}
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// legacyTTL is how long a legacy list is kept whose changes the daemon hears.
const legacyTTL = time.Minute

// lifetime is how long an answer is fresh: by the operator's word, else the server's, else the legacy rule.
func (b *back) lifetime(p *plan, serverTTL int64) time.Duration {
	var ttl time.Duration
	switch {
	case p.override:
		ttl = p.ttl
	case p.legacy && p.listens:
		ttl = legacyTTL
	case !p.legacy:
		ttl = time.Duration(min(max(serverTTL, 0), int64(dayTTL/time.Millisecond))) * time.Millisecond
	}
	if ttl > 0 {
		ttl = max(ttl, b.opts.MinTTL)
	}
	return min(ttl, b.opts.MaxTTL)
}

// jitter takes up to a twentieth off a long life, so that what was fetched together is not fetched together again.
func jitter(ttl time.Duration) time.Duration {
	if ttl < 10*time.Second {
		return 0
	}
	return rand.N(ttl / 20)
}

// single turns a stream that carries the one answer and nothing else into that answer; any other stream passes whole.
func (b *back) single(res *mcp.Result) (*mcp.Result, error) {
	var before []mcp.Event
	for {
		ev, err := res.Events.Next()
		if err != nil {
			return b.replay(res, before, nil, err), nil
		}
		switch {
		case ev.Answer && len(before) < maxReplay && ev.Message.Kind != mcp.KindBatch:
			body := append(make([]byte, 0, len(ev.Data)), ev.Data...)
			m := ev.Message
			b.drain(res)
			return &mcp.Result{
				Status: res.Status, Header: jsonHeader(res.Header), Body: body, Message: m, Checked: true, Timing: res.Timing,
			}, nil
		case len(ev.Data) == 0 && len(before) < maxReplay:
			before = append(before, keepEvent(ev)) // a priming event or a comment
		default:
			return b.replay(res, before, &ev, nil), nil
		}
	}
}

// maxReplay bounds the priming events and comments before an answer.
const maxReplay = 16

// keepEvent copies what of an event without data has to be said again.
func keepEvent(ev mcp.Event) mcp.Event {
	kept := mcp.Event{HasID: ev.HasID, More: ev.More}
	kept.Raw = append([]byte(nil), ev.Raw...)
	kept.ID = append([]byte(nil), ev.ID...)
	if ev.Retry != nil {
		kept.Retry = append([]byte(nil), ev.Retry...)
	}
	return kept
}

// jsonHeader is the header of a stream's answer as a JSON one.
func jsonHeader(h http.Header) http.Header {
	out := h.Clone()
	out["Content-Type"] = jsonType
	delete(out, "Cache-Control")
	delete(out, "X-Accel-Buffering")
	delete(out, "Content-Length")
	return out
}

// drain lets a stream that has answered end by itself for a moment, so that its connection can be used again.
func (b *back) drain(res *mcp.Result) {
	const patience = time.Second
	if !b.store.background(func(context.Context) {
		stop := time.AfterFunc(patience, func() { b.store.discard(res) })
		for {
			if _, err := res.Events.Next(); err != nil {
				break
			}
		}
		if stop.Stop() {
			b.store.discard(res)
		}
	}) {
		b.store.discard(res)
	}
}

// replay is the stream with the events that were read from it already.
func (b *back) replay(res *mcp.Result, before []mcp.Event, ev *mcp.Event, err error) *mcp.Result {
	res.Events = &replayed{Events: res.Events, before: before, ev: ev, err: err}
	return res
}

type replayed struct {
	mcp.Events
	before []mcp.Event
	ev     *mcp.Event
	err    error
}

// Next returns the next event.
func (r *replayed) Next() (mcp.Event, error) {
	if len(r.before) > 0 {
		ev := r.before[0]
		r.before = r.before[1:]
		return ev, nil
	}
	if r.ev != nil {
		ev := *r.ev
		r.ev = nil
		return ev, nil
	}
	if r.err != nil {
		return mcp.Event{}, r.err
	}
	return r.Events.Next()
}

