package cache_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/cache/worker"
	"fluentd-perf/internal/mcp"
)

// unkeptAnswers are answers that are not kept, however often they come.
var unkeptAnswers = map[string]func(n int, c *mcp.Call) *mcp.Result{
	"ttlMs 0": func(n int, c *mcp.Call) *mcp.Result { return rulesWhole(200, rulesAnswer(n, c, `"ttlMs":0`)) },
	"public, 0": func(n int, c *mcp.Call) *mcp.Result {
		return rulesWhole(200, rulesAnswer(n, c, `"ttlMs":0,"cacheScope":"public"`))
	},
	"no ttlMs": func(n int, c *mcp.Call) *mcp.Result { return rulesWhole(200, rulesAnswer(n, c, "")) },
	"an error": func(_ int, c *mcp.Call) *mcp.Result { return rulesError(c, 200, -32601) },
	"input_required": func(n int, c *mcp.Call) *mcp.Result {
		return rulesWhole(200, rulesAnswer(n, c, `"ttlMs":9000,"resultType":"input_required"`))
	},
	"framed": func(n int, c *mcp.Call) *mcp.Result { return rulesStream(c, rulesData(rulesAnswer(n, c, `"ttlMs":0`))) },
	"with progress": func(n int, c *mcp.Call) *mcp.Result {
		return rulesStream(c, rulesData(rulesProgress)+rulesData(rulesAnswer(n, c, `"ttlMs":9000`)))
	},
	"larger than kept": func(n int, c *mcp.Call) *mcp.Result {
		return rulesWhole(200, rulesAnswer(n, c, `"ttlMs":9000,"x":"`+strings.Repeat("x", 600_000)+`"`))
	},
}

// TestNothingIsReadThatCannotHaveIt: a request whose last answer could not be kept costs no tier anything, however its
// trace context and id change, and nothing is told it; what can be kept again is.
func TestNothingIsReadThatCannotHaveIt(t *testing.T) {
	for what, give := range unkeptAnswers {
		t.Run(what, func(t *testing.T) {
			file, shared := newRigTier("database", newRigDisk()), newRigTier("redis", newRigDisk())
			withRig(t, cache.StoreOptions{}, cache.StageOptions{}, []worker.Options{slow(shared), slow(rigFile{file})}, func(r *rulesRig) {
				r.script(func(n int, c *mcp.Call) (*mcp.Result, error) { return give(n, c), nil })
				list := rulesModern("tools/list")
				ops := func() (n int) {
					for _, name := range []string{"read", "write", "bump", "delete"} {
						n += len(file.did(name)) + len(shared.did(name))
					}
					return n
				}
				r.ask(list)
				r.ask(list.with(`"cursor":"c"`))
				before := ops()
				for i := range 100 {
					r.ask(list.under(strconv.Itoa(i)).also(`"traceparent":"` + strconv.Itoa(i) + `"`))
					r.ask(list.with(`"cursor":"c"`))
				}
				if n := ops() - before; n != 0 {
					t.Errorf("%d trips to the tiers after the first answer", n)
				}
				r.ask(list.by("b"))
				if ops() == before {
					t.Error("the tiers are not asked for another credential")
				}
				r.says(`"ttlMs":9000,"cacheScope":"private"`)
				r.asks("it may be kept", list)
				r.after(10 * time.Second)
				kept := r.asks("it may be kept", list)
				r.hits("memory", kept.n, list)
				r.forget()
				r.hits("a tier", kept.n, list)
			})
		})
	}
}

// TestAFailureIsNoAnswer: what fails says nothing of what may be kept: the tiers are asked all the same, for they may have
// an answer that is served instead.
func TestAFailureIsNoAnswer(t *testing.T) {
	tier := newRigTier("redis", newRigDisk())
	withRig(t, cache.StoreOptions{}, cache.StageOptions{StaleIfError: time.Hour}, []worker.Options{slow(tier)}, func(r *rulesRig) {
		list := rulesModern("tools/list")
		kept := r.asks("kept", list)
		r.after(10 * time.Second)
		for range 3 {
			r.forget()
			r.servedStale("from the tier", kept.n, list, true)
		}
	})
}

// TestAPrivateAnswerStillWithdraws: what the tiers have for everybody goes with the first private answer, though that cannot be kept.
func TestAPrivateAnswerStillWithdraws(t *testing.T) {
	tier := newRigTier("redis", newRigDisk())
	withRig(t, cache.StoreOptions{}, cache.StageOptions{}, []worker.Options{slow(tier)}, func(r *rulesRig) {
		list := rulesModern("tools/list")
		r.says(`"ttlMs":9000,"cacheScope":"public"`)
		r.accept("a")
		r.accept("b")
		kept := r.asks("for everybody", list)
		r.hits("for everybody", kept.n, list.by("b"))
		r.after(8 * time.Second)
		r.says(`"ttlMs":0,"cacheScope":"private"`)
		r.forget()
		r.hits("the tier's", kept.n, list)
		r.after(2 * time.Second)
		r.asks("private", list)
		r.forget()
		r.asks("nobody gets it", list.by("b"))
	})
}
