package cache

import (
	"net/http"
	"strconv"
	"time"
	"unsafe"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// hit makes the answer from memory: JSON, with this caller's id and the time that is left.
func (u *Stage) hit(c *mcp.Call, q *request, e *entry, now time.Time) *mcp.Result {
	u.metrics.count(tierMemory, outcomeHit)
	u.saved(c)
	q.usage.hits.Add(1)
	u.savedBySession(q)
	q.usage.size.Store(int64(len(e.body)))
	ttlMs := e.remaining(now.UnixMilli())
	h := new(hit)
	h.setStatus(appendHitStatus(h.text[:0], e, now, tierNames[tierMemory]))
	res := &h.Result
	if res.Body = e.answerInPlace(c.ID(), ttlMs); res.Body == nil {
		u.answerInto(res, c, e, ttlMs)
	}
	res.Status, res.Checked, res.Cached = http.StatusOK, true, true
	res.Message.Kind = mcp.KindResult
	res.Header = h.fields[:]
	return res
}

// hit is an answer from memory in one piece.
type hit struct {
	mcp.Result
	fields [2]header.Field // of Header
	text   [64]byte        // in which Cache-Status lies, where it fits; not changed once it is there
}

func (h *hit) setStatus(status []byte) {
	h.fields = [...]header.Field{jsonType, {Name: cacheStatus, Value: unsafe.String(&status[0], len(status))}}
}

// answerInPlace is appendAnswer into the entry's own memory, which is a copy of what memory has and dead after it: what comes
// before the id moves up to make room, over what was decoded. It is nil where there is not enough of that.
func (e *entry) answerInPlace(id []byte, ttlMs int64) []byte {
	var digits [20]byte
	first, second := e.parts(id, strconv.AppendInt(digits[:0], ttlMs, 10))
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

// statusHit is how the Cache-Status of an answer from a tier begins.
const statusHit = "fluentd-perf; hit"

// appendHitStatus appends the Cache-Status (RFC 9211) of an answer from a tier: ttl is what is left of its freshness in seconds,
// below 0 for a stale one.
func appendHitStatus(b []byte, e *entry, now time.Time, detail string) []byte {
	b = append(append(b, statusHit...), "; ttl="...)
	left := e.freshUntil - now.UnixMilli()
	if left < 0 {
		left -= 999 // away from 0: -0 would not say that it is stale
	}
	b = strconv.AppendInt(b, left/1000, 10)
	return append(append(b, "; detail="...), detail...)
}

// cacheStatus is the field that says what caches did (RFC 9211).
const cacheStatus = "Cache-Status"

// What it says of an answer that is the server's.
const (
	statusStored    = "fluentd-perf; fwd=miss; stored"
	statusMiss      = "fluentd-perf; fwd=miss"
	statusBypass    = "fluentd-perf; fwd=bypass"
	statusCollapsed = "fluentd-perf; fwd=miss; collapsed" // or another's, whose call it was
)

// jsonType is the type of answers from a tier.
var jsonType = header.Field{Name: "Content-Type", Value: "application/json"}

// answerInto makes an entry's answer the body of res, in a buffer that res gives back.
func (u *Stage) answerInto(res *mcp.Result, c *mcp.Call, e *entry, ttlMs int64) {
	id, buffers := c.ID(), u.store.buffers
	body := e.appendAnswer(buffers.Get(len(e.body)+len(id)+20), id, ttlMs)
	res.Body = body
	if buffers != nil {
		res.Release = func() { buffers.Put(body) }
	}
}

// tierAnswer makes an answer from a tier for the leader of a flight, which shares it: it is scanned.
func (u *Stage) tierAnswer(q *load, e *entry, ttlMs int64, detail string) served {
	status := string(appendHitStatus(nil, e, time.Now(), detail))
	res := &mcp.Result{Status: http.StatusOK, Header: header.List{jsonType, {Name: cacheStatus, Value: status}}, Cached: true}
	u.answerInto(res, q.call, e, ttlMs)
	res.Checked = mcp.Scan(res.Body, &res.Message) == nil
	return served{res, res.Checked && (e.public || !q.forAll)}
}
