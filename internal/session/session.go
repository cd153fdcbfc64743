package session

import (
	"bytes"
	"container/list"
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// The bounds of what is remembered of one session.
const (
	maxInitialize  = 64 << 10 // bytes: with a longer one the session is not recovered
	maxCredentials = 16
	maxURIs        = 1_000
	maxURI         = 2 << 10 // bytes: a longer one is not subscribed to again
	maxPostStreams = 64
	maxAsked       = 256     // requests of the server's without an answer
	maxToken       = 1 << 10 // bytes of an id that is remembered
	healsPerMinute = 3
)

// Bytes that a session takes, about.
const (
	sessionBytes = 1 << 10 // besides what differs
	entryBytes   = 64      // an entry of a list, besides its text
	streamBytes  = 192     // a POST stream, besides its id
)

// place is where a session lives on its server. A session that moves gets another: but for the pings, it never changes.
type place struct {
	id     string
	number int             // 0 for the first place of a session, one more for each later one
	gone   bool            // the session lives nowhere: the server has given the id to another, or it is over
	over   bool            // the session has ended: by DELETE, or its id was given to another session
	ctx    context.Context // ends when the session moves, or is ended by its agent
	leave  context.CancelFunc
	pings  map[[32]byte]*ping // under way, by credential; guarded by the session's lock
}

func newPlace(id string, number int, gone bool) *place {
	p := &place{id: id, number: number, gone: gone, pings: make(map[[32]byte]*ping)}
	p.ctx, p.leave = context.WithCancel(context.Background())
	return p
}

// left reports whether the session does not live there any more.
func (at *place) left() bool { return at.ctx.Err() != nil }

// session is what is known of one session of an agent's.
type session struct {
	name    string   // the id that the agent knows; "" for what is in no session
	opening *opening // nil: not seen, or too large

	// The table's: guarded by its lock.
	table    *table // nil: in none. Written under mu as well
	element  *list.Element
	used     time.Time
	serverID string // the id under which it is in table.byServerID; "" for none
	streams  int    // GETs under way, and GET streams that are open

	initialized atomic.Bool // the server took notifications/initialized, or answered something in it
	accepted    atomic.Bool // its GET stream was accepted once
	noticeDue   atomic.Bool // the restart notice is pending (notice.go)

	mu          sync.Mutex // guards the following
	at          *place
	bytes       int64       // that it takes, about
	recovery    *recovery   // that is going on; nil: none
	begun       []time.Time // when the recoveries of the last minute began
	trusted     [][32]byte  // credentials that had a 2xx, the latest last
	level       string      // of the last logging/setLevel that was accepted, as raw JSON
	uris        [][]byte    // resources that are subscribed to, as raw JSON, in order
	postStreams []*postStream
	asked       []asked
	unread      bool            // something came in this place that nobody could read
	unwritten   []chan struct{} // GETs under way that have not been written yet; closed when they are
}

// newSession makes a session by the id that its agent knows; opening is nil where that was not seen.
func newSession(id string, o *opening) *session {
	id = strings.Clone(id)
	e := &session{name: id, opening: o, at: newPlace(id, 0, false)}
	e.bytes = e.bytesLocked()
	return e
}

// place returns where the session lives now.
func (e *session) place() *place {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.at
}

// change changes what is remembered of the session, and counts what it takes by then.
func (e *session) change(f func()) {
	e.mu.Lock()
	f()
	before := e.bytes
	e.bytes = e.bytesLocked()
	t := e.table
	if t != nil {
		t.size.Add(e.bytes - before)
	}
	e.mu.Unlock()
	if t != nil {
		t.trim()
	}
}

// enter puts the session's bytes into a table's sum, and takes them out of that of before; nil is no table. The table is
// locked.
func (e *session) enter(t *table) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.table != nil {
		e.table.size.Add(-e.bytes)
	}
	if e.table = t; t != nil {
		t.size.Add(e.bytes)
	}
}

func (e *session) bytesLocked() int64 {
	n := sessionBytes + len(e.name) + len(e.at.id) + 32*len(e.trusted) + len(e.level)
	if o := e.opening; o != nil {
		n += len(o.body) + len(o.version)
	}
	for _, uri := range e.uris {
		n += entryBytes + len(uri)
	}
	for _, p := range e.postStreams {
		n += streamBytes + len(p.id)
	}
	for _, a := range e.asked {
		n += entryBytes + len(a.id)
	}
	return int64(n)
}

// moveLocked gives the session another place. What belongs to the place of before sees that it was left.
func (e *session) moveLocked(id string, gone bool) {
	e.at.leave()
	e.at = newPlace(id, e.at.number+1, gone)
	e.unread = false
}

// leavePlace notes that the id is another session's by now, if this one still lives there.
func (e *session) leavePlace(id string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.at.id == id && !e.at.gone {
		e.moveLocked(id, true)
	}
}

// end makes a recovery that is going on give up, and ends the session's GET streams: the id may be another's next.
func (e *session) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.moveLocked(e.at.id, true)
	e.at.over = true
}

// trust notes that the credential had a 2xx in this session.
func (e *session) trust(credential [32]byte) {
	if e.trusts(credential) {
		return
	}
	e.change(func() {
		e.trusted = appendBounded(e.trusted, credential, maxCredentials)
	})
}

// appendBounded appends to a list of that many entries at most, in the place of the oldest.
func appendBounded[T any](list []T, entry T, bound int) []T {
	if len(list) == bound {
		list = slices.Delete(list, 0, 1)
	}
	return append(list, entry)
}

func (e *session) trusts(credential [32]byte) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Contains(e.trusted, credential)
}

// tookRequest notes a request whose result has come, if it says something that a recovery has to say again. What is loose
// is never sent again.
func (e *session) tookRequest(c *mcp.Call, answer mcp.Kind) {
	if answer != mcp.KindResult || c.Message.Loose {
		return
	}
	uri := c.Message.URI.Of(c.Body)
	same := func(u []byte) bool { return mcp.SameID(u, uri) } // one may be spelled with other escapes
	switch c.Method() {
	case mcp.MethodLoggingSetLevel:
		params := c.Message.Params.Of(c.Body)
		level, err := mcp.Member(params, "level")
		if err == nil && level.Present() && len(level.Of(params)) <= maxToken {
			e.change(func() { e.level = string(level.Of(params)) })
		}
	case mcp.MethodResourcesSubscribe:
		e.change(func() {
			if len(uri) > 0 && len(uri) <= maxURI && len(e.uris) < maxURIs && !slices.ContainsFunc(e.uris, same) {
				e.uris = append(e.uris, bytes.Clone(uri))
			}
		})
	case mcp.MethodResourcesUnsubscribe:
		e.change(func() { e.uris = slices.DeleteFunc(e.uris, same) })
	}
}
