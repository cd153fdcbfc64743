package main

import (
	"bytes"
	"strings"
	"testing"

	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/scenario"
)

// TestProgressLine says how far a benchmark is, in one line.
func TestProgressLine(t *testing.T) {
	for want, p := range map[string]scenario.Progress{
		"starting":                         {},
		"ceiling, generator":               {Run: "ceiling", Target: "generator"},
		"a?[2J, daemon":                    {Run: "a\x1b[2J", Target: "daemon"},
		"8 at once, daemon: 5 calls, 10/s": {Run: "8 at once", Target: "daemon", Point: loadgen.Point{AtMs: 500, Done: 5}},
		"8 at once, daemon, round 2 of 5: 50 of 100 calls, 100/s, 3 failed": {
			Run: "8 at once", Target: "daemon", Round: 2, Rounds: 5, Total: 100, Point: loadgen.Point{AtMs: 500, Done: 50, Failed: 3},
		},
	} {
		if got := progressLine(p); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// TestLiveView writes one line over itself, no wider than the terminal and not too often, and removes it.
func TestLiveView(t *testing.T) {
	var out bytes.Buffer
	v := &liveView{out: &out, width: 30}
	for n := range int64(100) {
		v.show(scenario.Progress{Run: strings.Repeat("x", 50), Target: "daemon", Round: 1, Point: loadgen.Point{AtMs: n}})
	}
	v.show(scenario.Progress{Run: "next", Target: "daemon", Round: 2})
	v.clear()
	const clear = "\r\x1b[K"
	if want := clear + strings.Repeat("x", 30) + clear + "next, daemon, round 2 of 0" + clear; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
	for _, quiet := range []bool{false, true} { // no terminal in any case
		queue := newLineQueue(&out)
		if v := newLiveView(queue, quiet); v.out != nil {
			t.Error("a buffer is taken for a terminal")
		}
		queue.Close()
	}
	none := newLiveView(&out, false)
	none.show(scenario.Progress{Run: "x"})
	none.clear()
}
