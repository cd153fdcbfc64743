package tiertest_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/cache/tier/tiertest"
)

// server is the contract in its simplest form: one lock around all.
type server struct {
	mu        sync.Mutex // guards the following
	entries   map[tier.Key]tier.Write
	tokens    map[tier.Generation]tier.Token
	listeners []tier.Listener
}

func newServer() *server {
	return &server{entries: map[tier.Key]tier.Write{}, tokens: map[tier.Generation]tier.Token{}}
}

func (s *server) holdsLocked(g tier.Guard) bool {
	for i, generation := range g.Generations {
		if s.tokens[generation] != g.Tokens[i] || g.Tokens[i] == 0 {
			return false
		}
	}
	return true
}

// view is one daemon's tier on a server.
type view struct {
	*server
	number int // of its listener
}

func (view) Name() string { return "memory" }

func (v view) Read(ctx context.Context, lookups []tier.Lookup) ([]tier.Found, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	found := make([]tier.Found, len(lookups))
	for i, l := range lookups {
		for _, g := range l.Generations {
			if v.tokens[g] == 0 {
				v.tokens[g] = tier.Token(1 + rand.Uint64N(1<<63))
			}
			found[i].Tokens = append(found[i].Tokens, v.tokens[g])
		}
		if w, ok := v.entries[l.Key]; ok && slices.Equal(w.Guard.Tokens, found[i].Tokens) && time.Now().Before(w.Expires) {
			found[i].Value, found[i].Expires = w.Value, w.Expires
		}
	}
	return found, ctx.Err()
}

func (v view) Write(ctx context.Context, writes []tier.Write) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, w := range writes {
		if v.holdsLocked(w.Guard) {
			w.Value = append([]byte{}, w.Value...)
			w.Guard.Tokens = slices.Clone(w.Guard.Tokens)
			v.entries[w.Key] = w
		}
	}
	return ctx.Err()
}

func (v view) Bump(_ context.Context, generations []tier.Generation) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, g := range generations {
		delete(v.tokens, g)
	}
	for i, l := range v.listeners {
		if i != v.number {
			l.Bumped(generations)
		}
	}
	return nil
}

func (v view) Delete(_ context.Context, keys []tier.Key) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, key := range keys {
		delete(v.entries, key)
	}
	return nil
}

func (v view) Holds() tier.Stats {
	v.mu.Lock()
	defer v.mu.Unlock()
	return tier.Stats{Entries: int64(len(v.entries)), Bytes: -1}
}

func (view) Close() error { return nil }

func TestASimpleTierPasses(t *testing.T) {
	tiertest.Run(t, func(*testing.T) tier.Tier { return view{server: newServer()} })
}

func TestASimpleSharedTierPasses(t *testing.T) {
	s := newServer()
	tiertest.RunShared(t, func(_ *testing.T, l tier.Listener) tier.Tier {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.listeners = append(s.listeners, l)
		return view{s, len(s.listeners) - 1}
	})
}

func BenchmarkSimple(b *testing.B) {
	tiertest.Benchmark(b, func(*testing.B) tier.Tier { return view{server: newServer()} })
}
