package http_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	upstreamhttp "fluentd-perf/internal/upstream/http"
)

// Written is called once for each call: when its request has been written, and not before; or when it has ended.
func TestWritten(t *testing.T) {
	refused := dialsBy(func(context.Context) (net.Conn, error) { return nil, io.ErrClosedPipe })
	hangs := func(o *upstreamhttp.Options) {
		o.Timeouts.Connect = time.Second
		dialsBy(func(ctx context.Context) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() })(o)
	}
	for name, c := range map[string]struct {
		change func(*upstreamhttp.Options)
		want   time.Duration
		served int
	}{
		"answered": {func(*upstreamhttp.Options) {}, 3 * time.Second, 1}, // what the server takes to read it
		"refused":  {refused, 0, 0},
		"hangs":    {hangs, time.Second, 0},
	} {
		for _, lane := range []mcp.Lane{mcp.LaneRequest, mcp.LaneStream, mcp.LaneNotification, mcp.LaneListen, mcp.LaneEnd} {
			t.Run(fmt.Sprint(name, lane), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					served := 0
					u, shut := piped(t, func(p *peer) {
						pass(3 * time.Second)
						for p.request() != nil {
							served++
							pass(time.Second)
							p.say("HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n")
						}
					}, c.change)
					start, times := time.Now(), 0
					call := onLane(lane, bodyOf(lane))
					call.Written = func() {
						if times++; time.Since(start) != c.want {
							t.Errorf("written after %v, want %v", time.Since(start), c.want)
						}
					}
					if res, err := u.Call(t.Context(), call); err == nil {
						closeResult(t, res)
					}
					synctest.Wait()
					if times != 1 || served != c.served {
						t.Errorf("called %d times, served %d", times, served)
					}
					shut()
				})
			})
		}
	}
}

// A call that never gets a connection, or whose caller leaves, is over: who waits for it to be written is told.
func TestWrittenOfWhatLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u, shut := piped(t, func(p *peer) { p.request(); p.gone() }, connections(1, waitTime))
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var told atomic.Int32
		for range 2 { // the second waits for a slot
			wg.Go(func() {
				call := request()
				call.Written = func() { told.Add(1) }
				_, _ = u.Call(ctx, call)
			})
			synctest.Wait()
		}
		if told.Load() != 1 {
			t.Errorf("told %d times, want 1: one waits", told.Load())
		}
		cancel()
		wg.Wait()
		if told.Load() != 2 {
			t.Errorf("told %d times, want 2", told.Load())
		}
		shut()
	})
}

// writes notes the verbs of what is written to connections, in order, before the server can see it.
type writes struct {
	mu    sync.Mutex
	verbs []string
	conns int
}

func (w *writes) dial(dial func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.conns++
		return &noted{c, w}, err
	}
}

type noted struct {
	net.Conn
	w *writes
}

func (n *noted) Write(b []byte) (int, error) {
	verb, _, _ := strings.Cut(string(b), " ")
	n.w.mu.Lock()
	n.w.verbs = append(n.w.verbs, verb)
	n.w.mu.Unlock()
	return n.Conn.Write(b)
}

// What is sent when a GET has been written is at the server behind it: the GET takes the connection that is warm, and the
// call another. A thousand times.
func TestGETIsFirst(t *testing.T) {
	const rounds = 1000
	synctest.Test(t, func(t *testing.T) {
		var w writes
		u, shut := piped(t, func(p *peer) {
			for r := p.request(); r != nil; r = p.request() {
				if r.Method == http.MethodGet {
					p.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
					p.gone()
					return
				}
				p.answerJSON(good)
			}
		}, func(o *upstreamhttp.Options) {
			o.SetDial(func(dial dialer, _ bool) dialer { return w.dial(dial) })
		})
		for range rounds {
			works(t, u)
			written := make(chan struct{})
			get := onLane(mcp.LaneStream, "")
			get.Written = func() { close(written) }
			got := make(chan *mcp.Result)
			go func() { got <- mustCall(t, u, get) }()
			<-written
			works(t, u)
			closeResult(t, <-got)
			synctest.Wait()
		}
		for i, want := range slices.Repeat([]string{"POST", "GET", "POST"}, rounds) {
			if i >= len(w.verbs) || w.verbs[i] != want {
				t.Errorf("of %d the server saw as number %d %v, want %s", len(w.verbs), i, w.verbs[i:min(i+3, len(w.verbs))], want)
				break
			}
		}
		if w.conns != rounds+1 {
			t.Errorf("%d connections for %d rounds: a GET did not take the warm one", w.conns, rounds)
		}
		shut()
	})
}

// However many streams there are, calls have the connections that are theirs, and a stream beyond the warm ones has one too.
func TestStreamsLeaveCallsTheirConnections(t *testing.T) {
	s := mcptest.NewServer(t, mcptest.Minimal)
	u := newUpstream(t, s.URL(), connections(2, waitTime))
	var streams []*mcp.Result
	for range 300 {
		streams = append(streams, mustCall(t, u, onLane(mcp.LaneStream, "")))
		if len(streams)%50 == 0 {
			works(t, u)
		}
	}
	both := mcptest.NewBarrier(2)
	s.Script(func(x *mcptest.Exchange) {
		x.Wait(both.Arrive())
		mcptest.Minimal(x)
	})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { works(t, u) })
	}
	wg.Wait()
	for _, res := range streams {
		closeResult(t, res)
	}
}
