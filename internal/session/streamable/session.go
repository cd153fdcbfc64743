package streamable

import (
	"bytes"
	"container/list"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session/remembered"
)

// The bounds of what is remembered of one session.
const (
	maxInitialize = 64 << 10 // bytes: with a longer one the session is not opened again
	maxURIs       = 1_000
	maxURI        = 2 << 10 // bytes: a longer one is not subscribed to again
	maxLevel      = 64      // bytes
)

// session is one session of an agent's. What stands before the locks does not change once the session is in the Store.
type session struct {
	f          *Front
	id         string
	owner      [32]byte // whose it is
	initialize []byte   // the agent's, whole; nil: it was too long to be kept
	version    string   // of the protocol, as the server said

	// The Store's: guarded by its lock.
	element *list.Element
	used    time.Time
	saved   time.Time // used, as it stands in the file

	mu          sync.Mutex // guards the following
	changed     *sync.Cond // on mu: an event was read, a reader has gone, the process has ended
	ended       bool
	moved       bool     // it goes on in another Front: its GET stream has to be opened there
	initialized bool     // the agent sent notifications/initialized
	state       bool     // what was sent to the process may have left something there
	notice      bool     // an agent has still to be told that state is gone
	level       []byte   // of the last logging/setLevel that was accepted, raw
	uris        [][]byte // resources that are subscribed to, raw, in order
	link        *link    // to its process; nil: there is none
	opening     *opening // that is going on; nil: none
	begun       []time.Time
	waits       []*wait // requests that wait for the process
	calls       []*call // without an answer, the oldest first
	asked       []*asked
	streams     map[uint64]*stream
	last        uint64          // number of the last stream
	get         *stream         // what goes to no call; always there
	reported    map[string]bool // Last-Event-IDs of lost calls whose agent got the error
	log         []*event        // of all streams, in order
	size        int64           // bytes of log

	// Guarded by mu.
	facts        [32]byte      // of the answer to its initialize: what may not differ in another process
	recalled     *recalled     // it was opened from memory and has had no process yet; nil: it has
	confirmation *confirmation // what its processes have still to be asked for; nil: nothing
}

func newSession(f *Front, id string, owner [32]byte) *session {
	s := &session{f: f, id: id, owner: owner, streams: make(map[uint64]*stream)}
	s.changed = sync.NewCond(&s.mu)
	s.get = &stream{s: s, wake: make(chan struct{})}
	return s
}

// link is the connection of a session to one process.
type link struct {
	s      *session
	server Server       // set by attach
	tells  atomic.Int32 // messages of the daemon's own on their way

	// Of what is learned from the process; not changed once it is attached.
	form    remembered.Form // of the initialize that it has answered
	onDisk  string          // before its start
	process uint64          // a number of its own; 0: nothing is learned from it
	roots   bool            // the agent has declared that it may be asked for them

	// Guarded by the session's lock.
	told     bool                    // that the agent is initialized, by repeat
	compared bool                    // it was asked for what is to be compared
	answered bool                    // the agent has answered something that it had asked
	rooted   time.Time               // when the agent gave it roots last
	asked    bool                    // for the daemon, for lists to be learned
	own      map[mcp.Method][32]byte // of these, what it gave before that: remembered.Sum
	listed   family                  // what it has listed
	changed  family                  // of what it has said that it has changed

	mu    sync.Mutex // guards early; held while those are passed on
	ready bool
	early []early
}

type early struct {
	data []byte
	m    mcp.Message
}

// take takes what the process sends and no request asked for. What comes before the link is attached waits.
func (l *link) take(data []byte, m *mcp.Message) {
	l.mu.Lock()
	if !l.ready {
		if len(l.early) == maxEvents { // the oldest goes, as of what a session keeps for its agent
			l.early = slices.Delete(l.early, 0, 1)
		}
		l.early = append(l.early, early{data, *m})
		l.mu.Unlock()
		return
	}
	l.mu.Unlock()
	l.s.route(l, data, m)
}

// attach makes the link the session's, and reports false where the session has ended meanwhile.
func (s *session) attach(l *link, server Server) bool {
	l.server = server
	s.mu.Lock()
	if s.ended || !s.f.start(func() { s.watch(l) }) {
		s.mu.Unlock()
		return false
	}
	s.link = l
	s.attachedLocked()
	s.noteLocked()
	s.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.early {
		s.route(l, l.early[i].data, &l.early[i].m)
	}
	l.early, l.ready = nil, true
	return true
}

// watch waits for the end of the process, and fails who waits for something from it. At the end of the Front it lets the process go;
// the session stays.
func (s *session) watch(l *link) {
	select {
	case <-l.server.Ended():
		s.detach(l, l.server.Failure())
	case <-s.f.base.Done():
		s.detach(l, mcp.Draining())
		l.server.Release()
	}
}

// detach takes a process from the session that has gone, or is about to.
func (s *session) detach(l *link, f *mcp.Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != l {
		return
	}
	s.link = nil
	if f.Reason != mcp.ReasonCanceled {
		s.begun = append(s.begun, time.Now())
	}
	for _, c := range slices.Clone(s.calls) { // failLocked takes them out
		s.failLocked(c, f)
	}
	waiting := s.asked
	s.asked = nil
	for _, a := range waiting {
		a.dropLocked()
	}
	s.changed.Broadcast()
}

// end ends the session: its process, its calls and its streams.
func (s *session) end() {
	s.mu.Lock()
	unneeded := s.recalled != nil && !s.ended
	s.ended = true
	l := s.link
	s.mu.Unlock()
	if unneeded {
		s.f.opts.Unneeded()
	}
	if l != nil {
		s.detach(l, sessionEnded())
		l.server.Release()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.f.opts.Store.buffered.Add(-s.size)
	s.log, s.size = nil, 0
	s.wakeAllLocked()
}

// move ends the GET stream: the session goes on in another Front, where nobody can ask for the events of this one. Those that are being
// read stay until they are.
func (s *session) move() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moved = true
	s.trimLocked()
	s.get.wakeLocked()
}

func sessionEnded() *mcp.Failure {
	return &mcp.Failure{
		Code: mcp.CodeBadGateway, Reason: mcp.ReasonSessionLost, Sent: mcp.SentUnknown, Message: "the session was ended before the server answered this call",
	}
}

func (s *session) wakeAllLocked() {
	s.get.wakeLocked()
	for _, st := range s.streams {
		st.wakeLocked()
	}
	s.changed.Broadcast()
}

// noteLocked tells the process's pool what the session has there. A subscription is something to lose also where it was made again in a
// process that has no state otherwise: what its server says meanwhile would be gone.
func (s *session) noteLocked() {
	if s.link != nil {
		s.link.server.Note(s.state || len(s.uris) > 0, s.get.reader != nil)
	}
}

// sending notes what is about to be sent: what may leave state in the process. The session has to know before the process
// does.
func (s *session) sending(m *mcp.Message) {
	switch m.Method {
	case mcp.MethodToolsCall, mcp.MethodResourcesSubscribe, mcp.MethodOther, mcp.MethodTasksCancel, mcp.MethodTasksUpdate:
	default:
		return
	}
	s.mu.Lock()
	isNew := !s.state
	s.state = true
	if isNew {
		s.noteLocked()
	}
	s.mu.Unlock()
	if isNew {
		s.f.opts.Store.saver.Changed()
	}
}

// answeredLocked notes a request whose result has come, if it says something that another process has to be told again.
// What is loose is never sent again.
func (s *session) answeredLocked(c *call, kind mcp.Kind) {
	if kind != mcp.KindResult || c.m.Loose {
		return
	}
	uri := c.m.URI.Of(c.body)
	switch c.m.Method {
	case mcp.MethodLoggingSetLevel:
		params := c.m.Params.Of(c.body)
		at, err := mcp.Member(params, "level")
		if err != nil || !at.Present() || len(at.Of(params)) > maxLevel {
			return
		}
		s.level = bytes.Clone(at.Of(params))
	case mcp.MethodResourcesSubscribe:
		same := func(u []byte) bool { return mcp.SameID(u, uri) }
		if len(uri) == 0 || len(uri) > maxURI || len(s.uris) >= maxURIs || slices.ContainsFunc(s.uris, same) {
			return
		}
		s.uris = append(s.uris, bytes.Clone(uri))
	case mcp.MethodResourcesUnsubscribe:
		s.uris = slices.DeleteFunc(s.uris, func(u []byte) bool { return mcp.SameID(u, uri) })
	default:
		return
	}
	s.noteLocked()
	s.f.opts.Store.saver.Changed()
}
