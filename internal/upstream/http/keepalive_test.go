package http_test

import (
	"bufio"
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

// TestKeepAliveHint holds that a connection is not used again once the server may be closing it: Node's servers end an
// idle one after the five seconds that they announce, and a POST that meets the close is lost.
func TestKeepAliveHint(t *testing.T) {
	for _, c := range []struct {
		name  string
		hint  string
		idle  time.Duration
		dials int
	}{
		{"no hint", "", time.Minute, 1},
		{"soon", "Keep-Alive: timeout=5\r\n", 3 * time.Second, 1},
		{"too late", "Keep-Alive: timeout=5, max=100\r\n", 4500 * time.Millisecond, 2},
		{"much too late", "Keep-Alive: max=100, Timeout=5\r\n", time.Minute, 2},
		{"rubbish", "Keep-Alive: timeout=-5\r\n", time.Minute, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var wg sync.WaitGroup
				dials, requests := 0, make(chan int, 4)
				serve := func(conn net.Conn, number int) {
					defer conn.Close()
					p := &peer{conn, bufio.NewReader(conn), number}
					for p.request() != nil {
						requests <- number
						p.say("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s", len(good), c.hint, good)
					}
				}
				o := options(&url.URL{Scheme: "http", Host: "server.test", Path: "/mcp"})
				o.Pool.IdleTimeout = time.Hour
				dialsBy(func(context.Context) (net.Conn, error) {
					dials++
					client, server := net.Pipe()
					number := dials
					wg.Go(func() { serve(server, number) })
					return client, nil
				})(&o)
				u := upstreamhttp.New(o)
				closeResult(t, mustCall(t, u, request()))
				pass(c.idle)
				closeResult(t, mustCall(t, u, request()))
				if dials != c.dials || len(requests) != 2 {
					t.Errorf("%d connections and %d requests, want %d and 2", dials, len(requests), c.dials)
				}
				u.Close()
				wg.Wait()
			})
		})
	}
}

// TestNoStatus holds that what is no status of an answer never reaches an agent.
func TestNoStatus(t *testing.T) {
	for _, head := range []string{"HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 000 Odd\r\nContent-Length: 0\r\n\r\n"} {
		synctest.Test(t, func(t *testing.T) {
			u, shut := piped(t, func(p *peer) { p.request(); p.say("%s", head) })
			_, err := u.Call(t.Context(), request())
			wantFailure(t, err, mcp.CodeBadGateway, mcp.ReasonBadAnswer, mcp.SentYes)
			shut()
		})
	}
}
