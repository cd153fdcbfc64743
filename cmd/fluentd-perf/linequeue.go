package main

import (
	"bytes"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of a lineQueue.
const (
	queuedBytes  = 512 << 10              // what waits for the reader; twice that with what is being written
	flushTimeout = 500 * time.Millisecond // for what waits at the end
)

// lineQueue is a writer for lines whose reader may stall or go away: Write never waits for it. A goroutine of the queue's
// writes, in the order in which the lines came. Lines for which there is no room, and those that cannot be written, are
// lost: they are counted, and once writing works again a line in their place says how many they were.
type lineQueue struct {
	out  io.Writer
	wake chan struct{} // has room for one: there are lines to write; closed by Close
	done chan struct{} // closed when the goroutine has ended
	lost atomic.Uint64 // lines, since the start

	mu      sync.Mutex // guards the following
	pending []byte     // whole lines, at most queuedBytes
	refused uint64     // lines that came after those and had no room; what follows them is refused, too, until the next take
	report  func(lost uint64) []byte
	closed  bool

	// Owned by the goroutine.
	spare   []byte
	unsaid  uint64 // lines that are lost and not reported
	midLine bool   // the last write ended in the middle of a line
}

// newLineQueue returns a queue before out. Close ends it.
func newLineQueue(out io.Writer) *lineQueue {
	q := &lineQueue{out: out, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go q.run()
	return q
}

// Write queues whole lines, or loses them. It keeps nothing of lines and never fails.
func (q *lineQueue) Write(lines []byte) (int, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed || q.refused > 0 || len(q.pending)+len(lines) > queuedBytes:
		q.refused += q.lose(lines)
	default:
		q.pending = append(q.pending, lines...)
	}
	if !q.closed {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	return len(lines), nil
}

// reportBy sets what makes the line that reports lost ones. Without it they are only counted.
func (q *lineQueue) reportBy(report func(lost uint64) []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.report = report
}

// Close writes what waits, for at most flushTimeout: where the reader has stalled, the goroutine stays behind with the
// write that it is in. What is written to the queue from then on is lost.
func (q *lineQueue) Close() {
	q.mu.Lock()
	if !q.closed {
		q.closed = true
		close(q.wake)
	}
	q.mu.Unlock()
	late := time.NewTimer(flushTimeout)
	defer late.Stop()
	select {
	case <-q.done:
	case <-late.C:
	}
}

// run writes until Close.
func (q *lineQueue) run() {
	defer close(q.done)
	for range q.wake {
		q.flush()
	}
	q.flush()
}

// flush writes what waits, and reports of what was lost before it and after it.
func (q *lineQueue) flush() {
	lines, refused := q.take()
	works := q.reportLost()
	if works {
		works = q.write(lines)
	} else {
		q.unsaid += q.lose(lines)
	}
	q.unsaid += refused
	if works {
		q.reportLost()
	}
}

// take returns what waits and how many lines were refused after it. The lines are the caller's until the next take.
func (q *lineQueue) take() (lines []byte, refused uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	lines, refused = q.pending, q.refused
	q.pending, q.refused, q.spare = q.spare[:0], 0, lines
	return lines, refused
}

// reportLost writes the line that says how many were lost, if any were, and reports whether writing works.
func (q *lineQueue) reportLost() bool {
	q.mu.Lock()
	report := q.report
	q.mu.Unlock()
	if q.unsaid == 0 || report == nil {
		return true
	}
	line := report(q.unsaid)
	if q.midLine {
		line = append([]byte{'\n'}, line...)
	}
	if _, err := q.out.Write(line); err != nil {
		return false
	}
	q.unsaid, q.midLine = 0, false
	return true
}

// write writes lines and reports whether that worked. Those of which not all was written are lost.
func (q *lineQueue) write(lines []byte) bool {
	if len(lines) == 0 {
		return true
	}
	n, err := q.out.Write(lines)
	if err == nil {
		return true
	}
	q.unsaid += q.lose(lines[n:])
	q.midLine = n > 0 && lines[n-1] != '\n' || n == 0 && q.midLine
	return false
}

// lose counts lines as lost and returns how many they are.
func (q *lineQueue) lose(lines []byte) uint64 {
	n := uint64(bytes.Count(lines, []byte{'\n'}))
	q.lost.Add(n)
	return n
}

// queuedHandler is the handler of a log that goes through a lineQueue.
type queuedHandler struct {
	slog.Handler
	queue *lineQueue
}

// lostLines returns how many lines of a log were lost so far: none, where it does not go through a lineQueue.
func lostLines(log *slog.Logger) func() float64 {
	h, ok := log.Handler().(queuedHandler)
	if !ok {
		return func() float64 { return 0 }
	}
	return func() float64 { return float64(h.queue.lost.Load()) }
}
