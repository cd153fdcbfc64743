package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// sidecar is the daemon in front of scripted servers: what the tests of faults, load and operation need of it.
type sidecar struct {
	*process
	t    *testing.T
	addr string // host:port
}

// Timeouts fit for faults: long enough for a machine that is busy with other things, short enough for a test.
const (
	connectTimeout = time.Second
	headTimeout    = 2 * time.Second // first_byte, and idle
	callTimeout    = 4 * time.Second

	quick = "{connect: 1s, handshake: 2s, first_byte: 2s, idle: 2s, call: 4s}"
)

// conf is a daemon's configuration in parts.
type conf struct {
	upstreams map[string]string // name -> block in flow style
	top       string            // top-level keys beside upstreams
	args      []string          // more arguments
	env       []string          // more environment
	plain     bool              // without the race detector, whatever the tests are built with
}

// one is the configuration with a single upstream `s`. Keys are of the upstream, in flow style, without braces.
func one(url, keys string) conf {
	if keys != "" {
		keys = ", " + keys
	}
	return conf{upstreams: map[string]string{"s": fmt.Sprintf("{url: %q%s}", url, keys)}, top: "drain: 1s"}
}

func (c conf) yaml() string {
	var b strings.Builder
	b.WriteString("upstreams:\n")
	for name, block := range c.upstreams {
		fmt.Fprintf(&b, "  %s: %s\n", name, block)
	}
	b.WriteString(c.top + "\n")
	return b.String()
}

// runSidecar starts the daemon and waits until it is ready. When the test ends and it is still there, it must drain and
// end with status 0.
func runSidecar(t *testing.T, c conf) *sidecar {
	t.Helper()
	scratch, at := t.TempDir(), newPlaces(t)
	file := filepath.Join(scratch, "fluentd-perf.yaml")
	if err := os.WriteFile(file, []byte(c.yaml()), 0o600); err != nil {
		t.Fatal(err)
	}
	binary := daemonBinary
	if c.plain {
		binary = plainBinary(t)
	}
	// The race detector would keep the daemon for a second after its end.
	env := append(at.env(), "GORACE=atexit_sleep_ms=0")
	env = append(env, c.env...)
	args := append(at.args(), c.args...) // those of a test that has places of its own come later, and count
	p, port := startOnPort(t, env, func(port string) []string {
		return append([]string{binary, "serve", "--listen", "127.0.0.1:" + port, "--config", file}, args...)
	})
	d := &sidecar{process: p, t: t, addr: "127.0.0.1:" + port}
	d.eventually("ready", func() bool {
		res, err := oneShot.Get(d.url("/readyz"))
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == 200
	})
	t.Cleanup(d.finish)
	return d
}

// buildPlain builds the daemon without the race detector, once.
var buildPlain = sync.OnceValues(func() (string, error) {
	if !raceEnabled {
		return daemonBinary, nil
	}
	binary := filepath.Join(cacheBin, "fluentd-perf-e2e-plain")
	return binary, run(root, "go", "build", "-o", binary, "./cmd/fluentd-perf")
})

func plainBinary(t *testing.T) string {
	t.Helper()
	binary, err := buildPlain()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// finish drains the daemon, if the test has not, and checks that it went as it should.
func (d *sidecar) finish() {
	select {
	case <-d.done:
	default:
		d.stop(d.t, syscall.SIGTERM)
		if code := d.cmd.ProcessState.ExitCode(); code != 0 {
			d.t.Errorf("the daemon's exit code is %d", code)
		}
	}
	for _, bad := range []string{"DATA RACE", "panic", "goroutine "} {
		if strings.Contains(d.out.String(), bad) {
			d.t.Errorf("the daemon printed %q:\n%s", bad, d.out)
		}
	}
}

// exit waits for the process's end and returns its exit code.
func (d *sidecar) exit(within time.Duration) int {
	d.t.Helper()
	select {
	case <-d.done:
	case <-time.After(within):
		d.t.Fatalf("the daemon is still there after %v", within)
	}
	return d.cmd.ProcessState.ExitCode()
}

// signal sends the process a signal.
func (d *sidecar) signal(sig os.Signal) {
	d.t.Helper()
	if err := d.cmd.Process.Signal(sig); err != nil {
		d.t.Fatal(err)
	}
}

// url returns the URL of a path on the daemon.
func (d *sidecar) url(path string) string { return "http://" + d.addr + path }

// eventually waits until done, asking every few milliseconds: another process tells nobody when it gets there.
func (d *sidecar) eventually(what string, done func() bool) {
	d.t.Helper()
	eventually(d.t, what, done)
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("waited %v: not %s", patience, what)
		}
	}
}
