package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// reader is what reads the lines: it can stall, fail, and stop in the middle of a line.
type reader struct {
	stall chan struct{} // nil, or a write waits until it is closed
	mu    sync.Mutex
	got   bytes.Buffer
	room  int // bytes that are still taken; below 0: all
}

func (r *reader) Write(b []byte) (int, error) {
	if r.stall != nil {
		<-r.stall
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.room < 0 || len(b) <= r.room {
		r.room = max(r.room-len(b), min(r.room, -1))
		return r.got.Write(b)
	}
	n, _ := r.got.Write(b[:r.room])
	r.room = 0
	return n, errors.New("no reader")
}

func (r *reader) takes(room int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.room = room
}

func (r *reader) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got.String()
}

// queueTo is a queue that reports n lost lines as "(n)".
func queueTo(r *reader) *lineQueue {
	q := newLineQueue(r)
	q.reportBy(func(lost uint64) []byte { return fmt.Appendf(nil, "(%d)\n", lost) })
	return q
}

// TestLineQueueFails: lines that cannot be written are lost, and are reported in their place by the first write that works.
func TestLineQueueFails(t *testing.T) {
	for name, tt := range map[string]struct {
		room int // bytes that are taken before it fails
		want string
		lost uint64
	}{
		"never":                    {-1, "one\ntwo\nthree\nfour\nfive\n", 0},
		"from the start":           {0, "(3)\nfour\nfive\n", 3},
		"between lines":            {4, "one\n(2)\nfour\nfive\n", 2},
		"in the middle of a line":  {6, "one\ntw\n(2)\nfour\nfive\n", 2},
		"before the end of a line": {7, "one\ntwo\n(2)\nfour\nfive\n", 2},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &reader{room: tt.room}
				q := queueTo(r)
				for _, line := range []string{"one", "two", "three"} {
					fmt.Fprintln(q, line)
					synctest.Wait()
				}
				r.takes(-1)
				fmt.Fprintln(q, "four")
				synctest.Wait()
				fmt.Fprintln(q, "five")
				q.Close()
				if got := r.String(); got != tt.want || q.lost.Load() != tt.lost {
					t.Errorf("%d lost, got\n%s\nwant %d and\n%s", q.lost.Load(), got, tt.lost, tt.want)
				}
			})
		})
	}
}

// TestLineQueueStalls: a reader that stalls costs lines and no writer's time; when it goes on it finds the lines that had
// room in their order, one report where the others are missing, and all that comes after.
func TestLineQueueStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{room: -1, stall: make(chan struct{})}
		q := queueTo(r)
		line := func(i int) string { return fmt.Sprintf("%07d\n", i) }
		begun := time.Now()
		var want strings.Builder
		const room = 1 + queuedBytes/8 // the first is with the reader
		for i := range room + 1000 {
			if i == 1 {
				synctest.Wait()
			}
			if n, err := io.WriteString(q, line(i)); n != 8 || err != nil {
				t.Fatal(n, err)
			}
			if i < room {
				want.WriteString(line(i))
			}
		}
		io.WriteString(q, "\n") // would have room, but not its place
		close(r.stall)
		synctest.Wait()
		want.WriteString("(1001)\n")
		io.WriteString(q, line(7))
		q.Close()
		want.WriteString(line(7))
		if took := time.Since(begun); took > 0 {
			t.Errorf("the writer waited %v", took)
		}
		if got := r.String(); got != want.String() || q.lost.Load() != 1001 {
			t.Errorf("%d lost; got %d bytes, want %d", q.lost.Load(), len(got), want.Len())
		}
	})
}

// TestLineQueueTakesNoLargerLine: what is larger than the queue is lost alone.
func TestLineQueueTakesNoLargerLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &reader{room: -1}
		q := queueTo(r)
		for _, line := range []string{"a\n", strings.Repeat("b", queuedBytes) + "\n", "c\n"} {
			io.WriteString(q, line)
			synctest.Wait()
		}
		q.Close()
		if got := r.String(); got != "a\n(1)\nc\n" {
			t.Errorf("got %.80q", got)
		}
	})
}

// TestLineQueueClose: the end waits for the reader, but only so long, and what comes later is lost.
func TestLineQueueClose(t *testing.T) {
	for name, tt := range map[string]struct {
		stalls, took time.Duration
		want, later  string
	}{
		"a reader that reads":     {0, 0, "a\nb\n", ""},
		"a slow one":              {400 * time.Millisecond, 400 * time.Millisecond, "a\nb\n", ""},
		"one just in time":        {flushTimeout - 1, flushTimeout - 1, "a\nb\n", ""},
		"one that reads too late": {time.Minute, flushTimeout, "", "a\nb\n(1)\n"}, // if the process were still there
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &reader{room: -1, stall: make(chan struct{})}
				time.AfterFunc(tt.stalls, func() { close(r.stall) })
				q := queueTo(r)
				io.WriteString(q, "a\nb\n")
				if tt.stalls == 0 {
					synctest.Wait()
				}
				begun := time.Now()
				q.Close()
				if took := time.Since(begun); took != tt.took {
					t.Errorf("it took %v, want %v", took, tt.took)
				}
				if got := r.String(); got != tt.want {
					t.Errorf("got %q, want %q", got, tt.want)
				}
				io.WriteString(q, "late\n")
				q.Close()
				<-q.done
				if got := r.String(); got != tt.want+tt.later || q.lost.Load() != 1 {
					t.Errorf("at last %q, %d lost", got, q.lost.Load())
				}
			})
		})
	}
}

// TestLineQueueOrder has many write at a time: each one's lines are there, whole and in order.
func TestLineQueueOrder(t *testing.T) {
	const writers, lines = 8, 500
	r := &reader{room: -1}
	q := queueTo(r)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range lines {
				fmt.Fprintf(q, "%d %d\n", w, i)
			}
		})
	}
	wg.Wait()
	q.Close()
	next := map[int]int{}
	for line := range strings.Lines(r.String()) {
		var w, i int
		if _, err := fmt.Sscanf(line, "%d %d\n", &w, &i); err != nil || i != next[w] {
			t.Fatalf("%q, %v; want number %d of %d", line, err, next[w], w)
		}
		next[w]++
	}
	for w := range writers {
		if next[w] != lines {
			t.Errorf("%d lines of %d, want %d", next[w], w, lines)
		}
	}
}

// TestLostReport: what stands where lines are missing is a line of the log, in its format, whatever its level.
func TestLostReport(t *testing.T) {
	for _, tt := range []struct {
		level, format string
		want          []string
	}{
		{"info", "text", []string{"level=WARN", "lost", "lines=1\n"}},
		{"error", "text", []string{"level=WARN", "lost", "lines=1\n"}},
		{"debug", "json", []string{`"level":"WARN"`, "lost", `"lines":1}`}},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := &reader{room: 0}
			q := newLineQueue(r)
			flags := logFlags{level: tt.level, format: tt.format}
			log, err := flags.logger(q)
			if err != nil {
				t.Fatal(err)
			}
			log.Error("missed")
			synctest.Wait()
			r.takes(-1)
			log.Error("read")
			q.Close()
			report, rest, _ := strings.Cut(r.String(), "lines")
			got := report + "lines" + rest
			for _, want := range tt.want {
				if !strings.Contains(got, want) {
					t.Errorf("%+v: got %s, want %s in it", flags, got, want)
				}
			}
			if strings.Contains(got, "missed") || strings.Count(got, "\n") != 2 || !strings.Contains(rest, "read") {
				t.Errorf("%+v: got %s", flags, got)
			}
			if lost := lostLines(log)(); lost != 1 {
				t.Errorf("%v lost", lost)
			}
		})
	}
	if lost := lostLines(slog.New(slog.DiscardHandler))(); lost != 0 {
		t.Errorf("%v lost without a queue", lost)
	}
}

// BenchmarkLog compares a log line that is written by who logs it with one that goes through the queue, which should lose nothing.
func BenchmarkLog(b *testing.B) {
	for name, queued := range map[string]bool{"direct": false, "queued": true} {
		b.Run(name, func(b *testing.B) {
			null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
			if err != nil {
				b.Fatal(err)
			}
			defer null.Close()
			to := io.Writer(null)
			if queued {
				q := newLineQueue(null)
				defer func() {
					q.Close()
					b.ReportMetric(float64(q.lost.Load()), "lost")
				}()
				to = q
			}
			log, err := (&logFlags{level: "info", format: "text"}).logger(to)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				log.Info("request", "upstream", "docs", "method", "tools/call", "outcome", "ok", "status", 200, "duration", time.Millisecond)
			}
		})
	}
}
