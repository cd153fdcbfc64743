// Daemons are replaced under load without a lost or repeated call.

package operate

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// runCounter is a server that notes what it runs. Every fourth call it answers only after its agent has answered a request.
type runCounter struct {
	*mcptest.Server

	mu      sync.Mutex
	runs    map[string]int           // by the call's id
	waiting map[string]chan struct{} // calls that wait for their agent, by id
}

func startRunCounter(t *testing.T) *runCounter {
	c := &runCounter{runs: map[string]int{}, waiting: map[string]chan struct{}{}}
	c.Server = mcptest.NewServer(t, c.answer)
	return c
}

func (c *runCounter) answer(x *mcptest.Exchange) {
	if x.Method() == "" {
		c.given(x.ID())
		x.Accept()
		return
	}
	c.mu.Lock()
	c.runs[x.ID()]++
	answered := make(chan struct{})
	c.waiting[x.ID()] = answered
	c.mu.Unlock()
	if !asksBack(x.ID()) {
		<-time.After(2 * time.Millisecond) // what a tool takes
		x.Result(mcptest.ToolResult)
		return
	}
	st := x.Stream()
	st.Event(`{"jsonrpc":"2.0","id":` + x.ID() + `,"method":"elicitation/create","params":{}}`)
	if x.Wait(answered) {
		st.Answer(mcptest.ToolResult)
		st.End()
	}
}

func (c *runCounter) given(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if answered := c.waiting[id]; answered != nil {
		close(answered)
		delete(c.waiting, id)
	}
}

func (c *runCounter) ran(id string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.runs[id]
}

func asksBack(id string) bool { return strings.HasSuffix(id, `0"`) || strings.HasSuffix(id, `4"`) }

// busyAgent is an agent that makes one call after the other.
type busyAgent struct {
	*harness.Agent
	server        *runCounter
	name          int
	calls, unread int
	refused       *atomic.Int64
	answered      *atomic.Int64
	over          <-chan struct{}
}

// run makes calls until over.
func (s *busyAgent) run() {
	for ; ; s.calls++ {
		select {
		case <-s.over:
			return
		default:
		}
		id := fmt.Sprintf(`"%d-%d"`, s.name, s.calls)
		if !s.insist(id, func() error { return s.call(id) }) {
			return
		}
		if n := s.server.ran(id); n != 1 {
			s.T.Errorf("call %s ran %d times", id, n)
		}
		s.answered.Add(1)
	}
}

// insist repeats what found no daemon, or lost its connection before the server received it, and nothing else.
func (s *busyAgent) insist(id string, do func() error) bool {
	for {
		err := do()
		switch {
		case err == nil:
			return true
		case errors.Is(err, syscall.ECONNREFUSED):
			s.refused.Add(1)
			<-time.After(5 * time.Millisecond) // for the next daemon
		case (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) && s.server.ran(id) == 0:
			s.unread++
		default:
			s.T.Errorf("call %s, run %d times: %v", id, s.server.ran(id), err)
			return false
		}
	}
}

// call makes a call, and answers what the server asks in it.
func (s *busyAgent) call(id string) error {
	ctx, cancel := context.WithTimeout(context.Background(), harness.MaxWait)
	defer cancel()
	res, err := s.Open(ctx, http.MethodPost, "/mcp/s", harness.Request(id, "tools/call"))
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if asksBack(id) {
		if err := s.reply(res.Body, id); err != nil {
			return err
		}
	}
	body, err := io.ReadAll(res.Body)
	if err == nil && !strings.Contains(string(body), `"result":`+mcptest.ToolResult) {
		err = fmt.Errorf("got %d %q", res.StatusCode, body)
	}
	return err
}

// reply reads the server's request off a stream and answers it, on another connection.
func (s *busyAgent) reply(stream io.Reader, id string) error {
	var read []byte
	for b := make([]byte, 512); !strings.Contains(string(read), "elicitation/create"); {
		n, err := stream.Read(b)
		if read = append(read, b[:n]...); err != nil {
			return fmt.Errorf("the stream of a call: %q, %v", read, err)
		}
	}
	given := s.insist("none", func() error {
		got, err := s.Send(http.MethodPost, "/mcp/s", `{"jsonrpc":"2.0","id":`+id+`,"result":{"action":"accept"}}`)
		if err == nil && got.Status != http.StatusAccepted {
			err = fmt.Errorf("an answer to the server got %d %s", got.Status, got.Body)
		}
		return err
	})
	if !given {
		return errors.New("the server got no answer")
	}
	return nil
}

// TestRestartsUnderLoad: ten agents through ten restarts, each by SIGTERM with the next daemon on the same address at once.
// Every call is answered and runs once; all that an agent sees of a restart is a connection refused, or one that ended
// before its request was read.
func TestRestartsUnderLoad(t *testing.T) {
	t.Parallel()
	server := startRunCounter(t)
	c := harness.OneUpstream(server.URL(), "")
	c.Top = "drain: 30s"
	file := c.File(t)
	addr := "127.0.0.1:" + harness.FreePort(t)
	d := startAt(t, addr, file)
	over := make(chan struct{})
	var refused, answered atomic.Int64
	var agents []*busyAgent
	var running sync.WaitGroup
	for i := range 10 {
		s := &busyAgent{Agent: harness.NewAgent(t, "http://"+addr), server: server, name: i, refused: &refused, answered: &answered, over: over}
		agents = append(agents, s)
		running.Go(s.run)
	}
	for range 10 {
		enough := answered.Load() + 100
		harness.Eventually(t, "under load", func() bool { return answered.Load() >= enough || t.Failed() })
		old := d
		if err := old.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		d = startAt(t, addr, file)
		select {
		case <-old.Done:
		case <-time.After(harness.MaxWait):
			t.Fatal("a daemon did not end")
		}
		if code := old.Cmd.ProcessState.ExitCode(); code != 0 || strings.Contains(old.Out.String(), "deadline has passed") {
			t.Errorf("exit code %d\n%s", code, harness.Tail(old.Out.String()))
		}
	}
	close(over)
	running.Wait()
	unread := 0
	for _, s := range agents {
		unread += s.unread
	}
	t.Logf("%d calls, %d connections refused, %d ended before their request was read", answered.Load(), refused.Load(), unread)
	if unread > 5 { // what connects in the microsecond between the last look into the accept queue and the close
		t.Errorf("%d requests found their connection closed", unread)
	}
}

// startAt starts the daemon on an address, as often as it takes until the one before has left it.
func startAt(t *testing.T, addr, file string) *harness.Process {
	t.Helper()
	at := harness.NewFolders(t)
	for range 200 {
		ctx, cancel := context.WithTimeout(t.Context(), harness.MaxWait)
		p := harness.StartProcess(t, append(at.Env(), "GORACE=atexit_sleep_ms=0"), harness.DaemonBinary,
			append([]string{"serve", "--listen", addr, "--config", file}, at.Args()...)...)
		_, err := p.Out.Find(ctx, regexp.MustCompile(`(fluentd-perf is ready)`))
		cancel()
		if err == nil {
			return p
		}
		<-p.Done
		if !strings.Contains(p.Out.String(), "address already in use") {
			t.Fatalf("%v\n%s", err, p.Out)
		}
	}
	t.Fatal("the daemon before does not leave its address")
	return nil
}
