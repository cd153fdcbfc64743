package e2e

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait of a test for something that takes milliseconds on an idle machine.
const patience = 30 * time.Second

// process is a child of a test, in a process group of its own. It is ended with the test.
type process struct {
	name string
	cmd  *exec.Cmd
	out  *output       // what it wrote to stdout and stderr
	done chan struct{} // closed when it has ended
	err  error         // why it ended; read after done
}

// start runs a program until the test ends, or until it is stopped.
func start(t testing.TB, env []string, name string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = childAttributes()
	return startCommand(t, cmd)
}

// startCommand is start for a command that the caller made. Its attributes are childAttributes, changed or not.
func startCommand(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{name: cmd.Path, cmd: cmd, out: newOutput(), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("starting %s: %v", p.name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		p.out.end()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.stop(t, syscall.SIGKILL)
		if t.Failed() {
			t.Logf("output of %s:\n%s", p.cmd.Args, tail(p.out.String()))
		}
	})
	return p
}

// stop ends the process group by a signal, and by SIGKILL if it takes longer than patience, and waits for the end.
func (p *process) stop(t testing.TB, signal syscall.Signal) {
	t.Helper()
	_ = syscall.Kill(-p.cmd.Process.Pid, signal)
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Errorf("%s did not end within %v of %v", p.name, patience, signal)
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.done
	}
}

// tail returns the end of a long text.
func tail(text string) string {
	const most = 2000
	if len(text) <= most {
		return text
	}
	return "... " + text[len(text)-most:]
}

// announced waits until the process has printed something that matches the pattern and returns the first group.
func (p *process) announced(t testing.TB, pattern string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	found, err := p.out.find(ctx, regexp.MustCompile(pattern))
	if err != nil {
		t.Fatalf("%s has not printed %q: %v\n%s", p.name, pattern, err, p.out)
	}
	return found
}

// output collects what a process prints and lets others wait for it.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	ended   bool
	changed chan struct{} // closed and replaced at every change
}

func newOutput() *output { return &output{changed: make(chan struct{})} }

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(b)
	o.wakeLocked()
	return len(b), nil
}

func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.ended = true
	o.wakeLocked()
}

func (o *output) wakeLocked() {
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func (o *output) find(ctx context.Context, pattern *regexp.Regexp) (string, error) {
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
func startOnPort(t testing.TB, env []string, command func(port string) []string) (*process, string) {
	t.Helper()
	for range 5 {
		port := freePort(t)
		args := command(port)
		p := start(t, env, args[0], args[1:]...)
		if p.accepts("127.0.0.1:" + port) {
			return p, port
		}
		t.Logf("%v ended: %v\n%s", args, p.err, p.out)
	}
	t.Fatal("no start on five ports")
	return nil, ""
}

func freePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		port := fmt.Sprint(20000 + rand.IntN(12000))
		listener, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			continue
		}
		listener.Close()
		return port
	}
	t.Fatal("no free port")
	return ""
}

// accepts reports whether the process takes connections at addr before it ends.
func (p *process) accepts(addr string) bool {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			conn.Close()
			return true
		}
		select {
		case <-p.done:
			return false
		case <-deadline.C:
			return false
		case <-time.After(10 * time.Millisecond):
		}
	}
}
