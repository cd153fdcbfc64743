package http_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	upstreamhttp "fluentd-perf/internal/upstream/http"
)

// Each fault twice: the server did nothing, and the server did the work and the answer was lost. Neither is ever sent
// again, the failure says the truth, nothing is left behind, and the next request works.
func TestFaults(t *testing.T) {
	either := []mcp.Sent{mcp.SentYes, mcp.SentUnknown} // a TCP reset may overtake what was written before it
	yes, unknown := []mcp.Sent{mcp.SentYes}, []mcp.Sent{mcp.SentUnknown}
	inField := mcp.ReasonBrokeOff
	if compat {
		inField = mcp.ReasonBadAnswer // as net/http sees it
	}
	for name, tt := range map[string]struct {
		script mcptest.Script
		code   int
		reason mcp.Reason
		sent   []mcp.Sent
	}{
		"reset before the head":    {mcptest.ResetBeforeHead, 1502, mcp.ReasonBrokeOff, unknown},
		"closed before the head":   {mcptest.CloseBeforeHead, 1502, mcp.ReasonBrokeOff, unknown},
		"reset in the head":        {mcptest.ResetInHead, 1502, mcp.ReasonBrokeOff, either},
		"closed in the head":       {rawly("HTTP/1.1 200 OK\r\n"), 1502, mcp.ReasonBrokeOff, yes},
		"closed in a field":        {rawly("HTTP/1.1 200 OK\r\nContent-Ty"), 1502, inField, yes},
		"reset after the head":     {mcptest.ResetAfterHead, 1502, mcp.ReasonBrokeOff, either},
		"reset in the body":        {mcptest.ResetInBody, 1502, mcp.ReasonBrokeOff, either},
		"body below its length":    {mcptest.CutLength, 1502, mcp.ReasonBrokeOff, yes},
		"no last chunk":            {mcptest.CutChunks, 1502, mcp.ReasonBrokeOff, yes},
		"rubbish":                  {rawly("220 mail ready\r\n\r\n"), 1502, mcp.ReasonBadAnswer, yes},
		"a bad field":              {rawly("HTTP/1.1 200 OK\r\nno colon here\r\n\r\n"), 1502, mcp.ReasonBadAnswer, yes},
		"a bad length":             {rawly("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}"), 1502, mcp.ReasonBadAnswer, yes},
		"bad chunks":               {rawly(mcptest.Head(200, "application/json", "Transfer-Encoding: chunked") + "zz\r\n"), 1502, mcp.ReasonBrokeOff, yes},
		"an endless head":          {rawly("HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2<<20)), 1502, mcp.ReasonBadAnswer, yes},
		"protocols switched":       {rawly("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"), 1502, mcp.ReasonBadAnswer, yes},
		"hung":                     {mcptest.Hang, 1504, mcp.ReasonFirstByte, unknown},
		"hung in the head":         {func(x *mcptest.Exchange) { x.Write("HTTP/1.1 2"); x.Hang() }, 1504, mcp.ReasonFirstByte, yes},
		"hung in the body":         {mcptest.Stalling, 1504, mcp.ReasonIdle, yes},
		"hung in the large body":   {hangLarge, 1504, mcp.ReasonIdle, yes},
		"stream reset at once":     {mcptest.ResetAfterStreamHead, 1502, mcp.ReasonBrokeOff, either},
		"stream reset in an event": {mcptest.ResetInEvent, 1502, mcp.ReasonBrokeOff, either},
		"stream cut in an event":   {cutInEvent, 1502, mcp.ReasonBrokeOff, yes},
		"stream hung":              {mcptest.StallingStream, 1504, mcp.ReasonIdle, yes},
	} {
		for _, done := range []bool{false, true} {
			t.Run(name+map[bool]string{false: ", did nothing", true: ", did the work"}[done], func(t *testing.T) {
				t.Parallel()
				script, executed := tt.script, 0
				if done {
					script, executed = mcptest.Executing(script), 1
				}
				s := mcptest.NewServer(t, script)
				var value func(string, ...string) float64
				u := newUpstream(t, s.URL(), func(o *upstreamhttp.Options) {
					o.CheckBody, value = 2000, metered(o)
					if tt.code == mcp.CodeDeadlinePassed {
						short(o)
					}
				})
				res, err := u.Call(t.Context(), modern(request()))
				if err == nil {
					err = drainResult(res)
					closeResult(t, res)
				}
				wantFailure(t, err, tt.code, tt.reason, tt.sent...)
				if v := value("active_connections"); v != 0 {
					t.Errorf("%v active", v)
				}
				if s.Received() != 1 || s.Executions() != executed {
					t.Errorf("received %d times, executed %d", s.Received(), s.Executions())
				}
				s.Script(mcptest.Minimal)
				works(t, u)
				u.Close()
				s.AwaitOpen(0)
			})
		}
	}
}

// short makes the timeouts short enough to wait for, and long enough for a server that works.
func short(o *upstreamhttp.Options) {
	const soon = time.Second
	o.Timeouts = upstreamhttp.Timeouts{Connect: 10 * time.Second, Handshake: soon, FirstByte: soon, Idle: soon, Call: 30 * time.Minute}
}

func hangLarge(x *mcptest.Exchange) {
	x.Write(mcptest.Head(200, "application/json", "Content-Length: 100000") + strings.Repeat("x", 4000))
	x.Hang()
}

func cutInEvent(x *mcptest.Exchange) {
	s := x.Stream()
	s.Event(progress)
	s.Raw(`data: {"jsonrpc":"2.0",`)
	x.Close()
}

func drainResult(res *mcp.Result) error {
	if res.Events != nil {
		_, _, err := eventsOf(res.Events)
		return err
	}
	if res.Raw != nil {
		_, err := io.Copy(io.Discard, res.Raw)
		return err
	}
	return nil
}

func TestAByteAtATime(t *testing.T) {
	s := mcptest.NewServer(t, mcptest.Trickling(time.Millisecond))
	u := newUpstream(t, s.URL())
	works(t, u)
	s.Script(func(x *mcptest.Exchange) {
		body := event(progress) + event(x.Answer("{}"))
		x.Trickle(mcptest.Head(200, "text/event-stream")+body, time.Millisecond)
		x.Close()
	})
	res := mustCall(t, u, request())
	if all, answers, err := eventsOf(res.Events); len(all) != 2 || answers != 1 || err != io.EOF {
		t.Errorf("%q, %d, %v", all, answers, err)
	}
	closeResult(t, res)
}

// What was surely not sent is not sent again here: the failure says so, and why, to whoever may send it again. Documents are, twice.
func TestRefused(t *testing.T) {
	var dials atomic.Int32
	u := newUpstream(t, "http://"+mcptest.Refused(t)+"/mcp", dialing(func(ctx context.Context, dial dialer, network, addr string) (net.Conn, error) {
		dials.Add(1)
		return dial(ctx, network, addr)
	}))
	for _, c := range []*mcp.Call{
		request(), notification(), onLane(mcp.LaneEnd, ""), onLane(mcp.LaneFetch, ""),
		onLane(mcp.LaneStream, ""), onLane(mcp.LaneListen, bodyOf(mcp.LaneListen)),
	} {
		dials.Store(0)
		_, err := u.Call(t.Context(), c)
		f := wantFailure(t, err, mcp.CodeBadGateway, mcp.ReasonConnect, mcp.SentNo)
		if !errors.Is(f, syscall.ECONNREFUSED) {
			t.Errorf("cause %v", f.Cause)
		}
		if strings.Contains(f.Message, "127.0.0.1") || strings.Contains(f.Cause.Error(), "/mcp") {
			t.Errorf("message %q, cause %q", f.Message, f.Cause)
		}
		want := int32(1)
		if c.Lane == mcp.LaneFetch {
			want = 3
		}
		if n := dials.Load(); n != want || f.Silent {
			t.Errorf("lane %d: %d dials, want %d; silent %v", c.Lane, n, want, f.Silent)
		}
	}
}

// An idle connection on which nothing can be written is replaced. If the server cannot be reached any
// more, the request was not sent.
func TestDeadIdleConnection(t *testing.T) {
	for _, reachable := range []bool{true, false} {
		s := mcptest.NewServer(t, mcptest.Minimal)
		var dials atomic.Int32
		var value func(string, ...string) float64
		u := newUpstream(t, s.URL(), func(o *upstreamhttp.Options) { value = metered(o) }, dialing(func(ctx context.Context, dial dialer, network, addr string) (net.Conn, error) {
			n := dials.Add(1)
			if n > 1 && !reachable {
				return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
			}
			c, err := dial(ctx, network, addr)
			if n == 1 && err == nil {
				c = &writesOnce{Conn: c}
			}
			return c, err
		}))
		works(t, u)
		if reachable {
			works(t, u)
			if s.Received() != 2 || dials.Load() != 2 {
				t.Errorf("received %d, %d dials", s.Received(), dials.Load())
			}
			if reused := value("pool_connections_total", "true"); reused != 0 && !compat {
				t.Errorf("%v reused, want none: nothing was written to it", reused)
			}
			continue
		}
		_, err := u.Call(t.Context(), request())
		wantFailure(t, err, mcp.CodeBadGateway, mcp.ReasonConnect, mcp.SentNo)
		if s.Received() != 1 || dials.Load() != 2 {
			t.Errorf("received %d, %d dials", s.Received(), dials.Load())
		}
	}
}

// writesOnce is a connection that fails from its second write on, with nothing written.
type writesOnce struct {
	net.Conn
	wrote atomic.Bool
}

func (c *writesOnce) Write(p []byte) (int, error) {
	if c.wrote.Swap(true) {
		return 0, &net.OpError{Op: "write", Err: syscall.EPIPE}
	}
	return c.Conn.Write(p)
}

// A request that was written on a connection used before is not sent again, not even where the agent calls it idempotent:
// net/http would.
func TestWrittenRequestsAreNotReplayed(t *testing.T) {
	for _, name := range []string{"", "Idempotency-Key", "X-Idempotency-Key"} {
		for _, lane := range []mcp.Lane{mcp.LaneRequest, mcp.LaneEnd, mcp.LaneNotification} {
			s := mcptest.NewServer(t, mcptest.Minimal)
			u := newUpstream(t, s.URL())
			works(t, u)
			s.Script(mcptest.Executing(mcptest.CloseBeforeHead))
			c := onLane(lane, bodyOf(lane))
			if name != "" {
				c.Header.Set(name, "k1")
			}
			_, err := u.Call(t.Context(), c)
			wantFailure(t, err, mcp.CodeBadGateway, mcp.ReasonBrokeOff, mcp.SentUnknown)
			all := s.Requests()
			if _, total := s.Connections(); len(all) != 2 || total != 1 || s.Executions() != 2 {
				t.Errorf("lane %d: %d requests, %d connections", lane, len(all), total)
			}
			if name != "" && all[1].Get(name) != "k1" {
				t.Errorf("%s did not arrive", name)
			}
		}
	}
}

// One caller that leaves does not cost the others their connections: go-retryablehttp closes idle ones on every failure.
func TestFailuresKeepIdleConnections(t *testing.T) {
	s := mcptest.NewServer(t, mcptest.Minimal)
	u := newUpstream(t, s.URL())
	works(t, u)
	hold := mcptest.NewGate()
	s.Once(func(x *mcptest.Exchange) { x.Wait(hold.Opened()); mcptest.Minimal(x) }, mcptest.Hang)
	slow := make(chan struct{})
	go func() {
		defer close(slow)
		works(t, u)
	}()
	s.AwaitRequest(2)
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	go func() {
		_, err := u.Call(ctx, request())
		failed <- err
	}()
	s.AwaitRequest(3)
	hold.Open()
	<-slow // its connection is idle now
	cancel()
	wantFailure(t, <-failed, 0, mcp.ReasonCanceled, mcp.SentUnknown)
	works(t, u)
	if _, total := s.Connections(); total != 2 {
		t.Errorf("%d connections in all, want 2", total)
	}
}

// A caller that leaves: the server's side is closed at once, and the failure says what the server may know.
func TestCancelled(t *testing.T) {
	draining := &mcp.Failure{Code: mcp.CodeUnavailable, Reason: mcp.ReasonDraining, Sent: mcp.SentNo, Message: "stopping"}
	for name, tt := range map[string]struct {
		script mcptest.Script
		cause  error
		code   int
		reason mcp.Reason
		sent   mcp.Sent
	}{
		"before the head":  {mcptest.Hang, nil, 0, mcp.ReasonCanceled, mcp.SentUnknown},
		"in the body":      {mcptest.Stalling, nil, 0, mcp.ReasonCanceled, mcp.SentYes},
		"draining":         {mcptest.Hang, draining, mcp.CodeUnavailable, mcp.ReasonDraining, mcp.SentUnknown},
		"draining, begun":  {mcptest.Stalling, draining, mcp.CodeUnavailable, mcp.ReasonDraining, mcp.SentYes},
		"for other causes": {mcptest.Hang, errors.New("x"), 0, mcp.ReasonCanceled, mcp.SentUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			begun := make(chan struct{}, 1)
			s := mcptest.NewServer(t, tt.script)
			u := newUpstream(t, s.URL(), watchReads(begun))
			ctx, cancel := context.WithCancelCause(t.Context())
			failed := make(chan error)
			go func() {
				_, err := u.Call(ctx, request())
				failed <- err
			}()
			s.AwaitRequest(1)
			if tt.sent == mcp.SentYes {
				<-begun
			}
			cancel(tt.cause)
			f := wantFailure(t, <-failed, tt.code, tt.reason, tt.sent)
			if f == draining || draining.Sent != mcp.SentNo {
				t.Error("the shared failure was written to")
			}
			s.AwaitOpen(0)
			s.Script(mcptest.Minimal)
			works(t, u)
			if s.Received() != 2 { // a cancelled legacy call says nothing to the server but by its closed connection
				t.Errorf("%d requests", s.Received())
			}
		})
	}
	t.Run("before it began", func(t *testing.T) {
		s := mcptest.NewServer(t, mcptest.Minimal)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := newUpstream(t, s.URL()).Call(ctx, request())
		wantFailure(t, err, 0, mcp.ReasonCanceled, mcp.SentNo)
		if s.Received() != 0 {
			t.Error("the server received it")
		}
	})
}

// watchReads signals when an answer has begun, and more of it is waited for.
func watchReads(begun chan<- struct{}) func(*upstreamhttp.Options) {
	return dialing(func(ctx context.Context, dial dialer, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		return &readWatcher{Conn: c, begun: begun}, err
	})
}

type readWatcher struct {
	net.Conn
	got   bool
	begun chan<- struct{}
}

func (w *readWatcher) Read(p []byte) (int, error) {
	if w.got {
		select {
		case w.begun <- struct{}{}:
		default:
		}
	}
	n, err := w.Conn.Read(p)
	w.got = n > 0
	return n, err
}
