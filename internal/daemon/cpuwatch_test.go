package daemon

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/upstream/stdio/process"
)

// TestCPUWatch: who uses a core for idle_timeout without a call is told of, once in the log, and in the status for as long as it does.
func TestCPUWatch(t *testing.T) {
	const timeout = 10 * time.Minute
	atStart := func(time.Duration) time.Duration { return 0 }
	for name, c := range map[string]struct {
		share  float64                               // of a core
		unused func(now time.Duration) time.Duration // since the start; -1: a call is under way
		after  time.Duration
		end    []bool // what ends it says, one time after another; nil: a session has it
		logged int
		busy   bool
	}{
		"spins":        {1, atStart, 11 * time.Minute, nil, 1, true},
		"spins shared": {1, atStart, 12 * time.Minute, []bool{true}, 1, true},
		"just called":  {1, atStart, 12 * time.Minute, []bool{false, true}, 2, true},
		"works shared": {1, atStart, 9 * time.Minute, []bool{true}, 0, false},
		"spins twice":  {2, atStart, time.Hour, nil, 1, true},
		"not yet":      {1, atStart, 9 * time.Minute, nil, 0, false},
		"uses less":    {0.85, atStart, time.Hour, nil, 0, false},
		"in a call":    {1, func(time.Duration) time.Duration { return -1 }, time.Hour, nil, 0, false},
		"called often": {1, func(now time.Duration) time.Duration { return now.Truncate(5 * time.Minute) }, time.Hour, nil, 0, false},
		"called late":  {1, func(now time.Duration) time.Duration { return now.Truncate(20 * time.Minute) }, 61 * time.Minute, nil, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begin, one, ends, left := time.Now(), new(process.Process), 0, c.end
				read := func() []cpuSample {
					now := time.Since(begin)
					s := cpuSample{process: one, upstream: "s", timeout: timeout, cpu: time.Duration(c.share * float64(now))}
					if c.end != nil {
						s.end = func() bool {
							ended := len(left) > 0 && left[0]
							left = left[min(1, len(left)):]
							if ended {
								ends++
							}
							return ended
						}
					}
					if at := c.unused(now); at >= 0 {
						s.unused = begin.Add(at)
					}
					return []cpuSample{s}
				}
				var log bytes.Buffer
				w := newCPUWatch(slog.New(slog.NewTextHandler(&log, nil)), read, func() time.Duration { return timeout })
				w.begin()
				time.Sleep(c.after + time.Second) // false time
				synctest.Wait()
				busy := w.busy(one)
				w.close()
				if n := strings.Count(log.String(), "upstream=s"); n != c.logged {
					t.Errorf("%d log lines, want %d:\n%s", n, c.logged, log.String())
				}
				if want := c.end != nil && c.logged > 0; (ends == 1) != want || strings.Contains(log.String(), "ended=true") != want {
					t.Errorf("ended %d times:\n%s", ends, log.String())
				}
				if (busy > 0) != c.busy || busy > 0 && busy < timeout {
					t.Errorf("busy for %v", busy)
				}
			})
		})
	}
}

// TestCPUWatchForgets: what has ended is kept no longer, and a process that begins with much CPU time is not taken for one that spins.
func TestCPUWatchForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var samples []cpuSample
		w := newCPUWatch(slog.New(slog.DiscardHandler), func() []cpuSample { return samples }, nil)
		samples = []cpuSample{{process: new(process.Process), timeout: time.Second, unused: time.Now(), cpu: time.Hour}}
		for range 10 {
			w.sample()
			time.Sleep(time.Second) // false time
		}
		if busy := w.busy(samples[0].process); busy != 0 {
			t.Errorf("busy for %v", busy)
		}
		samples = nil
		w.sample()
		if len(w.spans) != 0 {
			t.Errorf("%d are known", len(w.spans))
		}
	})
}

func TestCPUPause(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{
		time.Second: time.Second, time.Minute: 6 * time.Second, time.Hour: 30 * time.Second,
	} {
		if got := cpuPause(timeout); got != want {
			t.Errorf("for %v: %v, want %v", timeout, got, want)
		}
	}
}
