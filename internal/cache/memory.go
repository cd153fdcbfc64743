package cache

import (
	"time"

	"fluentd-perf/internal/cache/tier"
)

// readMemory reads what memory has under two keys: the principal's own entry, or else everybody's, where the principal is one whom
// the server has accepted lately. Expired entries are found, too, where there is no fresh one.
func (u *Stage) readMemory(p *keys, q *request, what extent, e *entry, now time.Time) bool {
	own := u.readMemoryEntry(&p.private, q, false, what, e, now)
	if own && e.fresh(now.UnixMilli()) || q.privateOnly {
		return own // those are never public
	}
	var all entry
	if !u.readMemoryEntry(&p.public, q, true, what, &all, now) || !u.credentials.known(q.principal, q.credential, now) || own && !all.before(e, now) {
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

// readMemoryEntry reads one entry of memory, and reports whether it is there. One that came from a tier that others share is not
// while the link to them is down.
func (u *Stage) readMemoryEntry(l *tier.Lookup, q *request, public bool, what extent, e *entry, now time.Time) bool {
	read, decode := u.store.memory.Get, e.decode
	if what == headAlone {
		read, decode = u.store.memory.Head, e.decodeHead
	}
	value := read(l, now)
	if value == nil || decode(value) != nil || e.public != public || e.shared && !u.store.linked() {
		return false
	}
	u.limit(q, e)
	return true
}

// fresh reports whether an entry may be served: one that is kept because a change of it would be received, only while it would be.
func (u *Stage) fresh(q *request, e *entry, now time.Time) bool {
	return e.fresh(now.UnixMilli()) && (!q.legacy || q.override || q.forView || u.subscribed(q))
}

// pageHolds reports whether a page of a list may be served: the first one always, a later one only while the first one with
// which it was stored is there and fresh.
func (u *Stage) pageHolds(q *request, page *entry, now time.Time) bool {
	if q.first == nil {
		return true
	}
	var head entry
	return u.readFirstPage(q, &head, now) && head.list == page.list
}

// readFirstPage reads what memory has of a list's first page, and reports whether that is there and fresh. Nothing is copied for it.
func (u *Stage) readFirstPage(q *request, e *entry, now time.Time) bool {
	return u.readMemory(q.first, q, headAlone, e, now) && u.fresh(q, e, now)
}
