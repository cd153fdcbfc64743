package cache

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"

	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/mcp"
)

// keyFormat changes whenever what goes into a key does: entries of other formats are never found.
const keyFormat = "fluentd-perf/1"

// plainFormat is keyFormat for calls that are not MCP's.
const plainFormat = keyFormat + " jsonrpc"

// keyInput is what a key holds beside method and params: who calls whom, in which version, with which capabilities.
type keyInput struct {
	plain        bool   // of JSON-RPC without MCP
	upstream     string // the identity of the server
	version      string
	partition    partition
	capabilities []byte // of the client, canonical; nil where there is no part
	sessionID    string // legacy session id and session.nonce; "" where there is none or where it may be shared
	headerParams []byte // the headers that repeat parameters (isParam); nil where there are none

	// Of a key that the sessions of a view share.
	view         bool
	agent        [32]byte // a hash over clientInfo.name of the session's initialize
	server       [32]byte // a hash over what the server said to it
	earlyChanges uint32   // how often the session was told at its beginning that the list has changed
}

// keyOf returns the key of a call with the given params. The params are hashed as they are: canonical makes them comparable.
func keyOf(buf []byte, s *keyInput, method string, params []byte) (tier.Key, []byte) {
	format := keyFormat
	if s.plain {
		format = plainFormat
	}
	buf = appendPart(buf[:0], format)
	buf = appendPart(buf, s.upstream)
	buf = appendPart(buf, s.version)
	buf = appendPart(buf, s.partition[:])
	buf = appendPart(buf, method)
	buf = appendPart(buf, params)
	if s.capabilities == nil {
		buf = append(buf, 0)
	} else {
		buf = appendPart(append(buf, 1), s.capabilities)
	}
	buf = appendPart(buf, s.sessionID)
	if s.view {
		buf = appendPart(appendPart(appendPart(buf, "view"), s.agent[:]), s.server[:])
		buf = binary.AppendUvarint(buf, uint64(s.earlyChanges))
	}
	if s.headerParams != nil {
		buf = appendPart(appendPart(buf, "params"), s.headerParams)
	}
	return sha256.Sum256(buf), buf
}

// keys name the two entries that may answer a request: the principal's own, and everybody's.
type keys struct {
	private, public tier.Lookup
}

func (p *keys) of(public bool) *tier.Lookup {
	if public {
		return &p.public
	}
	return &p.private
}

// setKeys gives the request its keys; a later page of a list those of the first one as well.
func (q *request) setKeys(s keyInput, params []byte, private, public []tier.Generation, later bool) {
	q.keys, q.first = keysOf(s, q.name, params, private, public), nil
	if q.list && later {
		if params, err := withoutCursor(params); err == nil {
			one := keysOf(s, q.name, params, private, public)
			q.first = &one
		}
	}
}

func keysOf(s keyInput, method string, params []byte, private, public []tier.Generation) keys {
	var p keys
	buf := make([]byte, 0, 512)
	p.private.Key, buf = keyOf(buf, &s, method, params)
	s.partition = partition{}
	p.public.Key, _ = keyOf(buf, &s, method, params)
	p.private.Generations = private
	p.public.Generations = append(public[:len(public):len(public)], withdrawalOf(s.upstream, p.public.Key))
	return p
}

// listKey names the list that a page is of, as this principal sees it.
func (q *request) listKey() tier.Key {
	if q.first != nil {
		return q.first.private.Key
	}
	return q.private.Key
}

// keyInputOf collects what goes into the key of a call; false where its version or capabilities are not known.
func (u *Stage) keyInputOf(q *request, c *mcp.Call, sessionID string) (s keyInput, ok bool) {
	s = keyInput{
		plain: q.plain, upstream: u.opts.Identity, version: c.Version, partition: q.principal, sessionID: sessionID,
		headerParams: appendFields(nil, c.Header, isParam),
	}
	switch {
	case q.plain:
		return s, true
	case !q.legacy:
		var err error
		s.capabilities, err = canonicalObject(c.Message.ClientCapabilities.Of(c.Body))
		return s, err == nil && c.Version == mcp.Version20260728 // a newer one is nobody's to share
	}
	if s.version == "" {
		s.version = mcp.Version20250326 // the header came later (2025-06-18)
	}
	if sessionID != "" {
		s.capabilities, s.sessionID = q.session.capabilities, sessionID+q.session.nonce+strconv.FormatUint(uint64(q.earlyChanges), 36)
	}
	return s, s.version == q.session.version
}

// assignKeys gives the request its keys, and what guards them.
func (u *Stage) assignKeys(q *request, s keyInput, params []byte, c *mcp.Call) {
	credential := u.guarded(q)
	public := append(make([]tier.Generation, 0, 2), u.families[q.family])
	if q.plain {
		public = append(public, u.guard(guardMethod, q.name))
	} else if uri, ok := mcp.Text(c.Message.URI.Of(c.Body)); ok && q.method == mcp.MethodResourcesRead {
		public = append(public, u.guard(guardURI, uri))
	}
	private := append(append(make([]tier.Generation, 0, tier.MaxGuards), public...), u.guard(guardCredential, credential))
	if q.staleOnCall {
		private = append(private, u.guard(guardWrites, string(q.credential[:])))
	}
	if q.legacy && q.list && !q.override {
		private = append(private, u.guard(guardShown, credential), u.guard(guardStream, q.stream))
	}
	q.setKeys(s, params, private, public, c.Message.Cursor.Present())
	if q.legacy && q.list && u.opts.Scope != ScopeSession && !(u.opts.Impersonal && q.session.principal != q.principal) {
		q.viewRequest = u.viewRequestOf(q, s, params)
		q.view = q.viewRequest.view
	}
}
