// Agents that do not read their answers cost bounded memory.

package relay

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// unreadMemory bounds what the daemon may have while agents do not read their answers.
const unreadMemory = 400 << 20

// TestUnreadAnswers: agents call for answers of 1 MB, as JSON and as one event, and do not read them. The daemon's memory
// stays bounded; when the agents leave everything is given back.
//
// There are 100 agents of each kind; with E2E_FULL=1 there are 1,000, if so many descriptors may be open.
func TestUnreadAnswers(t *testing.T) {
	answers := min(large(1000), descriptors(t)/4)
	body := largeResult("1", 1_000_000)
	for name, script := range map[string]mcptest.Script{
		"JSON": func(x *mcptest.Exchange) { x.JSON(body) },
		"an event": func(x *mcptest.Exchange) {
			st := x.Stream()
			st.Event(body)
			st.End()
		},
		"JSON that breaks off": func(x *mcptest.Exchange) {
			x.Write(mcptest.Head(200, harness.JSONType, fmt.Sprint("Content-Length: ", len(body))) + body[:900_000])
			x.Reset()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := mcptest.NewServer(t, script)
			c := harness.OneUpstream(s.URL(), fmt.Sprintf("breaker: off, limits: {max_in_flight: %d}, pool: {max_connections: %d}", answers+10, answers+10))
			c.Plain, c.Args = true, []string{"--log-level", "error"}
			d := harness.Start(t, c)
			before := rss(d)
			agents := unreadCalls(t, d, answers)
			harness.Within(t, 2*time.Minute, "all calls are with the server", func() bool { return s.Received() == answers })
			most, begun := rss(d), time.Now()
			for time.Since(begun) < 3*time.Second {
				<-time.After(100 * time.Millisecond)
				most = max(most, rss(d))
			}
			t.Logf("%d answers of 1 MB that nobody reads: %d MB, %d MB before", answers, most>>20, before>>20)
			if most > unreadMemory {
				t.Errorf("the daemon has %d MB", most>>20)
			}
			for _, a := range agents {
				_ = a.Close()
			}
			d.Eventually("rid of them", func() bool {
				m := d.Scrape()
				return m.Sum("fluentd_perf_in_flight") == 0 && m.Sum("fluentd_perf_active_connections") == 0
			})
			s.Script(mcptest.Minimal)
			d.Agent(t).Works()
		})
	}
}

// unreadCalls makes calls, each on a connection of its own with a small window, and reads no answer.
func unreadCalls(t *testing.T, d *harness.Daemon, n int) []net.Conn {
	t.Helper()
	body := harness.Request("1", "tools/call")
	text := fmt.Sprintf("POST /mcp/s HTTP/1.1\r\nHost: %s\r\n%s\r\nContent-Length: %d\r\n\r\n%s", d.Addr, harness.JSONContent, len(body), body)
	agents := make([]net.Conn, n)
	var wg sync.WaitGroup
	slots := make(chan struct{}, 32) // below a listener's backlog
	for i := range agents {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			conn, err := net.Dial("tcp4", d.Addr)
			if err != nil {
				t.Errorf("agent %d: %v", i, err)
				return
			}
			agents[i] = conn
			_ = conn.(*net.TCPConn).SetReadBuffer(4096)
			if _, err := io.WriteString(conn, text); err != nil {
				t.Errorf("agent %d: %v", i, err)
			}
			t.Cleanup(func() { _ = conn.Close() })
		})
	}
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
	return agents
}

// rss is the memory of the daemon's process that is resident, in bytes (proc(5)).
func rss(d *harness.Daemon) int {
	d.T.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.Cmd.Process.Pid))
	if err != nil {
		d.T.Fatal(err)
	}
	var kB int
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			if _, err := fmt.Sscan(rest, &kB); err != nil {
				d.T.Fatal(err)
			}
		}
	}
	return kB << 10
}

// descriptors is how many this process may have open.
func descriptors(t *testing.T) int {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	return int(min(limit.Cur, 1<<20))
}
