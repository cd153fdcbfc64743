//go:build linux

package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/loadgen"
)

// The marks between which tables are written.
const (
	beginMark = "<!-- begin: written by make performance -->"
	endMark   = "<!-- end: written by make performance -->"
)

// writeBetweenMarks replaces what is between the marks of a file.
func writeBetweenMarks(file, text string) error {
	old, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	before, rest, begins := bytes.Cut(old, []byte(beginMark))
	_, after, ends := bytes.Cut(rest, []byte(endMark))
	if !begins || !ends {
		return fmt.Errorf("%s has not both of %s and %s", file, beginMark, endMark)
	}
	return os.WriteFile(file, fmt.Appendf(nil, "%s%s\n\n%s\n\n%s%s", before, beginMark, strings.TrimSpace(text), endMark, after), 0o644)
}

// writeConditions says where and when, and with which versions.
func writeConditions(w io.Writer) {
	m := loadgen.ThisMachine()
	kernel, _, _ := strings.Cut(m.Kernel, "-")
	fmt.Fprintf(w, "%s, commit %s. %s, %d cores, %.0f GB, Linux %s; load average %.1f at the start, before any of it. %d rounds of %v for each target.\n",
		time.Now().UTC().Format("2006-01-02"), said(`(\S+)`, "git", "describe", "--always", "--dirty"), m.CPU, m.CPUs, float64(m.Memory)/1e9, kernel, m.LoadAvg[0], *peerRounds, *roundLength)
	fmt.Fprintf(w, "Versions: %s, nginx %s, HAProxy %s, fasthttp %s, Node.js %s, supergateway %s, mcp-proxy %s.\n", runtime.Version(),
		said(`nginx/(\S+)`, programOf("nginx"), "-v"), said(`version (\S+)`, programOf("haproxy"), "-v"), said(`valyala/fasthttp\s+(\S+)`, "go", "version", "-m", programOf("fasthttp")),
		said(`(\S+)`, "node", "--version"), npmVersion("supergateway"), npmVersion("mcp-proxy"))
}

// said returns what a program says of itself; "-" where it is not there.
func said(pattern, program string, args ...string) string {
	out, _ := exec.Command(program, args...).CombinedOutput() // what is not there says nothing
	if found := regexp.MustCompile(pattern).FindSubmatch(out); found != nil {
		return string(found[1])
	}
	return "-"
}

// npmVersion returns the version of a package of bench/peers.
func npmVersion(name string) string {
	text, _ := os.ReadFile("peers/node_modules/" + name + "/package.json") // the same
	var about struct{ Version string }
	if err := json.Unmarshal(text, &about); err != nil {
		return "-"
	}
	return about.Version
}

// writeTable writes what a load came to: medians over the rounds, and the lowest and the highest. Shares are of the rounds' own.
func writeTable(w io.Writer, load peerLoad, peers []peer, base string) {
	fmt.Fprintf(w, "\n**%s**\n\n| | calls/s | p50 | p99 | CPU of a call, µs | of %s | memory, MB | cores busy |\n|---|---|---|---|---|---|---|---|\n", load.title, shortName(base))
	of := func(p *peer, f func(figures) float64) []float64 {
		all := make([]float64, len(p.rounds))
		for i, r := range p.rounds {
			all[i] = f(r)
		}
		return all
	}
	at := slices.IndexFunc(peers, func(p peer) bool { return p.name == base })
	for i := range peers {
		p := &peers[i]
		if p.fault != nil {
			fmt.Fprintf(w, "| %s | %s | | | | | | |\n", p.name, strings.NewReplacer("|", " ", "\n", " ").Replace(p.fault.Error()))
			continue
		}
		cpu, share, memory := "-", "-", "-"
		if p.rounds[0].cpu > 0 {
			own := of(p, func(f figures) float64 { return f.cpu })
			cpu = between(own, "%.1f")
			if peers[at].fault == nil {
				share = between(shares(own, of(&peers[at], func(f figures) float64 { return f.cpu })), "%.2f")
			}
			memory = fmt.Sprintf("%.0f", middle(of(p, func(f figures) float64 { return f.memory }))/1e6)
		}
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s | %.1f |\n", p.name, between(of(p, func(f figures) float64 { return f.perSecond }), "%.0f"),
			loadgen.TimeText(middle(of(p, func(f figures) float64 { return f.p50 }))), loadgen.TimeText(middle(of(p, func(f figures) float64 { return f.p99 }))),
			cpu, share, memory, middle(of(p, func(f figures) float64 { return f.cores })))
	}
	writeRepetition(w, peers)
}

// writeRepetition says how far the daemon is from itself, the target behind it.
func writeRepetition(w io.Writer, peers []peer) {
	at := slices.IndexFunc(peers, func(p peer) bool { return strings.HasPrefix(p.name, "daemon again") })
	if peers[at-1].fault != nil || peers[at].fault != nil {
		return
	}
	daemon, again := peers[at-1].rounds, peers[at].rounds
	share := func(f func(figures) float64) string {
		var all []float64
		for i := range daemon {
			all = append(all, f(again[i])/f(daemon[i]))
		}
		return between(all, "%.2f")
	}
	fmt.Fprintf(w, "\nThe same build again (A/A), of itself: calls/s %s, p50 %s, p99 %s, CPU %s. No smaller difference means anything.\n",
		share(func(f figures) float64 { return f.perSecond }), share(func(f figures) float64 { return f.p50 }),
		share(func(f figures) float64 { return f.p99 }), share(func(f figures) float64 { return f.cpu }))
}

// shortName is a name without what is said behind it.
func shortName(name string) string {
	short, _, _ := strings.Cut(name, ",")
	return short + "'s"
}

// shares divides round by round.
func shares(of, to []float64) []float64 {
	all := make([]float64, len(of))
	for i := range of {
		all[i] = of[i] / to[i]
	}
	return all
}

// between writes the median with the lowest and the highest.
func between(all []float64, format string) string {
	return fmt.Sprintf(format+" ("+format+" - "+format+")", middle(all), slices.Min(all), slices.Max(all))
}

// TestTables writes a table of rounds whose figures are known, between the marks of a file, and nowhere else.
func TestTables(t *testing.T) {
	rounds := func(cpu ...float64) (all []figures) {
		for _, c := range cpu {
			all = append(all, figures{perSecond: 1e5 / c, p50: c, p99: 2 * c, cpu: c, memory: 3e7, cores: 1.5})
		}
		return all
	}
	none := rounds(10, 10, 10)
	for i := range none {
		none[i].cpu, none[i].memory = 0, 0
	}
	peers := []peer{{name: "direct", rounds: none}, {name: "other", fault: errors.New("a|b")}, {name: "daemon", rounds: rounds(100, 120, 90)}, {name: "daemon again", rounds: rounds(110, 120, 90)}, {name: baseline, rounds: rounds(100, 100, 100)}}
	var text strings.Builder
	writeTable(&text, peerLoad{title: "A load"}, peers, baseline)
	const want = `**A load**

| | calls/s | p50 | p99 | CPU of a call, µs | of Go's ReverseProxy's | memory, MB | cores busy |
|---|---|---|---|---|---|---|---|
| direct | 10000 (10000 - 10000) | 10 µs | 20 µs | - | - | - | 1.5 |
| other | a b | | | | | | |
| daemon | 1000 (833 - 1111) | 100 µs | 200 µs | 100.0 (90.0 - 120.0) | 1.00 (0.90 - 1.20) | 30 | 1.5 |
| daemon again | 909 (833 - 1111) | 110 µs | 220 µs | 110.0 (90.0 - 120.0) | 1.10 (0.90 - 1.20) | 30 | 1.5 |
| Go's ReverseProxy | 1000 (1000 - 1000) | 100 µs | 200 µs | 100.0 (100.0 - 100.0) | 1.00 (1.00 - 1.00) | 30 | 1.5 |

The same build again (A/A), of itself: calls/s 1.00 (0.91 - 1.00), p50 1.00 (1.00 - 1.10), p99 1.00 (1.00 - 1.10), CPU 1.00 (1.00 - 1.10). No smaller difference means anything.
`
	if strings.TrimLeft(text.String(), "\n") != want {
		t.Errorf("%s", text.String())
	}
	file := t.TempDir() + "/page.md"
	page := "before\n" + beginMark + "\nold\n" + endMark + "\nafter\n"
	if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := writeBetweenMarks(file, "new\n"); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(file); string(got) != "before\n"+beginMark+"\n\nnew\n\n"+endMark+"\nafter\n" {
			t.Errorf("%s", got)
		}
	}
	if err := os.WriteFile(file, []byte("no mark\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeBetweenMarks(file, "new"); err == nil {
		t.Error("a file without marks is written to")
	}
}
