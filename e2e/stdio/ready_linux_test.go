package stdio

import (
	"testing"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/api"
)

// ready returns what status says that an upstream has ready, and its processes.
func ready(t testing.TB, at harness.Folders, upstream string) (api.Ready, []api.Process) {
	t.Helper()
	var status api.Status
	at.VerbJSON(t, &status, "status", "--processes")
	for _, u := range status.Upstreams {
		if u.Upstream == upstream && u.Ready != nil {
			return *u.Ready, u.Processes
		}
	}
	t.Fatalf("status knows of no %s", upstream)
	return api.Ready{}, nil
}

// TestSpares: behind the first session a process is ready for the next one, as status and metrics say, and agents of another kind have
// another one. What is in no session ends with the daemon.
func TestSpares(t *testing.T) {
	t.Parallel()
	at := harness.NewFolders(t)
	d := harness.Start(t, harness.Config{Upstreams: map[string]string{"s": entry(t, "legacy")}}.In(at))
	first, _ := count(t, connect(t, d.URL(""), "s"))
	spare := 0
	harness.Eventually(t, "a spare", func() bool {
		now, processes := ready(t, at, "s")
		for _, p := range processes {
			if p.State == "spare" {
				spare = p.PID
			}
		}
		return now.Spare == 1 && now.Used == 1 && spare != 0
	})
	if second, _ := count(t, connect(t, d.URL(""), "s")); second != spare || second == first {
		t.Errorf("the second session has process %d, the spare was %d", second, spare)
	}
	starts := d.Scrape()
	if cold, ahead := starts.Sum("fluentd_perf_process_start_seconds_count", `kind="cold"`), starts.Sum("fluentd_perf_process_start_seconds_count", `kind="spare"`); cold != 2 || ahead != 1 { // one of the cold ones was asked for server/discover, once
		t.Errorf("%v cold starts, %v with a spare", cold, ahead)
	}
	if starts.Sum("fluentd_perf_process_start_saved_seconds_total", `kind="spare"`) <= 0 {
		t.Error("nothing was saved")
	}
	harness.Eventually(t, "another spare", func() bool {
		now, _ := ready(t, at, "s")
		return now.Spare == 1 && now.Used == 2
	})
}
