//go:build linux

package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"
)

// jsonrpcCounts are what a JSON-RPC server did so far.
type jsonrpcCounts struct {
	Posts, Calls int64
	CPU          time.Duration // user and system time of its process
}

// jsonrpcRole is a plain JSON-RPC 2.0 server, as one would write it: net/http and encoding/json. It takes one request or an
// array, and tells its counts at every line of standard input.
func jsonrpcRole([]string) error {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := say(map[string]string{"Address": ln.Addr().String()}); err != nil {
		return err
	}
	var posts, calls atomic.Int64
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		posts.Add(1)
		n, err := answerJSONRPC(w, r)
		calls.Add(int64(n))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})}
	go func() { _ = server.Serve(ln) }() // ends with the process
	for orders := bufio.NewScanner(os.Stdin); orders.Scan(); {
		var u syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
			return err
		}
		cpu := time.Duration(u.Utime.Nano() + u.Stime.Nano())
		if err := say(jsonrpcCounts{posts.Load(), calls.Load(), cpu}); err != nil {
			return err
		}
	}
	return server.Close()
}

type jsonrpcCall struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  any             `json:"result,omitempty"`
}

// answerJSONRPC answers each call with its own params, and returns how many there were.
func answerJSONRPC(w http.ResponseWriter, r *http.Request) (int, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return 0, err
	}
	w.Header().Set("Content-Type", "application/json")
	answer := func(c *jsonrpcCall) { c.Result, c.Params = c.Params, nil }
	if body[0] != '[' {
		var one jsonrpcCall
		if err := json.Unmarshal(body, &one); err != nil {
			return 0, err
		}
		answer(&one)
		return 1, json.NewEncoder(w).Encode(one)
	}
	var all []jsonrpcCall
	if err := json.Unmarshal(body, &all); err != nil {
		return 0, err
	}
	for i := range all {
		answer(&all[i])
	}
	return len(all), json.NewEncoder(w).Encode(all)
}

// windowed is an upstream of BenchmarkBatch.
type windowed struct {
	name, batch string
	samples     []windowSample
}

// windowSample is one round of it, per call.
type windowSample struct {
	posts                float64 // for all calls
	p50, p99             float64 // µs
	cpu, daemon, perPost float64 // µs, µs, calls
}

// BenchmarkBatch makes 1,000 calls at once, ten times over, to a JSON-RPC server: unbatched, and in arrays with windows of
// 2 ms and 50 ms. Rounds are interleaved; the figures are medians.
func BenchmarkBatch(b *testing.B) {
	const connections, each = 1000, 10
	server := startRole(b, "jsonrpc")
	addr := server.address()
	ups := []*windowed{{name: "single"}, {name: "2ms", batch: ", batch: {max: 100, window: 2ms}"}, {name: "50ms", batch: ", batch: {max: 100, window: 50ms}"}}
	yaml := "upstreams:\n"
	for _, u := range ups {
		yaml += fmt.Sprintf("  \"%s\": {url: %q, protocol: jsonrpc, limits: {max_in_flight: 128, queue: 2000, queue_wait: 1m}%s}\n", u.name, "http://"+addr+"/", u.batch)
	}
	d := runConfigured(b, buildDaemon(b), yaml)
	for _, u := range ups {
		callConcurrently(b, d.addr, "/rpc/"+u.name, 100, 10, echo())
	}
	for b.Loop() {
		for range 5 {
			for _, u := range ups {
				u.samples = append(u.samples, d.takeWindow(b, server, u.name, connections, each))
			}
		}
	}
	var table strings.Builder
	tw := tabwriter.NewWriter(&table, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "window\tPOSTs to the server\tcalls in each\tp50 ms\tp99 ms\tserver CPU µs/call\tof unbatched\tdaemon CPU µs/call")
	for _, u := range ups {
		u.row(tw, ups[0])
		b.ReportMetric(u.median(func(s windowSample) float64 { return s.cpu }), u.name+"-cpu-µs/call")
		b.ReportMetric(u.median(func(s windowSample) float64 { return s.p50 })/1e3, u.name+"-p50-ms")
	}
	_ = tw.Flush() // into memory
	fmt.Printf("\n%d calls a round, %d at once; medians\n\n%s\n", connections*each, connections, table.String())
	b.ReportMetric(0, "ns/op")
}

// takeWindow makes one round of calls and returns what it came to.
func (t *target) takeWindow(b *testing.B, server *child, name string, connections, each int) windowSample {
	b.Helper()
	var before, after jsonrpcCounts
	server.order(&before, "counts")
	cpu := t.cpu(b)
	took := callConcurrently(b, t.addr, "/rpc/"+name, connections, each, echo())
	cpu = t.cpu(b) - cpu
	server.order(&after, "counts")
	n := float64(after.Calls - before.Calls)
	if int(n) != connections*each {
		b.Fatalf("%s: the server got %v calls of %d", name, n, connections*each)
	}
	posts := float64(after.Posts - before.Posts)
	return windowSample{
		posts: posts, p50: took.at(50), p99: took.at(99), perPost: n / posts,
		cpu: float64((after.CPU - before.CPU).Microseconds()) / n, daemon: float64(cpu.Microseconds()) / n,
	}
}

func (u *windowed) median(of func(windowSample) float64) float64 {
	all := make([]float64, len(u.samples))
	for i, s := range u.samples {
		all[i] = of(s)
	}
	return middle(all)
}

func (u *windowed) row(w io.Writer, base *windowed) {
	cpu := func(s windowSample) float64 { return s.cpu }
	_, _ = fmt.Fprintf(w, "%s\t%.0f\t%.1f\t%.1f\t%.1f\t%.1f\t%.2f\t%.1f\n", u.name,
		u.median(func(s windowSample) float64 { return s.posts }), u.median(func(s windowSample) float64 { return s.perPost }),
		u.median(func(s windowSample) float64 { return s.p50 })/1e3, u.median(func(s windowSample) float64 { return s.p99 })/1e3,
		u.median(cpu), u.median(cpu)/base.median(cpu), u.median(func(s windowSample) float64 { return s.daemon }))
}
