// A recording of `monitor` has the figures that Prometheus has of the same time.

package operate

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
	"fluentd-perf/internal/monitor"
)

// TestMonitorAndPrometheus: requests, errors, hits by tier and the sum of latencies of a recording are within 1 % of by how much the
// counters of /metrics grew from its beginning to its end.
func TestMonitorAndPrometheus(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
		x.Result(`{"tools":[],"content":[],"resultType":"complete","ttlMs":60000,"cacheScope":"public"}`)
	})
	c, at := harness.OneUpstream(s.URL(), "cache: {listen: off}, breaker: off, retry: {max: 0}"), harness.NewFolders(t)
	c.Upstreams["refused"] = fmt.Sprintf("{url: %q, breaker: off, retry: {max: 0}}", "http://"+mcptest.Refused(t)+"/mcp")
	d := harness.Start(t, c.In(at))
	load := func(times int) {
		a := d.Agent(t)
		for i := range times {
			body, fields := harness.Modern(fmt.Sprint(i), "tools/list")
			a.Post(body, fields...)
			a.Post(body, fields...)
			body, fields = harness.Modern(fmt.Sprint(i), "tools/call")
			a.Post(body, fields...)
			a.Must(http.MethodPost, "/mcp/refused", body, fields...)
		}
	}
	// settled is a scrape after which nothing is counted any more: an answer may have come before it is.
	settled := func(requests float64) (m harness.Metrics) {
		d.Eventually(fmt.Sprint(requests, " requests counted"), func() bool {
			m = d.Scrape()
			return m.Sum("fluentd_perf_requests_total") == requests && m.Sum("fluentd_perf_request_duration_seconds_count") == requests
		})
		return m
	}
	load(5) // what was before is in neither
	before := settled(20)
	file := filepath.Join(t.TempDir(), "metrics.json")
	recording := harness.StartProcess(t, nil, harness.DaemonBinary, "monitor", "--socket", at.Socket(), "--interval", "100ms", "--duration", "5m", "--output", file)
	lines := func(n int) {
		had := bytes.Count([]byte(recording.Out.String()), []byte(" req/s"))
		harness.Eventually(t, "samples", func() bool { return bytes.Count([]byte(recording.Out.String()), []byte(" req/s")) >= had+n })
	}
	lines(1)
	load(20)
	after := settled(100)
	lines(2) // the second of these was asked for after that
	recording.Stop(t, syscall.SIGINT)
	f, err := os.Open(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, recording.Out)
	}
	defer f.Close()
	made, err := monitor.ReadRecording(f)
	if err != nil {
		t.Fatal(err)
	}
	grew, all := after.Minus(before), made.Summary.All
	hold := func(what string, got, want float64) {
		t.Helper()
		if want == 0 || math.Abs(got-want) > want/100 {
			t.Errorf("%s: the recording has %v, Prometheus %v", what, got, want)
		}
	}
	hold("requests", float64(all.Requests), grew.Sum("fluentd_perf_requests_total"))
	first, last := made.Samples[0], made.Samples[len(made.Samples)-1]
	hold("a second", all.RequestsPerSecond, 1000*grew.Sum("fluentd_perf_requests_total")/float64(last.UpMs-first.UpMs))
	if clock := last.At.Sub(first.At).Seconds(); math.Abs(made.Summary.Seconds-clock) > .5 {
		t.Errorf("it says that it is of %v s, and %v s passed", made.Summary.Seconds, clock)
	}
	hold("failed", float64(all.Failed), grew.Sum("fluentd_perf_requests_total", `upstream="refused"`))
	for outcome, n := range all.Outcomes {
		hold(outcome, float64(n), grew.Sum("fluentd_perf_requests_total", fmt.Sprintf("outcome=%q", outcome)))
	}
	for tier, n := range all.Cache.Hits {
		hold("hits of "+tier, float64(n), grew.Sum("fluentd_perf_cache_requests_total", fmt.Sprintf("tier=%q", tier), `outcome="hit"`))
	}
	hold("hits", float64(all.Cache.Hits["memory"]), 40)
	hold("latency, count", float64(all.Latency.Count), grew.Sum("fluentd_perf_request_duration_seconds_count"))
	hold("latency, sum", float64(all.Latency.Count)*all.Latency.MeanMs/1000, grew.Sum("fluentd_perf_request_duration_seconds_sum"))
	for kind, l := range all.Server {
		hold("the server's part of "+kind, float64(l.Count)*l.MeanMs/1000, grew.Sum("fluentd_perf_upstream_duration_seconds_sum", fmt.Sprintf("kind=%q", kind)))
	}
	if _, known := all.Cache.Hits["memory"]; !known || len(all.Server) == 0 || len(all.Outcomes) < 2 {
		t.Errorf("no hits, no times or no errors: %+v", all)
	}
}
