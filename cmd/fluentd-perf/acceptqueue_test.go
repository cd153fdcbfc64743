package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/internal/config"
	"fluentd-perf/internal/mcptest"
)

// assembled is a daemon before the server at url that has not started.
func assembled(t *testing.T, url string) *daemon {
	t.Helper()
	cfg, _, err := config.Load(config.Sources{Upstreams: []string{"s=" + url}, Listen: []string{"127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	d, err := assemble(t.Context(), cfg, directories{}, slog.New(slog.DiscardHandler), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// posting connects and sends a request, whoever accepts it.
func posting(t *testing.T, addr string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	const body = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}`
	if _, err := fmt.Fprintf(nc, "POST /mcp/s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", len(body), body); err != nil {
		t.Fatal(err)
	}
	return nc
}

// TestDrainServesTheAcceptQueue: an agent whose connection the kernel has completed, and the daemon not accepted when it is
// told to stop, gets its answer.
func TestDrainServesTheAcceptQueue(t *testing.T) {
	for _, waiting := range []int{0, 1, 50} {
		t.Run(fmt.Sprint(waiting), func(t *testing.T) {
			d := assembled(t, mcptest.NewServer(t, mcptest.Minimal).URL())
			held, release := mcptest.NewGate(), make(chan struct{})
			d.server.ConnContext = func(ctx context.Context, nc net.Conn) context.Context { // called by the accept loop
				held.Open()
				<-release
				return withConnection(ctx, nc)
			}
			d.start()
			addr := d.addresses()[0]
			conns := []net.Conn{posting(t, addr)}
			<-held.Opened()
			for range waiting {
				conns = append(conns, posting(t, addr))
			}
			ended := make(chan error, 1)
			go func() { ended <- d.drain(time.Minute) }()
			soon(t, "closed to new connections", func() bool {
				nc, err := net.Dial("tcp", addr)
				if err == nil {
					nc.Close()
				}
				return errors.Is(err, syscall.ECONNREFUSED)
			})
			close(release)
			for i, nc := range conns {
				res, err := http.ReadResponse(bufio.NewReader(nc), nil)
				if err != nil {
					t.Fatalf("connection %d: %v", i, err)
				}
				if body, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK {
					t.Errorf("connection %d: %d %q, %v", i, res.StatusCode, body, err)
				}
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}
