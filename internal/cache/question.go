package cache

import (
	"crypto/sha256"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/mcp"
)

// pair names the two entries that may answer a question: the asker's own, and everybody's.
type pair struct {
	private, public tier.Lookup
}

// question is what a request asks, apart from who sends it now and under which id: the same bytes asked again by the same
// asker are the same question. It is not changed after it was made, but for its counters.
type question struct {
	method  mcp.Method
	name    string // of the method
	family  Family
	legacy  bool
	plain   bool // not MCP's: the method is one that the operator names
	own     bool // answers are the asker's alone, whatever the server says
	asker   Partition
	bearer  Partition // the asker's, by what can bear a credential alone: what is dropped is dropped by it
	peer    *peer     // of a legacy one: with another, it is another question
	list    bool
	local   bool // kept in memory alone: it is of a session that only this daemon knows, or good while this one hears of changes
	onTools bool // a tools/call makes the asker's answers to it old

	keeps    bool          // an answer may be kept
	shares   bool          // equal calls in flight may be one
	override bool          // ttl is the operator's
	ttl      time.Duration // where override
	stream   string        // legacy lists: on whose streams a change would come

	pair
	first *pair // of the list's first page, where this is a later one

	// Legacy lists that sessions may share (see Scope); nil for others.
	view *view
	all  *question // the same, asked for all of the view

	ofFirst *view // of such a one: the view of the list's first page, where this is a later one

	scoped bool   // it is asked for all sessions of a view
	early  uint32 // of the session's peer, when this was made

	hits atomic.Uint64 // answered from memory
	size atomic.Int64  // of the answer, in bytes
}

// storable reports whether a tier behind memory may have an answer, or be given one: answers may be kept there, and the last
// one could be kept.
func (u *Upstream) storable(q *question) bool {
	switch {
	case q.local || u.unkept.has(q.private.Key) || q.first != nil && u.unkept.has(q.first.private.Key):
		return false
	case q.override:
		return q.ttl > 0
	}
	return q.keeps && !q.legacy
}

// hears reports whether a change of a legacy list would come on a stream of an agent's.
func (u *Upstream) hears(q *question) bool {
	if !q.list || q.peer == nil || !q.peer.changes[q.family] {
		return false
	}
	return u.streams.has(q.stream)
}

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
	return m == mcp.MethodServerDiscover || m == mcp.MethodResourcesRead || isList(m)
}

func isList(m mcp.Method) bool {
	switch m {
	case mcp.MethodToolsList, mcp.MethodPromptsList, mcp.MethodResourcesList, mcp.MethodResourcesTemplatesList:
		return true
	}
	return false
}

// mayShare reports whether equal calls of the method in flight may be one call.
func mayShare(m mcp.Method) bool {
	return mayCache(m) || m == mcp.MethodPromptsGet || m == mcp.MethodCompletionComplete
}

// alone reports whether a request is a whole question by itself: nothing in it belongs to this one request alone
// (2026-07-28, SEP-2322 and SEP-2549), and nothing in it reads in two ways. An id is not null (basic/index, "Requests").
func alone(c *mcp.Call) bool {
	m := &c.Message
	return c.Lane == mcp.LaneRequest && m.Kind == mcp.KindRequest && !c.Mismatch && !m.Ambiguous && !m.Loose &&
		!m.InputResponses.Present() && !m.RequestState.Present() && !m.Task.Present() &&
		!m.ProgressToken.Present() && !m.LogLevel.Present() && string(c.ID()) != "null" && single(c.Header)
}

// single reports whether the headers of a request say once what the key has as parts of its own, that it is not one to be done
// once under a key of its own, and whether its answer may be JSON.
func single(h http.Header) bool {
	return len(h["Mcp-Session-Id"]) <= 1 && len(h["Mcp-Protocol-Version"]) <= 1 &&
		h["Idempotency-Key"] == nil && h["X-Idempotency-Key"] == nil && takesJSON(h["Accept"])
}

// takesJSON reports whether an answer may be JSON: clients of MCP must take it, but a hit is not to teach others.
func takesJSON(accept []string) bool {
	for _, v := range accept {
		if strings.Contains(v, "application/json") || strings.Contains(v, "*/*") {
			return true
		}
	}
	return len(accept) == 0
}

// ask returns what a call asks, nil for one that goes upstream untouched: past cache and flights.
func (u *Upstream) ask(c *mcp.Call, asker Partition) *question {
	if u.opts.Plain {
		return u.askNamed(c, asker)
	}
	m := c.Method()
	if c.Era == mcp.EraPlain || !mayShare(m) && (m != mcp.MethodToolsCall || !u.opts.callsTools()) || !alone(c) {
		return nil
	}
	if c.Message.Params.End-c.Message.Params.Start > maxParams {
		return nil
	}
	var own *peer
	session := ""
	if c.Era == mcp.EraLegacy {
		session = first(c.Header["Mcp-Session-Id"])
		if own = u.peers.get(peerName(session, c.Version)); own == nil || session != "" && !mayCache(m) && m != mcp.MethodToolsCall {
			return nil
		}
	}
	raw := u.rawKey(c, asker, session)
	q := u.questions.get(raw)
	if q == nil || q.peer != own || q.local && q.early != own.early[q.family].Load() {
		if q = u.newQuestion(c, asker, session, own); q == nil {
			return nil
		}
		u.questions.put(raw, q)
	}
	if all := u.shared(q); all != nil {
		return all
	}
	return q
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// rawKey is a hash over all that a question depends on, as it was sent.
func (u *Upstream) rawKey(c *mcp.Call, asker Partition, session string) [32]byte {
	params, name := c.Message.Params.Of(c.Body), []byte(nil)
	if c.Era == mcp.EraPlain {
		name = c.Message.MethodName.Of(c.Body)
	}
	buf := u.store.buffers.Get(len(params) + len(session) + len(name) + 128)
	buf = append(buf, byte(c.Era), byte(c.Message.Method))
	buf = append(buf, asker[:]...)
	buf = appendPart(buf, c.Version)
	buf = appendPart(buf, session)
	buf = appendPart(buf, name)
	buf = appendPart(buf, params)
	buf = appendFields(buf, c.Header, isParam)
	sum := sha256.Sum256(buf)
	u.store.buffers.Put(buf)
	return sum
}

// newQuestion reads a call. It is nil where the params are not what the method asks for, as far as the key depends on
// them.
func (u *Upstream) newQuestion(c *mcp.Call, asker Partition, session string, own *peer) *question {
	if !c.WellFormed() {
		return nil
	}
	q := &question{
		method: c.Method(), name: c.Method().String(), family: familyOf(c.Method()), legacy: c.Era == mcp.EraLegacy,
		asker: asker, bearer: u.store.bearer(c), peer: own, list: isList(c.Method()),
	}
	q.own = q.legacy || q.method == mcp.MethodToolsCall
	if own != nil {
		q.early = own.early[q.family].Load()
	}
	if !u.rules(q, c, session) {
		return nil
	}
	s, ok := u.scopeOf(c, asker, session, own, q.early)
	if !ok {
		return nil
	}
	params, err := canonical(c.Message.Params.Of(c.Body))
	if err != nil {
		return nil
	}
	q.stream, q.local = streamName(session, asker), session != "" || q.legacy && q.list && !q.override
	u.name(q, s, params, c)
	return q
}

// rules settles whether answers may be kept, for how long if the operator says so, and whether calls may share a flight:
// those of a session do not. It returns false where they may do neither.
func (u *Upstream) rules(q *question, c *mcp.Call, session string) bool {
	if q.method != mcp.MethodToolsCall {
		q.ttl, q.override = u.opts.TTL[q.name]
		q.keeps, q.shares = mayCache(q.method), session == ""
		q.onTools = q.override && q.method == mcp.MethodResourcesRead
		return q.keeps || q.shares
	}
	tool, ok := mcp.Text(c.Message.Name.Of(c.Body))
	if !ok {
		return false
	}
	q.ttl, q.override = u.opts.toolTTL(tool)
	q.keeps, q.shares = q.override && q.ttl > 0, session == "" && u.opts.coalesces(tool)
	q.onTools = q.keeps
	return q.keeps || q.shares
}

// scopeOf settles version and capabilities of a call; false where they are not settled.
func (u *Upstream) scopeOf(c *mcp.Call, asker Partition, session string, own *peer, early uint32) (scope, bool) {
	s := scope{upstream: u.opts.Identity, version: c.Version, partition: asker, params: appendFields(nil, c.Header, isParam)}
	if c.Era == mcp.EraLegacy {
		if s.version == "" {
			s.version = mcp.Version20250326 // the header came later (2025-06-18)
		}
		if session != "" {
			s.capabilities, s.session = own.capabilities, session+own.nonce+strconv.FormatUint(uint64(early), 36)
		}
		return s, s.version == own.version
	}
	if c.Version != mcp.Version20260728 { // a newer one is nobody's to share
		return s, false
	}
	var err error
	s.capabilities, err = canonicalObject(c.Message.ClientCapabilities.Of(c.Body))
	return s, err == nil
}

// name gives the question its keys, and what guards them.
func (u *Upstream) name(q *question, s scope, params []byte, c *mcp.Call) {
	public := append(make([]tier.Generation, 0, 2), u.family(q.family))
	if q.method == mcp.MethodResourcesRead {
		if uri, ok := mcp.Text(c.Message.URI.Of(c.Body)); ok {
			public = append(public, u.uri(uri))
		}
	}
	private := append(append(make([]tier.Generation, 0, tier.MaxGuards), public...), u.asker(q.bearer))
	if q.onTools {
		private = append(private, u.writes(q.bearer))
	}
	if q.legacy && q.list && !q.override {
		private = append(private, u.acts(q.bearer), u.streamOf(q.stream))
	}
	q.pair = pairOf(s, q.name, params, private, public)
	if q.list && c.Message.Cursor.Present() {
		if params, err := withoutCursor(params); err == nil {
			one := pairOf(s, q.name, params, private, public)
			q.first = &one
		}
	}
	if q.legacy && q.list && u.opts.Scope != ScopeSession {
		q.all = u.ofView(q, s, params)
		q.view = q.all.view
	}
}

// listKey names the list that a page is of, as this asker sees it.
func (q *question) listKey() tier.Key {
	if q.first != nil {
		return q.first.private.Key
	}
	return q.private.Key
}

func pairOf(s scope, method string, params []byte, private, public []tier.Generation) pair {
	var p pair
	buf := make([]byte, 0, 512)
	p.private.Key, buf = keyOf(buf, &s, method, params)
	s.partition = Partition{}
	p.public.Key, _ = keyOf(buf, &s, method, params)
	p.private.Generations = private
	p.public.Generations = append(public[:len(public):len(public)], withdrawalOf(s.upstream, p.public.Key))
	return p
}

// peerName is under what an initialize is remembered: the session it made, or the version it settled where the server
// mints no sessions. A header's value holds no line feed.
func peerName(session, version string) string {
	if session != "" {
		return session
	}
	if version == "" {
		version = mcp.Version20250326
	}
	return "\n" + version
}

// streamName is by what the streams are told apart on which a legacy server says what has changed: the session, or the
// asker where there is none.
func streamName(session string, asker Partition) string {
	if session != "" {
		return session
	}
	return "\n" + string(asker[:])
}

// maxQuestions bounds the questions that are remembered. One that is forgotten is read anew, which costs a canonical form.
const maxQuestions = 1 << 14

// questions are those asked lately, by the bytes that asked them.
type questions struct {
	shards [16]struct {
		mu sync.RWMutex
		by map[[32]byte]*question
	}
}

func (q *questions) get(raw [32]byte) *question {
	s := &q.shards[raw[0]%16]
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.by[raw]
}

func (q *questions) put(raw [32]byte, one *question) {
	s := &q.shards[raw[0]%16]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.by == nil {
		s.by = make(map[[32]byte]*question)
	}
	for some := range s.by {
		if len(s.by) < maxQuestions/16 {
			break
		}
		delete(s.by, some)
	}
	s.by[raw] = one
}

// each calls f for every question that is remembered.
func (q *questions) each(f func(*question)) {
	for i := range q.shards {
		s := &q.shards[i]
		s.mu.RLock()
		for _, one := range s.by {
			f(one)
		}
		s.mu.RUnlock()
	}
}
