package cache

import (
	"net/http"
	"strconv"
	"sync"
	"time"
	"unsafe"

	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/mcp"
)

// inMemory reads what memory has for a question: the asker's own, or else everybody's, where the asker is one whom the
// server has accepted lately. Expired entries are found, too, where there is no fresh one.
func (u *Upstream) inMemory(p *pair, q *question, e *entry, now time.Time) bool {
	return u.remembers(p, q, wholeEntry, e, now)
}

func (u *Upstream) remembers(p *pair, q *question, what extent, e *entry, now time.Time) bool {
	own := u.remembered(&p.private, q, false, what, e, now)
	if own && e.fresh(now.UnixMilli()) || q.own {
		return own // those are never public
	}
	var all entry
	if !u.remembered(&p.public, q, true, what, &all, now) || !u.seen.known(q.asker, q.bearer, now) || own && !all.before(e, now) {
		return own
	}
	*e = all
	return true
}

// extent is how much of an entry is read.
type extent uint8

const (
	wholeEntry extent = iota
	headAlone         // all but the body, most often without a copy
)

// entryOf reads an entry of memory, and reports whether it is there.
func (s *Store) entryOf(l *tier.Lookup, what extent, e *entry, now time.Time) bool {
	if what == headAlone {
		head := s.memory.Head(l, now)
		return head != nil && e.decodeHead(head) == nil
	}
	value := s.memory.Get(l, now)
	return value != nil && e.decode(value) == nil
}

// remembered reads one entry of memory. One that came from a tier that others share is not there while the link to them is
// down.
func (u *Upstream) remembered(l *tier.Lookup, q *question, public bool, what extent, e *entry, now time.Time) bool {
	if !u.store.entryOf(l, what, e, now) || e.public != public || e.shared && !u.store.linked() {
		return false
	}
	u.limit(q, e)
	return true
}

// fresh reports whether an entry may be served: one that is kept because a change would be heard, only while it would be.
func (u *Upstream) fresh(q *question, e *entry, now time.Time) bool {
	return e.fresh(now.UnixMilli()) && (!q.legacy || q.override || q.scoped || u.hears(q))
}

// firstPage reports whether the page may be used: the first one always, a later one while that first one is there and fresh
// with which it was stored.
func (u *Upstream) firstPage(q *question, page *entry, now time.Time) bool {
	if q.first == nil {
		return true
	}
	var head entry
	return u.head(q, &head, now) && head.list == page.list
}

// head reads what memory has of a list's first page, and reports whether that is there and fresh. Nothing is copied for it.
func (u *Upstream) head(q *question, e *entry, now time.Time) bool {
	return u.remembers(q.first, q, headAlone, e, now) && u.fresh(q, e, now)
}

// hit is the answer from memory: JSON, with this caller's id and the time that is left.
func (u *Upstream) hit(c *mcp.Call, q *question, e *entry, now time.Time) *mcp.Result {
	u.metrics.count(tierMemory, outcomeHit)
	u.saved(c)
	q.hits.Add(1)
	u.savedBySession(q)
	q.size.Store(int64(len(e.body)))
	ttlMs := e.remaining(now.UnixMilli())
	h := new(hit)
	h.says(appendHitStatus(h.text[:0], e, now, tierNames[tierMemory]))
	res := &h.Result
	if res.Body = e.answerInPlace(c.ID(), ttlMs); res.Body == nil {
		u.answerInto(res, c, e, ttlMs)
	}
	res.Status, res.Checked, res.Cached = http.StatusOK, true, true
	res.Message.Kind = mcp.KindResult
	f := newFields()
	f.body, res.Header = res.Release, f.header
	res.Header["Content-Type"], res.Header["Cache-Status"], res.Release = jsonType, h.status[:], f.free
	return res
}

// fields are a header for hits, one after the other, which is half of what one costs.
type fields struct {
	header http.Header
	free   func() // release, made once
	body   func() // frees the body, nil where nothing does
}

var hitFields sync.Pool // of *fields

func newFields() *fields {
	f, ok := hitFields.Get().(*fields)
	if !ok {
		f = &fields{header: make(http.Header, 2)}
		f.free = f.release
	}
	return f
}

// release is called when the hit has been written.
func (f *fields) release() {
	clear(f.header)
	body := f.body
	f.body = nil
	hitFields.Put(f)
	if body != nil {
		body()
	}
}

// hit is an answer from memory in one piece.
type hit struct {
	mcp.Result
	status [1]string // Cache-Status
	text   [64]byte  // in which it lies, where it fits; not changed once it is there
}

func (h *hit) says(status []byte) { h.status[0] = unsafe.String(&status[0], len(status)) }

// answerInPlace is appendAnswer into the entry's own memory, which is a copy of what memory has and dead after it: what comes
// before the id moves up to make room, over what was decoded. It is nil where there is not enough of that.
func (e *entry) answerInPlace(id []byte, ttlMs int64) []byte {
	var digits [20]byte
	first, second := part{e.id, id}, part{e.ttl, strconv.AppendInt(digits[:0], ttlMs, 10)}
	if !e.ttl.Present() {
		second = part{mcp.Span{Start: e.id.End, End: e.id.End}, nil}
	} else if e.ttl.Start < e.id.Start {
		first, second = second, first
	}
	head := len(e.room) - len(e.body)
	// What is behind the second stays where it is. Offsets are those of room from here on.
	secondAt := head + int(second.at.End) - len(second.with)
	gap := e.body[first.at.End:second.at.Start]
	gapAt := secondAt - len(gap)
	firstAt := gapAt - len(first.with)
	start := firstAt - int(first.at.Start)
	if start < 0 {
		return nil
	}
	if second.grows() { // all moves up, from the start on
		copy(e.room[start:], e.body[:first.at.Start])
		copy(e.room[gapAt:], gap)
	} else {
		copy(e.room[gapAt:], gap)
		copy(e.room[start:], e.body[:first.at.Start])
	}
	copy(e.room[firstAt:], first.with)
	copy(e.room[secondAt:], second.with)
	return e.room[start:]
}

// part is what comes in the place of a span.
type part struct {
	at   mcp.Span
	with []byte
}

func (p part) grows() bool { return uint32(len(p.with)) > p.at.End-p.at.Start }

// statusHit is how the Cache-Status of an answer from a tier begins.
const statusHit = "fluentd-perf; hit"

// hitStatus is the Cache-Status (RFC 9211) of an answer from a tier: ttl is what is left of its freshness in seconds,
// below 0 for a stale one.
func hitStatus(e *entry, now time.Time, detail string) string {
	return string(appendHitStatus(make([]byte, 0, 64), e, now, detail))
}

func appendHitStatus(b []byte, e *entry, now time.Time, detail string) []byte {
	b = append(append(b, statusHit...), "; ttl="...)
	left := e.freshUntil - now.UnixMilli()
	if left < 0 {
		left -= 999 // away from 0: -0 would not say that it is stale
	}
	b = strconv.AppendInt(b, left/1000, 10)
	return append(append(b, "; detail="...), detail...)
}

var jsonType = []string{"application/json"}

// answer is an entry as an answer to this call.
func (u *Upstream) answer(c *mcp.Call, e *entry, ttlMs int64) *mcp.Result {
	res := &mcp.Result{Status: http.StatusOK, Header: make(http.Header, 4)}
	u.answerInto(res, c, e, ttlMs)
	res.Header["Content-Type"] = jsonType
	return res
}

// answerInto makes an entry's answer the body of res, in a buffer that res gives back.
func (u *Upstream) answerInto(res *mcp.Result, c *mcp.Call, e *entry, ttlMs int64) {
	id, buffers := c.ID(), u.store.buffers
	body := e.appendAnswer(buffers.Get(len(e.body)+len(id)+20), id, ttlMs)
	res.Body = body
	if buffers != nil {
		res.Release = func() { buffers.Put(body) }
	}
}

// addStatus appends this cache's member to the answer's Cache-Status.
func addStatus(res *mcp.Result, what string) {
	if res.Header == nil {
		res.Header = make(http.Header, 1)
	}
	const name = "Cache-Status"
	own := res.Header[name]
	res.Header[name] = append(own[:len(own):len(own)], "fluentd-perf; "+what)
}

// judged notes from an answer of the server's own, to a call that was sent then, whether it takes the credential.
func (u *Upstream) judged(c *mcp.Call, asker, bearer Partition, res *mcp.Result, sent time.Time) {
	switch {
	case c.Lane == mcp.LaneFetch: // documents for those who have no credential yet
	case res.Status == http.StatusUnauthorized || res.Status == http.StatusForbidden:
		u.seen.refused(asker, bearer, time.Now())
		u.changes.Refused(asker)
		u.bump(causeRefused, u.asker(bearer))
	case res.Status < http.StatusMultipleChoices:
		u.seen.accepted(asker, bearer, sent, time.Now())
	}
}
