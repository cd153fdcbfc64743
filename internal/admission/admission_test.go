package admission_test

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"fluentd-perf/internal/admission"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pass(d time.Duration) { <-time.After(d) }

// What the arrays of the tests are made of.
const (
	listBody     = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`
	responseBody = `{"jsonrpc":"2.0","id":7,"result":{}}`
)

// gate is an Admission under test: one slot, ten places to wait and two seconds, where a test says nothing else.
type gate struct {
	*admission.Admission
	tb   testing.TB
	log  strings.Builder
	done []string // the names of calls that got a slot, in that order
}

func newGate(tb testing.TB, o admission.Options) *gate {
	g := &gate{tb: tb}
	o.Upstream = cmp.Or(o.Upstream, "files")
	o.MaxInFlight, o.Queue, o.QueueWait = cmp.Or(o.MaxInFlight, 1), cmp.Or(o.Queue, 10), cmp.Or(o.QueueWait, 2*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.NewTextHandler(&g.log, nil))
	}
	g.Admission = admission.New(o)
	return g
}

// request is a call of an agent that is its connection.
func request(agent string) *mcp.Call {
	return &mcp.Call{Lane: mcp.LaneRequest, Conn: agent, Message: mcp.Message{Kind: mcp.KindRequest}, Header: header.List{}}
}

// caller is a call that has asked for a slot.
type caller struct {
	gate    *gate
	cancel  context.CancelCauseFunc
	over    atomic.Bool // it waits no longer, and the following stands
	slot    func()
	waited  time.Duration
	failure *mcp.Failure
	took    time.Duration
}

// ask begins a call in a bubble, and returns when it has a slot, has none, or waits.
func (g *gate) ask(name string, c *mcp.Call) *caller {
	ctx, cancel := context.WithCancelCause(g.tb.Context())
	k := &caller{gate: g, cancel: cancel, slot: func() {}}
	go func() {
		start := time.Now()
		slot, waited, failure := g.Enter(ctx, c)
		k.waited, k.failure, k.took = waited, failure, time.Since(start)
		if slot != nil {
			k.slot = sync.OnceFunc(slot) // the tests need not know who has left
		}
		if failure == nil {
			g.done = append(g.done, name)
		}
		k.over.Store(true)
	}()
	synctest.Wait()
	return k
}

func (k *caller) leave() {
	k.slot()
	synctest.Wait()
}

// state says what became of the call in one word.
func (k *caller) state() string {
	switch {
	case !k.over.Load():
		return "waits"
	case k.failure == nil:
		return "admitted"
	}
	return string(k.failure.Reason)
}

func (k *caller) want(state string) {
	k.gate.tb.Helper()
	if got := k.state(); got != state {
		k.gate.tb.Fatalf("the call: %s, want %s", got, state)
	}
	if state == "waits" || state == "admitted" {
		return
	}
	f := k.failure
	refused := f.Code == mcp.CodeOverloaded && f.RetryAfter >= 100*time.Millisecond && f.RetryAfter <= 30*time.Second
	if f.Sent != mcp.SentNo || f.Message == "" || !refused && f.Reason != mcp.ReasonCanceled && f.Reason != mcp.ReasonDraining {
		k.gate.tb.Errorf("the failure is %+v", f)
	}
}

func (g *gate) stats(inFlight, queued int) {
	g.tb.Helper()
	if i, q := g.Stats(); i != inFlight || q != queued {
		g.tb.Fatalf("%d in flight and %d queued, want %d and %d", i, q, inFlight, queued)
	}
}

// order lets calls go one after the other until nobody waits, and compares who came when.
func (g *gate) order(all []*caller, want ...string) {
	g.tb.Helper()
	for range all {
		for _, k := range all {
			if k.state() == "admitted" {
				k.leave()
			}
		}
	}
	g.stats(0, 0)
	if !slices.Equal(g.done, want) {
		g.tb.Errorf("they came in the order %q, want %q", g.done, want)
	}
}

// TestEnter: calls get slots while there are some, then wait for one that comes free.
func TestEnter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, admission.Options{MaxInFlight: 2})
		a, b, c := g.ask("a", request("x")), g.ask("b", request("x")), g.ask("c", request("y"))
		a.want("admitted")
		b.want("admitted")
		c.want("waits")
		g.stats(2, 1)
		pass(time.Second)
		a.leave()
		c.want("admitted")
		g.stats(2, 0)
		if a.waited != 0 || c.waited != time.Second {
			t.Errorf("they waited %v and %v", a.waited, c.waited)
		}
		b.leave()
		c.leave()
		g.stats(0, 0)
	})
}

// arrayOf is an array of n times the same.
func arrayOf(n int, element string) []byte {
	return []byte("[" + strings.TrimSuffix(strings.Repeat(element+",", n), ",") + "]")
}

// TestLanes: what is no request to a server takes no slot and never waits.
func TestLanes(t *testing.T) {
	array := mcp.Message{Kind: mcp.KindBatch, Method: mcp.MethodOther}
	cases := []struct {
		name string
		call mcp.Call
		slot bool
	}{
		{"request", mcp.Call{Lane: mcp.LaneRequest}, true},
		{"notification", mcp.Call{Lane: mcp.LaneNotification}, false},
		{"response", mcp.Call{Lane: mcp.LaneResponse}, false},
		{"end of a session", mcp.Call{Lane: mcp.LaneEnd}, false},
		{"listen", mcp.Call{Lane: mcp.LaneListen}, false},
		{"GET", mcp.Call{Lane: mcp.LaneStream}, false},
		{"document", mcp.Call{Lane: mcp.LaneFetch}, false},
		{"message with a request", mcp.Call{Lane: mcp.LaneMessage, Message: mcp.Message{Kind: mcp.KindRequest}}, true},
		{"message with a notification", mcp.Call{Lane: mcp.LaneMessage, Message: mcp.Message{Kind: mcp.KindNotification}}, false},
		{"message with an answer", mcp.Call{Lane: mcp.LaneMessage, Message: mcp.Message{Kind: mcp.KindResult}}, false},
		{"opaque", mcp.Call{Lane: mcp.LaneOpaque, Message: mcp.Message{Method: mcp.MethodOther}, Body: []byte("\x1f\x8b")}, true},
		{"array of a window", mcp.Call{Lane: mcp.LaneBatch, Body: arrayOf(2, listBody)}, true},
		{"array with a request", mcp.Call{Lane: mcp.LaneOpaque, Message: array, Body: []byte(
			`[{"jsonrpc":"2.0","method":"notifications/cancelled"},{"jsonrpc":"2.0","id":1,"method":"ping"}]`)}, true},
		{"array of answers", mcp.Call{Lane: mcp.LaneOpaque, Message: array, Body: []byte(
			`[{"jsonrpc":"2.0","id":1,"result":{}},{"jsonrpc":"2.0","id":2,"error":{"code":1,"message":"no"}}]`)}, false},
		{"array of loose answers", mcp.Call{Lane: mcp.LaneOpaque, Message: array, Body: []byte(
			`[{"jsonrpc":"2.0","id":1},{"jsonrpc":"2.0","id":2,"result":{},"error":null}]`)}, false},
		{"array of notifications", mcp.Call{Lane: mcp.LaneOpaque, Message: array, Body: []byte(`[{"jsonrpc":"2.0","method":"notifications/x"}]`)}, false},
		{"array with a loose request", mcp.Call{Lane: mcp.LaneOpaque, Message: array, Body: []byte(
			`[{"jsonrpc":"2.0","id":1,"result":{}},{"jsonrpc":"2.0","id":1,"method":"x","params":null}]`)}, true},
		{"array that nobody understands", mcp.Call{Lane: mcp.LaneOpaque, Message: array, Body: []byte(`[{"a":1}]`)}, true},
		{"array of a thousand answers", mcp.Call{Lane: mcp.LaneOpaque, Message: array, Body: arrayOf(1000, responseBody)}, false},
		{"array of more than anybody sends", mcp.Call{Lane: mcp.LaneOpaque, Message: array, Body: arrayOf(1001, responseBody)}, true},
		{"message with an array of answers", mcp.Call{Lane: mcp.LaneMessage, Message: mcp.Message{Kind: mcp.KindBatch}, Body: []byte(
			`[{"jsonrpc":"2.0","id":1,"result":{}}]`)}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate(t, admission.Options{})
				if c.slot {
					k := g.ask("it", &c.call)
					g.stats(1, 0)
					k.leave()
					g.stats(0, 0)
					return
				}
				busy, waiting := g.ask("first", request("x")), g.ask("second", request("x"))
				k := g.ask("it", &c.call)
				k.want("admitted")
				g.stats(1, 1)
				k.leave()
				g.stats(1, 1)
				busy.leave()
				waiting.leave()
			})
		})
	}
}

// TestQueueWait: who has waited long enough is refused, to the moment, and what it waited for goes to others.
func TestQueueWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, admission.Options{QueueWait: 3 * time.Second})
		busy, early := g.ask("busy", request("x")), g.ask("early", request("x"))
		pass(time.Second)
		late := g.ask("late", request("x"))
		pass(2*time.Second - 1)
		early.want("waits")
		pass(1)
		synctest.Wait()
		early.want("queue_wait")
		late.want("waits")
		busy.leave()
		late.want("admitted")
		late.leave()
		g.stats(0, 0)
	})
}

// TestQueueFull: without another agent that has more calls waiting, the newcomer is refused at once.
func TestQueueFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, admission.Options{Queue: 4})
		all := []*caller{g.ask("a", request("x"))}
		for _, name := range []string{"b", "c", "d", "e"} {
			all = append(all, g.ask(name, request(name[:1])))
		}
		for _, agent := range []string{"x", "b", "new"} {
			k := g.ask("refused", request(agent))
			k.want("queue_full")
			if k.took != 0 {
				t.Errorf("refused after %v", k.took)
			}
		}
		g.order(all, "a", "b", "c", "d", "e")
	})
	synctest.Test(t, func(t *testing.T) { // where nobody may wait
		a := admission.New(admission.Options{Upstream: "files", MaxInFlight: 1})
		slot, _, _ := a.Enter(t.Context(), request("x"))
		if _, _, f := a.Enter(t.Context(), request("y")); f == nil || f.Reason != mcp.ReasonQueueFull {
			t.Errorf("got %v", f)
		}
		slot()
	})
}

// TestGivesWay: when the queue is full, the newest call of the agent with the most makes room for one with fewer.
func TestGivesWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, admission.Options{Queue: 6})
		a := g.ask("a", request("flood"))
		all := []*caller{a}
		for _, name := range []string{"f1", "f2", "f3", "f4", "s1", "s2"} {
			agent := map[byte]string{'f': "flood", 's': "some"}[name[0]]
			all = append(all, g.ask(name, request(agent)))
		}
		g.ask("f5", request("flood")).want("queue_full") // of those with the most nobody else has more
		n1 := g.ask("n1", request("new"))
		n1.want("waits")
		all[4].want("queue_full") // f4: flood 3, some 2, new 1
		n2 := g.ask("n2", request("new"))
		n2.want("waits")
		all[3].want("queue_full")                       // f3: all have 2
		g.ask("n3", request("new")).want("queue_full")  // it would have 3
		g.ask("s3", request("some")).want("queue_full") // so would this
		third := g.ask("t1", request("third"))          // all others have more than 1
		third.want("waits")
		g.stats(1, 6)
		gone := 0
		for _, k := range append(slices.Clone(all), n1, n2) {
			if k.state() == "queue_full" {
				gone++
			}
		}
		if gone != 3 {
			t.Errorf("%d gave way, want 3", gone)
		}
		g.done = nil
		g.order(append(all, n1, n2, third), g.remaining(all, n1, n2)...)
	})
}

// remaining is what TestGivesWay expects: round by round, who has one left.
func (g *gate) remaining(all []*caller, n1, n2 *caller) []string {
	var want []string
	add := func(name string, k *caller) {
		if k.state() == "waits" {
			want = append(want, name)
		}
	}
	add("f1", all[1])
	add("s1", all[5])
	add("n1", n1)
	want = append(want, "t1")
	add("f2", all[2])
	add("s2", all[6])
	add("n2", n2)
	return want
}
