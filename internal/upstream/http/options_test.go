package http_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/mcptest"
	upstreamhttp "fluentd-perf/internal/upstream/http"
)

// The options reach the transports.
func TestTransportOptions(t *testing.T) {
	type transport struct {
		long                                 bool
		connections, idle, buffer            int
		idleTimeout, handshakeTimeout        time.Duration
		compressed, http2, proxied, undialed bool
	}
	var got []transport
	note := func(o *upstreamhttp.Options) {
		o.Compat = true
		o.SetTransport(func(t *http.Transport, long bool) upstreamhttp.Transport {
			got = append(got, transport{
				long: long, connections: t.MaxConnsPerHost, idle: t.MaxIdleConnsPerHost, buffer: t.ReadBufferSize,
				idleTimeout: t.IdleConnTimeout, handshakeTimeout: t.TLSHandshakeTimeout, undialed: t.DialContext == nil,
				compressed: !t.DisableCompression, http2: t.Protocols.HTTP2(), proxied: t.Proxy != nil,
			})
			return t
		})
	}
	newUpstream(t, "http://127.0.0.1:1/mcp", note)
	newUpstream(t, "http://127.0.0.1:1/mcp", note, func(o *upstreamhttp.Options) {
		o.Pool = upstreamhttp.PoolOptions{MaxConnections: 7, MaxIdle: 3, IdleTimeout: time.Minute, MaxAge: time.Hour}
		o.Timeouts.Connect = time.Second
	})
	want := []transport{ // GET streams beside the calls
		{connections: 256 + 256, idle: 256, buffer: 8 << 10, idleTimeout: 90 * time.Second, handshakeTimeout: 5 * time.Second},
		{long: true, idle: 256, buffer: 1 << 10, idleTimeout: 90 * time.Second, handshakeTimeout: 5 * time.Second},
		{connections: 7 + 256, idle: 3, buffer: 8 << 10, idleTimeout: time.Minute, handshakeTimeout: time.Second},
		{long: true, idle: 3, buffer: 1 << 10, idleTimeout: time.Minute, handshakeTimeout: time.Second},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// The number of series depends on upstreams and methods only, and those of a closed upstream's pool are gone.
func TestMetricSeries(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := upstreamhttp.NewMetrics(reg)
	s := mcptest.NewServer(t, mcptest.Minimal)
	endpoint, _ := url.Parse(s.URL())
	make := func(name string) *upstreamhttp.Upstream {
		o := options(endpoint)
		o.Name, o.Metrics = name, m
		u := upstreamhttp.New(o)
		t.Cleanup(u.Close)
		return u
	}
	count := func() map[string]int {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		n := map[string]int{}
		for _, f := range families {
			n[strings.TrimPrefix(f.GetName(), "fluentd_perf_")] = len(f.GetMetric())
		}
		return n
	}
	a, again, b := make("a"), make("a"), make("b") // the second a has replaced the first, which drains
	for i := range 100 {
		for _, u := range []*upstreamhttp.Upstream{a, again, b} {
			for _, method := range []string{"tools/list", "tools/call", strings.Repeat("x", i+1)} {
				closeResult(t, mustCall(t, u, requestOf(method)))
			}
			closeResult(t, mustCall(t, u, notification()))
		}
	}
	for name, want := range map[string]int{
		"active_connections": 2, "open_connections": 2, "idle_connections": 2, "pool_connections_total": 4,
		"upstream_duration_seconds": 6,
	} {
		if got := count()[name]; got != want {
			t.Errorf("%s: %d series, want %d", name, got, want)
		}
	}
	b.Close()
	if got := count()["open_connections"]; got != 1 {
		t.Errorf("%d pools after one was closed", got)
	}
	a.Close()
	works(t, again)
	if got := count()["open_connections"]; got != 1 {
		t.Errorf("%d pools, one of two of a name was closed", got)
	}
}
