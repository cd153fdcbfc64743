package memory

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"testing"
	"time"

	"fluentd-perf/internal/cache/tier"
)

func named(kind, upstream, detail string) tier.Generation {
	sum := sha256.Sum256([]byte(kind + " " + upstream + " " + detail))
	return tier.Generation(sum[:16])
}

// kept has a token of its own for each of n uris of an upstream.
func kept(t *Tokens, n int) {
	for i := range n {
		g := []tier.Generation{named("uri", "server", fmt.Sprint(i))}
		t.keep(&tier.Guard{Generations: g, Tokens: t.Read(g, nil)})
	}
}

// TestFamiliesAreNotForgotten keeps more uris than there is room for: no family's token changes, and what was kept under
// others is served on, or is a miss, but never after a bump.
func TestFamiliesAreNotForgotten(t *testing.T) {
	all := newTokens()
	families := make([]tier.Generation, 200)
	for i := range families {
		families[i] = named("family", fmt.Sprint(i), "tools")
	}
	all.Pin(families)
	all.Bump(families) // to tokens that no slot leads to
	before := all.Read(families, nil)
	first := []tier.Generation{named("uri", "server", "0")}
	under := all.Read(first, nil)
	kept(all, maxTokens+maxTokens/2)
	if !slices.Equal(all.Read(families, nil), before) {
		t.Error("families have other tokens, though nothing was bumped")
	}
	if !all.Hold(first, under) {
		t.Error("a token that was not bumped has changed") // by a slot's number
	}
	if n := len(all.by); n > maxTokens {
		t.Errorf("%d tokens, want %d at most", n, maxTokens)
	}
	all.Bump(append(families[:1:1], first...))
	kept(all, maxTokens+maxTokens/2)
	if all.Hold(first, under) || all.Hold(families[:1], before[:1]) || !all.Hold(families[1:], before[1:]) {
		t.Error("a bump was undone, or went further than it said")
	}
	all.BumpAll()
	for i := range families {
		if all.Hold(families[i:i+1], before[i:i+1]) {
			t.Fatal("a family's token outlived that all was forgotten")
		}
	}
}

// TestAskingLeavesNoTokens asks memory for what it does not have, and then keeps something.
func TestAskingLeavesNoTokens(t *testing.T) {
	m, err := New(Options{Size: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	lookups := make([]tier.Lookup, 2000)
	for i := range lookups {
		lookups[i] = tier.Lookup{Generations: []tier.Generation{named("uri", "server", fmt.Sprint(i))}}
	}
	found, err := m.Read(t.Context(), lookups)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(m.Tokens.by); n != 0 {
		t.Errorf("%d tokens after 2,000 reads of nothing", n)
	}
	guard := tier.Guard{Generations: lookups[0].Generations, Tokens: found[0].Tokens}
	if stored, err := m.Put(new(tier.Key), make([]byte, Prefix(1)+1), time.Now().Add(time.Hour), &guard); !stored || err != nil {
		t.Fatalf("not stored: %v", err)
	}
	if n := len(m.Tokens.by); n != 1 {
		t.Errorf("%d tokens with one entry", n)
	}
}
