package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// places are the folders of one daemon. A daemon that is started in the places of an earlier one finds what that left.
type places struct {
	state   string // the cache's file, the key of partitions
	runtime string // the admin socket; a short path, since the name of a Unix socket has about 100 bytes at most
}

// newPlaces makes empty folders that go with the test.
func newPlaces(t testing.TB) places {
	t.Helper()
	runtime, err := os.MkdirTemp("", "fp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(runtime); err != nil {
			t.Error(err)
		}
	})
	return places{state: t.TempDir(), runtime: runtime}
}

// args are the arguments of `serve` that put a daemon there.
func (p places) args() []string {
	return []string{"--state-dir", p.state, "--runtime-dir", p.runtime}
}

// env keeps what has no argument out of the user's own folders.
func (p places) env() []string {
	return []string{"XDG_RUNTIME_DIR=" + p.runtime, "XDG_STATE_HOME=" + p.state, "XDG_CACHE_HOME=" + p.state}
}

// socket is the admin socket of the daemon that runs there.
func (p places) socket() string { return filepath.Join(p.runtime, "admin.sock") }

// in returns the configuration for a daemon in these places.
func (c conf) in(p places) conf {
	c.args = append(append([]string{}, c.args...), p.args()...)
	c.env = append(append([]string{}, c.env...), p.env()...)
	return c
}

// verb runs a verb of fluentd-perf against the daemon that runs there and returns what it printed and its exit code.
func (p places) verb(t testing.TB, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), daemonBinary, append(args, "--socket", p.socket())...)
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	cmd.WaitDelay = patience
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatalf("%v: %v", cmd.Args, err)
	}
	return out.String(), complaints.String(), cmd.ProcessState.ExitCode()
}

// scrapeAt reads the /metrics of a daemon by its origin.
func scrapeAt(t testing.TB, origin string) metrics {
	t.Helper()
	res, err := oneShot.Get(origin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	m, err := readMetrics(res.Body)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("/metrics: %d, %v", res.StatusCode, err)
	}
	return m
}

// minus returns by how much each series grew since an earlier scrape.
func (m metrics) minus(earlier metrics) metrics {
	grown := metrics{}
	for series, v := range m {
		grown[series] = v - earlier[series]
	}
	return grown
}
