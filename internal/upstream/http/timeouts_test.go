package http_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	upstreamhttp "fluentd-perf/internal/upstream/http"
)

const (
	connectTime = 3 * time.Second
	headTime    = 20 * time.Second
	handTime    = 15 * time.Second
	idleTime    = 2 * time.Minute
	callTime    = 10 * time.Minute
)

func timed(o *upstreamhttp.Options) {
	o.Timeouts = upstreamhttp.Timeouts{Connect: connectTime, Handshake: handTime, FirstByte: headTime, Idle: idleTime, Call: callTime}
}

// Connecting that hangs ends in time, and nothing was sent.
func TestConnectTimeout(t *testing.T) {
	for _, c := range []*mcp.Call{request(), requestOf("tools/call"), notification(), onLane(mcp.LaneStream, "")} {
		synctest.Test(t, func(t *testing.T) {
			var dials atomic.Int32
			u, shut := piped(t, nil, timed, dialsBy(func(context.Context) (net.Conn, error) {
				dials.Add(1)
				pass(2 * connectTime)
				return nil, syscall.ETIMEDOUT
			}))
			start := time.Now()
			_, err := u.Call(t.Context(), c)
			f := wantFailure(t, err, mcp.CodeDeadlinePassed, mcp.ReasonConnectTimeout, mcp.SentNo)
			took(t, start, connectTime)
			if dials.Load() != 1 || !strings.Contains(f.Error(), "timeouts.connect") {
				t.Errorf("%d dials, %v", dials.Load(), f)
			}
			synctest.Wait()
			pass(2 * connectTime)
			shut()
		})
	}
}

// A dialer that times out by itself is the same to the caller.
func TestDialerTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, shut := piped(t, nil, timed, dialsBy(func(context.Context) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Err: syscall.ETIMEDOUT}
		}))
		_, err := u.Call(t.Context(), request())
		if f := wantFailure(t, err, mcp.CodeDeadlinePassed, mcp.ReasonConnectTimeout, mcp.SentNo); !f.Silent {
			t.Error("not silent")
		}
		shut()
	})
}

// Which bound holds for which call, to the head and in mid-body.
func TestFirstByteAndIdle(t *testing.T) {
	unknown := onLane(mcp.LaneRequest, `{"jsonrpc":"2.0","id":7,"method":"vendor/x"}`)
	for name, tt := range map[string]struct {
		call *mcp.Call
		key  string // which bounds the head
	}{
		"known method":    {request(), "first_byte"},
		"initialize":      {requestOf("initialize"), "handshake"},
		"server/discover": {requestOf("server/discover"), "handshake"},
		"ping":            {requestOf("ping"), "handshake"},
		"notification":    {notification(), "first_byte"},
		"response":        {onLane(mcp.LaneResponse, good), "first_byte"},
		"session end":     {onLane(mcp.LaneEnd, ""), "first_byte"},
		"message":         {onLane(mcp.LaneMessage, `{"jsonrpc":"2.0","id":7,"method":"tools/call"}`), "first_byte"},
		"fetch":           {onLane(mcp.LaneFetch, ""), "first_byte"},
		"batch":           {onLane(mcp.LaneBatch, batch), "call"}, // it may hold a tools/call
		"tools/call":      {requestOf("tools/call"), "call"},
		"tasks/result":    {requestOf("tasks/result"), "call"},
		"unknown method":  {unknown, "call"},
	} {
		head, idle, reason := headTime, idleTime, []mcp.Reason{mcp.ReasonFirstByte, mcp.ReasonIdle}
		switch tt.key {
		case "handshake":
			head = handTime
		case "call":
			head, idle, reason = callTime, callTime, []mcp.Reason{mcp.ReasonCallTimeout, mcp.ReasonCallTimeout}
		}
		c := modern(tt.call)
		t.Run(name+", no head", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u, shut := piped(t, func(p *peer) {
					p.request()
					pass(connectTime) // longer than connecting may take
					p.gone()
				}, timed)
				start := time.Now()
				_, err := u.Call(t.Context(), c)
				f := wantFailure(t, err, mcp.CodeDeadlinePassed, reason[0], mcp.SentUnknown)
				if want := fmt.Sprintf("timeouts.%s of %v is over", tt.key, head); f.Cause.Error() != want {
					t.Errorf("the cause is %q, want %q", f.Cause, want)
				}
				took(t, start, head)
				shut()
			})
		})
		t.Run(name+", late head", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u, shut := piped(t, func(p *peer) {
					p.request()
					pass(head - time.Second)
					p.say("HTTP/1.1 500 Oh\r\nContent-Length: 10\r\n\r\n12345")
					pass(idle - time.Second)
					p.say("67890")
					p.gone()
				}, timed)
				start := time.Now()
				res := mustCall(t, u, c)
				if err := drainResult(res); err != nil {
					t.Error(err)
				}
				took(t, start, head+idle-2*time.Second)
				closeResult(t, res)
				shut()
			})
		})
		t.Run(name+", half a body", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u, shut := piped(t, func(p *peer) {
					p.request()
					pass(time.Second)
					p.say("HTTP/1.1 500 Oh\r\nContent-Length: 10\r\n\r\n12345")
					p.gone()
				}, timed)
				start := time.Now()
				res, err := u.Call(t.Context(), c)
				if err == nil { // it passes what came within a second
					err = drainResult(res)
					closeResult(t, res)
				}
				wantFailure(t, err, mcp.CodeDeadlinePassed, reason[1], mcp.SentYes)
				took(t, start, time.Second+idle)
				shut()
			})
		})
	}
}

// A body that comes in drops is bounded by call, from its head on; held or passed on alike.
func TestCallBoundsABody(t *testing.T) {
	for name, limit := range map[string]int64{"whole": 4 << 20, "passed on": 10} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u, shut := piped(t, func(p *peer) {
					p.request()
					pass(headTime - 1)
					p.say("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
					for {
						if _, err := p.Write([]byte(" ")); err != nil {
							return
						}
						pass(idleTime - 1)
					}
				}, timed, func(o *upstreamhttp.Options) { o.CheckBody = limit })
				start := time.Now()
				res, err := u.Call(t.Context(), modern(request()))
				if err == nil {
					err = drainResult(res)
					closeResult(t, res)
				}
				if f := wantFailure(t, err, mcp.CodeDeadlinePassed, mcp.ReasonCallTimeout, mcp.SentYes); f.Silent {
					t.Error("silent: bytes came all the time")
				}
				took(t, start, headTime-1+callTime)
				shut()
			})
		})
	}
}

func eventHead(p *peer) {
	p.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
}

func chunk(p *peer, text string) { p.say("%x\r\n%s\r\n", len(text), text) }

// Between events idle counts, comments included; in one event call does.
func TestEventTimeouts(t *testing.T) {
	t.Run("quiet", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			u, shut := piped(t, func(p *peer) {
				p.request()
				eventHead(p)
				for range 20 {
					pass(idleTime - time.Second)
					chunk(p, ":\n\n")
				}
				p.gone()
			}, timed)
			start := time.Now()
			res := mustCall(t, u, modern(request()))
			all, _, err := eventsOf(res.Events)
			wantFailure(t, err, mcp.CodeDeadlinePassed, mcp.ReasonIdle, mcp.SentYes)
			took(t, start, 20*(idleTime-time.Second)+idleTime)
			if len(all) != 20 {
				t.Errorf("%d comments", len(all))
			}
			closeResult(t, res)
			shut()
		})
	})
	t.Run("in drops", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			u, shut := piped(t, func(p *peer) {
				p.request()
				eventHead(p)
				chunk(p, event(progress))
				pass(time.Minute)
				for p.number == 1 { // for ever
					if _, err := p.Write([]byte("1\r\nx\r\n")); err != nil {
						return
					}
					pass(time.Second)
				}
			}, timed)
			res := mustCall(t, u, modern(request()))
			if _, err := res.Events.Next(); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			_, err := res.Events.Next()
			if f := wantFailure(t, err, mcp.CodeDeadlinePassed, mcp.ReasonCallTimeout, mcp.SentYes); f.Silent {
				t.Error("silent: bytes came all the time")
			}
			took(t, start, time.Minute+callTime)
			closeResult(t, res)
			shut()
		})
	})
	t.Run("unhurried", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			u, shut := piped(t, func(p *peer) {
				p.request()
				eventHead(p)
				pass(callTime - time.Second)
				chunk(p, event(progress))
				p.gone()
			}, timed)
			res := mustCall(t, u, modern(requestOf("tools/call")))
			start := time.Now()
			_, _, err := eventsOf(res.Events)
			wantFailure(t, err, mcp.CodeDeadlinePassed, mcp.ReasonCallTimeout, mcp.SentYes)
			took(t, start, callTime-time.Second+callTime)
			closeResult(t, res)
			shut()
		})
	})
	// An agent that reads slowly is no fault of the server's.
	t.Run("slow reader", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			u, shut := piped(t, func(p *peer) {
				for p.request() != nil {
					eventHead(p)
					chunk(p, event(progress))
					chunk(p, event(good))
					p.say("0\r\n\r\n")
				}
			}, timed)
			res := mustCall(t, u, modern(request()))
			for range 2 {
				pass(3 * callTime)
				if _, err := res.Events.Next(); err != nil {
					t.Error(err)
				}
			}
			pass(3 * callTime)
			if _, err := res.Events.Next(); err != io.EOF {
				t.Error(err)
			}
			closeResult(t, res)
			shut()
		})
	})
}

// The same for a large answer that passes as it comes.
func TestSlowReaderOfALargeAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := answerOf(5000)
		u, shut := piped(t, func(p *peer) {
			for p.request() != nil {
				p.answerJSON(answer)
			}
		}, timed, func(o *upstreamhttp.Options) { o.CheckBody = 1000 })
		res := mustCall(t, u, modern(request()))
		pass(2 * callTime)
		buf := make([]byte, 1)
		got := ""
		for {
			n, err := res.Raw.Read(buf)
			got += string(buf[:n])
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			pass(idleTime)
		}
		if got != answer {
			t.Errorf("%d bytes came", len(got))
		}
		closeResult(t, res)
		shut()
	})
}

// Streams without end may be silent before the head, after it and in an event.
func TestLongLanesHaveNoTimeouts(t *testing.T) {
	for _, lane := range []mcp.Lane{mcp.LaneStream, mcp.LaneListen} {
		for _, contentEncoding := range []string{"", "Content-Encoding: gzip\r\n"} {
			synctest.Test(t, func(t *testing.T) {
				const day = 24 * time.Hour
				text := `data: {"jsonrpc":"2.0","method":"x"}` + "\n\n"
				u, shut := piped(t, func(p *peer) {
					p.request()
					pass(day)
					p.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n%sTransfer-Encoding: chunked\r\n\r\n", contentEncoding)
					pass(day)
					chunk(p, text[:10])
					pass(day)
					chunk(p, text[10:])
					p.gone()
				}, timed)
				start := time.Now()
				res := mustCall(t, u, onLane(lane, bodyOf(lane)))
				took(t, start, day)
				if contentEncoding != "" {
					buf := make([]byte, len(text))
					if _, err := io.ReadFull(res.Raw, buf); err != nil || string(buf) != text {
						t.Errorf("%q, %v", buf, err)
					}
				} else if ev, err := res.Events.Next(); err != nil || string(ev.Raw) != text {
					t.Errorf("%q, %v", ev.Raw, err)
				}
				took(t, start, 3*day)
				closeResult(t, res)
				shut()
			})
		}
	}
	// What is no stream has to come.
	synctest.Test(t, func(t *testing.T) {
		u, shut := piped(t, func(p *peer) {
			p.request()
			p.say("HTTP/1.1 405 No\r\nContent-Length: 10\r\n\r\n12345")
			p.gone()
		}, timed)
		res := mustCall(t, u, onLane(mcp.LaneStream, ""))
		wantFailure(t, drainResult(res), mcp.CodeDeadlinePassed, mcp.ReasonIdle, mcp.SentYes)
		closeResult(t, res)
		shut()
	})
}

// The timer of a call that has ended does nothing to the next one on the same connection.
func TestTimersDoNotOutliveTheirCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		served := 0
		u, shut := piped(t, func(p *peer) {
			for p.request() != nil {
				served++
				p.answerJSON(good)
			}
		}, timed, func(o *upstreamhttp.Options) { o.Pool.IdleTimeout = time.Hour })
		for range 5 {
			works(t, u)
			pass(headTime)
		}
		if served != 5 {
			t.Errorf("served %d", served)
		}
		shut()
	})
}

// After a timeout the connection is closed, and the message names no address.
func TestTimeoutClosesTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed := make(chan time.Time, 1)
		u, shut := piped(t, func(p *peer) {
			p.request()
			p.gone()
			closed <- time.Now()
		}, timed)
		start := time.Now()
		_, err := u.Call(t.Context(), modern(request()))
		f := wantFailure(t, err, mcp.CodeDeadlinePassed, mcp.ReasonFirstByte, mcp.SentUnknown)
		if at := (<-closed).Sub(start); at != headTime {
			t.Errorf("closed after %v", at)
		}
		var cause error = f
		if !strings.Contains(cause.Error(), fmt.Sprintf("timeouts.first_byte of %v", headTime)) || errors.Is(cause, context.Canceled) {
			t.Error(cause)
		}
		shut()
	})
}
