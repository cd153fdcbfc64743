package tiertest

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// Map is a tier in a map, for tests of what stands on tiers. It has the name of a database, is the contract in its simplest form
// and never fails. The
// zero value is ready.
type Map struct {
	mu      sync.Mutex // guards the following
	entries map[tier.Key]tier.Write
	tokens  map[tier.Generation]tier.Token
}

// Name returns "database".
func (m *Map) Name() string { return "database" }

// Read implements tier.Tier.
func (m *Map) Read(_ context.Context, lookups []tier.Lookup) ([]tier.Found, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	found := make([]tier.Found, len(lookups))
	for i := range lookups {
		l, f := &lookups[i], &found[i]
		f.Tokens = m.tokensLocked(l.Generations)
		w, ok := m.entries[l.Key]
		if ok && time.Now().Before(w.Expires) && slices.Equal(w.Guard.Generations, l.Generations) && slices.Equal(w.Guard.Tokens, f.Tokens) {
			f.Value, f.Expires = slices.Clone(w.Value), w.Expires
		}
	}
	return found, nil
}

// tokensLocked returns the present tokens, made where there are none yet.
func (m *Map) tokensLocked(generations []tier.Generation) []tier.Token {
	if m.tokens == nil {
		m.tokens, m.entries = make(map[tier.Generation]tier.Token), make(map[tier.Key]tier.Write)
	}
	tokens := make([]tier.Token, len(generations))
	for i, g := range generations {
		if m.tokens[g] == 0 {
			m.tokens[g] = tier.Token(1 + rand.Uint64N(1<<63))
		}
		tokens[i] = m.tokens[g]
	}
	return tokens
}

// Write implements tier.Tier.
func (m *Map) Write(_ context.Context, writes []tier.Write) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, w := range writes {
		if len(w.Guard.Tokens) > 0 && slices.Equal(w.Guard.Tokens, m.tokensLocked(w.Guard.Generations)) {
			w.Value, w.Expires = slices.Clone(w.Value), w.Expires.Truncate(time.Millisecond)
			w.Guard = tier.Guard{Generations: slices.Clone(w.Guard.Generations), Tokens: slices.Clone(w.Guard.Tokens)}
			m.entries[w.Key] = w
		}
	}
	return nil
}

// Bump implements tier.Tier.
func (m *Map) Bump(_ context.Context, generations []tier.Generation) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, g := range generations {
		delete(m.tokens, g)
	}
	return nil
}

// Delete implements tier.Tier.
func (m *Map) Delete(_ context.Context, keys []tier.Key) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range keys {
		delete(m.entries, k)
	}
	return nil
}

// Holds is how many entries it holds.
func (m *Map) Holds() tier.Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	return tier.Stats{Entries: int64(len(m.entries)), Bytes: -1}
}

// Close implements tier.Tier.
func (m *Map) Close() error { return nil }
