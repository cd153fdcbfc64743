package cache

import (
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// peer is what an `initialize` settled between an agent and a legacy server, which another initialize makes anew.
type peer struct {
	version      string
	nonce        string            // another one for each: a server that gives an id out again has made another session
	capabilities []byte            // of the client, canonical
	changes      [familyCount]bool // the server declared listChanged for the family
	agent        string            // clientInfo.name, raw
	result       [32]byte          // a hash over what the server said
	session      bool              // the server gave the session an id
	*deeds
}

// deeds are what has happened in a session. An initialize within it leaves them.
type deeds struct {
	born time.Time

	acted atomic.Bool                // the agent did what may change what the server shows it
	early [familyCount]atomic.Uint32 // how often the server said at the beginning that the list has changed

	mu    sync.Mutex          // guards the following
	asked map[string]struct{} // ids of requests of the server's whose answers change nothing
}

// maxPeers bounds the sessions that are remembered. One that is forgotten is relayed and not cached.
const maxPeers = 10_000

// peers are the legacy sessions of one upstream, by peerName.
type peers struct {
	mu sync.RWMutex
	by map[string]*peer
}

// newPeer reads what an answered initialize settled, or returns nil where that cannot be told. Params and result are raw
// JSON. Names count as they are written: a server may take no other for them.
func newPeer(params, result []byte) *peer {
	version, ok := mcp.Text(memberOf(result, "protocolVersion"))
	if !ok || !mcp.KnownVersion(version) {
		return nil
	}
	at, err := mcp.Member(params, "capabilities")
	if err != nil {
		return nil
	}
	caps := []byte("{}")
	if at.Present() {
		if at.End-at.Start > maxParams {
			return nil
		}
		if caps, err = canonicalObject(at.Of(params)); err != nil {
			return nil
		}
	}
	own := &peer{
		version: version, capabilities: caps, nonce: rand.Text(), deeds: &deeds{born: time.Now()},
		agent: string(memberOf(params, "clientInfo", "name")), result: sha256.Sum256(result),
	}
	for f, name := range map[Family]string{FamilyTools: "tools", FamilyPrompts: "prompts", FamilyResources: "resources"} {
		own.changes[f] = string(memberOf(result, "capabilities", name, "listChanged")) == "true"
	}
	return own
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

// settled notes what an initialize settled; nil makes the session one of which nothing is known.
func (p *peers) settled(session string, own *peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if own == nil {
		delete(p.by, session)
		return
	}
	if _, ok := p.by[session]; !ok && len(p.by) >= maxPeers {
		for some := range p.by {
			delete(p.by, some)
			break
		}
	}
	p.by[session] = own
}

// any reports whether an initialize was seen at all.
func (p *peers) any() bool {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return len(p.by) > 0
}

// get returns what is known of a session, nil for nothing.
func (p *peers) get(session string) *peer {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.by[session]
}

// streams are the streams of agents on which the changes of a legacy server come, by whose they are. Their number is bounded
// where they are opened.
//
// What is kept because of a stream is not fresh while none stands, though it is still good for a server that fails; when one
// stands again it is old.
type streams struct {
	mu     sync.RWMutex
	open   map[string]int
	broken map[string]bool // changes may have been missed since one stood
}

// opened notes a stream. Where changes may have been missed before it, it calls missed first: nobody sees the stream stand
// before that.
func (s *streams) opened(whose string, missed func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken[whose] {
		missed()
	}
	s.open[whose]++
	delete(s.broken, whose)
}

// closed notes the end of a stream, and calls missed where another one stands, so that changes may be missed unnoticed.
func (s *streams) closed(whose string, missed func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[whose]--; s.open[whose] > 0 {
		missed()
		return
	}
	delete(s.open, whose)
	s.brokeLocked(whose)
}

// brokeLocked forgets some other where there are too many. What was kept because of that one has to be old by then: it lives
// a minute.
func (s *streams) brokeLocked(whose string) {
	for some := range s.broken {
		if len(s.broken) < maxPeers {
			break
		}
		delete(s.broken, some)
	}
	s.broken[whose] = true
}

// forget is for a session that has ended.
func (s *streams) forget(whose string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.broken, whose)
}

func (s *streams) has(whose string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.open[whose] > 0
}
