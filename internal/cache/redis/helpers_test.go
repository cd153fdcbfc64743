package redis_test

import (
	"context"
	"crypto/rand"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/cache/redis"
	"fluentd-perf/internal/cache/tier"
)

// thing is a key with one generation, which tests store and look for.
type thing struct {
	key tier.Key
	gen tier.Generation
}

func newThing() (x thing) {
	rand.Read(x.key[:])
	rand.Read(x.gen[:])
	return x
}

func (x thing) lookups() []tier.Lookup {
	return []tier.Lookup{{Key: x.key, Generations: []tier.Generation{x.gen}}}
}

func (x thing) writes(value string, tokens []tier.Token) []tier.Write {
	return []tier.Write{{
		Key: x.key, Value: []byte(value), Expires: time.Now().Add(time.Hour),
		Guard: tier.Guard{Generations: []tier.Generation{x.gen}, Tokens: tokens},
	}}
}

// read looks for the thing and returns its value, empty where there is none.
func read(tb testing.TB, rt *redis.Tier, x thing) (value string, tokens []tier.Token) {
	tb.Helper()
	found, err := rt.Read(context.Background(), x.lookups())
	if err != nil {
		tb.Fatal(err)
	}
	return string(found[0].Value), found[0].Tokens
}

func want(tb testing.TB, rt *redis.Tier, x thing, value string) {
	tb.Helper()
	if got, _ := read(tb, rt, x); got != value {
		tb.Fatalf("got %q, want %q", got, value)
	}
}

// store reads the tokens and writes the value under them.
func store(tb testing.TB, rt *redis.Tier, x thing, value string) (tokens []tier.Token) {
	tb.Helper()
	_, tokens = read(tb, rt, x)
	if err := rt.Write(context.Background(), x.writes(value, tokens)); err != nil {
		tb.Fatal(err)
	}
	return tokens
}

func bump(tb testing.TB, rt *redis.Tier, x thing) {
	tb.Helper()
	if err := rt.Bump(context.Background(), []tier.Generation{x.gen}); err != nil {
		tb.Fatal(err)
	}
}

// works says whether the tier stores a thing and finds it.
func works(rt *redis.Tier) bool {
	ctx, x := context.Background(), newThing()
	found, err := rt.Read(ctx, x.lookups())
	if err != nil || rt.Write(ctx, x.writes("it works", found[0].Tokens)) != nil {
		return false
	}
	found, err = rt.Read(ctx, x.lookups())
	return err == nil && string(found[0].Value) == "it works"
}

// recorder is a listener that counts.
type recorder struct {
	mu     sync.Mutex // guards the following
	bumped map[tier.Generation]int
	lost   int
}

func newRecorder() *recorder { return &recorder{bumped: map[tier.Generation]int{}} }

// listen is an option of newTier.
func (r *recorder) listen(o *redis.Options) {
	o.Listener = tier.Listener{
		Bumped: func(generations []tier.Generation) {
			r.mu.Lock()
			defer r.mu.Unlock()
			for _, g := range generations {
				r.bumped[g]++
			}
		},
		Lost: func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.lost++
		},
	}
}

func (r *recorder) has(g tier.Generation) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bumped[g] > 0
}

func (r *recorder) losses() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}
