package cache

import (
	"crypto/sha256"
	"strings"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// request is what a call asks for, without its id: the same bytes from the same principal are the same request. It is not changed
// after it was made.
type request struct {
	method      mcp.Method
	name        string // of the method
	family      family
	legacy      bool
	plain       bool // not MCP's: the method is one that the operator names
	privateOnly bool // answers are the principal's alone, whatever the server says
	principal   partition
	credential  partition // the HMAC over what can bear a credential alone: what a refusal or a write invalidates is found by it
	session     *session  // of a legacy one: with another session it is another request
	list        bool
	memoryOnly  bool // kept in memory alone: it belongs to a session that only this daemon knows, or is good while this daemon receives its changes
	staleOnCall bool // a tools/call invalidates the credential's answers to it

	cacheable   bool          // an answer may be kept
	coalescable bool          // equal calls in flight may be one
	override    bool          // ttl is the operator's
	ttl         time.Duration // where override
	stream      string        // legacy lists: on whose streams a change would come

	keys
	first *keys // of the list's first page, where this is a later one

	// Legacy lists that sessions may share (see Scope); nil for others.
	view        *view
	viewRequest *request // the same, made for all sessions of the view

	firstView *view // of such a one: the view of the list's first page, where this is a later one

	forView      bool   // it is made for all sessions of a view
	earlyChanges uint32 // of the session, when this was made

	usage *usage
}

// usage counts what became of a request.
type usage struct {
	hits atomic.Uint64 // answered from memory
	size atomic.Int64  // of the answer, in bytes
}

// storable reports whether a tier behind memory may have an answer, or be given one: answers may be kept there, and the last
// one could be kept.
func (u *Stage) storable(q *request) bool {
	if q.memoryOnly || u.notKept.has(q.private.Key) || q.first != nil && u.notKept.has(q.first.private.Key) {
		return false
	}
	return q.override && q.ttl > 0 || !q.override && q.cacheable && !q.legacy
}

// selfContained reports whether another request with the same bytes asks for the same: nothing in it belongs to this one alone
// (2026-07-28, SEP-2322 and SEP-2549), and nothing in it reads in two ways. An id is not null (basic/index, "Requests").
func selfContained(c *mcp.Call) bool {
	m := &c.Message
	return c.Lane == mcp.LaneRequest && m.Kind == mcp.KindRequest && !c.Mismatch && !m.Ambiguous && !m.Loose &&
		!m.InputResponses.Present() && !m.RequestState.Present() && !m.Task.Present() &&
		!m.ProgressToken.Present() && !m.LogLevel.Present() && string(c.ID()) != "null"
}

// single reports whether the headers of a request say once what the key has as parts of its session, that it is not one to be done
// once under a key of its session, and whether its answer may be JSON.
func single(h header.List) bool {
	_, sessions := h.Find("Mcp-Session-Id")
	_, versions := h.Find("Mcp-Protocol-Version")
	return sessions <= 1 && versions <= 1 && !h.Has("Idempotency-Key") && !h.Has("X-Idempotency-Key") && takesJSON(h)
}

// takesJSON reports whether an answer may be JSON: clients of MCP must take it, but a hit does not impose it on others.
func takesJSON(h header.List) bool {
	for v := range h.Values("Accept") {
		if strings.Contains(v, "application/json") || strings.Contains(v, "*/*") {
			return true
		}
	}
	return !h.Has("Accept")
}

// eligible reports whether the call may concern the cache or the flights. Of a server that speaks JSON-RPC 2.0 and no MCP
// the cache knows what the operator says, and nothing of what MCP says of names, `_meta`, results or notifications holds.
func (u *Stage) eligible(c *mcp.Call) bool {
	m := c.Method()
	if u.opts.Plain {
		if c.Era != mcp.EraPlain || !c.Regular() || u.plainTTL(c.Message.MethodName.Of(c.Body)) <= 0 {
			return false
		}
	} else if c.Era == mcp.EraPlain || !methodRules[m].share && (m != mcp.MethodToolsCall || len(u.opts.Tools)+len(u.opts.CoalesceTools) == 0) || !selfContained(c) {
		return false
	}
	return single(c.Header) && c.Message.Params.End-c.Message.Params.Start <= maxParams
}

// requestOf returns the request of a call, nil for one that is relayed untouched: past cache and flights.
func (u *Stage) requestOf(c *mcp.Call, principal partition) *request {
	if !u.eligible(c) {
		return nil
	}
	var session *session
	sessionID := "" // modern calls have none; to a server without MCP it says who calls, and nothing else
	if c.Era != mcp.EraModern {
		sessionID = sessionHeader(c)
	}
	if c.Era == mcp.EraLegacy {
		session = u.sessions.get(sessionName(sessionID, c.Version))
		if session == nil || sessionID != "" && !isCached(c.Method()) {
			return nil
		}
	}
	raw := u.rawKey(c, principal, sessionID)
	known := &u.requests[raw[0]%requestShards]
	q := known.get(raw)
	if q == nil || q.session != session || q.memoryOnly && q.earlyChanges != session.earlyChanges[q.family].Load() {
		if q = u.newRequest(c, principal, sessionID, session); q == nil {
			return nil
		}
		known.put(raw, q, maxRequests/requestShards)
	}
	if all := u.sharedRequest(q); all != nil {
		return all
	}
	return q
}

const (
	// maxRequests bounds the requests that are remembered, by a hash of their bytes (rawKey); most are of sessions that are over
	// soon. One that is forgotten is read anew, which costs a canonical form.
	maxRequests   = 1 << 14
	requestShards = 16
)

// rawKey is a hash over all bytes on which a request depends, as they were sent.
func (u *Stage) rawKey(c *mcp.Call, principal partition, sessionID string) [32]byte {
	params, name := c.Message.Params.Of(c.Body), []byte(nil)
	if c.Era == mcp.EraPlain {
		name = c.Message.MethodName.Of(c.Body)
	}
	buf := u.store.buffers.Get(len(params) + len(sessionID) + len(name) + 128)
	buf = append(buf, byte(c.Era), byte(c.Message.Method))
	buf = append(buf, principal[:]...)
	buf = appendPart(buf, c.Version)
	buf = appendPart(buf, sessionID)
	buf = appendPart(buf, name)
	buf = appendPart(buf, params)
	buf = appendFields(buf, c.Header, isParam)
	sum := sha256.Sum256(buf)
	u.store.buffers.Put(buf)
	return sum
}

// newRequest reads a call. It returns nil where the params are not what the method asks for, as far as the key depends on
// them, or have no canonical form.
func (u *Stage) newRequest(c *mcp.Call, principal partition, sessionID string, session *session) *request {
	q := &request{
		method: c.Method(), name: c.Method().String(), family: methodRules[c.Method()].family, list: methodRules[c.Method()].list,
		legacy: c.Era == mcp.EraLegacy, principal: principal, credential: u.store.credential(c, principal), session: session, usage: new(usage),
	}
	wellFormed := c.WellFormed()
	if u.opts.Plain {
		q.method, q.family, q.list, q.plain = mcp.MethodOther, familyOther, false, true
		q.name, wellFormed = mcp.Text(c.Message.MethodName.Of(c.Body))
	}
	q.privateOnly = q.legacy || q.plain || q.method == mcp.MethodToolsCall
	if session != nil {
		q.earlyChanges = session.earlyChanges[q.family].Load()
	}
	if !wellFormed || !u.applyRules(q, c, sessionID) {
		return nil
	}
	s, ok := u.keyInputOf(q, c, sessionID)
	if !ok {
		return nil
	}
	form := canonical
	if q.plain { // MCP says nothing of params: all that is in them counts, and none, {} and [] are three different ones
		form = canonicalValue
	}
	params, err := form(c.Message.Params.Of(c.Body))
	if err != nil {
		return nil
	}
	q.stream, q.memoryOnly = streamName(sessionID, principal), q.legacy && (sessionID != "" || q.list && !q.override)
	u.assignKeys(q, s, params, c)
	return q
}

// applyRules sets whether answers may be kept, for how long if the operator says so, and whether calls may share a flight: those
// of a session do not. It returns false where neither is allowed.
func (u *Stage) applyRules(q *request, c *mcp.Call, sessionID string) bool {
	if q.method != mcp.MethodToolsCall {
		q.ttl, q.override = u.opts.TTL[q.name]
		q.cacheable, q.coalescable = q.plain || methodRules[q.method].cache, q.plain || sessionID == ""
		q.staleOnCall = q.override && q.method == mcp.MethodResourcesRead
		return q.cacheable || q.coalescable
	}
	tool, ok := mcp.Text(c.Message.Name.Of(c.Body))
	if !ok {
		return false
	}
	q.ttl, q.override = u.opts.toolTTL(tool)
	q.cacheable, q.coalescable = q.override && q.ttl > 0, sessionID == "" && u.opts.coalesces(tool)
	q.staleOnCall = q.cacheable
	return q.cacheable || q.coalescable
}
