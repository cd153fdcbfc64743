package stdio

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
)

// faultTimeouts are for what ends by itself, in what time that takes on a busy machine, and no breaker is between the faults and the agent.
const faultTimeouts = "timeouts: {handshake: 30s, first_byte: 30s, call: 30s}, breaker: off"

// faultyEntry is an upstream that is the server with a fault. Its processes have the mark.
func faultyEntry(t *testing.T, atStart, mark string) string {
	t.Helper()
	return notingEntry(t, atStart, mark, "")
}

// notingEntry is one that notes in a folder what it has begun to do.
func notingEntry(t *testing.T, atStart, mark, notes string) string {
	t.Helper()
	return fmt.Sprintf("{command: %s, env: {%s: %q, %s: %q}, %s}", harness.RawJSON(serverCommand(t, "faulty", atStart)),
		markName, mark, notesName, notes, faultTimeouts)
}

// newMark returns a mark that no other test has.
func newMark(t *testing.T) string {
	return fmt.Sprint(strings.ReplaceAll(t.Name(), "/", "-"), "-", os.Getpid())
}

// rawSession is an agent with a legacy session.
type rawSession struct {
	*harness.Agent
	path    string
	session string
}

// initialize begins a session and returns the answer.
func initialize(t *testing.T, origin, upstream string) (*rawSession, harness.Reply) {
	t.Helper()
	s := &rawSession{Agent: harness.NewAgent(t, origin), path: "/mcp/" + upstream}
	r := s.Must(http.MethodPost, s.path, harness.InitializeRequest)
	s.session = r.Header.Get("Mcp-Session-Id")
	if s.session != "" {
		s.send(harness.Notification("notifications/initialized"))
	}
	return s, r
}

// begin is initialize where that must work.
func begin(t *testing.T, origin, upstream string) *rawSession {
	t.Helper()
	s, r := initialize(t, origin, upstream)
	if s.session == "" {
		t.Fatalf("initialize of %s: %d %s", upstream, r.Status, r.Body)
	}
	return s
}

func (s *rawSession) send(body string) harness.Reply {
	s.T.Helper()
	return s.Must(http.MethodPost, s.path, body, "Mcp-Session-Id: "+s.session, harness.LegacyVersionField)
}

func toolCall(tool string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":%q}}`, tool)
}

// works makes a call that must be answered, after the notice that state is gone where that is due.
func (s *rawSession) works(restarted bool) {
	s.T.Helper()
	if restarted {
		harness.CheckFailure(s.T, s.send(toolCall("pid")).RPC(s.T), "7", strings.TrimPrefix(s.path, "/mcp/"), 1410, "session_restarted", "no")
	}
	if r := s.send(toolCall("pid")); !strings.Contains(r.Body, `"pid":`) {
		s.T.Errorf("the next call: %d %s", r.Status, r.Body)
	}
}

// callFaults are what a server does when it is called, and what its agent gets.
var callFaults = []struct {
	tool   string
	code   int // 0: an answer of the server's
	reason string
	says   string // in the body
	next   string // when the next call works: at once, after the notice, or after that when the process has been found to hang
}{
	{"dies", 1502, "broke_off", "exit status 3", "restarted"},
	{"closes", 1502, "broke_off", "closed its stdout", "restarted"},
	{"forks", 1502, "broke_off", "exit status 0", "restarted"},
	{"huge", 1502, "bad_answer", "limits.event", "restarted"},
	{"hangs", 1504, "call_timeout", "did not answer", "ended"},
	{"spins", 1504, "call_timeout", "did not answer", "ended"},
	{"half", 1504, "call_timeout", "did not answer", "ended"},
	{"floods", 0, "", `"pid":`, "same"},
	{"split", 0, "", "é€😀", "same"},
	{"odd", 0, "", `"a":"\ud83d","b":"` + "\xe9" + `"`, "same"},
}

// TestFaultsInCalls: what an agent gets of a server that fails in a call, and that the session goes on, where the server never reads again
// too.
func TestFaultsInCalls(t *testing.T) {
	t.Parallel()
	mark, upstreams := newMark(t), map[string]string{}
	for _, c := range callFaults {
		upstreams[c.tool] = faultyEntry(t, "", mark) // of its own: what ends is started again with a pause
		if c.reason == "call_timeout" {
			upstreams[c.tool] = strings.ReplaceAll(upstreams[c.tool], ": 30s", ": 5s")
		}
	}
	d := harness.Start(t, harness.Config{Upstreams: upstreams, Top: "drain: 1s"})
	calls := map[string]inFlight{}
	for _, c := range callFaults { // all at the same time: some wait for their timeout
		s := begin(t, d.URL(""), c.tool)
		calls[c.tool] = inFlight{s, background(t, d.URL(""), s.path, toolCall(c.tool), "Mcp-Session-Id: "+s.session)}
	}
	for _, c := range callFaults {
		t.Run(c.tool, func(t *testing.T) {
			r := <-calls[c.tool].answer
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			if c.code != 0 {
				harness.CheckFailure(t, r.RPC(t), "7", c.tool, c.code, c.reason, "unknown")
			}
			if !strings.Contains(r.Body, c.says) {
				t.Errorf("got %s", harness.Tail(r.Body))
			}
			t.Logf("after %v: %s", r.Took.Round(time.Millisecond), harness.Tail(r.Body))
			s := calls[c.tool].session
			if c.next == "ended" {
				harness.Within(t, 10*time.Second, "the notice", func() bool {
					return strings.Contains(s.send(toolCall("pid")).Body, `"code":1410`)
				})
			}
			s.works(c.next == "restarted")
		})
	}
	harness.Within(t, 5*time.Second, "no zombie of the guard's", func() bool {
		return !slices.ContainsFunc(childrenOf(guardOf(t, d)), func(c child) bool { return c.state == "Z" })
	})
	endsClean(t, d, mark)
}

// endsClean ends the daemon, and checks that no process of the mark is left a second later.
func endsClean(t *testing.T, d *harness.Daemon, mark string) {
	t.Helper()
	if len(marked(mark)) == 0 {
		t.Error("no process has the mark before the end")
	}
	begun := time.Now()
	d.Finish()
	t.Logf("the daemon ended within %v", time.Since(begun).Round(time.Millisecond))
	if strings.Contains(d.Out.String(), "left behind") {
		t.Errorf("it did not wait for its servers:\n%s", harness.Tail(d.Out.String()))
	}
	wantNone(t, mark, time.Now())
}

// wantNone checks that no process of the mark is left a second after what has ended then.
func wantNone(t *testing.T, mark string, since time.Time) {
	t.Helper()
	harness.Within(t, time.Second, "the end of all processes", func() bool { return len(marked(mark)) == 0 })
	t.Logf("nothing was left %v after the end", time.Since(since).Round(time.Millisecond))
}

// TestFaultsAtStart: what an agent gets of a server that does not start as it should.
func TestFaultsAtStart(t *testing.T) {
	t.Parallel()
	mark, plain := newMark(t), filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	upstreams := map[string]string{
		"missing":        "{command: [no-such-server-anywhere], " + faultTimeouts + "}",
		"not-executable": fmt.Sprintf("{command: [%q], %s}", plain, faultTimeouts),
	}
	for _, atStart := range []string{"refuses", "silent", "banner", "daemonizes", "discover", "stubborn"} {
		upstreams[atStart] = faultyEntry(t, atStart, mark)
	}
	upstreams["silent"] = strings.ReplaceAll(upstreams["silent"], ": 30s", ": 2s")
	d := harness.Start(t, harness.Config{Upstreams: upstreams, Top: "drain: 1s"})
	for _, c := range []struct {
		upstream string
		code     int
		reason   string
		says     string
	}{
		{"missing", 1502, "start_failed", "not found in"},
		{"not-executable", 1502, "start_failed", "permission denied"},
		{"refuses", 1502, "start_failed", "exit status 3 before it answered; its stderr ends with: cannot open the vault: no key"},
		{"silent", 1504, "still_starting", "fetching the index"},
		{"banner", 0, "", ""},
		{"daemonizes", 0, "", ""},
		{"discover", 0, "", ""},
		{"stubborn", 0, "", ""},
	} {
		t.Run(c.upstream, func(t *testing.T) {
			if c.upstream == "discover" { // as a modern agent asks, which then goes on as a legacy one
				body, fields := harness.Modern("7", "tools/list")
				a := harness.NewAgent(t, d.URL(""))
				if r := a.Must(http.MethodPost, "/mcp/discover", body, fields...); r.Status != http.StatusNotFound || !strings.Contains(r.Body, "-32601") {
					t.Errorf("a modern request: %d %s", r.Status, r.Body)
				}
			}
			s, r := initialize(t, d.URL(""), c.upstream)
			t.Logf("after %v: %s", r.Took.Round(time.Millisecond), r.Body)
			if c.code == 0 {
				s.works(false)
				return
			}
			harness.CheckFailure(t, r.RPC(t), `"first"`, c.upstream, c.code, c.reason, "no")
			if !strings.Contains(r.Body, c.says) {
				t.Errorf("it does not say %q", c.says)
			}
		})
	}
	endsClean(t, d, mark)
}
