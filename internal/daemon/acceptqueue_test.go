package daemon

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/internal/config"
	"fluentd-perf/internal/mcptest"
)

// assembled is a daemon before the server at url that has not started.
func assembled(t *testing.T, url string) *daemon { return assembledAt(t, url, "127.0.0.1:0") }

// assembledAt is one that listens on an address.
func assembledAt(t *testing.T, url, address string) *daemon {
	t.Helper()
	cfg, _, err := config.Load(config.Sources{Upstreams: []string{"s=" + url}})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Listen = []config.Listen{listenAt(address)}
	d, err := assemble(t.Context(), Options{Config: cfg, Paths: Paths{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// listenAt is the configuration of an address.
func listenAt(address string) config.Listen {
	if path, ok := strings.CutPrefix(address, unixScheme); ok {
		return config.Listen{Unix: path}
	}
	return config.Listen{Address: address}
}

// dial connects to an address as the configuration writes it.
func dial(addr string) (net.Conn, error) {
	if path, ok := strings.CutPrefix(addr, unixScheme); ok {
		return net.Dial("unix", path)
	}
	return net.Dial("tcp", addr)
}

// sending connects and sends a request, whoever accepts it.
func sending(t *testing.T, addr, line, body string) net.Conn {
	t.Helper()
	nc, err := dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	if _, err := fmt.Fprintf(nc, "%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s", line, len(body), body); err != nil {
		t.Fatal(err)
	}
	return nc
}

// heldListener keeps the accept loop from going on until it is released.
type heldListener struct {
	net.Listener
	held    *mcptest.Gate
	release chan struct{}
}

// Accept implements net.Listener.
func (l heldListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	l.held.Open()
	<-l.release
	return nc, err
}

// SyscallConn is how the accept queue is emptied.
func (l heldListener) SyscallConn() (syscall.RawConn, error) {
	return l.Listener.(syscall.Conn).SyscallConn()
}

// TestDrainServesTheAcceptQueue: an agent whose connection the kernel has completed, and the daemon not accepted when it is
// told to stop, gets its answer.
func TestDrainServesTheAcceptQueue(t *testing.T) {
	for _, tt := range []struct {
		waiting int
		address string
	}{{0, "127.0.0.1:0"}, {1, "127.0.0.1:0"}, {50, "127.0.0.1:0"}, {50, unixScheme + filepath.Join(t.TempDir(), "s")}} {
		t.Run(fmt.Sprintf("%d at %s", tt.waiting, tt.address), func(t *testing.T) {
			d := assembledAt(t, mcptest.NewServer(t, mcptest.Minimal).URL(), tt.address)
			held, release := mcptest.NewGate(), make(chan struct{})
			d.listeners[0] = heldListener{d.listeners[0], held, release}
			d.start()
			addr := d.addresses()[0]
			conns := []net.Conn{sending(t, addr, "POST /mcp/s", aCall)}
			<-held.Opened()
			for range tt.waiting {
				conns = append(conns, sending(t, addr, "POST /mcp/s", aCall))
			}
			ended := make(chan error, 1)
			go func() { ended <- d.drain(time.Minute) }()
			soon(t, "closed to new connections", func() bool {
				nc, err := dial(addr)
				if err == nil {
					nc.Close()
				}
				return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
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

// TestRefusingOverSockets: what the handler refuses shortly before the drain's deadline, and what gets through, while a call waits
// for its agent. No clock runs: TestDrainRefusesNearTheDeadline holds when that is.
func TestRefusingOverSockets(t *testing.T) {
	given := mcptest.NewGate()
	d := assembled(t, mcptest.NewServer(t, func(x *mcptest.Exchange) {
		switch {
		case x.Verb == http.MethodPost && x.Method() == "":
			given.Open()
			x.Accept()
		case x.Method() == "tools/call":
			st := x.Stream()
			st.Event(`{"jsonrpc":"2.0","id":"ask","method":"elicitation/create","params":{}}`)
			if x.Wait(given.Opened()) {
				st.Answer(mcptest.ToolResult)
				st.End()
			}
		default:
			mcptest.Minimal(x)
		}
	}).URL())
	d.start()
	addr := d.addresses()[0]
	call, err := http.ReadResponse(bufio.NewReader(sending(t, addr, "POST /mcp/s", aCall)), nil)
	if err != nil {
		t.Fatal(err)
	}
	d.handler.Drain()
	d.handler.Refuse()
	const list = `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`
	for _, tt := range []struct {
		line, body string
		status     int // 0: the connection ends
	}{
		{"POST /mcp/s", list, 200}, {"POST /rpc/s", "[" + list + "]", 503}, {"POST /mcp/s", "[" + list + "]", 503},
		{"GET /mcp/s", "", 0}, {"DELETE /mcp/s", "", 200}, {"POST /mcp/s", "[" + aReply + "," + aReply + "]", 202},
	} {
		res, err := http.ReadResponse(bufio.NewReader(sending(t, addr, tt.line, tt.body)), nil)
		if tt.status == 0 {
			if err == nil {
				t.Errorf("%s got %d", tt.line, res.StatusCode)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s %s: %v", tt.line, tt.body, err)
		}
		answer, err := io.ReadAll(res.Body)
		refused := strings.Contains(string(answer), `"code":1503`)
		if err != nil || res.StatusCode != tt.status || refused != strings.Contains(tt.body, "tools/list") {
			t.Errorf("%s %s got %d %s, %v", tt.line, tt.body, res.StatusCode, answer, err)
		}
	}
	if answer, err := io.ReadAll(call.Body); err != nil || !strings.Contains(string(answer), `"result":`+mcptest.ToolResult) {
		t.Errorf("the call in flight got %s, %v", answer, err)
	}
	if err := d.drain(time.Minute); err != nil {
		t.Error(err)
	}
}
