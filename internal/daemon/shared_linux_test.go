package daemon

import (
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"fluentd-perf/internal/config"
	"fluentd-perf/internal/mcp"
)

// TestSharedSessions: the sessions of a server whose sessions share have one process, which status and metrics say; it is another one
// for all when it is killed, and none after the drain.
func TestSharedSessions(t *testing.T) {
	cfg := stdioConfig(t, map[string]*config.Stdio{"s": stdioEntry(t, "legacy")})
	cfg.Upstreams[0].Sessions.Mode = config.SessionsShared
	r := newStdioRig(t, Options{Config: cfg})
	var agents []*sdk.ClientSession
	pid := 0
	for n := range 3 {
		agents = append(agents, r.connect("s"))
		own, calls := count(t, agents[n])
		if pid == 0 {
			pid = own
		}
		if own != pid || calls != n+1 {
			t.Errorf("agent %d: process %d, %d calls; want process %d", n, own, calls, pid)
		}
	}
	if all := r.status("s").Processes; len(all) != 1 || !all[0].Shared || all[0].Sessions != 3 || all[0].PID != pid {
		t.Errorf("processes: %+v", all)
	}
	killProcess(t, pid)
	within(t, 10*time.Second, "the end of the process", func() bool { return r.status("s").ProcessesNow == 0 })
	after := 0
	for n, s := range agents {
		if _, err := call(t, s, "count", nil); failsWith(err) != mcp.CodeSessionRestart {
			t.Errorf("agent %d: %v", n, err)
		}
		own, calls := count(t, s)
		if n == 0 {
			after = own
		}
		if own != after || own == pid || calls != n+1 {
			t.Errorf("agent %d after that: process %d, %d calls; want process %d", n, own, calls, after)
		}
	}
	got, _ := scrapeOf(t, r.addr)
	for name, want := range map[string]float64{
		`fluentd_perf_process_start_seconds_count{kind="cold",upstream="s"}`:   3, // with the one that refused server/discover
		`fluentd_perf_process_start_seconds_count{kind="shared",upstream="s"}`: 4,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if err := agents[0].Close(); err != nil {
		t.Error(err)
	}
	within(t, 10*time.Second, "the end of a session", func() bool { return r.status("s").Processes[0].Sessions == 2 })
	if gone(after) {
		t.Error("the process has ended with one of its sessions")
	}
	r.stop()
	if !gone(after) {
		t.Error("the daemon has ended, and its server has not")
	}
}
