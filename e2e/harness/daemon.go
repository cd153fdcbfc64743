package harness

import (
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Daemon is the daemon under test, as a process.
type Daemon struct {
	*Process
	T      testing.TB
	Addr   string // host:port
	steady bool   // Config.Steady
}

// Start starts the daemon on a free port and waits until it is ready. When the test ends and it is still there, it must
// drain and end with status 0.
func Start(t testing.TB, c Config) *Daemon {
	t.Helper()
	at := NewFolders(t)
	binary := DaemonBinary
	if c.Plain {
		binary = PlainBinary(t)
	}
	// The race detector would keep the daemon for a second after its end.
	env := append(at.Env(), "GORACE=atexit_sleep_ms=0")
	env = append(env, c.Env...)
	args := append(at.Args(), c.Args...) // those of a test that has folders of its own come later, and count
	if len(c.Upstreams) > 0 {
		args = append(args, "--config", c.File(t))
	}
	p, port := startOnPort(t, env, func(port string) []string {
		return append([]string{binary, "serve", "--listen", "127.0.0.1:" + port}, args...)
	})
	d := &Daemon{Process: p, T: t, Addr: "127.0.0.1:" + port, steady: c.Steady}
	d.Eventually("ready", func() bool {
		res, err := HTTPClient.Get(d.URL("/readyz"))
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == 200
	})
	t.Cleanup(d.Finish)
	return d
}

// buildPlain builds the daemon without the race detector, once.
var buildPlain = sync.OnceValues(func() (string, error) {
	if !raceEnabled {
		return DaemonBinary, nil
	}
	return build("fluentd-perf-e2e", "./cmd/fluentd-perf")
})

// PlainBinary is the path of the daemon without the race detector.
func PlainBinary(t testing.TB) string {
	t.Helper()
	binary, err := buildPlain()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

// Finish drains the daemon, if the test has not, and checks that it went as it should.
func (d *Daemon) Finish() {
	select {
	case <-d.Done:
		if d.steady {
			d.T.Errorf("the daemon ended before the test: %v", d.err)
		}
	default:
		d.Stop(d.T, syscall.SIGTERM)
		if code := d.Cmd.ProcessState.ExitCode(); code != 0 {
			d.T.Errorf("the daemon's exit code is %d", code)
		}
	}
	for _, bad := range []string{"DATA RACE", "panic", "goroutine "} {
		if strings.Contains(d.Out.String(), bad) {
			d.T.Errorf("the daemon printed %q:\n%s", bad, d.Out)
		}
	}
}

// Exit waits for the process's end and returns its exit code. Like Within, it bears a slow machine.
func (d *Daemon) Exit(promise time.Duration) int {
	d.T.Helper()
	select {
	case <-d.Done:
	case <-time.After(promise + slack):
		d.T.Fatalf("the daemon is still there after %v", promise+slack)
	}
	return d.Cmd.ProcessState.ExitCode()
}

// Signal sends the process a signal.
func (d *Daemon) Signal(sig os.Signal) {
	d.T.Helper()
	if err := d.Cmd.Process.Signal(sig); err != nil {
		d.T.Fatal(err)
	}
}

// URL returns the URL of a path on the daemon.
func (d *Daemon) URL(path string) string { return "http://" + d.Addr + path }
