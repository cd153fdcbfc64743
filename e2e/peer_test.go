package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// peer is a process of e2e/peer: the server of a load test, or a crowd of agents.
type peer struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string // what it says; closed when it has ended
}

// buildPeer builds the peers once, without the race detector: they are equipment.
var buildPeer = sync.OnceValues(func() (string, error) {
	binary := filepath.Join(cacheBin, "fluentd-perf-peer")
	return binary, run(root, "go", "build", "-o", binary, "./e2e/peer")
})

// startPeer starts a peer. When the test ends its standard input is closed, at which it ends.
func startPeer(t *testing.T, args ...string) *peer {
	t.Helper()
	binary, err := buildPeer()
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, cmd: exec.Command(binary, args...), lines: make(chan string, 16)}
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = childAttributes()
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			p.lines <- lines.Text()
		}
	}()
	t.Cleanup(p.end)
	return p
}

// tell gives the peer a command.
func (p *peer) tell(format string, args ...any) {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.stdin, format+"\n", args...); err != nil {
		p.t.Fatal(err)
	}
}

// hear waits for the next thing that the peer says.
func (p *peer) hear(within time.Duration, v any) {
	p.t.Helper()
	select {
	case line, ok := <-p.lines:
		if !ok {
			p.t.Fatalf("%v has ended", p.cmd.Args)
		}
		if err := json.Unmarshal([]byte(line), v); err != nil {
			p.t.Fatalf("%v said %q", p.cmd.Args, line)
		}
	case <-time.After(within):
		p.t.Fatalf("%v said nothing within %v", p.cmd.Args, within)
	}
}

// end has the peer end, and waits for it.
func (p *peer) end() {
	_ = p.stdin.Close() // it may have ended by itself
	hurry := time.AfterFunc(patience, func() {
		p.t.Errorf("%v did not end", p.cmd.Args)
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	})
	defer hurry.Stop()
	for range p.lines { // Wait may only be called when all was read
	}
	if err := p.cmd.Wait(); err != nil && !p.t.Failed() {
		p.t.Errorf("%v: %v", p.cmd.Args, err)
	}
}

// startUpstream starts the server of a load test and returns its URL.
func startUpstream(t *testing.T) (*peer, string) {
	t.Helper()
	p := startPeer(t, "upstream")
	var at struct{ URL string }
	p.hear(patience, &at)
	return p, at.URL
}
