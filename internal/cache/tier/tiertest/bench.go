package tiertest

import (
	"bytes"
	"testing"

	"fluentd-perf/internal/cache/tier"
)

// Benchmark measures a tier: reads of one and of two keys that hit and that miss, writes of one and of 64 entries, and
// bumps. The values are of 4 KiB of noise-like text. It closes what open returned.
func Benchmark(b *testing.B, open func(b *testing.B) tier.Tier) {
	t := open(b)
	b.Cleanup(func() {
		if err := t.Close(); err != nil {
			b.Error(err)
		}
	})
	entries := make([]entry, 64)
	lookups := make([]tier.Lookup, len(entries))
	for i := range entries {
		entries[i] = newEntry(2)
		lookups[i] = entries[i].lookup()
	}
	found := must(t.Read(b.Context(), lookups))(b)
	writes := make([]tier.Write, len(entries))
	for i, e := range entries {
		writes[i] = e.with(benchValue(i), found[i].Tokens)
	}
	if err := t.Write(b.Context(), writes); err != nil {
		b.Fatal(err)
	}
	miss := []tier.Lookup{{Key: newEntry(1).key, Generations: entries[0].generations}}
	measure := func(name string, f func(i int) error) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if err := f(i); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	read := func(lookups []tier.Lookup) error {
		_, err := t.Read(b.Context(), lookups)
		return err
	}
	measure("Read/hit", func(i int) error { return read(lookups[i%64 : i%64+1]) })
	measure("Read/two", func(i int) error { return read(lookups[i%63 : i%63+2]) })
	measure("Read/miss", func(int) error { return read(miss) })
	measure("Write/1", func(i int) error { return t.Write(b.Context(), writes[i%64:i%64+1]) })
	measure("Write/64", func(int) error { return t.Write(b.Context(), writes) })
	measure("Bump", func(int) error { return t.Bump(b.Context(), []tier.Generation{newGeneration()}) })
	b.Run("Read/parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.RunParallel(func(p *testing.PB) {
			for i := 0; p.Next(); i++ {
				if err := read(lookups[i%64 : i%64+1]); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}

// benchValue is 4 KiB that compress about as well as a list of tools does.
func benchValue(i int) []byte {
	line := []byte(`{"name":"tool","description":"Reads what lies at the path","inputSchema":{"type":"object"}},`)
	value := bytes.Repeat(line, 1+4096/len(line))[:4096]
	for j := i % 7; j < len(value); j += 23 {
		value[j] = byte('a' + (i+j*j)%26)
	}
	return value
}

func must[T any](value T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return value
	}
}
