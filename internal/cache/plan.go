package cache

import (
	"net/http"
	"strings"
	"time"

	"fluentd-perf/internal/mcp"
)

// plan is what the stage made of one call: whether it may be answered from a tier, under which keys, and what guards
// them. Front makes it and Back reads it.
type plan struct {
	method  mcp.Method
	family  Family
	legacy  bool
	asker   Partition
	private Lookup
	public  Lookup
	first   *plan // of the list's first page, where this is a later one

	override bool          // ttl is the operator's
	ttl      time.Duration // where override
	listens  bool          // legacy: the list's changes would be heard

	stale  *entry // expired and still good for a failing server
	stored bool   // written by Back
	detail string // the tier that answered, for Cache-Status
}

// storable reports whether an answer could be kept at all.
func (p *plan) storable() bool { return !p.legacy || p.override && p.ttl > 0 || p.listens }

// familyOf returns what makes the method's answers old.
func familyOf(m mcp.Method) Family {
	switch m {
	case mcp.MethodToolsList:
		return FamilyTools
	case mcp.MethodPromptsList:
		return FamilyPrompts
	case mcp.MethodResourcesList, mcp.MethodResourcesTemplatesList:
		return FamilyResources
	case mcp.MethodResourcesRead:
		return FamilyRead
	case mcp.MethodServerDiscover:
		return FamilyDiscover
	case mcp.MethodToolsCall:
		return FamilyCalls
	}
	return FamilyOther
}

// mayCache reports whether the protocol lets the method's answers be kept (2026-07-28, server/utilities/caching).
func mayCache(m mcp.Method) bool {
	switch m {
	case mcp.MethodServerDiscover, mcp.MethodToolsList, mcp.MethodPromptsList, mcp.MethodResourcesList,
		mcp.MethodResourcesTemplatesList, mcp.MethodResourcesRead:
		return true
	}
	return false
}

// mayShare reports whether equal calls of the method in flight may be one call.
func mayShare(m mcp.Method) bool {
	return mayCache(m) || m == mcp.MethodPromptsGet || m == mcp.MethodCompletionComplete
}

// plain reports whether a request is a whole question by itself: nothing in it belongs to this one request alone
// (2026-07-28, SEP-2322 and SEP-2549), and nothing in it reads in two ways.
func plain(c *mcp.Call) bool {
	m := &c.Message
	return c.Lane == mcp.LaneRequest && !c.Mismatch && !m.Ambiguous &&
		!m.InputResponses.Present() && !m.RequestState.Present() && !m.Task.Present() &&
		!m.ProgressToken.Present() && !m.LogLevel.Present() && takesJSON(c.Header)
}

// takesJSON reports whether an answer may be JSON: clients of MCP must take it, but a hit is not to teach others.
func takesJSON(h http.Header) bool {
	accept := strings.Join(h["Accept"], ",")
	return accept == "" || strings.Contains(accept, "application/json") || strings.Contains(accept, "*/*")
}

// planFor makes the plan of a call, or nil for one that goes upstream untouched.
func (u *Upstream) planFor(c *mcp.Call, asker Partition) *plan {
	m := c.Method()
	if !plain(c) {
		return nil
	}
	tool := ""
	if m == mcp.MethodToolsCall {
		var ok bool
		if tool, ok = mcp.Text(c.Message.Name.Of(c.Body)); !ok {
			return nil
		}
	}
	ttl, override := u.opts.operatorTTL(m, tool)
	cacheable := mayCache(m) || m == mcp.MethodToolsCall && override
	if !cacheable && !mayShare(m) && !(m == mcp.MethodToolsCall && u.opts.coalesces(tool)) {
		return nil
	}
	s, ok := u.scopeOf(c, asker)
	if !ok || !wellFormed(c) {
		return nil
	}
	params, err := canonical(c.Message.Params.Of(c.Body))
	if err != nil {
		return nil
	}
	p := &plan{method: m, family: familyOf(m), legacy: c.Era == mcp.EraLegacy, asker: asker, override: override, ttl: ttl}
	p.listens = p.legacy && u.hears(s.session, p.family, m)
	if !cacheable {
		p.override, p.ttl, p.listens = true, 0, false // only a flight
	}
	u.keys(p, s, c, params)
	return p
}

// scopeOf settles version, capabilities and session of a call; false where they are not settled.
func (u *Upstream) scopeOf(c *mcp.Call, asker Partition) (scope, bool) {
	s := scope{upstream: u.opts.Identity, version: c.Version, partition: asker}
	if c.Era == mcp.EraModern {
		if c.Version != mcp.Version20260728 { // a newer one is nobody's to share
			return s, false
		}
		caps := c.Message.ClientCapabilities.Of(c.Body)
		if len(caps) == 0 || caps[0] != '{' {
			return s, false
		}
		var err error
		s.capabilities, err = canonical(caps)
		if s.capabilities == nil {
			s.capabilities = []byte("{}")
		}
		return s, err == nil
	}
	s.session = c.Header.Get("Mcp-Session-Id")
	own, ok := u.peers.get(s.session)
	if !ok {
		return s, false
	}
	if s.version == "" && own.version == mcp.Version20250326 {
		s.version = own.version // the header came later (2025-06-18)
	}
	if s.session != "" {
		s.capabilities = own.capabilities
	}
	return s, s.version == own.version
}

// wellFormed reports whether the params are what the method asks for, as far as the key depends on them.
func wellFormed(c *mcp.Call) bool {
	m, b := &c.Message, c.Body
	if p := m.Params.Of(b); p != nil && p[0] != '{' {
		return false
	}
	switch m.Method {
	case mcp.MethodResourcesRead:
		return isText(m.URI.Of(b))
	case mcp.MethodToolsCall, mcp.MethodPromptsGet:
		return isText(m.Name.Of(b))
	}
	return !m.Cursor.Present() || isText(m.Cursor.Of(b))
}

func isText(token []byte) bool { return len(token) > 0 && token[0] == '"' }

// hears reports whether a change of a legacy list would come to the daemon's ears.
func (u *Upstream) hears(session string, f Family, m mcp.Method) bool {
	if m == mcp.MethodResourcesRead || m == mcp.MethodToolsCall {
		return false
	}
	own, ok := u.peers.get(session)
	return ok && own.changes[f] && own.listening > 0
}

// keys names the call's entries and what guards them.
func (u *Upstream) keys(p *plan, s scope, c *mcp.Call, params []byte) {
	buf := make([]byte, 0, 512)
	p.private.Key, buf = keyOf(buf, &s, p.method, params)
	s.partition = Partition{}
	p.public.Key, _ = keyOf(buf, &s, p.method, params)
	family := u.family(p.family)
	p.public.Generations = []Generation{family}
	if p.method == mcp.MethodResourcesRead {
		if uri, ok := mcp.Text(c.Message.URI.Of(c.Body)); ok {
			p.public.Generations = append(p.public.Generations, u.uri(uri))
		}
	}
	p.private.Generations = append(append([]Generation{}, p.public.Generations...), u.asker(p.asker))
	if p.override && (p.method == mcp.MethodToolsCall || p.method == mcp.MethodResourcesRead) {
		p.private.Generations = append(p.private.Generations, u.writes(p.asker))
	}
}
