package http_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	upstreamhttp "fluentd-perf/internal/upstream/http"
)

// The request on the wire is the agent's, byte for byte in its body, with nothing of net/http's own.
func TestRequestOnTheWire(t *testing.T) {
	s := mcptest.NewServer(t, mcptest.Minimal)
	u := newUpstream(t, s.URL()+"?key=v&x=%2F")
	body := "{\n \"jsonrpc\":\"2.0\", \"id\":7, \"method\":\"tools/list\", \"params\":{\"x\":\"\\u00e9é\"} }\n"
	c := onLane(mcp.LaneRequest, body)
	c.Header = header.Of(http.Header{
		"Content-Type": {"application/json"}, "X-Two": {"a", "b"}, "Mcp-Name": {"=?base64?eA==?="},
		"Expect": {"100-continue"}, "Host": {"agent.example"}, "Content-Length": {"1"},
		"Idempotency-Key": {"k"}, "X-Idempotency-Key": {"k2"},
	})
	before := c.Header.Clone()
	closeResult(t, mustCall(t, u, c))
	if len(before) != len(c.Header) || !c.Header.Has("Expect") {
		t.Errorf("the call's header was changed: %v", c.Header)
	}
	r := s.Requests()[0]
	var fields []string
	for _, f := range r.Fields {
		fields = append(fields, strings.ToLower(f.Name)+": "+f.Value)
	}
	slices.Sort(fields)
	want := []string{
		"accept-encoding: identity", fmt.Sprintf("content-length: %d", len(body)), "content-type: application/json",
		"host: " + s.Addr(), "idempotency-key: k", "mcp-name: =?base64?eA==?=", "x-idempotency-key: k2", "x-two: a", "x-two: b",
	}
	if !slices.Equal(fields, want) {
		t.Errorf("got  %q\nwant %q", fields, want)
	}
	if string(r.Body) != body || r.Verb != http.MethodPost || r.Target != "/mcp?key=v&x=%2F" {
		t.Errorf("got %s %s %q", r.Verb, r.Target, r.Body)
	}
}

// A header that is otherwise fit to go out as it is still loses what must not go, or not by that spelling.
func TestHeadersThatAreNotFit(t *testing.T) {
	for _, name := range []string{"Expect", "Idempotency-Key", "X-Idempotency-Key"} {
		s := mcptest.NewServer(t, mcptest.Minimal)
		u := newUpstream(t, s.URL())
		works(t, u)
		s.Script(mcptest.CloseBeforeHead)
		c := request()
		c.Header.Set("Accept-Encoding", "identity")
		c.Header.Set(name, "100-continue")
		_, err := u.Call(t.Context(), c)
		wantFailure(t, err, mcp.CodeBadGateway, mcp.ReasonBrokeOff, mcp.SentUnknown)
		if r := s.AwaitRequest(2); s.Received() != 2 || r.Has(name) != (name != "Expect") || !c.Header.Has(name) {
			t.Errorf("%s: %d requests, %q", name, s.Received(), r.Raw)
		}
	}
}

func TestUserAgent(t *testing.T) {
	s := mcptest.NewServer(t, mcptest.Minimal)
	u := newUpstream(t, s.URL())
	for _, agent := range []string{"", "agent/1"} {
		for _, complete := range []bool{false, true} {
			c := request()
			c.Header.Del("User-Agent")
			if agent != "" {
				c.Header.Set("User-Agent", agent)
			}
			if complete {
				c.Header.Set("Accept-Encoding", "identity")
			}
			closeResult(t, mustCall(t, u, c))
			all := s.Requests()
			r := all[len(all)-1]
			if r.Has("User-Agent") != (agent != "") || r.Get("User-Agent") != agent {
				t.Errorf("%q: got %q", agent, r.Get("User-Agent"))
			}
			if r.Get("Accept-Encoding") != "identity" {
				t.Errorf("Accept-Encoding: %q", r.Get("Accept-Encoding"))
			}
		}
	}
}

// Head and body leave in one write: two would be one more system call here and one more wake-up there.
func TestOneWritePerRequest(t *testing.T) {
	s := mcptest.NewServer(t, mcptest.Minimal)
	var mu sync.Mutex
	var writes []int
	u := newUpstream(t, s.URL(), dialing(func(ctx context.Context, dial dialer, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		return &countsWrites{c, func(n int) {
			mu.Lock()
			defer mu.Unlock()
			writes = append(writes, n)
		}}, err
	}))
	works(t, u)
	if mu.Lock(); len(writes) != 1 {
		t.Errorf("writes of %v bytes, want one", writes)
	}
	mu.Unlock()
}

type countsWrites struct {
	net.Conn
	wrote func(n int)
}

func (c *countsWrites) Write(p []byte) (int, error) {
	c.wrote(len(p))
	return c.Conn.Write(p)
}

// A GET takes a connection that is warm; other streams without end have some of their own, whichever came first.
func TestConnectionsOfStreams(t *testing.T) {
	s := mcptest.NewServer(t, mcptest.Minimal)
	u := newUpstream(t, s.URL())
	works(t, u)
	s.Script(saying(405, "", ""))
	closeResult(t, mustCall(t, u, onLane(mcp.LaneStream, "")))
	s.Script(mcptest.Minimal)
	works(t, u)
	closeResult(t, mustCall(t, u, onLane(mcp.LaneListen, bodyOf(mcp.LaneListen))))
	var conns []int
	for _, r := range s.Requests() {
		conns = append(conns, r.Conn)
	}
	if want := []int{1, 1, 1, 2}; !slices.Equal(conns, want) {
		t.Errorf("connections %v, want %v", conns, want)
	}
}

// The proxy of the environment is read once in a process, so a child looks for it.
const (
	childTarget   = "UPSTREAM_TEST_TARGETS"
	proxiedTarget = "http://server.example:8080/mcp"
)

func TestProxyOfTheEnvironment(t *testing.T) {
	proxy := mcptest.NewServer(t, mcptest.Minimal)
	direct := mcptest.NewServer(t, mcptest.Minimal)
	port := direct.Addr()[strings.LastIndex(direct.Addr(), ":"):]
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "HTTP_PROXY=http://user:secret@"+proxy.Addr(), "NO_PROXY=",
		childTarget+"="+proxiedTarget+","+direct.URL()+",http://localhost"+port+"/mcp")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if n := direct.Received(); n != 2 {
		t.Errorf("%d requests came directly, want 2: %s", n, out)
	}
	all := proxy.Requests()
	if len(all) != 1 || all[0].Target != proxiedTarget || all[0].Get("Host") != "server.example:8080" ||
		!strings.HasPrefix(all[0].Get("Proxy-Authorization"), "Basic ") {
		t.Errorf("the proxy got %+v: %s", all, out)
	}
}

// proxiedChild calls the targets, one after the other, and returns the exit code.
func proxiedChild(targets string) int {
	for target := range strings.SplitSeq(targets, ",") {
		endpoint, err := url.Parse(target)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		u := upstreamhttp.New(options(endpoint))
		res, err := u.Call(context.Background(), request())
		if err != nil {
			fmt.Println(target, err)
			return 1
		}
		if !bytes.Contains(res.Body, []byte("result")) || res.Close() != nil {
			return 1
		}
		u.Close()
	}
	return 0
}
