//go:build linux

package bench

import (
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
)

// BenchmarkOpenBreaker makes calls to an upstream that refuses connections, one after the other: how long until an agent is
// told so, over a connection that is there. The daemon's own time is less.
func BenchmarkOpenBreaker(b *testing.B) {
	dead := freeAddr(b) // nobody listens there, and whoever did would not answer in the daemon's name
	d := runConfigured(b, buildDaemon(b), fmt.Sprintf("upstreams:\n  dead: {url: %q}\n", "http://"+dead+"/mcp"))
	refused := echo()
	refused.Error = true
	var took durations
	for b.Loop() {
		took = callConcurrently(b, d.addr, "/mcp/dead", 1, 5000, refused)
	}
	b.ReportMetric(took.at(50), "p50-µs")
	b.ReportMetric(took.at(99), "p99-µs")
	b.ReportMetric(0, "ns/op") // 5000 calls are no operation
}

// hungRole is a server that takes connections and requests, and answers none.
func hungRole([]string) error {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := say(map[string]string{"Address": ln.Addr().String()}); err != nil {
		return err
	}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				_, _ = io.Copy(io.Discard, conn)
			}()
		}
	}()
	waitForEnd()
	return ln.Close()
}

// BenchmarkHungNeighbour makes calls to an upstream that is well, alone and beside one that hangs, whose slots and queue are
// full: five rounds of both, interleaved; the figures are the medians of the rounds' own ratios.
func BenchmarkHungNeighbour(b *testing.B) {
	up, hung := startRole(b, "upstream").address(), startRole(b, "hung").address()
	d := runConfigured(b, buildDaemon(b), fmt.Sprintf("upstreams:\n  well: {url: %q}\n"+
		"  hung: {url: %q, limits: {max_in_flight: 32, queue: 32, queue_wait: 1m}}\n", "http://"+up+"/mcp", "http://"+hung+"/mcp"))
	callConcurrently(b, d.addr, "/mcp/well", 4, 500, smallCall())
	var p50, p99, p50s, p99s []float64
	for b.Loop() {
		for round := range 5 {
			var alone, beside durations
			takes := []func(){
				func() { alone = callConcurrently(b, d.addr, "/mcp/well", 4, 2000, smallCall()) },
				func() {
					leave := stick(b, d.addr, "/mcp/hung", 128)
					defer leave()
					beside = callConcurrently(b, d.addr, "/mcp/well", 4, 2000, smallCall())
				},
			}
			if round%2 == 1 {
				slices.Reverse(takes)
			}
			for _, take := range takes {
				take()
			}
			p50, p99 = append(p50, beside.at(50)/alone.at(50)), append(p99, beside.at(99)/alone.at(99))
			p50s, p99s = append(p50s, beside.at(50)), append(p99s, beside.at(99))
		}
	}
	fmt.Printf("\nbeside a hung upstream, to what it is alone: p50 %.2f (%.2f), p99 %.2f (%.2f)\n", middle(p50), p50, middle(p99), p99)
	b.ReportMetric(middle(p50), "p50-ratio")
	b.ReportMetric(middle(p99), "p99-ratio")
	b.ReportMetric(middle(p50s), "p50-µs")
	b.ReportMetric(middle(p99s), "p99-µs")
	b.ReportMetric(0, "ns/op")
}
