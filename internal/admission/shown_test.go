package admission_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/admission"
)

// TestAdmissionMetrics: the gauges are of now, the histogram of those that waited.
func TestAdmissionMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		g := newGate(t, admission.Options{Metrics: admission.NewMetrics(reg), MaxInFlight: 2})
		shows := func(want map[string]float64) {
			t.Helper()
			families, err := reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			got := map[string]float64{}
			for _, f := range families {
				m := f.GetMetric()[0]
				if len(f.GetMetric()) != 1 || m.GetLabel()[0].GetName() != "upstream" || m.GetLabel()[0].GetValue() != "files" {
					t.Fatalf("got %v", f)
				}
				name := strings.TrimPrefix(f.GetName(), "fluentd_perf_")
				if h := m.GetHistogram(); h != nil {
					got[name+" count"], got[name+" sum"] = float64(h.GetSampleCount()), h.GetSampleSum()
				} else {
					got[name] = m.GetGauge().GetValue()
				}
			}
			for name, w := range want {
				if v, ok := got[name]; !ok || v != w {
					t.Errorf("%s is %v, want %v", name, v, w)
				}
			}
			if len(got) != len(want) {
				t.Errorf("got %v, want %v", got, want)
			}
		}
		all := []*caller{g.ask("a", request("x")), g.ask("b", request("x")), g.ask("c", request("x"))}
		shows(map[string]float64{"in_flight": 2, "queue_depth": 1, "queue_wait_seconds count": 0, "queue_wait_seconds sum": 0})
		pass(time.Second)
		all[0].leave()
		shows(map[string]float64{"in_flight": 2, "queue_depth": 0, "queue_wait_seconds count": 1, "queue_wait_seconds sum": 1})
		g.order(all, "a", "b", "c")
		g.Close()
		shows(map[string]float64{"queue_wait_seconds count": 1, "queue_wait_seconds sum": 1})
	})
}

// TestRefusalsInLog: one line in ten seconds, with how many there were.
func TestRefusalsInLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, admission.Options{Queue: 1, QueueWait: time.Hour})
		all := []*caller{g.ask("a", request("x")), g.ask("b", request("x"))}
		for range 1001 {
			g.ask("refused", request("x")).want("queue_full")
			pass(10 * time.Millisecond)
		}
		lines := strings.Split(strings.TrimSpace(g.log.String()), "\n")
		if len(lines) != 2 || !strings.Contains(lines[0], "refused=1 in_flight=1 queued=1") ||
			!strings.Contains(lines[1], "upstream=files setting=limits.queue refused=1000") {
			t.Errorf("the log is\n%s", g.log.String())
		}
		g.order(all, "a", "b")
	})
}

// TestBadOptions: what cannot work panics.
func TestBadOptions(t *testing.T) {
	panics := func(name string, f func()) {
		defer func() {
			if recover() == nil {
				t.Errorf("%s: no panic", name)
			}
		}()
		f()
	}
	for name, o := range map[string]admission.Options{
		"no name":        {MaxInFlight: 1},
		"no slots":       {Upstream: "files"},
		"no wait":        {Upstream: "files", MaxInFlight: 1, Queue: 1},
		"queue below 0":  {Upstream: "files", MaxInFlight: 1, Queue: -1, QueueWait: 1},
		"slots below 0":  {Upstream: "files", MaxInFlight: -1},
		"a wait below 0": {Upstream: "files", MaxInFlight: 1, Queue: 1, QueueWait: -1},
	} {
		panics(name, func() { admission.New(o) })
	}
	for name, o := range map[string]admission.ConnectionOptions{
		"connections without a name": {Max: 1, Wait: 1},
		"no connections":             {Upstream: "files", Wait: 1},
		"connections below 0":        {Upstream: "files", Max: -1, Wait: 1},
		"connections without a wait": {Upstream: "files", Max: 1},
		"a wait for them below 0":    {Upstream: "files", Max: 1, Wait: -1},
	} {
		panics(name, func() { admission.NewConnections(o) })
	}
	panics("no total", func() { admission.NewTotal(0) })
}
