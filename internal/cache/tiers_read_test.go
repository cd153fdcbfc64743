package cache_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/mcp"
)

// timed returns how long f took on the false clock.
func timed(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func TestHungTierCostsItsTimeout(t *testing.T) {
	rigTest(t, func(r *rig, held *rigTier, b *rigBreaker) {
		held.set(func() { held.fate = always(rigHangs, "read") })
		for i := range 5 {
			want := 50 * time.Millisecond
			if i >= 3 {
				want = 0 // the breaker is open
			}
			uri := fmt.Sprint("resources/read file:///", i)
			if took := timed(func() { r.want("a", uri, "v1", "fwd=miss stored") }); took != want {
				t.Errorf("call %d took %v, want %v", i, took, want)
			}
		}
		if n := len(held.did("read")); n != 3 || b.failures != 3 {
			t.Errorf("%d reads and %d failures, want 3", n, b.failures)
		}
		held.set(func() { held.fate = nil })
		after(2 * time.Second) // the breaker closes
		if took := timed(func() { r.want("a", "resources/read file:///back", "v1", "fwd=miss stored") }); took != 0 || len(held.did("read")) != 4 {
			t.Errorf("a tier that works again was read %d times, in %v", len(held.did("read"))-3, took)
		}
		if s := r.tier("redis"); s.Errors != 3 || s.Skipped != 2 || s.Misses != 1 || s.Hits != 0 || s.Error != "" {
			t.Errorf("stats: %+v", s)
		}
	})
}

func TestTierErrorsReachNoAgent(t *testing.T) {
	other := func(n int) func([]tier.Found) []tier.Found {
		return func(f []tier.Found) []tier.Found { return slices.Grow(f, 9)[:n] }
	}
	for name, break_ := range map[string]func(held *rigTier){
		"error":        func(held *rigTier) { held.fate = always(rigFails, "read", "write", "bump", "delete") },
		"answer lost":  func(held *rigTier) { held.fate = always(rigMutes, "read", "write", "bump", "delete") },
		"no answers":   func(held *rigTier) { held.mangle = other(0) },
		"few answers":  func(held *rigTier) { held.mangle = other(1) },
		"many answers": func(held *rigTier) { held.mangle = other(7) },
		"no tokens": func(held *rigTier) {
			held.mangle = func(f []tier.Found) []tier.Found { f[0].Tokens, f[1].Tokens = nil, f[1].Tokens[:0]; return f }
		},
		"too many tokens": func(held *rigTier) {
			held.mangle = func(f []tier.Found) []tier.Found { f[0].Tokens = append(f[0].Tokens, 7); return f }
		},
	} {
		t.Run(name, func(t *testing.T) {
			rigTest(t, func(r *rig, held *rigTier, b *rigBreaker) {
				held.set(func() { break_(held) })
				for i := range 10 {
					r.want("a", fmt.Sprint("resources/read file:///", i%2), "v1", []string{"fwd=miss stored", "memory"}[min(i/2, 1)])
				}
				r.notify(rigUpdated, "file:///0")
				r.want("a", "resources/read file:///0", "v1", "fwd=miss stored")
				synctest.Wait()
				if len(held.disk.keys()) > 0 {
					t.Error("something was written without tokens that could hold")
				}
			})
		})
	}
}

// TestLeaverIsNoFailure has the agent leave while the tier hangs: that says nothing of the tier.
func TestLeaverIsNoFailure(t *testing.T) {
	rigTest(t, func(r *rig, held *rigTier, b *rigBreaker) {
		held.set(func() { held.fate = always(rigHangs, "read") })
		r.own.set(func() {
			r.own.script = func(ctx context.Context, _ *mcp.Call, _ int) (*mcp.Result, error) {
				return nil, &mcp.Failure{Reason: mcp.ReasonCanceled, Cause: context.Cause(ctx)}
			}
		})
		for range 10 {
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
			told := r.askFor(ctx, "a", "tools/list")
			cancel()
			if told.err == nil || told.err.Reason != mcp.ReasonCanceled {
				t.Fatalf("told %+v", told)
			}
		}
		if b.failures != 0 || b.ignored != 10 {
			t.Errorf("%d failures and %d ignored, want 0 and 10", b.failures, b.ignored)
		}
	})
}

func TestOpenBreakerCostsNothing(t *testing.T) {
	rigTest(t, func(r *rig, held *rigTier, b *rigBreaker) {
		b.hold(true)
		if took := timed(func() { r.want("a", "tools/list", "v1", "fwd=miss stored") }); took != 0 {
			t.Errorf("it took %v", took)
		}
		r.want("a", "tools/list", "v1", "memory")
		after(10 * time.Second)
		if len(held.did("read"))+len(held.did("write")) > 0 {
			t.Error("a tier was asked that its breaker holds")
		}
		if s := r.tier("redis"); s.Skipped != 1 || s.Breaker != "open" {
			t.Errorf("stats: %+v", s)
		}
	})
}

// TestGarbageIsAMiss plants all kinds of values that are not the entry's: each is a miss and is deleted.
func TestGarbageIsAMiss(t *testing.T) {
	noise := func(n int) []byte {
		b := make([]byte, n)
		_, _ = rand.Read(b)
		return b
	}
	for name, change := range map[string]func(own, other []byte) []byte{
		"empty":           func(_, _ []byte) []byte { return []byte{} },
		"one byte":        func(_, _ []byte) []byte { return []byte{1} },
		"noise":           func(own, _ []byte) []byte { return noise(len(own)) },
		"noise behind":    func(own, _ []byte) []byte { return append(own[:2:2], noise(200)...) },
		"truncated":       func(own, _ []byte) []byte { return own[:len(own)-1] },
		"cut to the head": func(own, _ []byte) []byte { return own[:2] },
		"longer":          func(own, _ []byte) []byte { return append(own, 0) },
		"a bit":           func(own, _ []byte) []byte { own[len(own)/2] ^= 4; return own },
		"the other key's": func(_, other []byte) []byte { return other },
		"another kind":    func(own, _ []byte) []byte { own[1] ^= 3; return own },
		"another format":  func(own, _ []byte) []byte { own[0]++; return own },
	} {
		for _, scope := range []string{"private", "public"} {
			t.Run(name+" "+scope, func(t *testing.T) {
				rigTest(t, func(r *rig, held *rigTier, _ *rigBreaker) { garbage(r, held, scope, change) })
			})
		}
	}
}

func garbage(r *rig, held *rigTier, scope string, change func(own, other []byte) []byte) {
	r.own.set(func() { r.own.scope = scope })
	r.want("a", "tools/list", "v1", "fwd=miss stored")
	synctest.Wait()
	one := held.disk.keys()[0]
	r.want("a", "prompts/list", "v1", "fwd=miss stored")
	synctest.Wait()
	var other []byte
	held.disk.change(func(k tier.Key, w *tier.Write) {
		if k != one {
			other = w.Value
		}
	})
	held.disk.change(func(k tier.Key, w *tier.Write) {
		if k == one {
			w.Value = change(bytes.Clone(w.Value), bytes.Clone(other))
		}
	})
	r.own.set(func() { r.own.says = "v2" })
	r.forget()
	r.want("a", "tools/list", "v2", "fwd=miss stored")
	synctest.Wait()
	deleted := held.did("delete")
	if len(deleted) == 0 || !slices.Contains(deleted[0].keys, one) {
		r.tb.Error("the entry was not deleted")
	}
	r.forget()
	r.want("a", "prompts/list", "v1", "redis") // what was not touched is as it was
	r.forget()
	r.ask("a", "tools/list")
	synctest.Wait()
	r.forget()
	r.want("a", "tools/list", "v2", "redis") // and the place is not spoilt
}

// TestPlantedUnderAnotherScope moves entries between a request's private and its public key.
func TestPlantedUnderAnotherScope(t *testing.T) {
	for _, scope := range []string{"private", "public"} {
		t.Run(scope+" planted", func(t *testing.T) {
			rigTest(t, func(r *rig, held *rigTier, _ *rigBreaker) {
				var asked []tier.Lookup
				r.own.set(func() { r.own.scope = scope })
				r.want("a", "tools/list", "v1", "fwd=miss stored")
				r.want("b", "prompts/list", "v1", "fwd=miss stored") // b is known, too
				synctest.Wait()
				read := held.did("read")[0]
				private, public := read.keys[0], read.keys[1]
				from, to := private, public
				generations := read.generations[2:] // family, withdrawals
				if scope == "public" {
					from, to = public, private
					generations = read.generations[:2] // family, principal
				}
				var value []byte
				held.disk.change(func(k tier.Key, w *tier.Write) {
					if k == from {
						value = w.Value
					}
				})
				asked = append(asked, tier.Lookup{Key: to, Generations: generations})
				tokens := held.disk.read(asked)[0].Tokens
				held.disk.delete([]tier.Key{from})
				held.disk.write([]tier.Write{{Key: to, Value: value, Expires: time.Now().Add(time.Hour),
					Guard: tier.Guard{Generations: generations, Tokens: tokens}}})
				r.own.set(func() { r.own.says = "v2" })
				r.forget()
				r.want("a", "tools/list", "v2", "fwd=miss stored")
				r.want("b", "tools/list", "v2", map[string]string{"private": "fwd=miss stored", "public": "memory"}[scope])
				synctest.Wait()
				if deleted := held.did("delete"); len(deleted) == 0 || !slices.Contains(deleted[0].keys, to) {
					t.Error("what was planted was not deleted")
				}
			})
		})
	}
}
