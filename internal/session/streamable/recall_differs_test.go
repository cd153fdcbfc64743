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
