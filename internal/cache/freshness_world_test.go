package cache_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/cache/worker"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// pastAnswer is what the server said once. It is a part of the answer itself.
type pastAnswer struct {
	thing  string
	serial int64 // of all answers of the server, in their order
	at     time.Time
	ttl    time.Duration
	public bool
	who    string
	daemon int // that asked
}

func (a *pastAnswer) says() string {
	return fmt.Sprintf("%s;%d;%d;%d;%t;%s;%d", a.thing, a.serial, a.at.UnixMilli(), a.ttl.Milliseconds(), a.public, a.who, a.daemon)
}

func parsePast(says string) (a pastAnswer, err error) {
	parts := strings.Split(says, ";")
	if len(parts) != 7 {
		return a, fmt.Errorf("not an answer of the server's: %q", says)
	}
	var at, ttl int64
	a.thing, a.who = parts[0], parts[5]
	_, err = fmt.Sscan(parts[1]+" "+parts[2]+" "+parts[3]+" "+parts[4]+" "+parts[6], &a.serial, &at, &ttl, &a.public, &a.daemon)
	a.at, a.ttl = time.UnixMilli(at), time.Duration(ttl)*time.Millisecond
	return a, err
}

// pastWorld is a server, daemons before it, and what has happened so far. Everything has a name by which it is invalidated: a
// family, a uri, a credential, what a credential may have changed.
type pastWorld struct {
	tb      testing.TB
	plain   bool // the server speaks no MCP: what it says of times and scopes is nobody's concern
	asks    []string
	daemons []*pastDaemon
	names   map[tier.Generation]string

	mu       sync.Mutex // guards the following
	serial   int64
	random   *rand.Rand
	things   map[string]*pastThing
	failing  bool            // the server is in trouble
	slow     time.Duration   // what it takes for an answer, at most
	denied   map[string]bool // credentials that it refuses
	tierOld  map[string]int64
	bumping  map[*rigTier]int64 // the serial when a tier began to be told
	messages []pastMessage
	seen     map[string]int // where answers came from
}

type pastThing struct {
	ttl    time.Duration
	public bool
}

// pastDaemon is one daemon and what it has been told.
type pastDaemon struct {
	*rig
	n          int
	subscribed atomic.Bool // messages reach it
	up         atomic.Bool // it knows that they do
	tiers      []*rigTier

	// Guarded by pastWorld.mu.
	old      map[string][]pastOld
	refused  map[string]int64        // credentials, and a serial from before the server's 401, until it takes them again
	accepted map[string]pastAccepted // credentials
	failures int
	asking   map[string]int // requests that the server has not answered
	answered map[string]time.Time
}

// pastOld says that since at nothing may be given that the server said before serial.
type pastOld struct {
	serial int64
	at     time.Time
}

// pastAccepted says when the server took a credential.
type pastAccepted struct {
	serial int64
	at     time.Time
}

// pastMessage is on its way from a shared tier to the daemons.
type pastMessage struct {
	to          int
	generations []tier.Generation
	serials     map[string]int64
}

// pastFlood fills memory, with a few like it. pastFlooded is all of such an answer but its id.
var (
	pastFlood   = strings.Repeat("x", 60_000)
	pastFlooded = `,"result":{"ttlMs":4000,"cacheScope":"private","contents":"` + pastFlood + `"}}`
)

const (
	pastStale = 20 * time.Second
	pastAfter = 2 * time.Second
)

var (
	pastPrincipals = []string{"a", "b", "c"}
	pastAsks       = []string{
		"tools/list", "prompts/list", "resources/list", "resources/templates/list", "server/discover",
		"resources/read x", "resources/read y", "resources/read z",
	}
	pastPlainAsks = []string{"getBlock 1", "getBlock 2", "head", "getLogs"}
)

// pastNamed are the methods of a server without MCP, and how long their answers are kept.
var pastNamed = map[string]time.Duration{"getBlock": 5 * time.Second, "head": time.Second, "getLogs": 9 * time.Second}

// plainCall is a call to a server without MCP.
func plainCall(who, method, param string, id int64) *mcp.Call {
	c := &mcp.Call{
		Upstream: "docs", Lane: mcp.LaneRequest, Era: mcp.EraPlain, Start: time.Now(),
		Body:   fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":%q,"params":[%q]}`, id, method, param),
		Header: header.Of(http.Header{"Accept": {"application/json"}, "Authorization": {who}}),
	}
	if err := mcp.Scan(c.Body, &c.Message); err != nil {
		panic(err)
	}
	return c
}

func familyOf(what string) string {
	method, _, _ := strings.Cut(what, " ")
	if _, plain := pastNamed[method]; plain {
		return "method " + method
	}
	if method == "resources/templates/list" {
		return "family resources/list"
	}
	return "family " + method
}

// guards are the names whose change invalidates the answer to a request.
func guards(what, who string, public bool) []string {
	names := []string{familyOf(what)}
	method, uri, isRead := strings.Cut(what, " ")
	if _, plain := pastNamed[method]; plain {
		names = append([]string{"family other"}, names...)
	} else if isRead {
		names = append(names, "uri "+uri)
	}
	if !public {
		names = append(names, "principal "+who)
		if method == "resources/read" {
			names = append(names, "writes "+who)
		}
	}
	return names
}

func newPastWorld(tb testing.TB, plain bool, seed uint64) *pastWorld {
	w := &pastWorld{
		tb: tb, plain: plain, asks: pastAsks, names: make(map[tier.Generation]string), random: rand.New(rand.NewPCG(seed, 0)),
		things: make(map[string]*pastThing), denied: make(map[string]bool), tierOld: make(map[string]int64),
		bumping: make(map[*rigTier]int64), seen: make(map[string]int),
	}
	if plain {
		w.asks = pastPlainAsks
	}
	for _, what := range w.asks {
		w.things[what] = &pastThing{ttl: w.some(time.Second, 9*time.Second), public: w.random.IntN(2) == 0}
	}
	w.learn()
	return w
}

// some is a time between two, in whole milliseconds.
func (w *pastWorld) some(from, to time.Duration) time.Duration {
	return (from + time.Duration(w.random.Int64N(int64(to-from)))).Truncate(time.Millisecond)
}

func (w *pastWorld) chance(percent int) bool { return w.random.IntN(100) < percent }

// learn finds out how tiers are told of what: it asks everything once and looks at what guards it.
func (w *pastWorld) learn() {
	tier := newRigTier("redis", newRigDisk())
	r := newRig(w.tb, rigOptions{tiers: []worker.Options{slow(tier)}, upstream: w.options()})
	defer r.close(time.Second)
	for _, who := range pastPrincipals {
		for _, what := range w.asks {
			r.ask(who, what)
			read := tier.did("read")
			private, public := guards(what, who, false), append(guards(what, who, true), "withdrawals "+what)
			for i, g := range read[len(read)-1].generations {
				if name := append(private, public...)[i]; w.names[g] != "" && w.names[g] != name {
					w.tb.Fatalf("%s and %s have one generation", name, w.names[g])
				} else {
					w.names[g] = name
				}
			}
		}
	}
}

func (w *pastWorld) options() cache.StageOptions {
	if w.plain {
		return cache.StageOptions{Plain: true, StaleIfError: pastStale, StaleAfter: pastAfter, FlushOnCall: true, TTL: pastNamed}
	}
	return cache.StageOptions{
		StaleIfError: pastStale, StaleAfter: pastAfter, FlushOnCall: true,
		TTL: map[string]time.Duration{"resources/read": 4 * time.Second},
	}
}

func newPastDaemon(n int) *pastDaemon {
	d := &pastDaemon{
		n: n, old: make(map[string][]pastOld), refused: make(map[string]int64), accepted: make(map[string]pastAccepted),
		asking: make(map[string]int), answered: make(map[string]time.Time),
	}
	d.subscribed.Store(true)
	d.up.Store(true)
	return d
}

// serve is the server, asked by one daemon.
func (w *pastWorld) serve(ctx context.Context, d *pastDaemon, c *mcp.Call) (*mcp.Result, error) {
	who, what := c.Header.Get("Authorization"), whatOf(c)
	if who == "flood" {
		return rigBody(200, `{"jsonrpc":"2.0","id":`+string(c.ID())+pastFlooded), nil
	}
	w.mu.Lock()
	d.asking[who+what]++
	takes := time.Duration(0)
	switch {
	case w.slow > 0 && w.chance(25):
		takes = w.some(pastAfter/2, 3*pastAfter)
	case w.slow > 0:
		takes = w.some(0, w.slow)
	}
	w.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	d.asking[who+what]--
	d.answered[who+what] = time.Now()
	switch {
	case ctx.Err() != nil:
		return nil, &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentUnknown, Cause: context.Cause(ctx)}
	case w.failing && w.chance(70):
		d.failures++
		return badGateway(c)
	case w.denied[who]:
		w.serial++
		return unauthorized(c)
	}
	w.serial++
	d.accepted[who] = pastAccepted{w.serial, time.Now()}
	delete(d.refused, who)
	if c.Lane == mcp.LaneOpaque {
		return rigBody(200, fmt.Sprintf(`{"result":{"says":"%d"}}`, w.serial)), nil
	}
	if c.Method() == mcp.MethodToolsCall {
		return rigAnswer(c, 0, "private", fmt.Sprint(w.serial)), nil
	}
	return w.answerLocked(d, c, who, what), nil
}

func whatOf(c *mcp.Call) string {
	if c.Era == mcp.EraPlain {
		var asked struct {
			Method string
			Params []string
		}
		if err := json.Unmarshal(c.Body, &asked); err != nil {
			panic(err)
		}
		return strings.TrimSuffix(asked.Method+" "+asked.Params[0], " ")
	}
	what := c.Method().String()
	if uri, ok := mcp.Text(c.Message.URI.Of(c.Body)); ok {
		what += " " + uri
	}
	return what
}

func (w *pastWorld) answerLocked(d *pastDaemon, c *mcp.Call, who, what string) *mcp.Result {
	thing := w.things[what]
	a := pastAnswer{thing: what, serial: w.serial, at: time.Now(), ttl: thing.ttl, public: thing.public, who: who, daemon: d.n}
	scope := "private"
	if a.public {
		scope = "public"
	}
	res := rigAnswer(c, thing.ttl.Milliseconds(), scope, a.says())
	if w.chance(8) {
		return rigBody(200, strings.TrimSuffix(string(res.Body), "}")+`,"error":null}`)
	}
	return res
}

// noted notes that a daemon has been told of a 401 to a call that began after serial.
func (w *pastWorld) noted(d *pastDaemon, who string, serial int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.outdateLocked(d, "principal "+who, serial)
	if d.accepted[who].serial <= serial {
		d.refused[who] = serial
	}
}

// outdate notes that a daemon has been told: from now on it gives nothing that the server said before serial.
func (w *pastWorld) outdate(d *pastDaemon, name string, serial int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.outdateLocked(d, name, serial)
}

func (w *pastWorld) outdateLocked(d *pastDaemon, name string, serial int64) {
	if w.lastLocked(d, name, time.Now().Add(time.Hour)) < serial {
		d.old[name] = append(d.old[name], pastOld{serial, time.Now()})
	}
}

// lastLocked is the serial from before which nothing by that name may be given, by what was told before a time.
func (w *pastWorld) lastLocked(d *pastDaemon, name string, before time.Time) (serial int64) {
	for _, o := range d.old[name] {
		if o.at.Before(before) {
			serial = max(serial, o.serial)
		}
	}
	return serial
}

// now is the serial of the server's last answer.
func (w *pastWorld) now() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.serial
}

// publish is what happens when a tier that daemons share has been told.
func (w *pastWorld) publish(from *rigTier, generations []tier.Generation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	serials := make(map[string]int64)
	for _, g := range generations {
		if name := w.names[g]; name != "" {
			serials[name] = w.bumping[from]
			w.tierOld[name] = max(w.tierOld[name], w.bumping[from])
		}
	}
	for _, d := range w.daemons {
		if d.subscribed.Load() && d.tiers[0] != from { // a daemon's own do not come back to it
			w.messages = append(w.messages, pastMessage{d.n, generations, serials})
		}
	}
}

// deliver hands out some messages that are on their way, in any order.
func (w *pastWorld) deliver(all bool) {
	w.mu.Lock()
	messages := w.messages
	w.messages = nil
	w.random.Shuffle(len(messages), func(i, j int) { messages[i], messages[j] = messages[j], messages[i] })
	if !all && len(messages) > 0 {
		keep := w.random.IntN(len(messages))
		messages, w.messages = messages[keep:], slices.Clone(messages[:keep])
	}
	w.mu.Unlock()
	for _, m := range messages {
		d := w.daemons[m.to]
		if !d.subscribed.Load() {
			continue // it is lost
		}
		d.store.Listener().Bumped(m.generations)
		for name, serial := range m.serials {
			w.outdate(d, name, serial)
		}
	}
}

// cut ends a daemon's link, which notices a while later.
func (w *pastWorld) cut(d *pastDaemon, notices time.Duration) {
	d.subscribed.Store(false)
	<-time.After(notices)
	d.up.Store(false)
}

// restore brings the link back: first messages come again, then what may have been missed is said, then all is well.
func (w *pastWorld) restore(d *pastDaemon) {
	w.mu.Lock()
	w.messages = slices.DeleteFunc(w.messages, func(m pastMessage) bool { return m.to == d.n })
	d.subscribed.Store(true)
	known := maps.Clone(w.tierOld)
	w.mu.Unlock()
	d.store.Listener().Lost()
	d.up.Store(true)
	for name, serial := range known {
		w.outdate(d, name, serial)
	}
}

// start begins a run of a daemon.
func (w *pastWorld) start(d *pastDaemon, state *cache.State, tiers ...worker.Options) {
	server := &rigServer{script: func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) { return w.serve(ctx, d, c) }}
	d.rig = newRig(w.tb, rigOptions{state: state, server: server, tiers: tiers, upstream: w.options()})
}

// join begins a run of a daemon over a tier that it shares. What the tier has been told meanwhile holds for it.
func (w *pastWorld) join(d *pastDaemon, state *cache.State, shared *rigDisk) {
	d.tiers = []*rigTier{newRigTier("redis", shared)}
	first := d.tiers[0]
	first.wait = func(_ context.Context, op rigOp) {
		if op.name == "bump" {
			w.mu.Lock()
			w.bumping[first] = w.serial
			w.mu.Unlock()
		}
	}
	first.bumped = func(generations []tier.Generation) { w.publish(first, generations) }
	one := slow(rigLinked{first, &d.up})
	one.Shared = true
	w.start(d, state, one)
	w.restore(d)
}

// kill ends a run as a signal does that nothing can be done against: what was pending at the tiers is not known any more.
func (w *pastWorld) kill(d *pastDaemon, dir string, state *cache.State) {
	for _, tier := range d.tiers {
		tier.set(func() { tier.fate = func(rigOp, int) rigFate { return rigFails } })
	}
	d.close(time.Second)
	err := errors.Join(state.Close(), os.Remove(filepath.Join(dir, "cache-state.json")))
	next, opened := cache.OpenState(dir, pastKey)
	if err = errors.Join(err, opened); err == nil {
		err = next.Close()
	}
	if err != nil {
		w.tb.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(d.accepted)
}

// pastKey is the daemons' partition key.
var pastKey = []byte("0123456789abcdef")
