//go:build linux

package bench

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/fastserver"
)

var (
	rounds   = flag.Int("rounds", 9, "rounds of BenchmarkCost, each of all targets")
	requests = flag.Int64("requests", 5_000, "requests to each target in a round of BenchmarkCost")
)

// target is a proxy under load.
type target struct {
	name   string
	child  *child
	addr   string
	path   string // of the endpoint
	memory string // path of its allocation counters
}

// sample is what one target cost in one round.
type sample struct{ cpu, wall, mallocs, bytes float64 } // per request: µs, µs, counts, bytes

// BenchmarkCost prints a table of CPU per request: the daemon at log level warn, the same with an access line for every
// request, and goproxy; and the daemon's share of goproxy's. The last lines are of a server that is reached over TLS.
func BenchmarkCost(b *testing.B) {
	up := startRole(b, "upstream").address()
	load := startRole(b, "load")
	binary := buildDaemon(b)
	var table strings.Builder
	tw := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "answer\tat once\ttarget\tCPU µs/request\tof goproxy's\tlowest - highest\trequests/s\tallocations\tbytes allocated")
	cost(b, tw, load, costTargets(b, binary, "http://"+up), kinds)
	b.Setenv("SSL_CERT_FILE", filepath.Join(b.TempDir(), "certificate.pem")) // of the processes that are started from here on
	overTLS := kinds[0]
	overTLS.title += ", https"
	cost(b, tw, load, costTargets(b, binary, "https://"+startRole(b, "tls", up).address()), []kind{overTLS})
	_ = tw.Flush() // into memory
	fmt.Printf("\n%d rounds of %d requests; medians; the ratio is the median of the rounds' own\n\n%s\n", *rounds, *requests, table.String())
}

// costTargets starts what BenchmarkCost compares, in front of one server.
func costTargets(b *testing.B, binary, server string) []target {
	b.Helper()
	goproxy := startRole(b, "goproxy", server)
	return []target{
		startDaemon(b, "daemon", binary, server, "warn"),
		{"goproxy", goproxy, goproxy.address(), fastserver.Sessions, "/memory"},
		startDaemon(b, "daemon with access lines", binary, server, "info"),
	}
}

// cost measures kinds of answers, and writes a line for each of the targets.
func cost(b *testing.B, tw *tabwriter.Writer, load *child, targets []target, kinds []kind) {
	for _, k := range kinds {
		b.Run(fmt.Sprintf("%s-%d", k.tool, k.once), func(b *testing.B) {
			samples := measure(b, load, targets, k)
			for i, t := range targets {
				row(tw, k, t, samples[i], samples[1])
			}
			ratio, _, _ := ratios(samples[0], samples[1])
			b.ReportMetric(ratio, "cpu-ratio")
			b.ReportMetric(median(samples[0], func(s sample) float64 { return s.cpu }), "cpu-µs/req")
			b.ReportMetric(median(samples[0], func(s sample) float64 { return s.mallocs }), "allocs/req")
			b.ReportMetric(0, "ns/op") // a whole run is no operation
		})
	}
}

// measure runs the rounds and returns each target's samples. The order of the targets is turned round every time.
func measure(b *testing.B, load *child, targets []target, k kind) [][]sample {
	b.Helper()
	samples := make([][]sample, len(targets))
	for i := range targets { // connections, pools and caches get warm
		targets[i].take(b, load, k, *requests/k.fewer/5)
	}
	for round := range *rounds {
		for i := range targets {
			if round%2 == 1 {
				i = len(targets) - 1 - i
			}
			samples[i] = append(samples[i], targets[i].take(b, load, k, *requests/k.fewer))
		}
	}
	return samples
}

// take puts the target under load and returns what it cost.
func (t *target) take(b *testing.B, load *child, k kind, count int64) sample {
	b.Helper()
	m0, b0 := t.allocations(b)
	cpu := t.cpu(b) // after the allocations: reading them is not part of it
	var report loadReport
	load.order(&report, "%s %s %s %t %d %d", t.addr, t.path, k.tool, k.sse, count, k.once)
	cpu = t.cpu(b) - cpu
	if report.Wrong > 0 {
		b.Fatalf("%s, %s: %d calls failed: %s", t.name, k.title, report.Wrong, report.First)
	}
	mallocs, bytes := t.allocations(b)
	n := float64(count)
	return sample{
		cpu: float64(cpu.Microseconds()) / n, wall: float64(report.Wall.Microseconds()) / n,
		mallocs: (mallocs - m0) / n, bytes: (bytes - b0) / n,
	}
}

// cpu returns the user and system time of the target's process so far.
func (t *target) cpu(b *testing.B) time.Duration {
	b.Helper()
	cpu, err := loadgen.ProcessCPU(t.child.cmd.Process.Pid)
	if err != nil {
		b.Fatal(err)
	}
	return cpu
}

// allocations returns how many objects and bytes the target has allocated so far.
func (t *target) allocations(b *testing.B) (mallocs, bytes float64) {
	b.Helper()
	at, err := loadgen.NewTarget("http://"+t.addr+t.memory, "")
	if err != nil {
		b.Fatal(err)
	}
	a, err := loadgen.ReadAllocations(b.Context(), at)
	if err != nil {
		b.Fatalf("%s: %v", t.name, err)
	}
	return a.Objects, a.Bytes
}

func row(w *tabwriter.Writer, k kind, t target, samples, base []sample) {
	ratio, low, high := ratios(samples, base)
	fmt.Fprintf(w, "%s\t%d\t%s\t%.1f\t%.2f\t%.2f - %.2f\t%.0f\t%.0f\t%.0f\n", k.title, k.once, t.name,
		median(samples, func(s sample) float64 { return s.cpu }), ratio, low, high,
		1e6/median(samples, func(s sample) float64 { return s.wall }),
		median(samples, func(s sample) float64 { return s.mallocs }),
		median(samples, func(s sample) float64 { return s.bytes }))
}

// ratios compares the CPU of two targets round by round: the median, the lowest and the highest.
func ratios(samples, base []sample) (mid, low, high float64) {
	all := make([]float64, len(samples))
	for i := range samples {
		all[i] = samples[i].cpu / base[i].cpu
	}
	slices.Sort(all)
	return all[len(all)/2], all[0], all[len(all)-1]
}

func median[S any](samples []S, of func(S) float64) float64 {
	all := make([]float64, len(samples))
	for i, s := range samples {
		all[i] = of(s)
	}
	slices.Sort(all)
	return all[len(all)/2]
}

func buildDaemon(b *testing.B) string {
	b.Helper()
	binary, err := filepath.Abs("../.cache/bin/fluentd-perf-bench")
	if err != nil {
		b.Fatal(err)
	}
	if out, err := exec.Command("go", "build", "-o", binary, "../cmd/fluentd-perf").CombinedOutput(); err != nil {
		b.Fatalf("building the daemon: %v\n%s", err, out)
	}
	return binary
}

// startDaemon starts the daemon with the scripted server for an upstream, which is at that origin.
func startDaemon(b *testing.B, name, binary, origin, level string) target {
	b.Helper()
	return runDaemon(b, name, binary, "--log-level", level, "--upstream", "up="+origin+fastserver.Sessions)
}

// runDaemon starts the daemon with these arguments. Its log goes to a file, as a service manager's would.
func runDaemon(b *testing.B, name, binary string, args ...string) target {
	b.Helper()
	scratch := b.TempDir()
	log, err := os.Create(filepath.Join(scratch, "log"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = log.Close() })
	addr := freeAddr(b)
	cmd := exec.Command(binary, append([]string{"serve", "--listen", addr}, args...)...)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+scratch, "XDG_STATE_HOME="+scratch, "XDG_CACHE_HOME="+scratch)
	t := target{name, start(b, cmd, log), addr, "/mcp/up", "/metrics"}
	t.awaitReady(b)
	return t
}

// runConfigured is runDaemon with a configuration file, at log level warn.
func runConfigured(b *testing.B, binary, yaml string) target {
	b.Helper()
	file := filepath.Join(b.TempDir(), "fluentd-perf.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		b.Fatal(err)
	}
	return runDaemon(b, "daemon", binary, "--log-level", "warn", "--config", file)
}

func (t *target) awaitReady(b *testing.B) {
	b.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		res, err := http.Get("http://" + t.addr + "/readyz")
		if err == nil {
			_ = res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
		}
		<-tick.C
	}
	b.Fatalf("%s is not ready after 10 s", t.name)
}

func freeAddr(b *testing.B) string {
	b.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().String()
}
