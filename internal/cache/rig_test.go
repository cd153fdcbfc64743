package cache_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/cache/memory"
	"fluentd-perf/internal/cache/tier/tiertest"
	"fluentd-perf/internal/cache/worker"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// rulesServer answers as its script says. Every call gets a number, from 1.
type rulesServer struct {
	mu     sync.Mutex
	calls  []*mcp.Call
	ctxs   []context.Context // of the calls
	script func(n int, c *mcp.Call) (*mcp.Result, error)
	during func() // if not nil, happens once, while the server is at a tools/call or an array
}

func (s *rulesServer) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	s.mu.Lock()
	s.ctxs = append(s.ctxs, ctx)
	s.calls = append(s.calls, c)
	n, script, during := len(s.calls), s.script, s.during
	if c.Method() == mcp.MethodToolsCall || c.Lane == mcp.LaneOpaque {
		s.during = nil
	} else {
		during = nil
	}
	s.mu.Unlock()
	if during != nil {
		during()
	}
	return script(n, c)
}

// ctxOf returns the context of the n-th call.
func (s *rulesServer) ctxOf(n int) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ctxs[n-1]
}

func (s *rulesServer) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.calls)
}

// rulesWhole is a JSON answer of these bytes, checked as the way to the server does.
func rulesWhole(status int, body string) *mcp.Result {
	res := &mcp.Result{Status: status, Header: header.Of(http.Header{"Content-Type": {"application/json"}}), Body: []byte(body)}
	res.Checked = mcp.Scan(res.Body, &res.Message) == nil && status < 300 && !res.Message.Loose && res.Message.Kind != mcp.KindBatch
	return res
}

// rulesAnswer is a result with these members and the call's number.
func rulesAnswer(n int, c *mcp.Call, members string) string {
	return `{"jsonrpc":"2.0","id":` + string(c.ID()) + `,"result":{` + rulesJoin(`"n":`+strconv.Itoa(n), members) + `}}`
}

// rulesRig is the stage of one upstream before a scripted server, without flights.
type rulesRig struct {
	*testing.T
	store  *cache.Store
	up     *cache.Stage
	server *rulesServer
	caller mcp.Caller
	slow   []*rulesSlow
	flown  cache.Flown // the last call, if it went by a flight
}

// rulesTest runs f on false time, with memory alone.
func rulesTest(t *testing.T, o cache.StageOptions, f func(r *rulesRig)) {
	t.Helper()
	rulesTestTiers(t, 0, o, f)
}

// rulesTestTiers is rulesTest with so many tiers behind memory.
func rulesTestTiers(t *testing.T, slow int, o cache.StageOptions, f func(r *rulesRig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRulesRig(t, o, slow)
		defer r.close()
		f(r)
	})
}

func newRulesRig(t *testing.T, o cache.StageOptions, slow int) *rulesRig {
	t.Helper()
	store, err := cache.NewStore(cache.StoreOptions{
		Memory: memory.Options{Size: 1 << 20}, State: cache.MemoryState([]byte("0123456789abcdef")),
		Inert: []string{"x-window"},
	})
	if err != nil {
		t.Fatal(err)
	}
	r := &rulesRig{T: t, store: store, server: new(rulesServer)}
	for range slow {
		tier := new(rulesSlow)
		r.lend(tier)
		r.slow = append(r.slow, tier)
	}
	o.Name, o.Identity = "docs", "https://docs.example.com/mcp"
	r.up = store.Stage(o, r.server)
	r.up.Watch(func(_ *mcp.Call, f cache.Flown) {
		r.server.mu.Lock() // calls may be under way at the same time
		defer r.server.mu.Unlock()
		r.flown = f
	})
	r.caller = r.up
	r.says(`"ttlMs":9000,"cacheScope":"private"`) // below 10 s no life is shortened by chance
	return r
}

// lend adds a tier behind memory, which the rig that made it closes.
func (r *rulesRig) lend(tier *rulesSlow) {
	r.store.Add(worker.Options{Tier: tier, Timeout: time.Second, Breaker: &tier.breaker, Private: true})
}

func (r *rulesRig) close() {
	synctest.Wait()
	if err := r.store.Close(context.Background()); err != nil {
		r.Error(err)
	}
}

// says makes the server answer every request with these members of a result.
func (r *rulesRig) says(members string) {
	r.script(func(n int, c *mcp.Call) (*mcp.Result, error) { return rulesWhole(200, rulesAnswer(n, c, members)), nil })
}

func (r *rulesRig) script(f func(n int, c *mcp.Call) (*mcp.Result, error)) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.server.script = f
}

// gives makes the server answer with results, errors or whatever the function returns for a call.
func (r *rulesRig) gives(f func(c *mcp.Call) *mcp.Result) {
	r.script(func(_ int, c *mcp.Call) (*mcp.Result, error) { return f(c), nil })
}

// after lets time pass.
func (r *rulesRig) after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// rulesReply is an answer as an agent gets it.
type rulesReply struct {
	code   int
	body   string
	header header.List
	events []string // the raw events of a stream
	n      int      // the server's number of the answer
	ttl    string   // result.ttlMs, raw
}

// status is the Cache-Status without the cache's name.
func (p *rulesReply) status() string {
	return strings.ReplaceAll(strings.Join(slices.Collect(p.header.Values("Cache-Status")), ", "), "fluentd-perf; ", "")
}

// ask makes a request and reads its answer to the end.
func (r *rulesRig) ask(a rulesAsk) *rulesReply {
	r.Helper()
	r.flown = cache.Flown{}
	res, err := r.caller.Call(context.Background(), a.call(r))
	if err != nil {
		r.Fatalf("%s: %v", a.bytes(), err)
	}
	reply := r.read(res)
	synctest.Wait() // what is stored behind, and streams that end by themselves
	return reply
}

func (r *rulesRig) read(res *mcp.Result) *rulesReply {
	r.Helper()
	p := &rulesReply{code: res.Status, header: res.Header.Clone(), body: string(res.Body)}
	for res.Events != nil {
		ev, err := res.Events.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			r.Fatal(err)
		}
		p.events = append(p.events, string(ev.Raw))
		if ev.Answer {
			p.body = string(ev.Data)
		}
	}
	if err := res.Close(); err != nil {
		r.Fatal(err)
	}
	var answer struct {
		Result struct {
			N   int             `json:"n"`
			TTL json.RawMessage `json:"ttlMs"`
		} `json:"result"`
	}
	if json.Unmarshal([]byte(p.body), &answer) == nil {
		p.n, p.ttl = answer.Result.N, string(answer.Result.TTL)
	}
	return p
}

// asks makes a request that the server has to be asked for.
func (r *rulesRig) asks(what string, a rulesAsk) *rulesReply {
	r.Helper()
	before := r.server.asked()
	p := r.ask(a)
	if n := r.server.asked() - before; n != 1 {
		r.Errorf("%s: the server was asked %d times, want once (%s)", what, n, p.status())
	} else if p.n != 0 && p.n != before+1 {
		r.Errorf("%s: the answer is number %d, and not the server's newest (%s)", what, p.n, p.status())
	}
	return p
}

// hits makes a request that the cache has to answer, with the server's n-th answer.
func (r *rulesRig) hits(what string, n int, a rulesAsk) *rulesReply {
	r.Helper()
	before := r.server.asked()
	p := r.ask(a)
	if asked := r.server.asked() - before; asked != 0 {
		r.Errorf("%s: the server was asked (%s)", what, p.status())
	} else if p.n != n {
		r.Errorf("%s: the answer is number %d, want %d", what, p.n, n)
	}
	return p
}

// rulesBreaker is open when the test says so.
type rulesBreaker struct{ open atomic.Bool }

func (b *rulesBreaker) Allow(time.Duration) (func(error), bool) {
	return func(error) {}, !b.open.Load()
}
func (b *rulesBreaker) State() string {
	return map[bool]string{false: "closed", true: "open"}[b.open.Load()]
}

// rulesSlow is a slow tier.
type rulesSlow struct {
	tiertest.Map
	breaker rulesBreaker
}

// forget invalidates all that is in memory, and nothing else: as if the daemon had lost its link to others.
func (r *rulesRig) forget() { r.store.Listener().Lost() }
