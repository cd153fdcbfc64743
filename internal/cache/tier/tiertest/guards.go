package tiertest

import (
	"slices"

	"fluentd-perf/internal/cache/tier"
)

func bump(w *world) {
	e, other := newEntry(1), newEntry(1)
	before := w.store(e, []byte("old"))
	kept := w.store(other, []byte("kept"))
	w.bump(e.generations...)
	after := w.readOne(e)
	if after.Value != nil || after.Tokens[0] == before[0] {
		w.Fatalf("after a bump: %s, token %d before, %d after", brief(after.Value), before[0], after.Tokens[0])
	}
	if got := w.readOne(other); string(got.Value) != "kept" || !slices.Equal(got.Tokens, kept) {
		w.Fatal("a bump reached what it did not name")
	}
	if again := w.readOne(e).Tokens; !slices.Equal(again, after.Tokens) {
		w.Fatal("tokens do not stay after a bump")
	}
	w.write(e.with([]byte("new"), after.Tokens))
	w.wantValue(e, []byte("new"))
}

func bumpOneOfFour(w *world) {
	for i := range tier.MaxGuards {
		e, other := newEntry(tier.MaxGuards), newEntry(2)
		other.generations[1] = e.generations[i]
		before := w.store(e, []byte("old"))
		w.store(other, []byte("old"))
		w.bump(e.generations[i])
		found := w.read(e, other)
		if found[0].Value != nil || found[1].Value != nil {
			w.Fatalf("entries outlived the bump of guard %d", i)
		}
		for j, token := range found[0].Tokens {
			if (token == before[j]) == (i == j) {
				w.Fatalf("token %d after the bump of guard %d: %d, before %d", j, i, token, before[j])
			}
		}
		w.store(e, []byte("new"))
		w.wantValue(e, []byte("new"))
	}
}

func bumpUnknown(w *world) {
	e := newEntry(2)
	w.bump(e.generations[0], e.generations[1], e.generations[0])
	w.store(e, []byte("new"))
	w.wantValue(e, []byte("new"))
	w.bump(e.generations[1], e.generations[1])
	w.wantValue(e, nil)
}

func bumpMany(w *world) {
	const n = 1000
	entries, generations := make([]entry, n), make([]tier.Generation, n)
	for i := range entries {
		entries[i] = newEntry(1)
		generations[i] = entries[i].generations[0]
	}
	found := w.read(entries...)
	writes := make([]tier.Write, n)
	for i, e := range entries {
		writes[i] = e.with([]byte("old"), found[i].Tokens)
	}
	w.write(writes...)
	w.bump(generations[1:]...)
	for i, f := range w.read(entries...) {
		if (f.Value == nil) != (i > 0) {
			w.Fatalf("entry %d of %d: %s", i, n, brief(f.Value))
		}
	}
}

func writeUnderOldTokens(w *world) {
	e, other := newEntry(2), newEntry(1)
	old := w.readOne(e).Tokens
	w.bump(e.generations[1])
	w.write(e.with([]byte("late"), old), other.with([]byte("in the same batch"), w.readOne(other).Tokens))
	w.wantValue(e, nil)
	w.wantValue(other, []byte("in the same batch"))

	tokens := w.store(e, []byte("new"))
	w.write(e.with([]byte("late"), old))
	w.wantValue(e, []byte("new"))
	w.write(e.with([]byte("newer"), tokens), e.with([]byte("late"), old)) // of one key, in one batch
	w.wantValue(e, []byte("newer"))
}

func writeUnderUnknownTokens(w *world) {
	e := newEntry(2)
	w.write(e.with([]byte("unread"), []tier.Token{1, 2})) // of generations that the tier has never seen
	w.wantValue(e, nil)
	tokens := w.readOne(e).Tokens
	for _, wrong := range [][]tier.Token{{0, 0}, {tokens[0], 0}, {tokens[0], tokens[1] + 1}, {tokens[1], tokens[0]}} {
		w.write(e.with([]byte("wrong"), wrong))
		w.wantValue(e, nil)
	}
	w.write(e.with([]byte("right"), tokens))
	w.wantValue(e, []byte("right"))
}

// firstWrites has the first entries under a generation written by readers that read before any was: what the one makes
// refuses none of the others, and a bump all who read before it.
func firstWrites(w *world) {
	a, b, c := newEntry(2), newEntry(2), newEntry(2)
	b.generations[0], c.generations[0] = a.generations[0], a.generations[0]
	found := w.read(a, b, c)
	w.write(a.with([]byte("a"), found[0].Tokens))
	w.write(b.with([]byte("b"), found[1].Tokens))
	w.wantValue(a, []byte("a"))
	w.wantValue(b, []byte("b"))
	w.bump(a.generations[0])
	w.write(c.with([]byte("late"), found[2].Tokens), b.with([]byte("late"), found[1].Tokens))
	for _, e := range []entry{a, b, c} {
		w.wantValue(e, nil)
		w.store(e, []byte("new"))
		w.wantValue(e, []byte("new"))
	}
}

// bumpUnwritten bumps generations under which nothing was ever written, once and twice: who read before is refused each time,
// whatever was written in between.
func bumpUnwritten(w *world) {
	e := newEntry(tier.MaxGuards)
	seen := [][]tier.Token{w.readOne(e).Tokens}
	for i := range e.generations {
		w.bump(e.generations[i])
		if i%2 == 1 {
			w.bump(e.generations[i], newGeneration())
		}
		now := w.readOne(e).Tokens
		for _, old := range seen {
			if now[i] == old[i] {
				w.Fatalf("bump %d left the token", i)
			}
			w.write(e.with([]byte("late"), old))
			w.wantValue(e, nil)
		}
		seen = append(seen, now)
	}
	w.write(e.with([]byte("right"), seen[len(seen)-1]))
	w.wantValue(e, []byte("right"))
}
