package monitor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"fluentd-perf/internal/api"
)

// line says in one line of text what happened in an interval, and what there is at its end.
func (h *history) line(s *api.Sample, c *change) string {
	all := allKinds(c.durations)
	var b strings.Builder
	add := func(format string, args ...any) { fmt.Fprintf(&b, "  "+format, args...) }
	b.WriteString(s.At.Format(time.TimeOnly))
	add("%s req/s", number(c.rate(float64(c.requests))))
	add("p50 %s p95 %s p99 %s", short(all.quantile(.5)), short(all.quantile(.95)), short(all.quantile(.99)))
	add("failed %s", failedShare(c))
	add("hits %s%s", percent(c.hitShare()), tiersOf(c))
	add("saved %s/s %.2fs/s", number(c.rate(float64(c.savedCalls))), c.rate(c.savedSeconds))
	add("coalesced %s/s", number(c.rate(float64(c.coalesced))))
	now := h.now("")
	add("in flight %d queued %d", now.inFlight, now.queued)
	if now.oldest > 0 {
		add("oldest %s", age(now.oldest.Milliseconds()))
	}
	if now.open > 0 {
		add("open breakers %d", now.open)
	}
	if now.processes > 0 {
		add("processes %d %s", now.processes, size(now.resident))
	}
	add("daemon %s cpu %s", size(s.Memory), cores(h.cpu))
	return b.String()
}

// tiersOf says which share of what the cache could answer each tier did, in parentheses.
func tiersOf(c *change) string {
	var parts []string
	for _, tier := range slices.Sorted(maps.Keys(c.hits)) {
		parts = append(parts, Printable(tier)+" "+percent(share(c.hits[tier], c.asked)))
	}
	if c.collapsed > 0 {
		parts = append(parts, "collapsed "+percent(share(c.collapsed, c.asked)))
	}
	if c.stale > 0 {
		parts = append(parts, "stale "+percent(share(c.stale, c.asked)))
	}
	if len(parts) == 0 {
		return ""
	}
	return " (" + strings.Join(parts, " ") + ")"
}

// totals are what there is at a sample, over all upstreams.
type totals struct {
	inFlight, queued, calls, open, processes int
	resident                                 int64         // bytes of the processes; -1 where it is not known
	oldest                                   time.Duration // age of the oldest call under way
}

// now adds up what there is at the last sample, at one upstream alone or, for "", at all.
func (h *history) now(upstream string) totals {
	t := totals{resident: -1}
	for i := range h.sample.Upstreams {
		u := &h.sample.Upstreams[i]
		if upstream != "" && u.Upstream != upstream {
			continue
		}
		t.inFlight, t.queued, t.calls, t.processes = t.inFlight+u.InFlight, t.queued+u.Queued, t.calls+u.CallsNow, t.processes+u.ProcessesNow
		if isOpen(u.Endpoints) {
			t.open++
		}
		if bytes := h.resident(u.Upstream); bytes >= 0 {
			t.resident = max(t.resident, 0) + bytes
		}
		if len(u.Calls) > 0 {
			t.oldest = max(t.oldest, time.Duration(u.Calls[0].AgeMs)*time.Millisecond)
		}
	}
	return t
}
