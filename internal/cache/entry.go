package cache

import (
	"encoding/binary"
	"errors"
	"math"
	"strconv"
	"time"

	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/mcp"
)

// entry is a stored answer: a whole JSON-RPC response, the places in it where each reader gets something of its own, and
// absolute times. Times are wall clock in milliseconds, since entries outlive the process; age counts from the arrival
// of the last byte at the daemon that fetched it.
type entry struct {
	public     bool
	list       uint64   // of a list's first page: random; of a later page: the first one's, with which alone it is served
	shared     bool     // came from a tier that other daemons write too. Only ever set in memory
	storedAt   int64    // when the last byte came
	freshUntil int64    // jitter and clamps included
	staleUntil int64    // for stale answers; not before freshUntil
	serverTTL  int64    // ttlMs as the server gave it; -1 where it gave none
	id         mcp.Span // the id's value in body
	ttl        mcp.Span // the value of result.ttlMs in body, absent where there is none
	body       []byte
	room       []byte // what was decoded: body, and bytes before it that may be overwritten
}

// entryFormat is the first byte of an encoded entry. Another one is a miss.
const entryFormat = 2

const (
	entryHead  = 2 + 5*8 + 4*4
	flagPublic = 1
	flagShared = 2
)

var errEntry = errors.New("cache: not an entry")

// appendTo encodes the entry.
func (e *entry) appendTo(b []byte) []byte {
	var flags byte
	if e.public {
		flags |= flagPublic
	}
	if e.shared {
		flags |= flagShared
	}
	b = append(b, entryFormat, flags)
	for _, t := range [...]int64{e.storedAt, e.freshUntil, e.staleUntil, e.serverTTL} {
		b = binary.BigEndian.AppendUint64(b, uint64(t))
	}
	b = binary.BigEndian.AppendUint64(b, e.list)
	for _, n := range [...]uint32{e.id.Start, e.id.End, e.ttl.Start, e.ttl.End} {
		b = binary.BigEndian.AppendUint32(b, n)
	}
	return append(b, e.body...)
}

// decode reads an encoded entry; its body shares b. Whatever is not one is an error: stored bytes are not trusted.
func (e *entry) decode(b []byte) error {
	if err := e.decodeHead(b); err != nil {
		return err
	}
	e.body, e.room = b[entryHead:], b
	if !within(e.id, len(e.body)) || !e.id.Present() || !within(e.ttl, len(e.body)) || overlap(e.id, e.ttl) {
		return errEntry
	}
	return nil
}

// decodeHead reads all but the body, which need not be there.
func (e *entry) decodeHead(b []byte) error {
	if len(b) < entryHead || b[0] != entryFormat || b[1]&^(flagPublic|flagShared) != 0 {
		return errEntry
	}
	ms := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[2+8*i:])) }
	at := func(i int) uint32 { return binary.BigEndian.Uint32(b[42+4*i:]) }
	*e = entry{
		public: b[1]&flagPublic != 0, shared: b[1]&flagShared != 0,
		storedAt: ms(0), freshUntil: ms(1), staleUntil: ms(2), serverTTL: ms(3), list: uint64(ms(4)),
		id: mcp.Span{Start: at(0), End: at(1)}, ttl: mcp.Span{Start: at(2), End: at(3)},
	}
	if !e.sane() {
		return errEntry
	}
	return nil
}

// moved returns a copy: one that outlives the stack is made only where there is an entry.
func (e entry) moved() *entry { return &e }

// sane reports whether the times are in order and no longer apart than any entry lives: what another daemon wrote lives
// no longer here than it would have there.
func (e *entry) sane() bool {
	const maxMillis = int64(tier.MaxLife / time.Millisecond)
	return e.storedAt >= 0 && e.storedAt <= e.freshUntil && e.freshUntil <= e.staleUntil && e.staleUntil-e.storedAt <= maxMillis
}

func within(s mcp.Span, n int) bool {
	return s.Start <= s.End && uint64(s.End) <= uint64(n) && n <= math.MaxInt32
}

func overlap(a, b mcp.Span) bool { return a.Start < b.End && b.Start < a.End }

// skew is how far the clock of another daemon may be ahead, and this one's may have been set back, in milliseconds.
const skew = 2000

// fresh reports whether the entry may be served. One from the future is not: the clock was set back, and nobody knows how
// old it is.
func (e *entry) fresh(now int64) bool { return now < e.freshUntil && e.storedAt <= now+skew }

// usable reports whether the entry may be served instead of an answer that cannot be had.
func (e *entry) usable(now int64) bool { return now < e.staleUntil && e.storedAt <= now+skew }

// before reports whether everybody's entry comes before the principal's own, which is looked at first: where it is fresh and that
// one is not, or where none is and it is the later one.
func (e *entry) before(own *entry, now time.Time) bool {
	ms := now.UnixMilli()
	return !own.fresh(ms) && (e.fresh(ms) || e.storedAt > own.storedAt)
}

// remaining is the ttlMs that an answer carries now: never more than the server said, and 0 once it is stale.
func (e *entry) remaining(now int64) int64 {
	return max(0, e.serverTTL-max(0, now-e.storedAt))
}

// appendAnswer appends the response for one reader: with its id, and with the time that is left. The rest is as the
// server sent it.
func (e *entry) appendAnswer(b, id []byte, ttlMs int64) []byte {
	var digits [20]byte
	first, second := e.parts(id, strconv.AppendInt(digits[:0], ttlMs, 10))
	b = append(append(b, e.body[:first.at.Start]...), first.with...)
	b = append(append(b, e.body[first.at.End:second.at.Start]...), second.with...)
	return append(b, e.body[second.at.End:]...)
}

// part is what replaces a span.
type part struct {
	at   mcp.Span
	with []byte
}

func (p part) grows() bool { return uint32(len(p.with)) > p.at.End-p.at.Start }

// parts returns what each reader gets of its own, in the order of the body. Where the entry has no ttlMs, the second part is an empty
// one behind the id.
func (e *entry) parts(id, ttl []byte) (first, second part) {
	first, second = part{e.id, id}, part{e.ttl, ttl}
	switch {
	case !e.ttl.Present():
		second = part{mcp.Span{Start: e.id.End, End: e.id.End}, nil}
	case e.ttl.Start < e.id.Start:
		return second, first
	}
	return first, second
}
