package rpc_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/batch/rpc"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

const onePay = `[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"pay"}}]`

// failsAfter runs every tools/call and then says what fail says; all else is the server's.
func failsAfter(s *eraServer, fail func(c *mcp.Call) *mcp.Result) mcp.CallerFunc {
	return func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
		res, err := s.call(ctx, c)
		if err != nil || c.Method() != mcp.MethodToolsCall {
			return res, err
		}
		return fail(c), nil
	}
}

// toolErrors are what a tools/call may say after it ran.
var toolErrors = map[string]func(c *mcp.Call) *mcp.Result{
	"words": func(c *mcp.Call) *mcp.Result {
		return whole(400, errorBody(c, -32000, "payment stored, receipt conversion failed"))
	},
	"data": func(c *mcp.Call) *mcp.Result {
		return whole(400, strings.Replace(errorBody(c, -32001, "payment stored"), `"message"`, `"data":{"at":"PaymentSession.java:12, initialized, protocol version 3"},"message"`, 1))
	},
	"a session of its own": func(c *mcp.Call) *mcp.Result {
		return whole(400, errorBody(c, -32000, "the checkout session has expired"))
	},
	"a version of its own": func(c *mcp.Call) *mcp.Result {
		return whole(400, errorBody(c, -32000, "protocol version 3 of the till"))
	},
	"what another server said of its session": func(c *mcp.Call) *mcp.Result {
		return whole(400, errorBody(c, -32000, "Bad Request: No valid session ID provided"))
	},
	"not found":                       func(c *mcp.Call) *mcp.Result { return whole(404, errorBody(c, -32001, "no such account")) },
	"what another server misses":      func(c *mcp.Call) *mcp.Result { return whole(200, errorBody(c, -32022, "unsupported")) },
	"what another server finds wrong": func(c *mcp.Call) *mcp.Result { return whole(200, errorBody(c, -32020, "header mismatch")) },
}

// TestArrayRanAndFailed hands on what a tool said after it ran, and does not run it again, on either era. The next array
// finds its way.
func TestArrayRanAndFailed(t *testing.T) {
	for name, fail := range toolErrors {
		for _, s := range []*eraServer{
			{modern: true}, {legacy: true, mints: true, modernRefusal: legacyRefusals["text"]}, {legacy: true, modernRefusal: legacyRefusals["text"]},
		} {
			r := newArrayRig(failsAfter(s, fail), nil)
			for n := 1; n <= 2; n++ {
				got := r.answers(t, t.Context(), onePay)
				if got[0].Error == nil || got[0].Error.Data.Reason != "" {
					t.Errorf("%s: got %v, want the server's own", name, got[0])
				}
				if len(s.ran) != n {
					t.Errorf("%s, modern %v, sessions %v: the tool ran %d times, want %d", name, s.modern, s.mints, len(s.ran), n)
				}
			}
			r.close(t)
			s.blameless(t)
		}
	}
}

// TestArrayDoubtfulLoss lets a server become a legacy one that says so in words that a tool might use: what may run twice on a
// session is sent again, and of the era the next array asks.
func TestArrayDoubtfulLoss(t *testing.T) {
	s := &eraServer{modern: true}
	r := newArrayRig(s.call, nil)
	prompts := `[{"jsonrpc":"2.0","id":1,"method":"prompts/list"}]`
	wantReplies(t, r.answers(t, t.Context(), prompts), `1: "2026-07-28"`)
	s.mu.Lock()
	s.modern, s.legacy, s.mints, s.modernRefusal = false, true, true, legacyRefusals["no session"]
	s.mu.Unlock()
	wantReplies(t, r.answers(t, t.Context(), prompts), "1: error -32000 , sent ")
	wantReplies(t, r.answers(t, t.Context(), prompts), `1: "session-12025-06-18"`)
	if n := len(r.sent("server/discover")); n != 2 {
		t.Errorf("discover was called %d times, want 2", n)
	}
	r.close(t)
	s.blameless(t)
}

// TestArrayLostIn400 has a server say with 400 that it has lost the session: what may run twice goes on a new one, and a
// tools/call is the caller's to send again.
func TestArrayLostIn400(t *testing.T) {
	s := &eraServer{legacy: true, modernRefusal: legacyRefusals["text"]}
	lost := false
	r := newArrayRig(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
		if lost && c.Message.Kind == mcp.KindRequest && c.Method() != mcp.MethodInitialize {
			lost = false
			return whole(400, errorBody(c, -32000, "Bad Request: No valid session ID provided")), nil
		}
		return s.call(ctx, c)
	}, nil)
	prompts := `[{"jsonrpc":"2.0","id":1,"method":"prompts/list"}]`
	wantReplies(t, r.answers(t, t.Context(), prompts), `1: "2025-06-18"`)
	lost = true
	wantReplies(t, r.answers(t, t.Context(), prompts), `1: "2025-06-18"`)
	lost = true
	wantReplies(t, r.answers(t, t.Context(), onePay), "1: error -32000 , sent ")
	wantReplies(t, r.answers(t, t.Context(), onePay), `1: "2025-06-18"`)
	if len(s.ran) != 1 || s.minted != 3 {
		t.Errorf("the tool ran %d times on %d sessions, want 1 and 3", len(s.ran), s.minted)
	}
	r.close(t)
}

// TestArrayLostWords: a session that a server has lost, in whatever words of the SDKs', is opened anew, and a tools/call that
// did not run goes there. What may be about something else is the caller's to see, and ends no session.
func TestArrayLostWords(t *testing.T) {
	for name, x := range map[string]struct {
		reply func(c *mcp.Call) *mcp.Result
		lost  bool
	}{
		"gone":               {func(*mcp.Call) *mcp.Result { return whole(410, "") }, true},
		"mcp-go":             {func(*mcp.Call) *mcp.Result { return whole(400, "Invalid session ID") }, true},
		"typescript":         {func(*mcp.Call) *mcp.Result { return whole(404, "Session not found") }, true},
		"typescript, json":   {func(*mcp.Call) *mcp.Result { return whole(404, lostError("Session not found")) }, true},
		"python":             {func(*mcp.Call) *mcp.Result { return whole(404, lostError("Not Found: Session has been terminated")) }, true},
		"not initialized":    {func(*mcp.Call) *mcp.Result { return whole(400, lostError("Bad Request: Server not initialized")) }, true},
		"sessions run out":   {func(*mcp.Call) *mcp.Result { return whole(503, "too many sessions") }, false},
		"not signed in":      {func(*mcp.Call) *mcp.Result { return whole(401, "no session cookie") }, false},
		"an account is gone": {func(c *mcp.Call) *mcp.Result { return whole(404, errorBody(c, -32001, "no such account")) }, false},
	} {
		s := &eraServer{legacy: true, mints: true, modernRefusal: legacyRefusals["text"]}
		lost := false
		r := newArrayRig(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
			if lost && c.Lane == mcp.LaneRequest {
				lost = false
				return x.reply(c), nil
			}
			return s.call(ctx, c)
		}, nil)
		r.answers(t, t.Context(), ping2)
		lost = true
		if got := r.answers(t, t.Context(), onePay); (got[0].Error == nil) != x.lost {
			t.Errorf("%s: %v, lost %v", name, got, x.lost)
		}
		if minted := map[bool]int{true: 2, false: 1}[x.lost]; s.minted != minted {
			t.Errorf("%s: %d sessions, want %d", name, s.minted, minted)
		}
		if sent := len(r.sent("tools/call")); len(s.ran) > 1 || sent != s.minted {
			t.Errorf("%s: the tool ran %d times, of %d requests", name, len(s.ran), sent)
		}
		r.close(t)
	}
}

// lostError is an error about a session, which has no id.
func lostError(message string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":%q}}`, message)
}

// TestArrayUnproved speaks modern to a server that never said so by a DiscoverResult: a transport of a legacy one has not
// run what it did not look into.
func TestArrayUnproved(t *testing.T) {
	for words, runs := range map[string]int{"Bad Request: Server not initialized": 1, "payment session closed": 0} {
		s := &eraServer{legacy: true}
		s.modernRefusal = func(c *mcp.Call) *mcp.Result {
			if c.Method() == mcp.MethodServerDiscover {
				return whole(400, errorBody(c, -32020, "header mismatch"))
			}
			return whole(400, errorBody(c, -32000, words))
		}
		r := newArrayRig(s.call, nil)
		r.answers(t, t.Context(), onePay)
		if len(s.ran) != runs {
			t.Errorf("%s: %d legacy calls of the tool, want %d", words, len(s.ran), runs)
		}
		r.close(t)
	}
}

// TestArrayNothingTaken fails an array of notifications of which the server took none, as the one is that is the likeliest
// to have been sent; one that was taken makes it 202.
func TestArrayNothingTaken(t *testing.T) {
	r := newArrayRig(func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
		switch methodOf(c) {
		case "sent":
			return nil, &mcp.Failure{Code: 1504, Reason: mcp.ReasonFirstByte, Sent: mcp.SentYes}
		case "unknown":
			return nil, &mcp.Failure{Code: 1502, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentUnknown}
		case "unsent":
			return nil, &mcp.Failure{Code: 1502, Reason: mcp.ReasonConnect, Sent: mcp.SentNo}
		case "canceled":
			return nil, &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentNo}
		}
		return accept202()
	}, func(o *rpc.Options) { o.Plain = true })
	for methods, reason := range map[string]mcp.Reason{
		"unsent":                     mcp.ReasonConnect,
		"unsent unsent":              mcp.ReasonConnect,
		"unsent unknown":             mcp.ReasonBrokeOff,
		"unknown unsent":             mcp.ReasonBrokeOff,
		"unsent sent unknown unsent": mcp.ReasonFirstByte,
		"canceled":                   mcp.ReasonBrokeOff,
		"unsent taken":               "",
	} {
		var elements []string
		for _, m := range strings.Fields(methods) {
			elements = append(elements, `{"jsonrpc":"2.0","method":"`+m+`"}`)
		}
		status, body, err := r.ask(t.Context(), arrayCall(joinElements(elements)))
		if reason == "" {
			if status != 202 || body != "" || err != nil {
				t.Errorf("%s got %d %s, %v, want 202", methods, status, body, err)
			}
			continue
		}
		if f, ok := err.(*mcp.Failure); !ok || f.Reason != reason || f.Code == 0 {
			t.Errorf("%s got %d %s, %v, want %s", methods, status, body, err, reason)
		}
	}
	r.close(t)
}

// asking is a stream on which a server asks, and answers when it was answered.
type asking struct {
	ctx      context.Context
	call     *mcp.Call
	request  string
	said     bool
	received chan string
}

func (a *asking) Next() (mcp.Event, error) {
	ev := mcp.Event{Data: []byte(a.request)}
	if a.said {
		select {
		case <-a.ctx.Done():
			return mcp.Event{}, after(a.ctx, time.Hour)
		case said := <-a.received:
			ev.Data, ev.Answer = []byte(okBody(a.call, said)), true
		}
	}
	a.said = true
	if err := mcp.Scan(ev.Data, &ev.Message); err != nil {
		panic(err)
	}
	return ev, nil
}

func (a *asking) Close() error { return nil }

// TestArrayAsked declines what a server asks on the stream of an element, on the session of the element, and answers a ping.
func TestArrayAsked(t *testing.T) {
	const nobody = `{"jsonrpc":"2.0","id":"q","error":{"code":-32601,"message":"nobody can be asked in an array of calls"}}`
	for _, x := range []struct{ request, takes, want string }{
		{`{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{}}`, "yes", "1: " + nobody},
		{`{"jsonrpc":"2.0","id":"q","method":"sampling/createMessage","params":{}}`, "yes", "1: " + nobody},
		{`{"jsonrpc":"2.0","id":7,"method":"ping"}`, "yes", `1: {"jsonrpc":"2.0","id":7,"result":{}}`},
		{`{"jsonrpc":"2.0","id":7,"method":"roots/list"}`, "no", "1: error 1502 broke_off, sent yes"},
		{`{"jsonrpc":"2.0","id":7,"method":"roots/list"}`, "never", "1: error 1502 broke_off, sent yes"},
	} {
		synctest.Test(t, func(t *testing.T) {
			received := make(chan string, 1)
			r := newArrayRig(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
				if c.Lane != mcp.LaneResponse {
					return &mcp.Result{Status: 200, Header: header.List{}, Events: &asking{ctx: ctx, call: c, request: x.request, received: received}}, nil
				}
				asScanned(t, c)
				if c.Header.Get("Mcp-Session-Id") != "mine" || c.Version != "2025-11-25" || c.Era != mcp.EraLegacy {
					t.Errorf("the answer went out with %v, %s", c.Header, c.Version)
				}
				switch x.takes {
				case "no":
					return whole(404, ""), nil
				case "never":
					return nil, after(ctx, time.Hour)
				}
				received <- string(c.Body)
				return accept202()
			}, nil)
			begun := time.Now()
			wantReplies(t, r.answers(t, t.Context(), onePay, "Mcp-Session-Id", "mine", "Mcp-Protocol-Version", "2025-11-25"), x.want)
			if took := time.Since(begun); took > time.Minute {
				t.Errorf("%s: it took %v", x.request, took)
			}
			r.close(t)
		})
	}
}
