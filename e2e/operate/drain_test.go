// A drain finishes what is under way within its deadline, lets nothing in, and ends with the right status.

package operate

import (
	"errors"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// TestDrain: what is in flight is finished, streams without end are closed cleanly, nothing new is let in, and the
// daemon leaves with exit code 0. SIGINT does the same.
func TestDrain(t *testing.T) {
	t.Parallel()
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			gate, streaming := mcptest.NewGate(), mcptest.NewGate()
			s := mcptest.NewServer(t, mcptest.Minimal)
			c := harness.OneUpstream(s.URL(), "")
			c.Top = "drain: 60s"
			d := harness.Start(t, c)
			a := d.Agent(t)
			idle := harness.DialAgent(t, d)
			idle.Write("POST /mcp/s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(harness.Notification("x")), harness.Notification("x"))
			if r, err := idle.Whole("POST"); err != nil || r.Status != http.StatusAccepted {
				t.Fatalf("got %d, %v", r.Status, err)
			}
			s.Once(func(x *mcptest.Exchange) {
				x.Wait(gate.Opened())
				mcptest.Minimal(x)
			}, func(x *mcptest.Exchange) {
				st := x.Stream()
				st.Event(harness.ProgressMessage)
				x.Wait(streaming.Opened())
				st.Answer(mcptest.ToolResult)
				st.End()
			})
			call := inBackground(a, harness.Request("1", "tools/call"))
			s.AwaitRequest(2)
			stream := a.Listen(http.MethodPost, "/mcp/s", harness.Request("2", "tools/call"))
			stream.Next()
			get := a.GetStream(harness.SessionField)
			s.Once(func(x *mcptest.Exchange) {
				x.Stream().Event(acknowledged)
				x.Hang()
			})
			body, fields := harness.Modern("3", "subscriptions/listen")
			listen := a.Listen(http.MethodPost, "/mcp/s", body, fields...)
			listen.Next()

			d.Signal(sig)
			get.CleanEnd(2 * time.Second)
			listen.CleanEnd(2 * time.Second) // and without a completion result: its client comes back
			d.Eventually("closed to new connections", func() bool {
				conn, err := net.Dial("tcp", d.Addr)
				if err == nil {
					_ = conn.Close()
				}
				return errors.Is(err, syscall.ECONNREFUSED)
			})
			gate.Open()
			if got := <-call; got.Err != nil || string(got.RPC(t).Result) != mcptest.ToolResult {
				t.Errorf("the call in flight: %+v", got)
			}
			select {
			case <-d.Done:
				t.Error("the daemon left before the stream of a call had ended")
			default:
			}
			streaming.Open()
			if e := stream.Next(); !jsonHasResult(e.Data) {
				t.Errorf("the streamed call in flight: %+v", e)
			}
			stream.CleanEnd(harness.Soon)
			expectEnd(idle, "an idle connection after the last call")
			if code := d.Exit(5 * time.Second); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

const acknowledged = `{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":3}}}`

func jsonHasResult(data string) bool {
	return data == `{"jsonrpc":"2.0","id":2,"result":`+mcptest.ToolResult+`}`
}

func inBackground(a *harness.Agent, body string, fields ...string) <-chan harness.BackgroundReply {
	done := make(chan harness.BackgroundReply, 1)
	go func() {
		r, err := a.Send(http.MethodPost, "/mcp/s", body, fields...)
		done <- harness.BackgroundReply{Reply: r, Err: err}
	}()
	return done
}

// TestDrainDeadline: what has not finished by then is told so, with `sent` true to the facts.
func TestDrainDeadline(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	c := harness.OneUpstream(s.URL(), "")
	c.Top = "drain: 1s"
	d := harness.Start(t, c)
	a := d.Agent(t)
	s.Once(mcptest.Hang)
	hung := inBackground(a, harness.Request("1", "tools/call"))
	s.AwaitRequest(1)
	s.Once(mcptest.Stalling)
	stalled := inBackground(a, harness.Request("2", "tools/list")) // held whole: what nobody shares would stream by then
	s.AwaitRequest(2)
	s.Once(mcptest.StallingStream)
	stream := a.Listen(http.MethodPost, "/mcp/s", harness.Request("3", "tools/call"))
	stream.Next()

	begun := time.Now()
	d.Signal(syscall.SIGTERM)
	for id, c := range map[string]struct {
		got  <-chan harness.BackgroundReply
		sent string
	}{"1": {hung, "unknown"}, "2": {stalled, "yes"}} {
		got := <-c.got
		if got.Err != nil || got.Status != http.StatusOK {
			t.Errorf("call %s: %d, %v", id, got.Status, got.Err)
			continue
		}
		harness.CheckFailure(t, got.RPC(t), id, "s", 1503, "draining", c.sent)
	}
	last := harness.Reply{Header: http.Header{}, Body: stream.Next().Data}
	harness.CheckFailure(t, last.RPC(t), "3", "s", 1503, "draining", "yes")
	stream.CleanEnd(harness.Soon)
	if code := d.Exit(6 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(begun); took < 700*time.Millisecond || took > 6*time.Second+harness.Soon { // without a deadline a minute
		t.Errorf("the drain of 1 s took %v", took)
	}
}

// TestSecondSignalEndsAtOnce: whoever asks twice does not want to wait. What comes within a second of the first is not
// asking twice, however often it comes.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Hang)
	c := harness.OneUpstream(s.URL(), "")
	c.Top = "drain: 5m"
	d := harness.Start(t, c)
	a := d.Agent(t)
	call := inBackground(a, harness.Request("1", "tools/call"))
	s.AwaitRequest(1)
	begun := time.Now() // the daemon gets it later: its second ends later, too
	d.Signal(syscall.SIGTERM)
	d.Eventually("at its end", func() bool {
		select {
		case <-d.Done:
			return true
		default:
			_ = d.Cmd.Process.Signal(syscall.SIGTERM) // it may have ended by now
			return false
		}
	})
	if took := time.Since(begun); took < time.Second {
		t.Errorf("a second signal ended it %v after the first", took)
	}
	if got := <-call; got.Err == nil && got.RPC(t).Result != nil {
		t.Errorf("a hung call was answered: %+v", got)
	}
}

// TestSignalTwiceIsOne sends the signal twice within milliseconds, as timeout(1) does: the daemon drains.
func TestSignalTwiceIsOne(t *testing.T) {
	t.Parallel()
	gate := mcptest.NewGate()
	s := mcptest.NewServer(t, mcptest.Minimal)
	c := harness.OneUpstream(s.URL(), "")
	c.Top = "drain: 5m"
	d := harness.Start(t, c)
	a := d.Agent(t)
	s.Once(func(x *mcptest.Exchange) {
		x.Wait(gate.Opened())
		mcptest.Minimal(x)
	})
	call := inBackground(a, harness.Request("1", "tools/call"))
	s.AwaitRequest(1)
	d.Signal(syscall.SIGTERM)
	d.Signal(syscall.SIGTERM)
	d.Announced(t, "msg=\"(draining; another signal, a second from now or later, ends it at once)\"")
	gate.Open()
	if got := <-call; got.Err != nil || string(got.RPC(t).Result) != mcptest.ToolResult {
		t.Errorf("the call in flight: %+v", got)
	}
	if code := d.Exit(harness.MaxWait); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestDrainWithNothingToDo leaves at once.
func TestDrainWithNothingToDo(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := harness.Start(t, harness.OneUpstream(s.URL(), ""))
	d.Agent(t).Works()
	d.Signal(syscall.SIGTERM)
	if code := d.Exit(6 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
