//go:build linux

package bench

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/fastserver"
	"fluentd-perf/internal/mcp"
)

var (
	performance = flag.String("performance", "", "the `file` into which BenchmarkPerformance writes its tables, between two marks")
	roundLength = flag.Duration("round", 2*time.Second, "how long each target is under load in each round of BenchmarkPerformance")
	peerRounds  = flag.Int("peer-rounds", 5, "rounds of BenchmarkPerformance, each of all targets; at least 5 for a table that is kept")
)

// baseline is the target whose CPU that of the others is divided by.
const baseline = "Go's ReverseProxy"

// peerLoad is one table: a load that each target is put under.
type peerLoad struct {
	title   string
	kind    loadgen.Kind
	clients int
}

// chartLoad is the load of which a picture is drawn, beside the tables.
const chartLoad = "An answer of 200 B, 32 at once"

// peerLoads are those of the proxies.
func peerLoads() []peerLoad {
	call := func(tool string, sse bool) loadgen.Kind {
		k := loadgen.ToolCall(tool, fastserver.Arguments(loadgen.KeyMark))
		k.Result, k.Progress = fastserver.Result(tool, loadgen.KeyMark), sse
		return k
	}
	return []peerLoad{
		{"An answer of 200 B, one call at a time", call(fastserver.Small, false), 1},
		{chartLoad, call(fastserver.Small, false), atOnce},
		{"An answer of 200 B, 256 at once", call(fastserver.Small, false), maxAtOnce},
		{"An answer of 10 KB, 32 at once", call(fastserver.Large, false), atOnce},
		{"A stream: an event of progress, then an answer of 200 B; 32 at once", call(fastserver.Progress, true), atOnce},
		{"An answer of 1 MB, 32 at once", call(fastserver.Huge, false), atOnce},
	}
}

// peer is a target of the tables.
type peer struct {
	name   string
	target *loadgen.Target
	pids   func() []int // its own processes, as they are now
	rounds []figures
	fault  error // why there are no more rounds
}

// figures are what one round of one peer came to.
type figures struct {
	perSecond, p50, p99 float64 // calls, µs, µs
	cpu, memory         float64 // of its own processes: µs for a call, resident bytes
	cores               float64 // that it, the server and the generator kept busy together
}

// BenchmarkPerformance measures the daemon beside other proxies, and beside other bridges to a server over stdio, and writes the tables
// and the picture of docs/performance.md. `make performance` runs it. What is not installed has no line, and a sentence that says so.
func BenchmarkPerformance(b *testing.B) {
	if *performance == "" {
		b.Skip("make performance runs it")
	}
	begun := time.Now()
	var text strings.Builder
	var picture string
	for b.Loop() {
		text.Reset()
		writeConditions(&text)
		server := startRole(b, "upstream")
		address := server.address()
		peers, missing := startProxies(b, address)
		for _, load := range peerLoads() {
			measured := measurePeers(b, load, peers, server.pid())
			writeTable(&text, load, measured, baseline)
			if load.title == chartLoad {
				picture = chart("CPU of a call, answered with 200 B; 32 at once", measured)
			}
		}
		bridges, alsoMissing := startBridges(b)
		for _, load := range bridgeLoads() {
			writeTable(&text, load, measurePeers(b, load, bridges, 0), bridges[0].name)
		}
		for _, sentence := range append(missing, alsoMissing...) {
			fmt.Fprintf(&text, "\n%s\n", sentence)
		}
		writeBesideWrk(b, &text, address)
	}
	b.ReportMetric(0, "ns/op") // a whole run is no operation
	fmt.Println(text.String())
	fmt.Printf("All of it took %v.\n", time.Since(begun).Round(time.Second))
	err := writeBetweenMarks(*performance, text.String())
	if err == nil {
		err = os.WriteFile(strings.TrimSuffix(*performance, ".md")+".svg", []byte(picture), 0o644)
	}
	if err != nil {
		b.Fatal(err)
	}
}

// measurePeers puts a load on all peers, round by round, and returns them with what it came to. One that fails is left out from then on.
func measurePeers(b *testing.B, load peerLoad, peers []peer, server int) []peer {
	b.Helper()
	measured := slices.Clone(peers)
	clients := make([]*loadgen.Clients, len(peers))
	for i := range measured {
		measured[i].rounds, measured[i].fault = nil, nil
		clients[i] = loadgen.NewClients(measured[i].target)
		defer clients[i].Close(b.Context())
		if measured[i].fault = clients[i].Open(b.Context(), load.clients); measured[i].fault == nil {
			_, measured[i].fault = measured[i].round(b.Context(), load, clients[i], server, *roundLength/5) // connections, pools and caches get warm
		}
	}
	for round := range *peerRounds {
		for i := range measured {
			if round%2 == 1 {
				i = len(measured) - 1 - i
			}
			p := &measured[i]
			if p.fault != nil {
				continue
			}
			var f figures
			f, p.fault = p.round(b.Context(), load, clients[i], server, *roundLength)
			p.rounds = append(p.rounds, f)
		}
	}
	return measured
}

// round puts a peer under load once. A call that fails is an error.
func (p *peer) round(ctx context.Context, load peerLoad, clients *loadgen.Clients, server int, length time.Duration) (f figures, err error) {
	pids := p.pids()
	all := append([]int{os.Getpid()}, pids...)
	if server != 0 {
		all = append(all, server)
	}
	own, busy := cpuOf(pids), cpuOf(all)
	tally, err := clients.Run(ctx, loadgen.Load{Loop: loadgen.Closed, Concurrency: load.clients, DurationMs: length.Milliseconds()}, loadgen.Only(load.kind), nil)
	if err != nil {
		return f, err
	}
	own, busy = cpuOf(pids)-own, cpuOf(all)-busy
	r := tally.Round()
	if r.Failed > 0 {
		return f, fmt.Errorf("%d of %d calls failed: %s", r.Failed, r.Requests, r.FirstFault)
	}
	f = figures{perSecond: r.PerSecond, p50: r.Service.P50, p99: r.Service.P99, cpu: float64(own.Microseconds()) / float64(r.Requests), cores: busy.Seconds() / r.Seconds}
	for _, pid := range pids {
		rss, _ := loadgen.ProcessRSS(pid) // one that has ended has none
		f.memory += float64(rss)
	}
	return f, nil
}

// cpuOf returns the CPU time of processes so far. One that has ended meanwhile took none.
func cpuOf(pids []int) (sum time.Duration) {
	for _, pid := range pids {
		cpu, _ := loadgen.ProcessCPU(pid)
		sum += cpu
	}
	return sum
}

// sessionsAt is a target whose clients open a session each, as those of most servers today.
func sessionsAt(b *testing.B, address string) *loadgen.Target {
	b.Helper()
	t, err := loadgen.NewTarget(address, "")
	if err != nil {
		b.Fatal(err)
	}
	return t.With(mcp.EraLegacy)
}
