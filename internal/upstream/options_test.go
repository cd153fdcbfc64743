package upstream_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/mcptest"
	"fluentd-perf/internal/upstream"
)

func TestOptionsThatCannotBe(t *testing.T) {
	endpoint := func(text string) *url.URL {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	for want, o := range map[string]upstream.Options{
		"no URL":                           {},
		`scheme "ftp"`:                     {URL: endpoint("ftp://x/")},
		"no host":                          {URL: endpoint("http:///x")},
		"has a user":                       {URL: endpoint("http://u:p@x/")},
		"fragment":                         {URL: endpoint("http://x/#y")},
		"MaxIdle is above":                 {URL: endpoint("http://x/"), Pool: upstream.PoolOptions{MaxIdle: 3, MaxConnections: 2}},
		"is negative":                      {URL: endpoint("http://x/"), Pool: upstream.PoolOptions{MaxConnections: -1}},
		"Pool.IdleTimeout is negative":     {URL: endpoint("http://x/"), Pool: upstream.PoolOptions{IdleTimeout: -1}},
		"Pool.MaxAge is negative":          {URL: endpoint("http://x/"), Pool: upstream.PoolOptions{MaxAge: -1}},
		"Timeouts.Connect is negative":     {URL: endpoint("http://x/"), Timeouts: upstream.Timeouts{Connect: -1}},
		"Timeouts.Handshake is negative":   {URL: endpoint("http://x/"), Timeouts: upstream.Timeouts{Handshake: -1}},
		"Timeouts.FirstByte is negative":   {URL: endpoint("http://x/"), Timeouts: upstream.Timeouts{FirstByte: -1}},
		"Timeouts.Call is negative":        {URL: endpoint("http://x/"), Timeouts: upstream.Timeouts{Call: -1}},
		"Timeouts.Idle is negative":        {URL: endpoint("http://x/"), Timeouts: upstream.Timeouts{Idle: -1}},
		"CheckBody is negative":            {URL: endpoint("http://x/"), CheckBody: -1},
		"EventLimit is negative":           {URL: endpoint("http://x/"), EventLimit: -1},
		"CheckBody or EventLimit is above": {URL: endpoint("http://x/"), EventLimit: 1 << 40},
	} {
		o.Name = "bad"
		u, err := upstream.New(o)
		if u != nil || err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), `"bad"`) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// The options, and the defaults of surface.md, reach the transports.
func TestTransportOptions(t *testing.T) {
	var got []upstream.TransportOptions
	note := func(o *upstream.Options) {
		o.RoundTripper = func(t upstream.TransportOptions) http.RoundTripper {
			got = append(got, t)
			return upstream.NewTransport(t)
		}
	}
	newUpstream(t, "http://127.0.0.1:1/mcp", note)
	newUpstream(t, "http://127.0.0.1:1/mcp", note, func(o *upstream.Options) {
		o.Pool = upstream.PoolOptions{MaxConnections: 7, MaxIdle: 3, IdleTimeout: time.Minute}
		o.Timeouts.Connect = time.Second
	})
	for i, want := range []upstream.TransportOptions{
		{MaxConnections: 256 + 256, MaxIdle: 256, IdleTimeout: 90 * time.Second, HandshakeTimeout: 5 * time.Second},
		{Long: true, MaxIdle: 256, IdleTimeout: 90 * time.Second, HandshakeTimeout: 5 * time.Second},
		{MaxConnections: 7 + 256, MaxIdle: 3, IdleTimeout: time.Minute, HandshakeTimeout: time.Second}, // GET streams beside the calls
		{Long: true, MaxIdle: 3, IdleTimeout: time.Minute, HandshakeTimeout: time.Second},
	} {
		o := got[i]
		tr := upstream.NewTransport(o)
		if o.Long != want.Long || tr.MaxConnsPerHost != want.MaxConnections || tr.MaxIdleConnsPerHost != want.MaxIdle ||
			tr.IdleConnTimeout != want.IdleTimeout || tr.TLSHandshakeTimeout != want.HandshakeTimeout || o.Dial == nil || o.Proxy != nil {
			t.Errorf("got %+v, want %+v", o, want)
		}
		if o.Long && tr.ReadBufferSize != 1<<10 {
			t.Errorf("streams read through %d bytes", tr.ReadBufferSize)
		}
		if !tr.DisableCompression || tr.Protocols.HTTP2() {
			t.Errorf("got %+v", tr)
		}
	}
}

// The number of series depends on upstreams and methods only, and those of a closed upstream's pool are gone.
func TestMetricSeries(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	m := upstream.NewMetrics(reg)
	s := mcptest.NewServer(t, mcptest.Minimal)
	endpoint, _ := url.Parse(s.URL())
	make := func(name string) *upstream.Upstream {
		u, err := upstream.New(upstream.Options{Name: name, URL: endpoint, Metrics: m})
		if err != nil {
			t.Fatal(err)
		}
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
		for _, u := range []*upstream.Upstream{a, again, b} {
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
