package session

import (
	"container/list"
	"crypto/sha256"
	"strings"
	"sync"
	"time"
)

// The bounds of the table. Beyond them the session that was used longest ago is forgotten: its stream may get a 503, and
// if the server loses it, its agent is told.
const (
	maxSessions      = 10_000
	maxSessionsBytes = 64 << 20 // of what is remembered, over all sessions
	maxIdle          = 24 * time.Hour
	longID           = 256 // bytes: longer ids stand in the table as a hash
)

// table is the sessions of one upstream by the id that their agents know, in the order of their last use.
type table struct {
	mu    sync.Mutex // guards the following, and element, used and size of each session
	byKey map[string]*session
	order list.List // of *session; in front what was used last
	size  int
}

func newTable() table { return table{byKey: make(map[string]*session)} }

// keyOf returns what stands for an id in the table: a server may mint ids of any length.
func keyOf(id string) string {
	if len(id) <= longID {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return string(sum[:]) // no id: ids are visible ASCII
}

// find returns the session of an agent's id, and notes that it was used; nil where it is not known.
func (t *table) find(id string) *session {
	if id == "" {
		return nil
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byKey[keyOf(id)]
	if e == nil {
		return nil
	}
	if e.idle(now) {
		t.removeLocked(e)
		return nil
	}
	e.used = now
	t.order.MoveToFront(e.element)
	return e
}

// add puts a session in, in the place of one with the same id.
func (t *table) add(e *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if old := t.byKey[e.key]; old != nil {
		t.removeLocked(old)
	}
	e.used = time.Now()
	e.element = t.order.PushFront(e)
	t.byKey[e.key] = e
	t.size += e.size
	t.trimLocked()
}

// findOrAdd returns the session of an id, a new one of which nothing is known where there is none.
func (t *table) findOrAdd(id string) *session {
	if e := t.find(id); e != nil {
		return e
	}
	e := newSession(id, nil)
	t.add(e)
	return e
}

// grow notes that more, or less, is remembered of a session.
func (t *table) grow(e *session, bytes int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.size += bytes
	if e.element != nil {
		t.size += bytes
		t.trimLocked()
	}
}

// remove forgets a session; one that took its place stays.
func (t *table) remove(e *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.removeLocked(e)
}

func (t *table) removeLocked(e *session) {
	if e.element == nil {
		return
	}
	t.order.Remove(e.element)
	e.element = nil
	delete(t.byKey, e.key)
	t.size -= e.size
}

// trimLocked holds the bounds, and drops what has been idle for too long.
func (t *table) trimLocked() {
	now := time.Now()
	for last := t.order.Back(); last != nil; last = t.order.Back() {
		e := last.Value.(*session)
		if len(t.byKey) <= maxSessions && t.size <= maxSessionsBytes && !e.idle(now) {
			return
		}
		t.removeLocked(e)
	}
}

func (t *table) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byKey)
}

// idle reports whether the session was not used for too long: no call, and no stream open. The table is locked.
func (e *session) idle(now time.Time) bool {
	return now.Sub(e.used) > maxIdle && e.streams.Load() == 0
}

// newSession makes a session by the id that its agent knows; opening is nil where that was not seen.
func newSession(id string, o *opening) *session {
	id = strings.Clone(id)
	e := &session{name: id, key: keyOf(id), opening: o, at: place{id: id, header: []string{id}}, size: len(id) + sessionBytes}
	if o != nil {
		e.size += len(o.body)
	}
	return e
}

// sessionBytes is about what a session takes besides what differs.
const sessionBytes = 1 << 10
