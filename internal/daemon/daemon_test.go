package daemon

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/config"
)

func TestStreamCap(t *testing.T) {
	for _, c := range []struct {
		most        int
		descriptors uint64
		want        int
	}{
		{10_000, 20_000, 9_900}, {10_000, 65_536, 10_000}, {10_000, 256, 96}, {10_000, 1024, 412}, {50, 20_000, 50}, {10_000, 0, 10_000},
	} {
		if got := streamCap(c.most, c.descriptors); got != c.want {
			t.Errorf("max_streams %d, %d descriptors: %d, want %d", c.most, c.descriptors, got, c.want)
		}
	}
}

func TestConnectionCap(t *testing.T) {
	for _, c := range []struct {
		most        int
		descriptors uint64
		want        int
	}{
		{12_000, 20_000, 11_880}, {12_000, 65_536, 12_000}, {12_000, 1024, 494}, {50, 20_000, 50}, {12_000, 0, 12_000},
	} {
		if got := connectionCap(c.most, c.descriptors); got != c.want {
			t.Errorf("limits.connections %d, %d descriptors: %d, want %d", c.most, c.descriptors, got, c.want)
		}
	}
}

func TestReachable(t *testing.T) {
	for in, want := range map[string]string{
		"127.0.0.1:7300": "127.0.0.1:7300", "0.0.0.0:7300": "127.0.0.1:7300", "[::]:7300": "[::1]:7300", ":7300": "127.0.0.1:7300",
		"[::1]:7300": "[::1]:7300", "box:1": "box:1",
	} {
		if got := reachable(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// serving runs the daemon in this process until the test ends and returns its address.
func serving(t *testing.T, yaml string, args ...string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "fluentd-perf.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := config.Load(config.Sources{File: file, Upstreams: args, Env: os.LookupEnv, ReadFile: os.ReadFile})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	addr, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{Config: cfg, Paths: Paths{}, Log: slog.New(slog.DiscardHandler), Ready: func(a string) { addr <- a }})
	}()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	select {
	case a := <-addr:
		return a
	case err := <-ended:
		ended <- err
		t.Fatal(err)
		return ""
	}
}

// TestMetricsAreDocumented compares METRICS.md with what the daemon registers, both ways, labels included.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../../METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(fluentd_perf_[a-z_]+)` \\| [a-z]+ \\| ([^|]*) \\|").FindAllStringSubmatch(string(text), -1) {
		labels := regexp.MustCompile("[a-z]+").FindAllString(row[2], -1)
		slices.Sort(labels)
		documented[row[1]] = strings.Join(labels, ",")
	}
	registered := registeredMetrics(t)
	for name, want := range registered {
		if documented[name] != want {
			t.Errorf("%s has the labels %q, METRICS.md says %q", name, want, documented[name])
		}
	}
	for name := range documented {
		if _, ok := registered[name]; !ok {
			t.Errorf("METRICS.md has %s, which the daemon does not register", name)
		}
	}
}

// TestUpstreamsCalledLikeTiers: the connections of an upstream that has the name of a cache tier are told from that tier's.
func TestUpstreamsCalledLikeTiers(t *testing.T) {
	const upstreams = "upstreams: {redis: {url: http://h}, postgres: {url: http://h}, sqlite: {url: http://h}}\nlisten: 127.0.0.1:0\n"
	for cache, want := range map[string]string{
		"{redis: {url: 'redis://127.0.0.1:1'}, database: {url: 'postgres://u@127.0.0.1:1/d'}}": "postgres redis sqlite upstream:postgres upstream:redis",
		"{database: {url: 'sqlite:" + filepath.Join(t.TempDir(), "cache.db") + "'}}":           "postgres redis sqlite upstream:sqlite",
		"{database: {url: off}}": "postgres redis sqlite",
	} {
		addr := serving(t, upstreams+"cache: "+cache)
		res, err := http.Get("http://" + addr + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK {
			t.Errorf("%s: %v, %s\n%s", cache, err, res.Status, text)
			continue
		}
		for _, metric := range []string{"open_connections", "idle_connections", "active_connections"} {
			var pools []string
			for _, series := range regexp.MustCompile(`(?m)^fluentd_perf_`+metric+`\{pool="(.*)"\}`).FindAllStringSubmatch(string(text), -1) {
				pools = append(pools, series[1])
			}
			slices.Sort(pools)
			if got := strings.Join(pools, " "); got != want {
				t.Errorf("%s: %s of %s, want %s", cache, metric, got, want)
			}
		}
	}
}

// registeredMetrics returns the labels of every metric of ours that a daemon registers, by name.
func registeredMetrics(t *testing.T) map[string]string {
	t.Helper()
	cfg, _, err := config.Load(config.Sources{Upstreams: []string{"x=http://127.0.0.1:1/mcp"}, Listen: []string{"127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := assemble(t.Context(), Options{Config: cfg, Paths: Paths{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	closeAll(d.listeners)
	defer d.closeCache(time.Second)
	descs := make(chan *prometheus.Desc)
	go func() { d.registry.Describe(descs); close(descs) }()
	form := regexp.MustCompile(`fqName: "(fluentd_perf_[a-z_]+)".*constLabels: \{(.*?)\}, variableLabels: \{(.*?)\}`)
	registered := map[string]string{}
	for desc := range descs {
		parts := form.FindStringSubmatch(desc.String())
		if parts == nil {
			continue
		}
		constant := regexp.MustCompile(`="[^"]*"`).ReplaceAllString(parts[2], "")
		labels := regexp.MustCompile("[a-z]+").FindAllString(constant+","+parts[3], -1)
		slices.Sort(labels)
		registered[parts[1]] = strings.Join(labels, ",")
	}
	return registered
}

// TestSystemd holds what the service manager is told: ready, alive, stopping.
func TestSystemd(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenPacket("unixgram", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", socket)
	t.Setenv("WATCHDOG_USEC", "200000")
	next := func() string {
		t.Helper()
		if err := conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 256)
		n, _, err := conn.ReadFrom(b)
		if err != nil {
			t.Fatal(err)
		}
		return string(b[:n])
	}
	ctx, stop := context.WithCancel(t.Context())
	cfg, _, err := config.Load(config.Sources{Upstreams: []string{"x=http://127.0.0.1:1/mcp"}, Listen: []string{"127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{Config: cfg, Paths: Paths{}, Log: slog.New(slog.DiscardHandler), Ready: nil})
	}()
	for _, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"} {
		if got := next(); got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	}
	stop()
	for got := next(); got != "STOPPING=1"; got = next() {
		if got != "WATCHDOG=1" {
			t.Errorf("told %q while stopping", got)
		}
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestMetricsListener holds that metrics.listen moves /metrics.
func TestMetricsListener(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	own := l.Addr().String()
	l.Close()
	addr := serving(t, "listen: 127.0.0.1:0\nmetrics: {listen: \""+own+"\"}\n", "x=http://127.0.0.1:1/mcp")
	for where, status := range map[string]int{own: 200, addr: 404} {
		resp, err := http.Get("http://" + where + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != status {
			t.Errorf("/metrics on %s: %d, want %d", where, resp.StatusCode, status)
		}
	}
}

// TestGeneratedToken holds that `auth.token: generate` prints a token that the handler takes.
func TestGeneratedToken(t *testing.T) {
	var out bytes.Buffer
	token, err := daemonToken(&config.Config{Auth: config.Auth{Generate: true}}, &out)
	if err != nil || len(token) < 20 || !strings.Contains(out.String(), token) {
		t.Errorf("%v: %q in %q", err, token, out.String())
	}
}

// TestOnLoopback holds that what counts is where the daemon listens, whoever opened the socket.
func TestOnLoopback(t *testing.T) {
	cfg, _, err := config.Load(config.Sources{Upstreams: []string{"x=http://127.0.0.1:1/mcp"}, Listen: []string{"127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	wide := []net.Listener{addressed{&net.TCPAddr{IP: net.IPv4zero}}}
	if onLoopback(wide) || !onLoopback([]net.Listener{addressed{&net.TCPAddr{IP: net.IPv6loopback}}}) {
		t.Error("0.0.0.0 is not loopback, [::1] is")
	}
	if got := hosts(cfg, []net.Listener{addressed{&net.TCPAddr{IP: net.IPv4(10, 1, 2, 3)}}}); !slices.Contains(got, "10.1.2.3") {
		t.Errorf("hosts %q without the one that was handed over", got)
	}
	d := &daemon{log: slog.New(slog.DiscardHandler)}
	if err := d.listen(t.Context(), cfg, false); err != nil {
		t.Fatal(err)
	}
	closeAll(d.listeners)
}

// addressed is a listener of which only the address matters.
type addressed struct{ addr net.Addr }

func (a addressed) Addr() net.Addr            { return a.addr }
func (a addressed) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (a addressed) Close() error              { return nil }

// TestBallast holds that the ballast slows the collector, and that the operator's word counts more.
func TestBallast(t *testing.T) {
	t.Setenv("GOGC", "")
	if got := len(newBallast()); got != ballastSize {
		t.Errorf("%d bytes", got)
	}
	t.Setenv("GOGC", "50")
	if got := len(newBallast()); got != 0 {
		t.Errorf("%d bytes with GOGC set", got)
	}
}
