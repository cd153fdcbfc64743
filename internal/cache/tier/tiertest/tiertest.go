// Package tiertest is the contract of cache.Tier as tests: every tier runs the same ones against a real server or file.
//
// It promises that a tier which passes keeps each sentence of cache.Tier that can be seen from outside. It leaves to the
// tiers' own tests what only they know: how they fail, how they come back, what they cost at rest.
//
// Keys and generations are random, so that several tiers, and several runs, may share one server.
package tiertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"slices"
	"testing"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// waitTimeout is how long a tier may take for what it does by and by, and any call on a busy machine.
const waitTimeout = 10 * time.Second

// Run runs the contract that every tier keeps. open returns a new tier, or a new view of the same one, for each test; it
// takes entries of 1 MiB and has room for 32 MiB. Run closes what open returned.
func Run(t *testing.T, open func(t *testing.T) tier.Tier) {
	for _, test := range []struct {
		name string
		run  func(*world)
	}{
		{"tokens stay", tokensStay},
		{"nothing asked, nothing answered", nothingAsked},
		{"bytes come back", bytesComeBack},
		{"answers belong to the caller", answersKept},
		{"arguments belong to the caller", argumentsKept},
		{"expiry is absolute", expiryAbsolute},
		{"expired entries are not answered", expiredNotAnswered},
		{"expiry happens in time", expiryInTime},
		{"a later write replaces", laterReplaces},
		{"a batch in order", batchInOrder},
		{"delete", deletes},
		{"bump", bump},
		{"bump one guard of four", bumpOneOfFour},
		{"bump what nobody knows", bumpUnknown},
		{"bump many", bumpMany},
		{"a write under old tokens", writeUnderOldTokens},
		{"a write under tokens never given", writeUnderUnknownTokens},
		{"first writes under a generation", firstWrites},
		{"bump what nothing was written under", bumpUnwritten},
		{"readers, writers and bumpers", storm},
		{"a context that has ended", endedContext},
		{"stats", stats},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(begin(t, open(t))) })
	}
}

// world is one test with its tier.
type world struct {
	*testing.T
	tier tier.Tier
	ctx  context.Context
}

// begin has the tier closed at the end of the test.
func begin(t *testing.T, tier tier.Tier) *world {
	ctx, cancel := context.WithTimeout(t.Context(), 3*waitTimeout)
	t.Cleanup(func() {
		cancel()
		if err := tier.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return &world{T: t, tier: tier, ctx: ctx}
}

// entry is a key with what guards it, and no more than that.
type entry struct {
	key         tier.Key
	generations []tier.Generation
}

func newEntry(guards int) entry {
	e := entry{generations: make([]tier.Generation, guards)}
	rand.Read(e.key[:])
	for i := range e.generations {
		e.generations[i] = newGeneration()
	}
	return e
}

func newGeneration() (g tier.Generation) {
	rand.Read(g[:])
	return g
}

func (e entry) lookup() tier.Lookup { return tier.Lookup{Key: e.key, Generations: e.generations} }

// with makes the Write of a value that lives an hour.
func (e entry) with(value []byte, tokens []tier.Token) tier.Write {
	return e.until(value, tokens, time.Now().Add(time.Hour))
}

func (e entry) until(value []byte, tokens []tier.Token, expires time.Time) tier.Write {
	return tier.Write{Key: e.key, Value: value, Expires: expires, Guard: tier.Guard{Generations: e.generations, Tokens: tokens}}
}

// read answers one lookup per entry and checks what is true of every answer.
func (w *world) read(entries ...entry) []tier.Found {
	w.Helper()
	lookups := make([]tier.Lookup, len(entries))
	for i, e := range entries {
		lookups[i] = e.lookup()
	}
	found, err := w.tier.Read(w.ctx, lookups)
	if err != nil {
		w.Fatalf("Read: %v", err)
	}
	if len(found) != len(lookups) {
		w.Fatalf("%d answers to %d lookups", len(found), len(lookups))
	}
	for i, f := range found {
		if len(f.Tokens) != len(entries[i].generations) || slices.Contains(f.Tokens, 0) {
			w.Fatalf("tokens %v of %d generations", f.Tokens, len(entries[i].generations))
		}
	}
	return found
}

func (w *world) readOne(e entry) tier.Found {
	w.Helper()
	return w.read(e)[0]
}

func (w *world) write(writes ...tier.Write) {
	w.Helper()
	if err := w.tier.Write(w.ctx, writes); err != nil {
		w.Fatalf("Write: %v", err)
	}
}

func (w *world) bump(generations ...tier.Generation) {
	w.Helper()
	if err := w.tier.Bump(w.ctx, generations); err != nil {
		w.Fatalf("Bump: %v", err)
	}
}

// store reads the tokens and writes value under them.
func (w *world) store(e entry, value []byte) []tier.Token {
	w.Helper()
	tokens := w.readOne(e).Tokens
	w.write(e.with(value, tokens))
	return tokens
}

// wantValue checks that the entry is there with this value; nil stands for no entry.
func (w *world) wantValue(e entry, value []byte) {
	w.Helper()
	got := w.readOne(e).Value
	if (got == nil) != (value == nil) || !bytes.Equal(got, value) {
		w.Fatalf("got %s, want %s", brief(got), brief(value))
	}
}

func brief(value []byte) string {
	switch {
	case value == nil:
		return "no entry"
	case len(value) > 20:
		return string(value[:20]) + "..."
	}
	return `"` + string(value) + `"`
}

// eventually tries f until it reports true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.After(waitTimeout)
	again := time.NewTicker(2 * time.Millisecond)
	defer again.Stop()
	for !f() {
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("not within %v: %s", waitTimeout, what)
		}
	}
}
