package config_test

import (
	"slices"
	"testing"

	"fluentd-perf/internal/config"
)

// TestURLHosts finds where a command may be a bridge to, and shows no password.
func TestURLHosts(t *testing.T) {
	got := config.URLHosts([]string{
		"npx", "mcp-remote", "https://far.example/mcp", "--url=http://user:secret@192.0.2.1:8/x", "sh -c 'exec x HTTP://[2001:db8::1]/ \"https://b.example\"'",
		"http://user:secret@bad host", "https://user:secret%zz@bad.example:port/mcp", "ftp://c.example", "https://",
	})
	want := []string{"far.example", "192.0.2.1", "2001:db8::1", "b.example", "bad", "bad.example:port"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
