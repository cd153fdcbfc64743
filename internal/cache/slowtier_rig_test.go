package cache_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache"
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
	res := &mcp.Result{Status: status, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(body)}
	res.Checked = status == 200 && mcp.Scan(res.Body, &res.Message) == nil
	return res
}

// rigTold is what an agent was told.
type rigTold struct {
	says   string
	ttl    int64 // ttlMs
	cache  string
	status int
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
	up    *cache.Upstream
	front mcp.Caller
	own   *rigServer
	ids   atomic.Int64
}

type rigOptions struct {
	state    *cache.State
	server   *rigServer
	tiers    []cache.SlowTier
	late     func(*cache.Store) []cache.SlowTier // tiers that need the Store's Listener
	upstream cache.UpstreamOptions
	memory   cache.MemoryOptions
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
	r.up = store.Upstream(o.upstream, o.server)
	r.front = r.up.Front(r.up.Back(o.server))
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
	method, param, _ := strings.Cut(what, " ")
	params := ""
	switch {
	case method == "resources/read":
		params = fmt.Sprintf(`"uri":%q,`, param)
	case method == "tools/call":
		params = fmt.Sprintf(`"name":%q,`, param)
	case param != "":
		params = fmt.Sprintf(`"cursor":%q,`, param)
	}
	c := &mcp.Call{
		Upstream: "docs", Lane: mcp.LaneRequest, Era: mcp.EraModern, Version: mcp.Version20260728,
		Body: fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":%q,"params":{%s"_meta":{`+
			`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`,
			id, method, params),
		Header: http.Header{"Accept": {"application/json, text/event-stream"}, "Authorization": {who}}, Start: time.Now(),
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
	told.status, told.cache = res.Status, strings.Join(res.Header["Cache-Status"], ", ")
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

// hear has a notification pass on an agent's stream.
func (r *rig) hear(method, uri string) {
	r.tb.Helper()
	data := fmt.Sprintf(`{"jsonrpc":"2.0","method":%q,"params":{"uri":%q}}`, method, uri)
	c := &mcp.Call{Upstream: "docs", Lane: mcp.LaneListen, Era: mcp.EraModern, Version: mcp.Version20260728,
		Header: http.Header{"Authorization": {"listener"}}}
	front := r.up.Front(mcp.CallerFunc(func(context.Context, *mcp.Call) (*mcp.Result, error) {
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
	return &mcp.Result{Status: 200, Header: http.Header{"Content-Type": {"text/event-stream"}}, Events: &rigEvents{events: events}}
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

// rigDisk is what a tier keeps, over restarts and for several daemons: the contract in its simplest form.
type rigDisk struct {
	mu      sync.Mutex // guards the following
	entries map[cache.Key]cache.Write
	tokens  map[cache.Generation]cache.Token
}

func newRigDisk() *rigDisk {
	return &rigDisk{entries: make(map[cache.Key]cache.Write), tokens: make(map[cache.Generation]cache.Token)}
}

func (d *rigDisk) read(lookups []cache.Lookup) []cache.Found {
	d.mu.Lock()
	defer d.mu.Unlock()
	found := make([]cache.Found, len(lookups))
	for i, l := range lookups {
		for _, g := range l.Generations {
			if d.tokens[g] == 0 {
				d.tokens[g] = cache.Token(1 + rand.Uint64N(1<<63))
			}
			found[i].Tokens = append(found[i].Tokens, d.tokens[g])
		}
		if w, ok := d.entries[l.Key]; ok && slices.Equal(w.Guard.Tokens, found[i].Tokens) && time.Now().Before(w.Expires) {
			found[i].Value, found[i].Expires = slices.Clone(w.Value), w.Expires
		}
	}
	return found
}

func (d *rigDisk) write(writes []cache.Write) {
	d.mu.Lock()
	defer d.mu.Unlock()
	maps.DeleteFunc(d.entries, func(_ cache.Key, w cache.Write) bool { return time.Since(w.Expires) > time.Minute })
	for _, w := range writes {
		if n := len(w.Guard.Generations); n != len(w.Guard.Tokens) || n < 1 || n > cache.MaxGuards {
			panic("a write that breaks the contract of tiers")
		}
		holds := true
		for i, g := range w.Guard.Generations {
			holds = holds && d.tokens[g] == w.Guard.Tokens[i]
		}
		if holds {
			w.Value, w.Guard.Tokens = slices.Clone(w.Value), slices.Clone(w.Guard.Tokens)
			d.entries[w.Key] = w
		}
	}
}

func (d *rigDisk) bump(generations []cache.Generation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range generations {
		delete(d.tokens, g)
	}
}

func (d *rigDisk) bumpAll() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.tokens)
}

func (d *rigDisk) delete(keys []cache.Key) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, k := range keys {
		delete(d.entries, k)
	}
}

func (d *rigDisk) keys() []cache.Key {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Collect(maps.Keys(d.entries))
}

// change lets f change the stored entries.
func (d *rigDisk) change(f func(k cache.Key, w *cache.Write)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for k, w := range d.entries {
		f(k, &w)
		d.entries[k] = w
	}
}

// rigFate is what becomes of one call of a tier.
type rigFate int

const (
	rigWorks  rigFate = iota
	rigFails          // it does nothing and says so
	rigLoses          // it does nothing and says it did: only of a write
	rigMutes          // it does it, and the answer is lost
	rigHangs          // it does nothing until the context ends
	rigDelays         // it hangs, and does it when nobody waits any more
)

var errRig = errors.New("the tier is in trouble")

// rigOp is a call that a tier had.
type rigOp struct {
	name        string // read, write, bump, bumpall, delete
	keys        []cache.Key
	generations []cache.Generation
	bytes       int
}

// rigTier is one daemon's way to a disk.
type rigTier struct {
	disk *rigDisk
	name string

	mu     sync.Mutex // guards the following
	ops    []rigOp
	count  map[string]int                      // of ops by name
	fate   func(op rigOp, n int) rigFate       // nil: it works. n counts the calls of that name from 1
	wait   func(ctx context.Context, op rigOp) // before it is done; nil: at once
	mangle func(found []cache.Found) []cache.Found
	bumped func([]cache.Generation) // tells other daemons
	closed int
}

func newRigTier(name string, d *rigDisk) *rigTier {
	return &rigTier{disk: d, name: name, count: map[string]int{}}
}

func (t *rigTier) set(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f()
}

func (t *rigTier) Name() string { return t.name }

// enter notes the call, lets time go by and says what becomes of it.
func (t *rigTier) enter(ctx context.Context, op rigOp, do func()) error {
	t.mu.Lock()
	t.ops = append(t.ops, op)
	t.count[op.name]++
	n, fate, wait := t.count[op.name], rigWorks, t.wait
	if t.fate != nil {
		fate = t.fate(op, n)
	}
	t.mu.Unlock()
	if wait != nil {
		wait(ctx, op)
	}
	switch fate {
	case rigFails:
		return errRig
	case rigLoses:
		return nil
	case rigMutes:
		do()
		return errRig
	case rigHangs:
		<-ctx.Done()
		return ctx.Err()
	case rigDelays:
		<-ctx.Done()
		do()
		return ctx.Err()
	}
	do()
	return nil
}

func (t *rigTier) Read(ctx context.Context, lookups []cache.Lookup) (found []cache.Found, err error) {
	op := rigOp{name: "read"}
	for _, l := range lookups {
		op.keys = append(op.keys, l.Key)
		op.generations = append(op.generations, l.Generations...)
	}
	err = t.enter(ctx, op, func() { found = t.disk.read(lookups) })
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mangle != nil {
		found = t.mangle(found)
	}
	return found, nil
}

func (t *rigTier) Write(ctx context.Context, writes []cache.Write) error {
	op := rigOp{name: "write"}
	for _, w := range writes {
		op.keys = append(op.keys, w.Key)
		op.bytes += len(w.Value)
	}
	return t.enter(ctx, op, func() { t.disk.write(writes) })
}

func (t *rigTier) Bump(ctx context.Context, generations []cache.Generation) error {
	return t.enter(ctx, rigOp{name: "bump", generations: slices.Clone(generations)}, func() {
		t.disk.bump(generations)
		if t.bumped != nil {
			t.bumped(slices.Clone(generations))
		}
	})
}

func (t *rigTier) Delete(ctx context.Context, keys []cache.Key) error {
	return t.enter(ctx, rigOp{name: "delete", keys: slices.Clone(keys)}, func() { t.disk.delete(keys) })
}

func (t *rigTier) Stats(context.Context) (cache.TierStats, error) {
	return cache.TierStats{Entries: int64(len(t.disk.keys())), Bytes: -1, Evictions: -1}, nil
}

func (t *rigTier) Close() error {
	t.set(func() { t.closed++ })
	return nil
}

// did returns the calls of that name so far.
func (t *rigTier) did(name string) (ops []rigOp) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, op := range t.ops {
		if op.name == name {
			ops = append(ops, op)
		}
	}
	return ops
}

// gate holds the tier's calls of these names until the returned function is called.
func (t *rigTier) gate(names ...string) (open func()) {
	gate := make(chan struct{})
	t.set(func() {
		t.wait = func(_ context.Context, op rigOp) {
			if slices.Contains(names, op.name) {
				<-gate
			}
		}
	})
	return func() {
		t.set(func() { t.wait = nil })
		close(gate)
		synctest.Wait()
	}
}

// order returns the names of all calls but reads so far, as "bump delete write".
func (t *rigTier) order() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var names []string
	for _, op := range t.ops {
		if op.name != "read" {
			names = append(names, op.name)
		}
	}
	return strings.Join(names, " ")
}

// always makes a fate of one for calls of these names.
func always(f rigFate, names ...string) func(rigOp, int) rigFate {
	return func(op rigOp, _ int) rigFate {
		if slices.Contains(names, op.name) {
			return f
		}
		return rigWorks
	}
}

// rigFile is a tier of one daemon alone.
type rigFile struct{ *rigTier }

func (t rigFile) BumpAll(ctx context.Context) error {
	return t.enter(ctx, rigOp{name: "bumpall"}, t.disk.bumpAll)
}

// rigLinked is a tier that hears what other daemons bump, or does not.
type rigLinked struct {
	*rigTier
	up *atomic.Bool
}

func (t rigLinked) Linked() bool { return t.up.Load() }

// rigBreaker is a simple breaker: three failures in a row open it for two seconds.
type rigBreaker struct {
	mu       sync.Mutex // guards the following
	held     bool       // open whatever comes
	row      int
	until    time.Time
	asked    int // Allow
	failures int
	ignored  int
	pending  int // allowed and not reported
}

func (b *rigBreaker) Allow(time.Duration) (func(error), bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	if b.held || time.Now().Before(b.until) {
		return nil, false
	}
	b.pending++
	return b.done, true
}

func (b *rigBreaker) done(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pending--
	switch {
	case errors.Is(err, context.Canceled):
		b.ignored++
	case err != nil:
		b.failures++
		if b.row++; b.row >= 3 {
			b.until = time.Now().Add(2 * time.Second)
		}
	default:
		b.row = 0
	}
}

func (b *rigBreaker) State() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held || time.Now().Before(b.until) {
		return "open"
	}
	return "closed"
}

func (b *rigBreaker) hold(open bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = open
}

// slow is a tier behind memory with the usual timeout.
func slow(t cache.Tier) cache.SlowTier {
	return cache.SlowTier{Tier: t, Timeout: 50 * time.Millisecond, Breaker: &rigBreaker{}, Private: true}
}

// rigTest runs f on false time with a daemon over one tier, and ends it.
func rigTest(t *testing.T, f func(r *rig, tier *rigTier, b *rigBreaker)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		tier := newRigTier("redis", newRigDisk())
		one := slow(tier)
		r := newRig(t, rigOptions{tiers: []cache.SlowTier{one}})
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
