package config_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"fluentd-perf/internal/config"
)

// Whatever the bytes, Load neither panics nor hangs, says every fault with a text, keeps what it promises of a
// configuration, and shows no secret.
func FuzzLoad(f *testing.F) {
	for _, text := range []string{
		defaultsYAML, secretsYAML, faultsYAML, vscodeJSON, "{", "a: &a [*a]", "{<<: {a: b}, <<: [x]}", "- - ? a\n  : b",
		"upstreams: {a: {url: \"http://${env:S}\", headers: {X: \"${file:s}$$${env:S\"}}}", `{"servers":{"a":{"url":"http://${S:-b}"}}}`,
		`{"mcpServers":{"a b":{"httpUrl":"http://h/${S}/sse","headers":{"X":"${S}","Host":"${S}"}},"a-b":{"serverUrl":"http://h"},"a b":{"url":"${S}","type":"${S}"}}}`,
		"upstreams: {a: {url: http://h, cache: {ttl: {tools/list: 5m, tools/call: 1s}, tools: {'a[': 1s, '*': 0}, max_ttl: 1m, listen: yes}}}",
		"cache: {redis: {url: 'redis://:${env:S}@h/0'}, database: {url: 'postgres://u:${env:S}@h/${env:S}?sslmode=${env:S}'}}\nupstreams: {a: {url: http://h}}",
		"cache: {redis: {url: '${env:S}'}, database: {url: 'sqlite:${env:S}'}, partition_key: '${env:S}${env:S}${env:S}'}\nupstreams: {a: {url: http://h}}",
		"upstreams: {a: {command: [x, '${env:S}'], env: {A: '${env:S}', B: '${file:s}'}, cwd: '${env:S}', inherit_env: [A], allow_users: [root, 3], processes: {max: 2, memory: ''}}}",
		`{"servers": {"a": {"command": "${S}", "args": ["--key", "${S}"], "env": {"A": "${S}"}, "cwd": "${S}/x", "envFile": "${S}"}}}`,
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
		if u.Stdio != nil {
			checkStdioPromises(t, u)
		} else if u.URL == nil || u.URL.Hostname() == "" {
			t.Errorf("upstream %v", u)
		}
		if u.Name == "" || i > 0 && u.Name <= c.Upstreams[i-1].Name {
			t.Errorf("upstream %v", u)
		}
		p, to := u.Pool, u.Timeouts
		if p.MaxIdle < 1 || p.MaxIdle > p.MaxConnections || to.Connect <= 0 || max(to.Connect, to.Handshake, to.FirstByte, to.Idle) > to.Call {
			t.Errorf("upstream %v", u)
		}
		checkCachePromises(t, u)
	}
	checkTierPromises(t, c.Cache)
	if p := c.Processes; p.Total < 1 || p.StartConcurrency < 1 || p.StartTimeout <= 0 {
		t.Errorf("processes %+v", p)
	}
}

func checkStdioPromises(t *testing.T, u config.Upstream) {
	t.Helper()
	s := u.Stdio
	if u.URL != nil || len(s.Command) == 0 || s.Command[0] == "" || !filepath.IsAbs(s.Cwd) || s.Processes.Max < 1 || s.Processes.Replicas > s.Processes.Max {
		t.Errorf("upstream %v", u)
	}
	for name := range s.Env {
		if name == "" || strings.Contains(name, "=") {
			t.Errorf("variable %q", name)
		}
	}
}
