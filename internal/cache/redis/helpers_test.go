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
func read(tb testing.TB, held *redis.Tier, x thing) (value string, tokens []tier.Token) {
	tb.Helper()
	found, err := held.Read(context.Background(), x.lookups())
	if err != nil {
		tb.Fatal(err)
	}
	return string(found[0].Value), found[0].Tokens
}

func want(tb testing.TB, held *redis.Tier, x thing, value string) {
	tb.Helper()
	if got, _ := read(tb, held, x); got != value {
		tb.Fatalf("got %q, want %q", got, value)
	}
}

// store reads the tokens and writes the value under them.
func store(tb testing.TB, held *redis.Tier, x thing, value string) (tokens []tier.Token) {
	tb.Helper()
	_, tokens = read(tb, held, x)
	if err := held.Write(context.Background(), x.writes(value, tokens)); err != nil {
		tb.Fatal(err)
	}
	return tokens
}

func bump(tb testing.TB, held *redis.Tier, x thing) {
	tb.Helper()
	if err := held.Bump(context.Background(), []tier.Generation{x.gen}); err != nil {
		tb.Fatal(err)
	}
}

// works says whether the tier stores a thing and finds it.
func works(held *redis.Tier) bool {
	ctx, x := context.Background(), newThing()
	found, err := held.Read(ctx, x.lookups())
	if err != nil || held.Write(ctx, x.writes("it works", found[0].Tokens)) != nil {
		return false
	}
	found, err = held.Read(ctx, x.lookups())
	return err == nil && string(found[0].Value) == "it works"
}

// ears is a listener that counts.
type ears struct {
	mu    sync.Mutex // guards the following
	heard map[tier.Generation]int
	lost  int
}

func newEars() *ears { return &ears{heard: map[tier.Generation]int{}} }

// listen is an option of newTier.
func (e *ears) listen(o *redis.Options) {
	o.Listener = tier.Listener{
		Bumped: func(generations []tier.Generation) {
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

func (e *ears) has(g tier.Generation) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.heard[g] > 0
}

func (e *ears) losses() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.lost
}
