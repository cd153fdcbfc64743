package cache

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"path"
	"strconv"
	"time"

	"fluentd-perf/internal/mcp"
)

// lifetime is the TTL rule. How long an answer is fresh is said by the operator, else by the legacy rule, else by the server, whose
// ttlMs min_ttl raises where it is above 0.
func (u *Stage) lifetime(q *request, subscribed bool, serverTTL int64) time.Duration {
	var ttl time.Duration
	switch {
	case q.override:
		ttl = q.ttl
	case q.legacy && q.list && (subscribed || q.forView):
		ttl = legacyTTL
	case !q.legacy && serverTTL > 0:
		ttl = max(time.Duration(min(serverTTL, int64(dayTTL/time.Millisecond)))*time.Millisecond, u.opts.MinTTL)
	}
	return min(ttl, u.opts.MaxTTL)
}

// toolTTL returns the operator's TTL for a tool's calls. The longest pattern that matches is the most particular one.
func (o *StageOptions) toolTTL(tool string) (time.Duration, bool) {
	if ttl, ok := o.Tools[tool]; ok {
		return ttl, true // its very name
	}
	best, found := "", false
	for p := range o.Tools {
		ok, err := path.Match(p, tool)
		if err != nil || !ok || found && (len(p) < len(best) || len(p) == len(best) && p > best) {
			continue
		}
		best, found = p, true
	}
	return o.Tools[best], found
}

// plainTTL returns the operator's TTL for a method, given as its token; 0 where there is none. It does not allocate for
// names as they are mostly written.
func (u *Stage) plainTTL(token []byte) time.Duration {
	if len(token) < 2 {
		return 0
	}
	if raw := token[1 : len(token)-1]; bytes.IndexByte(raw, '\\') < 0 {
		return u.opts.TTL[string(raw)]
	}
	if name, ok := mcp.Text(token); ok {
		return u.opts.TTL[name]
	}
	return 0
}

// legacyTTL is how long a legacy list is kept whose changes the daemon would receive, or that sessions share.
const legacyTTL = time.Minute

// dayTTL is the longest that anything is fresh.
const dayTTL = 24 * time.Hour

// jitter takes up to a twentieth off a long life, so that what was fetched together is not fetched together again.
func jitter(ttl time.Duration) time.Duration {
	if ttl < 10*time.Second {
		return 0
	}
	return rand.N(ttl / 20).Truncate(time.Millisecond) // lives are kept in milliseconds: the twentieth is never reached
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

// limit reduces the life of an entry to what this upstream gives it: it may have been stored under another configuration.
func (u *Stage) limit(q *request, e *entry) {
	ttl := u.lifetime(q, true, e.serverTTL)
	e.freshUntil = min(e.freshUntil, e.storedAt+ttl.Milliseconds())
	e.staleUntil = min(e.staleUntil, e.freshUntil+u.opts.staleFor(ttl).Milliseconds())
	if q.list && u.refusedCursors.get(q.listKey()) == e.list {
		e.freshUntil, e.staleUntil = 0, 0
	}
}

// staleFor returns how long after its time an answer that lives for ttl may be served at all.
func (o *StageOptions) staleFor(ttl time.Duration) time.Duration {
	if ttl <= 0 {
		return 0
	}
	return max(min(10*ttl, o.StaleIfError), o.StaleWhileRevalidate)
}
