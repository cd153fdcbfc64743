package profiler_test

import (
	"context"
	"errors"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"fluentd-perf/internal/flamegraph"
	"fluentd-perf/internal/profiler"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// recordFor is long enough for samples, on a machine that is busy with other things too: a processor's are 100 a second.
const recordFor = time.Second

// plantedHot takes a processor until it is told to stop.
//
//go:noinline
func plantedHot(stop *bool, mu *sync.Mutex) (sum int) {
	for {
		for i := range 1 << 16 {
			sum += i * sum
		}
		mu.Lock()
		over := *stop
		mu.Unlock()
		if over {
			return sum
		}
	}
}

// plantedLock holds a lock for which others wait. Go counts no wait for a lock that has had waiters at all times since before the rate
// was set (sema.go hands the missing time on from waiter to waiter): here at most one waits.
//
//go:noinline
func plantedLock(mu *sync.Mutex) {
	mu.Lock()
	<-time.After(100 * time.Microsecond) // as a server that is asked under it
	mu.Unlock()
}

// planted keeps the last of what was allocated.
var planted [32][]byte

//go:noinline
func plantedAllocs() {
	copy(planted[:], planted[1:])
	planted[len(planted)-1] = make([]byte, 512<<10)
	<-time.After(time.Millisecond)
}

// under has goroutines do things until the test's function has returned.
func under(t *testing.T, n int, work func(), during func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for ctx.Err() == nil {
				work()
			}
		})
	}
	during()
	cancel()
	all.Wait()
}

// report records a profile and makes the report of it.
func report(t *testing.T, kind profiler.Kind) *profiler.Report {
	t.Helper()
	made, err := new(profiler.Recorder).Record(t.Context(), kind, recordFor)
	if err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	raw, err := made.Raw()
	if err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	p, err := profiler.Parse(raw, kind)
	if err != nil {
		t.Fatalf("%s: %v", kind, err)
	}
	return profiler.NewReport(kind, p, nil)
}

// finds holds that a planted function took most of a profile, by itself, or on a processor with the detector of races that it calls.
func finds(t *testing.T, r *profiler.Report, name string) {
	t.Helper()
	at := slices.IndexFunc(r.Functions, func(f flamegraph.Function) bool { return strings.HasSuffix(f.Name, name) })
	if at < 0 || r.Kind != profiler.CPU && at > 0 || r.Functions[at].Total*2 < r.Total {
		t.Errorf("%s: the planted function is not first: %+v of %d", r.Kind, r.Functions[:min(5, len(r.Functions))], r.Total)
	}
}

// TestPlanted holds that each kind of profile finds what it is for.
func TestPlanted(t *testing.T) {
	var mu, flag sync.Mutex
	stop := false
	under(t, 1, func() { plantedHot(&stop, &flag) }, func() {
		finds(t, report(t, profiler.CPU), ".plantedHot")
		flag.Lock()
		stop = true
		flag.Unlock()
	})
	under(t, 2, func() { plantedLock(&mu) }, func() {
		finds(t, report(t, profiler.Mutex), ".plantedLock")
		finds(t, report(t, profiler.Block), ".plantedLock")
	})
	under(t, 1, plantedAllocs, func() {
		finds(t, report(t, profiler.Allocs), ".plantedAllocs")
	})
	finds(t, report(t, profiler.Heap), ".plantedAllocs")
	clear(planted[:])
	if r := report(t, profiler.Goroutines); r.Total != int64(runtime.NumGoroutine()) || r.DurationMs != 0 || r.Unit != "count" {
		t.Errorf("%d goroutines are %+v", runtime.NumGoroutine(), r)
	}
}

// TestDifference holds that what was before a recording is not in it.
func TestDifference(t *testing.T) {
	var mu sync.Mutex
	contend := func() { under(t, 2, func() { plantedLock(&mu) }, func() { report(t, profiler.Mutex) }) }
	contend()
	if r := report(t, profiler.Mutex); r.Total > int64(recordFor/2) {
		t.Errorf("nobody waited, and %v were recorded: %+v", time.Duration(r.Total), r.Functions)
	}
}

// TestRates holds that nothing is looked at any more when a recording has ended, by itself or because nobody wants it.
func TestRates(t *testing.T) {
	gone := errors.New("gone")
	for _, kind := range []profiler.Kind{profiler.Block, profiler.Mutex} {
		left, cancel := context.WithCancelCause(t.Context())
		cancel(gone)
		if made, err := new(profiler.Recorder).Record(left, kind, time.Minute); !errors.Is(err, gone) || made.Data != nil {
			t.Errorf("%s: %v", kind, err)
		}
		report(t, kind)
		if rate := runtime.SetMutexProfileFraction(-1); rate != 0 {
			t.Errorf("%s: the fraction of locks is %d", kind, rate)
		}
		before := waits()
		var mu sync.Mutex
		under(t, 2, func() { plantedLock(&mu) }, func() { report(t, profiler.Goroutines) })
		c, done := make(chan int), make(chan int)
		go func() { <-c; close(done) }()
		c <- 1
		<-done
		if after := waits(); after != before {
			t.Errorf("%s: %d places where goroutines wait, and then %d", kind, before, after)
		}
	}
	left, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	if _, err := new(profiler.Recorder).Record(left, profiler.CPU, time.Minute); !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
	if err := pprof.StartCPUProfile(new(strings.Builder)); err != nil {
		t.Errorf("the processors are still looked at: %v", err)
	}
	pprof.StopCPUProfile()
}

// waits is how many places are known where goroutines waited.
func waits() int { return pprof.Lookup("block").Count() + pprof.Lookup("mutex").Count() }

// TestOneAtATime holds that the second of two is told, of every kind, and that the place is free again afterwards.
func TestOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r profiler.Recorder
		first := make(chan error)
		go func() {
			_, err := r.Record(t.Context(), profiler.Mutex, time.Minute)
			first <- err
		}()
		synctest.Wait()
		for _, kind := range profiler.Kinds() {
			_, err := r.Record(t.Context(), kind, time.Second)
			if !errors.Is(err, profiler.ErrBusy) || !strings.Contains(err.Error(), "mutex since 00:00:00, for 1m0s") {
				t.Errorf("%s: %v", kind, err)
			}
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
		if _, err := r.Record(t.Context(), profiler.Mutex, time.Second); err != nil {
			t.Error(err)
		}
	})
}

// TestBounds holds what cannot be recorded.
func TestBounds(t *testing.T) {
	for _, c := range []struct {
		kind profiler.Kind
		d    time.Duration
		says string
	}{
		{"speed", time.Second, `no kind of profile "speed": there are cpu, heap, allocs, block, mutex, goroutines`},
		{profiler.CPU, 0, "more than nothing and at most 10m0s, not 0s"},
		{profiler.CPU, -1, "not -1ns"},
		{profiler.Mutex, profiler.MaxDuration + 1, "at most 10m0s"},
	} {
		if _, err := new(profiler.Recorder).Record(t.Context(), c.kind, c.d); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s for %v: %v", c.kind, c.d, err)
		}
	}
	if _, err := new(profiler.Recorder).Record(t.Context(), profiler.Heap, -1); err != nil {
		t.Errorf("a state has no time: %v", err)
	}
}
