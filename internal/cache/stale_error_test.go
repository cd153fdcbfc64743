package cache_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/mcp"
)

// TestStaleIfErrorLife has the server fail for ever: the expired answer is served instead for min(10 x TTL, stale_if_error).
func TestStaleIfErrorLife(t *testing.T) {
	for _, test := range []struct{ ttl, configured, life time.Duration }{
		{4 * time.Second, time.Hour, 40 * time.Second},
		{9 * time.Second, time.Hour, 90 * time.Second},
		{9 * time.Second, 20 * time.Second, 20 * time.Second},
		{time.Millisecond, time.Hour, 10 * time.Millisecond},
		{20 * time.Minute, time.Hour, time.Hour},
		{20 * time.Minute, 3 * time.Hour, 3 * time.Hour},
		{24 * time.Hour, 24 * time.Hour, 24 * time.Hour},
		{4 * time.Second, 0, 0},
	} {
		t.Run(fmt.Sprint(test.ttl, " ", test.configured), func(t *testing.T) {
			staleTest(t, cache.StageOptions{StaleIfError: test.configured}, "private", func(r *rig) {
				r.own.set(func() { r.own.ttl = test.ttl })
				r.want("a", "tools/list", "v1", "fwd=miss stored")
				r.breaks(badGateway)
				jitter := test.ttl / 20 // a long life may end so much before its time
				if test.ttl < 10*time.Second {
					jitter = 0
				}
				after(test.ttl)
				if test.life > 0 {
					after(test.life - jitter - time.Millisecond)
					if told := r.want("a", "tools/list", "v1", "stale-error"); !told.isStale() {
						t.Errorf("told %+v", told)
					}
					after(jitter + time.Millisecond)
				}
				if told := r.ask("a", "tools/list"); told.err == nil || told.err.Code != mcp.CodeBadGateway {
					t.Errorf("after its life: %+v", told)
				}
			})
		})
	}
}

// TestStaleForTroubleOnly has the server answer in all ways: an expired answer is given for trouble, and for nothing else.
func TestStaleForTroubleOnly(t *testing.T) {
	failure := func(code int, reason mcp.Reason) func(*mcp.Call) (*mcp.Result, error) {
		return func(*mcp.Call) (*mcp.Result, error) {
			return nil, &mcp.Failure{Code: code, Reason: reason, Sent: mcp.SentNo}
		}
	}
	status := func(code int, body string) func(*mcp.Call) (*mcp.Result, error) {
		return func(*mcp.Call) (*mcp.Result, error) { return rigBody(code, body), nil }
	}
	for name, test := range map[string]struct {
		comes func(*mcp.Call) (*mcp.Result, error)
		stale bool
	}{
		"1429":                {failure(mcp.CodeOverloaded, mcp.ReasonPoolWait), true},
		"1502":                {failure(mcp.CodeBadGateway, mcp.ReasonBrokeOff), true},
		"1502 bad answer":     {failure(mcp.CodeBadGateway, mcp.ReasonBadAnswer), true},
		"1503":                {failure(mcp.CodeUnavailable, mcp.ReasonConnect), true},
		"1504":                {failure(mcp.CodeDeadlinePassed, mcp.ReasonFirstByte), true},
		"429":                 {status(429, ""), true},
		"500":                 {status(500, "oh"), true},
		"502":                 {status(502, `{}`), true},
		"503":                 {status(503, ""), true},
		"599":                 {status(599, ""), true},
		"draining":            {func(*mcp.Call) (*mcp.Result, error) { return nil, mcp.Draining() }, false},
		"the session is over": {failure(mcp.CodeSessionRestart, ""), false},
		"too large":           {failure(mcp.CodeTooLarge, mcp.ReasonBodyTooLarge), false},
		"the agent left":      {failure(0, mcp.ReasonCanceled), false},
		"invalid":             {failure(mcp.CodeInvalidRequest, mcp.ReasonInvalidMessage), false},
		"400":                 {status(400, ""), false},
		"401":                 {unauthorized, false},
		"403":                 {status(403, ""), false},
		"404":                 {status(404, ""), false},
		"406":                 {status(406, ""), false},
		"a JSON-RPC error": {func(c *mcp.Call) (*mcp.Result, error) {
			return rigBody(200, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32603,"message":"no"}}`, c.ID())), nil
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			staleTest(t, cache.StageOptions{StaleIfError: time.Hour}, "private", func(r *rig) {
				r.want("a", "tools/list", "v1", "fwd=miss stored")
				after(staleTTL + time.Millisecond)
				want, err := test.comes(rigCall("a", "tools/list", 1))
				r.breaks(test.comes)
				told := r.ask("a", "tools/list")
				switch {
				case test.stale:
					if !told.isStale() || told.says != "v1" || told.from() != "stale-error" {
						t.Errorf("told %+v", told)
					}
				case err != nil:
					if told.err == nil || told.isStale() || name != "the agent left" && told.err.Error() != err.Error() { // a flight makes another one of that
						t.Errorf("told %+v, want %v", told, err)
					}
				case told.err != nil || told.status != want.Status || told.says != "" || told.isStale():
					t.Errorf("told %+v, want the status %d", told, want.Status)
				}
				if n := r.own.calls(); n != 2 {
					t.Errorf("the server was asked %d times", n)
				}
			})
		})
	}
}

// invalidations are what invalidates answers while a call for a new one is under way.
var invalidations = map[string]struct {
	options cache.StageOptions
	do      func(r *rig)
}{
	"a notification": {do: func(r *rig) { r.notify(rigTools, "") }},
	"a purge": {do: func(r *rig) {
		if _, _, err := r.store.Purge(context.Background(), "docs", "tools/list"); err != nil {
			r.tb.Error(err)
		}
	}},
	"a lost link": {do: func(r *rig) { r.store.Listener().Lost() }},
	"a refused credential": {do: func(r *rig) {
		script := r.own.script
		r.own.set(func() {
			r.own.script = func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
				if c.Method() == mcp.MethodPromptsList {
					return unauthorized(c)
				}
				return script(ctx, c, n)
			}
		})
		if told := r.ask("a", "prompts/list"); told.status != 401 {
			r.tb.Errorf("told %+v", told)
		}
	}},
}

// TestStaleNeverAcrossAnInvalidation invalidates the answer while the server is being called: then its failure is told, and it
// is waited for.
func TestStaleNeverAcrossAnInvalidation(t *testing.T) {
	for name, old := range invalidations {
		for _, scope := range []string{"private", "public"} {
			for _, when := range []time.Duration{time.Second, 10 * time.Second} {
				t.Run(fmt.Sprint(name, " ", scope, " ", when), func(t *testing.T) {
					staleTest(t, cache.StageOptions{StaleIfError: time.Hour}, scope, func(r *rig) {
						r.want("a", "tools/list", "v1", "fwd=miss stored")
						after(staleTTL)
						goOn := r.stalls("tools/list", badGateway)
						call := r.begin("a", "tools/list")
						after(500 * time.Millisecond)
						old.do(r)
						after(when - 500*time.Millisecond)
						if !call.running() {
							t.Fatalf("told %+v", call.told)
						}
						goOn()
						if told := call.end(); told.err == nil || told.err.Code != mcp.CodeBadGateway || call.took != when {
							t.Errorf("told %+v after %v", told, call.took)
						}
						if n := r.own.calls(); n > 3 {
							t.Errorf("the server was asked %d times", n)
						}
					})
				})
			}
		}
	}
}

// TestStaleNeverAcrossAToolsCall is the same for what the operator keeps and a tools/call may change.
func TestStaleNeverAcrossAToolsCall(t *testing.T) {
	o := cache.StageOptions{StaleIfError: time.Hour, FlushOnCall: true, TTL: map[string]time.Duration{"resources/read": staleTTL}}
	staleTest(t, o, "private", func(r *rig) {
		r.want("a", "resources/read file:///x", "v1", "fwd=miss stored")
		r.want("b", "resources/read file:///x", "v1", "fwd=miss stored")
		after(staleTTL)
		goOn := r.stalls("resources/read", badGateway)
		a, b := r.begin("a", "resources/read file:///x"), r.begin("b", "resources/read file:///x")
		r.want("a", "tools/call write", "v1", "fwd=bypass")
		goOn()
		if told := a.end(); told.err == nil {
			t.Errorf("told %+v", told)
		}
		r.wantEnd(b, "v1", "stale-error", 0) // nothing of b's has changed
	})
}

// TestStaleAfterARefusal has the server refuse the credential in the call itself: nothing of it is left.
func TestStaleAfterARefusal(t *testing.T) {
	for _, scope := range []string{"private", "public"} {
		t.Run(scope, func(t *testing.T) {
			staleTest(t, cache.StageOptions{StaleIfError: time.Hour}, scope, func(r *rig) {
				r.want("a", "tools/list", "v1", "fwd=miss stored")
				after(staleTTL)
				r.breaks(unauthorized)
				if told := r.ask("a", "tools/list"); told.status != 401 {
					t.Errorf("told %+v", told)
				}
				r.breaks(badGateway)
				if told := r.ask("a", "tools/list"); told.err == nil {
					t.Errorf("told %+v", told)
				}
			})
		})
	}
}

// TestStaleOfASlowTier has memory forget what a slow tier still has.
func TestStaleOfASlowTier(t *testing.T) {
	for _, scope := range []string{"private", "public"} {
		t.Run(scope, func(t *testing.T) {
			stacked(t, scope, func(r *rig, one, two *rigTier) {
				one.set(func() { one.fate = always(rigLoses, "write") })
				r.want("a", "tools/list", "v1", "fwd=miss stored")
				after(9 * time.Second)
				r.forget()
				r.breaks(badGateway)
				for range 3 {
					if told := r.want("a", "tools/list", "v1", "stale-error"); !told.isStale() {
						t.Errorf("told %+v", told)
					}
				}
				goOn := r.stalls("tools/list", r.plain)
				call := r.begin("a", "tools/list")
				r.wantEnd(call, "v1", "stale-slow", 2*time.Second)
				r.want("a", "tools/list", "v1", "stale-revalidating")
				r.own.set(func() { r.own.says = "v2" })
				goOn()
				r.want("a", "tools/list", "v2", "memory")
				if s := r.store.Stats(context.Background(), false).Upstreams[0]; s.Stale != 5 {
					t.Errorf("stats: %+v", s)
				}
			})
		})
	}
}

// TestTheLatestStaleCopy has tiers with answers of different age.
func TestTheLatestStaleCopy(t *testing.T) {
	stacked(t, "private", func(r *rig, one, two *rigTier) {
		r.want("a", "tools/list", "v1", "fwd=miss stored")
		after(8 * time.Second)
		one.set(func() { one.fate = always(rigLoses, "write") })
		r.mends("v2")
		r.want("a", "tools/list", "v2", "fwd=miss stored")
		after(8 * time.Second)
		r.forget()
		r.breaks(badGateway)
		r.want("a", "tools/list", "v2", "stale-error")
	})
}

// TestTurnedPublic has the server say of what was the principal's own that it is everybody's: the old copy hides nothing.
func TestTurnedPublic(t *testing.T) {
	stacked(t, "private", func(r *rig, _, _ *rigTier) {
		r.want("a", "tools/list", "v1", "fwd=miss stored")
		after(8 * time.Second)
		r.own.set(func() { r.own.scope, r.own.says = "public", "v2" })
		r.want("a", "tools/list", "v2", "fwd=miss stored")
		r.want("a", "tools/list", "v2", "memory")
		after(0)
		r.forget()
		r.want("a", "tools/list", "v2", "redis")
		after(8 * time.Second)
		r.forget()
		r.breaks(badGateway)
		r.want("a", "tools/list", "v2", "stale-error")
	})
}
