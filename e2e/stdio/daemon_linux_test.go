package stdio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/api"
)

// sessionsFile is the file of stdio sessions in the state directory.
const sessionsFile = "stdio-sessions.json"

// entry is an upstream that is the counting server.
func entry(t *testing.T, era string) string {
	t.Helper()
	return fmt.Sprintf("{command: %s}", harness.RawJSON(serverCommand(t, "counting", era)))
}

// connect is an agent of the official SDK.
func connect(t *testing.T, origin, upstream string) *mcp.ClientSession {
	t.Helper()
	client := mcp.NewClient(&mcp.Implementation{Name: "agent", Version: "1"}, nil)
	transport := &mcp.StreamableClientTransport{Endpoint: origin + "/mcp/" + upstream, HTTPClient: harness.HTTPClient}
	session, err := client.Connect(t.Context(), transport, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() }) // the daemon may have ended
	return session
}

// count calls the counting server, and returns its process and how often that was called.
func count(t *testing.T, s *mcp.ClientSession) (pid, calls int) {
	t.Helper()
	res, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "count"})
	if err != nil {
		t.Fatal(err)
	}
	text := res.Content[0].(*mcp.TextContent).Text
	if _, err := fmt.Sscan(text, &pid, &calls); err != nil {
		t.Fatal(text, err)
	}
	return pid, calls
}

func gone(pid int) bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) }

// TestAgents: agents of both eras work with the program and servers that are commands; what status says of them.
func TestAgents(t *testing.T) {
	t.Parallel()
	at := harness.NewFolders(t)
	d := harness.Start(t, harness.Config{Upstreams: map[string]string{"modern": entry(t, "both"), "legacy": entry(t, "legacy")}}.In(at))
	pids := map[int]string{}
	for _, upstream := range []string{"modern", "legacy", "modern", "legacy"} {
		s := connect(t, d.URL(""), upstream)
		if tools, err := s.ListTools(t.Context(), nil); err != nil || len(tools.Tools) != 1 {
			t.Fatalf("%s: %v, %v", upstream, tools, err)
		}
		pid, _ := count(t, s)
		pids[pid] = upstream
	}
	if len(pids) != 3 {
		t.Errorf("two agents of each era have %d processes, want 1 and 2", len(pids))
	}
	table, complaints, code := at.Verb(t, "status", "--processes")
	for pid, upstream := range pids {
		line := ""
		for l := range strings.Lines(table) {
			if strings.Contains(l, fmt.Sprint(" ", pid, " ")) {
				line = l
			}
		}
		shared := strings.Contains(line, "shared")
		if code != 0 || !strings.HasPrefix(line, upstream) || !strings.Contains(line, "the counting server begins") ||
			!strings.Contains(line, "MiB") || shared != (upstream == "modern") {
			t.Errorf("process %d of %s in\n%s%s", pid, upstream, table, complaints)
		}
	}
}

// TestDaemonKilled: after a kill of the daemon no process of a server is left, and a session goes on with the next daemon. Its agent
// hears once that state is gone, where there was some.
func TestDaemonKilled(t *testing.T) {
	at, port := harness.NewFolders(t), harness.FreePort(t)
	config := harness.Config{
		Upstreams: map[string]string{"s": entry(t, "legacy")}, Args: []string{"--listen", "127.0.0.1:" + port},
	}.In(at)
	d := harness.Start(t, config)
	origin := "http://127.0.0.1:" + port
	with, without := connect(t, origin, "s"), connect(t, origin, "s")
	pid, _ := count(t, with)
	if _, err := without.ListTools(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	within := harness.Within(t, time.Second, "the sessions' file", func() bool {
		text, _ := os.ReadFile(filepath.Join(at.State, sessionsFile))
		return strings.Contains(string(text), with.ID()) && strings.Contains(string(text), without.ID()) && strings.Contains(string(text), `"State":true`)
	})
	t.Logf("the sessions were saved after %v", within)
	d.Signal(syscall.SIGKILL)
	harness.Within(t, time.Second, "the end of the server", func() bool { return gone(pid) })
	<-d.Done
	harness.Start(t, config)
	if _, err := without.ListTools(t.Context(), nil); err != nil {
		t.Errorf("without state: %v", err)
	}
	if _, err := with.CallTool(t.Context(), &mcp.CallToolParams{Name: "count"}); err == nil || !strings.Contains(err.Error(), "send it again") {
		t.Errorf("with state: %v", err)
	}
	if other, calls := count(t, with); other == pid || calls != 1 {
		t.Errorf("process %d after %d, %d calls", other, pid, calls)
	}
}

// TestGuardKilled: without its guard the daemon's servers end, and the next call has another one.
func TestGuardKilled(t *testing.T) {
	t.Parallel()
	d := harness.Start(t, harness.Config{Upstreams: map[string]string{"s": entry(t, "both")}}.In(harness.NewFolders(t)))
	s := connect(t, d.URL(""), "s")
	pid, _ := count(t, s)
	guard := parentOf(t, pid)
	if guard == d.Cmd.Process.Pid {
		t.Fatal("the daemon itself is the server's parent")
	}
	if err := syscall.Kill(guard, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, "the end of the server", func() bool { return gone(pid) })
	harness.Eventually(t, "another server", func() bool {
		_, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: "count"})
		return err == nil
	})
	if other := parentOf(t, first(count(t, s))); other == guard {
		t.Error("it has the same guard")
	}
}

func first(pid, _ int) int { return pid }

// TestFortyEntries: servers that nobody has asked for yet start no process, and next to nothing of the daemon's own start. That is to take
// 200 ms; how long it takes here is the machine's matter, too, so the processor's time is measured, which busy neighbours double at most.
func TestFortyEntries(t *testing.T) {
	c := harness.Config{Upstreams: map[string]string{}, Plain: true}
	for n := range 40 {
		c.Upstreams[fmt.Sprint("s", n)] = entry(t, "legacy")
	}
	harness.PlainBinary(t) // building it is no part of the start
	at := harness.NewFolders(t)
	begun := time.Now()
	d := harness.Start(t, c.In(at))
	took := cpuOf(t, d.Cmd.Process.Pid)
	t.Logf("ready after %v, with %v of the processor's time", time.Since(begun), took)
	if took > 400*time.Millisecond {
		t.Errorf("the daemon's start took %v of the processor's time", took)
	}
	var status api.Status
	at.VerbJSON(t, &status, "status", "--processes")
	for _, u := range status.Upstreams {
		if u.ProcessesNow != 0 {
			t.Errorf("%s has %d processes, and nobody has asked for it", u.Upstream, u.ProcessesNow)
		}
	}
}

func parentOf(t *testing.T, pid int) (parent int) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "PPid:"); ok {
			_, _ = fmt.Sscan(value, &parent)
		}
	}
	return parent
}
