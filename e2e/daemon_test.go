package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// daemon is fluentd-perf itself, as a process.
type daemon struct {
	*process
	places
	url string // its origin, without a slash at the end
}

// startDaemon starts the daemon on a free port and waits until it is ready. At the test's end it must drain and end with
// status 0. Arguments come after `serve`; the listen address is added.
func startDaemon(t testing.TB, args ...string) *daemon {
	t.Helper()
	return startDaemonIn(t, newPlaces(t), args...)
}

// startDaemonIn is startDaemon in the places of an earlier daemon.
func startDaemonIn(t testing.TB, at places, args ...string) *daemon {
	t.Helper()
	args = append(at.args(), args...)
	p, port := startOnPort(t, at.env(), func(port string) []string {
		return append([]string{daemonBinary, "serve", "--listen", "127.0.0.1:" + port, "--log-level", "warn"}, args...)
	})
	d := &daemon{process: p, places: at, url: "http://127.0.0.1:" + port}
	d.awaitReady(t)
	t.Cleanup(func() { d.drain(t) })
	return d
}

// through starts a daemon in front of one upstream and returns the URL at which an agent finds it.
func through(t testing.TB, upstream string) string {
	t.Helper()
	return startDaemon(t, "--upstream", "up="+upstream).url + "/mcp/up"
}

// throughConfig is through with a configuration file: settings are YAML lines of the upstream, without indentation.
func throughConfig(t testing.TB, upstream string, settings ...string) string {
	t.Helper()
	lines := append([]string{"upstreams:", "  up:", "    url: " + upstream}, settings...)
	for i := 3; i < len(lines); i++ {
		lines[i] = "    " + lines[i]
	}
	file := filepath.Join(t.TempDir(), "fluentd-perf.yaml")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return startDaemon(t, "--config", file).url + "/mcp/up"
}

func (d *daemon) awaitReady(t testing.TB) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		response, err := oneShot.Get(d.url + "/readyz")
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-d.done:
			t.Fatalf("the daemon ended: %v\n%s", d.err, d.out)
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Fatalf("the daemon was not ready within %v\n%s", patience, d.out)
}

// drain ends the daemon as a service manager would and checks how it went.
func (d *daemon) drain(t testing.TB) {
	t.Helper()
	select {
	case <-d.done:
		t.Errorf("the daemon ended before the test: %v", d.err)
	default:
		d.stop(t, syscall.SIGTERM)
	}
	if code := d.cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the daemon's exit code is %d", code)
	}
	for _, bad := range []string{"DATA RACE", "panic:", "goroutine "} {
		if strings.Contains(d.out.String(), bad) {
			t.Errorf("the daemon printed %q:\n%s", bad, d.out)
		}
	}
}

// oneShot is an HTTP client that keeps no connections, so that no goroutine outlives its request.
var oneShot = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
