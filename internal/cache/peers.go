package cache

import (
	"bytes"
	"encoding/json"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"fluentd-perf/internal/mcp"
)

// peer is what an `initialize` settled between an agent and a legacy server.
type peer struct {
	version      string
	capabilities []byte            // of the client, canonical
	changes      [familyCount]bool // the server declared listChanged for the family
	listening    int               // open streams on which its changes would come
}

// maxPeers bounds the sessions that are remembered. One that is forgotten is relayed and not cached.
const maxPeers = 10_000

// peers are the legacy sessions of one upstream, by session id; "" stands for a server that mints none.
type peers struct {
	mu sync.Mutex
	by map[string]*peer
}

// initialized notes an answered initialize. Params and result are raw JSON.
func (p *peers) initialized(session string, params, result []byte) {
	var in struct {
		Capabilities json.RawMessage `json:"capabilities"`
	}
	var out struct {
		ProtocolVersion string `json:"protocolVersion"`
		Capabilities    struct {
			Tools, Prompts, Resources struct {
				ListChanged bool `json:"listChanged"`
			}
		} `json:"capabilities"`
	}
	if json.Unmarshal(params, &in) != nil || json.Unmarshal(result, &out) != nil || !mcp.KnownVersion(out.ProtocolVersion) {
		return
	}
	caps := jsontext.Value(bytes.Clone(in.Capabilities))
	if len(caps) == 0 {
		caps = jsontext.Value("{}")
	}
	if caps.Canonicalize(jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false)) != nil {
		return
	}
	own := &peer{version: out.ProtocolVersion, capabilities: caps}
	own.changes[FamilyTools] = out.Capabilities.Tools.ListChanged
	own.changes[FamilyPrompts] = out.Capabilities.Prompts.ListChanged
	own.changes[FamilyResources] = out.Capabilities.Resources.ListChanged
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.by[session]; !ok && len(p.by) >= maxPeers {
		for some := range p.by {
			delete(p.by, some)
			break
		}
	}
	p.by[session] = own
}

// get returns a copy of what is known of a session.
func (p *peers) get(session string) (peer, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if own := p.by[session]; own != nil {
		return *own, true
	}
	return peer{}, false
}

// listen counts an open stream of a session until the returned function is called.
func (p *peers) listen(session string) func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	own := p.by[session]
	if own == nil {
		return func() {}
	}
	own.listening++
	return sync.OnceFunc(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		own.listening--
	})
}

func (p *peers) forget(session string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.by, session)
}
