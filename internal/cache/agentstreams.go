package cache

import (
	"sync"

	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/mcp"
)

// agentStreams are the streams of agents on which a legacy server says what has changed, by streamName. Their number is bounded where
// they are opened.
//
// What is kept because changes of it would come on a stream is not fresh while no such stream is open, though it may be served
// where the server fails. When one is open again it is stale.
type agentStreams struct {
	mu     sync.RWMutex
	open   map[string]int
	broken boundedMap[string, bool] // changes may have been missed since one was open
}

// opened notes a stream. Where changes may have been missed before it, it calls missed first: nobody sees the stream open before
// that.
func (s *agentStreams) opened(owner string, missed func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken[owner] {
		missed()
	}
	s.open[owner]++
	delete(s.broken, owner)
}

// closed notes the end of a stream. Where another one is still open it calls missed, since changes may now be missed unnoticed. It
// may forget the break of some other stream: what was kept because of that has expired by then, since it lives a minute.
func (s *agentStreams) closed(owner string, missed func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[owner]--; s.open[owner] > 0 {
		missed()
		return
	}
	delete(s.open, owner)
	s.broken.put(owner, true, maxRemembered)
}

// forget is for a session that has ended.
func (s *agentStreams) forget(owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.broken, owner)
}

func (s *agentStreams) has(owner string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.open[owner] > 0
}

// streamName is the key of a stream in agentStreams: the session, or the principal where there is none.
func streamName(sessionID string, principal partition) string {
	if sessionID != "" {
		return sessionID
	}
	return "\n" + string(principal[:])
}

// subscribed reports whether a change of a legacy list would be received on an agent's stream.
func (u *Stage) subscribed(q *request) bool {
	return q.list && q.session != nil && q.session.declaresChanges[q.family] && u.agentStreams.has(q.stream)
}

// streamObserver is the observer of streams on their way to agents: what invalidates entries is applied before it is handed on.
type streamObserver struct {
	upstream  *Stage
	call      *mcp.Call
	sessionID string // where the call is an initialize: the session that it made
	stream    string // its streamName; "" where nothing is kept because of it
}

// watch has a stream observed.
func (u *Stage) watch(events mcp.Events, c *mcp.Call, principal partition, sessionID string) mcp.Events {
	w := &streamObserver{upstream: u, call: c, sessionID: sessionID}
	if c.Lane == mcp.LaneStream && c.Era == mcp.EraLegacy {
		w.stream = streamName(sessionHeader(c), principal)
		u.agentStreams.opened(w.stream, w.missedChanges)
	}
	return observe(events, w)
}

func (w *streamObserver) sees(ev mcp.Event) bool {
	if len(ev.Data) == 0 || len(ev.Name) > 0 && string(ev.Name) != "message" {
		return false
	}
	m := ev.Message
	if m.Kind == mcp.KindInvalid && mcp.Scan(ev.Data, &m) != nil {
		return false // a GET stream is not checked, and what is no message does not concern the cache
	}
	w.upstream.received(w.upstream.sessionOf(w.call), &m, ev.Data)
	switch {
	case ev.Exact && m.Kind == mcp.KindResult:
		w.upstream.initialized(w.call, w.sessionID, m.Result.Of(ev.Data))
	case ev.Answer:
		w.upstream.initialized(w.call, w.sessionID, nil)
	}
	return false
}

func (w *streamObserver) over() {
	if w.stream != "" {
		w.upstream.agentStreams.closed(w.stream, w.missedChanges)
	}
}

// missedChanges invalidates what was kept because of the stream: changes may have been missed. It is in memory alone.
func (w *streamObserver) missedChanges() {
	w.upstream.metrics.bumped(causeStream)
	w.upstream.store.bumpMemory([]tier.Generation{w.upstream.guard(guardStream, w.stream)})
}
