package process

import (
	"context"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
)

// maxGuardSize is what a guard may take, in bytes of PSS.
const maxGuardSize = 6 << 20

// TestGuardMemory measures a guard while 16 servers start at once, and end at once. It is measured alone: where the daemon runs
// beside it, they share pages. It is this test's own binary, or the program that GUARD_PROGRAM names; e2e measures the real one.
func TestGuardMemory(t *testing.T) {
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("the race detector's memory is not the guard's")
	}
	g := testGuard(t, usualLadder)
	if program := os.Getenv("GUARD_PROGRAM"); program != "" {
		g.program = program
	}
	cat := Spec{Name: "cat", Command: []string{"cat"}, Dir: "/", Env: os.Environ()}
	first, err := g.Start(context.Background(), cat)
	if err != nil {
		t.Fatal(err)
	}
	sampled := samplePeak(g.host.pid())
	var all sync.WaitGroup
	servers := make(chan *Process, 16)
	for range cap(servers) {
		all.Go(func() {
			p, err := g.Start(context.Background(), cat)
			if err != nil {
				t.Error(err)
				return
			}
			p.Stop()
			servers <- p
		})
	}
	all.Wait()
	close(servers)
	for p := range servers {
		await(t, "Gone", p.Gone())
		p.Stdout().Close()
	}
	size := sampled()
	t.Logf("PSS %d KiB at most", size>>10)
	if size == 0 || size > maxGuardSize {
		t.Errorf("the guard takes %d bytes, want at most %d", size, maxGuardSize)
	}
	first.Stdout().Close()
}

// samplePeak measures a process until the function that it returns is called, which returns the most PSS seen in bytes.
func samplePeak(pid int) func() int64 {
	stop, peak := make(chan struct{}), make(chan int64)
	go func() {
		most := int64(0)
		for {
			most = max(most, proportionalSize(pid))
			select {
			case <-stop:
				peak <- most
				return
			default:
			}
		}
	}()
	return func() int64 {
		close(stop)
		return <-peak
	}
}

func BenchmarkStart(b *testing.B) {
	g := testGuard(b, usualLadder)
	one := Spec{Name: "cat", Command: []string{"cat"}, Dir: "/", Env: os.Environ()}
	warm, err := g.Start(context.Background(), one)
	if err != nil {
		b.Fatal(err)
	}
	defer warm.Stdout().Close()
	for b.Loop() {
		p, err := g.Start(context.Background(), one)
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		p.Stop()
		await(b, "Gone", p.Gone())
		p.Stdout().Close()
		b.StartTimer()
	}
}
