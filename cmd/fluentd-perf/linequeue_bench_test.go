package main

import (
	"context"
	"io"
	"log/slog"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// BenchmarkLogLine is what an access line costs, straight into a pipe that another process reads and through the queue
// before such a pipe. ns/op is what the request waits for; cpu-ns/op is the time of all threads of this process, the
// queue's goroutine included. The reader keeps up, since the queue is empty before each burst: a line that is lost fails it.
func BenchmarkLogLine(b *testing.B) {
	b.Run("straight", func(b *testing.B) {
		pipe, wait := pipeToReader(b)
		logBursts(b, pipe, func() {})
		wait()
	})
	b.Run("queued", func(b *testing.B) {
		pipe, wait := pipeToReader(b)
		written := &signalWriter{pipe, make(chan struct{}, 1)}
		q := newLineQueue(written)
		logBursts(b, q, func() {
			for q.waits() {
				<-written.wrote
			}
		})
		q.Close()
		wait()
		if lost := q.lost.Load(); lost > 0 {
			b.Fatalf("%d of %d lines were lost", lost, b.N)
		}
	})
}

// logBursts writes lines with the daemon's own log. Before each burst, which is not timed, settle waits until w has room.
func logBursts(b *testing.B, w io.Writer, settle func()) {
	log, err := (&logFlags{level: "info", format: "text"}).logger(w)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	var took time.Duration
	cpu := cpuTime(b)
	for left := b.N; left > 0; {
		burst := min(left, 500) // a third of what the queue holds
		settle()
		begun := time.Now()
		for range burst {
			logAccess(log)
		}
		took += time.Since(begun)
		left -= burst
	}
	settle()
	b.ReportMetric(float64(took)/float64(b.N), "ns/op")
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N), "cpu-ns/op")
}

// waits reports whether there are lines that the goroutine has not taken yet.
func (q *lineQueue) waits() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.pending) > 0
}

// signalWriter says on wrote that a write has ended.
type signalWriter struct {
	io.Writer
	wrote chan struct{} // has room for one
}

func (w *signalWriter) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	select {
	case w.wrote <- struct{}{}:
	default:
	}
	return n, err
}

// pipeToReader returns a pipe that another process reads, and what closes it and waits for that.
func pipeToReader(b *testing.B) (io.Writer, func()) {
	reader := exec.Command("cat")
	pipe, err := reader.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := reader.Start(); err != nil {
		b.Fatal(err)
	}
	return pipe, func() {
		_ = pipe.Close()
		if err := reader.Wait(); err != nil {
			b.Error(err)
		}
	}
}

// logAccess writes a line as long as that of a tools/call.
func logAccess(log *slog.Logger) {
	log.LogAttrs(context.Background(), slog.LevelInfo, "request",
		slog.String("id", "5f0c2a91-1f"), slog.String("upstream", "docs"), slog.String("verb", "POST"),
		slog.String("method", "tools/call"), slog.String("outcome", "ok"), slog.Int("status", 200),
		slog.Int64("in", 141), slog.Int64("out", 2048), slog.Float64("took_ms", 12.345), slog.String("remote", "127.0.0.1:51234"),
		slog.String("tool", "search"), slog.String("agent", "claude-code"), slog.String("session", "a0b1c2d3"),
		slog.Bool("isError", false), slog.String("era", "legacy"), slog.String("version", "2025-06-18"),
		slog.Float64("ttfb_ms", 11.9), slog.Float64("answered_ms", 12.1), slog.String("cache", "fwd=miss"))
}

// cpuTime is what this process has had of the processors, in its own name and the system's.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
