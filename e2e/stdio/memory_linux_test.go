package stdio

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
)

// TestFloodsTakeNoMemory: what a server writes without a newline costs the daemon no more than one message may.
func TestFloodsTakeNoMemory(t *testing.T) {
	t.Parallel()
	const floods = 4 // of 100 MB each
	mark, upstreams := newMark(t), map[string]string{}
	for n := range floods {
		for _, tool := range []string{"huge", "floods"} {
			upstreams[fmt.Sprint(tool, n)] = faultyEntry(t, "", mark)
		}
	}
	d := harness.Start(t, harness.Config{Upstreams: upstreams, Top: "drain: 1s\nlimits: {event: 1MiB}", Plain: true})
	pid := d.Cmd.Process.Pid
	for _, tool := range []string{"huge", "floods"} {
		var sessions []*rawSession
		for n := range floods {
			sessions = append(sessions, begin(t, d.URL(""), fmt.Sprint(tool, n)))
		}
		before := statusField(t, pid, "VmHWM")
		var all sync.WaitGroup
		for _, s := range sessions {
			all.Go(func() {
				if r, err := s.Send(http.MethodPost, s.path, toolCall(tool), "Mcp-Session-Id: "+s.session); err != nil || r.Status != http.StatusOK {
					t.Errorf("%s: %v %s", tool, err, r.Body)
				}
			})
		}
		all.Wait()
		grown := statusField(t, pid, "VmHWM") - before
		t.Logf("%s: %d times 100 MB made the daemon %d KiB larger at most, from %d KiB", tool, floods, grown, before)
		if grown > 24<<10 {
			t.Errorf("%s: the daemon grew by %d KiB", tool, grown)
		}
	}
	endsClean(t, d, mark)
}

// lister is a shell's server of 2025-11-25, which answers lists: it starts in a millisecond.
const lister = `while read -r line; do
  id=${line#*\"id\":}; id=${id%%[,\}]*}
  case $line in
  *'"initialize"'*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"sh","version":"1"}}}' ;;
  *'"tools/list"'*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"tools":[]}}' ;;
  *'"id"'*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"pid":'$$'}}' ;;
  esac
done`

// TestAbandonedSessions: sessions that only list, opened one after another and abandoned, are all served by `processes.max` processes,
// four of which belong to others that have state. When nobody uses them any more, processes, descriptors and memory are back. There
// are 60; with E2E_FULL=1 there are 1,000.
func TestAbandonedSessions(t *testing.T) {
	t.Parallel()
	const beside = 4
	sessions, mark := 60, newMark(t)
	if os.Getenv("E2E_FULL") == "1" {
		sessions = 1000
	}
	script := harness.WriteFile(t, "lister.sh", lister)
	entry := fmt.Sprintf("{command: [sh, %q], env: {%s: %q}, processes: {max: 16, idle_timeout: 2s}}", script, markName, mark)
	d := harness.Start(t, harness.Config{
		Upstreams: map[string]string{"s": entry}, Top: "drain: 1s", Plain: true,
		Env: []string{"GOGC=100"}, // as usual the daemon lets 32 MiB of garbage gather
	})
	pid := d.Cmd.Process.Pid
	begin(t, d.URL(""), "s").works(false) // the guard is there
	harness.Eventually(t, "idle", func() bool { return len(marked(mark)) == 0 })
	guard := guardOf(t, d)
	before, guarded, memory := descriptors(t, pid), descriptors(t, guard), statusField(t, pid, "VmRSS")

	stop := make(chan struct{})
	var others sync.WaitGroup
	for range beside {
		s := begin(t, d.URL(""), "s")
		s.works(false)
		others.Go(func() { keepWorking(t, s, stop) })
	}
	begun := time.Now()
	for n := range sessions {
		s := begin(t, d.URL(""), "s")
		if r := s.send(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`); !strings.Contains(r.Body, `"tools":[]`) {
			t.Fatalf("session %d: %d %s", n, r.Status, r.Body)
		}
		s.HTTP.CloseIdleConnections()
	}
	t.Logf("%d sessions took %v; the daemon has %d KiB after %d", sessions, time.Since(begun).Round(time.Millisecond), statusField(t, pid, "VmRSS"), memory)
	if n := len(marked(mark)); n > 16 {
		t.Errorf("%d processes", n)
	}
	close(stop)
	others.Wait()
	harness.Within(t, 10*time.Second, "the end of all processes", func() bool { return len(marked(mark)) == 0 })
	harness.Within(t, time.Second, "as many descriptors as before", func() bool {
		return descriptors(t, pid) <= before && descriptors(t, guard) <= guarded
	})
	// A session that may go on is kept for a day: 1,000 have a few KiB each.
	after := statusField(t, pid, "VmRSS")
	t.Logf("at the end it has %d KiB", after)
	if after > memory+16<<10 {
		t.Errorf("the daemon has %d KiB, and had %d before", after, memory)
	}
}

// keepWorking calls in a session until it is told to stop, and each call must be answered out of the same process.
func keepWorking(t *testing.T, s *rawSession, stop chan struct{}) {
	defer s.HTTP.CloseIdleConnections()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	first := ""
	for {
		r, err := s.Send(http.MethodPost, s.path, toolCall("pid"), "Mcp-Session-Id: "+s.session)
		if first == "" {
			first = r.Body
		}
		if err != nil || r.Body != first || !strings.Contains(first, `"pid":`) {
			t.Errorf("beside: %v %s, and before %s", err, r.Body, first)
			return
		}
		select {
		case <-tick.C:
		case <-stop:
			return
		}
	}
}
