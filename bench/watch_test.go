//go:build linux

package bench

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/loadgen/fastserver"
	"fluentd-perf/internal/profiler"
)

// watchUpstreams is how many upstreams the daemon of BenchmarkWatch has, each of which was called; one is under load.
const watchUpstreams = 50

// watchTime is how long each round watches. The shorter, the more alike is what else the machine does in both rounds of a pair, and the
// more it is of what a watch costs once: profile, which watches for ten seconds unless told otherwise, has the collector run at its ends.
var watchTime = flag.Duration("watch", 3*time.Second, "how long a daemon is watched in each round of BenchmarkWatch")

// watcher is a way to look at a daemon for watchTime; nil where nobody does. It says how much CPU it took itself, 0 for one that is no process.
type watcher struct {
	name  string
	watch func(ctx context.Context) (own time.Duration, err error)
}

// watched is what a round measured.
type watched struct {
	cpu    float64 // of the daemon, µs a request
	daemon float64 // the same in cores
	own    float64 // cores that the watcher itself took
}

// BenchmarkWatch prints what it costs a daemon under load that `monitor` or `profile` looks at it: pairs of rounds, one with somebody who
// looks and one without, the median of the ratios of the daemon's CPU per request, and which share of a core the daemon and who looks took
// themselves (profile asks from the benchmark's own process, which is not counted). The last line compares two of nobody: a daemon
// that has been watched in all ways with one that never was; so that the noise can be seen, too. -rounds says how many pairs.
func BenchmarkWatch(b *testing.B) {
	up := startRole(b, "upstream").address()
	load := startRole(b, "load")
	binary := buildDaemon(b)
	looked, socket := startWatched(b, binary, up)
	never, _ := startWatched(b, binary, up)
	all := []watcher{{"monitor", monitorFor(binary, socket, time.Second)}, {"monitor, ten looks a second", monitorFor(binary, socket, time.Second/10)}}
	for _, kind := range profiler.Kinds() {
		all = append(all, watcher{"profile " + string(kind), profileFor(socket, kind)})
	}
	all = append(all, watcher{"nobody, but before", nil})
	for _, t := range []*target{&looked, &never} {
		for i := range watchUpstreams {
			t.path = upstreamPath(i)
			t.take(b, load, kinds[0], 20)
		}
		t.path = upstreamPath(0)
		t.take(b, load, kinds[0], 2000)
	}
	with, without := make([][]watched, len(all)), make([][]watched, len(all))
	for pair := range *rounds {
		for i := range all {
			base := &looked
			if i == len(all)-1 {
				base = &never
			}
			if pair%2 == 1 {
				with[i] = append(with[i], all[i].round(b, &looked, load))
			}
			without[i] = append(without[i], new(watcher).round(b, base, load))
			if pair%2 == 0 {
				with[i] = append(with[i], all[i].round(b, &looked, load))
			}
		}
	}
	var table strings.Builder
	tw := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "who watches\tCPU µs/request\tof nobody's\tquartiles\tdaemon, % of a core\tits own, % of a core")
	for i, w := range all {
		var ratios []float64
		for j := range with[i] {
			ratios = append(ratios, with[i][j].cpu/without[i][j].cpu)
		}
		slices.Sort(ratios)
		n := len(ratios)
		of := func(f func(watched) float64) float64 { return median(with[i], f) }
		fmt.Fprintf(tw, "%s\t%.1f\t%.3f\t%.3f - %.3f\t%.1f\t%.2f\n", w.name, of(func(w watched) float64 { return w.cpu }), ratios[n/2], ratios[n/4],
			ratios[n-1-n/4], 100*of(func(w watched) float64 { return w.daemon }), 100*of(func(w watched) float64 { return w.own }))
	}
	_ = tw.Flush() // into memory
	b.ReportMetric(0, "ns/op")
	fmt.Printf("\n%d pairs of rounds of %v, %d calls at once, %d upstreams; medians\n\n%s\n", *rounds, *watchTime, atOnce, watchUpstreams, table.String())
}

func upstreamPath(i int) string { return fmt.Sprintf("/mcp/up%02d", i) }

// startWatched starts a daemon with many upstreams and returns its admin socket, too.
func startWatched(b *testing.B, binary, upstream string) (target, string) {
	b.Helper()
	dir, err := os.MkdirTemp("", "fp") // short, for a socket
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	args := []string{"--log-level", "warn", "--runtime-dir", dir}
	for i := range watchUpstreams {
		args = append(args, "--upstream", strings.TrimPrefix(upstreamPath(i), "/mcp/")+"=http://"+upstream+fastserver.Sessions)
	}
	return runDaemon(b, "daemon", binary, args...), filepath.Join(dir, "admin.sock")
}

// round is the daemon's CPU per request while it is watched, the end of that included, and the watcher's own.
func (w *watcher) round(b *testing.B, t *target, load *child) watched {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	ended, fault, own := make(chan struct{}), error(nil), time.Duration(0)
	cpu, begun, n := t.cpu(b), time.Now(), int64(0)
	go func() {
		defer close(ended)
		if w.watch != nil {
			own, fault = w.watch(ctx)
		}
	}()
	const some = 200
	for done := false; !done || time.Since(begun) < *watchTime; n += some {
		var report loadReport
		load.order(&report, "%s %s %s %t %d", t.addr, t.path, fastserver.Small, false, some)
		if report.Wrong > 0 {
			b.Fatalf("%s: %d calls failed: %s", w.name, report.Wrong, report.First)
		}
		select {
		case <-ended:
			done = true
		default:
		}
	}
	if fault != nil {
		b.Fatalf("%s: %v", w.name, fault)
	}
	used, took := t.cpu(b)-cpu, time.Since(begun)
	return watched{float64(used.Microseconds()) / float64(n), used.Seconds() / took.Seconds(), own.Seconds() / took.Seconds()}
}

// monitorFor is the verb, without a terminal.
func monitorFor(binary, socket string, interval time.Duration) func(context.Context) (time.Duration, error) {
	return func(ctx context.Context) (time.Duration, error) {
		cmd := exec.CommandContext(ctx, binary, "monitor", "--socket", socket, "--duration", watchTime.String(), "--interval", interval.String())
		out, err := cmd.CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("%w: %s", err, out)
		}
		return cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), nil
	}
}

// profileFor asks for a profile. One of a state is looked at once, at the beginning.
func profileFor(socket string, kind profiler.Kind) func(context.Context) (time.Duration, error) {
	return func(ctx context.Context) (time.Duration, error) {
		return 0, api.Call(ctx, socket, api.CallProfile, api.ProfileParams{Kind: kind, DurationMs: watchTime.Milliseconds()}, nil)
	}
}
