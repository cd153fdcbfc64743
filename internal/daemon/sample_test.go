package daemon

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/config"
	"fluentd-perf/internal/mcptest"
	"fluentd-perf/internal/monitor"
)

// sampled is a daemon that runs until the test ends.
func sampled(t testing.TB, yaml string) *daemon {
	t.Helper()
	cfg, _, err := config.Load(config.Sources{File: "c.yaml", ReadFile: func(string) ([]byte, error) { return []byte("listen: 127.0.0.1:0\n" + yaml), nil }})
	if err != nil {
		t.Fatal(err)
	}
	d, err := assemble(t.Context(), Options{Config: cfg, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	d.start()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := d.drain(time.Minute); err != nil {
			t.Error(err)
		}
	})
	return d
}

func sampleOf(t testing.TB, d *daemon, p api.SampleParams) api.Sample {
	t.Helper()
	s, err := d.sample(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRecordingIsWhatPrometheusHas: the figures of a recording are those that Prometheus has of the same time, within 1 %.
func TestRecordingIsWhatPrometheusHas(t *testing.T) {
	m := &measured{t: t, client: &http.Client{Transport: &http.Transport{}}, served: map[string][]time.Duration{}, missed: map[string][]time.Duration{}}
	defer m.client.CloseIdleConnections()
	server := mcptest.NewServer(t, m.script)
	d := sampled(t, fmt.Sprintf("upstreams:\n  s: {url: %q, cache: {listen: off}, breaker: off}\n", server.URL()))
	addr := d.addresses()[0]
	m.ask("http://"+addr+"/mcp/s", "tools/call", "works") // what was before is in neither
	before := m.settled(addr)
	samples := []api.Sample{sampleOf(t, d, api.SampleParams{})}
	for range 2 {
		m.run("http://"+addr, 3)
		m.ask("http://"+addr+"/mcp/s", "tools/call", "die")
		m.settled(addr)
		samples = append(samples, sampleOf(t, d, api.SampleParams{}))
	}
	after := m.settled(addr)
	recording := monitor.Recording{Samples: samples}
	if err := recording.Write(new(bytes.Buffer)); err != nil {
		t.Fatal(err)
	}
	f := recording.Summary.Upstreams[0]
	grew := func(parts ...string) float64 { return after.sum(parts...) - before.sum(parts...) }
	hold := func(what string, got, want float64) {
		t.Helper()
		if want == 0 || !near(got, want, .01) {
			t.Errorf("%s: the recording has %v, Prometheus %v", what, got, want)
		}
	}
	hold("requests", float64(f.Requests), grew("fluentd_perf_requests_total{"))
	hold("failed", float64(f.Failed), grew("fluentd_perf_requests_total{", `outcome="broke_off"`))
	hold("saved calls", float64(f.SavedCalls), grew("fluentd_perf_saved_calls_total"))
	hold("saved seconds", f.SavedSeconds, grew("fluentd_perf_saved_seconds_total"))
	hold("hits of memory", float64(f.Cache.Hits["memory"]), grew("fluentd_perf_cache_requests_total", `tier="memory"`, `outcome="hit"`))
	hold("share of hits", f.Cache.HitShare, eval(before, after, formulas(t)["Share of what the cache could answer that it did answer"])[`upstream="s"`])
	for _, kind := range []string{"hit", "read", "call"} {
		label := `kind="` + kind + `"`
		count, sum := grew("fluentd_perf_request_duration_seconds_count", label), grew("fluentd_perf_request_duration_seconds_sum", label)
		hold(kind, float64(f.Kinds[kind].Count), count)
		hold(kind+", mean", f.Kinds[kind].MeanMs/1000, sum/count)
	}
	count, sum := grew("fluentd_perf_upstream_duration_seconds_count", `kind="read"`), grew("fluentd_perf_upstream_duration_seconds_sum", `kind="read"`)
	hold("read at the server, mean", f.Server["read"].MeanMs/1000, sum/count)
	// A read takes the server 20 ms: the quantile is of the same times, of buckets a tenth wide.
	if got := f.Server["read"].P50Ms; got < 18 || got > 2*f.Server["read"].MeanMs {
		t.Errorf("p50 of a read is %v ms", got)
	}
}

// TestSampleOfSubscriptions: a sample and the metrics have the credentials that the cache subscribes for, with and without a stream.
func TestSampleOfSubscriptions(t *testing.T) {
	m := &measured{t: t, client: &http.Client{Transport: &http.Transport{}}, missed: map[string][]time.Duration{}}
	defer m.client.CloseIdleConnections()
	serve := func(capabilities string) string {
		return mcptest.NewServer(t, func(x *mcptest.Exchange) {
			switch x.Method() {
			case "server/discover":
				x.Result(`{"capabilities":` + capabilities + `,"resultType":"complete"}`)
			case "subscriptions/listen":
				x.Stream()
				x.Hang()
			default:
				x.Result(`{"contents":[],` + pipePrivate + `}`)
			}
		}).URL()
	}
	d := sampled(t, fmt.Sprintf("upstreams: {changes: {url: %q}, quiet: {url: %q}, unused: {url: %[2]q}}\n", serve(`{"tools":{"listChanged":true}}`), serve(`{}`)))
	addr := d.addresses()[0]
	for _, upstream := range []string{"changes", "quiet"} {
		m.ask("http://"+addr+"/mcp/"+upstream, "resources/read", "doc:///1")
	}
	told := func() (text string) {
		scraped, _ := scrapeOf(t, addr)
		for _, u := range sampleOf(t, d, api.SampleParams{}).Upstreams {
			label := fmt.Sprintf("upstream=%q", u.Upstream)
			text += fmt.Sprintf("%s %d %d, %v %v\n", u.Upstream, u.Subscriptions, u.Listening,
				scraped.sum("fluentd_perf_cache_subscriptions{", label), scraped.sum("fluentd_perf_cache_listening{", label))
		}
		return text
	}
	const want = "changes 1 1, 1 1\nquiet 1 0, 1 0\nunused 0 0, 0 0\n"
	for deadline := time.Now().Add(time.Minute); told() != want; {
		if time.Now().After(deadline) {
			t.Fatalf("told is\n%swant\n%s", told(), want)
		}
	}
}

// waiting is a server whose calls of tools wait until they are released.
type waiting struct{ asked, release *mcptest.Gate }

func (w waiting) script(x *mcptest.Exchange) {
	if x.Method() == "tools/call" {
		w.asked.Open()
		x.Wait(w.release.Opened())
	}
	x.Result(`{"content":[],"resultType":"complete"}`)
}

const slowCall = `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"slow","arguments":{"text":"mine"}}}`

// underWay has a call be under way at a daemon with an upstream `s`, with credentials, until the test ends, and returns the daemon.
func underWay(t *testing.T, yaml string) *daemon {
	t.Helper()
	w := waiting{mcptest.NewGate(), mcptest.NewGate()}
	server := mcptest.NewServer(t, w.script)
	d := sampled(t, fmt.Sprintf("%supstreams:\n  s: {url: %q}\n  unused: {url: %q}\n", yaml, server.URL(), server.URL()))
	req, err := http.NewRequest(http.MethodPost, "http://"+d.addresses()[0]+"/mcp/s?key=secret", strings.NewReader(slowCall))
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Mcp-Protocol-Version": "2025-06-18", "Mcp-Name": "slow",
		"Authorization": "Bearer secret", "Mcp-Session-Id": "secret", "X-Api-Key": "secret", "Cookie": "secret",
	} {
		req.Header.Set(name, value)
	}
	var agent sync.WaitGroup
	agent.Go(func() {
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		resp.Body.Close()
	})
	t.Cleanup(func() {
		w.release.Open()
		agent.Wait()
	})
	<-w.asked.Opened()
	return d
}

// TestSampleCalls: calls under way are told of as far as is asked, and of one the request without anything that shows who sent it.
func TestSampleCalls(t *testing.T) {
	d := underWay(t, "")
	for _, c := range []struct {
		params api.SampleParams
		told   int
	}{{api.SampleParams{}, 0}, {api.SampleParams{Calls: -1}, 0}, {api.SampleParams{Calls: 5}, 1}, {api.SampleParams{Upstream: "s"}, 1}, {api.SampleParams{Upstream: "unused"}, 0}} {
		s := sampleOf(t, d, c.params)
		if u := s.Upstreams[0]; u.Upstream != "s" || len(u.Calls) != c.told || u.CallsNow != 1 || u.InFlight != 1 || s.Upstreams[1].CallsNow != 0 {
			t.Errorf("%+v: %+v", c.params, s.Upstreams)
		}
	}
	call := sampleOf(t, d, api.SampleParams{Calls: 1}).Upstreams[0].Calls[0]
	r, err := d.request(t.Context(), api.RequestParams{Upstream: "s", Request: call.Request})
	if err != nil {
		t.Fatal(err)
	}
	if string(r.Body) != slowCall || r.Verb != http.MethodPost || r.Path != "/mcp/s" || r.Headers["Mcp-Protocol-Version"] != "2025-06-18" || r.Headers["Mcp-Name"] != "slow" || len(r.Headers) != 4 || !r.Query {
		t.Errorf("%+v", r)
	}
	if strings.Join(r.Left, " ") != "Authorization Mcp-Session-Id" || r.Others < 2 || strings.Contains(fmt.Sprintf("%+v", r), "secret") {
		t.Errorf("%+v", r)
	}
	for _, p := range []api.RequestParams{{Upstream: "unused", Request: call.Request}, {Upstream: "s", Request: "x"}} {
		if _, err := d.request(t.Context(), p); err == nil {
			t.Errorf("%+v is answered", p)
		}
	}
}

// TestSampleOfTheProcess: a sample has the daemon's goroutines and its time since the start, and its descriptors where processes are asked
// for: one more for each that is opened.
func TestSampleOfTheProcess(t *testing.T) {
	d := sampled(t, "upstreams: {s: {url: \"http://127.0.0.1:1/mcp\"}}\n")
	d.started = d.started.Add(-time.Minute)
	s := sampleOf(t, d, api.SampleParams{})
	if s.Goroutines < 3 || s.UpMs < 60_000 || s.Descriptors != 0 {
		t.Errorf("%+v", s)
	}
	const more = 300 // other tests come and go
	before := sampleOf(t, d, api.SampleParams{Processes: true}).Descriptors
	for range more {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	if after := sampleOf(t, d, api.SampleParams{Processes: true}).Descriptors; before < 3 || after < before+more*2/3 {
		t.Errorf("%d descriptors, and with %d more %d", before, more, after)
	}
}

// TestRequestForAGroup: a group that may administer the daemon is not told what agents send.
func TestRequestForAGroup(t *testing.T) {
	d := underWay(t, "")
	d.adminGroup = true
	call := sampleOf(t, d, api.SampleParams{Calls: 1}).Upstreams[0].Calls[0]
	r, err := d.request(t.Context(), api.RequestParams{Upstream: "s", Request: call.Request})
	if err != nil || r.Body != nil || !strings.Contains(r.Missing, "admin.group") || strings.Contains(fmt.Sprintf("%+v", r), "slow") || len(r.Headers) != 3 {
		t.Errorf("%+v, %v", r, err)
	}
}

// BenchmarkSample is what a look at a daemon with 50 upstreams costs it.
func BenchmarkSample(b *testing.B) {
	var yaml strings.Builder
	yaml.WriteString("upstreams:\n")
	for i := range 50 {
		fmt.Fprintf(&yaml, "  s%02d: {url: \"http://127.0.0.1:1/mcp\"}\n", i)
	}
	d := sampled(b, yaml.String())
	for i := range 50 {
		resp, err := http.Post(fmt.Sprintf("http://%s/mcp/s%02d", d.addresses()[0], i), "application/json", strings.NewReader(slowCall))
		if err != nil {
			b.Fatal(err)
		}
		resp.Body.Close()
	}
	b.ReportAllocs()
	for b.Loop() {
		sampleOf(b, d, api.SampleParams{Calls: 20})
	}
}
