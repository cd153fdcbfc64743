package cache_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/cache/worker"
	"fluentd-perf/internal/mcp"
)

// writeOptions are options under which a tools/call invalidates answers.
func writeOptions() cache.StageOptions {
	return cache.StageOptions{
		TTL:   map[string]time.Duration{"resources/read": 9 * time.Second},
		Tools: map[string]time.Duration{"get_*": 9 * time.Second}, CoalesceTools: []string{"join_*"}, FlushOnCall: true,
	}
}

// TestCoalescedToolsEndJoining: a tools/call whose equals share its flight fences its principal's other flights when it is sent and
// when it is answered, also on a stream or with a failure, and none of its own kind.
func TestCoalescedToolsEndJoining(t *testing.T) {
	for what, give := range map[string]func(c *mcp.Call) (*mcp.Result, error){
		"JSON":   func(c *mcp.Call) (*mcp.Result, error) { return rulesWhole(200, rulesAnswer(1, c, "")), nil },
		"framed": func(c *mcp.Call) (*mcp.Result, error) { return rulesStream(c, rulesData(rulesAnswer(1, c, ""))), nil },
		"a stream": func(c *mcp.Call) (*mcp.Result, error) {
			return rulesStream(c, rulesData(rulesProgress)+rulesData(rulesAnswer(1, c, ""))), nil
		},
		"busy": func(*mcp.Call) (*mcp.Result, error) { return rulesWhole(503, "busy"), nil },
		"a failure": func(*mcp.Call) (*mcp.Result, error) {
			return nil, &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentUnknown}
		},
	} {
		rulesTest(t, writeOptions(), func(r *rulesRig) {
			j := r.joining(rulesModern("tools/list"), rulesTool("join_x"))
			r.script(func(_ int, c *mcp.Call) (*mcp.Result, error) {
				j.want(what + ", when it is sent")
				return give(c)
			})
			res, err := r.caller.Call(r.Context(), rulesTool("join_x").call(r))
			if err == nil {
				r.read(res)
			}
			j.want(what + ", when it is answered")
		})
	}
}

// TestWritesTellOnlyWhatIsKept: a tier that is this daemon's alone is told of a tools/call only where an answer that it
// invalidates was kept since the last one; a tier that others share is told of each.
func TestWritesTellOnlyWhatIsKept(t *testing.T) {
	alone, shared := newRigTier("database", newRigDisk()), newRigTier("redis", newRigDisk())
	withRig(t, cache.StoreOptions{}, writeOptions(), []worker.Options{slow(rigFile{alone}), slow(shared)}, func(r *rulesRig) {
		write := func(what string, a rulesAsk, wantAlone bool) {
			t.Helper()
			before, beforeShared := len(alone.did("bump")), len(shared.did("bump"))
			r.ask(a)
			if told := len(alone.did("bump")) > before; told != wantAlone {
				t.Errorf("%s: the tier of this daemon alone was told: %v, want %v", what, told, wantAlone)
			}
			if len(shared.did("bump")) == beforeShared {
				t.Errorf("%s: the shared tier was not told", what)
			}
		}
		tool := rulesTool("write")
		write("the first: who knows what was kept before", tool, true)
		for range 3 {
			write("nothing was asked for", tool, false)
		}
		r.ask(rulesModern("tools/list"))
		r.ask(rulesModern("prompts/get").with(`"name":"p"`))
		write("nothing of the kind was asked for", tool, false)
		r.ask(rulesRead("file:///a").by("b"))
		write("another asked", tool, false)
		write("the other", tool.by("b"), true)
		for what, a := range map[string]rulesAsk{"a resource": rulesRead("file:///a"), "a kept tool": rulesTool("get_x")} {
			r.asks(what, a)
			r.hits(what, r.server.asked(), a)
			write(what+" was asked for", rulesTool("join_x"), true)
			write(what+" was asked for before", rulesTool("join_x"), false)
			r.asks(what+", after the tool", a)
			r.forget()
			r.hits(what+", from a tier", r.server.asked(), a)
			write(what+" came from a tier", tool, true)
			r.forget()
			r.asks(what+", after the tool, of a tier", a)
			write("", tool, true)
		}
	})
}

// TestOnItsWayOverAWrite: an answer that was asked for before a tools/call, or while it was under way, is kept nowhere
// beyond it, whatever the order of the steps in between.
func TestOnItsWayOverAWrite(t *testing.T) {
	for name, steps := range map[string]string{
		// tool and read are sent, tool! and read! answered; the tier is read between read and asked.
		"around it": "read asked tool tool! read!", "in it": "tool read asked read! tool!", "before it": "read asked tool read! tool!",
		"after it": "tool read asked tool! read!", "the tier is read in it": "read tool asked tool! read!",
		"the tier is read in it, the answer too": "read tool asked read! tool!", "the tier is read after it": "read tool tool! asked read!",
	} {
		for _, tool := range []string{"write", "join_x"} {
			for _, again := range []bool{false, true} { // the tier has been told of one before
				tier := newRigTier("database", newRigDisk())
				withRig(t, cache.StoreOptions{}, writeOptions(), []worker.Options{slow(rigFile{tier})}, func(r *rulesRig) {
					if again {
						r.ask(rulesTool(tool))
					}
					testOnItsWay(r, tier, rulesTool(tool), steps)
					before := r.server.asked()
					p := r.ask(rulesRead("file:///a"))
					if kept := r.server.asked() == before; kept && name != "the tier is read after it" {
						t.Errorf("%s, %s, told before: %v: it is kept (%s)", name, tool, again, p.status())
					}
				})
			}
		}
	}
}

func testOnItsWay(r *rulesRig, tier *rigTier, tool rulesAsk, steps string) {
	open := make(map[string]chan struct{})
	for _, step := range []string{"asked", "tool!", "read!"} {
		open[step] = make(chan struct{})
	}
	r.script(func(n int, c *mcp.Call) (*mcp.Result, error) {
		if c.Method() == mcp.MethodToolsCall {
			<-open["tool!"]
		} else {
			<-open["read!"]
		}
		return rulesWhole(200, rulesAnswer(n, c, "")), nil
	})
	tier.set(func() {
		tier.wait = func(_ context.Context, op rigOp) {
			if op.name == "read" {
				<-open["asked"]
			}
		}
	})
	done := make(chan struct{}, 2)
	for step := range strings.FieldsSeq(steps) {
		if gate, ok := open[step]; ok {
			close(gate)
			synctest.Wait()
			continue
		}
		a := tool
		if step == "read" {
			a = rulesRead("file:///a")
		}
		go func() {
			defer func() { done <- struct{}{} }()
			if res, err := r.caller.Call(r.Context(), a.call(r)); err == nil {
				r.read(res)
			}
		}()
		synctest.Wait()
	}
	<-done
	<-done
	tier.set(func() { tier.wait = nil })
	r.says("")
	synctest.Wait()
}
