package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/mcptest"
)

// Through starts a daemon in front of one upstream and returns the URL at which an agent finds it.
func Through(t testing.TB, upstream string) string {
	t.Helper()
	return Start(t, Config{Args: []string{"--upstream", "up=" + upstream, "--log-level", "warn"}, Steady: true}).URL("/mcp/up")
}

// ThroughAll is Through with several upstreams, of which each has a name. The agents find one at /mcp/NAME.
func ThroughAll(t testing.TB, upstreams map[string]string) *Daemon {
	t.Helper()
	c := Config{Args: []string{"--log-level", "warn"}, Steady: true}
	for name, url := range upstreams {
		c.Args = append(c.Args, "--upstream", name+"="+url)
	}
	return Start(t, c)
}

// ThroughWith is Through with a configuration file: keys are of the upstream, in flow style, without braces.
func ThroughWith(t testing.TB, upstream, keys string) string {
	t.Helper()
	c := OneUpstream(upstream, keys)
	c.Top, c.Args, c.Steady = "", []string{"--log-level", "warn"}, true
	return Start(t, c).URL("/mcp/s")
}

// FaultLimits are the top-level keys of FaultConfig: a short drain, and limits that a test can exceed.
const FaultLimits = "drain: 1s\nlimits: {event: 64KiB, check_body: 256KiB, body: 1MiB}\n"

// Unprotected leaves out what stands between an agent and a server's faults: here each is to be seen as it comes.
const Unprotected = "breaker: off, retry: {max: 0}"

// FaultConfig is a daemon with short timeouts and a small limit of events. It has upstreams that cannot be reached, too.
func FaultConfig(t *testing.T, s *mcptest.Server, top string) Config {
	c := OneUpstream(s.URL(), "timeouts: "+ShortTimeouts+", streams: {reopen: 2s}, "+Unprotected)
	c.Upstreams["refused"] = fmt.Sprintf("{url: %q, timeouts: %s, %s}", "http://"+mcptest.Refused(t)+"/mcp", ShortTimeouts, Unprotected)
	c.Upstreams["unreachable"] = fmt.Sprintf("{url: %q, timeouts: %s, %s}", "http://"+mcptest.Unreachable(t)+"/mcp", ShortTimeouts, Unprotected)
	c.Top = FaultLimits + top
	return c
}

// StartMinimal starts a scripted server that answers everything in the shortest way, and a daemon of FaultConfig before it.
func StartMinimal(t *testing.T) (*mcptest.Server, *Daemon) {
	t.Helper()
	s := mcptest.NewServer(t, mcptest.Minimal)
	return s, Start(t, FaultConfig(t, s, ""))
}

// Timeouts fit for faults: long enough for a machine that is busy with other things, short enough for a test.
const (
	ConnectTimeout = time.Second     // connect
	HeadTimeout    = 2 * time.Second // handshake, first_byte and idle
	CallTimeout    = 4 * time.Second // call

	// ShortTimeouts is the upstream's key `timeouts` that sets them.
	ShortTimeouts = "{connect: 1s, handshake: 2s, first_byte: 2s, idle: 2s, call: 4s}"
)

// Config is a daemon's configuration in parts.
type Config struct {
	Upstreams map[string]string // name -> block in flow style; nil: without a file
	Top       string            // top-level keys beside upstreams
	Args      []string          // more arguments
	Env       []string          // more environment
	Plain     bool              // without the race detector, whatever the tests are built with
	Steady    bool              // an end before the test's is a fault
}

// OneUpstream is the configuration with a single upstream `s`. Keys are of the upstream, in flow style, without braces.
func OneUpstream(url, keys string) Config {
	return AllUpstreams(map[string]string{"s": url}, keys)
}

// AllUpstreams is OneUpstream with several, of which each has a name, and the keys.
func AllUpstreams(urls map[string]string, keys string) Config {
	if keys != "" {
		keys = ", " + keys
	}
	c := Config{Upstreams: map[string]string{}, Top: "drain: 1s"}
	for name, url := range urls {
		c.Upstreams[name] = fmt.Sprintf("{url: %q%s}", url, keys)
	}
	return c
}

// HTTPEnv is an environment variable that sets the key `http` of daemons with a file.
const HTTPEnv = "E2E_HTTP"

// yaml is the configuration file.
func (c Config) yaml() string {
	var b strings.Builder
	b.WriteString("upstreams:\n")
	for name, block := range c.Upstreams {
		fmt.Fprintf(&b, "  %s: %s\n", name, block)
	}
	b.WriteString(c.Top + "\n")
	if client := os.Getenv(HTTPEnv); client != "" {
		b.WriteString("http: " + client + "\n")
	}
	return b.String()
}

// File writes the configuration file, which goes with the test.
func (c Config) File(t testing.TB) string {
	t.Helper()
	return WriteFile(t, "fluentd-perf.yaml", c.yaml())
}

// WriteFile writes a file that only its user may read and that goes with the test.
func WriteFile(t testing.TB, name, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// In returns the configuration for a daemon in these folders.
func (c Config) In(p Folders) Config {
	c.Args = append(append([]string{}, c.Args...), p.Args()...)
	c.Env = append(append([]string{}, c.Env...), p.Env()...)
	return c
}
