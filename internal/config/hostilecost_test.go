//go:build !race

package config_test

import (
	"fmt"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/internal/config"
)

// repeat fills a quarter of the largest file with s.
func repeat(s string) string { return strings.Repeat(s, (1<<18)/len(s)) }

// numbered writes a line for each number below n.
func numbered(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format+"\n", i)
	}
	return b.String()
}

// processorTime is how much this process has used: unlike the clock, it does not go on while others have the cores.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		t.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

// Files made to hurt end in faults, in bounded time and memory. The bounds are far above what is needed (a second and
// half a gigabyte allocated in all, when nothing else runs) and far below what happens without the limits.
func TestHostileFiles(t *testing.T) {
	const longest, most = 30 * time.Second, 1 << 30
	doubling := "a0: &a0 [x]\n"
	for i := 1; i < 60; i++ {
		doubling += fmt.Sprintf("a%d: &a%d [*a%d, *a%d]\n", i, i, i-1, i-1)
	}
	for name, text := range map[string]string{
		"open lists":      repeat("["),
		"open mappings":   repeat("{a: "),
		"block lists":     repeat("- "),
		"anchors":         repeat("&a "),
		"many keys":       numbered(6600, "k%d: v"),
		"many upstreams":  "upstreams:\n" + numbered(2400, "  u%d: {url: http://h}"),
		"doubling alias":  doubling,
		"repeated alias":  "upstreams:\n  a: &a\n    url: http://h\n    headers:\n" + numbered(3000, "      h%d: v") + numbered(1500, "  u%d: *a"),
		"repeated merge":  "hosts: [&a {x: y}]\nauth: &b\n" + numbered(3000, "  h%d: v") + "upstreams:\n" + numbered(1500, "  u%d: {<<: *b}"),
		"alias of itself": "upstreams: &a\n  u: *a\n",
		"equal entries":   `{"servers": {` + strings.Repeat(`"a": {"url": "http://h"},`, 20_000) + `"b": {}}}`,
		"unusable":        `{"servers": {` + strings.Repeat(`"a b": {},`, 40_000) + `}}`,
		"long text":       "a: |\n" + repeat("  x\n"),
		"folded":          repeat("|\n"),
	} {
		for _, s := range []config.Sources{{File: "f"}, {MCPJSON: []string{"f"}}} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := processorTime(t)
			_, _, err := files{"f": text}.load(s)
			took := processorTime(t) - start
			runtime.ReadMemStats(&after)
			if allocated := after.TotalAlloc - before.TotalAlloc; took > longest || allocated > most {
				t.Errorf("%s %v: %v, %d bytes", name, s.MCPJSON, took, allocated)
			}
			if err == nil && name != "many upstreams" && name != "equal entries" {
				t.Errorf("%s %v: no fault", name, s.MCPJSON)
			}
		}
	}
}
