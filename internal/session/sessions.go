package session

import (
	"container/list"
	"crypto/sha256"
	"strings"
	"sync"
	"time"
)

// The bounds of all tables together. Beyond them the session is forgotten that was used longest ago and has no stream open,
// else the one that was used longest ago: it is like one from before the daemon's restart, and if the server loses it, its
// agent is told.
const (
	maxSessions      = 10_000
	maxSessionsBytes = 32 << 20 // of what is remembered, over all sessions
	maxIdle          = 24 * time.Hour
	longID           = 256 // bytes: longer ids stand in the table as a hash
)

// Bound holds what the sessions of several Stages take together. The zero value is ready.
type Bound struct {
	mu    sync.Mutex // guards the following, the tables, and table, element, used, living and weighed of each session
	order list.List  // of *session; in front what was used last
	size  int64
}

// table is the sessions of one upstream by the id that their agents know.
type table struct {
	*Bound
	byKey    map[string]*session
	living   map[string]*session // by the key of the id that a session has on its server, as far as it is the only one
	constant bool                // the server gives the same id to all: it says nothing
}

func newTable(b *Bound) table {
	return table{Bound: b, byKey: make(map[string]*session), living: make(map[string]*session)}
}

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

// replaced removes and returns the session of an id that the server has given to another; nil where there is none, or where
// the server gives one id to all.
func (t *table) replaced(id string) *session {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.byKey[keyOf(id)]
	if e == nil || t.constant {
		return nil
	}
	t.removeLocked(e)
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
	e.table, e.element = t, t.order.PushFront(e)
	t.byKey[e.key] = e
	t.weighLocked(e)
	e.streams.Add(1) // the newest is not the one that goes
	t.trimLocked()
	e.streams.Add(-1)
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

// weigh takes in what a session weighs by now.
func (t *table) weigh(e *session) {
	if e.weight.Load() == e.weighed.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.element != nil {
		t.weighLocked(e)
		t.trimLocked()
	}
}

func (t *table) weighLocked(e *session) {
	now := e.weight.Load()
	t.size += now - e.weighed.Load()
	e.weighed.Store(now)
}

// take notes that the server has given the session that id. Another session that lived under it is lost: the server has
// been started anew and counts its ids from the start. The other's calls must not reach this one.
func (t *table) take(e *session, id string) {
	at := e.place()
	if other := t.takeKey(e, keyOf(id), at.gone && at.id == id); other != nil {
		other.leavePlace(id)
	}
}

// takeKey returns the other session. A session that has to leave an id and is given the same again shows that the server
// knows only one.
func (t *table) takeKey(e *session, key string, same bool) (other *session) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.constant = t.constant || same
	if other = t.living[key]; other == e || t.constant {
		other = nil
	}
	t.leaveLocked(e)
	if e.element != nil {
		e.living = key
		t.living[key] = e
	}
	return other
}

// leaveLocked takes a session out of living.
func (t *table) leaveLocked(e *session) {
	if t.living[e.living] == e {
		delete(t.living, e.living)
	}
	e.living = ""
}

// leavePlace notes that the id is another session's by now, if this one still lives there.
func (e *session) leavePlace(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.at.id != id || e.at.gone {
		return
	}
	e.at.gone = true
	for _, move := range e.moves {
		move()
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
	e.table, e.element = nil, nil
	delete(t.byKey, e.key)
	t.size -= e.weighed.Load()
	e.weighed.Store(0)
	t.leaveLocked(e)
}

// trimLocked holds the bounds, and drops what has been idle for too long. A session with an open stream is in use: it goes
// to the front, once, before it is forgotten for want of others.
func (b *Bound) trimLocked() {
	now := time.Now()
	for spared := b.order.Len(); b.order.Len() > 0; {
		e := b.order.Back().Value.(*session)
		if b.order.Len() <= maxSessions && b.size <= maxSessionsBytes && !e.idle(now) {
			return
		}
		if spared--; spared >= 0 && e.streams.Load() > 0 {
			b.order.MoveToFront(e.element)
			continue
		}
		e.table.removeLocked(e)
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
	e := &session{name: id, key: keyOf(id), opening: o, at: place{id: id, header: []string{id}}}
	e.weigh(len(id) + sessionBytes)
	if o != nil {
		e.weigh(len(o.body) + len(o.version) + len(o.server.version) + len(o.server.name))
	}
	return e
}

const (
	sessionBytes = 1 << 10 // about what a session takes besides what differs
	entryBytes   = 64      // about what an entry of a list takes besides its text
	postBytes    = 192     // about what a post takes besides its id
)
