package cache_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// isoWho is all that a server could tell a caller by, and all that it was asked. Its answer says it.
type isoWho struct {
	Upstream string
	Identity map[string][]string // headers, but for those that say nothing
	Era      string
	Version  string
	Caps     any
	Session  string
	Epoch    int // which of the sessions that had this id
	Method   string
	Params   any
}

// isoServer answers each request with who made it. One of a minting kind has legacy sessions, and gives ids out again. A
// plain one speaks no MCP: it takes whatever a request says of that for its own.
type isoServer struct {
	name     string
	mints    bool
	plain    bool
	random   *rand.Rand
	sessions map[string]isoSession
	epochs   int
	revoked  map[string]bool      // identities
	last2xx  map[string]time.Time // by identity
	untie    int                  // loose answers, which are numbered from 1
}

type isoSession struct {
	epoch int
	caps  any
}

// The header fields, and the members of _meta, that are of no account to a server.
var (
	isoInertFields = strings.Fields("Accept Accept-Language Content-Type Content-Length User-Agent Origin Referer Dnt Priority " +
		"Cache-Control Pragma Traceparent Tracestate Baggage X-Request-Id X-Correlation-Id Mcp-Protocol-Version Mcp-Method Mcp-Name " +
		"Mcp-Session-Id Last-Event-Id X-Window")
	isoInertMeta = strings.Fields("traceparent tracestate baggage io.modelcontextprotocol/clientInfo " +
		"io.modelcontextprotocol/clientCapabilities io.modelcontextprotocol/protocolVersion")
)

func isoInert(name string) bool {
	return slices.Contains(isoInertFields, name) || strings.HasPrefix(name, "Sec-")
}

func isoIdentity(l header.List) map[string][]string {
	own := make(map[string][]string)
	for _, f := range l {
		if !isoInert(f.Name) {
			own[f.Name] = append(own[f.Name], f.Value)
		}
	}
	return own
}

// isoCredential names an identity.
func isoCredential(c *mcp.Call) string { return fmt.Sprint(isoIdentity(c.Header)) } // fmt sorts maps

// who reads a request as the server does: nothing of this is the cache's code.
func (s *isoServer) who(c *mcp.Call) isoWho {
	var body struct {
		Method string `json:"method"`
		Params any    `json:"params"`
	}
	d := json.NewDecoder(bytes.NewReader(c.Body))
	d.UseNumber()
	if err := d.Decode(&body); err != nil {
		panic(err)
	}
	w := isoWho{Upstream: s.name, Identity: isoIdentity(c.Header), Era: c.Era.String(), Method: body.Method}
	if versions := slices.Collect(c.Header.Values("Mcp-Protocol-Version")); len(versions) > 0 {
		w.Version = versions[len(versions)-1]
	}
	if s.plain {
		w.Session, w.Params = strings.Join(slices.Collect(c.Header.Values("Mcp-Session-Id")), "|"), body.Params
		return w
	}
	params, _ := body.Params.(map[string]any)
	meta, _ := params["_meta"].(map[string]any)
	if c.Era == mcp.EraModern {
		w.Caps, w.Version = meta["io.modelcontextprotocol/clientCapabilities"], c.Version
	} else if ids := slices.Collect(c.Header.Values("Mcp-Session-Id")); s.mints && len(ids) > 0 {
		w.Session = ids[len(ids)-1]
		w.Caps, w.Epoch = s.sessions[w.Session].caps, s.sessions[w.Session].epoch
	}
	for _, inert := range isoInertMeta {
		delete(meta, inert)
	}
	if meta != nil && len(meta) == 0 {
		delete(params, "_meta")
	}
	if len(params) > 0 {
		w.Params = params
	}
	return w
}

// Call answers a request.
func (s *isoServer) Call(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
	credential := isoCredential(c)
	switch n := s.random.IntN(20); {
	case s.revoked[credential]:
		delete(s.last2xx, credential)
		return rulesWhole(http.StatusUnauthorized, `{}`), nil
	case n == 0:
		return rulesWhole(http.StatusServiceUnavailable, `{}`), nil
	}
	s.last2xx[credential] = time.Now()
	switch {
	case c.Lane == mcp.LaneOpaque:
		return rulesWhole(200, "["), nil
	case c.Lane == mcp.LaneStream:
		return &mcp.Result{Status: 200, Header: header.List{}, Events: new(rulesFixed)}, nil
	case c.Lane == mcp.LaneEnd:
		delete(s.sessions, c.Header.Get("Mcp-Session-Id"))
		return rulesWhole(200, ""), nil
	case c.Method() == mcp.MethodInitialize:
		return s.initialize(c), nil
	}
	return s.answer(c), nil
}

func (s *isoServer) initialize(c *mcp.Call) *mcp.Result {
	var in struct {
		Params struct {
			ProtocolVersion, Want string
			Capabilities          any
		}
	}
	if err := json.Unmarshal(c.Body, &in); err != nil {
		panic(err)
	}
	res := rulesWhole(200, `{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"`+in.Params.ProtocolVersion+`","capabilities":`+rulesTells+`}}`)
	if s.mints {
		s.epochs++
		s.sessions[in.Params.Want] = isoSession{s.epochs, in.Params.Capabilities}
		res.Header.Set("Mcp-Session-Id", in.Params.Want)
	}
	return res
}

// answer says who asked, under all kinds of terms.
func (s *isoServer) answer(c *mcp.Call) *mcp.Result {
	who, err := json.Marshal(s.who(c))
	if err != nil {
		panic(err)
	}
	pick := func(of ...string) string { return of[s.random.IntN(len(of))] }
	public := s.random.IntN(2) == 0
	body := `{"jsonrpc":"2.0","id":` + string(c.ID()) + `,"result":{` + rulesJoin(
		`"who":`+string(who), fmt.Sprintf(`"public":%v`, public), pick(``, `"resultType":"complete"`, `"isError":false`),
		pick(`"ttlMs":0`, `"ttlMs":500`, `"ttlMs":5000`, `"ttlMs":60000`, `"ttlMs":60000`, `"ttlMs":600000`, ``),
		map[bool]string{true: `"cacheScope":"public"`, false: pick(`"cacheScope":"private"`, ``)}[public]) + `}}`
	switch s.random.IntN(12) {
	case 0:
		return rulesStream(c, rulesData(rulesProgress)+rulesData(body))
	case 1, 2:
		return rulesStream(c, ": x\n\n"+rulesData(body))
	case 3:
		return rulesError(c, 200, -32602)
	case 4:
		return rulesWhole(200, strings.Replace(body, `"result":{`, `"result":{"resultType":"input_required",`, 1))
	case 5:
		s.untie++
		body = strings.Replace(body, `"result":{`, fmt.Sprintf(`"result":{"loose":%d,"x":"\ud83d",`, s.untie), 1)
		if public {
			return rulesStream(c, rulesData(body))
		}
	}
	return rulesWhole(200, body)
}

// isoWorld is two servers behind one store, and what is to be seen of the test's own strength.
type isoWorld struct {
	*testing.T
	rig     *rulesRig
	seed    uint64
	random  *rand.Rand
	servers []*isoServer
	callers []mcp.Caller
	streams []*mcp.Result
	now     int

	given map[string]bool // loose answers, by server and number

	hits, behind, shared, legacy, plain, refused int
}

// TestIsolation makes thousands of random requests. No answer may come to anyone whom the server would have answered
// otherwise, but for public ones, which may come to whom it accepted in the last ten minutes.
func TestIsolation(t *testing.T) {
	for _, seed := range []uint64{1, 2, rand.Uint64()} {
		for slow := range 2 {
			synctest.Test(t, func(t *testing.T) { isoRun(t, seed, slow) })
		}
	}
}

func isoRun(t *testing.T, seed uint64, slow int) {
	o := rulesAll()
	delete(o.TTL, "tools/list")
	delete(o.TTL, "server/discover")
	o.Tools = map[string]time.Duration{"get_*": time.Minute}
	o.CoalesceTools, o.FlushOnCall, o.StaleIfError = []string{"join_*"}, true, time.Hour
	rig := newRulesRig(t, o, slow)
	defer rig.close()
	w := &isoWorld{T: t, rig: rig, seed: seed, random: rand.New(rand.NewPCG(seed, 0)), given: make(map[string]bool)}
	for i, name := range []string{"one", "two", "plain"} {
		s := &isoServer{
			name: name, mints: i == 0, plain: i == 2, random: w.random, sessions: make(map[string]isoSession), revoked: make(map[string]bool),
			last2xx: make(map[string]time.Time),
		}
		own := o
		own.Name, own.Identity = name, "https://"+name
		if s.plain {
			own.Plain, own.TTL = true, map[string]time.Duration{"getBlock": time.Minute, "head": 4 * time.Second, "never": 0}
		}
		up := rig.store.Stage(own, s)
		w.servers = append(w.servers, s)
		up.Watch(func(c *mcp.Call, f cache.Flown) {
			if odd := c.Message.Loose || c.Lane == mcp.LaneOpaque; odd || f.Loose && f.Shared {
				t.Errorf("seed %d, step %d: %s may be shared", seed, w.now, c.Body)
			}
		})
		w.callers = append(w.callers, up)
	}
	const steps = 12_000
	for w.now = range steps {
		w.step()
	}
	w.close()
	t.Logf("seed %d, %d tiers: %d hits, %d from behind memory, %d of another's public answer, %d legacy ones, %d plain ones; %d refusals",
		seed, 1+slow, w.hits, w.behind, w.shared, w.legacy, w.plain, w.refused)
	if w.hits-w.plain < 150 || w.shared < 30 || w.legacy < 5 || w.plain < 50 || w.refused == 0 || len(w.given) < 50 || w.behind < 5*slow {
		t.Errorf("seed %d: too little has happened", seed)
	}
}

// step is a request, most of the time.
func (w *isoWorld) step() {
	s := w.random.IntN(len(w.servers))
	switch n := w.random.IntN(100); {
	case n < 4:
		<-time.After(time.Duration(w.random.Int64N(int64(3 * time.Second))))
	case n == 4 && w.random.IntN(10) == 0:
		<-time.After(11 * time.Minute)
	case w.servers[s].plain && n != 7 && n != 15:
		w.ask(s, w.plainRequest(), true)
	case n == 5 || n == 14:
		w.ask(s, w.initialize(), false)
	case n == 6 && w.random.IntN(3) == 0:
		w.ask(s, rulesAsk{}.on(mcp.LaneEnd).in(w.one("s1", "s2")), false)
	case n == 7 && w.random.IntN(5) == 0:
		w.servers[s].revoked[isoCredential(w.who(rulesModern("")).call(w))] = true
	case n < 12:
		clear(w.servers[s].revoked)
	case n == 12:
		w.listen(s)
	case n == 13 && w.random.IntN(5) == 0:
		w.close()
	case n == 16:
		w.ask(s, w.who(rulesModern("").on(mcp.LaneOpaque).saying(w.one("\x1f\x8b", "{", "[", `[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]`))), false)
	case n == 15 && len(w.rig.slow) > 0:
		w.rig.forget()
	default:
		w.ask(s, w.request(), true)
	}
	synctest.Wait()
}

func (w *isoWorld) one(of ...string) string { return of[w.random.IntN(len(of))] }

func (w *isoWorld) initialize() rulesAsk {
	return w.who(rulesLegacy("initialize").with(`"protocolVersion":"` + w.one(mcp.Version20250618, mcp.Version20250618, mcp.Version20250618, mcp.Version20251125) +
		`","want":"` + w.one("s1", "s2") + `","capabilities":` + w.one(`{}`, `{"roots":{}}`))).field("Mcp-Protocol-Version")
}

// who adds the headers of some agent.
func (w *isoWorld) who(a rulesAsk) rulesAsk {
	a.credential = w.one("a", "a", "b")
	if w.random.IntN(6) > 0 {
		return a
	}
	values := [][]string{nil, {""}, {"1"}, {"1", "2"}, {"2", "1"}, {"1,2"}, {"1", "2", ""}}
	a = a.field(w.one("X-Tenant", "Cookie", "X-Unknown"), values[w.random.IntN(len(values))]...)
	return a.field(w.one("User-Agent", "X-Window", "Sec-Fetch-Mode", "Traceparent", "Last-Event-Id"), w.one("1", "2"))
}

// request is one of the requests that agents ask, in words of its own.
func (w *isoWorld) request() rulesAsk {
	method := w.one("tools/list", "tools/list", "tools/list", "resources/read", "resources/read", "server/discover", "tools/call", "prompts/get", "resources/list")
	var params string
	switch method {
	case "resources/read":
		params = w.one(`"uri":"a"`, `"uri":"a"`, `"uri":"\u0061"`, `"uri":"A"`, `"cursor":"a","uri":"a"`)
	case "tools/call":
		params = w.one(`"name":"get_a"`, `"name":"get_a","arguments":{"n":1}`, `"arguments":{"n":1.0},"name":"get_a"`)
		if w.random.IntN(20) == 0 {
			params = w.one(`"name":"join_a"`, `"name":"put"`)
		}
	case "prompts/get":
		params = w.one(`"name":"a"`, `"name":"b"`)
	default:
		params = w.one(``, ``, ``, ``, ``, ``, ``, ``, ``, ``, ``, ``, `"cursor":"1"`, `"cursor":""`, `"x":9007199254740993`, `"x":9007199254740992`)
	}
	a := rulesAsk{method: method, params: params, id: rulesIDs[w.random.IntN(len(rulesIDs))]}
	a.meta = w.one(``, ``, ``, ``, ``, ``, ``, ``, ``, `"traceparent":"1"`, `"x":1`, `"x":"1"`, `"x":"\ud83d"`, `"progressToken":1`, `"io.modelcontextprotocol/clientInfo":{}`)
	a = w.who(a)
	if w.random.IntN(5) < 2 {
		a.era = mcp.EraModern
		a.caps = w.one(`{}`, `{}`, `{}`, `{}`, `{}`, `{}`, `{"roots":{}}`, `{"a":1,"b":2}`, `{"b":2,"a":1}`, `null`)
		a.version = mcp.Version20260728
		if w.random.IntN(20) == 0 {
			a.version = "2027-01-01"
		}
		return a
	}
	a.version = w.one(mcp.Version20250618, mcp.Version20250618, mcp.Version20250618, mcp.Version20250618, mcp.Version20251125)
	switch a.sessionID = w.one("", "s1", "s1", "s2"); w.random.IntN(30) {
	case 0:
		a = a.field("Mcp-Session-Id", w.one("s1", "s2"), w.one("s1", "s2"))
	case 1:
		a = a.field("Mcp-Protocol-Version", a.version, "2024-11-05")
	}
	return a
}

// plainRequest asks a server that speaks no MCP, in words of its own and in some that mean something only to others.
func (w *isoWorld) plainRequest() rulesAsk {
	a := rulesPlain(w.one("getBlock", "getBlock", `get\u0042lock`, "head", "never", "getblock", "tools/call"))
	a.params = w.one(``, `{}`, `[]`, `[1]`, `[1]`, `[1]`, ` [ 1 ]`, `[1.0]`, `["1"]`, `[1,2]`, `[2,1]`, `{"a":1,"b":[]}`, `{"b":[],"a":1}`,
		`{"_meta":{"traceparent":"1"}}`, `{"_meta":{}}`, `[9007199254740993]`, `[9007199254740992]`, `{"cursor":1}`, `{"task":{}}`)
	a.id = rulesIDs[w.random.IntN(len(rulesIDs))]
	if w.random.IntN(8) == 0 {
		a = a.in(w.one("s1", "s2"))
	}
	return w.who(a)
}

// ask makes a request and judges the answer.
func (w *isoWorld) ask(i int, a rulesAsk, judged bool) {
	c, s := a.call(w), w.servers[i]
	res, err := w.callers[i].Call(w.Context(), c)
	if err != nil {
		w.Fatalf("seed %d, step %d: %s: %v", w.seed, w.now, c.Body, err)
	}
	p := (&rulesRig{T: w.T}).read(res)
	if p.code == http.StatusUnauthorized {
		w.refused++
	}
	if judged && p.code == 200 {
		w.judge(s, c, p)
	}
}

// judge checks whose answer it is.
func (w *isoWorld) judge(s *isoServer, c *mcp.Call, p *rulesReply) {
	var answer struct {
		ID     json.RawMessage
		Result struct {
			Who    json.RawMessage
			Public bool
			Loose  int
		}
	}
	if err := json.Unmarshal([]byte(p.body), &answer); err != nil || string(answer.ID) != string(c.ID()) {
		w.Fatalf("seed %d, step %d: %s was answered %s (%v)", w.seed, w.now, c.Body, p.body, err)
	}
	if answer.Result.Who == nil {
		return // an error
	}
	want, hit := s.who(c), strings.HasPrefix(p.status(), "hit")
	if n := answer.Result.Loose; n > 0 {
		key := fmt.Sprint(s.name, n)
		if hit || w.given[key] {
			w.Errorf("seed %d, step %d: a loose answer is given again: %s", w.seed, w.now, p.body)
		}
		w.given[key] = true
	}
	if hit && c.Message.Loose {
		w.Errorf("seed %d, step %d: a loose request is a hit: %s", w.seed, w.now, c.Body)
	}
	encoded, _ := json.Marshal(want)
	if hit {
		w.hits++
		if strings.HasSuffix(p.status(), "database") {
			w.behind++
		}
		switch c.Era {
		case mcp.EraLegacy:
			w.legacy++
		case mcp.EraPlain:
			w.plain++
		}
	}
	if bytes.Equal(answer.Result.Who, encoded) {
		return
	}
	got, same := isoDecoded(w, answer.Result.Who), isoDecoded(w, encoded)
	if reflect.DeepEqual(got, same) {
		return
	}
	at, accepted := s.last2xx[isoCredential(c)]
	same.Identity = got.Identity
	if answer.Result.Public && c.Era == mcp.EraModern && c.Method() != mcp.MethodToolsCall && accepted &&
		time.Since(at) < 10*time.Minute && reflect.DeepEqual(got, same) {
		w.shared++
		return
	}
	w.Fatalf("seed %d, step %d: the request\n\t%v %s\nwas given (%s)\n\t%s\nbut the server would have said\n\t%s\nto it; accepted %v, %v ago",
		w.seed, w.now, c.Header, c.Body, p.status(), p.body, encoded, accepted, time.Since(at))
}

// isoDecoded reads what a server wrote of who asked, numbers as they are written.
func isoDecoded(tb testing.TB, text []byte) (who isoWho) {
	tb.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&who); err != nil {
		tb.Fatal(err)
	}
	return who
}

// listen opens a stream on which changes would come, so that legacy lists are kept.
func (w *isoWorld) listen(i int) {
	c := w.who(rulesAsk{}.on(mcp.LaneStream).in(w.one("s1", "s2", ""))).call(w)
	res, err := w.callers[i].Call(w.Context(), c)
	if err != nil {
		w.Fatal(err)
	}
	w.streams = append(w.streams, res)
}

func (w *isoWorld) close() {
	for _, res := range w.streams {
		if err := res.Close(); err != nil {
			w.Error(err)
		}
	}
	w.streams = nil
}
