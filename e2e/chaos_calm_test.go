package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// recovery bounds how long a server that works is left alone: its breaker's longest pause, and what the call takes.
const recovery = 30*time.Second + chaosPromise

// visitAll has every agent do one of each thing with each upstream, until it works.
func (run *chaosRun) visitAll(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), recovery)
	defer cancel()
	var visits sync.WaitGroup
	defer visits.Wait()
	for _, a := range run.agents {
		visits.Go(func() {
			for _, u := range run.upstreams {
				for _, thing := range a.things(u) {
					a.insist(ctx, u, thing)
				}
			}
		})
	}
}

// things are what an agent does on a visit.
func (a *chaosAgent) things(u *chaosUpstream) []func(context.Context) verdict {
	if u.kind == "plain" {
		return []func(context.Context) verdict{func(ctx context.Context) verdict { return a.array(ctx, u) }}
	}
	return []func(context.Context) verdict{
		func(ctx context.Context) verdict { return a.list(ctx, u) },
		func(ctx context.Context) verdict { return a.read(ctx, u) },
		func(ctx context.Context) verdict { return a.work(ctx, u, 0, nil) },
		func(ctx context.Context) verdict { return a.loose(ctx, u) },
		func(ctx context.Context) verdict { return a.opaque(ctx, u) },
	}
}

// insist does something until it works, or until the context ends, which is a fault.
func (a *chaosAgent) insist(ctx context.Context, u *chaosUpstream, thing func(context.Context) verdict) {
	v := verdict{label: "no session"}
	for ctx.Err() == nil {
		if u.kind == "plain" || a.ready(ctx, u) {
			if v = thing(ctx); v.ok() {
				return
			}
		}
		a.rest(ctx, 200*time.Millisecond)
	}
	a.run.ledger.fault("%s does not work again for %s within %v: %s %v", u.name, a.name, recovery, v.label, v.fault)
}

// heal has an agent visit all upstreams until every breaker is closed: a server's is by a call that works, and one of two
// replicas is tried only where there are calls.
func (run *chaosRun) heal(t *testing.T, d *sidecar) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), recovery)
	defer cancel()
	a := run.agents[0]
	for open := 1.0; open != 0; {
		for _, u := range run.upstreams {
			for _, thing := range a.things(u) {
				a.insist(ctx, u, thing)
			}
		}
		m := d.scrape()
		open = m.sum("fluentd_perf_breaker_state") + m.sum("fluentd_perf_tier_breaker_state")
		if ctx.Err() != nil && open != 0 {
			t.Errorf("breakers are open after %v: %v, %v", recovery, m.series("fluentd_perf_breaker_state"), m.series("fluentd_perf_tier_breaker_state"))
			return
		}
	}
}

// series are those of a metric that are not 0.
func (m metrics) series(name string) (found []string) {
	for _, series := range sortedKeys(m) {
		if strings.HasPrefix(series, name+"{") && m[series] != 0 {
			found = append(found, series)
		}
	}
	return found
}

// calm has the agents hang up, waits until what is idle was closed, and says what the daemon holds.
func (run *chaosRun) calm(t *testing.T, d *sidecar) (m metrics) {
	t.Helper()
	for _, a := range run.agents {
		a.http.CloseIdleConnections()
	}
	quiet := func() bool {
		m = d.scrape()
		for _, u := range run.upstreams {
			pool := fmt.Sprintf("pool=%q", u.name)
			if m.sum("fluentd_perf_open_connections", pool) > m.sum("fluentd_perf_cache_listening", fmt.Sprintf("upstream=%q", u.name)) {
				return false
			}
		}
		return m.sum("fluentd_perf_streams_open") == 0 && m.sum("fluentd_perf_in_flight") == 0 && m.sum("fluentd_perf_queue_depth") == 0
	}
	if !soonTrue(quiet) {
		for _, name := range []string{"fluentd_perf_open_connections", "fluentd_perf_streams_open", "fluentd_perf_in_flight", "fluentd_perf_queue_depth"} {
			t.Errorf("the agents have left, and there is %v", m.series(name))
		}
	}
	return m
}

// holdsNoMore waits until the daemon holds what it held before the storm. The connections of its tiers come and go: that is
// the slack.
func (run *chaosRun) holdsNoMore(t *testing.T, d *sidecar, before metrics) {
	t.Helper()
	const slack = 24
	now := run.calm(t, d)
	bounds := map[string]float64{
		"go_goroutines": slack, "process_open_fds": slack, "fluentd_perf_memory_usage_bytes": chaosMemory, "process_resident_memory_bytes": 2 * chaosMemory,
	}
	held := func() bool {
		now = d.scrape()
		for name, more := range bounds {
			if now[name] > before[name]+more {
				return false
			}
		}
		return true
	}
	if !soonTrue(held) {
		t.Error("the daemon holds more than before")
	}
	for _, name := range sortedKeys(bounds) {
		t.Logf("%s: %.0f before, %.0f after", name, before[name], now[name])
	}
}

// soonTrue waits until it is, for patience at most.
func soonTrue(is func() bool) bool {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-deadline.C:
			return false
		}
	}
	return true
}

// happened holds the run to have been one: everybody worked, somebody failed, and who was not harmed did not.
func (run *chaosRun) happened(t *testing.T) {
	t.Helper()
	failed := 0
	for _, u := range run.upstreams {
		if !run.ledger.has(u.name, "ok") || u.did(t) == "" {
			t.Errorf("%s never worked", u.name)
		}
		switch spoilt := run.ledger.has(u.name, "1"); {
		case spoilt && u.name == "steady":
			t.Errorf("%s, which nobody harmed, failed", u.name)
		case spoilt:
			failed++
		}
	}
	if failed == 0 {
		t.Error("nobody failed")
	}
}
