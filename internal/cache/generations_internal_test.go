package cache

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// kept has a token of its own for each of n uris of an upstream.
func kept(t *tokens, n int) {
	for i := range n {
		g := []tier.Generation{generationOf("uri", "server", fmt.Sprint(i))}
		t.keep(&tier.Guard{Generations: g, Tokens: t.read(g, nil)})
	}
}

// TestFamiliesAreNotForgotten keeps more uris than there is room for: no family's token changes, and what was kept under
// others is served on, or is a miss, but never after a bump.
func TestFamiliesAreNotForgotten(t *testing.T) {
	all := newTokens()
	families := make([]tier.Generation, 200)
	for i := range families {
		families[i] = generationOf("family", fmt.Sprint(i), "tools")
	}
	all.addFamilies(families)
	all.bump(families) // to tokens that no slot leads to
	before := all.read(families, nil)
	first := []tier.Generation{generationOf("uri", "server", "0")}
	under := all.read(first, nil)
	kept(all, maxGenerations+maxGenerations/2)
	if !slices.Equal(all.read(families, nil), before) {
		t.Error("families have other tokens, though nothing was bumped")
	}
	if !all.hold(first, under) {
		t.Error("a token that was not bumped has changed") // by a slot's number
	}
	if n := len(all.by); n > maxGenerations {
		t.Errorf("%d tokens, want %d at most", n, maxGenerations)
	}
	all.bump(append(families[:1:1], first...))
	kept(all, maxGenerations+maxGenerations/2)
	if all.hold(first, under) || all.hold(families[:1], before[:1]) || !all.hold(families[1:], before[1:]) {
		t.Error("a bump was undone, or went further than it said")
	}
	all.forget()
	for i := range families {
		if all.hold(families[i:i+1], before[i:i+1]) {
			t.Fatal("a family's token outlived that all was forgotten")
		}
	}
}

// TestAskingLeavesNoTokens asks memory for what it does not have, and then keeps something.
func TestAskingLeavesNoTokens(t *testing.T) {
	m, err := NewMemory(MemoryOptions{Size: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	lookups := make([]tier.Lookup, 2000)
	for i := range lookups {
		lookups[i] = tier.Lookup{Generations: []tier.Generation{generationOf("uri", "server", fmt.Sprint(i))}}
	}
	found, err := m.Read(t.Context(), lookups)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(m.tokens.by); n != 0 {
		t.Errorf("%d tokens after 2,000 reads of nothing", n)
	}
	guard := tier.Guard{Generations: lookups[0].Generations, Tokens: found[0].Tokens}
	if stored, err := m.put(new(tier.Key), []byte("x"), time.Now().Add(time.Hour), guard); !stored || err != nil {
		t.Fatalf("not stored: %v", err)
	}
	if n := len(m.tokens.by); n != 1 {
		t.Errorf("%d tokens with one entry", n)
	}
}
