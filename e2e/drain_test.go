package e2e

import (
	"errors"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

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
			c := one(s.URL(), "")
			c.top = "drain: 15s"
			d := runSidecar(t, c)
			a := d.agent(t)
			idle := dialAgent(t, d)
			idle.write("POST /mcp/s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(notification("x")), notification("x"))
			if r, err := idle.whole("POST"); err != nil || r.status != http.StatusAccepted {
				t.Fatalf("got %d, %v", r.status, err)
			}
			s.Once(func(x *mcptest.Exchange) {
				x.Wait(gate.Opened())
				mcptest.Minimal(x)
			}, func(x *mcptest.Exchange) {
				st := x.Stream()
				st.Event(progress)
				x.Wait(streaming.Opened())
				st.Answer(mcptest.ToolResult)
				st.End()
			})
			call := inBackground(a, request("1", "tools/call"))
			s.AwaitRequest(2)
			stream := a.listen(http.MethodPost, "/mcp/s", request("2", "tools/call"))
			stream.next()
			get := a.get(session)
			s.Once(func(x *mcptest.Exchange) {
				x.Stream().Event(acknowledged)
				x.Hang()
			})
			body, fields := modern("3", "subscriptions/listen")
			listen := a.listen(http.MethodPost, "/mcp/s", body, fields...)
			listen.next()

			d.signal(sig)
			get.cleanEnd(2 * time.Second)
			listen.cleanEnd(2 * time.Second) // and without a completion result: its client comes back
			d.eventually("closed to new connections", func() bool {
				conn, err := net.Dial("tcp", d.addr)
				if err == nil {
					_ = conn.Close()
				}
				return errors.Is(err, syscall.ECONNREFUSED)
			})
			gate.Open()
			if got := <-call; got.err != nil || string(got.rpc(t).Result) != mcptest.ToolResult {
				t.Errorf("the call in flight: %+v", got)
			}
			select {
			case <-d.done:
				t.Error("the daemon left before the stream of a call had ended")
			default:
			}
			streaming.Open()
			if e := stream.next(); !jsonHasResult(e.data) {
				t.Errorf("the streamed call in flight: %+v", e)
			}
			stream.cleanEnd(soon)
			idle.ended("an idle connection after the last call")
			if code := d.exit(5 * time.Second); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

const acknowledged = `{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":3}}}`

func jsonHasResult(data string) bool {
	return data == `{"jsonrpc":"2.0","id":2,"result":`+mcptest.ToolResult+`}`
}

// backgroundReply is what became of a call made in the background.
type backgroundReply struct {
	reply
	err error
}

func inBackground(a *agent, body string, fields ...string) <-chan backgroundReply {
	done := make(chan backgroundReply, 1)
	go func() {
		r, err := a.send(http.MethodPost, "/mcp/s", body, fields...)
		done <- backgroundReply{r, err}
	}()
	return done
}

// TestDrainDeadline: what has not finished by then is told so, with `sent` true to the facts.
func TestDrainDeadline(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	c := one(s.URL(), "")
	c.top = "drain: 1s"
	d := runSidecar(t, c)
	a := d.agent(t)
	s.Once(mcptest.Hang)
	hung := inBackground(a, request("1", "tools/call"))
	s.AwaitRequest(1)
	s.Once(mcptest.Stalling)
	stalled := inBackground(a, request("2", "tools/list")) // held whole: what nobody shares would stream by then
	s.AwaitRequest(2)
	s.Once(mcptest.StallingStream)
	stream := a.listen(http.MethodPost, "/mcp/s", request("3", "tools/call"))
	stream.next()

	begun := time.Now()
	d.signal(syscall.SIGTERM)
	for id, c := range map[string]struct {
		got  <-chan backgroundReply
		sent string
	}{"1": {hung, "unknown"}, "2": {stalled, "yes"}} {
		got := <-c.got
		if got.err != nil || got.status != http.StatusOK {
			t.Errorf("call %s: %d, %v", id, got.status, got.err)
			continue
		}
		checkFailure(t, got.rpc(t), id, "s", 1503, "draining", c.sent)
	}
	last := reply{header: http.Header{}, body: stream.next().data}
	checkFailure(t, last.rpc(t), "3", "s", 1503, "draining", "yes")
	stream.cleanEnd(soon)
	if code := d.exit(6 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(begun); took < 700*time.Millisecond || took > 6*time.Second {
		t.Errorf("the drain of 1 s took %v", took)
	}
}

// TestSecondSignalEndsAtOnce: whoever asks twice does not want to wait. What comes within a second of the first is not
// asking twice, however often it comes.
func TestSecondSignalEndsAtOnce(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Hang)
	c := one(s.URL(), "")
	c.top = "drain: 5m"
	d := runSidecar(t, c)
	a := d.agent(t)
	call := inBackground(a, request("1", "tools/call"))
	s.AwaitRequest(1)
	begun := time.Now() // the daemon hears of it later: its second ends later, too
	d.signal(syscall.SIGTERM)
	d.eventually("at its end", func() bool {
		select {
		case <-d.done:
			return true
		default:
			_ = d.cmd.Process.Signal(syscall.SIGTERM) // it may have ended by now
			return false
		}
	})
	if took := time.Since(begun); took < time.Second {
		t.Errorf("a second signal ended it %v after the first", took)
	}
	if got := <-call; got.err == nil && got.rpc(t).Result != nil {
		t.Errorf("a hung call was answered: %+v", got)
	}
}

// TestSignalTwiceIsOne sends the signal twice within milliseconds, as timeout(1) does: the daemon drains.
func TestSignalTwiceIsOne(t *testing.T) {
	t.Parallel()
	gate := mcptest.NewGate()
	s := mcptest.NewServer(t, mcptest.Minimal)
	c := one(s.URL(), "")
	c.top = "drain: 5m"
	d := runSidecar(t, c)
	a := d.agent(t)
	s.Once(func(x *mcptest.Exchange) {
		x.Wait(gate.Opened())
		mcptest.Minimal(x)
	})
	call := inBackground(a, request("1", "tools/call"))
	s.AwaitRequest(1)
	d.signal(syscall.SIGTERM)
	d.signal(syscall.SIGTERM)
	d.announced(t, "msg=\"(draining; another signal, a second from now or later, ends it at once)\"")
	gate.Open()
	if got := <-call; got.err != nil || string(got.rpc(t).Result) != mcptest.ToolResult {
		t.Errorf("the call in flight: %+v", got)
	}
	if code := d.exit(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestDrainWithNothingToDo leaves at once.
func TestDrainWithNothingToDo(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := runSidecar(t, one(s.URL(), ""))
	d.agent(t).works()
	d.signal(syscall.SIGTERM)
	if code := d.exit(6 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
