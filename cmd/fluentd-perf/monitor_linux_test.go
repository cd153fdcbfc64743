package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/monitor"
)

// pseudoTerminal is a terminal whose other end is the test's: what the program shows is collected.
type pseudoTerminal struct {
	t      *testing.T
	own    *os.File // the test's end
	theirs *os.File

	mu    sync.Mutex // guards shown
	shown bytes.Buffer
}

func newTerminal(t *testing.T, rows, columns uint16) *pseudoTerminal {
	t.Helper()
	p := &pseudoTerminal{t: t}
	p.own, p.theirs = openTerminal(t, rows, columns)
	var reading sync.WaitGroup
	reading.Go(p.read)
	t.Cleanup(func() {
		p.theirs.Close() // the last one: reading ends
		reading.Wait()
		p.own.Close()
	})
	return p
}

// openTerminal opens both ends of a new terminal.
func openTerminal(t *testing.T, rows, columns uint16) (own, theirs *os.File) {
	t.Helper()
	own, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(own.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
	}
	if err != nil {
		t.Fatal(err)
	}
	if theirs, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	return own, theirs
}

func (p *pseudoTerminal) read() {
	buffer := make([]byte, 4096)
	for {
		n, err := p.own.Read(buffer)
		p.mu.Lock()
		p.shown.Write(buffer[:n])
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (p *pseudoTerminal) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.shown.String()
}

// settings are how the terminal treats what is typed.
func (p *pseudoTerminal) settings() unix.Termios {
	p.t.Helper()
	settings, err := unix.IoctlGetTermios(int(p.theirs.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatal(err)
	}
	return *settings
}

// startMonitor starts a daemon, and monitor in the terminal until it shows the daemon.
func startMonitor(t *testing.T, terminal *pseudoTerminal, env ...string) *program {
	t.Helper()
	serve := newServe(t, "http://127.0.0.1:1/mcp")
	serve.startServe()
	socket := filepath.Join(serve.cmd.Args[len(serve.cmd.Args)-1], "admin.sock")
	m := newProgram(t, "monitor", "--socket", socket, "--interval", "100ms")
	m.cmd.Env = append(m.cmd.Env, append([]string{"TERM=xterm-256color", "LC_ALL=C.UTF-8"}, env...)...)
	m.cmd.Stdin, m.cmd.Stdout, m.cmd.Stderr = terminal.theirs, terminal.theirs, terminal.theirs
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	m.start()
	m.awaits("the upstream is shown", func() bool { return strings.Contains(terminal.text(), "UPSTREAM") })
	return m
}

// leftAltScreen reports whether the last thing that the terminal was told of its second screen is to leave it, and of its cursor to
// show it.
func leftAltScreen(text string) bool {
	return strings.LastIndex(text, "\x1b[?1049l") > strings.LastIndex(text, "\x1b[?1049h") &&
		strings.LastIndex(text, "\x1b[?25h") > strings.LastIndex(text, "\x1b[?25l")
}

// TestMonitorInATerminal: monitor takes the terminal over, answers keys and a change of size, and leaves it as it was, whatever ends it.
func TestMonitorInATerminal(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(p *program, terminal *pseudoTerminal){
		"q":       func(_ *program, terminal *pseudoTerminal) { terminal.types("q") },
		"ctrl+c":  func(_ *program, terminal *pseudoTerminal) { terminal.types("\x03") },
		"SIGTERM": func(p *program, _ *pseudoTerminal) { p.signal(syscall.SIGTERM) },
		"SIGHUP":  func(p *program, _ *pseudoTerminal) { p.signal(syscall.SIGHUP) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			terminal := newTerminal(t, 24, 80)
			before := terminal.settings()
			m := startMonitor(t, terminal)
			if terminal.settings() == before || leftAltScreen(terminal.text()) {
				t.Error("the terminal was not taken over")
			}
			if name == "q" {
				terminal.uses(m)
			}
			end(m, terminal)
			<-m.ended
			if code := m.cmd.ProcessState.ExitCode(); code != 0 {
				t.Errorf("exit code %d: %s", code, terminal.text())
			}
			m.ended = make(chan struct{}) // awaits would take it for a fault
			m.awaits("the terminal is as before", func() bool { return leftAltScreen(terminal.text()) && terminal.settings() == before })
			close(m.ended)
		})
	}
}

// types is what a person types.
func (p *pseudoTerminal) types(keys string) {
	p.t.Helper()
	if _, err := p.own.WriteString(keys); err != nil {
		p.t.Fatal(err)
	}
}

// uses presses keys and changes the terminal's size.
func (p *pseudoTerminal) uses(m *program) {
	p.t.Helper()
	p.types("?")
	m.awaits("the help is shown", func() bool { return strings.Contains(p.text(), "any key goes back") })
	p.types("?\r")
	m.awaits("the upstream is open", func() bool { return strings.Contains(p.text(), "ENDPOINT") })
	p.types("\x1b")
	if err := unix.IoctlSetWinsize(int(p.own.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 60, Col: 200}); err != nil {
		p.t.Fatal(err)
	}
	m.awaits("the wide view is shown", func() bool { return strings.Contains(p.text(), "COALESCED/S") && colour.MatchString(p.text()) })
}

// TestMonitorResumed: after it was stopped, meanwhile others may have used the terminal, all of the screen is drawn anew.
func TestMonitorResumed(t *testing.T) {
	t.Parallel()
	terminal := newTerminal(t, 24, 80)
	m := startMonitor(t, terminal)
	m.signal(syscall.SIGSTOP)
	m.awaits("it has stopped", func() bool {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(m.cmd.Process.Pid) + "/stat")
		return err == nil && strings.Contains(string(stat), ") T ")
	})
	terminal.mu.Lock()
	terminal.shown.Reset()
	terminal.mu.Unlock()
	m.signal(syscall.SIGCONT)
	m.awaits("all is drawn", func() bool {
		return strings.Contains(terminal.text(), "UPSTREAM") && strings.Contains(terminal.text(), "q quit")
	})
	terminal.types("\x1a") // nobody would resume the leader of a session
	m.awaits("why it is not suspended", func() bool { return strings.Contains(terminal.text(), "not suspended") })
	terminal.types("q")
	<-m.ended
}

// colour is a sequence that sets one.
var colour = regexp.MustCompile("\x1b\\[([0-9;]*;)?(3[0-8]|9[0-7])(;[0-9;]*)?m")

// TestMonitorWithoutColours: NO_COLOR leaves them out, and a terminal that cannot move its cursor gets lines.
func TestMonitorWithoutColours(t *testing.T) {
	t.Parallel()
	terminal := newTerminal(t, 24, 120)
	m := startMonitor(t, terminal, "NO_COLOR=1")
	m.awaits("sparklines are shown", func() bool { return strings.Count(terminal.text(), "▁") > 1 })
	if found := colour.FindString(terminal.text()); found != "" {
		t.Errorf("a colour: %q", found)
	}
	terminal.types("q")
	<-m.ended

	dumb := newTerminal(t, 24, 80)
	serve := newServe(t, "http://127.0.0.1:1/mcp")
	serve.startServe()
	m = newProgram(t, "monitor", "--socket", filepath.Join(serve.cmd.Args[len(serve.cmd.Args)-1], "admin.sock"), "--interval", "100ms", "--duration", "200ms")
	m.cmd.Env = append(m.cmd.Env, "TERM=dumb")
	m.cmd.Stdin, m.cmd.Stdout, m.cmd.Stderr = dumb.theirs, dumb.theirs, dumb.theirs
	m.start()
	<-m.ended
	lines := func() int { return strings.Count(dumb.text(), " req/s ") }
	for late := time.Now().Add(programWait); lines() < 2 && time.Now().Before(late); { // the terminal is read beside
		<-time.After(10 * time.Millisecond)
	}
	if text := dumb.text(); lines() != 2 || strings.Contains(text, "\x1b") {
		t.Errorf("%q", text)
	}
}

// TestMonitorWithoutSIGHUP: monitor ends when its terminal goes away also where nobody tells it.
func TestMonitorWithoutSIGHUP(t *testing.T) {
	t.Parallel()
	own, theirs := openTerminal(t, 24, 80)
	serve := newServe(t, "http://127.0.0.1:1/mcp")
	serve.startServe()
	m := newProgram(t, "monitor", "--socket", filepath.Join(serve.cmd.Args[len(serve.cmd.Args)-1], "admin.sock"), "--interval", "100ms")
	m.cmd.Env = append(m.cmd.Env, "TERM=xterm-256color")
	m.cmd.Stdin, m.cmd.Stdout, m.cmd.Stderr = theirs, theirs, theirs
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // without a terminal that is its own
	m.start()
	theirs.Close()
	if _, err := own.Read(make([]byte, 100)); err != nil { // it shows something
		t.Fatal(err)
	}
	own.Close()
	select {
	case <-m.ended:
	case <-time.After(programWait):
		t.Error("it goes on without a terminal")
	}
}

// TestRecordingIntoAStalledPipe: that nobody reads the lines does not hold up the recording.
func TestRecordingIntoAStalledPipe(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	size, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, 4096)
	if err == nil {
		_, err = w.Write(make([]byte, size))
	}
	if err != nil {
		t.Fatal(err)
	}
	serve := newServe(t, "http://127.0.0.1:1/mcp")
	serve.startServe()
	file := filepath.Join(t.TempDir(), "metrics.json")
	m := newProgram(t, "monitor", "--socket", filepath.Join(serve.cmd.Args[len(serve.cmd.Args)-1], "admin.sock"), "--interval", "100ms", "--duration", "200ms", "--output", file)
	m.cmd.Stdout = w
	m.start()
	w.Close()
	<-m.ended
	if made, err := readFile(file, monitor.ReadRecording); err != nil || len(made.Samples) < 2 {
		t.Errorf("%+v, %v", made, err)
	}
}

// TestMonitorOutlivesItsTerminal: where nohup(1) had SIGHUP ignored, a terminal that closes does not end it.
func TestMonitorOutlivesItsTerminal(t *testing.T) {
	t.Parallel()
	serve := newServe(t, "http://127.0.0.1:1/mcp")
	serve.startServe()
	out, err := os.Create(filepath.Join(t.TempDir(), "nohup.out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	lines := func() int {
		text, err := os.ReadFile(out.Name())
		if err != nil {
			t.Error(err)
		}
		return bytes.Count(text, []byte("req/s"))
	}
	m := newProgram(t, "-c", `trap "" HUP; exec "$0" "$@"`, os.Args[0], "monitor", "--socket", serve.socket, "--interval", "100ms")
	m.cmd.Path, m.cmd.Stdout = "/bin/sh", out
	m.start()
	m.awaits("a line", func() bool { return lines() > 0 })
	m.signal(syscall.SIGHUP)
	before := lines()
	m.awaits("lines after that", func() bool { return lines() > before+2 })
	m.endsBy(syscall.SIGTERM)
}

// TestRecordingIntoStdout: a pipe that a recording is written into gets nothing else, and a file of one is nobody else's to read.
func TestRecordingIntoStdout(t *testing.T) {
	t.Parallel()
	serve := newServe(t, "http://127.0.0.1:1/mcp")
	serve.startServe()
	file := filepath.Join(t.TempDir(), "metrics.json")
	for _, output := range []string{"/dev/stdout", file} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		m := newProgram(t, "monitor", "--socket", serve.socket, "--interval", "100ms", "--duration", "300ms", "--output", output)
		m.cmd.Stdout = w
		m.start()
		w.Close()
		var from io.Reader = r
		if output == file {
			if lines, err := io.ReadAll(r); err != nil || !bytes.Contains(lines, []byte("req/s")) {
				t.Errorf("%s, %v", lines, err)
			}
			m.awaitsEnd()
			text, err := os.ReadFile(file)
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%v, %v", info, err)
			}
			if from = bytes.NewReader(text); err != nil {
				t.Error(err)
			}
		}
		if made, err := monitor.ReadRecording(from); err != nil || len(made.Samples) < 2 {
			t.Errorf("%s: %+v, %v", output, made, err)
		}
		m.awaitsEnd()
	}
}

// TestWriteRecording: a pipe gets a recording, a file has nothing of what was in it before, and that there is no room is an error.
func TestWriteRecording(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	file, err := os.Create(filepath.Join(t.TempDir(), "metrics.json"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteAt(bytes.Repeat([]byte("before"), 2000), 0); err != nil {
		t.Fatal(err)
	}
	made := &monitor.Recording{Samples: []api.Sample{{PID: 77}}}
	if err := errors.Join(writeRecording(w, made), w.Close(), writeRecording(file, made)); err != nil {
		t.Fatal(err)
	}
	for from, in := range map[string]io.Reader{"a pipe": r, "a file": io.NewSectionReader(file, 0, 1<<20)} {
		if back, err := monitor.ReadRecording(in); err != nil || back.Samples[0].PID != 77 {
			t.Errorf("%s: %v", from, err)
		}
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	if err := writeRecording(full, made); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%v", err)
	}
}
