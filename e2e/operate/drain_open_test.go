// A drain and the connections that are open: idle ones, pipelined requests, streams of calls, a socket of the service
// manager's.

package operate

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// sendPOST writes a POST to the only upstream.
func sendPOST(r *harness.RawAgent, body string, fields ...string) {
	r.Write("%s", rawPOST(body, fields...))
}

func rawPOST(body string, fields ...string) string {
	head := append([]string{"POST /mcp/s HTTP/1.1", "Host: localhost", fmt.Sprintf("Content-Length: %d", len(body))}, fields...)
	return strings.Join(head, "\r\n") + "\r\n\r\n" + body
}

// expectAnswer reads the next answer, which must have this status, and reports whether it is its connection's last.
func expectAnswer(r *harness.RawAgent, status int) (got harness.Reply, last bool) {
	r.T.Helper()
	res := r.Response("POST")
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != status {
		r.T.Fatalf("got %d %q, %v, want %d", res.StatusCode, body, err, status)
	}
	return harness.Reply{Status: res.StatusCode, Header: res.Header, Body: string(body)}, res.Close
}

// expectEnd checks that the connection ends now, and without another byte.
func expectEnd(r *harness.RawAgent, what string) {
	r.T.Helper()
	if b, err := r.Reader.ReadByte(); err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
		r.T.Errorf("%s: %q, %v, want the connection's end", what, b, err)
	}
}

// idleAgents connects n agents and lets each of them have one answer.
func idleAgents(t *testing.T, d *harness.Daemon, n int) []*harness.RawAgent {
	t.Helper()
	all := make([]*harness.RawAgent, n)
	for i := range all {
		all[i] = harness.DialAgent(t, d)
		sendPOST(all[i], harness.Notification("x"))
		if _, last := expectAnswer(all[i], http.StatusAccepted); last {
			t.Fatal("a connection that is not kept")
		}
	}
	return all
}

// drains sends the daemon SIGTERM and waits until it takes no connections any more.
func drains(d *harness.Daemon) {
	d.T.Helper()
	d.Signal(syscall.SIGTERM)
	d.Eventually("closed to new connections", func() bool {
		conn, err := net.Dial("tcp", d.Addr)
		if err == nil {
			_ = conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	})
}

const elicitation = `{"jsonrpc":"2.0","id":"ask","method":"elicitation/create","params":{"message":"sure?","requestedSchema":{"type":"object","properties":{}}}}`

// eliciting answers calls after the agent has answered a request of the server's, everything else as Minimal does.
func eliciting() mcptest.Script {
	given := mcptest.NewGate()
	return func(x *mcptest.Exchange) {
		switch x.Method() {
		case "":
			if x.Verb == http.MethodPost {
				given.Open()
			}
			mcptest.Minimal(x)
		case "tools/call":
			st := x.Stream()
			st.Event(elicitation)
			if x.Wait(given.Opened()) {
				st.Answer(mcptest.ToolResult)
				st.End()
			}
		default:
			mcptest.Minimal(x)
		}
	}
}

// TestDrainServesOpenConnections: while a call is in flight, everything that comes on an open connection is served: what
// belongs to the call without ending the connection, a new request as its last one.
func TestDrainServesOpenConnections(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, eliciting())
	c := harness.OneUpstream(s.URL(), "")
	c.Top = "drain: 60s"
	d := harness.Start(t, c)
	idle := idleAgents(t, d, 4)
	a := d.Agent(t)
	call := a.Listen(http.MethodPost, "/mcp/s", harness.Request("1", "tools/call"))
	call.Next()
	drains(d)

	sendPOST(idle[0], harness.Request("2", "tools/list"))
	got, last := expectAnswer(idle[0], http.StatusOK)
	if string(got.RPC(t).Result) != mcptest.ToolResult || !last {
		t.Errorf("a new request got %s, the last on its connection: %v", got.Body, last)
	}
	expectEnd(idle[0], "after a new request")

	idle[1].Write("GET /mcp/s HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: other\r\n\r\n")
	expectEnd(idle[1], "a GET")

	sendPOST(idle[2], `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`)
	if _, last := expectAnswer(idle[2], http.StatusAccepted); last {
		t.Error("a cancellation ended its connection")
	}
	idle[2].Write("DELETE /mcp/s HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: other\r\n\r\n")
	expectAnswer(idle[2], http.StatusOK)
	sendPOST(idle[2], `{"jsonrpc":"2.0","id":"ask","result":{"action":"accept","content":{}}}`)
	if _, last := expectAnswer(idle[2], http.StatusAccepted); last {
		t.Error("an answer to the server ended its connection")
	}
	if e := call.Next(); !strings.Contains(e.Data, mcptest.ToolResult) {
		t.Errorf("the call in flight: %+v", e)
	}
	call.CleanEnd(harness.Soon)
	expectEnd(idle[2], "idle after the last call")
	expectEnd(idle[3], "idle all the time")
	if code := d.Exit(5 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestDrainPipelined: of requests that were sent together before the signal each is answered, the one that the daemon had
// not begun as its connection's last.
func TestDrainPipelined(t *testing.T) {
	t.Parallel()
	gate := mcptest.NewGate()
	s := mcptest.NewServer(t, mcptest.Minimal)
	c := harness.OneUpstream(s.URL(), "")
	c.Top = "drain: 60s"
	d := harness.Start(t, c)
	s.Once(func(x *mcptest.Exchange) {
		x.Wait(gate.Opened())
		mcptest.Minimal(x)
	})
	r := harness.DialAgent(t, d)
	r.Write("%s", rawPOST(harness.Request("1", "tools/call"))+rawPOST(harness.Request("2", "tools/call"))+rawPOST(harness.Request("3", "tools/call")))
	s.AwaitRequest(1)
	drains(d)
	gate.Open()
	for _, want := range []struct {
		id   string
		last bool
	}{{"1", false}, {"2", true}} {
		got, last := expectAnswer(r, http.StatusOK)
		if a := got.RPC(t); string(a.ID) != want.id || string(a.Result) != mcptest.ToolResult || last != want.last {
			t.Errorf("request %s got %s, the last on its connection: %v", want.id, got.Body, last)
		}
	}
	expectEnd(r, "after the last answer")
	if code := d.Exit(5 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestDrainOfIdleConnections: where nothing is in flight, nothing is waited for: used connections, unused ones, and those
// with a request that does not come whole.
func TestDrainOfIdleConnections(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		open func(t *testing.T, d *harness.Daemon) *harness.RawAgent
		most time.Duration
	}{
		"used":   {func(t *testing.T, d *harness.Daemon) *harness.RawAgent { return idleAgents(t, d, 1)[0] }, 3 * time.Second},
		"unused": {harness.DialAgent, 3 * time.Second},
		"half a head": {func(t *testing.T, d *harness.Daemon) *harness.RawAgent {
			r := harness.DialAgent(t, d)
			r.Write("POST /mcp/s HTTP/1.1\r\nHost: local")
			return r
		}, 9 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mcptest.NewServer(t, mcptest.Minimal)
			c := harness.OneUpstream(s.URL(), "")
			c.Top = "drain: 60s"
			d := harness.Start(t, c)
			r := tt.open(t, d)
			begun := time.Now()
			d.Signal(syscall.SIGTERM)
			expectEnd(r, "a connection on which nothing is in flight")
			if code := d.Exit(harness.MaxWait); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if took := time.Since(begun); took > tt.most+harness.Soon {
				t.Errorf("the drain took %v", took)
			}
		})
	}
}

// TestDrainKeepsTheStreamOfACall: the GET stream of a session stays for as long as a call of the session is in flight, whose
// requests may come on it. Others, and listen streams, close at once; a listen that comes now finds no answer.
func TestDrainKeepsTheStreamOfACall(t *testing.T) {
	t.Parallel()
	asks := mcptest.NewGate()
	calls := eliciting()
	s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
		switch {
		case x.Verb == http.MethodGet && x.Get("Mcp-Session-Id") == "kept":
			st := x.Stream()
			x.Wait(asks.Opened())
			st.Event(elicitation)
			x.Hang()
		case x.Method() == "subscriptions/listen":
			x.Stream().Event(acknowledged)
			x.Hang()
		default:
			calls(x)
		}
	})
	c := harness.OneUpstream(s.URL(), "")
	c.Top = "drain: 60s"
	d := harness.Start(t, c)
	a := d.Agent(t)
	idle := idleAgents(t, d, 2)
	get := func(session string) *harness.Listener {
		return a.Listen(http.MethodGet, "/mcp/s", "", "Mcp-Session-Id: "+session, "MCP-Protocol-Version: 2025-11-25")
	}
	kept, other := get("kept"), get("other")
	body, fields := harness.Modern("3", "subscriptions/listen")
	listen := a.Listen(http.MethodPost, "/mcp/s", body, fields...)
	listen.Next()
	call := a.Listen(http.MethodPost, "/mcp/s", harness.Request("1", "tools/call"), "Mcp-Session-Id: kept")
	call.Next()
	drains(d)
	other.CleanEnd(harness.Soon)
	listen.CleanEnd(harness.Soon)
	sendPOST(idle[0], body, fields...)
	expectEnd(idle[0], "a listen that comes during the drain")
	asks.Open()
	if e := kept.Next(); e.Data != elicitation {
		t.Errorf("on the stream of the call's session: %+v", e)
	}
	sendPOST(idle[1], `{"jsonrpc":"2.0","id":"ask","result":{"action":"accept","content":{}}}`, "Mcp-Session-Id: kept")
	expectAnswer(idle[1], http.StatusAccepted)
	if e := call.Next(); !strings.Contains(e.Data, mcptest.ToolResult) {
		t.Errorf("the call in flight: %+v", e)
	}
	kept.CleanEnd(harness.Soon)
	if code := d.Exit(5 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestDrainLeavesTheManagersSocket: a socket that the service manager opened goes on listening: who connects during the
// drain waits for the next daemon.
func TestDrainLeavesTheManagersSocket(t *testing.T) {
	t.Parallel()
	gate := mcptest.NewGate()
	s := mcptest.NewServer(t, mcptest.Minimal)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	socket, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	at := harness.NewFolders(t)
	cmd := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"`, harness.DaemonBinary, "serve", "--upstream", "s=" + s.URL()}, at.Args()...)...)
	cmd.Env = append(append(os.Environ(), at.Env()...), "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr, cmd.ExtraFiles = harness.ChildAttributes(), []*os.File{socket}
	d := &harness.Daemon{Process: harness.StartCommand(t, cmd), T: t, Addr: ln.Addr().String()}
	_ = socket.Close()
	d.Announced(t, `(fluentd-perf is ready)`)
	s.Once(func(x *mcptest.Exchange) {
		x.Wait(gate.Opened())
		mcptest.Minimal(x)
	})
	call := inBackground(d.Agent(t), harness.Request("1", "tools/call"))
	s.AwaitRequest(1)
	d.Signal(syscall.SIGTERM)
	d.Announced(t, "msg=\"(draining; another signal, a second from now or later, ends it at once)\"")
	late := harness.DialAgent(t, d)
	sendPOST(late, harness.Request("2", "tools/list"))
	gate.Open()
	if got := <-call; got.Err != nil || string(got.RPC(t).Result) != mcptest.ToolResult {
		t.Errorf("the call in flight: %+v", got)
	}
	if code := d.Exit(harness.MaxWait); code != 0 {
		t.Errorf("exit code %d", code)
	}
	next, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = next.Close() }()
	if r, err := http.ReadRequest(bufio.NewReader(next)); err != nil || r.URL.Path != "/mcp/s" {
		t.Errorf("the next daemon would get %v, %v", r, err)
	}
}
