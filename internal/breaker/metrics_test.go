package breaker_test

import (
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/breaker"
)

// TestForget: the series of an endpoint that is gone goes with it, and that of the successor of its name stays, whichever of the
// two changed or was closed last.
func TestForget(t *testing.T) {
	reg := prometheus.NewRegistry()
	metrics := breaker.NewMetrics(reg)
	want := func(when string, want ...float64) {
		t.Helper()
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var got []float64
		for _, f := range families {
			for _, m := range f.GetMetric() {
				got = append(got, m.GetGauge().GetValue())
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: the states are %v, want %v", when, got, want)
		}
	}
	open := func(b asking) {
		for range 3 {
			p, _ := b.Allow(false)
			p.Done(errDown)
		}
	}
	made := func(endpoint string) asking {
		o := options()
		o.Endpoint, o.Metrics = endpoint, metrics
		return asking{breaker.NewEndpoint(o)}
	}
	old, other := made("0"), made("1")
	open(other)
	want("two", 0, 2)
	successor := made("0")
	open(old)
	want("one of the same name was replaced, and failed after that", 0, 2)
	old.Close()
	want("it is closed", 0, 2)
	other.Close()
	want("the other one is gone", 0)
	successor.Close()
	want("all are gone")
}
