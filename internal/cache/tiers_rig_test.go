package cache_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/cache/memory"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/cache/worker"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// rigServer stands for the server. It says v1, with the TTL and the scope that it has.
type rigServer struct {
	mu    sync.Mutex // guards the following
	ttl   time.Duration
	scope string
	says  string
	asked []string // credentials and methods, as "a tools/list"

	// script, if not nil, answers in place of the server; it may call plain.
	script func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error)
}

func (s *rigServer) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	s.mu.Lock()
	s.asked = append(s.asked, c.Header.Get("Authorization")+" "+c.Method().String())
	n, script := len(s.asked), s.script
	s.mu.Unlock()
	if script != nil {
		return script(ctx, c, n)
	}
	return s.plain(c), nil
}

func (s *rigServer) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// plain is the server's answer as it is now.
func (s *rigServer) plain(c *mcp.Call) *mcp.Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	return rigAnswer(c, s.ttl.Milliseconds(), s.scope, s.says)
}

func (s *rigServer) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// rigAnswer is a whole answer of a modern server.
func rigAnswer(c *mcp.Call, ttlMs int64, scope, says string) *mcp.Result {
	return rigBody(200, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"resultType":"complete","ttlMs":%d,"cacheScope":%q,"says":%q}}`,
		c.ID(), ttlMs, scope, says))
}

// rigBody is an answer as the stage behind hands it on.
func rigBody(status int, body string) *mcp.Result {
	res := &mcp.Result{Status: status, Header: header.Of(http.Header{"Content-Type": {"application/json"}}), Body: []byte(body)}
	res.Checked = mcp.Scan(res.Body, &res.Message) == nil && status == 200 && !res.Message.Loose
	return res
}

// rigTold is what an agent was told.
type rigTold struct {
	says   string
	ttl    int64 // ttlMs
	cache  string
	status int
	untie  bool // the answer was
	err    *mcp.Failure
}

// from is the Cache-Status without the daemon's name and the ttl.
func (g rigTold) from() string {
	parts := strings.Split(strings.TrimPrefix(g.cache, "fluentd-perf; "), "; ")
	parts = slices.DeleteFunc(parts, func(p string) bool { return strings.HasPrefix(p, "ttl=") })
	return strings.TrimPrefix(strings.Join(parts, " "), "hit detail=")
}

// rig is one daemon's stage: Front, Back and a server, with tiers between.
type rig struct {
	tb    testing.TB
	store *cache.Store
	up    *cache.Stage
	front mcp.Caller
	own   *rigServer
	ids   atomic.Int64
}

type rigOptions struct {
	state    *cache.State
	server   *rigServer
	tiers    []worker.Options
	late     func(*cache.Store) []worker.Options // tiers that need the Store's Listener
	upstream cache.StageOptions
	memory   memory.Options
}

func newRig(tb testing.TB, o rigOptions) *rig {
	tb.Helper()
	if o.state == nil {
		o.state = cache.MemoryState([]byte("0123456789abcdef"))
	}
	if o.server == nil {
		o.server = &rigServer{ttl: time.Minute, scope: "private", says: "v1"}
	}
	if o.memory.Size == 0 {
		o.memory.Size = 1 << 20
	}
	o.upstream.Name, o.upstream.Identity = "docs", "https://example.com/mcp"
	store, err := cache.NewStore(cache.StoreOptions{Memory: o.memory, State: o.state})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { // for a test that ends before its daemon
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = store.Close(ctx)
	})
	if o.late != nil {
		o.tiers = append(o.tiers, o.late(store)...)
	}
	for _, tier := range o.tiers {
		store.Add(tier)
	}
	r := &rig{tb: tb, store: store, own: o.server}
	r.up = store.Stage(o.upstream, o.server)
	r.up.Switchable()
	r.front = r.up
	return r
}

// close ends the daemon within d.
func (r *rig) close(d time.Duration) {
	r.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	if err := r.store.Close(ctx); err != nil {
		r.tb.Errorf("Close: %v", err)
	}
}

// rigCall is a modern call of an agent. For resources/read the rest of what is a uri, for a list a cursor.
func rigCall(who, what string, id int64) *mcp.Call {
	if what == "opaque" { // nobody knows what it is
		return &mcp.Call{
			Upstream: "docs", Lane: mcp.LaneOpaque, Era: mcp.EraModern, Version: mcp.Version20260728, Body: []byte("\x1f\x8b"), Start: time.Now(),
			Header: header.Of(http.Header{"Authorization": {who}}), Message: mcp.Message{Method: mcp.MethodOther},
		}
	}
	what, untie := strings.CutPrefix(what, "loose ")
	method, param, _ := strings.Cut(what, " ")
	if _, plain := pastNamed[method]; plain {
		return plainCall(who, method, param, id)
	}
	params := ""
	switch {
	case method == "resources/read":
		params = fmt.Sprintf(`"uri":%q,`, param)
	case method == "tools/call":
		params = fmt.Sprintf(`"name":%q,`, param)
	case param != "":
		params = fmt.Sprintf(`"cursor":%q,`, param)
	}
	if untie {
		params += `"x":"\ud83d",`
	}
	c := &mcp.Call{
		Upstream: "docs", Lane: mcp.LaneRequest, Era: mcp.EraModern, Version: mcp.Version20260728,
		Body: fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":%q,"params":{%s"_meta":{`+
			`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`,
			id, method, params),
		Header: header.Of(http.Header{"Accept": {"application/json, text/event-stream"}, "Authorization": {who}}), Start: time.Now(),
	}
	if err := mcp.Scan(c.Body, &c.Message); err != nil {
		panic(err)
	}
	return c
}

// ask is one call of an agent, to its end.
func (r *rig) ask(who, what string) rigTold { return r.askFor(context.Background(), who, what) }

func (r *rig) askFor(ctx context.Context, who, what string) (told rigTold) {
	c := rigCall(who, what, r.ids.Add(1))
	res, err := r.front.Call(ctx, c)
	if err != nil {
		if !errors.As(err, &told.err) {
			r.tb.Errorf("%s: an error that is no Failure: %v", what, err)
		}
		return told
	}
	defer res.Close()
	told.status, told.cache = res.Status, strings.Join(slices.Collect(res.Header.Values("Cache-Status")), ", ")
	body := res.Body
	if res.Events != nil {
		for {
			ev, err := res.Events.Next()
			if err != nil {
				return told
			}
			if ev.Answer {
				body = ev.Data
				break
			}
		}
	}
	var answer struct {
		ID     json.RawMessage
		Result struct {
			Says string
			TTL  int64 `json:"ttlMs"`
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		if res.Status == 200 {
			r.tb.Errorf("%s: not an answer: %s", what, body)
		}
		return told
	}
	if string(answer.ID) != string(c.ID()) {
		r.tb.Errorf("%s: the answer to %s has the id %s", what, c.ID(), answer.ID)
	}
	told.says, told.ttl = answer.Result.Says, answer.Result.TTL
	return told
}

// want asks and checks what comes and from where, as Cache-Status says: "memory", "redis", "fwd=miss stored", ...
func (r *rig) want(who, what, says, from string) rigTold {
	r.tb.Helper()
	told := r.ask(who, what)
	if told.err != nil || told.says != says || told.from() != from {
		r.tb.Fatalf("%s of %s: %q by %q (%v), want %q by %q", what, who, told.says, told.from(), told.err, says, from)
	}
	return told
}

// tier returns what Stats say of a tier.
func (r *rig) tier(name string) cache.TierReport {
	r.tb.Helper()
	for _, t := range r.store.Stats(context.Background(), false).Tiers {
		if t.Tier == name {
			return t
		}
	}
	r.tb.Fatalf("no tier %s", name)
	return cache.TierReport{}
}

// forget empties memory: what it held is written over.
func (r *rig) forget() {
	r.store.Listener().Lost()
	synctest.Wait()
}

// notify has a notification pass on an agent's stream.
func (r *rig) notify(method, uri string) {
	r.tb.Helper()
	data := fmt.Sprintf(`{"jsonrpc":"2.0","method":%q,"params":{"uri":%q}}`, method, uri)
	c := &mcp.Call{Upstream: "docs", Lane: mcp.LaneListen, Era: mcp.EraModern, Version: mcp.Version20260728,
		Header: header.Of(http.Header{"Authorization": {"listener"}})}
	front := r.up.Through(mcp.CallerFunc(func(context.Context, *mcp.Call) (*mcp.Result, error) {
		return rigStream(mcp.Event{Data: []byte(data)}), nil
	}))
	res, err := front.Call(context.Background(), c)
	if err != nil {
		r.tb.Fatal(err)
	}
	defer res.Close()
	if _, err := res.Events.Next(); err != nil {
		r.tb.Fatal(err)
	}
}

const (
	rigTools     = "notifications/tools/list_changed"
	rigResources = "notifications/resources/list_changed"
	rigUpdated   = "notifications/resources/updated"
)

// rigStream is an SSE answer with these events.
func rigStream(events ...mcp.Event) *mcp.Result {
	return &mcp.Result{Status: 200, Header: header.Of(http.Header{"Content-Type": {"text/event-stream"}}), Events: &rigEvents{events: events}}
}

type rigEvents struct{ events []mcp.Event }

func (e *rigEvents) Next() (mcp.Event, error) {
	if len(e.events) == 0 {
		return mcp.Event{}, errRigEnd
	}
	ev := e.events[0]
	e.events = e.events[1:]
	return ev, nil
}

func (e *rigEvents) Close() error { return nil }

var errRigEnd = &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes, Message: "the end"}

// slow is a tier behind memory with the usual timeout.
func slow(t tier.Tier) worker.Options {
	return worker.Options{Tier: t, Timeout: 50 * time.Millisecond, Breaker: &rigBreaker{}, Private: true}
}

// rigTest runs f on false time with a daemon over one tier, and ends it.
func rigTest(t *testing.T, f func(r *rig, tier *rigTier, b *rigBreaker)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		tier := newRigTier("redis", newRigDisk())
		one := slow(tier)
		r := newRig(t, rigOptions{tiers: []worker.Options{one}})
		synctest.Wait()
		f(r, tier, one.Breaker.(*rigBreaker))
		r.close(10 * time.Second)
		if p := one.Breaker.(*rigBreaker).pending; p != 0 {
			t.Errorf("%d calls were not reported to the breaker", p)
		}
		if tier.closed != 1 {
			t.Errorf("the tier was closed %d times", tier.closed)
		}
	})
}

// after lets time go by, and all quieten down.
func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
