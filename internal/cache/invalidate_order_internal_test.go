package cache

import (
	"context"
	"io"
	"runtime"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/cache/memory"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/cache/worker"
	"fluentd-perf/internal/mcp"
)

// flagsTier is a tier of this daemon alone that has nothing.
type flagsTier struct{ tier.Tier }

func (flagsTier) Name() string                                  { return "database" }
func (flagsTier) BumpAll(context.Context) error                 { return nil }
func (flagsTier) Bump(context.Context, []tier.Generation) error { return nil }
func (flagsTier) Close() error                                  { return nil }

type flagsBreaker struct{}

func (flagsBreaker) Allow(time.Duration) (func(error), bool) { return func(error) {}, true }
func (flagsBreaker) State() string                           { return "closed" }

// flagsEvents are a stream with nothing on it.
type flagsEvents struct{}

func (flagsEvents) Next() (mcp.Event, error) { return mcp.Event{}, io.EOF }
func (flagsEvents) Close() error             { return nil }

func newFlagsUpstream(t *testing.T) *Stage {
	t.Helper()
	s, err := NewStore(StoreOptions{Memory: memory.Options{Size: 1 << 20}, State: MemoryState([]byte("0123456789abcdef"))})
	if err != nil {
		t.Fatal(err)
	}
	s.Add(worker.Options{Tier: flagsTier{}, Timeout: time.Second, Breaker: flagsBreaker{}})
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s.Stage(StageOptions{Name: "docs", Identity: "docs"}, nil)
}

// noneReturns runs f twice at once while something holds up what it has to do, and fails if one of the two returns before.
func noneReturns(t *testing.T, what string, lock, unlock, f func()) {
	t.Helper()
	done := make(chan struct{}, 2)
	lock()
	for range 2 {
		go func() { f(); done <- struct{}{} }()
	}
	for range 100_000 {
		runtime.Gosched()
	}
	earlyChanges := len(done)
	unlock()
	<-done
	<-done
	if earlyChanges > 0 {
		t.Errorf("%s: %d of two returned before", what, earlyChanges)
	}
}

// lockBumps returns a lock that holds up every bump of memory.
func lockBumps(s *Store) *sync.Mutex {
	bumping, bump := new(sync.Mutex), s.bumpMemory
	s.bumpMemory = func(generations []tier.Generation) {
		bumping.Lock()
		defer bumping.Unlock()
		bump(generations)
	}
	return bumping
}

// TestWritesTellBeforeTheyReturn: of two tools/calls at once the second relies on it that the first tells the tiers, but
// neither goes on before they are told: its agent would be given what was there before its own write.
func TestWritesTellBeforeTheyReturn(t *testing.T) {
	var w writers
	var telling sync.Mutex
	w.noteWrite(partition{1})
	noneReturns(t, "the tier is not told yet", telling.Lock, telling.Unlock, func() {
		w.invalidate(partition{1}, func(bool) {
			telling.Lock()
			defer telling.Unlock()
		})
	})
}

// TestStreamsOpenWhenAllIsStale: of two streams that begin at once after a gap the second relies on it that the first makes
// old what was kept before the gap, but neither stands before it is.
func TestStreamsOpenWhenAllIsStale(t *testing.T) {
	u := newFlagsUpstream(t)
	c := &mcp.Call{Lane: mcp.LaneStream, Era: mcp.EraLegacy}
	begin := func() mcp.Events { return u.watch(flagsEvents{}, c, partition{}, "") }
	if err := begin().Close(); err != nil {
		t.Fatal(err)
	}
	bumping := lockBumps(u.store)
	noneReturns(t, "what was kept is not stale yet", bumping.Lock, bumping.Unlock, func() { begin() })
}

// TestAnotherServerIsKnownWhenAllIsStale: of two answers of a new server at once neither goes on before everything is stale.
func TestAnotherServerIsKnownWhenAllIsStale(t *testing.T) {
	u := newFlagsUpstream(t)
	u.noteServer(mcp.EraModern, []byte("one"))
	u.noteServer(mcp.EraModern, []byte("two"))
	bumping := lockBumps(u.store)
	noneReturns(t, "what was kept is not stale yet", bumping.Lock, bumping.Unlock, func() { u.noteServer(mcp.EraModern, []byte("two")) })
}
