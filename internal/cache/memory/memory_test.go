package memory_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache/memory"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/cache/tier/tiertest"
)

func mustMemory(tb testing.TB, o memory.Options) *memory.Tier {
	tb.Helper()
	m, err := memory.New(o)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func TestMemoryKeepsTheContract(t *testing.T) {
	for name, o := range map[string]memory.Options{
		"the usual size": {}, "one shard": {Size: 48 << 20, MaxEntry: 6 << 20}, "64 MiB": {Size: 64 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			tiertest.Run(t, func(t *testing.T) tier.Tier { return mustMemory(t, o) })
		})
	}
}

func TestMemoryOptionsRefused(t *testing.T) {
	for _, o := range []memory.Options{
		{Size: 1<<20 - 1}, {Size: -1}, {Size: 8 << 20, MaxEntry: 1<<20 + 1}, {MaxEntry: 16<<20 + 1}, {Size: 1 << 20, MaxEntry: 1 << 20},
		{MaxEntry: -1},
	} {
		if m, err := memory.New(o); err == nil {
			t.Errorf("%+v is taken", o)
			_ = m.Close()
		}
	}
	for _, o := range []memory.Options{{}, {Size: 1 << 20}, {Size: 1 << 20, MaxEntry: 1 << 17}, {Size: 3<<20 + 1, MaxEntry: 1}} {
		if err := mustMemory(t, o).Close(); err != nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// shelf is a Memory with entries by number, all under one generation.
type shelf struct {
	tb    testing.TB
	tier  *memory.Tier
	guard tier.Guard
}

func newShelf(tb testing.TB, o memory.Options) *shelf {
	tb.Helper()
	s := &shelf{tb: tb, tier: mustMemory(tb, o), guard: tier.Guard{Generations: []tier.Generation{{1}}}}
	found, err := s.tier.Read(context.Background(), []tier.Lookup{{Generations: s.guard.Generations}})
	if err != nil {
		tb.Fatal(err)
	}
	s.guard.Tokens = found[0].Tokens
	tb.Cleanup(func() { _ = s.tier.Close() })
	return s
}

func shelfKey(n int) (k tier.Key) {
	binary.BigEndian.PutUint64(k[:], uint64(n))
	return k
}

// put writes entries first to last-1, each of so many bytes.
func (s *shelf) put(first, last, size int) {
	s.tb.Helper()
	value := make([]byte, size)
	for n := first; n < last; n++ {
		binary.BigEndian.PutUint32(value, uint32(n))
		w := tier.Write{Key: shelfKey(n), Value: value, Expires: time.Now().Add(time.Hour), Guard: s.guard}
		if err := s.tier.Write(context.Background(), []tier.Write{w}); err != nil {
			s.tb.Fatal(err)
		}
	}
}

// there returns which of the entries first to last-1 are there, and fails if one is another one.
func (s *shelf) there(first, last int) (there []int) {
	s.tb.Helper()
	for n := first; n < last; n++ {
		found, err := s.tier.Read(context.Background(), []tier.Lookup{{Key: shelfKey(n), Generations: s.guard.Generations}})
		if err != nil {
			s.tb.Fatal(err)
		}
		if v := found[0].Value; v != nil {
			if binary.BigEndian.Uint32(v) != uint32(n) {
				s.tb.Fatalf("entry %d has the value of %d", n, binary.BigEndian.Uint32(v))
			}
			there = append(there, n)
		}
	}
	return there
}

func (s *shelf) stats() tier.Stats {
	s.tb.Helper()
	return s.tier.Holds()
}

// TestLargeEntryWipesNothing is about a ring that throws out whatever is in the way of a new entry.
func TestLargeEntryWipesNothing(t *testing.T) {
	const size, most, small = 16 << 20, 1 << 20, 1000
	for name, o := range map[string]memory.Options{
		"by default": {Size: size}, "two shards": {Size: size, MaxEntry: most}, "one shard": {Size: size, MaxEntry: size / 8},
	} {
		t.Run(name, func(t *testing.T) {
			s := newShelf(t, o)
			const fits = size / small / 2
			s.put(0, fits, small)
			s.put(fits, fits+1, max(int(o.MaxEntry), most)+1)
			if n := len(s.there(0, fits)); n != fits || len(s.there(fits, fits+1)) != 0 {
				t.Errorf("after an entry that is too large %d of %d are there, it among them: %d", n, fits, len(s.there(fits, fits+1)))
			}
			s.put(fits, 2*fits, small) // more or less full
			before := len(s.there(0, 2*fits))
			s.put(2*fits, 2*fits+1, most)
			after := len(s.there(0, 2*fits))
			if lost := (before - after) * small; lost > most+most/8 || len(s.there(2*fits, 2*fits+1)) != 1 {
				t.Errorf("an entry of %d bytes cost %d bytes of others", most, lost)
			}
		})
	}
}

// TestFloodKeepsToItsSize writes many times what there is room for, in all sizes.
func TestFloodKeepsToItsSize(t *testing.T) {
	for _, size := range []int64{1 << 20, 5<<20 + 12345, 16 << 20} {
		for _, entry := range []int{10, 1000, 30_000} {
			t.Run(fmt.Sprintf("%d of %d", size, entry), func(t *testing.T) {
				s := newShelf(t, memory.Options{Size: size})
				n := int(3*size)/(entry+100) + 100
				s.put(0, n, entry)
				stats := s.stats()
				if stats.Bytes > size || stats.Bytes < size/3 {
					t.Errorf("%d bytes, of %d", stats.Bytes, size)
				}
				there := s.there(0, n)
				if int64(len(there)) != stats.Entries || stats.Entries+stats.Evictions != int64(n) || stats.Evictions == 0 {
					t.Errorf("%d of %d are there: %+v", len(there), n, stats)
				}
				if len(there)*(entry+100) < int(size)/3 {
					t.Errorf("only %d entries of %d bytes are there", len(there), entry)
				}
				if len(there) == 0 || there[len(there)-1] != n-1 {
					t.Error("the last one is not there")
				}
			})
		}
	}
}

// TestOverwritesTakeTheirTurn writes one entry again and again: that takes room for a while, and no more than there is.
func TestOverwritesTakeTheirTurn(t *testing.T) {
	s := newShelf(t, memory.Options{Size: 1 << 20})
	for range 5000 {
		s.put(7, 8, 1000)
	}
	if stats := s.stats(); stats.Bytes > 1<<20 || stats.Entries != 1 || stats.Evictions != 0 || len(s.there(7, 8)) != 1 {
		t.Errorf("after many writes of one entry: %+v", stats)
	}
}

// TestHashersDiffer has two daemons given the same keys: which of them meet in a shard nobody can know before.
func TestHashersDiffer(t *testing.T) {
	const n = 4000
	var left [2][]int
	for i := range left {
		s := newShelf(t, memory.Options{Size: 1 << 20, MaxEntry: 2000})
		s.put(0, n, 500)
		left[i] = s.there(0, n)
	}
	if len(left[0]) == n || slices.Equal(left[0], left[1]) {
		t.Errorf("of %d entries the same %d are left", n, len(left[0]))
	}
}

// TestExpiredIsNeverAnswered lets time pass in steps at which no cleaner has run.
func TestExpiredIsNeverAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := mustMemory(t, memory.Options{Size: 1 << 20})
		defer m.Close()
		l := []tier.Lookup{{Key: tier.Key{1}, Generations: []tier.Generation{{1}}}}
		found, _ := m.Read(t.Context(), l)
		for _, life := range []time.Duration{time.Millisecond, 999 * time.Millisecond, time.Second, 90 * time.Second, 48 * time.Hour} {
			expires := time.Now().Add(life)
			_ = m.Write(t.Context(), []tier.Write{{Key: l[0].Key, Value: []byte("x"), Expires: expires, Guard: tier.Guard{
				Generations: l[0].Generations, Tokens: found[0].Tokens,
			}}})
			<-time.After(life - time.Millisecond)
			if got, _ := m.Read(t.Context(), l); got[0].Value == nil || !got[0].Expires.Equal(expires) {
				t.Errorf("a life of %v: %q, %v", life, got[0].Value, got[0].Expires)
			}
			<-time.After(time.Millisecond)
			if got, _ := m.Read(t.Context(), l); got[0].Value != nil {
				t.Errorf("answered after a life of %v", life)
			}
		}
	})
}

// TestManyGenerations makes more tokens than are kept. What is forgotten makes misses: an entry is never good again.
func TestManyGenerations(t *testing.T) {
	const n = 150_000
	s := newShelf(t, memory.Options{Size: 4 << 20})
	s.put(0, 10, 100)
	lookups := make([]tier.Lookup, 1000)
	for i := range n / len(lookups) {
		for j := range lookups {
			var g tier.Generation
			binary.BigEndian.PutUint64(g[8:], uint64(i*len(lookups)+j))
			lookups[j].Generations = []tier.Generation{g}
		}
		if _, err := s.tier.Read(t.Context(), lookups); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.tier.Bump(t.Context(), s.guard.Generations); err != nil {
		t.Fatal(err)
	}
	if left := s.there(0, 10); len(left) != 0 {
		t.Errorf("after a bump %d are there", len(left))
	}
}

func BenchmarkMemory(b *testing.B) {
	tiertest.Benchmark(b, func(b *testing.B) tier.Tier { return mustMemory(b, memory.Options{}) })
}
