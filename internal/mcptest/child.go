package mcptest

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// childEnv says to a test binary which server it is to be.
const childEnv = "MCPTEST_CHILD"

// RunChild runs the server that the environment names, if this process was started by StartChild, and does not return then. Else it
// prepares what StartChild starts. TestMain calls it first.
func RunChild(servers map[string]func()) {
	name, ok := os.LookupEnv(childEnv)
	if !ok {
		if _, err := PlainBinary(); err != nil {
			panic(err)
		}
		return
	}
	run, ok := servers[name]
	if !ok {
		os.Exit(127)
	}
	run()
	os.Exit(0)
}

// Child is a running child. It is a stdio.Process.
type Child struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.ReadCloser
	done   chan struct{}
	exit   string

	mu     sync.Mutex // guards stderr
	stderr []string
}

// StartChild starts the test binary again, without the race detector, as the server of that name and the leader of a group of its own.
func StartChild(name string) (*Child, error) {
	binary, err := PlainBinary()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(binary)
	cmd.Env = append(os.Environ(), childEnv+"="+name)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdin, err1 := cmd.StdinPipe()
	out, in, err2 := os.Pipe() // not StdoutPipe: Wait closes that one
	stderr, err3 := cmd.StderrPipe()
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	cmd.Stdout = in
	err = cmd.Start()
	_ = in.Close() // the child has it
	if err != nil {
		_ = out.Close()
		return nil, err
	}
	c := &Child{cmd: cmd, stdin: stdin, stdout: out, done: make(chan struct{})}
	var drained sync.WaitGroup
	drained.Go(func() { c.drain(stderr) })
	go func() {
		drained.Wait()
		err := cmd.Wait()
		c.exit = "exit status 0"
		if err != nil {
			c.exit = err.Error()
		}
		close(c.done)
	}()
	return c, nil
}

// drain keeps the last lines of stderr.
func (c *Child) drain(stderr io.Reader) {
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		c.mu.Lock()
		c.stderr = append(c.stderr[max(len(c.stderr)-19, 0):], lines.Text())
		c.mu.Unlock()
	}
}

// Stdin returns the child's standard input.
func (c *Child) Stdin() io.WriteCloser { return c.stdin }

// Stdout returns the child's standard output.
func (c *Child) Stdout() io.ReadCloser { return c.stdout }

// Done is closed when the child has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Gone is closed with Done: a child that leaves its group is nobody's here.
func (c *Child) Gone() <-chan struct{} { return c.done }

// Exit says how the child ended.
func (c *Child) Exit() string { return c.exit }

// Killed reports whether somebody's signal ended the child.
func (c *Child) Killed() bool { return killed(c.exit) }

// Stderr returns the last lines of its standard error.
func (c *Child) Stderr() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.stderr...)
}

// Stop ends the child and its group, at once.
func (c *Child) Stop() { c.Kill() }

// Kill kills the child and its group.
func (c *Child) Kill() {
	select {
	case <-c.done: // its number may be another's by now
	default:
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) // one that is just ending is fine
	}
}
