package stdio

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fluentd-perf/e2e/harness"
)

// everyState is a daemon with a server in each state in which daemon and guard can be killed.
type everyState struct {
	*harness.Daemon
	at     harness.Folders
	config harness.Config
	mark   string
	notes  string // folder

	idle  *rawSession                  // its process has state and nothing to do
	calls map[string]inFlight          // by tool
	start chan harness.BackgroundReply // of a server that does not answer initialize
}

// inFlight is a call that has no answer yet.
type inFlight struct {
	session *rawSession
	answer  chan harness.BackgroundReply
}

// hungTools are the calls in flight.
var hungTools = []string{"hangs", "spins", "half", "gushes"}

// newEveryState starts a daemon and brings servers into all states: idle, in a call, starting, and on their way down. Some have
// processes that have left their group.
func newEveryState(t *testing.T) *everyState {
	t.Helper()
	e := &everyState{at: harness.NewFolders(t), mark: newMark(t), notes: t.TempDir(), calls: map[string]inFlight{}}
	e.config = harness.Config{
		Upstreams: map[string]string{}, Top: "drain: 1s", Args: []string{"--listen", "127.0.0.1:" + harness.FreePort(t)},
	}.In(e.at)
	for _, name := range append([]string{"idle", "silent", "daemonizes", "stubborn"}, hungTools...) {
		entry := notingEntry(t, name, e.mark, e.notes)
		e.config.Upstreams[name] = strings.Replace(entry, faultTimeouts, "breaker: off", 1)
	}
	e.Daemon = harness.Start(t, e.config)
	e.idle = begin(t, e.origin(), "idle")
	e.idle.works(false)
	begin(t, e.origin(), "daemonizes").works(false)
	e.start = background(t, e.origin(), "/mcp/silent", harness.InitializeRequest)
	down, sessions := begin(t, e.origin(), "stubborn"), map[string]*rawSession{}
	for _, tool := range hungTools { // before any call: two of them take all the CPU time that there is
		sessions[tool] = begin(t, e.origin(), tool)
	}
	for tool, s := range sessions {
		e.calls[tool] = inFlight{s, background(t, e.origin(), s.path, toolCall(tool), "Mcp-Session-Id: "+s.session)}
	}
	down.Must(http.MethodDelete, down.path, "", "Mcp-Session-Id: "+down.session)
	for _, note := range append([]string{"silent", "eof"}, hungTools...) {
		harness.Eventually(t, note, func() bool { _, err := os.Stat(filepath.Join(e.notes, note)); return err == nil })
	}
	return e
}

// origin is where the daemon listens, and the next one.
func (e *everyState) origin() string { return "http://" + e.config.Args[1] }

// background makes a call in the background.
func background(t *testing.T, origin, path, body string, fields ...string) chan harness.BackgroundReply {
	t.Helper()
	answer, a := make(chan harness.BackgroundReply, 1), harness.NewAgent(t, origin)
	go func() {
		r, err := a.Send(http.MethodPost, path, body, fields...)
		answer <- harness.BackgroundReply{Reply: r, Err: err}
	}()
	return answer
}

// TestDaemonKilledInEachState: whatever its servers do, a second after a kill of the daemon nothing is left of them nor of its guard,
// and sessions go on with the next one.
func TestDaemonKilledInEachState(t *testing.T) {
	t.Parallel()
	e := newEveryState(t)
	guard := guardOf(t, e.Daemon)
	harness.Within(t, time.Second, "the sessions' file", func() bool {
		text, _ := os.ReadFile(filepath.Join(e.at.State, sessionsFile))
		return strings.Count(string(text), `"State":true`) == len(hungTools)+2 // and the idle one, and the one in the background
	})
	e.Signal(syscall.SIGKILL)
	killed := time.Now()
	wantNone(t, e.mark, killed)
	harness.Within(t, time.Second, "the end of the guard", func() bool { return gone(guard) })
	<-e.Done
	for tool, c := range e.calls {
		if r := <-c.answer; r.Err == nil {
			t.Errorf("%s was answered by a daemon that was killed: %s", tool, r.Body)
		}
	}
	<-e.start
	e.Daemon = harness.Start(t, e.config)
	e.idle.works(true)
	for _, c := range e.calls {
		c.session.works(true)
	}
	endsClean(t, e.Daemon, e.mark)
}

// TestGuardKilledInEachState: whatever its servers do, a second after a kill of the guard nothing is left of them, who waits gets an
// error, and the next call has another guard's process.
func TestGuardKilledInEachState(t *testing.T) {
	t.Parallel()
	e := newEveryState(t)
	old := marked(e.mark)
	guard := guardOf(t, e.Daemon)
	if err := syscall.Kill(guard, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	harness.Within(t, time.Second, "the end of all processes", func() bool {
		for _, pid := range old {
			if state := stateOf(pid); state != "" && state != "Z" { // whose init does not reap is none of the daemon's
				return false
			}
		}
		return true
	})
	for tool, c := range e.calls {
		r := <-c.answer
		if r.Err != nil {
			t.Fatal(tool, r.Err)
		}
		harness.CheckFailure(t, r.RPC(t), "7", tool, 1502, "broke_off", "unknown")
		c.session.works(true)
	}
	r := <-e.start
	harness.CheckFailure(t, r.RPC(t), `"first"`, "silent", 1502, "start_failed", "no")
	t.Logf("a start under way: %s", r.Body)
	e.idle.works(true)
	if other := guardOf(t, e.Daemon); other == guard {
		t.Error("it has the same guard")
	}
	endsClean(t, e.Daemon, e.mark)
}

// TestInterrupted: Ctrl-C in the terminal of serve ends it and its servers in order, those too that hang.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	mark, notes := newMark(t), t.TempDir()
	terminal, line := newTerminal(t)
	port, at := harness.FreePort(t), harness.NewFolders(t)
	config := harness.Config{Upstreams: map[string]string{"s": notingEntry(t, "", mark, notes)}, Top: "drain: 1s"}
	args := append([]string{"serve", "--listen", "127.0.0.1:" + port, "--config", config.File(t)}, at.Args()...)
	p := startInTerminal(t, line, append(at.Env(), "GORACE=atexit_sleep_ms=0"), args...)
	if !p.Accepts("127.0.0.1:" + port) {
		t.Fatal(p.Out)
	}
	origin := "http://127.0.0.1:" + port
	begin(t, origin, "s").works(false)
	s := begin(t, origin, "s")
	answer := background(t, origin, s.path, toolCall("half"), "Mcp-Session-Id: "+s.session)
	harness.Eventually(t, "a call", func() bool { _, err := os.Stat(filepath.Join(notes, "half")); return err == nil })
	if _, err := terminal.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	r := <-answer
	harness.CheckFailure(t, r.RPC(t), "7", "s", 1503, "draining", "unknown")
	<-p.Done
	if code := p.Cmd.ProcessState.ExitCode(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	wantNone(t, mark, time.Now())
}

// newTerminal makes a pseudo-terminal: what a person types into, and the line that a program has.
func newTerminal(t *testing.T) (person, line *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here: ", err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	line, err = os.OpenFile(fmt.Sprint("/dev/pts/", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { line.Close() })
	return person, line
}

// startInTerminal starts the program as the foreground of a terminal.
func startInTerminal(t *testing.T, line *os.File, env []string, args ...string) *harness.Process {
	t.Helper()
	cmd := exec.Command(harness.DaemonBinary, args...)
	cmd.Env, cmd.Stdin = append(os.Environ(), env...), line
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
	return harness.StartCommand(t, cmd)
}
