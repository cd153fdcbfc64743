package session

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"
)

// The bounds of all tables together. Beyond them the session is forgotten that was used longest ago and has no stream open,
// else the one that was used longest ago: it is like one from before the daemon's restart, and if the server loses it, its
// agent is told.
const (
	maxSessions      = 10_000
	maxSessionsBytes = 32 << 20 // of what is remembered, over all sessions
	maxIdle          = 24 * time.Hour
)

// Bound holds what the sessions of several Stages take together. The zero value is ready. No session's lock is held when mu
// is taken; the reverse may be.
type Bound struct {
	size atomic.Int64 // bytes of all sessions

	mu    sync.Mutex // guards the following, the tables, and element, used and serverID of each session
	order list.List  // of *session; in front what was used last
}

// table is the sessions of one upstream by the id that their agents know.
type table struct {
	*Bound
	byName     map[string]*session
	byServerID map[string]*session // by the id that a session has on its server, as far as it is the only one

	last     string // the id that the server gave last
	returned int    // how often since then it gave that id to a session that had to leave it
}

func newTable(b *Bound) table {
	return table{Bound: b, byName: make(map[string]*session), byServerID: make(map[string]*session)}
}

func (t *table) len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.byName)
}

// find returns the session of an agent's id, and notes that it was used; nil where it is not known.
func (t *table) find(id string) *session {
	if id == "" {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.findLocked(id)
}

func (t *table) findLocked(id string) *session {
	e, now := t.byName[id], time.Now()
	switch {
	case e == nil:
		return nil
	case e.idle(now):
		t.removeLocked(e)
		return nil
	}
	e.used = now
	t.order.MoveToFront(e.element)
	return e
}

// idle reports whether the session was not used for too long: no call, and no stream open. The table is locked.
func (e *session) idle(now time.Time) bool {
	return now.Sub(e.used) > maxIdle && e.streams == 0
}

// openStream returns the session of a GET, whose stream counts from here to closeStream as open. Of an id that is not known it
// is a new session of which nothing else is known: so its stream ends, as all do, when the server gives the id to another. A
// GET without an id has a session of its own, which is in no table.
func (t *table) openStream(id string) *session {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.findLocked(id)
	if e == nil {
		e = newSession(id, nil)
	}
	e.streams++
	if e.element == nil && id != "" {
		t.addLocked(e)
	}
	return e
}

// closeStream ends what openStream began. A session of which nothing is known, not even that it had a stream, ends with it.
func (t *table) closeStream(e *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.streams--
	if e.streams == 0 && e.opening == nil && !e.accepted.Load() {
		t.removeLocked(e)
	}
}

// add puts a session in, in the place of one with the same id.
func (t *table) add(e *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addLocked(e)
}

func (t *table) addLocked(e *session) {
	if old := t.byName[e.name]; old != nil {
		t.removeLocked(old)
	}
	e.used, e.element = time.Now(), t.order.PushFront(e)
	t.byName[e.name] = e
	e.enter(t)
	t.trimLocked(e)
}

// replace ends the session of an id that the server has given to another, unless the server gives one id to all.
func (t *table) replace(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.byName[id]; e != nil && !t.isSharedLocked(id) {
		e.end()
		t.removeLocked(e)
	}
}

// clear forgets all sessions.
func (t *table) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.byName {
		t.removeLocked(e)
	}
}

// end ends a session and forgets it; one that took its place stays.
func (t *table) end(e *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e.end()
	t.removeLocked(e)
}

func (t *table) removeLocked(e *session) {
	if e.element == nil {
		return
	}
	t.order.Remove(e.element)
	e.element = nil
	delete(t.byName, e.name)
	t.dropServerIDLocked(e)
	e.enter(nil)
}

// takeID notes that the server has given the session that id. Another session that lived under it is lost: the server has been
// started again and counts its ids from the start. The other's calls must not reach this one.
func (t *table) takeID(e *session, id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if id != t.last {
		t.last, t.returned = id, 0
	}
	if at := e.place(); at.gone && at.id == id {
		t.returned++
	}
	other := t.byServerID[id]
	t.dropServerIDLocked(e)
	if e.element != nil {
		e.serverID = id
		t.byServerID[id] = e
	}
	if other != nil && other != e && !t.isSharedLocked(id) {
		other.leavePlace(id)
	}
}

// isSharedLocked reports whether the server gives that id to all sessions, as if it knew only one: then it says nothing. It does
// where two sessions in turn have driven each other out of it. Once may be a server that was started again twice.
func (t *table) isSharedLocked(id string) bool { return id == t.last && t.returned >= 2 }

// dropServerIDLocked takes a session out of byServerID.
func (t *table) dropServerIDLocked(e *session) {
	if t.byServerID[e.serverID] == e {
		delete(t.byServerID, e.serverID)
	}
	e.serverID = ""
}

// trim holds the bounds after a session has grown.
func (b *Bound) trim() {
	if b.size.Load() <= maxSessionsBytes {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.trimLocked(nil)
}

// trimLocked holds the bounds, and drops what has been idle for too long. A session with an open stream is in use, and so is
// the newest: it goes to the front, once, before it is forgotten for want of others.
func (b *Bound) trimLocked(newest *session) {
	now := time.Now()
	for spared := b.order.Len(); b.order.Len() > 0; {
		e := b.order.Back().Value.(*session)
		if b.order.Len() <= maxSessions && b.size.Load() <= maxSessionsBytes && !e.idle(now) {
			return
		}
		if spared--; spared >= 0 && (e == newest || e.streams > 0) {
			b.order.MoveToFront(e.element)
			continue
		}
		e.table.removeLocked(e)
	}
}
