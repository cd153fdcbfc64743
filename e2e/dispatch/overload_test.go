// A server is offered ten times what it can do: it is never idle and never overloaded, and each agent gets its share.

package dispatch

import (
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
)

// TestOverload: a server of 50 slots and 100 ms a call, 500 calls a second, is offered ten times that by four agents, while
// a fifth makes one call after the other. Whoever is refused is told so, and when to come again; the fifth gets its share
// at once; the server has never more than it can take and never nothing to do; and soon after the end nobody waits.
//
// It takes 6 s, with E2E_FULL=1 30 s. What is promised of goodput and of the queue's end is in the test's log; it is held
// in a full run on a machine that had room for the load, which is one where every call found a connection when it was due.
func TestOverload(t *testing.T) {
	const slots, queue, floods, rate = 50, 250, 4, 5000
	s := startSlots(t, slots, 100*time.Millisecond)
	c := harness.OneUpstream(s.url, "limits: {max_in_flight: 50, queue: 250}")
	c.Plain, c.Args = true, []string{"--log-level", "error"}
	d := harness.Start(t, c)
	f := newRateLoad(t, d, floods)
	slow := newRateLoad(t, d, 1)
	slow.requests[0] = rawCall(d.Addr, "slow")

	length, full := 6*time.Second, os.Getenv("E2E_FULL") != ""
	if full {
		length = 30 * time.Second
	}
	ended := make(chan struct{})
	var beside sync.WaitGroup
	beside.Go(func() { slow.oneByOne(ended) })
	var deepest float64
	beside.Go(func() { deepest = deepestQueue(d, "s", ended) })
	var emptied time.Duration
	beside.Go(func() {
		<-ended
		emptied = harness.Within(t, time.Second, "nobody waits", func() bool { return loadOf(d, "s")[1] == 0 })
	})
	offered := f.run(rate, length, ended)
	beside.Wait()

	f.judge()
	slow.judge()
	slow.neverFull()
	if most := s.most.Load(); most > slots {
		t.Errorf("%d calls were with the server at once", most)
	}
	if deepest > queue {
		t.Errorf("%v calls waited at once", deepest)
	}
	w := s.work()
	r := newOverloadReport(f, slow)
	t.Logf("offered %d in %v, %.0f/s (asked for %d/s; %d found no connection)", offered, length, float64(offered-f.late)/length.Seconds(), rate, f.late)
	t.Logf("goodput %d calls in %v, %.0f/s: %.1f %% of 500/s; the slots were taken %.1f %% of the time", w.calls, w.wall.Round(time.Millisecond),
		float64(w.calls)/w.wall.Seconds(), float64(w.calls)/w.wall.Seconds()/5, 100*w.busy)
	t.Logf("refused %d in p50 %v, p99 %v; retryAfterMs %d to %d; answered in p50 %v, p99 %v", r.refused, r.refusedP50, r.refusedP99,
		r.afterLeast, r.afterMost, r.p50, r.p99)
	t.Logf("served by agent: %v; the slow agent's calls took p50 %v, p99 %v; the queue was up to %v deep, and empty after %v",
		w.by, r.slowP50, r.slowP99, deepest, emptied.Round(time.Millisecond))
	if room := full && f.late == 0; room && w.busy < 0.9 {
		t.Errorf("the slots were taken %.1f %% of the time", 100*w.busy)
	} else if room && emptied > time.Second {
		t.Errorf("the queue was empty after %v", emptied)
	}
}

// oneByOne makes one call after the other until the end.
func (f *rateLoad) oneByOne(ended <-chan struct{}) {
	f.wg.Go(func() {
		if err := f.connection(0); err != nil {
			f.t.Errorf("the slow agent: %v", err)
		}
	})
	for {
		select {
		case f.calls <- 0:
			continue
		case <-ended:
		}
		close(f.calls)
		f.wg.Wait()
		return
	}
}

// deepestQueue looks at the queue until the end.
func deepestQueue(d *harness.Daemon, upstream string, ended <-chan struct{}) (most float64) {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			most = max(most, loadOf(d, upstream)[1])
		case <-ended:
			return most
		}
	}
}

// judge holds every call to have got its answer or a refusal that says when to come again.
func (f *rateLoad) judge() {
	f.t.Helper()
	for i, fault := range f.faults {
		if i == 3 {
			f.t.Errorf("and %d more", len(f.faults)-i)
			break
		}
		f.t.Error(fault)
	}
	for _, a := range f.answers {
		if a.code != 0 && (a.code != 1429 || !harness.OneOf(a.reason, "queue_full queue_wait") || a.after <= 0 || a.after > 30_000) {
			f.t.Fatalf("refused with %d %s, retryAfterMs %d", a.code, a.reason, a.after)
		}
	}
}

// neverFull holds an agent with one call at a time to find a place in the queue each time: one of those gives way that
// have many there.
func (f *rateLoad) neverFull() {
	f.t.Helper()
	good := 0
	for _, a := range f.answers {
		if a.code == 0 {
			good++
		}
		if a.reason == "queue_full" {
			f.t.Errorf("the slow agent found the queue full after %v", a.took)
		}
	}
	if good == 0 {
		f.t.Error("the slow agent got nothing")
	}
}

// overloadReport is what agents saw.
type overloadReport struct {
	refused                          int
	afterLeast, afterMost            int64
	p50, p99, refusedP50, refusedP99 time.Duration
	slowP50, slowP99                 time.Duration
}

func newOverloadReport(f, slow *rateLoad) (r overloadReport) {
	good, refused := f.times()
	r.p50, r.p99 = percentiles(good)
	r.refused = len(refused)
	r.refusedP50, r.refusedP99 = percentiles(refused)
	good, _ = slow.times()
	r.slowP50, r.slowP99 = percentiles(good)
	for _, a := range f.answers {
		if a.code == 0 {
			continue
		}
		if r.afterLeast == 0 || a.after < r.afterLeast {
			r.afterLeast = a.after
		}
		r.afterMost = max(r.afterMost, a.after)
	}
	return r
}

// times are how long calls took that were answered, and refused.
func (f *rateLoad) times() (good, refused []time.Duration) {
	for _, a := range f.answers {
		if a.code == 0 {
			good = append(good, a.took)
		} else {
			refused = append(refused, a.took)
		}
	}
	return good, refused
}

// percentiles sorts and returns the median and the 99th; zeros where there is nothing.
func percentiles(all []time.Duration) (p50, p99 time.Duration) {
	if len(all) == 0 {
		return 0, 0
	}
	slices.Sort(all)
	return all[len(all)/2].Round(10 * time.Microsecond), all[len(all)*99/100].Round(10 * time.Microsecond)
}
