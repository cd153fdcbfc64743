package config_test

import (
	"fmt"
	"runtime"
	"strings"
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
			start := time.Now()
			_, _, err := files{"f": text}.load(s)
			took := time.Since(start)
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

// Whatever the bytes, Load neither panics nor hangs, says every fault with a text, keeps what it promises of a
// configuration, and shows no secret.
func FuzzLoad(f *testing.F) {
	for _, text := range []string{
		defaultsYAML, secretsYAML, faultsYAML, vscodeJSON, "a: &a [*a]", "{<<: {a: b}, <<: [x]}", "- - ? a\n  : b",
		"upstreams: {a: {url: \"http://${env:S}\", headers: {X: \"${file:s}$$${env:S\"}}}", `{"servers":{"a":{"url":"http://${S:-b}"}}}`,
		`{"mcpServers":{"a b":{"httpUrl":"http://h/${S}/sse","headers":{"X":"${S}","Host":"${S}"}},"a-b":{"serverUrl":"http://h"},"a b":{"url":"${S}","type":"${S}"}}}`,
		"upstreams: {a: {url: http://h, cache: {ttl: {tools/list: 5m, tools/call: 1s}, tools: {'a[': 1s, '*': 0}, max_ttl: 1m, listen: yes}}}",
		"cache: {redis: {url: 'redis://:${env:S}@h/0'}, database: {url: 'postgres://u:${env:S}@h/${env:S}?sslmode=${env:S}'}}\nupstreams: {a: {url: http://h}}",
		"cache: {redis: {url: '${env:S}'}, database: {url: 'sqlite:${env:S}'}, partition_key: '${env:S}${env:S}${env:S}'}\nupstreams: {a: {url: http://h}}",
	} {
		f.Add(text, false)
		f.Add(text, true)
	}
	f.Fuzz(func(t *testing.T, text string, json bool) {
		s := config.Sources{
			File:     "f",
			Env:      func(string) (string, bool) { return secret, true },
			ReadFile: func(string) ([]byte, error) { return []byte(secret), nil },
		}
		s.ReadFile = func(path string) ([]byte, error) {
			if path == "f" {
				return []byte(text), nil
			}
			return []byte(secret), nil
		}
		if json {
			s.File, s.MCPJSON = "", []string{"f"}
		}
		c, warnings, err := config.Load(s)
		said := fmt.Sprint(c, warnings, err)
		if strings.Contains(said, secret) && !strings.Contains(text, secret) {
			t.Errorf("a secret is shown: %s", said)
		}
		if err == nil {
			checkPromises(t, c)
			return
		}
		for _, fault := range err.(config.Faults) {
			if fault.Text == "" || fault.Line < 0 || fault.Line > 1+strings.Count(text, "\n")+strings.Count(text, "\r") {
				t.Errorf("fault %+v", fault)
			}
		}
	})
}

func checkPromises(t *testing.T, c *config.Config) {
	t.Helper()
	if len(c.Upstreams) == 0 || len(c.Listen) == 0 {
		t.Errorf("incomplete: %v", c)
	}
	for i, u := range c.Upstreams {
		if u.URL == nil || u.URL.Hostname() == "" || u.Name == "" || i > 0 && u.Name <= c.Upstreams[i-1].Name {
			t.Errorf("upstream %v", u)
		}
		p, to := u.Pool, u.Timeouts
		if p.MaxIdle < 1 || p.MaxIdle > p.MaxConnections || to.Connect <= 0 || max(to.Connect, to.Handshake, to.FirstByte, to.Idle) > to.Call {
			t.Errorf("upstream %v", u)
		}
		checkCachePromises(t, u)
	}
	checkTierPromises(t, c.Cache)
}
