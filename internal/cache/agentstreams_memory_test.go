package cache_test

import (
	"testing"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/cache/worker"
)

// TestSubscribedListsStayInMemory: a legacy list that is kept because a change of it would be received, or because sessions were
// seen not to differ, goes to no tier: after a restart, or in another daemon, nobody knows what was said meanwhile. One that
// is kept by the operator's word goes there.
func TestSubscribedListsStayInMemory(t *testing.T) {
	word := map[string]time.Duration{"tools/list": 9 * time.Second, "prompts/list": 9 * time.Second, "resources/list": 9 * time.Second}
	for what, tt := range map[string]struct {
		o      cache.StageOptions
		stream bool
		behind bool
	}{
		"a stream":                     {cache.StageOptions{Scope: cache.ScopeSession}, true, false},
		"a stream, learned":            {cache.StageOptions{}, true, false},
		"learned":                      {cache.StageOptions{}, false, false},
		"a credential's":               {cache.StageOptions{Scope: cache.ScopeCredential}, true, false},
		"the operator's word":          {cache.StageOptions{Scope: cache.ScopeSession, TTL: word}, false, true},
		"the operator's word, learned": {cache.StageOptions{TTL: word}, true, true},
	} {
		for _, method := range []string{"tools/list", "prompts/list", "resources/list"} {
			disk := newRigDisk()
			tier := newRigTier("redis", disk)
			subscribed := func(r *rulesRig) (leave func()) {
				r.initialize("", "{}", rulesTells)
				if !tt.stream {
					return func() {}
				}
				return r.listen("", "a").leave
			}
			list := rulesLegacy(method)
			withRig(t, cache.StoreOptions{}, tt.o, []worker.Options{slow(tier)}, func(r *rulesRig) {
				defer subscribed(r)()
				for range 4 {
					r.ask(list)
				}
				if behind := len(disk.keys()) > 0; behind != tt.behind {
					t.Errorf("%s, %s: it went behind memory: %v", what, method, behind)
				}
				if asked := len(tier.did("read")) > 0; asked && !tt.behind {
					t.Errorf("%s, %s: a tier was asked for what it cannot have", what, method)
				}
			})
			withRig(t, cache.StoreOptions{}, tt.o, []worker.Options{slow(newRigTier("redis", disk))}, func(r *rulesRig) {
				defer subscribed(r)()
				before := r.server.asked()
				r.ask(list)
				if fresh := r.server.asked() == before; fresh != tt.behind {
					t.Errorf("%s, %s: it is fresh after a restart: %v", what, method, fresh)
				}
			})
		}
	}
}

// TestStreamsTellNoTier: that a stream begins and ends is nothing to a tier: nothing there depends on it.
func TestStreamsTellNoTier(t *testing.T) {
	tier := newRigTier("redis", newRigDisk())
	withRig(t, cache.StoreOptions{}, cache.StageOptions{}, []worker.Options{slow(tier)}, func(r *rulesRig) {
		for _, sessionID := range []string{"", "s"} {
			r.initialize(sessionID, "{}", rulesTells)
			for range 3 {
				one, two := r.listen(sessionID, "a"), r.listen(sessionID, "a")
				r.ask(rulesLegacy("tools/list").in(sessionID))
				one.end()
				two.leave()
			}
		}
		if n := len(tier.did("bump")); n != 0 {
			t.Errorf("the tier was told %d times", n)
		}
	})
}
