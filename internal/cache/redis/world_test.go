package redis_test

import (
	"context"
	"crypto/rand"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/cache/redis"
)

// thing is a key with one generation, which tests store and look for.
type thing struct {
	key cache.Key
	gen cache.Generation
}

func newThing() (x thing) {
	rand.Read(x.key[:])
	rand.Read(x.gen[:])
	return x
}

func (x thing) lookups() []cache.Lookup {
	return []cache.Lookup{{Key: x.key, Generations: []cache.Generation{x.gen}}}
}

func (x thing) writes(value string, tokens []cache.Token) []cache.Write {
	return []cache.Write{{
		Key: x.key, Value: []byte(value), Expires: time.Now().Add(time.Hour),
		Guard: cache.Guard{Generations: []cache.Generation{x.gen}, Tokens: tokens},
	}}
}

// read looks for the thing and returns its value, empty where there is none.
func read(tb testing.TB, tier *redis.Tier, x thing) (value string, tokens []cache.Token) {
	tb.Helper()
	found, err := tier.Read(context.Background(), x.lookups())
	if err != nil {
		tb.Fatal(err)
	}
	return string(found[0].Value), found[0].Tokens
}

func want(tb testing.TB, tier *redis.Tier, x thing, value string) {
	tb.Helper()
	if got, _ := read(tb, tier, x); got != value {
		tb.Fatalf("got %q, want %q", got, value)
	}
}

// store reads the tokens and writes the value under them.
func store(tb testing.TB, tier *redis.Tier, x thing, value string) (tokens []cache.Token) {
	tb.Helper()
	_, tokens = read(tb, tier, x)
	if err := tier.Write(context.Background(), x.writes(value, tokens)); err != nil {
		tb.Fatal(err)
	}
	return tokens
}

func bump(tb testing.TB, tier *redis.Tier, x thing) {
	tb.Helper()
	if err := tier.Bump(context.Background(), []cache.Generation{x.gen}); err != nil {
		tb.Fatal(err)
	}
}

// works says whether the tier stores a thing and finds it.
func works(tier *redis.Tier) bool {
	ctx, x := context.Background(), newThing()
	found, err := tier.Read(ctx, x.lookups())
	if err != nil || tier.Write(ctx, x.writes("it works", found[0].Tokens)) != nil {
		return false
	}
	found, err = tier.Read(ctx, x.lookups())
	return err == nil && string(found[0].Value) == "it works"
}

// ears is a listener that counts.
type ears struct {
	mu    sync.Mutex // guards the following
	heard map[cache.Generation]int
	lost  int
}

func newEars() *ears { return &ears{heard: map[cache.Generation]int{}} }

// listen is an option of newTier.
func (e *ears) listen(o *redis.Options) {
	o.Listener = cache.Listener{
		Bumped: func(generations []cache.Generation) {
			e.mu.Lock()
			defer e.mu.Unlock()
			for _, g := range generations {
				e.heard[g]++
			}
		},
		Lost: func() {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.lost++
		},
	}
}

func (e *ears) has(g cache.Generation) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard[g] > 0
}

func (e *ears) losses() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lost
}
