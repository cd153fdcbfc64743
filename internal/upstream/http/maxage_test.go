package http_test

import (
	"bufio"
	"cmp"
	"context"
	"net"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	upstreamhttp "fluentd-perf/internal/upstream/http"
)

// hosts are in-memory servers behind one name, which leads to the one that is in use.
type hosts struct {
	u      *upstreamhttp.Upstream
	wg     sync.WaitGroup
	now    int // where the name leads
	dialed []int
	serve  func(host int, p *peer)
}

// newHosts returns an upstream at a name that leads to host 0. shut closes it before the bubble ends.
func newHosts(t *testing.T, pool upstreamhttp.PoolOptions, serve func(host int, p *peer)) (h *hosts, shut func()) {
	t.Helper()
	h = &hosts{serve: serve}
	o := options(&url.URL{Scheme: "http", Host: "server.test", Path: "/mcp"})
	o.Pool.MaxAge, o.Pool.IdleTimeout = cmp.Or(pool.MaxAge, o.Pool.MaxAge), cmp.Or(pool.IdleTimeout, o.Pool.IdleTimeout)
	dialsBy(func(context.Context) (net.Conn, error) { return h.dial(), nil })(&o)
	h.u = upstreamhttp.New(o)
	return h, func() { h.u.Close(); h.wg.Wait() }
}

func (h *hosts) dial() net.Conn {
	client, server := net.Pipe()
	host, number := h.now, len(h.dialed)+1
	h.dialed = append(h.dialed, host)
	h.wg.Go(func() {
		defer server.Close()
		h.serve(host, &peer{server, bufio.NewReader(server), number})
	})
	return client
}

// TestMaxAge holds that steady calls, which never leave a connection idle for long, follow a name that moves, that no
// connection is given up before its time, and that every call is answered and sent once.
func TestMaxAge(t *testing.T) {
	for _, c := range []struct {
		name   string
		maxAge time.Duration
		every  time.Duration
		lane   mcp.Lane
		verb   string
	}{
		{"calls, by the default", 5 * time.Minute, 200 * time.Millisecond, mcp.LaneRequest, "POST"},
		{"calls, by configuration", 10 * time.Second, 700 * time.Millisecond, mcp.LaneRequest, "POST"},
		{"notifications", time.Minute, time.Second, mcp.LaneNotification, "POST"},
		{"documents", time.Minute, time.Second, mcp.LaneFetch, "GET"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pool := upstreamhttp.PoolOptions{MaxAge: c.maxAge}
				asked := [2]int{}
				h, shut := newHosts(t, pool, func(host int, p *peer) {
					for r := p.request(); r != nil; r = p.request() {
						if asked[host]++; r.Method != c.verb {
							t.Errorf("got a %s", r.Method)
						}
						p.answerJSON(good)
					}
				})
				call := request()
				if call.Lane = c.lane; c.lane == mcp.LaneFetch {
					call.Body = nil
				}
				start, calls := time.Now(), 0
				for time.Since(start) < c.maxAge*5/2 {
					if calls == 1 {
						h.now = 1 // the name moves under the first connection
					}
					closeResult(t, mustCall(t, h.u, call))
					if calls++; time.Since(start) >= c.maxAge && asked[1] == 0 {
						t.Fatalf("still at the old host after %v", time.Since(start))
					}
					pass(c.every)
				}
				if asked[0]+asked[1] != calls || len(h.dialed) != 3 {
					t.Errorf("%d calls came as %v, on connections to %v, want three", calls, asked, h.dialed)
				}
				shut()
			})
		})
	}
}

// TestMaxAgeLeavesStreams holds that what is under way on a connection when its time is over goes on.
func TestMaxAgeLeavesStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, shut := newHosts(t, upstreamhttp.PoolOptions{MaxAge: time.Second}, func(_ int, p *peer) {
			p.request()
			p.say("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
			for range 3 {
				pass(2 * time.Second)
				p.say("data: %s\n\n", good)
			}
		})
		events := mustCall(t, h.u, onLane(mcp.LaneStream, "")).Events
		for range 3 {
			if _, err := events.Next(); err != nil {
				t.Fatal(err)
			}
		}
		events.Close()
		shut()
	})
}

// TestKeepAliveHintOfOneServer holds that of two servers behind one name only the one that closes early loses its idle
// connections: the other's stay warm, and the first one's are not used when the other spoke last.
func TestKeepAliveHintOfOneServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := make(chan int, 8) // by number of the connection
		h, shut := newHosts(t, upstreamhttp.PoolOptions{IdleTimeout: time.Hour, MaxAge: time.Hour}, func(host int, p *peer) {
			hint := [2]string{"Keep-Alive: timeout=5\r\n"}[host]
			for p.request() != nil {
				asked <- p.number
				pass(time.Duration(1+host) * time.Millisecond) // the one without a hint speaks last, and is taken first
				p.say("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s", len(good), hint, good)
			}
		})
		both := func() {
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() { closeResult(t, mustCall(t, h.u, request())) })
				synctest.Wait()
				h.now = 1
			}
			wg.Wait()
		}
		both()
		pass(time.Minute)
		both()
		close(asked)
		var got []int
		for n := range asked {
			got = append(got, n)
		}
		if len(got) != 4 || got[2] != 2 || got[3] != 3 {
			t.Errorf("the calls came on connections %v, want the warm one, 2, and for the other a new one, 3", got)
		}
		shut()
	})
}
