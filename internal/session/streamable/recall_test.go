package streamable_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	"fluentd-perf/internal/session/remembered"
	"fluentd-perf/internal/session/streamable"
	"fluentd-perf/internal/upstream/stdio"
)

// versioned is a server within the test's process whose answers the test changes.
type versioned struct {
	slow       time.Duration // until it answers initialize
	before     int           // notifications that it sends before that, numbered from 0
	initialize string        // the result; %d is the number of the process
	lists      map[string]string
	late       string                   // a notification that it sends once it is initialized
	pauses     map[string]time.Duration // by method: after it has read that, before it does anything
	onDisk     string
	fails      bool // to start

	mu    sync.Mutex
	all   []*mcptest.Stdio
	lines [][]string // that came
}

// result is an initialize of which all lists may change.
func result(version string) string {
	return `{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{},"logging":{}},` +
		`"serverInfo":{"name":"versioned","version":"` + version + `"},"instructions":"be kind"}`
}

func newVersioned() *versioned {
	return &versioned{
		initialize: result("1"), onDisk: "1",
		lists: map[string]string{
			"tools/list": `{"tools":[{"name":"one"}]}`, "prompts/list": `{"prompts":[]}`, "resources/list": `{"resources":[]}`, "resources/templates/list": `{"resourceTemplates":[]}`,
		},
	}
}

func (x *versioned) start(context.Context) (stdio.Process, func(), error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	number := len(x.all)
	s := mcptest.NewStdio(func(s *mcptest.Stdio) { x.run(s, number) })
	if x.fails {
		s.LastLines = []string{"the token is missing"}
		s.End("exit status 3")
	}
	x.all, x.lines = append(x.all, s), append(x.lines, nil)
	return s, nil, nil
}

func (x *versioned) run(s *mcptest.Stdio, number int) {
	for {
		r, ok := s.Next()
		if !ok {
			return
		}
		x.mu.Lock()
		x.lines[number] = append(x.lines[number], r.Method)
		list, late, initialize, pause := x.lists[r.Method], x.late, x.initialize, x.pauses[r.Method]
		x.mu.Unlock()
		time.Sleep(pause)
		switch {
		case r.Method == "initialize":
			timer := time.NewTimer(x.slow)
			select {
			case <-timer.C:
			case <-s.Done():
			}
			for i := range x.before {
				s.Write(`{"jsonrpc":"2.0","method":"notifications/message","params":{"n":"%d."}}`+"\n", i)
			}
			s.Result(r, strings.Replace(initialize, "%d", fmt.Sprint(number), 1))
		case r.Method == "notifications/initialized" && late != "":
			if !strings.HasPrefix(late, "{") {
				late = notification(late)
			}
			s.Write("%s\n", late)
		case r.Method == "notifications/mute":
			<-s.Done() // it does not read
		case r.ID == nil || list == "silence":
		case r.Params.Name == "change":
			s.Write("%s\n", notification("notifications/tools/list_changed"))
			s.Result(r, `{}`)
		case r.Params.Name == "slow":
			time.Sleep(time.Second)
			s.Result(r, `{}`)
		case list == "error":
			s.Write(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no"}}`+"\n", r.ID)
		case list != "":
			s.Result(r, strings.Replace(list, "%d", fmt.Sprint(number), 1))
		default:
			s.Result(r, fmt.Sprintf(`{"process":%d}`, number))
		}
	}
}

func notification(method string) string { return `{"jsonrpc":"2.0","method":"` + method + `"}` }

// change changes what the server answers from now on.
func (x *versioned) change(f func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	f()
}

func (x *versioned) started() int {
	synctest.Wait()
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.all)
}

// got returns what a process got.
func (x *versioned) got(number int) string {
	synctest.Wait()
	x.mu.Lock()
	defer x.mu.Unlock()
	return strings.Join(x.lines[number], " ")
}

// recalls are what the Front told of.
type recalls struct{ recalled, unneeded, healed int }

// remember wires a rig as the daemon does.
func (x *versioned) rig(t *testing.T, o options, memory *remembered.Store, n *recalls) *rig {
	if memory == nil {
		memory = remembered.NewStore(remembered.StoreOptions{})
	}
	onDisk := func() string {
		x.mu.Lock()
		defer x.mu.Unlock()
		return x.onDisk
	}
	var pool *stdio.Pool
	m := memory.Of(remembered.Options{Identity: "server", OnDisk: onDisk, Stable: func() bool { return pool.Stable() }})
	changePool, changeFront := o.pool, o.front
	o.start = x.start
	o.pool = func(po *stdio.PoolOptions) {
		po.Warm, po.Max, po.OnDisk, po.Failed = 1, 100, onDisk, m.Failed
		po.Initialized = func(params []byte, onDisk string, answer []byte) {
			if f, ok := remembered.FormOf(params); ok {
				m.Answered(f, onDisk, answer)
			}
		}
		if changePool != nil {
			changePool(po)
		}
	}
	var r *rig
	o.front = func(fo *streamable.Options) {
		fo.Memory = m
		fo.Recalled = func(initialize []byte, m *mcp.Message, _ time.Duration) {
			n.recalled++
			r.pool.Use(initialize, m)
		}
		fo.Unneeded = func() { n.unneeded++ }
		fo.Replaced = func(streamable.Replacement) { n.healed++ }
		if changeFront != nil {
			changeFront(fo)
		}
	}
	r = newRig(t, o)
	pool = r.pool
	return r
}

// remembering is a test of a server that is remembered: two sessions have had what they asked for, and have ended.
func remembering(t *testing.T, x *versioned, o options, f func(t *testing.T, r *rig, n *recalls)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := &recalls{}
		r := x.rig(t, o, nil, n)
		learn(t, r)
		*n = recalls{}
		f(t, r, n)
	})
}

func learn(t *testing.T, r *rig) {
	t.Helper()
	for range 2 {
		a := newAgent(t, r.up)
		openAt(a)
		for _, body := range lists() {
			a.call(body)
		}
		a.do(t.Context(), mcp.LaneEnd, "")
		synctest.Wait()
	}
}

func lists() (all []string) {
	for i, method := range remembered.Lists {
		all = append(all, fmt.Sprintf(`{"jsonrpc":"2.0","id":"list-%d","method":%q}`, i, method.String()))
	}
	return all
}

// openAt begins a session, without a wait for what begins behind it.
func openAt(a *agent) *mcp.Result {
	a.t.Helper()
	return openWith(a, `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"a","version":"1"}}`, true)
}

func openWith(a *agent, params string, initialized bool) *mcp.Result {
	a.t.Helper()
	res, f := a.do(a.t.Context(), mcp.LaneRequest, `{"jsonrpc":"2.0","id":"i","method":"initialize","params":`+params+`}`)
	if f != nil {
		a.t.Fatalf("initialize: %v", f)
	}
	if a.session = res.Header.Get("Mcp-Session-Id"); a.session == "" {
		a.t.Fatalf("initialize: %d %s", res.Status, res.Body)
	}
	if initialized {
		if res, f := a.do(a.t.Context(), 0, notification("notifications/initialized")); f != nil || res.Status != 202 {
			a.t.Fatalf("initialized: %v, %v", res, f)
		}
	}
	synctest.Wait()
	return res
}

// all are the lists that a process is asked for that is compared with what is remembered: those that the agent has asked for, and those
// that a cache may have given it.
const all = "tools/list prompts/list resources/list resources/templates/list"

const someCall = `{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"one"}}`

// TestRecalled: a session whose initialize and lists are remembered has them, byte for byte, without a process. Its first call has the
// spare, to which all is said in order, and which is asked for the lists that the agent was given; from then on lists are that process's.
func TestRecalled(t *testing.T) {
	x := newVersioned()
	remembering(t, x, options{}, func(t *testing.T, r *rig, n *recalls) {
		before := x.started()
		a := newAgent(t, r.up)
		res := openAt(a)
		if want := `{"jsonrpc":"2.0","id":"i","result":` + x.initialize + `}`; string(res.Body) != want || !res.Remembered || !res.Checked {
			t.Errorf("initialize: %s, %+v", res.Body, res)
		}
		for i, method := range []string{"tools/list", "prompts/list"} {
			want := fmt.Sprintf(`{"jsonrpc":"2.0","id":"list-%d","result":%s}`, i, x.lists[method])
			if got := a.call(lists()[i]); got.body != want {
				t.Errorf("%s: %+v", method, got)
			}
		}
		if got := a.call(`{"jsonrpc":"2.0","id":8,"method":"ping"}`); got.body != `{"jsonrpc":"2.0","id":8,"result":{}}` {
			t.Errorf("ping: %+v", got)
		}
		for _, method := range []string{"notifications/roots/list_changed", "notifications/cancelled"} {
			if res, f := a.do(t.Context(), 0, notification(method)); f != nil || res.Status != 202 {
				t.Errorf("%s: %+v, %v", method, res, f)
			}
		}
		events, _ := a.get(t.Context(), "")
		if x.started() != before || r.pool.Status().Used != 0 || r.front.Recalled() != 1 || n.recalled != 1 {
			t.Fatalf("%d processes were started, %+v, %d sessions need none", x.started()-before, r.pool.Status(), r.front.Recalled())
		}
		if got := a.call(someCall); got.body != fmt.Sprintf(`{"jsonrpc":"2.0","id":9,"result":{"process":%d}}`, before-1) {
			t.Errorf("the first call: %+v", got)
		}
		if got := x.got(before - 1); got != "initialize notifications/initialized "+all+" tools/call" {
			t.Errorf("the process got %s", got)
		}
		if r.front.Recalled() != 0 || n.healed != 0 || len(events) != 0 {
			t.Errorf("%d sessions need no process, %d were healed, %d events", r.front.Recalled(), n.healed, len(events))
		}
		a.call(lists()[0])
		if got := x.got(before - 1); !strings.HasSuffix(got, "tools/call tools/list") {
			t.Errorf("the process got %s", got)
		}
		if res, f := a.do(t.Context(), mcp.LaneEnd, ""); f != nil || res.Status != 204 || n.unneeded != 0 {
			t.Errorf("the end: %+v, %v, %d", res, f, n.unneeded)
		}
		b := newAgent(t, r.up)
		openAt(b)
		if b.do(t.Context(), mcp.LaneEnd, ""); n.unneeded != 1 {
			t.Errorf("%d sessions have ended without a process", n.unneeded)
		}
	})
}

// TestRecalledOnlyWhatWasAsked: another version, capability or client, and a list with a cursor or `_meta`, are not remembered.
func TestRecalledOnlyWhatWasAsked(t *testing.T) {
	x := newVersioned()
	remembering(t, x, options{}, func(t *testing.T, r *rig, n *recalls) {
		for _, params := range []string{
			`{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"a","version":"1"}}`,
			`{"protocolVersion":"2025-11-25","capabilities":{"roots":{}},"clientInfo":{"name":"a","version":"1"}}`,
			`{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"a","version":"2"}}`,
			`{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"a","version":"1"},"_meta":{"progressToken":1}}`,
		} {
			openWith(newAgent(t, r.up), params, true)
			if n.recalled != 0 {
				t.Fatalf("%s is remembered", params)
			}
		}
		for i, params := range []string{`{"cursor":"1"}`, `{"_meta":{"progressToken":1}}`, `{"_meta":{"a":1}}`, `{"a":{}}`} {
			a := newAgent(t, r.up)
			openWith(a, `{"clientInfo":{"version":"1","name":"a"},"capabilities":{},"protocolVersion":"2025-11-25"}`, true) // the same in another order
			a.call(`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":` + params + `}`)
			if n.recalled != i+1 || r.front.Recalled() != 0 {
				t.Errorf("%s has no process (%d)", params, n.recalled)
			}
		}
		for _, params := range []string{`{}`, `{"_meta":{}}`} {
			a := newAgent(t, r.up)
			openAt(a)
			a.call(`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":` + params + `}`)
			if r.front.Recalled() != 1 {
				t.Errorf("%s needs a process", params)
			}
			a.do(t.Context(), mcp.LaneEnd, "")
		}
	})
}

// TestRecalledWaits: what asks for more than is remembered waits for the process, and nothing is said in its name before.
func TestRecalledWaits(t *testing.T) {
	x := newVersioned()
	remembering(t, x, options{pool: func(o *stdio.PoolOptions) { o.Warm = 0 }}, func(t *testing.T, r *rig, n *recalls) {
		x.slow = 3 * time.Second
		a := newAgent(t, r.up)
		openAt(a)
		a.call(lists()[0])
		begun := time.Now()
		results := make(chan said, 2)
		go func() {
			results <- a.call(`{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"error"}}`)
		}()
		synctest.Wait()
		go func() { results <- a.call(someCall) }()
		synctest.Wait()
		if got := a.call(lists()[0]); time.Since(begun) != 0 || !strings.Contains(got.body, "one") { // it has no process yet
			t.Errorf("a list while its process starts: %+v", got)
		}
		if got := a.call(`{"jsonrpc":"2.0","id":8,"method":"ping"}`); time.Since(begun) != 0 || got.failure != nil {
			t.Errorf("a ping while its process starts: %+v", got)
		}
		for range 2 {
			if got := <-results; got.failure != nil || time.Since(begun) != x.slow {
				t.Errorf("after %v: %+v", time.Since(begun), got)
			}
		}
		if got := x.got(2); got != "initialize notifications/initialized "+all+" logging/setLevel tools/call" && got != "initialize notifications/initialized "+all+" tools/call logging/setLevel" {
			t.Errorf("the process got %s", got)
		}
	})
}

// TestRecalledBeforeInitialized: a process is told that the agent is initialized when it is, once, and asked for lists after that only.
func TestRecalledBeforeInitialized(t *testing.T) {
	x := newVersioned()
	remembering(t, x, options{}, func(t *testing.T, r *rig, n *recalls) {
		a := newAgent(t, r.up)
		openWith(a, `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"a","version":"1"}}`, false)
		a.call(lists()[0])
		a.call(someCall)
		a.do(t.Context(), 0, notification("notifications/initialized"))
		if got := x.got(2); got != "initialize tools/call notifications/initialized "+all {
			t.Errorf("the process got %s", got)
		}
	})
}

// TestInitializedOnce: a process that starts while the agent says that it is initialized is told so once.
func TestInitializedOnce(t *testing.T) {
	x := newVersioned()
	remembering(t, x, options{pool: func(o *stdio.PoolOptions) { o.Warm = 0 }}, func(t *testing.T, r *rig, n *recalls) {
		x.slow = 3 * time.Second
		a := newAgent(t, r.up)
		openWith(a, `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"another","version":"1"}}`, false)
		x.all[2].End("signal: killed")
		synctest.Wait()
		go a.call(lists()[0])
		time.Sleep(time.Second)
		for range 2 { // the second one is the agent's own matter
			a.do(t.Context(), 0, notification("notifications/initialized"))
		}
		if got := x.got(3); got != "initialize notifications/initialized tools/list notifications/initialized" &&
			got != "initialize notifications/initialized notifications/initialized tools/list" {
			t.Errorf("the process got %s", got)
		}
	})
}

// TestEager: with `processes.lazy: false` the process is there behind the session, and told what comes meanwhile once.
func TestEager(t *testing.T) {
	x := newVersioned()
	o := options{front: func(o *streamable.Options) { o.Eager = true }, pool: func(o *stdio.PoolOptions) { o.Warm = 0 }}
	remembering(t, x, o, func(t *testing.T, r *rig, n *recalls) {
		x.slow = 3 * time.Second
		begun := time.Now()
		a := newAgent(t, r.up)
		openAt(a)
		if got := a.call(lists()[0]); time.Since(begun) != 0 || !strings.Contains(got.body, "one") {
			t.Errorf("after %v: %+v", time.Since(begun), got)
		}
		time.Sleep(4 * time.Second)
		if got := x.got(2); got != "initialize notifications/initialized "+all || r.front.Recalled() != 0 {
			t.Errorf("the process got %s", got)
		}
		if got := a.call(someCall); got.failure != nil || x.started() != 3 {
			t.Errorf("the first call: %+v, %d processes", got, x.started())
		}
	})
}

// TestRecalledStartFails: a start that fails is its request's error, the session stays, and nothing is given from memory until one
// succeeds.
func TestRecalledStartFails(t *testing.T) {
	x := newVersioned()
	remembering(t, x, options{pool: func(o *stdio.PoolOptions) { o.Warm = 0 }}, func(t *testing.T, r *rig, n *recalls) {
		a := newAgent(t, r.up)
		openAt(a)
		x.change(func() { x.fails = true })
		if got := a.call(lists()[0]); got.failure != nil {
			t.Fatalf("a list before: %+v", got)
		}
		fails := func(what string, f *mcp.Failure) {
			t.Helper()
			if f == nil || f.Code != 1502 || f.Sent != mcp.SentNo || !strings.Contains(f.Message, "the token is missing") {
				t.Errorf("%s: %v", what, f)
			}
		}
		fails("the first call", a.call(someCall).failure)
		fails("a list after it", a.call(lists()[0]).failure)
		time.Sleep(5 * time.Second)
		_, f := newAgent(t, r.up).do(t.Context(), mcp.LaneRequest, `{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}`)
		fails("another session", f)
		x.change(func() { x.fails = false })
		time.Sleep(time.Minute)
		if got := a.call(someCall); got.failure != nil || n.healed != 0 {
			t.Errorf("when it starts again: %+v, healed %d", got, n.healed)
		}
		openAt(newAgent(t, r.up))
		if n.recalled != 1 { // its processes end by themselves, as far as is known
			t.Errorf("%d sessions were opened from memory", n.recalled)
		}
		time.Sleep(time.Minute)
		openAt(newAgent(t, r.up))
		if n.recalled != 2 {
			t.Errorf("a minute later %d sessions were opened from memory", n.recalled)
		}
	})
}

const toolsChanged, promptsChanged = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`, `{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}`

// changeLists changes all lists of which the server says that it tells of changes, and one of which it does not.
func (x *versioned) changeLists() {
	x.change(func() {
		x.lists = maps.Clone(x.lists)
		x.lists["tools/list"], x.lists["resources/list"], x.lists["prompts/list"] = `{"tools":[]}`, `{"resources":[{}]}`, "error"
	})
}

func data(events []mcp.Event) (all []string) {
	for _, ev := range events {
		all = append(all, string(ev.Data))
	}
	return all
}

// TestListsDiffer: an agent that was given another list than its process has is told so: on its GET stream, else ahead of the answer of
// its call, else of its next one. The memory goes.
func TestListsDiffer(t *testing.T) {
	x := newVersioned()
	remembering(t, x, options{}, func(t *testing.T, r *rig, n *recalls) {
		withGet, without, other := newAgent(t, r.up), newAgent(t, r.up), newAgent(t, r.up)
		for _, a := range []*agent{withGet, without, other} {
			openAt(a)
			for _, body := range lists() {
				a.call(body)
			}
		}
		events, _ := withGet.get(t.Context(), "")
		otherEvents, _ := other.get(t.Context(), "")
		x.changeLists()
		if got := withGet.call(someCall); got.isStream || got.failure != nil {
			t.Errorf("a call beside a GET stream: %+v", got)
		}
		synctest.Wait()
		var got []mcp.Event
		for range len(events) {
			got = append(got, <-events)
		}
		if all := data(got); !slices.Equal(all, []string{toolsChanged, promptsChanged}) {
			t.Errorf("the GET stream had %q", all)
		}
		if len(otherEvents) != 0 {
			t.Errorf("another session was told")
		}
		if first := without.call(`{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"slow"}}`); len(first.events) != 3 ||
			!slices.Equal(data(first.events)[:2], []string{toolsChanged, promptsChanged}) || !first.events[2].Answer {
			t.Errorf("a call without a GET stream: %q, %v", data(first.events), first.failure)
		}
		a := newAgent(t, r.up)
		openAt(a)
		if got := a.call(lists()[0]); !strings.Contains(got.body, `"tools":[]`) { // two processes have given it
			t.Errorf("the next session has %+v", got)
		}
		if a.call(lists()[1]); r.front.Recalled() != 1 { // that of other
			t.Error("a list that a process refuses is remembered")
		}
	})
}

// TestListsDifferBeforeTheNextCall: what waits for the agent's next stream is ahead of its answer.
func TestListsDifferBeforeTheNextCall(t *testing.T) {
	x := newVersioned()
	remembering(t, x, options{}, func(t *testing.T, r *rig, n *recalls) {
		a := newAgent(t, r.up)
		openAt(a)
		a.call(lists()[0])
		x.changeLists()
		a.do(t.Context(), 0, notification("notifications/unknown")) // which needs a process, and has no stream
		synctest.Wait()
		if got := data(a.call(someCall).events); len(got) != 3 || got[0] != toolsChanged || got[1] != promptsChanged {
			t.Errorf("the next call: %q", got)
		}
		if got := a.call(someCall); got.isStream {
			t.Errorf("the one after it: %q", data(got.events))
		}
	})
}

// TestListsDifferUndeclared: where the server does not say that it tells of changes, nobody does.
func TestListsDifferUndeclared(t *testing.T) {
	x := newVersioned()
	x.initialize = strings.ReplaceAll(x.initialize, `"listChanged":true`, "")
	remembering(t, x, options{}, func(t *testing.T, r *rig, n *recalls) {
		a := newAgent(t, r.up)
		openAt(a)
		a.call(lists()[0])
		x.changeLists()
		a.call(someCall)
		synctest.Wait()
		if got := a.call(someCall); got.isStream || got.failure != nil {
			t.Errorf("undeclared: %q, %v", data(got.events), got.failure)
		}
	})
}

// TestListsDifferAndNobodyIsThere: what was to go ahead of an answer waits for another stream where the request was not sent.
func TestListsDifferAndNobodyIsThere(t *testing.T) {
	x := newVersioned()
	remembering(t, x, options{}, func(t *testing.T, r *rig, n *recalls) {
		a := newAgent(t, r.up)
		openAt(a)
		a.call(lists()[0])
		x.change(func() { x.lists["tools/list"] = `{"tools":[]}` })
		a.do(t.Context(), 0, notification("notifications/mute"))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		go a.do(ctx, 0, notification("notifications/unknown")) // which is being written
		synctest.Wait()
		if _, f := a.do(ctx, mcp.LaneRequest, someCall); f == nil || f.Sent != mcp.SentNo {
			t.Fatalf("the call: %v", f)
		}
		events, _ := a.get(t.Context(), "")
		synctest.Wait()
		if len(events) != 1 || !strings.Contains(string((<-events).Data), "tools/list_changed") {
			t.Error("the agent is not told")
		}
	})
}

const someRead = `{"jsonrpc":"2.0","id":9,"method":"resources/read","params":{"uri":"a:b"}}`

// TestConfirmedByTheNextProcess: where the process ends before it has given the lists that the agent was given from memory, the next one
// is asked for them, and the agent is told of what differs, once.
func TestConfirmedByTheNextProcess(t *testing.T) {
	x := newVersioned()
	remembering(t, x, options{pool: func(o *stdio.PoolOptions) { o.Warm = 0 }}, func(t *testing.T, r *rig, n *recalls) {
		a := newAgent(t, r.up)
		openAt(a)
		a.call(lists()[0])
		x.change(func() { x.lists = map[string]string{"tools/list": "silence", "prompts/list": x.lists["prompts/list"]} })
		for range 2 {
			if got := a.call(someRead); got.failure != nil || got.isStream {
				t.Fatalf("a call of a process that gives no list: %+v", got)
			}
		}
		if got := x.got(2); got != "initialize notifications/initialized "+all+" resources/read resources/read" {
			t.Errorf("the first process got %s", got)
		}
		x.all[2].End("signal: killed")
		synctest.Wait()
		x.change(func() { x.lists["tools/list"] = `{"tools":[]}` })
		if got := data(a.call(someRead).events); len(got) != 2 || got[0] != toolsChanged {
			t.Errorf("the next process: %q", got)
		}
		if got := x.got(3); got != "initialize notifications/initialized tools/list resources/read" { // the others have been compared
			t.Errorf("the next process got %s", got)
		}
		x.all[3].End("signal: killed")
		synctest.Wait()
		if got := a.call(someRead); got.failure != nil || got.isStream {
			t.Errorf("the one after it: %+v", got)
		}
		if got := x.got(4); got != "initialize notifications/initialized resources/read" {
			t.Errorf("the one after it got %s", got)
		}
	})
}

// TestConfirmedThoughTheAgentLeaves: so is a process whose agent has left its notifications/initialized before all was asked.
func TestConfirmedThoughTheAgentLeaves(t *testing.T) {
	x := newVersioned()
	remembering(t, x, options{pool: func(o *stdio.PoolOptions) { o.Warm = 0 }}, func(t *testing.T, r *rig, n *recalls) {
		a := newAgent(t, r.up)
		openWith(a, `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"a","version":"1"}}`, false)
		a.call(someRead)
		x.change(func() { x.pauses = map[string]time.Duration{"notifications/initialized": 2 * time.Second} })
		x.changeLists()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		a.do(ctx, 0, notification("notifications/initialized"))
		time.Sleep(2 * time.Second)
		if got := x.got(2); got != "initialize resources/read notifications/initialized "+all {
			t.Errorf("the process got %s", got)
		}
		if got := data(a.call(someRead).events); len(got) != 3 || got[0] != toolsChanged || got[1] != promptsChanged {
			t.Errorf("the next call: %q", got)
		}
	})
}

// TestConfirmedByTheAgent: a list that the agent has had of a process meanwhile is not compared with the next one's. A page of it, or one
// whose answer it has cancelled, is none that it has had.
func TestConfirmedByTheAgent(t *testing.T) {
	for what, c := range map[string]struct {
		params    string
		cancelled bool
		told      bool
	}{
		"the list":  {``, false, false},
		"a page":    {`,"params":{"cursor":"2"}`, false, true},
		"cancelled": {``, true, true},
	} {
		x := newVersioned()
		remembering(t, x, options{pool: func(o *stdio.PoolOptions) { o.Warm = 0 }}, func(t *testing.T, r *rig, n *recalls) {
			a := newAgent(t, r.up)
			openAt(a)
			a.call(lists()[0])
			x.change(func() { x.lists["tools/list"] = "silence" })
			a.call(someRead)
			x.change(func() {
				x.lists["tools/list"], x.pauses = `{"tools":[]}`, map[string]time.Duration{"tools/list": time.Second}
			})
			answered := make(chan said, 1)
			go func() { answered <- a.call(`{"jsonrpc":"2.0","id":5,"method":"tools/list"` + c.params + `}`) }()
			synctest.Wait()
			if c.cancelled {
				a.do(t.Context(), 0, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":5}}`)
			}
			if got := <-answered; !strings.Contains(got.body, `"tools":[]`) {
				t.Fatalf("%s: the list of the process: %+v", what, got)
			}
			x.all[2].End("signal: killed")
			synctest.Wait()
			got := a.call(someRead)
			if told := slices.Contains(data(got.events), toolsChanged); got.failure != nil || told != c.told {
				t.Errorf("%s: the next process: %q, %v", what, data(got.events), got.failure)
			}
		})
	}
}

// TestInitializeDiffers: of a process that says something else than the agent was told, what is more or beside the point changes nothing
// for the session; what is less or another server ends it. The memory goes in any case.
func TestInitializeDiffers(t *testing.T) {
	for what, c := range map[string]struct {
		old, new string
		ends     bool
	}{
		"another version of the server": {`"version":"1"`, `"version":"2"`, false},
		"other instructions":            {"be kind", "be quick", false},
		"a title":                       {`"name":"versioned"`, `"name":"versioned","title":"Versioned"`, false},
		"another capability":            {`"logging":{}`, `"logging":{},"completions":{}`, false},
		"more of a capability":          {`"resources":{}`, `"resources":{"subscribe":true}`, false},
		"what was false":                {`"logging":{}`, `"logging":{"x":true}`, false},
		"a capability less":             {`,"logging":{}`, ``, true},
		"less of a capability":          {`"tools":{"listChanged":true}`, `"tools":{}`, true},
		"what was true":                 {`"tools":{"listChanged":true}`, `"tools":{"listChanged":false}`, true},
		"another name":                  {`"name":"versioned"`, `"name":"other"`, true},
		"another protocol version":      {`"protocolVersion":"2025-11-25"`, `"protocolVersion":"2025-06-18"`, true},
	} {
		x := newVersioned()
		remembering(t, x, options{pool: func(o *stdio.PoolOptions) { o.Warm = 0 }}, func(t *testing.T, r *rig, n *recalls) {
			a, other := newAgent(t, r.up), newAgent(t, r.up)
			openAt(a)
			x.change(func() { x.initialize = strings.Replace(x.initialize, c.old, c.new, 1) })
			got := a.call(someCall)
			if c.ends != (got.status == 404) || !c.ends && got.failure != nil {
				t.Errorf("%s: %+v", what, got)
			}
			if openAt(other); n.recalled != 1 {
				t.Errorf("%s: the initialize is believed still", what)
			}
			if c.ends {
				return
			}
			a.call(`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a:b"}}`)
			x.all[2].End("signal: killed") // a session of this process's from now on
			synctest.Wait()
			if got := a.call(`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"a:b"}}`); got.failure != nil || got.status != 200 {
				t.Errorf("%s, healed: %+v", what, got)
			}
		})
	}
}

// TestInitializeRefused: a process that refuses what is remembered ends the session, and nothing is believed after it.
func TestInitializeRefused(t *testing.T) {
	x := newVersioned()
	remembering(t, x, options{pool: func(o *stdio.PoolOptions) { o.Warm = 0 }}, func(t *testing.T, r *rig, n *recalls) {
		a := newAgent(t, r.up)
		openAt(a)
		x.change(func() { x.lists["initialize"], x.initialize = "", `7` })
		if got := a.call(someCall); got.status != 404 {
			t.Errorf("the call: %+v", got)
		}
		newAgent(t, r.up).do(t.Context(), mcp.LaneRequest, `{"jsonrpc":"2.0","id":"i","method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}`)
		if n.recalled != 1 {
			t.Error("the initialize is believed still")
		}
	})
}

// TestListChangedWithdraws: what a server says itself of a list that it has given ends the memory of it. Before it has given the list,
// as some do for each of their tools, it says nothing.
func TestListChangedWithdraws(t *testing.T) {
	x := newVersioned()
	x.late = "notifications/tools/list_changed"
	remembering(t, x, options{}, func(t *testing.T, r *rig, n *recalls) {
		a := newAgent(t, r.up)
		openAt(a)
		a.call(lists()[0])
		a.call(lists()[1])
		if r.front.Recalled() != 1 {
			t.Fatal("a server that says first that its list has changed is not remembered")
		}
		if got := a.call(`{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"change"}}`); got.failure != nil {
			t.Fatal(got.failure)
		}
		synctest.Wait()
		b := newAgent(t, r.up)
		openAt(b)
		if b.call(lists()[1]); r.front.Recalled() != 1 {
			t.Error("prompts are not remembered")
		}
		if b.call(lists()[0]); r.front.Recalled() != 0 {
			t.Error("tools are remembered that have changed")
		}
	})
}

// TestListChangedAfterRoots: what a server says of its list soon after its agent has given it roots is of agents like that one; later it is
// of all.
func TestListChangedAfterRoots(t *testing.T) {
	for pause, stays := range map[time.Duration]bool{time.Second: true, 10 * time.Second: false} {
		x := newVersioned()
		x.late = `{"jsonrpc":"2.0","id":"r","method":"roots/list"}`
		remembering(t, x, options{pool: func(o *stdio.PoolOptions) { o.Warm = 0 }}, func(t *testing.T, r *rig, n *recalls) {
			a := newAgent(t, r.up)
			openWith(a, `{"protocolVersion":"2025-11-25","capabilities":{"roots":{}},"clientInfo":{"name":"a","version":"1"}}`, true)
			a.call(lists()[0])
			if res, f := a.do(t.Context(), 0, `{"jsonrpc":"2.0","id":"r","result":{"roots":[]}}`); f != nil || res.Status != 202 {
				t.Fatalf("the answer: %v, %v", res, f)
			}
			time.Sleep(pause)
			a.call(`{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"change"}}`)
			synctest.Wait()
			b := newAgent(t, r.up)
			openAt(b)
			if b.call(lists()[0]); (r.front.Recalled() == 1) != stays {
				t.Errorf("%v after the roots: remembered for agents without any: %v", pause, !stays)
			}
		})
	}
}

// TestListChangedOnce: an agent that hears from its process that a list has changed does not hear so from the daemon.
func TestListChangedOnce(t *testing.T) {
	x := newVersioned()
	x.late = "notifications/tools/list_changed"
	remembering(t, x, options{}, func(t *testing.T, r *rig, n *recalls) {
		a := newAgent(t, r.up)
		openAt(a)
		a.call(lists()[0])
		x.change(func() { x.lists["tools/list"] = `{"tools":[]}` })
		events, _ := a.get(t.Context(), "")
		got := a.call(someCall) // on whose stream it may come, too
		synctest.Wait()
		times := len(events)
		for _, ev := range got.events {
			times += strings.Count(string(ev.Data), "list_changed")
		}
		if times != 1 {
			t.Errorf("the agent was told %d times", times)
		}
	})
}

// TestChangedOnDisk: a server that was changed is never answered from memory, also in the middle of a session.
func TestChangedOnDisk(t *testing.T) {
	x := newVersioned()
	remembering(t, x, options{pool: func(o *stdio.PoolOptions) { o.Warm = 0 }}, func(t *testing.T, r *rig, n *recalls) {
		a := newAgent(t, r.up)
		openAt(a)
		a.call(lists()[0])
		x.change(func() {
			x.onDisk = "2"
			x.lists = maps.Clone(x.lists)
			x.lists["prompts/list"] = `{"prompts":[{"name":"new"}]}`
		})
		got := data(a.call(lists()[1]).events) // a cache may have given it the one from before
		if len(got) != 2 || got[0] != promptsChanged || !strings.Contains(got[1], "new") || r.front.Recalled() != 0 {
			t.Errorf("after the change: %q", got)
		}
		openAt(newAgent(t, r.up))
		if n.recalled != 1 {
			t.Error("the initialize of before the change is believed")
		}
		x.change(func() { x.onDisk = "" })
		openAt(newAgent(t, r.up))
		if n.recalled != 1 {
			t.Error("the initialize of a command that is missing is believed")
		}
	})
}

// TestOutdated: what a process says from before a change is marked, once one from after it has answered; also where sessions share them.
func TestOutdated(t *testing.T) {
	for _, replicas := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			x := newVersioned()
			onDisk := func() string {
				x.mu.Lock()
				defer x.mu.Unlock()
				return x.onDisk
			}
			r := newRig(t, options{start: x.start, replicas: replicas, pool: func(o *stdio.PoolOptions) { o.OnDisk = onDisk }})
			before, after := newAgent(t, r.up), newAgent(t, r.up)
			outdated := func(a *agent) bool {
				res, f := a.do(t.Context(), mcp.LaneRequest, lists()[0])
				if f != nil {
					t.Fatal(f)
				}
				defer closeResult(t, res)
				return res.Outdated
			}
			before.open(mcp.Version20251125)
			x.change(func() { x.onDisk = "2" })
			if outdated(before) {
				t.Error("outdated, and no other process runs")
			}
			after.open(mcp.Version20250618) // shared processes are of one version of the protocol
			if !outdated(before) || outdated(after) {
				t.Errorf("%d replicas: what is of before is not outdated, or what is of after is", replicas)
			}
		})
	}
}

// TestVaryingInitialize: a server that answers each initialize in another way is never remembered.
func TestVaryingInitialize(t *testing.T) {
	x := newVersioned()
	x.initialize = strings.Replace(x.initialize, "be kind", "you are the %d.", 1)
	remembering(t, x, options{}, func(t *testing.T, r *rig, n *recalls) {
		seen := map[string]bool{}
		for range 5 {
			seen[string(openAt(newAgent(t, r.up)).Body)] = true
		}
		if n.recalled != 0 || len(seen) != 5 {
			t.Errorf("%d of %d sessions were opened from memory", n.recalled, len(seen))
		}
	})
}

// TestNotLearned: lists on several pages, of a process that was called, or that differ between processes, are not remembered.
func TestNotLearned(t *testing.T) {
	for what, c := range map[string]func(x *versioned, a *agent){
		"two pages": func(x *versioned, a *agent) {
			x.change(func() { x.lists["tools/list"] = `{"tools":[],"nextCursor":"2"}` })
		},
		"after a call": func(x *versioned, a *agent) { a.call(someCall) },
		"a list of the process's own": func(x *versioned, a *agent) {
			x.change(func() { x.lists["tools/list"] = `{"tools":[{"name":"%d"}]}` })
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			x, n := newVersioned(), &recalls{}
			r := x.rig(t, options{}, nil, n)
			for range 4 {
				a := newAgent(t, r.up)
				openAt(a)
				c(x, a)
				a.call(lists()[0])
			}
			a := newAgent(t, r.up)
			openAt(a)
			if a.call(lists()[0]); n.recalled == 0 || r.front.Recalled() != 0 {
				t.Errorf("%s: %d sessions were opened from memory, %d need no process", what, n.recalled, r.front.Recalled())
			}
		})
	}
}

// TestNotLearnedAfterAnAnswer: what a server says once an agent has answered it, with its roots say, is that agent's alone.
func TestNotLearnedAfterAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, n := newVersioned(), &recalls{}
		x.late = `{"jsonrpc":"2.0","id":"r","method":"roots/list"}`
		r := x.rig(t, options{}, nil, n)
		for range 3 {
			a := newAgent(t, r.up)
			openAt(a)
			a.call(`{"jsonrpc":"2.0","id":3,"method":"logging/setLevel","params":{"level":"info"}}`) // it needs a process, and leaves nothing there
			if res, f := a.do(t.Context(), 0, `{"jsonrpc":"2.0","id":"r","result":{"roots":[{"uri":"file:///mine"}]}}`); f != nil || res.Status != 202 {
				t.Errorf("the answer: %v, %v", res, f)
			}
			a.call(lists()[0])
		}
		a := newAgent(t, r.up)
		openAt(a)
		res, f := a.do(t.Context(), mcp.LaneRequest, lists()[0])
		if f != nil || res.Remembered || n.recalled == 0 {
			t.Errorf("a list from memory: %v, %v; %d sessions were", res, f, n.recalled)
		}
		if res != nil {
			closeResult(t, res)
		}
	})
}

// TestLearnedBesideAnAnswer: what a server says before its agent has answered it, and says again after that, is no agent's alone. Once an
// agent has asked for a list after such an answer, the daemon asks the next processes for it first, until it is remembered. A list that is
// another one after the answer is never learned.
func TestLearnedBesideAnAnswer(t *testing.T) {
	for what, isAgents := range map[string]bool{"the same list": false, "the agent's own list": true} {
		synctest.Test(t, func(t *testing.T) {
			x, n := newVersioned(), &recalls{}
			x.late = `{"jsonrpc":"2.0","id":"r","method":"roots/list"}`
			r := x.rig(t, options{pool: func(o *stdio.PoolOptions) { o.Warm = 0 }}, nil, n)
			const params = `{"protocolVersion":"2025-11-25","capabilities":{"roots":{}},"clientInfo":{"name":"a","version":"1"}}`
			asks := make([]string, map[bool]int{false: 5, true: 2}[isAgents]) // two that give the same are believed
			for i := range asks {
				x.change(func() { x.lists["tools/list"] = `{"tools":[]}` })
				a := newAgent(t, r.up)
				openWith(a, params, true)
				a.call(`{"jsonrpc":"2.0","id":3,"method":"logging/setLevel","params":{"level":"info"}}`)
				if res, f := a.do(t.Context(), 0, `{"jsonrpc":"2.0","id":"r","result":{"roots":[{"uri":"file:///mine"}]}}`); f != nil || res.Status != 202 {
					t.Errorf("%s: the answer: %v, %v", what, res, f)
				}
				if isAgents {
					x.change(func() { x.lists["tools/list"] = `{"tools":[{"name":"mine"}]}` })
				}
				if got := a.call(lists()[0]); !strings.Contains(got.body, x.lists["tools/list"]) {
					t.Errorf("%s: %+v", what, got)
				}
				asks[i] = strings.TrimSuffix(strings.TrimPrefix(x.got(i), "initialize notifications/initialized "), "logging/setLevel  tools/list")
			}
			want := []string{"", "tools/list ", "tools/list ", "tools/list ", "tools/list "} // to learn, and, where it is remembered, to compare
			if !slices.Equal(asks, want[:len(asks)]) {
				t.Errorf("%s: the processes were asked for %q", what, asks)
			}
			a := newAgent(t, r.up)
			openWith(a, params, true)
			if a.call(lists()[0]); (r.front.Recalled() == 1) == isAgents {
				t.Errorf("%s: remembered: %v", what, r.front.Recalled() == 1)
			}
		})
	}
}

// TestPingOfALostSession: a session that gets no other process does not answer a ping by itself.
func TestPingOfALostSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newVersioned()
		r := x.rig(t, options{front: func(o *streamable.Options) { o.Heal = streamable.HealOff }}, nil, &recalls{})
		a := newAgent(t, r.up)
		openAt(a)
		x.all[0].End("signal: killed")
		synctest.Wait()
		res, f := a.do(t.Context(), mcp.LaneRequest, `{"jsonrpc":"2.0","id":3,"method":"ping"}`)
		if f != nil || res.Status != 404 {
			t.Errorf("got %v, %v, want a 404", res, f)
		}
	})
}

// TestRecalledRestart: after a restart of the daemon what is remembered is given at once, and a session that had no process goes on
// without one. What its agent was given before is compared after it.
func TestRecalledRestart(t *testing.T) {
	dir, x := t.TempDir(), newVersioned()
	sessions, memory := filepath.Join(dir, "sessions.json"), filepath.Join(dir, "memory.json")
	var session string
	synctest.Test(t, func(t *testing.T) {
		st := remembered.NewStore(remembered.StoreOptions{Path: memory})
		defer st.Close()
		store := streamable.NewStore(streamable.StoreOptions{Path: sessions})
		defer store.Close()
		r := x.rig(t, options{store: store}, st, &recalls{})
		learn(t, r)
		a := newAgent(t, r.up)
		openAt(a)
		a.call(lists()[0])
		session = a.session
	})
	synctest.Test(t, func(t *testing.T) {
		before, n := x.started(), &recalls{}
		st := remembered.NewStore(remembered.StoreOptions{Path: memory})
		defer st.Close()
		store := streamable.NewStore(streamable.StoreOptions{Path: sessions})
		defer store.Close()
		r := x.rig(t, options{store: store, pool: func(o *stdio.PoolOptions) { o.Warm = 0 }}, st, n)
		a := newAgent(t, r.up)
		a.session = session
		if got := a.call(lists()[1]); got.status != 200 || r.front.Recalled() != 1 {
			t.Errorf("a list of the session from before: %+v", got)
		}
		b := newAgent(t, r.up)
		openAt(b)
		if got := b.call(lists()[0]); got.status != 200 || n.recalled != 1 || x.started() != before {
			t.Errorf("a new session: %+v, %d processes", got, x.started()-before)
		}
		x.change(func() { x.lists["tools/list"] = `{"tools":[]}` })
		if got := a.call(`{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"slow"}}`); len(got.events) != 2 || !strings.Contains(string(got.events[0].Data), "tools/list_changed") {
			t.Errorf("after the change: %+v", got)
		}
	})
}

// restarting returns a function that runs a daemon with the server, each time with the files of the one before.
func (x *versioned) restarting(t *testing.T) func(func(t *testing.T, r *rig)) {
	dir := t.TempDir()
	sessions, memory := filepath.Join(dir, "sessions.json"), filepath.Join(dir, "memory.json")
	return func(f func(t *testing.T, r *rig)) {
		synctest.Test(t, func(t *testing.T) {
			st := remembered.NewStore(remembered.StoreOptions{Path: memory})
			defer st.Close()
			store := streamable.NewStore(streamable.StoreOptions{Path: sessions})
			defer store.Close()
			f(t, x.rig(t, options{store: store, pool: func(o *stdio.PoolOptions) { o.Warm = 0 }}, st, &recalls{}))
		})
	}
}

// TestConfirmedAfterARestart: so is a session whose process had not given the lists when the daemon ended.
func TestConfirmedAfterARestart(t *testing.T) {
	x := newVersioned()
	run := x.restarting(t)
	var session string
	run(func(t *testing.T, r *rig) {
		learn(t, r)
		a := newAgent(t, r.up)
		openAt(a)
		a.call(lists()[0])
		x.change(func() { x.lists["tools/list"] = "silence" })
		a.call(someRead)
		session = a.session
	})
	run(func(t *testing.T, r *rig) {
		x.change(func() { x.lists["tools/list"] = `{"tools":[]}` })
		a := newAgent(t, r.up)
		a.session = session
		if got := data(a.call(someRead).events); len(got) != 2 || got[0] != toolsChanged {
			t.Errorf("after the restart: %q", got)
		}
	})
}

// TestCachedListsDiffer: a list that a cache gave never comes here. An agent that may have it hears of the change, also where the server
// was changed on disk before the session had a process, so that nothing is remembered of it any more, and after a restart.
func TestCachedListsDiffer(t *testing.T) {
	x := newVersioned()
	run := x.restarting(t)
	checkTold := func(t *testing.T, a *agent) {
		t.Helper()
		if got := data(a.call(someRead).events); len(got) != 2 || got[0] != toolsChanged {
			t.Errorf("the first call: %q", got)
		}
	}
	var session string
	run(func(t *testing.T, r *rig) {
		learn(t, r)
		a, other := newAgent(t, r.up), newAgent(t, r.up)
		openAt(a)
		openAt(other)
		if r.front.Recalled() != 2 {
			t.Fatalf("%d sessions were opened from memory", r.front.Recalled())
		}
		x.change(func() { x.onDisk, x.lists["tools/list"] = "2", `{"tools":[]}` })
		checkTold(t, a)
		session = other.session
	})
	run(func(t *testing.T, r *rig) {
		a := newAgent(t, r.up)
		a.session = session
		checkTold(t, a)
	})
}

// TestRecalledWithoutHealing: `sessions.heal: off` means processes that have gone; a session that has had none has its first.
func TestRecalledWithoutHealing(t *testing.T) {
	x := newVersioned()
	remembering(t, x, options{front: func(o *streamable.Options) { o.Heal = streamable.HealOff }}, func(t *testing.T, r *rig, n *recalls) {
		a := newAgent(t, r.up)
		openAt(a)
		if got := a.call(someCall); got.failure != nil || got.status != 200 {
			t.Fatalf("the first call: %+v", got)
		}
		x.all[2].End("signal: killed")
		synctest.Wait()
		if got := a.call(someCall); got.status != 404 {
			t.Errorf("after its process: %+v", got)
		}
	})
}

// TestRecalledIsItsOwners: a session that was opened from memory is another credential's no more than any other.
func TestRecalledIsItsOwners(t *testing.T) {
	x := newVersioned()
	o := options{front: func(o *streamable.Options) {
		o.Partition = func(c *mcp.Call) (p [32]byte) {
			copy(p[:], c.Header.Get("Authorization"))
			return p
		}
	}}
	remembering(t, x, o, func(t *testing.T, r *rig, n *recalls) {
		a, b := newAgent(t, r.up), newAgent(t, r.up)
		a.header.Set("Authorization", "a")
		b.header.Set("Authorization", "b")
		openAt(a)
		b.session = a.session
		if got := b.call(lists()[0]); got.status != 404 {
			t.Errorf("another's session: %+v", got)
		}
		if got := a.call(lists()[0]); got.status != 200 {
			t.Errorf("its own: %+v", got)
		}
	})
}

// TestRecalledArray: an array needs a process, whatever is in it.
func TestRecalledArray(t *testing.T) {
	x := newVersioned()
	x.initialize = strings.Replace(x.initialize, "2025-11-25", "2025-03-26", 1)
	remembering(t, x, options{}, func(t *testing.T, r *rig, n *recalls) {
		a := newAgent(t, r.up)
		openAt(a)
		a.call(lists()[0])
		if got := a.call("[" + lists()[0] + "," + lists()[1] + "]"); got.failure != nil || !strings.Contains(got.body, "list-1") || r.front.Recalled() != 0 {
			t.Errorf("an array: %+v", got)
		}
	})
}

// TestRecalledUnderLoad: sessions of all kinds at once, some of whose agents leave, over a server whose answers change: each list is one
// that the server had, and no session is lost.
func TestRecalledUnderLoad(t *testing.T) {
	x := newVersioned()
	x.slow = 5 * time.Millisecond
	remembering(t, x, options{}, func(t *testing.T, r *rig, n *recalls) {
		var agents sync.WaitGroup
		for i := range 60 {
			agents.Go(func() {
				time.Sleep(time.Duration(i) * 7 * time.Millisecond)
				a := newAgent(t, r.up)
				a.open(mcp.Version20251125)
				for j := range 6 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+(i*j)%9)*time.Millisecond)
					body := lists()[j%4]
					if j%3 == i%3 {
						body = someCall
					}
					got := a.read(a.do(ctx, mcp.LaneRequest, body))
					cancel()
					if f := got.failure; got.status == 404 || f != nil && f.Reason != mcp.ReasonCanceled && !errors.Is(f, context.DeadlineExceeded) {
						t.Errorf("agent %d, %s: %+v", i, body, got)
					}
					time.Sleep(time.Duration(i%5) * time.Millisecond)
				}
				a.do(t.Context(), mcp.LaneEnd, "")
			})
			if i%20 == 10 {
				x.change(func() {
					x.lists = maps.Clone(x.lists)
					x.lists["tools/list"] = fmt.Sprintf(`{"tools":[{"name":"%d"}]}`, i)
				})
			}
		}
		agents.Wait()
		if n.recalled == 0 || r.front.Sessions() != 0 {
			t.Errorf("%d sessions were opened from memory, %d are left", n.recalled, r.front.Sessions())
		}
	})
}
