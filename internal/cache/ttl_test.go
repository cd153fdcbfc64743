package cache_test

import (
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/mcp"
)

// rulesSix are the methods whose answers may be kept, with params that they take.
var rulesSix = map[string]string{
	"server/discover": "", "tools/list": "", "prompts/list": "", "resources/list": "", "resources/templates/list": "",
	"resources/read": `"uri":"file:///a"`,
}

func TestModernMethods(t *testing.T) {
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
		for method, params := range rulesSix {
			a := rulesModern(method).with(params)
			first := r.asks(method, a)
			if first.status() != "fwd=miss; stored" || first.ttl != "9000" {
				t.Errorf("%s: %s, ttlMs %s", method, first.status(), first.ttl)
			}
			if hit := r.hits(method, first.n, a.under(`"x"`)); hit.status() != "hit; ttl=9; detail=memory" {
				t.Errorf("%s: %s", method, hit.status())
			}
		}
		for method, params := range map[string]string{
			"prompts/get": `"name":"p"`, "completion/complete": `"ref":{"type":"ref/prompt","name":"p"}`, "tools/call": `"name":"t"`,
			"ping": "", "tasks/get": `"taskId":"1"`, "subscriptions/listen": "", "initialize": "", "nobody/knows": "",
		} {
			a := rulesModern(method).with(params)
			r.asks(method, a)
			if again := r.asks(method, a); again.status() != "fwd=bypass" {
				t.Errorf("%s: %s", method, again.status())
			}
		}
	})
}

// rulesLives asks, and checks that the answer is used for exactly that long.
func (r *rulesRig) rulesLives(what string, a rulesAsk, life time.Duration) {
	r.Helper()
	first := r.asks(what, a)
	if life == 0 {
		r.asks(what+", at once", a)
		return
	}
	r.after(life - time.Millisecond)
	r.hits(what+", a millisecond before its end", first.n, a)
	r.after(time.Millisecond)
	r.asks(what+", at its end", a)
}

func TestServerTTL(t *testing.T) {
	for ttl, life := range map[string]time.Duration{
		`1`: time.Millisecond, `9999`: 9999 * time.Millisecond, `0`: 0, `-1`: 0, `-9223372036854775809`: 0, `1e3`: 0, `1.0`: 0,
		`"1000"`: 0, `null`: 0, `true`: 0, `[1000]`: 0, `{"ttlMs":1000}`: 0,
	} {
		rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
			r.says(`"ttlMs":` + ttl)
			r.rulesLives("ttlMs "+ttl, rulesAsk{era: mcp.EraModern}, life)
		})
	}
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
		r.says(`"cacheScope":"private"`)
		r.rulesLives("no ttlMs", rulesAsk{era: mcp.EraModern}, 0)
	})
}

// TestLongLives is apart from TestServerTTL since long lives are shortened by chance, a twentieth at most.
func TestLongLives(t *testing.T) {
	const day = 24 * time.Hour
	for _, tt := range []struct {
		ttlMs  string
		o      cache.StageOptions
		longer time.Duration // than this it lives, nineteen twentieths taken already
		most   time.Duration
	}{
		{`60000`, cache.StageOptions{}, 57 * time.Second, time.Minute},
		{`60000`, cache.StageOptions{MaxTTL: 20 * time.Second}, 19 * time.Second, 20 * time.Second},
		{`1`, cache.StageOptions{MinTTL: 20 * time.Second}, 19 * time.Second, 20 * time.Second},
		{`172800000`, cache.StageOptions{}, day * 19 / 20, day},
		{`9223372036854775807`, cache.StageOptions{}, day * 19 / 20, day},
		{`99999999999999999999999999`, cache.StageOptions{}, day * 19 / 20, day},
		{`172800000`, cache.StageOptions{MaxTTL: 2 * day}, day * 19 / 20, day},
		{`60000`, cache.StageOptions{StaleIfError: time.Hour, StaleAfter: time.Second}, 57 * time.Second, time.Minute},
		{`172800000`, cache.StageOptions{StaleIfError: day, StaleWhileRevalidate: day}, day * 19 / 20, day},
		{`0`, cache.StageOptions{TTL: map[string]time.Duration{"tools/list": 2 * day}}, day * 19 / 20, day},
	} {
		rulesTest(t, tt.o, func(r *rulesRig) {
			r.says(`"ttlMs":` + tt.ttlMs)
			a := rulesModern("tools/list")
			first := r.asks(tt.ttlMs, a)
			r.after(tt.longer)
			r.hits(tt.ttlMs+" early", first.n, a)
			r.after(tt.most - tt.longer)
			if late := r.ask(a); late.n == first.n && late.ttl != "0" { // a stale one says 0
				t.Errorf("ttlMs %s, %+v: after %v it is %s, ttlMs %s", tt.ttlMs, tt.o, tt.most, late.status(), late.ttl)
			}
		})
	}
}

func TestOperatorTTL(t *testing.T) {
	ttl := map[string]time.Duration{"tools/list": 5 * time.Second, "prompts/list": 0, "resources/read": 5 * time.Second}
	for what, o := range map[string]cache.StageOptions{
		"alone": {TTL: ttl}, "above min_ttl": {TTL: ttl, MinTTL: 9 * time.Second},
	} {
		rulesTest(t, o, func(r *rulesRig) {
			for _, says := range []string{`"ttlMs":9000`, `"ttlMs":1`, `"ttlMs":0`, `"x":1`, `"ttlMs":"a"`} {
				r.says(says)
				r.rulesLives(what+", "+says, rulesModern("tools/list"), 5*time.Second)
				r.rulesLives(what+", "+says, rulesRead("file:///a"), 5*time.Second)
				r.rulesLives(what+", 0s, "+says, rulesModern("prompts/list"), 0)
				r.after(9 * time.Second)
			}
		})
	}
}

// TestClampsAreTheServers holds that min_ttl raises what a server said, where it said something: neither nothing nor 0.
func TestClampsAreTheServers(t *testing.T) {
	rulesTest(t, cache.StageOptions{MinTTL: 5 * time.Second, MaxTTL: 8 * time.Second}, func(r *rulesRig) {
		for says, life := range map[string]time.Duration{
			`"ttlMs":1`: 5 * time.Second, `"ttlMs":6000`: 6 * time.Second, `"ttlMs":9000`: 8 * time.Second, `"ttlMs":0`: 0, `"x":1`: 0,
			`"ttlMs":-5`: 0,
		} {
			r.says(says)
			r.rulesLives(says, rulesModern("tools/list"), life)
			r.after(8 * time.Second)
		}
	})
}

// TestOperatorTTLIsNotShown holds that nobody is told more than the server said.
func TestOperatorTTLIsNotShown(t *testing.T) {
	rulesTest(t, cache.StageOptions{TTL: map[string]time.Duration{"tools/list": time.Hour}}, func(r *rulesRig) {
		for says, shown := range map[string]string{
			`"x":1`: "", `"ttlMs":0`: "0", `"ttlMs":1000`: "0", `"ttlMs":5000`: "3000", `"ttlMs":"a"`: "0", `"ttlMs":-7`: "0",
		} {
			r.says(says)
			a := rulesModern("tools/list").with(`"cursor":` + strconv.Quote(says))
			r.ask(rulesModern("tools/list")) // page one
			first := r.asks(says, a)
			r.after(2 * time.Second)
			if hit := r.hits(says, first.n, a); hit.ttl != shown {
				t.Errorf("%s: a hit says %q, want %q", says, hit.ttl, shown)
			}
		}
	})
}

// TestRemainingTTL reads an answer at random ages.
func TestRemainingTTL(t *testing.T) {
	const ttl = 50_000 * time.Millisecond
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 3))
	for slow := range 2 {
		rulesTestTiers(t, slow, cache.StageOptions{}, func(r *rulesRig) {
			r.script(func(n int, c *mcp.Call) (*mcp.Result, error) {
				<-time.After(1234567 * time.Microsecond) // age counts from the end of the answer
				return rulesWhole(200, rulesAnswer(n, c, `"ttlMs":50000`)), nil
			})
			a := rulesModern("tools/list")
			r.asks("first", a)
			born := time.Now()
			for range 100 {
				if time.Since(born) >= ttl*9/10 {
					r.after(ttl)
					r.asks("first", a)
					born = time.Now()
				}
				r.after(time.Duration(random.Int64N(int64(2 * time.Second))))
				if slow > 0 && random.IntN(2) == 0 {
					r.forget() // what comes now comes from the tier behind
				}
				hit := r.ask(a)
				left, err := strconv.ParseInt(hit.ttl, 10, 64)
				off := time.Duration(left)*time.Millisecond - (ttl - time.Since(born))
				if err != nil || off.Abs() > 10*time.Millisecond {
					t.Fatalf("seed %d: at %v a hit says %s, %v off (%s)", seed, time.Since(born), hit.ttl, off, hit.status())
				}
			}
		})
	}
}
