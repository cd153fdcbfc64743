package daemon

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/config"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// oncePrimed is how a server begins an answer that is to be polled for: nothing but an id to resume by (SEP-1699).
var oncePrimed = mcp.Event{Raw: []byte("id: e1\nretry: 50\ndata: \n\n"), ID: []byte("e1"), HasID: true, Retry: []byte("50"), Data: []byte{}}

// onceOwn are answers that are not understood, or can be resumed: they are the leader's, byte for byte.
var onceOwn = map[string]func(c *mcp.Call) *mcp.Result{
	"polled for": func(*mcp.Call) *mcp.Result {
		return &mcp.Result{Status: 200, Header: header.List{}, Events: &pipeStream{events: []mcp.Event{oncePrimed}}}
	},
	"an array": func(c *mcp.Call) *mcp.Result {
		return &mcp.Result{Status: 200, Header: header.List{}, Message: mcp.Message{Kind: mcp.KindBatch}, Body: fmt.Appendf(nil,
			`[{"jsonrpc":"2.0","method":"notifications/tools/list_changed"},{"jsonrpc":"2.0","id":%s,"result":{}}]`, c.ID())}
	},
	"loose": func(c *mcp.Call) *mcp.Result {
		res := pipeResult(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"tools":[],"x":"\ud83d"}}`, c.ID()))
		res.Checked = false
		return res
	},
	"opaque":   func(c *mcp.Call) *mcp.Result { return &mcp.Result{Status: 200, Header: header.List{}, Body: c.ID()} },
	"accepted": func(c *mcp.Call) *mcp.Result { return &mcp.Result{Status: 202, Header: header.List{}} },
	"a loose event": func(c *mcp.Call) *mcp.Result {
		res := pipeStreamed(pipeResult(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"tools":[],"x":"\ud83d"}}`, c.ID())))
		res.Events.(*pipeStream).events[0].Exact = false
		return res
	},
	"an event that nobody can read": func(c *mcp.Call) *mcp.Result {
		ev := mcp.Event{Raw: fmt.Appendf(nil, "data: %s}\n\n", c.ID()), Data: fmt.Appendf(nil, "%s}", c.ID()), Answer: true}
		return &mcp.Result{Status: 200, Header: header.List{}, Events: &pipeStream{events: []mcp.Event{ev}}}
	},
	"an event in pieces": func(c *mcp.Call) *mcp.Result {
		return &mcp.Result{Status: 200, Header: header.List{}, Events: &pipeStream{events: []mcp.Event{
			{Raw: []byte("data: {"), Partial: true}, {Raw: fmt.Appendf(nil, "%s\n\n", c.ID()), Answer: true},
		}}}
	},
}

// onceBytes are all bytes of an answer as its agent gets them.
func onceBytes(t *testing.T, res *mcp.Result) string {
	b := []byte(fmt.Sprint(res.Status, " "))
	if res.Events == nil {
		b = append(b, res.Body...)
	}
	for res.Events != nil {
		ev, err := res.Events.Next()
		if err != nil {
			break
		}
		b = append(b, ev.Raw...)
	}
	if err := res.Close(); err != nil {
		t.Error(err)
	}
	return string(b)
}

// TestOncePasses has a server give answers that are not understood, or can be resumed, on all methods that share: each of the
// agents, and not the first alone, gets them as they came, under the ids that they asked with.
func TestOncePasses(t *testing.T) {
	params := map[string]string{"resources/read": `"uri":"a",`, "prompts/get": `"name":"p",`, "completion/complete": `"ref":{},`}
	for name, give := range onceOwn {
		for _, method := range []string{"tools/list", "resources/read", "prompts/get", "completion/complete"} {
			t.Run(name+", "+method, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { testPasses(t, method, params[method], give) })
			})
		}
	}
}

func testPasses(t *testing.T, method, params string, give func(*mcp.Call) *mcp.Result) {
	p := newPipe(t, func(c *config.Upstream) { c.Cache.TTL = map[string]time.Duration{method: time.Hour} },
		func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			if c.Method() == mcp.MethodInitialize {
				return pipeResult(`{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{}}}`), nil
			}
			if !c.Whole {
				t.Error("what may be shared is not held whole")
			}
			return give(c), pipeAfter(ctx, time.Second)
		})
	p.ask(t.Context(), onceLegacy("", "0", "initialize", `"protocolVersion":"2025-11-25","capabilities":{},`))
	p.server.seen()
	for wave := range 2 {
		got := make(chan string, 5)
		for i := range 5 {
			c := onceLegacy("", pipeID(i), method, params)
			go func() {
				res, err := p.stage.Call(t.Context(), c)
				if err != nil {
					t.Error(err)
					got <- ""
					return
				}
				text, want := onceBytes(t, res), onceBytes(t, give(c))
				if text != want {
					t.Errorf("the call %s got %q, want %q", c.ID(), text, want)
				}
				got <- text
			}()
			if synctest.Wait(); wave == 0 && i == 0 {
				p.wantCalls(1)
			}
		}
		for range 5 {
			<-got
		}
		p.wantCalls(5 - map[bool]int{true: 1}[wave == 0])
	}
}

// onceLegacy is a legacy call, in a session or without.
func onceLegacy(session, id, method, params string) *mcp.Call {
	c := pipeCall("A", id, "x", "")
	c.Era, c.Version = mcp.EraLegacy, mcp.Version20251125
	c.Body = fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"method":%q,"params":{%s}}`, id, method, strings.TrimSuffix(params, ","))
	if c.Header.Del("Mcp-Method"); session != "" {
		c.Header.Set("Mcp-Session-Id", session)
	}
	if err := mcp.Scan(c.Body, &c.Message); err != nil {
		panic(err)
	}
	return c
}

// TestOnceArrayInvalidates: the notifications in an array that answers a list take effect (2025-03-26, basic/transports).
func TestOnceArrayInvalidates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept := true
		p := newPipe(t, nil, func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			if c.Method() == mcp.MethodPromptsList {
				return onceOwn["an array"](c), nil
			}
			if c.Method() == mcp.MethodInitialize {
				return pipeResult(`{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{}}}`), nil
			}
			return pipeAnswered(c, pipePrivate, fmt.Sprint(n, kept)), nil
		})
		p.ask(t.Context(), onceLegacy("", "0", "initialize", `"protocolVersion":"2025-11-25","capabilities":{},`))
		p.ask(t.Context(), pipeList("A", "1"))
		p.ask(t.Context(), pipeList("A", "2"))
		p.wantCalls(2)
		p.ask(t.Context(), onceLegacy("", "3", "prompts/list", ""))
		p.ask(t.Context(), pipeList("A", "4"))
		p.wantCalls(2)
	})
}

// TestOnceSessions: calls of sessions share nothing, not the wait either, and what becomes of one harms no other: a DELETE,
// a cancellation, an agent that leaves, a failure.
func TestOnceSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipe(t, nil, func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			switch {
			case c.Method() == mcp.MethodInitialize:
				res := pipeResult(`{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{}}}`)
				res.Header.Set("Mcp-Session-Id", "s")
				return res, nil
			case c.Lane != mcp.LaneRequest:
				return &mcp.Result{Status: 202, Header: header.List{}}, nil
			case string(c.ID()) == "1":
				return nil, pipeAfter(ctx, time.Hour)
			case string(c.ID()) == "2":
				return nil, &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes}
			}
			return pipeAnswered(c, pipePrivate, "own"), pipeAfter(ctx, time.Second)
		})
		p.ask(t.Context(), onceLegacy("", "0", "initialize", `"protocolVersion":"2025-11-25","capabilities":{},`))
		ctx, leave := context.WithCancel(t.Context())
		for _, id := range []string{"1", "2"} {
			go p.ask(ctx, onceLegacy("s", id, "tools/list", ""))
			synctest.Wait()
		}
		others := make(chan pipeReply, 3)
		for i := range 3 {
			go func() { others <- p.ask(t.Context(), onceLegacy("s", fmt.Sprint(3+i), "tools/list", "")) }()
			synctest.Wait()
		}
		p.wantCalls(1 + 5)
		cancel := onceLegacy("s", "9", "notifications/cancelled", `"requestId":1,`)
		cancel.Lane = mcp.LaneNotification
		p.ask(t.Context(), cancel)
		p.ask(t.Context(), &mcp.Call{Lane: mcp.LaneEnd, Era: mcp.EraLegacy, Header: cancel.Header})
		leave()
		for range 3 {
			if r := <-others; r.failure != nil || pipeText(r) != "own" || r.collapsed || r.at != time.Second {
				t.Errorf("got %+v", r)
			}
		}
		p.wantCalls(2)
	})
}
