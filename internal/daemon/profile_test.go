package daemon

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/flamegraph"
	"fluentd-perf/internal/profiler"
)

// plantedHot takes a processor for as long as ctx lasts.
//
//go:noinline
func plantedHot(ctx context.Context) (sum int) {
	for ctx.Err() == nil {
		for i := range 1 << 16 {
			sum += i * sum
		}
	}
	return sum
}

// plantedLock holds a lock for which another waits.
//
//go:noinline
func plantedLock(mu *sync.Mutex) {
	mu.Lock()
	<-time.After(100 * time.Microsecond)
	mu.Unlock()
}

// adminOf runs a daemon until the test ends and returns its admin socket.
func adminOf(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "profile") // short enough for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := newOverlapping(t, Paths{Runtime: dir}, "http://127.0.0.1:9/mcp")
	t.Cleanup(d.end)
	return filepath.Join(dir, SocketName)
}

// TestProfile asks a daemon that works for profiles over its admin socket: they find what is planted beside it, the second of two is
// refused, and nothing is looked at any more once the one who asked has left.
func TestProfile(t *testing.T) {
	path := adminOf(t)
	ask := func(ctx context.Context, kind profiler.Kind, ms int64) (made api.Profile, err error) {
		err = api.Call(ctx, path, api.CallProfile, api.ProfileParams{Kind: kind, DurationMs: ms}, &made)
		return made, err
	}
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var mu sync.Mutex
	all.Go(func() { plantedHot(ctx) })
	for range 2 {
		all.Go(func() {
			for ctx.Err() == nil {
				plantedLock(&mu)
			}
		})
	}
	defer all.Wait()
	defer stop()
	finds := func(kind profiler.Kind, name string) bool {
		made, err := ask(t.Context(), kind, 1000) // in which a process gets a processor, on a busy machine too
		if err != nil {
			t.Fatal(err)
		}
		raw, err := made.Raw()
		if err != nil {
			t.Fatal(err)
		}
		p, err := profiler.Parse(raw, kind)
		if err != nil {
			t.Fatal(err)
		}
		if made.PID != os.Getpid() {
			t.Errorf("%s: of process %d", kind, made.PID)
		}
		return slices.ContainsFunc(profiler.NewReport(kind, p, nil).Functions, func(f flamegraph.Function) bool {
			return strings.HasSuffix(f.Name, name) && f.Total*3 > p.Root.Total
		})
	}
	for kind, name := range map[profiler.Kind]string{profiler.CPU: ".plantedHot", profiler.Mutex: ".plantedLock"} {
		found := false
		for try := 0; try < 10 && !found; try++ { // others of this process may have waited for longer, where it gets no processor
			found = finds(kind, name)
		}
		if !found {
			t.Errorf("%s does not find %s", kind, name)
		}
	}

	leaving, leave := context.WithCancelCause(t.Context())
	left, gone := make(chan error, 1), errors.New("gone")
	go func() {
		_, err := ask(leaving, profiler.Mutex, 60_000)
		for refused := (*api.RefusedError)(nil); errors.As(err, &refused); { // for one of those below
			_, err = ask(leaving, profiler.Mutex, 60_000)
		}
		left <- err
	}()
	var busy *api.RefusedError
	for busy == nil {
		_, err := ask(t.Context(), profiler.Goroutines, 0)
		errors.As(err, &busy)
	}
	if !strings.Contains(busy.Error(), "another profile is being recorded: mutex since ") || runtime.SetMutexProfileFraction(-1) == 0 {
		t.Errorf("%v", busy)
	}
	leave(gone)
	if err := <-left; err == nil {
		t.Error("there is a profile for one who has left")
	}
	for { // the daemon learns of it from the connection's end
		if _, err := ask(t.Context(), profiler.Goroutines, 0); err == nil {
			break
		}
	}
	if rate := runtime.SetMutexProfileFraction(-1); rate != 0 {
		t.Errorf("one in %d waits for a lock is still looked at", rate)
	}
	for kind, says := range map[profiler.Kind]string{"speed": "no kind of profile", profiler.CPU: "at most 10m0s, not 11m0s"} {
		if _, err := ask(t.Context(), kind, 660_000); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}
