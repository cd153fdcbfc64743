// As many GET streams as descriptors bear, each with its own events.

package relay

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// streamCap is how many GET streams the daemon must bear here (docs/operation.md): each takes two
// descriptors, and some are left for calls.
func streamCap(t *testing.T) int {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	const maxStreams = 10_000
	left := limit.Max - min(200, limit.Max/4)
	return int(min(maxStreams, left/2))
}

// TestManyStreams opens as many GET streams as the descriptors bear, each with a stream of the server's own. Each gets
// the event meant for it; one more is refused in a way that leaves agents alone; calls still work; and when agents leave,
// so does the daemon.
func TestManyStreams(t *testing.T) {
	n := streamCap(t)
	upstream, url := harness.StartUpstream(t)
	c := harness.OneUpstream(url, "")
	c.Plain = true
	c.Args = []string{"--log-level", "error"}
	d := harness.Start(t, c)
	a := d.Agent(t)
	a.Works()
	before := d.Scrape()

	begun := time.Now()
	agents := harness.StartPeer(t, "listen", d.URL("/mcp/s"), fmt.Sprint(n))
	var opened struct {
		Opened, Refused int
		First           string
	}
	agents.Receive(2*time.Minute, &opened)
	if opened.Opened != n || opened.Refused != 0 {
		t.Fatalf("%d of %d streams were opened; the first refusal: %s", opened.Opened, n, opened.First)
	}
	t.Logf("%d streams opened in %v", n, time.Since(begun).Round(time.Millisecond))
	report(t, "quiet", n, before, d.Scrape())

	atTheLimit(t, a)
	everyStreamGetsItsEvent(t, upstream, agents, n)
	report(t, "after an event each", n, before, d.Scrape())
	a.Works()
	agentsLeave(t, d, upstream, agents, n)
	a.Works()
}

// atTheLimit asks for one stream too many, and calls.
func atTheLimit(t *testing.T, a *harness.Agent) {
	t.Helper()
	for range 3 {
		r := a.Must(http.MethodGet, "/mcp/s", "", "Mcp-Session-Id: one-too-many")
		if ct := r.Header.Get("Content-Type"); r.Status != http.StatusServiceUnavailable || !strings.HasPrefix(ct, "text/plain") {
			t.Errorf("one stream too many: got %d %s %q", r.Status, ct, r.Body)
		}
		a.Works()
	}
	body, fields := harness.Modern("4", "subscriptions/listen")
	harness.CheckFailure(t, a.Post(body, fields...).RPC(t), "4", "s", 1429, "too_many_streams", "no")
}

func everyStreamGetsItsEvent(t *testing.T, upstream, agents *harness.Peer, n int) {
	t.Helper()
	begun := time.Now()
	upstream.Send("send")
	var sent struct{ Streams int }
	upstream.Receive(time.Minute, &sent)
	if sent.Streams != n {
		t.Errorf("the server has %d streams, the agents have %d", sent.Streams, n)
	}
	var received struct {
		Received, Wrong int
		First           string
	}
	agents.Receive(time.Minute, &received)
	if received.Received != n || received.Wrong != 0 {
		t.Errorf("%d of %d streams got their event; first fault: %s", received.Received, n, received.First)
	}
	t.Logf("%d events in %v", n, time.Since(begun).Round(time.Millisecond))
}

// agentsLeave has some agents leave, which must be noticed upstream within a second, and then all of them at once, which
// may take what closing thousands of connections takes.
func agentsLeave(t *testing.T, d *harness.Daemon, upstream, agents *harness.Peer, n int) {
	t.Helper()
	idle := int(d.Scrape().Sum("fluentd_perf_idle_connections"))
	leave := func(command string, left int, within time.Duration) {
		t.Helper()
		agents.Send("leave %s", command)
		var gone struct{ Left int }
		agents.Receive(time.Minute, &gone)
		upstream.Send("open %d", left+idle)
		var now struct {
			Open int
			Ms   int64
		}
		upstream.Receive(2*time.Minute, &now)
		took := time.Duration(now.Ms) * time.Millisecond
		if now.Open > left+idle || took > within+harness.Soon {
			t.Errorf("after %s left: %d connections to the server after %v, want %d within %v", command, now.Open, took, left+idle, within)
		}
		t.Logf("%s left (%d): the server's side was closed after %v", command, gone.Left, took)
	}
	leave("1", n-1, time.Second)
	leave("99", n-100, time.Second)
	leave("all", 0, 20*time.Second)
	d.Eventually("rid of the streams", func() bool {
		m := d.Scrape()
		return m.Sum("fluentd_perf_streams_open") == 0 && m["go_goroutines"] < 100
	})
}

// report logs what the streams cost the daemon.
func report(t *testing.T, when string, n int, before, after harness.Metrics) {
	t.Helper()
	per := func(name string) float64 { return (after[name] - before[name]) / float64(n) / 1000 }
	t.Logf("%s, per stream: %.1f kB RSS, %.1f kB Go heap in use (%.1f kB live), %.1f kB stacks, %.2f goroutines, %.2f descriptors; RSS %.0f MB in all",
		when, per("process_resident_memory_bytes"), per("go_memstats_heap_inuse_bytes"), per("go_memstats_heap_alloc_bytes"),
		per("go_memstats_stack_inuse_bytes"), per("go_goroutines")*1000, per("process_open_fds")*1000,
		after["process_resident_memory_bytes"]/1e6)
}

// TestCrossedStreamsWouldBeSeen: the agents find an event that was meant for somebody else.
func TestCrossedStreamsWouldBeSeen(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
		x.Stream().Event(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"s-3"}}`)
		x.Hang()
	})
	agents := harness.StartPeer(t, "listen", s.URL(), "5")
	var opened struct{ Opened int }
	agents.Receive(harness.MaxWait, &opened)
	var received struct{ Received, Wrong int }
	agents.Receive(harness.MaxWait, &received)
	if opened.Opened != 5 || received.Received != 1 || received.Wrong != 4 {
		t.Errorf("of 5 streams %d were opened, %d got their own event and %d another's; want 5, 1 and 4", opened.Opened, received.Received, received.Wrong)
	}
}
