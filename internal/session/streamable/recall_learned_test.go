package streamable_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/upstream/stdio"
)

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
