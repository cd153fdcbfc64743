package monitor

import (
	"fmt"
	"time"

	"fluentd-perf/internal/api"
)

// window is over how much time the figures of the view go: a second alone has too few calls for a 99th percentile.
const window = 10 * time.Second

// maxPoints is how many intervals a sparkline has at most.
const maxPoints = 160

// history is what samples have said so far: the last one, the differences of the last seconds, and a point of each interval for the
// sparklines.
type history struct {
	sample   *api.Sample // the last one; nil before the first
	began    time.Time   // of the first one
	restarts int         // how often another daemon had the socket than before

	before    map[string]*api.UpstreamSample  // the last one of each upstream of this daemon
	processes map[string][]api.ProcessSampled // the last that are known: not every sample has them
	cpuMs     int64                           // of the last sample
	cpu       float64                         // cores that the daemon used in the last interval

	all       track
	upstreams map[string]*track
}

// track is what happened in the last intervals.
type track struct {
	changes              []change  // that make up the window, the newest last
	requests, slow, hits []float64 // of each interval: requests a second, p95 in seconds, share of hits
}

// step is what a sample says of the time since the one before.
type step struct {
	restarted bool // it is the first of another daemon: what happened is since that one's start
	all       change
	upstreams map[string]change // nil where it says nothing: the first sample of all, or of a daemon that is older than that
}

// add takes the next sample.
func (h *history) add(s *api.Sample) step {
	next := h.since(s)
	if h.sample == nil {
		h.began = s.At
	}
	if h.sample == nil || next.restarted {
		h.before, h.upstreams, h.processes = map[string]*api.UpstreamSample{}, map[string]*track{}, map[string][]api.ProcessSampled{}
		h.all, h.cpuMs, h.cpu = track{}, 0, 0
	}
	if took := next.all.took; took > 0 {
		h.cpu = max(float64(s.CPUMs-h.cpuMs)/1000/took.Seconds(), 0)
	}
	h.cpuMs = s.CPUMs
	if next.restarted {
		h.restarts++
	}
	for i := range s.Upstreams {
		h.addUpstream(&s.Upstreams[i], &next)
	}
	if next.upstreams != nil {
		h.all.add(next.all)
	}
	h.sample = s
	return next
}

// note says for people that a sample is of another daemon than the one before; "" where it is of the same.
func (s *step) note(of *api.Sample) string {
	switch {
	case s.restarted && s.upstreams == nil:
		return fmt.Sprintf("another daemon answers, which was started at %s (pid %d)", of.Started.Format(time.DateTime), of.PID)
	case s.restarted:
		return fmt.Sprintf("the daemon was restarted at %s (now pid %d): its counters begin at zero", of.Started.Format(time.TimeOnly), of.PID)
	}
	return ""
}

// addUpstream takes an upstream of the next sample. One that was not there before has its counters from zero.
func (h *history) addUpstream(u *api.UpstreamSample, next *step) {
	before := h.before[u.Upstream]
	h.before[u.Upstream] = u
	if len(u.Processes) > 0 || u.ProcessesNow == 0 {
		h.processes[u.Upstream] = u.Processes
	}
	if next.upstreams == nil {
		return
	}
	if before == nil {
		before = new(api.UpstreamSample)
	}
	c := changeOf(before, u, next.all.took)
	next.all.add(&c)
	next.upstreams[u.Upstream] = c
	h.trackOf(u.Upstream).add(c)
}

// since returns what a sample says before its counters are looked at. Times are by the daemon's own: the clock may be set in between.
// What a daemon had counted before there was a sample is no news: others are compared with that, be it the first daemon or another one.
func (h *history) since(s *api.Sample) step {
	switch {
	case h.sample == nil:
		return step{}
	case sameDaemon(h.sample, s):
		return step{all: change{took: up(s) - up(h.sample)}, upstreams: map[string]change{}}
	case s.Started.Before(h.began):
		return step{restarted: true}
	}
	return step{restarted: true, all: change{took: up(s)}, upstreams: map[string]change{}}
}

func sameDaemon(a, b *api.Sample) bool { return a.PID == b.PID && a.Started.Equal(b.Started) }

// up is how long the daemon had been running.
func up(s *api.Sample) time.Duration { return time.Duration(s.UpMs) * time.Millisecond }

func (h *history) trackOf(upstream string) *track {
	t := h.upstreams[upstream]
	if t == nil {
		t = new(track)
		h.upstreams[upstream] = t
	}
	return t
}

// add takes what happened in the next interval.
func (t *track) add(c change) {
	t.changes = append(t.changes, c)
	took := time.Duration(0)
	for i := len(t.changes) - 1; i >= 0; i-- {
		if took += t.changes[i].took; took >= window {
			t.changes = append([]change(nil), t.changes[i:]...)
			break
		}
	}
	all, hits := allKinds(c.durations), 0.0
	if s, ok := c.hitShare(); ok {
		hits = s
	}
	t.requests = point(t.requests, c.rate(float64(c.requests)))
	t.slow = point(t.slow, all.quantile(.95).Seconds())
	t.hits = point(t.hits, hits)
}

// point adds one to the last points.
func point(points []float64, one float64) []float64 {
	points = append(points, one)
	return points[max(len(points)-maxPoints, 0):]
}

// last returns what happened in the window.
func (t *track) last() (sum change) {
	for i := range t.changes {
		sum.took += t.changes[i].took
		sum.add(&t.changes[i])
	}
	return sum
}

// resident returns the memory of an upstream's processes, -1 where it has none or it is not known: a process without any is one that was
// not looked at.
func (h *history) resident(upstream string) int64 {
	sum := int64(0)
	for _, p := range h.processes[upstream] {
		sum += p.RSS
	}
	return known(sum)
}

// known makes a memory of 0 one that is not known.
func known(bytes int64) int64 {
	if bytes == 0 {
		return -1
	}
	return bytes
}
