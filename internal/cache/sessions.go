package cache

import (
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// session is what an `initialize` settled between an agent and a legacy server; another initialize replaces it. An upstream has a
// table of them by sessionName; the calls of one that is not there are relayed and not cached.
type session struct {
	version         string
	nonce           string            // random: a server that gives an id out again has made another session
	capabilities    []byte            // of the client, canonical; a hash over those that are long
	declaresChanges [familyCount]bool // the server declared listChanged for the family
	agent           [32]byte          // a hash over clientInfo.name
	result          [32]byte          // a hash over what the server said
	hasID           bool              // the server gave the session an id
	principal       partition         // who began it
	*history
}

// history is what has happened in a session. It outlives an initialize within the session.
type history struct {
	born time.Time

	acted        atomic.Bool                // the agent made a call that may change what the server shows it
	earlyChanges [familyCount]atomic.Uint32 // how often the server said in the first seconds that the list has changed

	mu               sync.Mutex          // guards the following
	harmlessRequests map[string]struct{} // ids of the server's requests whose answers change nothing
}

// maxHarmlessRequests bounds harmlessRequests. The answer to another request counts as one that may change something.
const maxHarmlessRequests = 64

// Bounds of what is kept of a session as it was sent, in bytes.
const (
	maxCapabilities = 1 << 10
	maxRequestID    = 128 // of a server's request whose answer changes nothing; a longer one counts as one that may
)

// newSession reads what an answered initialize settled, or returns nil where that is not clear. Params and result are raw
// JSON. Names count as they are written: a server may know no other spelling.
func newSession(params, result []byte) *session {
	version, ok := mcp.Text(memberOf(result, "protocolVersion"))
	if !ok || !mcp.KnownVersion(version) {
		return nil
	}
	at, err := mcp.Member(params, "capabilities")
	if err != nil || at.End-at.Start > maxParams {
		return nil
	}
	caps := []byte("{}")
	if at.Present() {
		if caps, err = canonicalObject(at.Of(params)); err != nil {
			return nil
		}
	}
	if len(caps) > maxCapabilities {
		sum := sha256.Sum256(caps)
		caps = sum[:]
	}
	s := &session{
		version: version, capabilities: caps, nonce: rand.Text(), history: &history{born: time.Now()},
		agent: sha256.Sum256(memberOf(params, "clientInfo", "name")), result: sha256.Sum256(result),
	}
	for _, f := range [...]family{familyTools, familyPrompts, familyResources} {
		s.declaresChanges[f] = string(memberOf(result, "capabilities", familyNames[f], "listChanged")) == "true"
	}
	return s
}

// memberOf returns the value that the names lead to, one inside the other, nil where there is none.
func memberOf(object []byte, names ...string) []byte {
	for _, name := range names {
		at, err := mcp.Member(object, name)
		if err != nil || !at.Present() {
			return nil
		}
		object = at.Of(object)
	}
	return object
}

// sessionName is the key under which an initialize is remembered: the session it made, or the version it settled where the server
// mints no sessions. A header's value holds no line feed.
func sessionName(sessionID, version string) string {
	switch {
	case sessionID != "":
		return sessionID
	case version == "":
		version = mcp.Version20250326
	}
	return "\n" + version
}

// sessionOf returns what is known of a call's session, nil for nothing.
func (u *Stage) sessionOf(c *mcp.Call) *session {
	if sessionID := sessionHeader(c); sessionID != "" { // whatever the era of the call itself
		return u.sessions.get(sessionID)
	}
	return nil
}

func sessionHeader(c *mcp.Call) string { return c.Header.Get("Mcp-Session-Id") }

// ended forgets a session.
func (u *Stage) ended(sessionID string) {
	if sessionID != "" {
		u.flights.Cancel(func(c *mcp.Call) bool { return sessionHeader(c) == sessionID }, false) // those who wait for its calls call by themselves
		u.sessions.delete(sessionID)
		u.agentStreams.forget(sessionID)
	}
}

// initialized notes what an initialize settled. A nil result is an answer that is none, or was not understood: what was settled
// before is forgotten then. sessionID is the session that the initialize made, or was made in; "" for none.
func (u *Stage) initialized(c *mcp.Call, sessionID string, result []byte) {
	if c.Lane != mcp.LaneRequest || c.Era != mcp.EraLegacy || c.Method() != mcp.MethodInitialize {
		return
	}
	var settled *session
	if result != nil {
		u.noteServer(mcp.EraLegacy, memberOf(result, "serverInfo"))
		if !c.Message.Loose {
			settled = newSession(c.Message.Params.Of(c.Body), result)
		}
	}
	switch {
	case settled == nil && sessionID != "":
		u.sessions.delete(sessionID)
	case settled != nil:
		settled.hasID, settled.principal = sessionID != "", partition(u.store.Partition(c))
		if old := u.sessionOf(c); old != nil && sessionID == sessionHeader(c) {
			settled.history = old.history // it is the same session
		}
		u.sessions.put(sessionName(sessionID, settled.version), settled, maxRemembered)
	}
}

// acted notes a call that may change what the server shows its session: from then on the session's lists are not shared. Where there
// are no sessions, all shared lists of the credential are stale then, now and when the call has been answered; acted returns true.
func (u *Stage) acted(c *mcp.Call) bool {
	p := u.sessionOf(c)
	if u.opts.Plain || u.opts.Scope == ScopeSession || p == nil && c.Era != mcp.EraLegacy || p.harmless(c) {
		return false
	}
	if p != nil {
		p.acted.Store(true)
	}
	return sessionHeader(c) == "" // and its era is legacy
}

// harmless reports whether a call changes nothing of what the server shows the session; nil is a session of which nothing is known.
func (s *session) harmless(c *mcp.Call) bool {
	m := &c.Message
	switch c.Lane {
	case mcp.LaneStream, mcp.LaneEnd:
		return true
	case mcp.LaneNotification:
		name, ok := mcp.Text(m.MethodName.Of(c.Body))
		return ok && !m.Ambiguous && name == "notifications/initialized"
	case mcp.LaneResponse:
		return s != nil && !m.Ambiguous && s.answersHarmless(string(c.ID()))
	case mcp.LaneRequest:
		return !m.Ambiguous && methodRules[c.Method()].reads
	}
	return false
}

// noteServerRequest notes a request that the server makes to the agent, if its answer changes nothing.
func (s *session) noteServerRequest(m *mcp.Message, data []byte) {
	if s == nil || s.acted.Load() {
		return
	}
	name, ok := mcp.Text(m.MethodName.Of(data))
	id, changes := string(m.ID.Of(data)), !ok || m.Ambiguous || name != "ping" && name != "roots/list" || m.ID.End-m.ID.Start > maxRequestID
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case changes:
		delete(s.harmlessRequests, id) // an earlier request may have had the same id
	case s.harmlessRequests == nil:
		s.harmlessRequests = map[string]struct{}{id: {}}
	case len(s.harmlessRequests) < maxHarmlessRequests:
		s.harmlessRequests[id] = struct{}{}
	}
}

// answersHarmless reports whether a response with this id answers such a request, and forgets the request.
func (s *session) answersHarmless(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.harmlessRequests[id]
	delete(s.harmlessRequests, id)
	return ok
}
