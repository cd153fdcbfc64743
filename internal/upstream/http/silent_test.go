package http_test

import (
	"bufio"
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	upstreamhttp "fluentd-perf/internal/upstream/http"
)

// A timeout says whether any byte of any call came from the server while it ran: of another call's answer, of a stream
// without end, of its own.
func TestSilent(t *testing.T) {
	// Each of these hangs on the second connection.
	victims := map[string]struct {
		call   *mcp.Call
		reason mcp.Reason
		after  time.Duration // of its start
		serve  func(p *peer)
	}{
		"connect":    {request(), mcp.ReasonConnectTimeout, connectTime, nil},
		"first byte": {modern(request()), mcp.ReasonFirstByte, headTime, func(*peer) {}},
		"idle": {modern(request()), mcp.ReasonIdle, idleTime, func(p *peer) {
			p.say("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n12345")
		}},
		"idle in an event": {modern(request()), mcp.ReasonIdle, idleTime, func(p *peer) { eventHead(p); chunk(p, "data: {") }},
		"call":             {modern(requestOf("tools/call")), mcp.ReasonCallTimeout, callTime, func(*peer) {}},
	}
	// And this happens on the first meanwhile.
	signs := map[string]struct {
		other  *mcp.Call
		serve  func(p *peer, nudge <-chan struct{})
		silent bool
	}{
		"nothing":               {onLane(mcp.LaneStream, ""), func(p *peer, _ <-chan struct{}) { eventHead(p) }, true},
		"a comment on a stream": {onLane(mcp.LaneStream, ""), func(p *peer, n <-chan struct{}) { eventHead(p); <-n; chunk(p, ":\n\n") }, false},
		"an event on a stream":  {onLane(mcp.LaneListen, `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen"}`), func(p *peer, n <-chan struct{}) { eventHead(p); <-n; chunk(p, event(progress)) }, false},
		"a stream's head":       {onLane(mcp.LaneStream, ""), func(p *peer, n <-chan struct{}) { <-n; eventHead(p) }, false},
		"the end of a stream":   {onLane(mcp.LaneStream, ""), func(p *peer, n <-chan struct{}) { eventHead(p); <-n; _ = p.Close() }, true},
		"an answer":             {requestOf("tools/call"), func(p *peer, n <-chan struct{}) { <-n; answerAndClose(p) }, false},
		"a byte of an answer":   {requestOf("tools/call"), func(p *peer, n <-chan struct{}) { <-n; p.say("H") }, false},
		"a byte of a body": {requestOf("tools/call"), func(p *peer, n <-chan struct{}) {
			p.say("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n12345")
			<-n
			p.say("6")
		}, false},
	}
	for victim, v := range victims {
		for sign, s := range signs {
			t.Run(victim+", "+sign, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					nudge := make(chan struct{})
					u, shut := piped(t, nil, timed, dialsBy(dialTwo(func(p *peer) {
						p.request()
						s.serve(p, nudge)
						p.gone()
					}, v.serve)))
					ctx, cancel := context.WithCancel(t.Context())
					var wg sync.WaitGroup
					wg.Go(func() {
						if res, err := u.Call(ctx, s.other); err == nil {
							_ = drainResult(res)
							_ = res.Close()
						}
					})
					synctest.Wait()
					time.AfterFunc(v.after/2, func() { close(nudge) })
					start := time.Now()
					res, err := u.Call(ctx, v.call)
					if err == nil {
						err = drainResult(res)
						closeResult(t, res)
					}
					took(t, start, v.after)
					if f, ok := err.(*mcp.Failure); !ok || f.Reason != v.reason || f.Silent != s.silent {
						t.Errorf("got %+v, want %s, silent %v", err, v.reason, s.silent)
					}
					cancel()
					wg.Wait()
					pass(hungDial)
					shut()
				})
			})
		}
	}
}

// answerAndClose answers on a connection that nobody else may have after it.
func answerAndClose(p *peer) {
	p.say("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(good), good)
}

// hungDial is how long a dial lasts that hangs.
const hungDial = time.Minute

// dialTwo makes two connections and no more: one that first serves, and one that takes a request, does what second does
// and hangs. Where second is nil, connecting hangs.
func dialTwo(first, second func(*peer)) func(context.Context) (net.Conn, error) {
	var dials atomic.Int32
	return func(ctx context.Context) (net.Conn, error) {
		serve := first
		if dials.Add(1) > 1 {
			if second == nil {
				pass(hungDial)
				return nil, context.DeadlineExceeded
			}
			serve = func(p *peer) {
				p.request()
				second(p)
				p.gone()
			}
		}
		client, server := net.Pipe()
		go func() {
			defer func() { _ = server.Close() }()
			serve(&peer{Conn: server, br: bufio.NewReader(server)})
		}()
		return client, nil
	}
}

// What came before the wait began, or from another server, is no sign of life.
func TestSilentAfterAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hung, shut := piped(t, func(p *peer) {
			p.request()
			p.answerJSON(good)
			p.request()
			p.gone()
		}, timed)
		lively, shutLively := piped(t, func(p *peer) {
			for p.request() != nil {
				p.answerJSON(good)
			}
		}, timed)
		works(t, hung)
		time.AfterFunc(headTime/2, func() { works(t, lively) })
		_, err := hung.Call(t.Context(), modern(request()))
		if f := wantFailure(t, err, mcp.CodeDeadlinePassed, mcp.ReasonFirstByte, mcp.SentUnknown); !f.Silent {
			t.Error("not silent")
		}
		shut()
		shutLively()
	})
}

// A caller that leaves is told for how long the server has sent nothing, if it has sent nothing to anybody meanwhile.
func TestGivenUp(t *testing.T) {
	const waited = 12 * time.Second
	cases := map[string]struct {
		serve  func(p *peer) // nil: connecting hangs
		other  bool          // another call is answered meanwhile
		silent bool
	}{
		"no connection":               {nil, false, true},
		"no byte":                     {func(*peer) {}, false, true},
		"no byte, but for another":    {func(*peer) {}, true, false},
		"the beginning of a head":     {func(p *peer) { p.say("HTTP/1.1 2") }, false, false},
		"another head before the one": {func(p *peer) { p.say("HTTP/1.1 103 Early Hints\r\n\r\n") }, false, false},
		"a head": {func(p *peer) {
			p.say("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n")
		}, false, false},
		"a piece of an event": {func(p *peer) { eventHead(p); chunk(p, "data: {") }, false, false},
	}
	for name, tt := range cases {
		for _, method := range []string{"initialize", "tools/call"} {
			t.Run(name+", "+method, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					u, shut := piped(t, nil, timed, func(o *upstreamhttp.Options) { o.Timeouts.Connect = 14 * time.Second },
						dialsBy(dialTwo(func(p *peer) { p.request(); pass(waited / 2); answerAndClose(p) }, tt.serve)))
					var wg sync.WaitGroup
					wg.Go(func() { works(t, u) })
					synctest.Wait()
					if !tt.other {
						wg.Wait()
					}
					ctx, cancel := context.WithTimeout(t.Context(), waited)
					defer cancel()
					res, err := u.Call(ctx, modern(requestOf(method)))
					if err == nil {
						err = drainResult(res)
						closeResult(t, res)
					}
					f := wantFailure(t, err, 0, mcp.ReasonCanceled, mcp.SentNo, mcp.SentUnknown, mcp.SentYes)
					if f.Silent != tt.silent || f.Silent && f.Waited != waited || !f.Silent && f.Waited != 0 {
						t.Errorf("silent %v for %v, want %v for %v", f.Silent, f.Waited, tt.silent, waited)
					}
					wg.Wait()
					pass(hungDial)
					shut()
				})
			})
		}
	}
}

// That the daemon stops, or that there was no connection to be had, is not the server's silence.
func TestNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, shut := piped(t, func(p *peer) { p.request(); p.gone() }, timed, connections(1, time.Minute))
		ctx, stop := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() {
			_, err := u.Call(ctx, requestOf("tools/call"))
			if f := wantFailure(t, err, mcp.CodeUnavailable, mcp.ReasonDraining, mcp.SentUnknown); f.Silent || f.Waited != 0 {
				t.Errorf("the drain counts as giving up: %+v", f)
			}
		})
		synctest.Wait()
		short, cancel := context.WithTimeout(t.Context(), 12*time.Second)
		defer cancel()
		_, err := u.Call(short, requestOf("tools/call"))
		if f := wantFailure(t, err, 0, mcp.ReasonCanceled, mcp.SentNo); f.Silent || f.Waited != 0 {
			t.Errorf("waiting for the pool counts as giving up: %+v", f)
		}
		stop(mcp.Draining())
		wg.Wait()
		shut()
	})
}

// A call that is given up by notifications/cancelled is found once, if it was silent for long enough and is the one that is
// named; its own failure says later that it has been counted.
func TestGivenUpByCancelling(t *testing.T) {
	const waited = 12 * time.Second
	cancelled := func(id string, change ...string) *mcp.Call {
		c := onLane(mcp.LaneNotification, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`+id+`}}`)
		for i := 0; i < len(change); i += 2 {
			c.Header.Set(change[i], change[i+1])
		}
		return c
	}
	for name, tt := range map[string]struct {
		call   *mcp.Call
		cancel *mcp.Call
		after  time.Duration
		serve  func(p *peer)
		found  bool
	}{
		"silent":              {requestOf("tools/call"), cancelled("7"), waited, func(*peer) {}, true},
		"a list":              {requestOf("tools/list"), cancelled("7"), waited, func(*peer) {}, true},
		"its id as a float":   {requestOf("tools/call"), cancelled("7.0"), waited, func(*peer) {}, true},
		"early":               {requestOf("tools/call"), cancelled("7"), 9 * time.Second, func(*peer) {}, false},
		"another id":          {requestOf("tools/call"), cancelled("8"), waited, func(*peer) {}, false},
		"a text as its id":    {requestOf("tools/call"), cancelled(`"7"`), waited, func(*peer) {}, false},
		"another session":     {requestOf("tools/call"), cancelled("7", "Mcp-Session-Id", "s2"), waited, func(*peer) {}, false},
		"another credential":  {requestOf("tools/call"), cancelled("7", "Authorization", "b"), waited, func(*peer) {}, false},
		"initialize":          {requestOf("initialize"), cancelled("7"), waited, func(*peer) {}, false},
		"modern":              {modern(requestOf("tools/call")), cancelled("7"), waited, func(*peer) {}, false},
		"a byte of a head":    {requestOf("tools/call"), cancelled("7"), waited, func(p *peer) { p.say("H") }, false},
		"the head":            {requestOf("tools/call"), cancelled("7"), waited, eventHead, false},
		"none since that one": {requestOf("tools/call"), cancelled("7"), waited, func(p *peer) { pass(5 * time.Second); p.say("H") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u, shut := piped(t, func(p *peer) { p.request(); tt.serve(p); p.gone() }, func(o *upstreamhttp.Options) {
					o.Timeouts.FirstByte, o.Timeouts.Handshake = time.Minute, time.Minute
				})
				ctx, leave := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() {
					res, err := u.Call(ctx, tt.call)
					if err == nil {
						err = drainResult(res)
						_ = res.Close()
					}
					ended <- err
				}()
				pass(tt.after)
				if f := u.GivenUp(tt.cancel, 10*time.Second); (f != nil) != tt.found {
					t.Errorf("found %+v, want %v", f, tt.found)
				} else if tt.found && (f.Reason != mcp.ReasonCanceled || !f.Silent || f.Waited != tt.after) {
					t.Errorf("got %+v", f)
				}
				if f := u.GivenUp(tt.cancel, 10*time.Second); f != nil {
					t.Errorf("found again: %+v", f)
				}
				leave()
				if f := wantFailure(t, <-ended, 0, mcp.ReasonCanceled, mcp.SentUnknown, mcp.SentYes); f.Counted != tt.found {
					t.Errorf("counted: %v, want %v", f.Counted, tt.found)
				}
				if f := u.GivenUp(tt.cancel, 0); f != nil {
					t.Errorf("found after its end: %+v", f)
				}
				shut()
			})
		})
	}
}
