package streamable

import (
	"container/list"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/safefile"
)

// The bounds of sessions. Beyond them the one ends that was used longest ago.
const (
	maxSessions = 10_000
	maxIdle     = 24 * time.Hour
	sweepEvery  = 10 * time.Minute
)

const (
	maxBuffered = 64 << 20 // bytes of events, of all sessions of a Store
	roomMade    = 4 << 20  // bytes that are free when some had to be dropped: the sessions are not looked through for each event
)

// StoreOptions are those of a Store.
type StoreOptions struct {
	Path  string       // of the file in which the sessions outlive the daemon; "": they do not
	Waits bool         // another daemon has the file: it is read, and not written before Join
	Log   *slog.Logger // nil: silent
}

// Store has the sessions of several Fronts. Make it with NewStore.
type Store struct {
	opts     StoreOptions
	saver    *safefile.Saver
	buffered atomic.Int64 // bytes of events, of all sessions

	mu      sync.Mutex // guards the following; a session's lock may be held when it is taken, never the reverse
	byID    map[storeKey]*session
	order   list.List // of *session; in front what was used last
	kept    []record  // of Fronts that are not there (yet)
	sweeper *time.Timer
	closed  bool
}

type storeKey struct{ upstream, id string }

// NewStore makes a Store with what the file has. A file that cannot be used is said in the log, and begun anew. The Store is
// to be closed.
func NewStore(o StoreOptions) *Store {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	st := &Store{opts: o, byID: make(map[storeKey]*session)}
	st.saver = safefile.NewSaver(o.Path, o.Waits, st.content, func(err error) {
		o.Log.Warn("the file of stdio sessions could not be written", "file", o.Path, "error", err)
	})
	st.kept = st.load()
	return st
}

// Join takes the file from a daemon that has ended, with the sessions that it had to the end.
func (st *Store) Join() {
	records := st.load()
	st.mu.Lock()
	st.saver.Join()
	st.kept = slices.DeleteFunc(records, func(r record) bool { return st.byID[storeKey{r.Upstream, r.ID}] != nil })
	st.mu.Unlock()
	st.saver.Changed()
}

// claim gives a Front its sessions.
func (st *Store) claim(f *Front) {
	st.mu.Lock()
	defer st.mu.Unlock()
	rest := st.kept[:0]
	for i := range st.kept {
		r := &st.kept[i]
		if r.Upstream != f.opts.Upstream {
			rest = append(rest, *r)
			continue
		}
		if s := r.session(f); s != nil {
			s.element = st.order.PushBack(s) // the file has them in order
			st.byID[storeKey{r.Upstream, r.ID}] = s
		}
	}
	st.kept = rest
	st.sweepLaterLocked()
}

// of returns the sessions of a Front.
func (st *Store) of(f *Front) (all []*session) {
	st.mu.Lock()
	defer st.mu.Unlock()
	for _, s := range st.byID {
		if s.f == f {
			all = append(all, s)
		}
	}
	return all
}

// Len returns how many sessions there are.
func (st *Store) Len() int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return len(st.byID)
}

// find returns the session with an id, which is used now; nil where there is none. One of another Front of the same upstream,
// which a reload has replaced, goes on here: what is under way there ends there.
func (st *Store) find(f *Front, id string) *session {
	key := storeKey{f.opts.Upstream, id}
	st.mu.Lock()
	s, used := st.byID[key], time.Now()
	if s != nil && s.f != f {
		used = s.used
	}
	st.mu.Unlock()
	switch {
	case s == nil:
		s = st.adopt(f, key, nil, st.takeKept(key))
	case s.f != f:
		r, old := s.record(used), s
		s = st.adopt(f, key, old, &r)
		old.move()
	}
	if s == nil {
		return nil
	}
	st.mu.Lock()
	isOld := false
	if st.byID[key] == s {
		s.used = time.Now()
		st.order.MoveToFront(s.element)
		isOld = s.used.Sub(s.saved) > sweepEvery
	}
	st.mu.Unlock()
	if isOld {
		st.saver.Changed()
	}
	return s
}

// makeRoom makes room for an event of n bytes, of whichever session: where there is none, the sessions that were used longest ago lose
// theirs. No session's lock may be held. Those that make room at the same time may be over the bound together, by one event each.
func (st *Store) makeRoom(n int64) {
	if st.buffered.Load()+n <= maxBuffered {
		return
	}
	st.mu.Lock()
	all := make([]*session, 0, len(st.byID))
	for e := st.order.Back(); e != nil; e = e.Prev() {
		s, _ := e.Value.(*session)
		all = append(all, s)
	}
	st.mu.Unlock()
	for _, s := range all {
		if st.buffered.Load()+n <= maxBuffered-roomMade {
			return
		}
		s.dropEvents()
	}
}

// usedWithin reports whether the session was used lately.
func (st *Store) usedWithin(s *session, lately time.Duration) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return time.Since(s.used) < lately
}

// takeKept takes out the record of a session that no Front has, nil where there is none.
func (st *Store) takeKept(key storeKey) *record {
	st.mu.Lock()
	defer st.mu.Unlock()
	i := slices.IndexFunc(st.kept, func(r record) bool { return r.Upstream == key.upstream && r.ID == key.id })
	if i < 0 {
		return nil
	}
	r := st.kept[i]
	st.kept = slices.Delete(st.kept, i, i+1)
	return &r
}

// adopt makes a session of a Front of a record, in the place of old; nil is none.
func (st *Store) adopt(f *Front, key storeKey, old *session, r *record) *session {
	if r == nil {
		return nil
	}
	s := r.session(f)
	if s == nil {
		return nil
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	if now := st.byID[key]; now != old { // another call was faster
		if now != nil && now.f == f {
			return now
		}
		return nil
	}
	if old != nil {
		st.removeLocked(old)
	}
	s.element = st.order.PushFront(s)
	st.byID[key] = s
	st.sweepLaterLocked()
	return s
}

// release takes back the sessions of a Front that is closed, for the next one of its upstream.
func (st *Store) release(f *Front) {
	for _, s := range st.of(f) {
		st.mu.Lock()
		used := s.used
		st.mu.Unlock()
		r := s.record(used)
		st.mu.Lock()
		if st.byID[storeKey{f.opts.Upstream, s.id}] == s {
			st.removeLocked(s)
			st.kept = append(st.kept, r)
		}
		st.mu.Unlock()
		s.move()
	}
}

// add puts a session in.
func (st *Store) add(s *session) {
	st.mu.Lock()
	s.used = time.Now()
	s.element = st.order.PushFront(s)
	st.byID[storeKey{s.f.opts.Upstream, s.id}] = s
	var old *session
	if len(st.byID) > maxSessions {
		old, _ = st.order.Back().Value.(*session)
		st.removeLocked(old)
	}
	st.sweepLaterLocked()
	st.mu.Unlock()
	st.saver.Changed()
	if old != nil {
		old.end()
	}
}

// remove takes a session out.
func (st *Store) remove(s *session) {
	st.mu.Lock()
	st.removeLocked(s)
	st.mu.Unlock()
	st.saver.Changed()
}

func (st *Store) removeLocked(s *session) {
	key := storeKey{s.f.opts.Upstream, s.id}
	if st.byID[key] == s {
		delete(st.byID, key)
		st.order.Remove(s.element)
	}
}

func (st *Store) sweepLaterLocked() {
	if st.sweeper == nil && !st.closed && len(st.byID) > 0 {
		st.sweeper = time.AfterFunc(sweepEvery, st.sweep)
	}
}

// sweep ends the sessions that nobody has used for too long. One with an open stream is in use.
func (st *Store) sweep() {
	now := time.Now()
	var old []*session
	st.mu.Lock()
	for e := st.order.Back(); e != nil; e = e.Prev() {
		s, _ := e.Value.(*session)
		if now.Sub(s.used) <= maxIdle {
			break
		}
		old = append(old, s)
	}
	st.sweeper = nil
	st.sweepLaterLocked()
	st.mu.Unlock()
	for _, s := range old {
		if s.hasStream() {
			st.find(s.f, s.id)
			continue
		}
		st.remove(s)
		s.end()
	}
}

func (s *session) hasStream() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.get.reader != nil || len(s.calls) > 0
}
