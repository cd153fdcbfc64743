package cache_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/cache/worker"
)

// TestLifeUnderAnotherName: two upstreams with the same server share what it said, and each serves it for as long as its
// own configuration lets it live.
func TestLifeUnderAnotherName(t *testing.T) {
	const hour = time.Hour
	forAll := func(ttl time.Duration) map[string]time.Duration {
		m := make(map[string]time.Duration)
		for method := range rulesSix {
			m[method] = ttl
		}
		return m
	}
	for name, tt := range map[string]struct {
		says       string
		one, other cache.StageOptions
		life       time.Duration // under the other name
	}{
		"no TTL":          {`"ttlMs":0`, cache.StageOptions{TTL: forAll(hour), StaleIfError: hour}, cache.StageOptions{StaleIfError: hour}, 0},
		"the server's":    {`"ttlMs":3000`, cache.StageOptions{TTL: forAll(hour)}, cache.StageOptions{}, 3 * time.Second},
		"a shorter TTL":   {`"ttlMs":0`, cache.StageOptions{TTL: forAll(hour)}, cache.StageOptions{TTL: forAll(5 * time.Second)}, 5 * time.Second},
		"a TTL of 0":      {`"ttlMs":9000`, cache.StageOptions{}, cache.StageOptions{TTL: forAll(0)}, 0},
		"a longer TTL":    {`"ttlMs":9000`, cache.StageOptions{}, cache.StageOptions{TTL: forAll(hour)}, 9 * time.Second},
		"a lower max_ttl": {`"ttlMs":900000`, cache.StageOptions{}, cache.StageOptions{MaxTTL: 30 * time.Second}, 30 * time.Second},
		"no min_ttl":      {`"ttlMs":1000`, cache.StageOptions{MinTTL: 9 * time.Second}, cache.StageOptions{}, time.Second},
		"public":          {`"ttlMs":900000,"cacheScope":"public"`, cache.StageOptions{}, cache.StageOptions{MaxTTL: 30 * time.Second}, 30 * time.Second},
	} {
		for method, params := range rulesSix {
			withRig(t, cache.StoreOptions{}, tt.one, nil, func(r *rulesRig) {
				what, a, life := name+", "+method, rulesModern(method).with(params), tt.life
				if method == "resources/read" && (tt.one.TTL == nil) != (tt.other.TTL == nil) {
					life = 0 // one kept by the operator's word ends with a tools/call as well: it is another entry
				}
				_, caller := r.another("other", "https://docs.example.com/mcp", tt.other)
				other := r.through(caller)
				r.says(tt.says)
				other.accept("a")
				first := r.asks(what, a)
				if life > 0 {
					r.after(life - time.Millisecond)
					other.hits(what+", a millisecond before its end", first.n, a)
					r.after(time.Millisecond)
				}
				r.fails()
				p := other.ask(a)
				if p.code != 503 {
					t.Errorf("%s: at its end: %d, %s", what, p.code, p.status())
				}
			})
		}
	}
}

// TestLifeOverARestart: what a tier kept under the last configuration lives as the present one says, in time and as a
// stand-in for a failing server.
func TestLifeOverARestart(t *testing.T) {
	const ttl = `"ttlMs":9000`
	long := cache.StageOptions{TTL: map[string]time.Duration{"tools/list": 9 * time.Second}, StaleIfError: time.Hour}
	for name, tt := range map[string]struct {
		says        string
		before, now cache.StageOptions
		life, stale time.Duration // since the answer came; stale is until when it is served where the server fails
	}{
		"as it was":             {ttl, long, long, 9 * time.Second, 99 * time.Second},
		"TTL removed":           {`"ttlMs":0`, long, cache.StageOptions{StaleIfError: time.Hour}, 0, 0},
		"TTL lowered":           {ttl, long, cache.StageOptions{TTL: map[string]time.Duration{"tools/list": time.Second}, StaleIfError: time.Hour}, time.Second, 11 * time.Second},
		"TTL raised":            {ttl, long, cache.StageOptions{TTL: map[string]time.Duration{"tools/list": time.Hour}, StaleIfError: time.Hour}, 9 * time.Second, 99 * time.Second},
		"max_ttl lowered":       {ttl, cache.StageOptions{StaleIfError: time.Hour}, cache.StageOptions{MaxTTL: 4 * time.Second, StaleIfError: time.Hour}, 4 * time.Second, 44 * time.Second},
		"stale_if_error off":    {ttl, long, cache.StageOptions{TTL: long.TTL}, 9 * time.Second, 9 * time.Second},
		"stale_if_error lower":  {ttl, long, cache.StageOptions{TTL: long.TTL, StaleIfError: 5 * time.Second}, 9 * time.Second, 14 * time.Second},
		"stale_if_error higher": {ttl, cache.StageOptions{TTL: long.TTL, StaleIfError: 5 * time.Second}, long, 9 * time.Second, 14 * time.Second},
	} {
		for _, at := range []struct {
			when time.Duration
			code int
		}{{tt.life - time.Millisecond, 200}, {tt.life, 0}, {tt.stale - time.Millisecond, 0}, {tt.stale, 503}} {
			if at.when < 0 {
				continue
			}
			withRig(t, cache.StoreOptions{}, tt.before, nil, func(r *rulesRig) {
				tier := new(rulesSlow)
				r.lend(tier)
				r.says(tt.says)
				r.asks("before", rulesModern("tools/list"))
				next := newMendedRig(t, cache.StoreOptions{}, tt.now)
				defer next.close()
				next.lend(tier)
				next.fails()
				next.after(at.when)
				p := next.ask(rulesModern("tools/list"))
				fresh, stale := at.when < tt.life, at.when < tt.stale
				if want := map[bool]int{true: 200, false: 503}[stale]; p.code != want {
					t.Errorf("%s, after %v: %d, want %d (%s)", name, at.when, p.code, want, p.status())
				}
				if next.server.asked() == 0 != fresh {
					t.Errorf("%s, after %v: %s, want it fresh: %v", name, at.when, p.status(), fresh)
				}
			})
		}
	}
}

// TestInertHeadersMakePartitions: what was kept under another list of inert headers was kept for others, and is for
// nobody under this one. The order and the spelling of a list mean nothing.
func TestInertHeadersMakePartitions(t *testing.T) {
	for name, tt := range map[string]struct {
		before, now []string
		same        bool
	}{
		"shorter":    {[]string{"x-user", "x-window"}, []string{"x-window"}, false},
		"longer":     {nil, []string{"x-user"}, false},
		"empty":      {[]string{"x-user"}, nil, false},
		"another":    {[]string{"x-user"}, []string{"x-tenant"}, false},
		"respelled":  {[]string{"x-user", "X-WINDOW"}, []string{"X-Window", "x-User"}, true},
		"with twins": {[]string{"x-user"}, []string{"X-User", "x-user"}, true},
	} {
		withRig(t, cache.StoreOptions{Inert: tt.before}, cache.StageOptions{}, nil, func(r *rulesRig) {
			tier := new(rulesSlow)
			r.lend(tier)
			user, a := rulesModern("tools/list").field("X-User", "bob"), rulesModern("tools/list")
			first := r.asks(name, user)
			if tt.before == nil {
				first = r.asks(name, a)
			}
			next := newMendedRig(t, cache.StoreOptions{Inert: tt.now}, cache.StageOptions{})
			defer next.close()
			next.lend(tier)
			if tt.same {
				next.hits(name, first.n, a)
				return
			}
			next.asks(name, a)
			next.asks(name+", another credential", user.by("b"))
		})
	}
}

// TestBumpBeforeMemoryIsRead invalidates an answer between the two halves' looks at memory: it may be served in place of a failing
// server no more. The link to other daemons is asked for in the middle of such a look, which is where the change comes.
func TestBumpBeforeMemoryIsRead(t *testing.T) {
	for look := int64(1); look <= 2; look++ {
		tier := &linkedTier{rigTier: newRigTier("redis", newRigDisk())}
		one := slow(tier)
		one.Shared = true
		withRig(t, cache.StoreOptions{}, cache.StageOptions{StaleIfError: time.Hour}, []worker.Options{one}, func(r *rulesRig) {
			a := rulesModern("tools/list")
			first := r.asks("first", a)
			r.forget()
			r.hits("from the tier", first.n, a)
			r.after(20 * time.Second)
			r.fails()
			if p := r.ask(a); !strings.Contains(p.status(), "stale-error") {
				t.Fatalf("nothing stands in: %d %s", p.code, p.status())
			}
			tier.looks.Store(0)
			stream := r.listen("", "z")
			tier.on = func(n int64) {
				if n == look {
					tier.on = nil
					stream.say(`{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`)
				}
			}
			if p := r.ask(a); p.code != 503 || tier.on != nil {
				t.Errorf("made old at the look %d: %d %s", look, p.code, p.status())
			}
			stream.end()
		})
	}
}

// linkedTier is a tier that others share, which tells when somebody asks whether the link to them stands.
type linkedTier struct {
	*rigTier
	looks atomic.Int64
	on    func(n int64) // n counts from 1
}

func (t *linkedTier) Linked() bool {
	n := t.looks.Add(1)
	if t.on != nil {
		t.on(n)
	}
	return true
}
