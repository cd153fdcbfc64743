package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/daemon"
	"fluentd-perf/internal/demo"
	"fluentd-perf/internal/upstream/stdio/login"
)

// asProgram makes the test binary the program.
const asProgram = "FLUENTD_PERF_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	login.PrintIfAsked()
	if os.Getenv(asProgram) != "" {
		if os.Getenv(finelyProfiled) != "" {
			runtime.MemProfileRate = 4 << 10 // what an idle program has and makes is in its profiles for sure
		}
		os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// finelyProfiled has such a program sample its memory often, which costs.
const finelyProfiled = "FLUENTD_PERF_TEST_FINELY_PROFILED"

// programWait bounds every wait for a program.
const programWait = time.Minute

// program is the program itself, as a process.
type program struct {
	t      *testing.T
	cmd    *exec.Cmd
	socket string // of the daemon's administration
	url    string // of the daemon; "" until startServe
	ended  chan struct{}
}

// newProgram is a program to be started.
func newProgram(t *testing.T, args ...string) *program {
	t.Helper()
	p := &program{t: t, cmd: exec.Command(os.Args[0], args...), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), asProgram+"=1")
	return p
}

// newServe is a daemon before upstream, on a port that the kernel gives it.
func newServe(t *testing.T, upstream string) *program {
	t.Helper()
	run := shortTemp(t)
	p := newProgram(t, "serve", "--listen", "127.0.0.1:0", "--upstream", "up="+upstream, "--state-dir", t.TempDir(), "--runtime-dir", run)
	p.socket = filepath.Join(run, daemon.SocketName)
	return p
}

// start starts the program, until the end of the test.
func (p *program) start() {
	p.t.Helper()
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	p.t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
	})
}

// startServe starts the daemon and waits until it is ready.
func (p *program) startServe() {
	p.t.Helper()
	p.start()
	p.awaits("the daemon is ready", func() bool {
		var status api.Status
		if err := api.Call(p.t.Context(), p.socket, api.CallStatus, api.StatusParams{}, &status); err != nil {
			return false
		}
		p.url = "http://" + status.Addresses[0]
		resp, err := programClient.Get(p.url + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// awaits waits until a condition holds.
func (p *program) awaits(what string, holds func() bool) {
	p.t.Helper()
	late := time.After(programWait)
	for tick := time.NewTicker(10 * time.Millisecond); !holds(); {
		select {
		case <-tick.C:
		case <-p.ended:
			p.t.Fatalf("%s: the program has ended with %v", what, p.cmd.ProcessState)
		case <-late:
			p.t.Fatalf("%s: not within %v", what, programWait)
		}
	}
}

func (p *program) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// endsBy sends a signal and wants the program to end by itself, with status 0.
func (p *program) endsBy(s os.Signal) {
	p.t.Helper()
	programClient.CloseIdleConnections()
	p.signal(s)
	p.awaitsEnd()
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		p.t.Errorf("after %v: %v", s, p.cmd.ProcessState)
	}
}

func (p *program) awaitsEnd() {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(programWait):
		p.t.Fatalf("it has not ended within %v", programWait)
	}
}

// calls makes n calls, some at a time, and wants each to be answered.
func (p *program) calls(n int) {
	p.t.Helper()
	var next, answered atomic.Int64
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for next.Add(1) <= int64(n) {
				if err := p.call(); err != nil {
					p.t.Error(err)
					return
				}
				answered.Add(1)
			}
		})
	}
	wg.Wait()
	if got := answered.Load(); got != int64(n) {
		p.t.Fatalf("%d of %d calls were answered", got, n)
	}
}

// programClient gives up when the daemon hangs.
var programClient = &http.Client{Timeout: programWait, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}

func (p *program) call() error {
	req, err := http.NewRequest(http.MethodPost, p.url+"/mcp/up", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}`))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json, text/event-stream")
	resp, err := programClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && !strings.Contains(string(body), `"result"`) {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	return err
}

// lost returns what the daemon's metric says of lost lines.
func (p *program) lost() int {
	p.t.Helper()
	return p.metric("fluentd_perf_log_lines_lost_total")
}

// metric returns a figure of the daemon's.
func (p *program) metric(series string) int {
	p.t.Helper()
	resp, err := programClient.Get(p.url + "/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	_, rest, found := strings.Cut(string(body), "\n"+series+" ")
	if err != nil || !found {
		p.t.Fatalf("%v: no %s in\n%s", err, series, body)
	}
	figure, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseFloat(figure, 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return int(n)
}

// answering is a server that answers at once.
func answering(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{"content":[]}}`)
	}))
	t.Cleanup(s.Close)
	t.Cleanup(programClient.CloseIdleConnections)
	return s.URL
}

// fullPipe returns a pipe into which nothing more goes, and how much is in it.
func fullPipe(t *testing.T) (r, w *os.File, filled int) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	if err := w.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		var n int
		n, err = w.Write(bytes.Repeat([]byte("\n"), 1024))
		filled += n
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return r, w, filled
}

// TestLogIsNotRead: stderr is a pipe that nobody empties. All calls are answered, the lines that are lost are counted, the
// log says how many they were when it is read again, and SIGTERM ends the daemon whether that happens or not.
func TestLogIsNotRead(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]bool{"ever": false, "for a while": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, w, filled := fullPipe(t)
			p := newServe(t, answering(t))
			p.cmd.Stderr = w
			p.startServe()
			const calls = 5000
			p.calls(calls)
			if lost := p.lost(); lost == 0 || lost >= calls {
				t.Errorf("%d lines are lost of %d", lost, calls)
			}
			if again {
				w.Close() // the daemon has the other
				readsAgain(t, p, r, filled, calls)
				return
			}
			begun := time.Now()
			p.endsBy(syscall.SIGTERM)
			if took := time.Since(begun); took > 25*time.Second { // the drain of a daemon that waits for somebody takes 30 s
				t.Errorf("it took %v to end", took)
			}
		})
	}
}

// readsAgain reads the log to its end: what had room, the report, and what comes then.
func readsAgain(t *testing.T, p *program, r *os.File, filled, calls int) {
	t.Helper()
	if _, err := io.CopyN(io.Discard, r, int64(filled)); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(r)
	before, after, lost, report := 0, 0, 0, ""
	for ending := false; lines.Scan(); {
		line := lines.Text()
		switch {
		case strings.Contains(line, "log lines were lost"):
			report += line
			lost = p.lost()
			if err := p.call(); err != nil {
				t.Error(err)
			}
		case !strings.Contains(line, "method=tools/call"):
		case report == "":
			before++
		default:
			after++
		}
		if after > 0 && !ending {
			ending = true
			p.signal(syscall.SIGTERM)
		}
	}
	p.awaitsEnd()
	if want := "lines=" + strconv.Itoa(lost); !strings.HasSuffix(report, want) || before+lost != calls || after != 1 {
		t.Errorf("%d lines, %q, want %s; %d after it, want 1", before, report, want, after)
	}
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		t.Error(p.cmd.ProcessState)
	}
}

// TestLogIsGone: the daemon goes on without its log, and ends as it should.
func TestLogIsGone(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		redirect string // what a shell does with stderr, or "": stdout and stderr are a pipe of which so many lines are read
		lines    int
		loses    bool
	}{
		"nobody reads":          {"", 0, true},
		"one line is read":      {"", 1, true},
		"closed":                {"2>&-", 0, false}, // Go opens /dev/null in its place
		"closed, stdout too":    {">&- 2>&-", 0, false},
		"the device is full":    {"2>/dev/full", 0, true},
		"only open for reading": {"2</dev/null", 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newServe(t, answering(t))
			if tt.redirect == "" {
				p.readBy(tt.lines)
			} else {
				p.cmd.Args = append([]string{"sh", "-c", `exec "$0" "$@" ` + tt.redirect, p.cmd.Path}, p.cmd.Args[1:]...)
				p.cmd.Path = "/bin/sh"
			}
			p.startServe()
			p.calls(200)
			if lost := p.lost(); (lost > 0) != tt.loses {
				t.Errorf("%d lines are lost", lost)
			}
			p.endsBy(syscall.SIGTERM)
		})
	}
}

// readBy makes stdout and stderr a pipe of which so many lines are read before it is closed.
func (p *program) readBy(lines int) {
	p.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	p.t.Cleanup(func() { w.Close() })
	go func() {
		defer r.Close()
		s := bufio.NewScanner(r)
		for range lines {
			s.Scan()
		}
	}()
}

// TestSIGHUP: it ends nothing, a call in flight is answered, and the log says that nothing is loaded again.
func TestSIGHUP(t *testing.T) {
	called, answer := make(chan struct{}), make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(called)
		select {
		case <-answer:
		case <-r.Context().Done():
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
	}))
	defer s.Close()
	defer programClient.CloseIdleConnections()
	p := newServe(t, s.URL)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p.cmd.Stderr = w
	p.startServe()
	w.Close()
	lines := bufio.NewScanner(r)
	answered := make(chan error, 1)
	go func() { answered <- p.call() }()
	<-called
	for range 2 {
		p.signal(syscall.SIGHUP)
		for lines.Scan() && !strings.Contains(lines.Text(), "SIGHUP") {
		}
		if !strings.Contains(lines.Text(), "restart the daemon") {
			t.Errorf("the log says %q", lines.Text())
		}
	}
	close(answer)
	if err := <-answered; err != nil {
		t.Error(err)
	}
	go io.Copy(io.Discard, r)
	p.endsBy(syscall.SIGTERM)
}

// TestLogOfADrain: in JSON, too, a duration is one that a person can read, with its unit.
func TestLogOfADrain(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		p := newServe(t, "http://127.0.0.1:9/mcp")
		p.cmd.Args = append(p.cmd.Args, "--log-format", format)
		var log bytes.Buffer
		p.cmd.Stderr = &log
		p.startServe()
		p.endsBy(syscall.SIGTERM)
		if !strings.Contains(log.String(), "for=30s") && !strings.Contains(log.String(), `"for":"30s"`) {
			t.Errorf("%s: it does not say for how long it drains: %s", format, &log)
		}
	}
}

// startDemoProgram starts a demo whose directory is in temp, and waits until it says how to try it.
func startDemoProgram(t *testing.T, temp string) *program {
	t.Helper()
	p := newProgram(t, "demo", "--listen", "127.0.0.1:0")
	p.cmd.Env = append(p.cmd.Env, "TMPDIR="+temp)
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.start()
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.Contains(lines.Text(), "Ctrl-C") {
		if _, url, ok := strings.Cut(lines.Text(), "fluentd-perf at "); ok {
			p.url = strings.TrimSuffix(url, "/mcp/demo")
		}
	}
	if lines.Err() != nil || p.url == "" {
		t.Fatalf("the demo says nothing of use: %v", lines.Err())
	}
	return p
}

// shortTemp returns a directory with a path that is short enough for a socket.
func shortTemp(t *testing.T) string {
	t.Helper()
	temp, err := os.MkdirTemp("", "fp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(temp) })
	return temp
}

// TestDemoEnds: a demo removes its directory, whatever ends it that can be caught.
func TestDemoEnds(t *testing.T) {
	t.Parallel()
	for _, s := range []os.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		t.Run(fmt.Sprint(s), func(t *testing.T) {
			t.Parallel()
			temp := shortTemp(t)
			p := startDemoProgram(t, temp)
			if demos(t, temp) != 1 {
				t.Fatal("the demo has no directory")
			}
			p.endsBy(s)
			if n := demos(t, temp); n != 0 {
				t.Errorf("it left %d", n)
			}
		})
	}
}

// demos returns how many files are in temp.
func demos(t *testing.T, temp string) int {
	t.Helper()
	entries, err := os.ReadDir(temp)
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// TestDemoEndsAtOnce: so it does where a later signal ends it in the middle of its drain.
func TestDemoEndsAtOnce(t *testing.T) {
	temp := shortTemp(t)
	p := startDemoProgram(t, temp)
	go p.callSlow()
	p.awaits("the call is under way", func() bool { return p.metric(`fluentd_perf_in_flight{upstream="demo"}`) == 1 })
	p.signal(syscall.SIGTERM)
	go func() {
		for tick := time.NewTicker(10 * time.Millisecond); p.cmd.Process.Signal(syscall.SIGTERM) == nil; {
			<-tick.C
		}
	}()
	p.awaitsEnd()
	if n := demos(t, temp); n != 0 {
		t.Errorf("it left %d", n)
	}
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGTERM {
		t.Errorf("it ended with %v", p.cmd.ProcessState)
	}
}

// callSlow makes a call of the demo's that takes longer than any test.
func (p *program) callSlow() {
	req, err := http.NewRequest(http.MethodPost, p.url+"/mcp/demo", strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call",
		"params":{"name":"slow","arguments":{"steps":100,"millis":10000},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",
		"io.modelcontextprotocol/clientCapabilities":{}}}}`))
	if err != nil {
		p.t.Error(err)
		return
	}
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "slow",
	} {
		req.Header.Set(name, value)
	}
	if resp, err := programClient.Do(req); err == nil {
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
}

// TestDemoClears: a demo removes what a killed one left, and nothing of one that runs, nor what is none's.
func TestDemoClears(t *testing.T) {
	temp := shortTemp(t)
	other := filepath.Join(temp, demo.DirectoryPrefix+"file")
	target := t.TempDir()
	kept := filepath.Join(target, "kept")
	link := filepath.Join(temp, demo.DirectoryPrefix+"link")
	if err := errors.Join(os.WriteFile(other, nil, 0o600), os.WriteFile(kept, nil, 0o600), os.Symlink(target, link)); err != nil {
		t.Fatal(err)
	}
	killed := startDemoProgram(t, temp)
	running := startDemoProgram(t, temp)
	killed.signal(syscall.SIGKILL)
	killed.awaitsEnd()
	if n := demos(t, temp); n != 4 {
		t.Fatalf("there are %d, want the killed one's, the running one's, and two others", n)
	}
	next := startDemoProgram(t, temp)
	if n := demos(t, temp); n != 4 {
		t.Errorf("there are %d, want those of the two that run, and two others", n)
	}
	running.endsBy(syscall.SIGTERM)
	next.endsBy(syscall.SIGTERM)
	for _, path := range []string{other, link, kept} {
		if _, err := os.Lstat(path); err != nil {
			t.Error(err)
		}
	}
	if n := demos(t, temp); n != 2 {
		t.Errorf("at last there are %d, want 2", n)
	}
}
