package streamable_test

import (
	"context"
	"fmt"
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
