//go:build linux

package bench

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"time"

	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/fastserver"
	"fluentd-perf/internal/loadgen/scenario"
	"fluentd-perf/internal/mcp"
)

// atOnce is how many requests are in flight where nothing else is said, and maxAtOnce how many in any benchmark with goproxy.
const (
	atOnce    = 32
	maxAtOnce = 256
)

// kind is a kind of answer: a tool of the scripted server.
type kind struct {
	tool  string
	title string
	sse   bool
	fewer int64 // times fewer requests than of the others
	once  int   // requests in flight
}

var kinds = []kind{
	{fastserver.Small, "200 B JSON", false, 1, atOnce},
	{fastserver.Small, "200 B JSON", false, 2, 1},
	{fastserver.Small, "200 B JSON", false, 1, maxAtOnce},
	{fastserver.Large, "10 KB JSON", false, 1, atOnce},
	{fastserver.Progress, "SSE, progress + answer", true, 1, atOnce},
	{fastserver.Huge, "1 MB JSON", false, 20, 4},
	{fastserver.HugeInStream, "1 MB SSE", true, 20, 4},
}

// upstreamRole is the scripted server.
func upstreamRole([]string) error { return scenario.ServeOwn("", os.Stdin, os.Stdout) }

// loadReport is what one order came to.
type loadReport struct {
	Wall  time.Duration
	Wrong int64
	First string // the first fault
}

// loadRole makes calls when told to: "ADDR PATH TOOL SSE COUNT ATONCE". Its connections to an address stay open.
func loadRole([]string) error {
	clients := make(map[string]*loadgen.Clients)
	orders := bufio.NewScanner(os.Stdin)
	for orders.Scan() {
		var addr, path, tool string
		var sse bool
		var count int64
		var once int
		if _, err := fmt.Sscan(orders.Text(), &addr, &path, &tool, &sse, &count, &once); err != nil {
			return err
		}
		p := clients[addr+path]
		if p == nil {
			t, err := loadgen.NewTarget("http://"+addr+path, "")
			if err != nil {
				return err
			}
			p = loadgen.NewClients(t.With(mcp.EraLegacy))
			clients[addr+path] = p
		}
		if err := say(makeLoad(p, tool, sse, count, once)); err != nil {
			return err
		}
	}
	return orders.Err()
}

// smallCall is a call of the scripted server's small tool.
func smallCall() loadgen.Kind {
	k := loadgen.ToolCall(fastserver.Small, fastserver.Arguments(loadgen.KeyMark))
	k.Result = fastserver.Result(fastserver.Small, loadgen.KeyMark)
	return k
}

// makeLoad makes count calls of a tool, of which every byte of the answer is checked.
func makeLoad(p *loadgen.Clients, tool string, sse bool, count int64, once int) loadReport {
	k := loadgen.ToolCall(tool, fastserver.Arguments(loadgen.KeyMark))
	k.Result, k.Progress = fastserver.Result(tool, loadgen.KeyMark), sse
	tally, err := p.Run(context.Background(), loadgen.Load{Loop: loadgen.Closed, Concurrency: once, Requests: count}, loadgen.Only(k), nil)
	r := tally.Round()
	report := loadReport{Wall: time.Duration(r.Seconds * float64(time.Second)), Wrong: r.Failed, First: r.FirstFault}
	if err != nil {
		report.Wrong, report.First = max(1, r.Failed), err.Error()
	}
	return report
}
