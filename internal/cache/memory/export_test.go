package memory

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/allegro/bigcache/v3"

	"fluentd-perf/internal/cache/tier"
)

// What makes a Tier a tier.Tier, for the contract of tiers.

// Name returns "memory".
func (m *Tier) Name() string { return "memory" }

// Read answers lookups. A value was written under the very tokens that it is answered with: a bump and a write may come in
// between.
func (m *Tier) Read(_ context.Context, lookups []tier.Lookup) ([]tier.Found, error) {
	found := make([]tier.Found, len(lookups))
	now := time.Now()
	for i := range lookups {
		l, f := &lookups[i], &found[i]
		f.Tokens = m.Tokens.Read(l.Generations, make([]tier.Token, 0, len(l.Generations)))
		var room [tier.MaxGuards]tier.Token
		if value, tokens, expires := m.find(l, now, room[:0]); value != nil && slices.Equal(tokens, f.Tokens) {
			f.Value, f.Expires = value, time.UnixMilli(expires)
		}
	}
	return found, nil
}

// Write stores entries whose tokens hold; those over the size cap are left out.
func (m *Tier) Write(_ context.Context, writes []tier.Write) error {
	for i := range writes {
		w := &writes[i]
		entry := append(make([]byte, Prefix(len(w.Guard.Tokens)), Prefix(len(w.Guard.Tokens))+len(w.Value)), w.Value...)
		if _, err := m.Put(&w.Key, entry, w.Expires, &w.Guard); err != nil {
			return err
		}
	}
	return nil
}

// Bump replaces tokens.
func (m *Tier) Bump(_ context.Context, generations []tier.Generation) error {
	m.Tokens.Bump(generations)
	return nil
}

// Delete removes entries.
func (m *Tier) Delete(_ context.Context, keys []tier.Key) error {
	for i := range keys {
		if err := m.ring.Delete(text(&keys[i])); err != nil && !errors.Is(err, bigcache.ErrEntryNotFound) {
			return err
		}
	}
	return nil
}
