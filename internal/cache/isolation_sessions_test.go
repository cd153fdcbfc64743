package cache_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/mcp"
)

// sessOne is a session as its server and its agent know it, and what has happened in it.
type sessOne struct {
	id, credential, name, caps, version string

	n            int64 // no other has it
	server       int   // which result its initialize had
	born         time.Time
	acted        bool
	earlyChanges map[string]int // by family: how often it was told within 2 s of its birth that the list has changed
	dynamic      int            // tools that its calls have made
}

// sessAnswer is a list that the server gave a session.
type sessAnswer struct {
	view, says  string
	sessionID   *sessOne
	asked, told int64
	at          time.Time
	acted       bool     // the session had, when the answer was there
	stamps      [2]int64 // what was old when it was asked: of the family, of the credential
}

// sessView is what has to be known of a view before sessions may share it.
type sessView struct {
	last   *sessAnswer
	equal  int
	needed int
	shared []sessSpan
}

// sessSpan says whether a view may be shared from then on.
type sessSpan struct {
	from int64
	may  bool
}

func (v *sessView) may(tick int64) (may bool) {
	for _, s := range v.shared {
		if s.from <= tick {
			may = s.may
		}
	}
	return may
}

// within reports whether it may be shared at some time between the two.
func (v *sessView) within(from, to int64) bool {
	for _, s := range v.shared {
		if s.may && s.from > from && s.from <= to {
			return true
		}
	}
	return v.may(from)
}

// sessWorld is a legacy server with sessions, the cache before it, and by the contract's words (Scope of legacy lists) what
// may be given to whom. Nothing of that is the cache's code.
type sessWorld struct {
	*testing.T
	rig    *rulesRig
	seed   uint64
	opts   cache.StageOptions
	agents []*sessOne

	mu          sync.Mutex // guards the following
	random      *rand.Rand
	tick        int64
	sessions    map[string]*sessOne // at the server
	server      int
	lists       map[string]int    // versions, by method
	kind        map[string]string // of what lists depend on, by method
	revoked     map[string]bool
	slow, fails bool
	answers     []*sessAnswer
	old         map[string]int64 // by family and credential
	views       map[string]*sessView
	differences []time.Time
	ended       time.Time

	hits, stale, own, misses, joined, ends int
}

var sessFamilies = map[string]string{"tools/list": "tools", "prompts/list": "prompts", "resources/list": "resources"}

func (w *sessWorld) one(of ...string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return of[w.random.IntN(len(of))]
}

func (w *sessWorld) n(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.random.IntN(n)
}

func (w *sessWorld) now() int64 { w.tick++; return w.tick }

// viewOf is all that a view is told by.
func viewOf(s *sessOne, method, cursor string) string {
	return fmt.Sprint(method, "|", cursor, "|", s.credential, "|", s.version, "|", s.caps, "|", s.name, "|", s.server, "|", s.earlyChanges[sessFamilies[method]])
}

func (w *sessWorld) viewLocked(name string) *sessView {
	v := w.views[name]
	if v == nil {
		v = &sessView{needed: 2}
		w.views[name] = v
	}
	return v
}

func (w *sessWorld) stampsLocked(s *sessOne, method string) [2]int64 {
	return [2]int64{w.old[sessFamilies[method]], w.old["who "+s.credential]}
}

// learnLocked is what an answer teaches.
func (w *sessWorld) learnLocked(a *sessAnswer) {
	if a.acted || time.Now().Before(w.ended) {
		return
	}
	v := w.viewLocked(a.view)
	last := v.last
	v.last = a
	switch {
	case last == nil || last.says != a.says && (last.stamps != a.stamps || last.sessionID == a.sessionID):
		v.equal = 1
	case last.says != a.says:
		v.equal, v.needed = 1, 3
		w.differLocked()
	case last.sessionID != a.sessionID:
		v.equal++
	}
	if v.last == a { // nothing has ended
		v.shared = append(v.shared, sessSpan{a.told, v.equal >= v.needed})
	}
}

func (w *sessWorld) differLocked() {
	now, day := time.Now(), []time.Time(nil)
	for _, at := range append(w.differences, now) {
		if now.Sub(at) < 24*time.Hour {
			day = append(day, at)
		}
	}
	if w.differences = day; len(day) < 3 {
		return
	}
	w.ends++
	w.differences, w.ended = nil, now.Add(24*time.Hour)
	for _, v := range w.views {
		v.last, v.equal, v.needed = nil, 0, 3
		v.shared = append(v.shared, sessSpan{w.tick, false})
	}
}

// receivedLocked notes a list_changed that a session's agent is about to get.
func (w *sessWorld) receivedLocked(s *sessOne, family string) {
	if w.opts.Scope != cache.ScopeSession && time.Since(s.born) < 2*time.Second {
		s.earlyChanges[family]++
		return
	}
	w.old[family] = w.now()
}

// Call is the server.
func (w *sessWorld) Call(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	credential := strings.TrimPrefix(c.Header.Get("Authorization"), "Bearer ")
	s := w.sessions[c.Header.Get("Mcp-Session-Id")]
	switch {
	case w.revoked[credential]:
		w.old["who "+credential] = w.now()
		return rulesWhole(401, `{}`), nil
	case c.Lane == mcp.LaneRequest && c.Method() == mcp.MethodInitialize:
		return w.initializeLocked(c, credential), nil
	case s == nil:
		return rulesWhole(404, `{}`), nil
	case c.Lane == mcp.LaneEnd:
		delete(w.sessions, s.id)
		return rulesWhole(200, ``), nil
	case c.Lane != mcp.LaneRequest:
		return rulesWhole(202, ``), nil
	}
	if _, is := sessFamilies[c.Method().String()]; is {
		return w.listLocked(c, s), nil
	}
	var in struct{ Params struct{ Says, Family string } }
	if err := json.Unmarshal(c.Body, &in); err != nil {
		panic(err)
	}
	if c.Method() == mcp.MethodToolsCall {
		s.dynamic += w.random.IntN(2)
	}
	answer := rulesData(rulesAnswer(0, c, ""))
	switch {
	case in.Params.Family != "":
		w.receivedLocked(s, in.Params.Family)
		answer = rulesData(`{"jsonrpc":"2.0","method":"notifications/`+in.Params.Family+`/list_changed"}`) + answer
	case in.Params.Says != "":
		answer = rulesData(`{"jsonrpc":"2.0","id":7,"method":"`+in.Params.Says+`","params":{}}`) + answer
	}
	return rulesStream(c, answer), nil
}

func (w *sessWorld) initializeLocked(c *mcp.Call, credential string) *mcp.Result {
	var in struct {
		Params struct {
			ProtocolVersion, Want string
			Capabilities          json.RawMessage
			ClientInfo            struct{ Name string }
		}
	}
	if err := json.Unmarshal(c.Body, &in); err != nil {
		panic(err)
	}
	p := in.Params
	own := &sessOne{
		id: p.Want, credential: credential, name: p.ClientInfo.Name, caps: string(p.Capabilities), version: p.ProtocolVersion,
		n: w.now(), server: w.server, born: time.Now(), earlyChanges: make(map[string]int),
	}
	if before := w.sessions[c.Header.Get("Mcp-Session-Id")]; before != nil { // within a session
		before.server = w.server
		own = before
	}
	w.sessions[own.id] = own
	result := fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":%q,"capabilities":%s,"serverInfo":{"name":"s"},"instructions":"%d"}}`,
		own.version, rulesTells, w.server)
	res := rulesWhole(200, result)
	if w.random.IntN(2) == 0 {
		res = rulesStream(c, "id: 1\n\n"+rulesData(result))
	}
	res.Header.Set("Mcp-Session-Id", own.id)
	return res
}

// listLocked gives a session its list, after a while where the server is slow.
func (w *sessWorld) listLocked(c *mcp.Call, s *sessOne) *mcp.Result {
	method, cursor := c.Method().String(), string(c.Message.Cursor.Of(c.Body))
	a := &sessAnswer{view: viewOf(s, method, cursor), sessionID: s, asked: w.now(), stamps: w.stampsLocked(s, method)}
	says := []string{s.credential, fmt.Sprint("v", w.lists[method]), cursor}
	switch w.kind[method] {
	case "name":
		says = append(says, s.name)
	case "session":
		says = append(says, fmt.Sprint("session ", s.n))
	}
	if s.dynamic > 0 {
		says = append(says, fmt.Sprint("session ", s.n, " made ", s.dynamic))
	}
	text, _ := json.Marshal(says)
	a.says = string(text)
	fails := w.fails
	if takes := time.Duration(w.random.Int64N(int64(3 * time.Second))); w.slow {
		w.mu.Unlock()
		<-time.After(takes)
		w.mu.Lock()
	}
	if fails {
		return rulesWhole(503, `{}`)
	}
	a.told, a.at, a.acted = w.now(), time.Now(), s.acted
	w.answers = append(w.answers, a)
	w.learnLocked(a)
	body := `{"jsonrpc":"2.0","id":` + string(c.ID()) + `,"result":{"tools":` + a.says + `}}`
	if w.random.IntN(3) == 0 {
		return rulesStream(c, ": x\n\n"+rulesData(body))
	}
	return rulesWhole(200, body)
}

// do makes a request in a session and reads its answer.
func (w *sessWorld) do(s *sessOne, a rulesAsk) *rulesReply {
	a.era, a.version = mcp.EraLegacy, s.version
	res, err := w.rig.caller.Call(w.Context(), a.in(s.id).by(s.credential).call(w))
	if err != nil {
		w.Errorf("seed %d: %s: %v", w.seed, a.bytes(), err)
		return &rulesReply{code: 500}
	}
	return (&rulesRig{T: w.T}).read(res)
}

// sessAsk is a request, and what was true when it was asked.
type sessAsk struct {
	sessionID   *sessOne
	method      string
	view, first string // first is that of the list's first page
	from        int64
	at          time.Time
	acted       bool
	stamps      [2]int64
}

func (w *sessWorld) askOf(s *sessOne, method, cursor string) *sessAsk {
	w.mu.Lock()
	defer w.mu.Unlock()
	return &sessAsk{
		s, method, viewOf(s, method, cursor), viewOf(s, method, ""), w.now(), time.Now(), s.acted, w.stampsLocked(s, method),
	}
}

// list asks for a list and checks what comes.
func (w *sessWorld) list(s *sessOne, method, cursor string) {
	q, ask := w.askOf(s, method, cursor), rulesLegacy(method)
	if cursor != "" {
		ask = ask.with(`"cursor":` + cursor)
	}
	p := w.do(s, ask)
	if p.code != 200 {
		return
	}
	var got struct {
		Result struct{ Tools json.RawMessage }
	}
	if err := json.Unmarshal([]byte(p.body), &got); err != nil {
		w.Error(err)
		return
	}
	says, status := string(got.Result.Tools), p.status()
	w.mu.Lock()
	defer w.mu.Unlock()
	var why []string
	for _, a := range slices.Backward(w.answers) { // it is mostly one of the last
		if a.says != says {
			continue
		}
		reason := w.reasonLocked(q, a, status)
		if reason == "" {
			return
		}
		why = append(why, reason)
	}
	w.Errorf("seed %d, tick %d: session %+v was given %s by %q for %s: %q", w.seed, q.from, *s, says, status, q.view, why)
}

// reasonLocked says why an answer of the server's may not be what was given for a request; "" where it may.
func (w *sessWorld) reasonLocked(q *sessAsk, a *sessAnswer, status string) string {
	joined, stale := strings.Contains(status, "collapsed"), strings.Contains(status, "stale")
	if !joined && !strings.Contains(status, "hit") {
		if a.sessionID != q.sessionID || a.told <= q.from {
			return "it is not the server's answer to this"
		}
		w.misses++
		return ""
	}
	ttl, override := w.opts.TTL[q.method]
	if !override {
		ttl = time.Minute
	}
	if stale {
		ttl += min(10*ttl, w.opts.StaleIfError)
	}
	view := w.viewLocked(a.view)
	switch seen := w.opts.Scope == cache.ScopeCredential; {
	case a.view != q.view:
		return "it is of another view"
	case a.asked <= max(q.stamps[0], q.stamps[1]):
		return "it was old"
	case a.told < q.from && q.at.Sub(a.at) >= ttl:
		return "it was too old"
	case a.sessionID == q.sessionID && override:
		w.own++
		return ""
	case w.opts.Scope == cache.ScopeSession || q.acted || a.acted:
		return "sessions do not share it"
	case !seen && !(view.within(q.from, w.tick) && view.may(a.told)):
		return "sessions were not seen to be given the same"
	case !seen && q.first != q.view && !w.viewLocked(q.first).within(q.from, w.tick):
		return "nor of its first page"
	}
	w.hits++
	if stale {
		w.stale++
	}
	if joined {
		w.joined++
	}
	return ""
}

// begin opens a session, or begins again in one.
func (w *sessWorld) begin(within *sessOne) {
	s := &sessOne{
		id: w.one("1", "2", "3", "4", "5", "6", "7", "8", "9"), credential: w.one("a", "a", "b"), name: w.one("x", "x", "y"),
		caps: w.one(`{}`, `{}`, `{}`, `{"roots":{}}`), version: w.one(mcp.Version20250618, mcp.Version20250618, mcp.Version20251125),
	}
	if within != nil {
		s = within
	}
	a := rulesLegacy("initialize").with(fmt.Sprintf(`"protocolVersion":%q,"want":%q,"capabilities":%s,"clientInfo":{"name":%q}`,
		s.version, s.id, s.caps, s.name)).by(s.credential).field("Mcp-Protocol-Version")
	if within != nil {
		a = a.in(s.id)
	}
	res, err := w.rig.caller.Call(w.Context(), a.call(w))
	if err != nil {
		w.Fatal(err)
	}
	if p := (&rulesRig{T: w.T}).read(res); p.code != 200 || within != nil {
		return
	}
	w.leave(s.id)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.agents = append(w.agents, w.sessions[s.id])
}

// leave forgets a session at its agent.
func (w *sessWorld) leave(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, s := range w.agents {
		if s.id == id {
			w.agents = append(w.agents[:i:i], w.agents[i+1:]...)
			return
		}
	}
}

// act does in a session what ends its part in sharing, or what does not.
func (w *sessWorld) act(s *sessOne) {
	family := w.one("", "", "tools", "prompts")
	switch w.n(6) {
	case 0:
		w.acts(s)
		w.do(s, rulesLegacy("tools/call").with(`"name":"a","family":"`+family+`"`))
	case 1, 2:
		request := w.one("ping", "roots/list", "elicitation/create")
		w.do(s, rulesLegacy("ping").with(`"says":"`+request+`"`))
		if request == "elicitation/create" {
			w.acts(s)
		}
		w.do(s, rulesLegacy("").on(mcp.LaneResponse).saying(`{"jsonrpc":"2.0","id":7,"result":{}}`))
	case 3:
		w.do(s, rulesLegacy("").on(mcp.LaneNotification).saying(`{"jsonrpc":"2.0","method":"notifications/initialized"}`))
	default:
		w.do(s, rulesLegacy("ping").with(`"family":"`+family+`"`))
	}
}

func (w *sessWorld) acts(s *sessOne) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s.acted = true
}

// burst has several sessions ask for one list of a slow server, while one does something else.
func (w *sessWorld) burst(method string) {
	w.set(func() { w.slow = true })
	var all sync.WaitGroup
	for range 2 + w.n(4) {
		s, later := w.agents[w.n(len(w.agents))], time.Duration(w.n(2e9))
		all.Go(func() {
			<-time.After(later)
			w.list(s, method, "")
		})
	}
	s, later, what := w.agents[w.n(len(w.agents))], time.Duration(w.n(3e9)), w.n(4)
	all.Go(func() {
		<-time.After(later)
		switch what {
		case 0:
			w.end(s)
		case 1:
			w.purge()
		default:
			w.act(s)
		}
	})
	all.Wait()
	<-time.After(10 * time.Second) // what nobody waits for any more ends
	w.set(func() { w.slow = false })
}

// set changes how the server is.
func (w *sessWorld) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *sessWorld) end(s *sessOne) {
	w.do(s, rulesLegacy("").on(mcp.LaneEnd))
	w.leave(s.id)
}

func (w *sessWorld) purge() {
	method := w.one("", "tools/list", "prompts/list")
	if _, _, err := w.rig.store.Purge(w.Context(), "docs", method); err != nil {
		w.Error(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for m, family := range sessFamilies {
		if method == "" || m == method {
			w.old[family] = w.now()
		}
	}
}

// refuse has the server refuse a credential for a moment.
func (w *sessWorld) refuse(s *sessOne) {
	w.set(func() { w.revoked[s.credential] = true })
	w.do(s, rulesLegacy("ping"))
	w.set(func() { clear(w.revoked) })
}

// restart loses all sessions; another server may answer from now on.
func (w *sessWorld) restart() {
	n := w.n(2)
	w.set(func() {
		w.server += n
		clear(w.sessions)
		w.agents = nil
		w.lists["tools/list"]++
	})
}

func (w *sessWorld) step() {
	for len(w.agents) < 3 {
		w.begin(nil)
	}
	s, method := w.agents[w.n(len(w.agents))], w.one("tools/list", "tools/list", "prompts/list", "resources/list")
	switch n := w.n(1000); {
	case n < 640:
		w.list(s, method, w.one("", "", "", `"2"`))
	case n < 740:
		w.begin(nil)
	case n < 780:
		w.act(s)
	case n < 830:
		w.burst(method)
	case n < 840:
		w.begin(s)
	case n < 860:
		w.set(func() { w.lists[method]++ })
		w.do(s, rulesLegacy("ping").with(`"family":"`+w.one("", sessFamilies[method], sessFamilies[method], sessFamilies[method])+`"`))
	case n < 866:
		w.purge()
	case n < 872:
		w.refuse(s)
	case n < 876:
		w.restart()
	case n < 884:
		w.end(s)
	case n < 890:
		kind := w.one("", "", "", "", "name", "name", "session")
		w.set(func() { w.kind[method] = kind })
	case n < 910:
		fails := w.n(3) == 0
		w.set(func() { w.fails = !w.fails && fails })
	case n < 960:
		<-time.After(time.Duration(w.n(4e9)))
	case n < 980:
		<-time.After(time.Duration(w.n(40e9)))
	case n < 996:
		<-time.After(time.Minute)
	default:
		<-time.After(13 * time.Hour)
		w.set(func() { clear(w.kind) })
	}
	synctest.Wait()
	w.set(func() {
		if n := len(w.answers); n > 2000 {
			w.answers = slices.Clone(w.answers[n-1000:])
		}
	})
}

// TestSessionsShareOnlyLists makes thousands of random requests in sessions of a server whose lists are the same for all of a
// credential, or differ by client or session, change with and without a word, and come late. No list may come to a session but
// as the contract says: never another credential's, and another session's only where that was seen not to matter.
func TestSessionsShareOnlyLists(t *testing.T) {
	for _, scope := range []cache.Scope{cache.ScopeAuto, cache.ScopeSession, cache.ScopeCredential} {
		for i, seed := range []uint64{1, 2, rand.Uint64()} {
			o := cache.StageOptions{Scope: scope}
			if i == 1 {
				o.TTL = map[string]time.Duration{"tools/list": 20 * time.Second, "prompts/list": 0}
			} else {
				o.StaleIfError = time.Duration(i) * time.Minute
			}
			synctest.Test(t, func(t *testing.T) { sessRun(t, o, seed) })
		}
	}
}

func sessRun(t *testing.T, o cache.StageOptions, seed uint64) {
	rig := newRulesRig(t, o, 0)
	defer rig.close()
	w := &sessWorld{
		T: t, rig: rig, seed: seed, opts: o, random: rand.New(rand.NewPCG(seed, 1)), sessions: make(map[string]*sessOne),
		lists: make(map[string]int), kind: make(map[string]string), revoked: make(map[string]bool), old: make(map[string]int64),
		views: make(map[string]*sessView),
	}
	rig.script(func(_ int, c *mcp.Call) (*mcp.Result, error) { return w.Call(t.Context(), c) })
	for range 6000 {
		if w.step(); t.Failed() {
			return
		}
	}
	<-time.After(time.Minute)
	t.Logf("scope %d, seed %d: %d shared (%d by flights, %d expired), %d own, %d of the server's; sharing ended %d times",
		o.Scope, seed, w.hits, w.joined, w.stale, w.own, w.misses, w.ends)
	much := w.hits >= 30
	switch o.Scope {
	case cache.ScopeSession:
		much = w.hits == 0
	case cache.ScopeCredential:
		much = much && w.joined > 0 && (o.StaleIfError == 0 || w.stale > 0)
	case cache.ScopeAuto:
		much = much && (seed > 2 || w.joined > 0 && w.ends > 0)
	}
	if !much || w.misses < 100 {
		t.Error("too little has happened")
	}
}
