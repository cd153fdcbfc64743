//go:build linux

package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// roleKey names the environment variable that makes this binary one of the processes of a run.
const roleKey = "FLUENTD_PERF_BENCH_ROLE"

// roles are the processes that are this binary run again. Each prints its address, or takes orders on standard input, and
// ends when that is closed.
var roles = map[string]func(args []string) error{
	"upstream": upstreamRole,
	"goproxy":  goproxyRole,
	"load":     loadRole,
	"jsonrpc":  jsonrpcRole,
	"hung":     hungRole,
	"stdio":    stdioRole,
	"tls":      tlsRole,
}

func TestMain(m *testing.M) {
	role, ok := roles[os.Getenv(roleKey)]
	if !ok {
		os.Exit(m.Run())
	}
	if err := role(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, os.Getenv(roleKey)+":", err)
		os.Exit(1)
	}
}

// child is a process of the run.
type child struct {
	b     *testing.B
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Scanner
}

// start starts a process; the benchmark's end ends it. What it logs goes to log.
func start(b *testing.B, cmd *exec.Cmd, log *os.File) *child {
	b.Helper()
	c := &child{b: b, cmd: cmd}
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var err error
	if c.stdin, err = cmd.StdinPipe(); err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	c.lines = bufio.NewScanner(stdout)
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.end)
	return c
}

// startRole starts this binary again, as one of the roles.
func startRole(b *testing.B, role string, args ...string) *child {
	b.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), roleKey+"="+role)
	return start(b, cmd, os.Stderr)
}

// end asks the process to end, and makes it if it does not.
func (c *child) end() {
	_ = c.stdin.Close()
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	hurry := time.AfterFunc(10*time.Second, func() { _ = c.cmd.Process.Kill() })
	defer hurry.Stop()
	for c.lines.Scan() { // Wait may only be called when all was read
	}
	_ = c.cmd.Wait() // how a stopped process ends is no matter here
}

// order sends a line and decodes the answer.
func (c *child) order(answer any, format string, args ...any) {
	c.b.Helper()
	if _, err := fmt.Fprintf(c.stdin, format+"\n", args...); err != nil {
		c.b.Fatal(err)
	}
	c.readAnswer(answer)
}

// readAnswer decodes the next line that the process prints.
func (c *child) readAnswer(answer any) {
	c.b.Helper()
	if !c.lines.Scan() {
		c.b.Fatalf("%v has ended", c.cmd.Args)
	}
	if err := json.Unmarshal(c.lines.Bytes(), answer); err != nil {
		c.b.Fatalf("%v said %q", c.cmd.Args, c.lines.Text())
	}
}

// address reads where the process listens.
func (c *child) address() string {
	c.b.Helper()
	var at struct{ Address string }
	c.readAnswer(&at)
	return at.Address
}

// say prints one message of a role.
func say(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = fmt.Printf("%s\n", line)
	return err
}

// waitForEnd returns when standard input is closed.
func waitForEnd() { _, _ = io.Copy(io.Discard, os.Stdin) }
