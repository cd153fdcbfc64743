//go:build linux

package bench

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/fastserver"
)

// besideWrk are what BenchmarkBesideWrk compares: connections, and how long the server takes. 256 connections to a server that takes
// 5 ms ask for 51,200 calls a second, which two cores do not give: there the times are those of the queue for the CPU.
var besideWrk = []struct{ connections, ms int }{{1, 5}, {32, 5}, {256, 5}, {256, 50}}

// observed is what a generator says of its calls.
type observed struct{ p50, p99, perSecond float64 } // ns, ns, calls

// The ratios of what the generator says to what wrk says.
var wrkRatios = []string{"p50", "p99", "p99 as it is", "calls/s", "accounted for"}

// BenchmarkBesideWrk compares what the load generator says with what wrk says of the same server: five rounds of both, interleaved.
// The figures are medians of the rounds' own ratios; 1 is what they should be.
func BenchmarkBesideWrk(b *testing.B) {
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		b.Skip("it needs wrk")
	}
	addr := startRole(b, "upstream").address()
	for _, c := range besideWrk {
		b.Run(fmt.Sprintf("%d-of-%dms", c.connections, c.ms), func(b *testing.B) {
			for b.Loop() {
				ratios := measureBesideWrk(b, wrk, addr, c.connections, c.ms)
				for _, name := range wrkRatios {
					b.Logf("%s %.2f", name, ratios[name])
					b.ReportMetric(middle(ratios[name]), strings.ReplaceAll(name, " ", "-"))
				}
			}
			b.ReportMetric(0, "ns/op") // a whole run is no operation
		})
	}
}

// writeBesideWrk writes the same as a table; without wrk a sentence.
func writeBesideWrk(b *testing.B, w io.Writer, addr string) {
	b.Helper()
	wrk, err := exec.LookPath("wrk")
	if err != nil {
		fmt.Fprint(w, "\nwrk is not installed here: the generator was not compared with it.\n")
		return
	}
	fmt.Fprintf(w, "\n**The generator beside wrk** %s\n\n| connections | the server takes | %s |\n|---|---|---|---|---|---|---|\n", said(`wrk (?:debian/)?(\S+)`, wrk, "-v"), strings.Join(wrkRatios, " | "))
	for _, c := range besideWrk {
		fmt.Fprintf(w, "| %d | %d ms", c.connections, c.ms)
		ratios := measureBesideWrk(b, wrk, addr, c.connections, c.ms)
		for _, name := range wrkRatios {
			fmt.Fprintf(w, " | %s", between(ratios[name], "%.2f"))
		}
		fmt.Fprintln(w, " |")
	}
}

// measureBesideWrk makes the rounds of one line, and returns each round's ratios.
//
// What wrk prints are not its calls' times alone: to each that took over twice a connection's mean time for a call it adds made-up ones,
// for calls that could not be sent meanwhile (stats_correct in its stats.c). So the same is done to the generator's own times before the
// comparison; "p99 as it is" is without that. "Accounted for" has nothing of wrk: in a closed loop the calls under way are calls a second
// times the time of a call (Little), and what is missing to 1 is time that the generator takes between an answer and the next send, which
// is nobody's.
func measureBesideWrk(b *testing.B, wrk, addr string, connections, ms int) map[string][]float64 {
	b.Helper()
	script := wrkScript(b, ms)
	p := loadgen.NewClients(plainTarget(b, addr, "/mcp"))
	defer p.Close(b.Context())
	ratios := make(map[string][]float64)
	for round := range *peerRounds {
		var theirs, ours observed
		var r loadgen.Round
		both := []func(){
			func() { theirs = runWrk(b, wrk, script, "http://"+addr+"/mcp", connections) },
			func() { ours, r = runWait(b, p, connections, ms) },
		}
		if round%2 == 1 { // so that neither is always the second
			slices.Reverse(both)
		}
		for _, measure := range both {
			measure()
		}
		for i, ratio := range []float64{
			ours.p50 / theirs.p50, ours.p99 / theirs.p99, r.Service.P99 * 1e3 / theirs.p99, ours.perSecond / theirs.perSecond,
			r.PerSecond * r.Service.Mean / 1e6 / float64(connections),
		} {
			ratios[wrkRatios[i]] = append(ratios[wrkRatios[i]], ratio)
		}
	}
	return ratios
}

// wrkScript has wrk call the tool that waits.
func wrkScript(b *testing.B, ms int) string {
	b.Helper()
	script := filepath.Join(b.TempDir(), "call.lua")
	lua := "wrk.method = 'POST'\nwrk.headers['Content-Type'] = 'application/json'\n" +
		`wrk.body = '{"jsonrpc":"2.0","id":1234567890,"method":"tools/call","params":{"name":"wait","arguments":` + fastserver.WaitArguments("0123456789", ms) + "}}'\n"
	if err := os.WriteFile(script, []byte(lua), 0o600); err != nil {
		b.Fatal(err)
	}
	return script
}

// runWait makes calls for two seconds, and returns what wrk would print of them beside the round itself.
func runWait(b *testing.B, p *loadgen.Clients, connections, ms int) (observed, loadgen.Round) {
	b.Helper()
	k := loadgen.ToolCall(fastserver.Wait, fastserver.WaitArguments(loadgen.KeyMark, ms))
	k.Result = fastserver.Result(fastserver.Wait, loadgen.KeyMark)
	tally, err := p.Run(b.Context(), loadgen.Load{Loop: loadgen.Closed, Concurrency: connections, DurationMs: 2000}, loadgen.Only(k), nil)
	if err != nil {
		b.Fatal(err)
	}
	r := tally.Round()
	if r.Failed > 0 {
		b.Fatalf("%d calls failed: %s", r.Failed, r.FirstFault)
	}
	h, err := hdrhistogram.Decode([]byte(r.Service.HDR))
	if err != nil {
		b.Fatal(err)
	}
	corrected := correctedAsWrk(h, int64(1e9*r.Seconds*float64(connections)/float64(r.Succeeded)))
	return observed{float64(corrected.ValueAtQuantile(50)), float64(corrected.ValueAtQuantile(99)), r.PerSecond}, r
}

// correctedAsWrk returns times with what wrk adds to them: for each over twice the mean time between two calls of a connection another
// that is shorter by that, and so on.
func correctedAsWrk(h *hdrhistogram.Histogram, apart int64) *hdrhistogram.Histogram {
	corrected := hdrhistogram.Import(h.Export())
	for _, bar := range h.Distribution() {
		for left := bar.From; left >= 2*apart && bar.Count > 0; left -= apart {
			_ = corrected.RecordValues(left-apart, bar.Count) // which is less than one that it has
		}
	}
	return corrected
}

// TestCorrectedAsWrk has one time of 10 in 100 of 1, of which a connection makes one each 1: 9, 8, ... 1 are added.
func TestCorrectedAsWrk(t *testing.T) {
	h := hdrhistogram.New(1, 1e6, 3)
	_ = h.RecordValues(100, 100)
	_ = h.RecordValue(1000)
	c := correctedAsWrk(h, 100)
	if c.TotalCount() != 110 || c.ValueAtQuantile(99) != 900 || c.ValueAtQuantile(50) != 100 || h.TotalCount() != 101 {
		t.Errorf("%d times, p50 %d, p99 %d", c.TotalCount(), c.ValueAtQuantile(50), c.ValueAtQuantile(99))
	}
}

var (
	wrkPercentile = regexp.MustCompile(`(?m)^ +(50|99)% +([0-9.]+)(us|ms|s)$`)
	wrkRate       = regexp.MustCompile(`(?m)^Requests/sec: +([0-9.]+)$`)
)

// runWrk has wrk do the same.
func runWrk(b *testing.B, wrk, script, url string, connections int) observed {
	b.Helper()
	out, err := exec.Command(wrk, "-t1", "-c"+strconv.Itoa(connections), "-d2s", "--latency", "-s", script, url).CombinedOutput()
	if err != nil {
		b.Fatalf("wrk: %v\n%s", err, out)
	}
	found, rate := wrkPercentile.FindAllStringSubmatch(string(out), -1), wrkRate.FindStringSubmatch(string(out))
	if len(found) != 2 || rate == nil {
		b.Fatalf("wrk printed\n%s", out)
	}
	number := func(text string) float64 {
		n, _ := strconv.ParseFloat(text, 64) // which matched
		return n
	}
	at := func(match []string) float64 {
		return number(match[2]) * float64(map[string]time.Duration{"us": time.Microsecond, "ms": time.Millisecond, "s": time.Second}[match[3]])
	}
	return observed{at(found[0]), at(found[1]), number(rate[1])}
}
