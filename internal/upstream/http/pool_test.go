package http_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/admission"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	upstreamhttp "fluentd-perf/internal/upstream/http"
)

// waitTime is pool.wait_timeout by default.
const waitTime = 5 * time.Second

// connections bounds the connections for calls, for which they wait so long.
func connections(n int, wait time.Duration) func(*upstreamhttp.Options) {
	return func(o *upstreamhttp.Options) {
		o.Pool.MaxConnections, o.Pool.MaxIdle = n, n
		o.Connections = admission.NewConnections(admission.ConnectionOptions{Upstream: "test", Max: n, Wait: wait})
	}
}

// meteredConnections is connections and metered.
func meteredConnections(o *upstreamhttp.Options, n int, wait time.Duration) func(name string, labels ...string) float64 {
	value, reg := registered(o)
	connections(n, wait)(o)
	o.Connections = admission.NewConnections(admission.ConnectionOptions{
		Upstream: "test", Max: n, Wait: wait, Metrics: admission.NewMetrics(reg),
	})
	return value
}

// opening has the upstream call begun before it opens a connection for calls, and opened when it has, before anybody is
// given that.
func opening(begun, opened func()) func(*upstreamhttp.Options) {
	around := func(dial dialer, long bool) dialer {
		return func(ctx context.Context, network, addr string) (net.Conn, error) {
			if long {
				return dial(ctx, network, addr)
			}
			begun()
			c, err := dial(ctx, network, addr)
			if err == nil {
				opened()
			}
			return c, err
		}
	}
	return func(o *upstreamhttp.Options) {
		if !o.Compat {
			o.SetDial(around)
			return
		}
		o.SetTransport(func(t *http.Transport, long bool) upstreamhttp.Transport { // before there is room
			t.DialContext = around(t.DialContext, long)
			return t
		})
	}
}

// However many call at once and however their calls end, there are never more connections than allowed. They are counted
// where they are opened: the server may accept one before it reads the end of the one whose place it took.
func TestPoolBound(t *testing.T) {
	const bound, callers, rounds = 4, 64, 8
	var mu sync.Mutex
	var most float64
	var value func(string, ...string) float64
	s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
		switch x.ID() {
		case "1":
			mcptest.CutLength(x)
		case "2":
			mcptest.Streaming(event(progress))(x)
		case "3":
			x.Say(500, "text/plain", "no")
		default:
			mcptest.Minimal(x)
		}
	})
	u := newUpstream(t, s.URL(), func(o *upstreamhttp.Options) {
		value = meteredConnections(o, bound, mcptest.WaitTimeout)
	}, opening(func() {}, func() {
		mu.Lock()
		defer mu.Unlock()
		most = max(most, value("open_connections"))
	}))
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			for j := range rounds {
				c := onLane(mcp.LaneRequest, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"tools/list"}`, (i+j)%16))
				res, err := u.Call(t.Context(), c)
				if (err != nil) != ((i+j)%16 == 1) {
					t.Errorf("id %d: %v", (i+j)%16, err)
				}
				if err == nil {
					_ = drainResult(res)
					closeResult(t, res)
				}
			}
		})
	}
	wg.Wait()
	mu.Lock() // one may still be being opened for a call that was given another
	m := most
	mu.Unlock()
	if m > bound || m < 2 {
		t.Errorf("%v connections at once, want 2 to %d", m, bound)
	}
	if s.Received() != callers*rounds {
		t.Errorf("%d requests, want %d", s.Received(), callers*rounds)
	}
	if waits := value("pool_wait_seconds"); waits < callers-bound || waits > callers*rounds {
		t.Errorf("%v waits", waits)
	}
	if v := value("active_connections"); v != 0 {
		t.Errorf("%v active", v)
	}
	u.Close()
	s.AwaitOpen(0)
}

// A call that waits for a new connection is given one that has come free, and the next call waits for a new one too: where
// opening takes longer than calls do, no more are being opened than allowed. GET streams, each of which may have one more,
// leave nothing of that behind.
func TestPoolBoundWhileDialing(t *testing.T) {
	const bound, calls = 2, 8
	next, begun, hold := make(chan struct{}), make(chan struct{}, calls), mcptest.NewGate()
	s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
		if x.Verb == http.MethodGet {
			x.Stream()
			x.Hang()
			return
		}
		if x.Wait(next) {
			mcptest.Minimal(x)
		}
	})
	var slow atomic.Bool
	var value func(string, ...string) float64
	u := newUpstream(t, s.URL(), func(o *upstreamhttp.Options) { value = meteredConnections(o, bound, waitTime) }, opening(func() {
		if slow.Load() {
			begun <- struct{}{}
		}
	}, func() {
		if slow.Load() {
			<-hold.Opened()
		}
	}))
	for range 3 {
		closeResult(t, mustCall(t, u, onLane(mcp.LaneStream, "")))
	}
	s.AwaitOpen(0)
	var wg sync.WaitGroup
	call := func() { wg.Go(func() { works(t, u) }) }
	call()
	s.AwaitRequest(4)
	slow.Store(true)
	for i := range calls {
		call()
		if i == 0 || compat { // for want of a connection; net/http dials for each call
			<-begun
		}
		next <- struct{}{}
		s.AwaitRequest(5 + i)
	}
	if open := value("open_connections"); open > bound || len(begun) > 0 {
		t.Errorf("%v connections, want %d at most; %d more are being opened", open, bound, len(begun))
	}
	hold.Open()
	next <- struct{}{}
	wg.Wait()
}

// Callers are served in the order they came; one that leaves is out of the queue at once, and its slot is not lost.
func TestPoolQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var order []string
		u, shut := piped(t, func(p *peer) {
			for {
				r := p.request()
				if r == nil {
					return
				}
				mu.Lock()
				order = append(order, r.Header.Get("X-Name"))
				mu.Unlock()
				pass(time.Second)
				p.answerJSON(good)
			}
		}, connections(1, time.Minute))
		left := map[string]context.CancelFunc{}
		var wg sync.WaitGroup
		for i := range 6 {
			name := fmt.Sprint(i)
			ctx, cancel := context.WithCancel(t.Context())
			left[name] = cancel
			wg.Go(func() {
				c := request()
				c.Header.Set("X-Name", name)
				start := time.Now()
				res, err := u.Call(ctx, c)
				if name == "2" || name == "5" {
					wantFailure(t, err, 0, mcp.ReasonCanceled, mcp.SentNo)
					took(t, start, 500*time.Millisecond)
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				if want := min(time.Duration(i), 1) * time.Second; res.Timing.Queue < want {
					t.Errorf("%s waited %v", name, res.Timing.Queue)
				}
				closeResult(t, res)
			})
			synctest.Wait() // queued
		}
		pass(500 * time.Millisecond)
		left["2"]()
		left["5"]()
		wg.Wait()
		if want := []string{"0", "1", "3", "4"}; !slices.Equal(order, want) {
			t.Errorf("served %q, want %q", order, want)
		}
		works(t, u)
		for _, cancel := range left {
			cancel()
		}
		shut()
	})
}

func TestPoolWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var value func(string, ...string) float64
		u, shut := piped(t, func(p *peer) {
			p.request()
			p.gone()
		}, func(o *upstreamhttp.Options) { value = meteredConnections(o, 2, 5*time.Second) })
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { _, _ = u.Call(ctx, request()) })
		}
		synctest.Wait()
		start := time.Now()
		_, err := u.Call(t.Context(), request())
		f := wantFailure(t, err, mcp.CodeOverloaded, mcp.ReasonPoolWait, mcp.SentNo)
		took(t, start, 5*time.Second)
		if f.RetryAfter != time.Second || f.Silent {
			t.Errorf("retry after %v, silent %v", f.RetryAfter, f.Silent)
		}
		if a, o, i := value("active_connections"), value("open_connections"), value("idle_connections"); a != 2 || o != 2 || i != 0 {
			t.Errorf("%v active, %v open, %v idle", a, o, i)
		}
		if waits := value("pool_wait_seconds", "test"); waits != 1 {
			t.Errorf("%v waits observed, want 1: those who need not wait do not count", waits)
		}
		cancel()
		wg.Wait()
		shut()
	})
}

// Streams that hang do not take what calls need.
func TestLongStreamsTakeNoSlot(t *testing.T) {
	s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
		if x.Verb == http.MethodGet || x.Method() == "subscriptions/listen" {
			x.Stream()
			x.Hang()
			return
		}
		mcptest.Minimal(x)
	})
	var value func(string, ...string) float64
	u := newUpstream(t, s.URL(), func(o *upstreamhttp.Options) { value = meteredConnections(o, 1, waitTime) })
	var streams []*mcp.Result
	for i := range 20 {
		lane := []mcp.Lane{mcp.LaneStream, mcp.LaneListen}[i%2]
		streams = append(streams, mustCall(t, u, onLane(lane, bodyOf(lane))))
	}
	works(t, u)
	works(t, u)
	if a, o, i := value("active_connections"), value("open_connections"), value("idle_connections"); a != 20 || o != 21 || i != 1 {
		t.Errorf("%v active, %v open, %v idle", a, o, i)
	}
	if waits := value("pool_wait_seconds"); waits != 0 {
		t.Errorf("%v waits", waits)
	}
	for _, res := range streams {
		closeResult(t, res)
	}
	s.AwaitOpen(1)
}

// A call that streams holds its connection until the stream ends. The answer to an elicitation, on which such a call may
// wait, and a cancellation get past the calls that hold all connections; another call waits.
func TestUrgentLanesPassHeldCalls(t *testing.T) {
	finish := mcptest.NewGate()
	s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
		if x.Method() != "tools/call" {
			mcptest.Minimal(x)
			return
		}
		st := x.Stream()
		st.Event(asked)
		if x.Wait(finish.Opened()) {
			st.Answer("{}")
			st.End()
		}
	})
	var value func(string, ...string) float64
	u := newUpstream(t, s.URL(), func(o *upstreamhttp.Options) { value = meteredConnections(o, 2, waitTime) })
	var held []*mcp.Result
	for range 2 {
		held = append(held, mustCall(t, u, requestOf("tools/call")))
	}
	closeResult(t, mustCall(t, u, onLane(mcp.LaneResponse, good)))
	if waits := value("pool_wait_seconds"); waits != 0 {
		t.Errorf("%v waits", waits)
	}
	var wg sync.WaitGroup
	for i := range 20 {
		lane := []mcp.Lane{mcp.LaneResponse, mcp.LaneNotification, mcp.LaneEnd}[i%3]
		wg.Go(func() { closeResult(t, mustCall(t, u, onLane(lane, bodyOf(lane)))) })
	}
	wg.Wait()
	waiting := make(chan struct{})
	go func() {
		defer close(waiting)
		works(t, u)
	}()
	finish.Open()
	for _, res := range held {
		if _, answers, _ := eventsOf(res.Events); answers != 1 {
			t.Errorf("%d answers", answers)
		}
	}
	<-waiting // the streams' end has given their slots back, before Close
	for _, res := range held {
		closeResult(t, res)
	}
}

// Idle connections are kept up to max_idle, for idle_timeout, and closed by Close.
func TestIdleConnections(t *testing.T) {
	all := mcptest.NewBarrier(6)
	s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
		x.Wait(all.Arrive())
		mcptest.Minimal(x)
	})
	var value func(string, ...string) float64
	u := newUpstream(t, s.URL(), func(o *upstreamhttp.Options) {
		value = metered(o)
		o.Pool.MaxIdle, o.Pool.IdleTimeout = 2, time.Hour
	})
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() { works(t, u) })
	}
	wg.Wait()
	s.AwaitOpen(2)
	if o, i := value("open_connections"), value("idle_connections"); o != i || o > 6 {
		t.Errorf("%v open, %v idle", o, i)
	}
	works(t, u)
	if fresh, reused := value("pool_connections_total", "false"), value("pool_connections_total", "true"); fresh != 6 || reused != 1 {
		t.Errorf("%v new, %v reused", fresh, reused)
	}
	u.Close()
	s.AwaitOpen(0)
	works(t, u) // a call after Close is still answered
	u.Close()

	u = newUpstream(t, s.URL(), func(o *upstreamhttp.Options) { o.Pool.IdleTimeout = time.Millisecond })
	works(t, u)
	s.AwaitOpen(0)
}
