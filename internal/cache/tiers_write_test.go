package cache_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache/memory"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/cache/worker"
	"fluentd-perf/internal/mcp"
)

// fills asks n different requests whose answers are stored.
func (r *rig) fills(name string, n int) {
	r.tb.Helper()
	for i := range n {
		r.want("a", fmt.Sprintf("resources/read file:///%s/%d", name, i), r.own.says, "fwd=miss stored")
	}
}

// wantBatches checks in what batches entries were written.
func wantBatches(t *testing.T, held *rigTier, want ...int) {
	t.Helper()
	var sizes []int
	for _, op := range held.did("write") {
		sizes = append(sizes, len(op.keys))
	}
	if !slices.Equal(sizes, want) {
		t.Errorf("batches of %v, want %v", sizes, want)
	}
}

// firstKeys are the private keys that were read, writtenKeys those that were written, in order.
func firstKeys(held *rigTier) (keys []tier.Key) {
	for _, op := range held.did("read") {
		keys = append(keys, op.keys[0])
	}
	return keys
}

func writtenKeys(held *rigTier) (keys []tier.Key) {
	for _, op := range held.did("write") {
		keys = append(keys, op.keys...)
	}
	return keys
}

func TestWriteBehind(t *testing.T) {
	rigTest(t, func(r *rig, held *rigTier, b *rigBreaker) {
		open := held.gate("write")
		r.fills("first", 1)
		synctest.Wait() // the worker is at it
		r.fills("many", 300)
		if s := r.tier("redis"); s.Queue != 300 || s.Written != 0 || s.Dropped != 0 {
			t.Fatalf("while the tier is busy: %+v", s)
		}
		b.hold(true)
		open()
		after(time.Minute)
		if s := r.tier("redis"); s.Queue != 300 || s.Written != 1 || s.Dropped != 0 {
			t.Fatalf("while the breaker is open: %+v", s)
		}
		b.hold(false)
		after(250 * time.Millisecond)
		wantBatches(t, held, 1, 128, 128, 44)
		if s := r.tier("redis"); s.Queue != 0 || s.Written != 301 || s.Dropped != 0 || s.Entries != 301 {
			t.Errorf("at the end: %+v", s)
		}
		if !slices.Equal(firstKeys(held), writtenKeys(held)) {
			t.Error("entries were written in another order than they came")
		}
	})
}

// TestQueueIsBoundedByNumber fills the queue: what does not fit is dropped and counted, and nothing else.
func TestQueueIsBoundedByNumber(t *testing.T) {
	const most = 4096
	rigTest(t, func(r *rig, held *rigTier, _ *rigBreaker) {
		open := held.gate("write")
		r.fills("first", 1)
		synctest.Wait()
		r.fills("many", most+100)
		if s := r.tier("redis"); s.Queue != most || s.Dropped != 100 {
			t.Fatalf("%d wait and %d were dropped", s.Queue, s.Dropped)
		}
		open()
		if s := r.tier("redis"); s.Queue != 0 || s.Written != 1+most || s.Dropped != 100 {
			t.Errorf("at the end: %+v", s)
		}
		if !slices.Equal(firstKeys(held)[:1+most], writtenKeys(held)) {
			t.Error("other entries were written than came first")
		}
		r.fills("later", 1) // there is room again
		synctest.Wait()
		if s := r.tier("redis"); s.Written != 2+most || s.Dropped != 100 {
			t.Errorf("after that: %+v", s)
		}
	})
}

func TestQueueIsBoundedByBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const each, most, batch = 900_000, 32 << 20 / 900_000, 4 << 20 / 900_000
		held := newRigTier("redis", newRigDisk())
		server := &rigServer{ttl: time.Minute, scope: "private", says: strings.Repeat("x", each-1000)}
		r := newRig(t, rigOptions{
			tiers: []worker.Options{slow(held)}, server: server, memory: memory.Options{Size: 8 << 20, MaxEntry: 1 << 20},
		})
		open := held.gate("write")
		r.fills("first", 1)
		synctest.Wait()
		r.fills("many", most+5)
		if s := r.tier("redis"); s.Queue != most || s.Dropped != 5 {
			t.Fatalf("%d wait and %d were dropped, want %d and 5", s.Queue, s.Dropped, most)
		}
		server.set(func() { server.says = "small" })
		r.fills("small", 1) // fits
		open()
		for _, op := range held.did("write") {
			if op.bytes > 4<<20 {
				t.Errorf("a batch of %d bytes", op.bytes)
			}
		}
		if s := r.tier("redis"); s.Queue != 0 || s.Written != most+2 || s.Dropped != 5 {
			t.Errorf("at the end: %+v", s)
		}
		if n := len(held.did("write")); n != 1+(most+batch-1)/batch {
			t.Errorf("%d batches of %d", n, batch)
		}
		r.close(time.Second)
	})
}

func TestFailingWriteDoesNotStopTheNext(t *testing.T) {
	for name, fate := range map[string]rigFate{"fails": rigFails, "hangs": rigHangs, "answer lost": rigMutes} {
		t.Run(name, func(t *testing.T) {
			rigTest(t, func(r *rig, held *rigTier, b *rigBreaker) {
				open := held.gate("write")
				r.fills("first", 1)
				synctest.Wait()
				r.fills("many", 200)
				held.set(func() {
					held.fate = func(op rigOp, n int) rigFate {
						if op.name == "write" && n == 2 {
							return fate
						}
						return rigWorks
					}
				})
				open()
				after(3 * time.Second)
				wantBatches(t, held, 1, 128, 72)
				if s := r.tier("redis"); s.Written != 73 || s.Dropped != 128 || s.Queue != 0 || s.Error == "" {
					t.Errorf("stats: %+v", s)
				}
				if b.failures != 1 {
					t.Errorf("%d failures", b.failures)
				}
			})
		})
	}
}

// TestWithdrawnIsNotWritten has a request's answer turn from everybody's into the principal's own while the public one still
// waits to be written, or is on its way.
func TestWithdrawnIsNotWritten(t *testing.T) {
	for _, way := range []string{"written", "on its way", "waiting"} {
		t.Run(way, func(t *testing.T) {
			rigTest(t, func(r *rig, held *rigTier, _ *rigBreaker) {
				open := func() {}
				if way != "written" {
					open = held.gate("write")
				}
				if way == "waiting" {
					r.fills("first", 1)
					synctest.Wait()
				}
				r.own.set(func() { r.own.scope, r.own.ttl = "public", time.Second })
				r.want("a", "tools/list", "v1", "fwd=miss stored")
				synctest.Wait()
				last := held.did("read")[len(held.did("read"))-1]
				public, generations := last.keys[1], last.generations[2:]
				after(time.Second)
				r.own.set(func() { r.own.scope, r.own.says = "private", "v2" })
				r.want("a", "tools/list", "v2", "fwd=miss stored")
				open()
				after(0)
				found := held.disk.read([]tier.Lookup{{Key: public, Generations: generations}})
				if found[0].Value != nil {
					t.Error("a withdrawn entry is served")
				}
				// The first write is of the public entry, or where that was still waiting of another one.
				if got := held.order(); got != "write bump write" {
					t.Errorf("the tier had %s", got)
				}
				// b asks for itself, and is not shown what was public.
				r.own.set(func() { r.own.says = "v3" })
				r.want("b", "tools/list", "v3", "fwd=miss stored")
			})
		})
	}
}

// TestSpoiltEntryIsWrittenOver has a tier not take the deletion of an entry that does not open: it is a miss, and is written
// over.
func TestSpoiltEntryIsWrittenOver(t *testing.T) {
	rigTest(t, func(r *rig, held *rigTier, b *rigBreaker) {
		r.own.set(func() { r.own.scope, r.own.ttl = "public", time.Minute })
		r.want("a", "tools/list", "v1", "fwd=miss stored")
		r.want("b", "prompts/list", "v1", "fwd=miss stored")
		synctest.Wait()
		public := held.did("read")[0].keys[1]
		held.set(func() { held.fate = always(rigFails, "delete") })
		held.disk.change(func(k tier.Key, w *tier.Write) {
			if k == public {
				w.Value = []byte("rubbish")
			}
		})
		r.forget()
		r.want("a", "tools/list", "v1", "fwd=miss stored") // finds the rubbish
		after(time.Second)
		r.forget()
		r.want("a", "tools/list", "v1", "redis")
		r.want("b", "prompts/list", "v1", "redis") // other keys are as they were
	})
}

// TestBusyWriters has many agents, a slow tier and a breaker that comes and goes: each entry is written, dropped or still
// waits, and is counted once.
func TestBusyWriters(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rigTest(t, func(r *rig, held *rigTier, b *rigBreaker) {
		random := rand.New(rand.NewPCG(seed, 1))
		held.set(func() {
			held.fate = func(op rigOp, n int) rigFate {
				if op.name == "write" && n%7 == 3 {
					return rigFails
				}
				return rigWorks
			}
			held.wait = func(ctx context.Context, op rigOp) {
				if op.name == "write" {
					<-time.After(time.Duration(10+len(op.keys)) * time.Millisecond)
				}
			}
		})
		queued := 0
		for i := range 2000 {
			before := len(held.did("read"))
			told := r.ask("a", fmt.Sprint("resources/read file:///", i))
			if told.err != nil || told.from() != "fwd=miss stored" {
				t.Fatalf("told %+v", told)
			}
			queued += len(held.did("read")) - before
			if random.IntN(10) == 0 {
				after(time.Duration(random.IntN(100)) * time.Millisecond)
			}
			if random.IntN(200) == 0 {
				b.hold(!b.held)
			}
		}
		b.hold(false)
		after(time.Minute)
		s := r.tier("redis")
		if s.Queue != 0 || int(s.Written+s.Dropped) != queued || s.Dropped == 0 || s.Written < uint64(queued)/2 {
			t.Errorf("%d were queued: %+v", queued, s)
		}
		if n := len(held.disk.keys()); n != int(s.Written) {
			t.Errorf("%d are there, %d were written", n, s.Written)
		}
	})
}

// TestWithdrawnMeetsAReadOnItsWay has the tier answer a read that began before the key was withdrawn, after the tier has
// forgotten it.
func TestWithdrawnMeetsAReadOnItsWay(t *testing.T) {
	rigTest(t, func(r *rig, held *rigTier, _ *rigBreaker) {
		r.own.set(func() { r.own.scope, r.own.ttl = "public", 4*time.Second })
		r.want("a", "prompts/list", "v1", "fwd=miss stored")
		r.want("b", "tools/list", "v1", "fwd=miss stored")
		after(time.Second)
		r.forget()
		gate, first := make(chan struct{}), true
		held.set(func() {
			held.mangle = func(found []tier.Found) []tier.Found { // read before, answered after
				if first {
					first = false
					held.mu.Unlock()
					<-gate
					held.mu.Lock()
				}
				return found
			}
		})
		reading := r.begin("a", "tools/list")
		r.own.set(func() { r.own.scope, r.own.says = "private", "b's" })
		held.set(func() { held.fate = always(rigFails, "read") }) // b does not see what a sees
		r.want("b", "tools/list", "b's", "fwd=miss stored")
		held.set(func() { held.fate = nil })
		after(0)
		if got := held.order(); got != "write write bump" && got != "write bump" {
			t.Errorf("the tier had %s", got)
		}
		r.own.set(func() { r.own.says = "a's" })
		close(gate)
		if told := reading.end(); told.says != "a's" {
			t.Errorf("told %+v", told)
		}
	})
}

// TestReadsThatAreNotMadeHarmNoOther has one request's reads be failed by the tier, over and over, with private answers: that
// withdraws what everybody might have under that request, and does not discard what another request's read brings.
func TestReadsThatAreNotMadeHarmNoOther(t *testing.T) {
	rigTest(t, func(r *rig, held *rigTier, _ *rigBreaker) {
		r.want("a", "tools/list", "v1", "fwd=miss stored")
		synctest.Wait()
		r.forget()
		gate, first := make(chan struct{}), true
		held.set(func() {
			held.mangle = func(found []tier.Found) []tier.Found {
				if first {
					first = false
					held.mu.Unlock()
					<-gate
					held.mu.Lock()
				}
				return found
			}
		})
		reading := r.begin("a", "tools/list")
		held.set(func() { held.fate = always(rigFails, "read") })
		r.want("b", "resources/read file:///x", "v1", "fwd=miss stored")
		held.set(func() { held.fate = nil })
		synctest.Wait()
		close(gate)
		if told := reading.end(); told.from() != "redis" {
			t.Errorf("told %+v, want the tier's answer", told)
		}
	})
}

// TestWithdrawalMeetsAPublicAnswer has an answer for everybody be under way while the request's answer turns private: it is
// not kept.
func TestWithdrawalMeetsAPublicAnswer(t *testing.T) {
	rigTest(t, func(r *rig, held *rigTier, _ *rigBreaker) {
		r.own.set(func() { r.own.scope, r.own.says = "public", "everybody's" })
		r.want("a", "tools/list", "everybody's", "fwd=miss stored")
		r.want("b", "prompts/list", "everybody's", "fwd=miss stored")
		after(time.Minute) // that is over; who is known stays
		gate := make(chan struct{})
		r.own.set(func() {
			r.own.script = func(_ context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
				if c.Header.Get("Authorization") == "a" {
					<-gate
					return rigAnswer(c, 60_000, "public", "everybody's"), nil
				}
				return rigAnswer(c, 60_000, "private", "b's"), nil
			}
		})
		reading := r.begin("a", "tools/list")
		r.want("b", "tools/list", "b's", "fwd=miss stored")
		close(gate)
		if told := reading.end(); told.from() != "fwd=miss" {
			t.Errorf("told %+v", told)
		}
		synctest.Wait()
		r.own.set(func() { r.own.script = nil; r.own.scope, r.own.says = "private", "a's" })
		r.want("a", "tools/list", "a's", "fwd=miss stored")
	})
}

// TestOnlyTheWorkerSeals: an answer that compresses well is small in both of two tiers, the same bytes in each, and while its
// write waits it counts with its whole length.
func TestOnlyTheWorkerSeals(t *testing.T) {
	for _, scope := range []string{"private", "public"} {
		t.Run(scope, func(t *testing.T) {
			stacked(t, scope, func(r *rig, one, two *rigTier) {
				r.own.set(func() { r.own.says = strings.Repeat("text ", 10_000) })
				r.want("a", "tools/list", r.own.says, "fwd=miss stored")
				synctest.Wait()
				a, b := one.disk.entries[one.disk.keys()[0]], two.disk.entries[two.disk.keys()[0]]
				if len(a.Value) > 1000 || !bytes.Equal(a.Value, b.Value) {
					t.Errorf("%d and %d bytes, the same: %t", len(a.Value), len(b.Value), bytes.Equal(a.Value, b.Value))
				}
				r.forget()
				r.want("a", "tools/list", r.own.says, "redis")
			})
		})
	}
}
