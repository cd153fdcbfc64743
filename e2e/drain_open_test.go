package e2e

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

	"fluentd-perf/internal/mcptest"
)

// sendPOST writes a POST to the only upstream.
func (r *rawAgent) sendPOST(body string, fields ...string) {
	r.write("%s", rawPOST(body, fields...))
}

func rawPOST(body string, fields ...string) string {
	head := append([]string{"POST /mcp/s HTTP/1.1", "Host: localhost", fmt.Sprintf("Content-Length: %d", len(body))}, fields...)
	return strings.Join(head, "\r\n") + "\r\n\r\n" + body
}

// answered reads the next answer, which must have this status, and reports whether it is its connection's last.
func (r *rawAgent) answered(status int) (got reply, last bool) {
	r.t.Helper()
	res := r.response("POST")
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != status {
		r.t.Fatalf("got %d %q, %v, want %d", res.StatusCode, body, err, status)
	}
	return reply{status: res.StatusCode, header: res.Header, body: string(body)}, res.Close
}

// ended checks that the connection ends now, and without another byte.
func (r *rawAgent) ended(what string) {
	r.t.Helper()
	if b, err := r.br.ReadByte(); err != io.EOF && !errors.Is(err, syscall.ECONNRESET) {
		r.t.Errorf("%s: %q, %v, want the connection's end", what, b, err)
	}
}

// idleAgents connects n agents and lets each of them have one answer.
func idleAgents(t *testing.T, d *sidecar, n int) []*rawAgent {
	t.Helper()
	all := make([]*rawAgent, n)
	for i := range all {
		all[i] = dialAgent(t, d)
		all[i].sendPOST(notification("x"))
		if _, last := all[i].answered(http.StatusAccepted); last {
			t.Fatal("a connection that is not kept")
		}
	}
	return all
}

// drains sends the daemon SIGTERM and waits until it takes no connections any more.
func (d *sidecar) drains() {
	d.t.Helper()
	d.signal(syscall.SIGTERM)
	d.eventually("closed to new connections", func() bool {
		conn, err := net.Dial("tcp", d.addr)
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
	c := one(s.URL(), "")
	c.top = "drain: 60s"
	d := runSidecar(t, c)
	idle := idleAgents(t, d, 4)
	a := d.agent(t)
	call := a.listen(http.MethodPost, "/mcp/s", request("1", "tools/call"))
	call.next()
	d.drains()

	idle[0].sendPOST(request("2", "tools/list"))
	got, last := idle[0].answered(http.StatusOK)
	if string(got.rpc(t).Result) != mcptest.ToolResult || !last {
		t.Errorf("a new request got %s, the last on its connection: %v", got.body, last)
	}
	idle[0].ended("after a new request")

	idle[1].write("GET /mcp/s HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: other\r\n\r\n")
	idle[1].ended("a GET")

	idle[2].sendPOST(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`)
	if _, last := idle[2].answered(http.StatusAccepted); last {
		t.Error("a cancellation ended its connection")
	}
	idle[2].write("DELETE /mcp/s HTTP/1.1\r\nHost: localhost\r\nMcp-Session-Id: other\r\n\r\n")
	idle[2].answered(http.StatusOK)
	idle[2].sendPOST(`{"jsonrpc":"2.0","id":"ask","result":{"action":"accept","content":{}}}`)
	if _, last := idle[2].answered(http.StatusAccepted); last {
		t.Error("an answer to the server ended its connection")
	}
	if e := call.next(); !strings.Contains(e.data, mcptest.ToolResult) {
		t.Errorf("the call in flight: %+v", e)
	}
	call.cleanEnd(soon)
	idle[2].ended("idle after the last call")
	idle[3].ended("idle all the time")
	if code := d.exit(5 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestDrainPipelined: of requests that were sent together before the signal each is answered, the one that the daemon had
// not begun as its connection's last.
func TestDrainPipelined(t *testing.T) {
	t.Parallel()
	gate := mcptest.NewGate()
	s := mcptest.NewServer(t, mcptest.Minimal)
	c := one(s.URL(), "")
	c.top = "drain: 60s"
	d := runSidecar(t, c)
	s.Once(func(x *mcptest.Exchange) {
		x.Wait(gate.Opened())
		mcptest.Minimal(x)
	})
	r := dialAgent(t, d)
	r.write("%s", rawPOST(request("1", "tools/call"))+rawPOST(request("2", "tools/call"))+rawPOST(request("3", "tools/call")))
	s.AwaitRequest(1)
	d.drains()
	gate.Open()
	for _, want := range []struct {
		id   string
		last bool
	}{{"1", false}, {"2", true}} {
		got, last := r.answered(http.StatusOK)
		if a := got.rpc(t); string(a.ID) != want.id || string(a.Result) != mcptest.ToolResult || last != want.last {
			t.Errorf("request %s got %s, the last on its connection: %v", want.id, got.body, last)
		}
	}
	r.ended("after the last answer")
	if code := d.exit(5 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// TestDrainOfIdleConnections: where nothing is in flight, nothing is waited for: used connections, unused ones, and those
// with a request that does not come whole.
func TestDrainOfIdleConnections(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		open func(t *testing.T, d *sidecar) *rawAgent
		most time.Duration
	}{
		"used":   {func(t *testing.T, d *sidecar) *rawAgent { return idleAgents(t, d, 1)[0] }, 3 * time.Second},
		"unused": {dialAgent, 3 * time.Second},
		"half a head": {func(t *testing.T, d *sidecar) *rawAgent {
			r := dialAgent(t, d)
			r.write("POST /mcp/s HTTP/1.1\r\nHost: local")
			return r
		}, 9 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := mcptest.NewServer(t, mcptest.Minimal)
			c := one(s.URL(), "")
			c.top = "drain: 60s"
			d := runSidecar(t, c)
			r := tt.open(t, d)
			begun := time.Now()
			d.signal(syscall.SIGTERM)
			r.ended("a connection on which nothing is in flight")
			if code := d.exit(patience); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if took := time.Since(begun); took > tt.most {
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
	c := one(s.URL(), "")
	c.top = "drain: 60s"
	d := runSidecar(t, c)
	a := d.agent(t)
	idle := idleAgents(t, d, 2)
	get := func(session string) *listener {
		return a.listen(http.MethodGet, "/mcp/s", "", "Mcp-Session-Id: "+session, "MCP-Protocol-Version: 2025-11-25")
	}
	kept, other := get("kept"), get("other")
	body, fields := modern("3", "subscriptions/listen")
	listen := a.listen(http.MethodPost, "/mcp/s", body, fields...)
	listen.next()
	call := a.listen(http.MethodPost, "/mcp/s", request("1", "tools/call"), "Mcp-Session-Id: kept")
	call.next()
	d.drains()
	other.cleanEnd(soon)
	listen.cleanEnd(soon)
	idle[0].sendPOST(body, fields...)
	idle[0].ended("a listen that comes during the drain")
	asks.Open()
	if e := kept.next(); e.data != elicitation {
		t.Errorf("on the stream of the call's session: %+v", e)
	}
	idle[1].sendPOST(`{"jsonrpc":"2.0","id":"ask","result":{"action":"accept","content":{}}}`, "Mcp-Session-Id: kept")
	idle[1].answered(http.StatusAccepted)
	if e := call.next(); !strings.Contains(e.data, mcptest.ToolResult) {
		t.Errorf("the call in flight: %+v", e)
	}
	kept.cleanEnd(soon)
	if code := d.exit(5 * time.Second); code != 0 {
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
	at := newPlaces(t)
	cmd := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"`, daemonBinary, "serve", "--upstream", "s=" + s.URL()}, at.args()...)...)
	cmd.Env = append(append(os.Environ(), at.env()...), "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr, cmd.ExtraFiles = childAttributes(), []*os.File{socket}
	d := &sidecar{startCommand(t, cmd), t, ln.Addr().String()}
	_ = socket.Close()
	d.announced(t, `(fluentd-perf is ready)`)
	s.Once(func(x *mcptest.Exchange) {
		x.Wait(gate.Opened())
		mcptest.Minimal(x)
	})
	call := inBackground(d.agent(t), request("1", "tools/call"))
	s.AwaitRequest(1)
	d.signal(syscall.SIGTERM)
	d.announced(t, "msg=\"(draining; another signal, a second from now or later, ends it at once)\"")
	late := dialAgent(t, d)
	late.sendPOST(request("2", "tools/list"))
	gate.Open()
	if got := <-call; got.err != nil || string(got.rpc(t).Result) != mcptest.ToolResult {
		t.Errorf("the call in flight: %+v", got)
	}
	if code := d.exit(patience); code != 0 {
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
