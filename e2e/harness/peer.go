package harness

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Peer is a process of e2e/peer: the server of a load test, or many agents.
type Peer struct {
	t     *testing.T
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines chan string // what it says; closed when it has ended
}

// BuildPeer builds the peers once, without the race detector: they are equipment.
var BuildPeer = sync.OnceValues(func() (string, error) { return build("fluentd-perf-peer", "./e2e/peer") })

// StartPeer starts a peer. When the test ends its standard input is closed, at which it ends.
func StartPeer(t *testing.T, args ...string) *Peer {
	t.Helper()
	binary, err := BuildPeer()
	if err != nil {
		t.Fatal(err)
	}
	p := &Peer{t: t, cmd: exec.Command(binary, args...), lines: make(chan string, 16)}
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = ChildAttributes()
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

// Send gives the peer a command.
func (p *Peer) Send(format string, args ...any) {
	p.t.Helper()
	if _, err := fmt.Fprintf(p.stdin, format+"\n", args...); err != nil {
		p.t.Fatal(err)
	}
}

// Receive waits for the next thing that the peer says.
func (p *Peer) Receive(within time.Duration, v any) {
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
func (p *Peer) end() {
	_ = p.stdin.Close() // it may have ended by itself
	hurry := time.AfterFunc(MaxWait, func() {
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

// StartUpstream starts the server of a load test and returns its URL.
func StartUpstream(t *testing.T) (*Peer, string) {
	t.Helper()
	p := StartPeer(t, "upstream")
	var at struct{ URL string }
	p.Receive(MaxWait, &at)
	return p, at.URL
}
