// After the last fault every agent is served by every upstream, and the daemon holds no more than before.

package chaos

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
)

// recovery bounds how long a server that works is not called: its breaker's longest pause, and what the call takes.
const recovery = 30*time.Second + chaosPromise

// visitAll has every agent do one of each thing with each upstream, until it works.
func (run *chaosRun) visitAll(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), recovery+time.Minute) // so many visits take their time
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
func (a *chaosAgent) things(u *chaosUpstream) []func(context.Context) callResult {
	if u.kind == "plain" {
		return []func(context.Context) callResult{func(ctx context.Context) callResult { return a.array(ctx, u) }}
	}
	return []func(context.Context) callResult{
		func(ctx context.Context) callResult { return a.list(ctx, u) },
		func(ctx context.Context) callResult { return a.read(ctx, u) },
		func(ctx context.Context) callResult { return a.work(ctx, u, 0, nil) },
		func(ctx context.Context) callResult { return a.loose(ctx, u) },
		func(ctx context.Context) callResult { return a.opaque(ctx, u) },
	}
}

// insist does something until it works, or until the context ends, which is a fault.
func (a *chaosAgent) insist(ctx context.Context, u *chaosUpstream, thing func(context.Context) callResult) {
	v := callResult{label: "no session"}
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
func (run *chaosRun) heal(t testing.TB, d *harness.Daemon) {
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
		m := d.Scrape()
		open = m.Sum("fluentd_perf_breaker_state") + m.Sum("fluentd_perf_tier_breaker_state")
		if ctx.Err() != nil && open != 0 {
			t.Errorf("breakers are open after %v: %v, %v", recovery, series(m, "fluentd_perf_breaker_state"), series(m, "fluentd_perf_tier_breaker_state"))
			return
		}
	}
}

// series are those of a metric that are not 0.
func series(m harness.Metrics, name string) (found []string) {
	for _, series := range slices.Sorted(maps.Keys(m)) {
		if strings.HasPrefix(series, name+"{") && m[series] != 0 {
			found = append(found, series)
		}
	}
	return found
}

// awaitIdle has the agents hang up, waits until what is idle was closed, and says what the daemon holds.
func (run *chaosRun) awaitIdle(t testing.TB, d *harness.Daemon) (m harness.Metrics) {
	t.Helper()
	for _, a := range run.agents {
		a.http.CloseIdleConnections()
	}
	quiet := func() bool {
		m = d.Scrape()
		for _, u := range run.upstreams {
			pool := fmt.Sprintf("pool=%q", u.name)
			if m.Sum("fluentd_perf_open_connections", pool) > m.Sum("fluentd_perf_cache_listening", fmt.Sprintf("upstream=%q", u.name)) {
				return false
			}
		}
		return m.Sum("fluentd_perf_streams_open") == 0 && m.Sum("fluentd_perf_in_flight") == 0 && m.Sum("fluentd_perf_queue_depth") == 0
	}
	if !harness.Poll(harness.MaxWait, quiet) {
		for _, name := range []string{"fluentd_perf_open_connections", "fluentd_perf_streams_open", "fluentd_perf_in_flight", "fluentd_perf_queue_depth"} {
			t.Errorf("the agents have left, and there is %v", series(m, name))
		}
	}
	return m
}

// holdsNoMore waits until the daemon holds what it held before the storm. The connections of its tiers come and go: that is
// the slack.
func (run *chaosRun) holdsNoMore(t testing.TB, d *harness.Daemon, before harness.Metrics) {
	t.Helper()
	const slack = 24
	now := run.awaitIdle(t, d)
	bounds := map[string]float64{
		"go_goroutines": slack, "process_open_fds": slack, "fluentd_perf_memory_usage_bytes": chaosMemory, "process_resident_memory_bytes": 2 * chaosMemory,
	}
	held := func() bool {
		now = d.Scrape()
		for name, more := range bounds {
			if now[name] > before[name]+more {
				return false
			}
		}
		return true
	}
	if !harness.Poll(harness.MaxWait, held) {
		t.Error("the daemon holds more than before")
	}
	for _, name := range slices.Sorted(maps.Keys(bounds)) {
		t.Logf("%s: %.0f before, %.0f after", name, before[name], now[name])
	}
}

// happened holds the run to have been one: everybody worked, somebody failed, and who was not harmed did not.
func (run *chaosRun) happened(t testing.TB) {
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
