package daemon

import (
	"log/slog"
	"sync"
	"time"

	"fluentd-perf/internal/upstream/stdio/process"
)

const (
	busyShare   = 0.9              // of a core, from which a process counts as busy
	maxCPUPause = 30 * time.Second // between two samples
	minCPUPause = time.Second      // /proc counts hundredths of a second: shorter samples are too coarse
)

// cpuSample is what a process of a stdio server has used by now.
type cpuSample struct {
	process  *process.Process
	upstream string
	timeout  time.Duration // processes.idle_timeout
	unused   time.Time     // since when no call is under way; zero: one is
	cpu      time.Duration // of all that it has started, since its start
	end      func() bool   // ends it, if nobody has called it meanwhile; nil: a session has it
}

// cpuWatch tells of processes that use a core for processes.idle_timeout without a call. One goroutine and one timer do it for all.
// One that no session holds is ended, though agents listen to it: they begin their listens again. A session's is the session's.
type cpuWatch struct {
	read     func() []cpuSample   // of all processes that run
	shortest func() time.Duration // processes.idle_timeout of all; a reload may change it
	log      *slog.Logger
	once     sync.Once // begins it
	running  sync.WaitGroup
	end      chan struct{}

	mu    sync.Mutex // guards the following
	spans map[*process.Process]cpuSpan
}

// cpuSpan is the time that a process has used a core without a call.
type cpuSpan struct {
	from, to time.Time     // to is the last sample's
	cpu      time.Duration // by then
	long     bool          // it is as long as processes.idle_timeout
	logged   bool
}

func newCPUWatch(log *slog.Logger, read func() []cpuSample, shortest func() time.Duration) *cpuWatch {
	return &cpuWatch{read: read, shortest: shortest, log: log, end: make(chan struct{})}
}

// begin begins it, once. It is not called after close.
func (w *cpuWatch) begin() { w.once.Do(func() { w.running.Go(w.run) }) }

func (w *cpuWatch) run() {
	timer := time.NewTimer(cpuPause(w.shortest()))
	defer timer.Stop()
	for {
		select {
		case <-w.end:
			return
		case <-timer.C:
			w.sample()
			timer.Reset(cpuPause(w.shortest()))
		}
	}
}

// cpuPause is a tenth of an idle_timeout, so that one is told of soon after it.
func cpuPause(timeout time.Duration) time.Duration {
	return min(max(timeout/10, minCPUPause), maxCPUPause)
}

// close ends it and waits for that. It is called once.
func (w *cpuWatch) close() {
	close(w.end)
	w.running.Wait()
}

func (w *cpuWatch) sample() {
	samples, now := w.read(), time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	spans := make(map[*process.Process]cpuSpan, len(samples)) // without those that have ended
	for _, s := range samples {
		span := w.spans[s.process].next(s, now)
		if ended := span.long && s.end != nil && s.end(); ended || span.long && !span.logged {
			span.logged = true
			w.log.Warn("a server's process has used more than 90 % of a core for processes.idle_timeout without a call",
				"upstream", s.upstream, "pid", s.process.PID(), "for", now.Sub(span.from).Round(time.Second), "ended", ended)
		}
		spans[s.process] = span
	}
	w.spans = spans
}

// next is the span with another sample. It begins anew where a call was under way since the last one, or less was used.
func (c cpuSpan) next(s cpuSample, now time.Time) cpuSpan {
	busy := float64(s.cpu-c.cpu) > busyShare*float64(now.Sub(c.to))
	if c.to.IsZero() || s.unused.IsZero() || s.unused.After(c.from) || !busy {
		c.from = now
	}
	c.to, c.cpu = now, s.cpu
	c.long = c.from.Before(now) && now.Sub(c.from) >= s.timeout
	return c
}

// busy returns for how long a process has used a core without a call, 0 where that is less than processes.idle_timeout.
func (w *cpuWatch) busy(p *process.Process) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if span := w.spans[p]; span.long {
		return span.to.Sub(span.from)
	}
	return 0
}

// cpuSamples reads the process table once.
func (d *daemon) cpuSamples(guard *process.Guard) (all []cpuSample) {
	use := guard.Usage(false)
	for _, p := range d.routed() {
		if p.stdio == nil {
			continue
		}
		for _, u := range p.stdio.pool.Uses() {
			r, ok := u.Process.(running)
			if !ok {
				continue
			}
			s := cpuSample{
				process: r.Process, upstream: p.entry.Name, timeout: p.entry.Stdio.Processes.IdleTimeout,
				unused: u.Unused, cpu: use[r.Process].CPU,
			}
			if u.Holders == 0 {
				s.end = func() bool { return p.stdio.pool.EndUnused(r) }
			}
			all = append(all, s)
		}
	}
	return all
}

// shortestIdleTimeout returns the shortest processes.idle_timeout, or ten samples' time where there is none shorter.
func (d *daemon) shortestIdleTimeout() time.Duration {
	shortest := 10 * maxCPUPause
	for _, p := range d.all() {
		if p.entry.Stdio != nil {
			shortest = min(shortest, p.entry.Stdio.Processes.IdleTimeout)
		}
	}
	return shortest
}
