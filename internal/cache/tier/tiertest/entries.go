package tiertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"time"

	"fluentd-perf/internal/cache/tier"
)

func tokensStay(w *world) {
	a, b := newEntry(1), newEntry(tier.MaxGuards)
	b.generations[2] = a.generations[0]
	first := w.read(a, b, a)
	if first[0].Value != nil || first[1].Value != nil {
		w.Fatal("a value that nobody wrote")
	}
	if first[0].Tokens[0] != first[1].Tokens[2] || !slices.Equal(first[0].Tokens, first[2].Tokens) {
		w.Fatal("one generation has two tokens")
	}
	if distinct := slices.Compact(slices.Sorted(slices.Values(first[1].Tokens))); len(distinct) != tier.MaxGuards {
		w.Fatal("two generations have one token")
	}
	second := w.read(b, a)
	if !slices.Equal(second[0].Tokens, first[1].Tokens) || !slices.Equal(second[1].Tokens, first[0].Tokens) {
		w.Fatal("tokens have changed without a bump")
	}
}

func nothingAsked(w *world) {
	w.read()
	w.write()
	w.bump()
	if err := w.tier.Delete(w.ctx, nil); err != nil {
		w.Fatal(err)
	}
}

// samples are values of many sizes: noise, and text that is easily made smaller.
func samples() map[string][]byte {
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	values := map[string][]byte{"all bytes": all, "zero": {0}, "a quote": []byte(`'"\x00$1?`)}
	for _, size := range []int{0, 1, 1023, 1024, 1025, 4096, 8192, 65_536, 1 << 20} {
		noise := make([]byte, size)
		rand.Read(noise)
		values[fmt.Sprintf("noise of %d B", size)] = noise
		values[fmt.Sprintf("text of %d B", size)] = bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
	}
	return values
}

func bytesComeBack(w *world) {
	for name, value := range samples() {
		w.Run(name, func(t *testing.T) {
			w := &world{T: t, tier: w.tier, ctx: w.ctx}
			e := newEntry(1)
			w.store(e, value)
			w.wantValue(e, value)
		})
	}
}

func answersKept(w *world) {
	e, value := newEntry(1), bytes.Repeat([]byte("first "), 1000)
	tokens := w.store(e, value)
	kept := w.readOne(e).Value
	for i := range 50 {
		w.write(e.with(bytes.Repeat([]byte{byte(i)}, len(value)), tokens))
		w.readOne(e)
	}
	if !bytes.Equal(kept, value) {
		w.Fatal("an answer has changed after it was given")
	}
}

func argumentsKept(w *world) {
	e, other := newEntry(2), newEntry(1)
	want := slices.Clone(e.generations)
	tokens := w.readOne(e).Tokens
	held := slices.Clone(tokens)
	batch := []tier.Write{e.with([]byte("mine"), tokens)}
	w.write(batch...)
	if !slices.Equal(e.generations, want) || !slices.Equal(tokens, held) || string(batch[0].Value) != "mine" {
		w.Fatal("the tier changed its arguments")
	}
	found := w.readOne(e)
	found.Tokens[0], tokens[1] = 1, 2
	again := entry{key: e.key, generations: slices.Clone(e.generations)}
	e.generations[0] = other.generations[0]
	if got := w.readOne(again); string(got.Value) != "mine" || !slices.Equal(got.Tokens, held) {
		w.Fatal("a change to the caller's slices reached the tier")
	}
}

func expiryAbsolute(w *world) {
	for _, life := range []time.Duration{time.Minute, 25 * time.Hour} {
		e, expires := newEntry(1), time.Now().Add(life)
		w.write(e.until([]byte("x"), w.readOne(e).Tokens, expires))
		for range 2 {
			got := w.readOne(e)
			if early := expires.Sub(got.Expires); got.Value == nil || early < 0 || early > time.Millisecond {
				w.Fatalf("expires %v before it was to (at most 1 ms, never after)", early)
			}
		}
	}
}

func expiredNotAnswered(w *world) {
	for _, age := range []time.Duration{0, time.Millisecond, time.Hour, 24 * 365 * time.Hour} {
		e := newEntry(1)
		tokens := w.readOne(e).Tokens
		w.write(e.until([]byte("old"), tokens, time.Now().Add(-age)))
		w.wantValue(e, nil)
		w.write(e.with([]byte("new"), tokens))
		w.wantValue(e, []byte("new"))
	}
}

func expiryInTime(w *world) {
	e, long := newEntry(1), newEntry(1)
	w.store(long, []byte("long"))
	tokens, seen := w.readOne(e).Tokens, false
	expires := time.Now().Add(300 * time.Millisecond)
	w.write(e.until([]byte("short"), tokens, expires))
	eventually(w.T, "the entry expires", func() bool {
		before := time.Now()
		value := w.readOne(e).Value
		if value != nil && !before.Before(expires) {
			w.Fatalf("answered %v after its time", before.Sub(expires))
		}
		if value == nil && time.Now().Before(expires.Add(-2*time.Millisecond)) {
			w.Fatal("gone before its time")
		}
		seen = seen || value != nil
		return value == nil
	})
	if !seen && time.Until(expires) > 0 {
		w.Fatal("never answered")
	}
	w.wantValue(long, []byte("long"))
}

func laterReplaces(w *world) {
	e := newEntry(2)
	tokens := w.store(e, []byte("first"))
	for _, value := range [][]byte{[]byte("second"), {}, bytes.Repeat([]byte("long "), 10_000), []byte("last")} {
		w.write(e.with(value, tokens))
		w.wantValue(e, value)
	}
	w.write(e.with([]byte("one"), tokens), newEntry(1).with(nil, []tier.Token{1}), e.with([]byte("two"), tokens))
	w.wantValue(e, []byte("two"))
	w.write(e.until([]byte("gone"), tokens, time.Now().Add(-time.Second)))
	w.wantValue(e, nil)
}

func batchInOrder(w *world) {
	const n = 200
	entries := make([]entry, 0, 2*n)
	for i := range n {
		entries = append(entries, newEntry(1+i%tier.MaxGuards), newEntry(1)) // every other one is never written
	}
	found := w.read(entries...)
	value := func(i int) []byte { return bytes.Repeat(fmt.Appendf(nil, "value %d ", i), 1+i%300) }
	writes := make([]tier.Write, 0, n)
	for i := 0; i < 2*n; i += 2 {
		writes = append(writes, entries[i].with(value(i), found[i].Tokens))
	}
	w.write(writes...)
	slices.Reverse(entries)
	again := w.read(append(entries, entries[0], entries[1])...)
	for i := range again {
		j := 2*n - 1 - i%(2*n) // where it stood at first
		var want []byte
		if j%2 == 0 {
			want = value(j)
		}
		if !bytes.Equal(again[i].Value, want) || (again[i].Value == nil) != (want == nil) {
			w.Fatalf("answer %d: got %s, want %s", i, brief(again[i].Value), brief(want))
		}
		if !slices.Equal(again[i].Tokens, found[j].Tokens) {
			w.Fatalf("answer %d: other tokens", i)
		}
	}
}

func deletes(w *world) {
	a, b := newEntry(1), newEntry(1)
	tokens := w.store(a, []byte("a"))
	w.store(b, []byte("b"))
	for range 2 {
		if err := w.tier.Delete(w.ctx, []tier.Key{newEntry(1).key, a.key, a.key}); err != nil {
			w.Fatal(err)
		}
		w.wantValue(a, nil)
	}
	w.wantValue(b, []byte("b"))
	w.write(a.with([]byte("again"), tokens))
	w.wantValue(a, []byte("again"))
}

func endedContext(w *world) {
	e := newEntry(1)
	tokens := w.store(e, []byte("before"))
	canceled, cancel := context.WithCancel(w.ctx)
	cancel()
	late, cancel := context.WithDeadline(w.ctx, time.Now().Add(-time.Hour))
	defer cancel()
	for _, ctx := range []context.Context{canceled, late} {
		start := time.Now()
		if found, err := w.tier.Read(ctx, []tier.Lookup{e.lookup()}); err == nil && len(found) != 1 {
			w.Error("Read: neither an answer nor an error")
		}
		_ = w.tier.Write(ctx, []tier.Write{e.with([]byte("before"), tokens)}) // done or not: both are right
		_ = w.tier.Bump(ctx, []tier.Generation{newGeneration()})
		_ = w.tier.Delete(ctx, []tier.Key{newEntry(1).key})
		if took := time.Since(start); took > 2*time.Second {
			w.Errorf("four calls took %v after their context had ended", took)
		}
	}
	w.wantValue(e, []byte("before"))
}

func stats(w *world) {
	if name := w.tier.Name(); name != "memory" && name != "redis" && name != "database" {
		w.Errorf("name %q", name)
	}
	for range 10 {
		w.store(newEntry(1), make([]byte, 100))
	}
	holder, ok := w.tier.(interface{ Holds() tier.Stats })
	if !ok {
		return
	}
	if got := holder.Holds(); got.Entries != -1 && got.Entries < 10 || got.Bytes != -1 && got.Bytes < 100 || got.Evictions < -1 {
		w.Errorf("after ten entries: %+v", got)
	}
}
