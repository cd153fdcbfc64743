package main

import (
	"bytes"
	"context"
	"encoding/json"
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

// command runs the program as a shell would.
func command(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	good := write("good.yaml", "upstreams: {docs: {url: https://docs.example.com/mcp, headers: {Authorization: Bearer hush}}}\n")
	bad := write("bad.yaml", "upstreams:\n  docs:\n    url: ftp://x\n    pool: {max_idel: 3}\ndrain: 5\n")
	for _, c := range []struct {
		args      []string
		code      int
		out, errs string
	}{
		{[]string{"check", "--config", good}, 0, "https://docs.example.com/mcp", ""},
		{[]string{"check", "--config", good, "-o", "json"}, 0, `"ok": true`, ""},
		{[]string{"check", "--config", bad}, 2, "", "bad.yaml:4: upstreams.docs.pool.max_idel"},
		{[]string{"check", "--config", bad, "-o", "json"}, 2, `"ok": false`, ""},
		{[]string{"check", "--upstream", "docs=https://docs.example.com/mcp"}, 0, "docs", ""},
		{[]string{"check"}, 2, "", "upstream"},
		{[]string{"check", "-o", "xml"}, 2, "", "use table or json"},
		{[]string{"serve", "--config", bad}, 2, "", "bad.yaml:5: drain"},
		{[]string{"serve", "--log-level", "loud", "--config", good}, 2, "", "--log-level"},
		{[]string{"serve", "--nonsense"}, 2, "", "unknown flag: --nonsense; see fluentd-perf serve --help"},
		{[]string{"--nonsense"}, 2, "", "unknown flag: --nonsense; see fluentd-perf --help"},
		{[]string{"check", "--config"}, 2, "", "flag needs an argument: --config; see fluentd-perf check --help"},
		{[]string{"--version"}, 0, versionLine(), ""},
		{[]string{"version"}, 0, "fluentd-perf ", ""},
		{[]string{"version", "-o", "json"}, 0, `"platform"`, ""},
		{[]string{"healthcheck", "--address", "127.0.0.1:1"}, 1, "", "refused"},
	} {
		code, out, errs := command(c.args...)
		if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errs, c.errs) {
			t.Errorf("%v: exit %d\n%s\n%s", c.args, code, out, errs)
		}
		if strings.Contains(out+errs, "hush") {
			t.Errorf("%v prints a secret: %s%s", c.args, out, errs)
		}
	}
	_, out, _ := command("check", "--config", bad, "-o", "json")
	var report struct{ Faults []config.Fault }
	if err := json.Unmarshal([]byte(out), &report); err != nil || len(report.Faults) != 3 {
		t.Errorf("%v: %s", err, out)
	}
}

// TestWarningsOfAServersFile has check and serve say the same of an agent's file, whether a server is left or not.
func TestWarningsOfAServersFile(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	own := taken.Addr().String() // serve ends at once: it cannot listen there
	const bad = `"asks": {"url": "http://h", "headers": {"X": "${input:x}"}}, "me": {"url": "http://%s/mcp/me"}`
	for _, c := range []struct {
		text         string
		check, serve int
		warnings     int
	}{
		{`{"mcpServers": {"my server": {"httpUrl": "http://127.0.0.1:9/mcp"}, ` + bad + `}}`, 0, 1, 3},
		{`{"mcpServers": {` + bad + `}}`, 2, 2, 2},
	} {
		dir := t.TempDir()
		file := filepath.Join(dir, "mcp.json")
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(c.text, "%s", own)), 0o600); err != nil {
			t.Fatal(err)
		}
		code, _, errs := command("check", "--mcp-json", file, "--listen", own)
		checked := regexp.MustCompile(`(?m)^warning: (.*)$`).FindAllStringSubmatch(errs, -1)
		if code != c.check || len(checked) != c.warnings {
			t.Errorf("check: exit %d\n%s", code, errs)
		}
		code, _, errs = command("serve", "--mcp-json", file, "--listen", own, "--state-dir", dir, "--runtime-dir", dir, "--log-format", "json")
		if code != c.serve {
			t.Errorf("serve: exit %d\n%s", code, errs)
		}
		for _, warning := range checked {
			said, _ := json.Marshal(warning[1])
			if !strings.Contains(errs, `"level":"WARN","msg":`+string(said)) {
				t.Errorf("serve does not say %s\n%s", said, errs)
			}
		}
	}
}

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
		ended <- serve(ctx, cfg, directories{}, slog.New(slog.DiscardHandler), io.Discard, func(a string) { addr <- a })
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

// registeredMetrics returns the labels of every metric of ours that a daemon registers, by name.
func registeredMetrics(t *testing.T) map[string]string {
	t.Helper()
	cfg, _, err := config.Load(config.Sources{Upstreams: []string{"x=http://127.0.0.1:1/mcp"}, Listen: []string{"127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := assemble(t.Context(), cfg, directories{}, slog.New(slog.DiscardHandler), io.Discard)
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
	go func() { ended <- serve(ctx, cfg, directories{}, slog.New(slog.DiscardHandler), io.Discard, nil) }()
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

// TestGeneratedToken holds that `auth.token: generate` prints a token that opens the door.
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
