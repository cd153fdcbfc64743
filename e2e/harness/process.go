package harness

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Process is a child of a test, in a process group of its own. It is ended with the test.
type Process struct {
	name string
	Cmd  *exec.Cmd
	Out  *Output       // what it wrote to stdout and stderr
	Done chan struct{} // closed when it has ended
	err  error         // why it ended; read after done
}

// StartProcess runs a program until the test ends, or until it is stopped.
func StartProcess(t testing.TB, env []string, name string, args ...string) *Process {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = ChildAttributes()
	return StartCommand(t, cmd)
}

// StartCommand is start for a command that the caller made. Its attributes are ChildAttributes, changed or not.
func StartCommand(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	p := &Process{name: cmd.Path, Cmd: cmd, Out: newOutput(), Done: make(chan struct{})}
	p.Cmd.Stdout, p.Cmd.Stderr = p.Out, p.Out
	if err := p.Cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", p.name, err)
	}
	go func() {
		p.err = p.Cmd.Wait()
		p.Out.end()
		close(p.Done)
	}()
	t.Cleanup(func() {
		p.Stop(t, syscall.SIGKILL)
		if t.Failed() {
			t.Logf("output of %s:\n%s", p.Cmd.Args, Tail(p.Out.String()))
		}
	})
	return p
}

// Stop ends the process group by a signal, and by SIGKILL if it takes longer than MaxWait, and waits for the end.
func (p *Process) Stop(t testing.TB, signal syscall.Signal) {
	t.Helper()
	pid := p.Cmd.Process.Pid
	select {
	case <-p.Done:
		// The number, and that of the group, may be a stranger's by now: numbers come round within minutes where tests start many
		// processes. Where no process has it, the group is what this one left behind.
		if syscall.Kill(pid, 0) == syscall.ESRCH {
			_ = syscall.Kill(-pid, signal)
		}
		return
	default:
	}
	_ = syscall.Kill(-pid, signal)
	select {
	case <-p.Done:
	case <-time.After(MaxWait):
		t.Errorf("%s did not end within %v of %v", p.name, MaxWait, signal)
		_ = syscall.Kill(-p.Cmd.Process.Pid, syscall.SIGKILL)
		<-p.Done
	}
}

// Tail returns the end of a long text.
func Tail(text string) string {
	const most = 2000
	if len(text) <= most {
		return text
	}
	return "... " + text[len(text)-most:]
}

// Announced waits until the process has printed something that matches the pattern and returns the first group.
func (p *Process) Announced(t testing.TB, pattern string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), MaxWait)
	defer cancel()
	found, err := p.Out.Find(ctx, regexp.MustCompile(pattern))
	if err != nil {
		t.Fatalf("%s has not printed %q: %v\n%s", p.name, pattern, err, p.Out)
	}
	return found
}

// Output collects what a process prints and lets others wait for it.
type Output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	ended   bool
	changed chan struct{} // closed and replaced at every change
}

func newOutput() *Output { return &Output{changed: make(chan struct{})} }

// Write implements io.Writer.
func (o *Output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(b)
	o.wakeLocked()
	return len(b), nil
}

func (o *Output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	o.wakeLocked()
}

func (o *Output) wakeLocked() {
	close(o.changed)
	o.changed = make(chan struct{})
}

// String returns what has been printed so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// Find waits for something that matches the pattern and returns its first group, or an error when the process has ended
// without, or the context has.
func (o *Output) Find(ctx context.Context, pattern *regexp.Regexp) (string, error) {
	for {
		o.mu.Lock()
		match, ended, changed := pattern.FindSubmatch(o.text.Bytes()), o.ended, o.changed
		o.mu.Unlock()
		switch {
		case match != nil:
			return string(match[1]), nil
		case ended:
			return "", fmt.Errorf("it has ended")
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// startOnPort starts a program that must be told its port and waits until it takes connections. The port is one that was
// free a moment ago, outside the range from which the kernel takes ports for outgoing connections; if somebody else took
// it meanwhile, the program ends at once and another one is tried.
func startOnPort(t testing.TB, env []string, command func(port string) []string) (*Process, string) {
	t.Helper()
	for range 5 {
		port := FreePort(t)
		args := command(port)
		p := StartProcess(t, env, args[0], args[1:]...)
		if p.Accepts("127.0.0.1:" + port) {
			return p, port
		}
		t.Logf("%v ended: %v\n%s", args, p.err, p.Out)
	}
	t.Fatal("no start on five ports")
	return nil, ""
}

// FreePort returns a port that nobody listens on just now, outside the range from which the kernel takes ports for outgoing
// connections. Until the test ends no other test is given it, of this process or of another one.
func FreePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := fmt.Sprint(20000 + rand.IntN(12000))
		giveBack, ok := takePort(port)
		if !ok {
			continue
		}
		listener, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			giveBack()
			continue
		}
		t.Cleanup(giveBack)
		listener.Close()
		return port
	}
	t.Fatal("no free port")
	return ""
}

// takePort takes a port for a test, if no other test has it. What says so is the name of a socket in Linux's abstract namespace, which
// goes with the process.
func takePort(port string) (giveBack func(), ok bool) {
	if runtime.GOOS != "linux" {
		return func() {}, true
	}
	held, err := net.Listen("unix", "@fluentd-perf-test-port-"+port)
	if err != nil {
		return nil, false
	}
	return func() { _ = held.Close() }, true // nobody connects to it
}

// Accepts reports whether the process takes connections at addr before it ends.
func (p *Process) Accepts(addr string) bool {
	deadline := time.NewTimer(MaxWait)
	defer deadline.Stop()
	for {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			conn.Close()
			return true
		}
		select {
		case <-p.Done:
			return false
		case <-deadline.C:
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
}
