package listener

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// rig is a Listener of one server, with what it received.
type rig struct {
	*Listener
	tb     testing.TB
	server *server
	end    context.CancelFunc // of Base

	got      sync.Mutex // guards the following
	received []string
}

// listenerTest runs f on false time, then ends the daemon: everything has to end with it.
func listenerTest(t *testing.T, server *server, f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, server, false)
		defer r.end() // a test that gives up, too, leaves nothing behind
		f(r)
		r.end()
		r.wantOpen(0)
		r.Close()
		if n := r.Streams(); n != 0 || server.open() != 0 {
			t.Errorf("after the end %d streams are counted and %d are open", n, server.open())
		}
		if n := r.Subscriptions(); n != 0 {
			t.Errorf("after the end there are %d subscriptions", n)
		}
	})
}

func newRig(tb testing.TB, server *server, off bool) *rig {
	r := &rig{tb: tb, server: server}
	server.start = time.Now()
	base, stop := context.WithCancel(context.Background())
	r.end = stop
	r.Listener = New(Options{
		Upstream: "docs", Next: server, Base: base, Off: off,
		Received: func(m *mcp.Message, data []byte) {
			r.got.Lock()
			defer r.got.Unlock()
			method, _ := mcp.Text(m.MethodName.Of(data))
			uri, _ := mcp.Text(m.URI.Of(data))
			r.received = append(r.received, strings.TrimSpace(method+" "+uri))
		},
	})
	return r
}

// at goes on to that time, and waits until all is quiet.
func (r *rig) at(d time.Duration) {
	r.tb.Helper()
	rest := d - time.Since(r.server.start)
	if rest < 0 {
		r.tb.Fatalf("it is %v after %v already", -rest, d)
	}
	<-time.After(rest)
	synctest.Wait()
}

// wantLog checks what the server was asked for, and when.
func (r *rig) wantLog(want string) {
	r.tb.Helper()
	synctest.Wait()
	if got := r.server.log(); got != want {
		r.tb.Fatalf("asked was\n\t%s, want\n\t%s", got, want)
	}
}

func (r *rig) wantOpen(want int) {
	r.tb.Helper()
	synctest.Wait()
	if n := r.Streams(); n != want || r.server.open() != want {
		r.tb.Fatalf("%d streams are counted and %d are open, want %d", n, r.server.open(), want)
	}
}

func (r *rig) wantReceived(want ...string) {
	r.tb.Helper()
	synctest.Wait()
	r.got.Lock()
	defer r.got.Unlock()
	if !slices.Equal(r.received, want) {
		r.tb.Fatalf("received %q, want %q", r.received, want)
	}
}

// partitions returns of how many something is remembered.
func (r *rig) partitions() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.by) + len(r.refused)
}

func (r *rig) get(p partition) *subscription {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.by[p]
}

func partitionOf(n int) [32]byte { return [32]byte{1, byte(n), byte(n >> 8)} }

// modernCall is an agent's modern call: of tools/list, or of resources/read if there is a uri.
func modernCall(uri string) *mcp.Call {
	method, params := "tools/list", ""
	if uri != "" {
		method, params = "resources/read", fmt.Sprintf(`"uri":%q,`, uri)
	}
	body := `{"jsonrpc":"2.0","id":7,"method":"` + method + `","params":{` + params + `"_meta":{` +
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","progressToken":null,` +
		`"io.modelcontextprotocol/clientInfo": {"name":"a","version":"1"},` +
		`"io.modelcontextprotocol/clientCapabilities": {"elicitation":{}}}}}`
	c := &mcp.Call{
		Upstream: "docs", Lane: mcp.LaneRequest, Era: mcp.EraModern, Version: mcp.Version20260728, Body: []byte(body),
		Header: header.Of(http.Header{
			"Authorization": {"Bearer one"}, "X-Tenant": {"a", "b"}, "User-Agent": nil, "Accept-Encoding": {"identity"},
			"Accept": {"text/event-stream, application/json"}, "Content-Type": {"application/json; charset=utf-8"},
			"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {method}, "Mcp-Name": {uri}, "Mcp-Param-Region": {"eu"},
			"Mcp-Session-Id": {"s"}, "Last-Event-Id": {"9"}, "Traceparent": {"00-1"}, "Tracestate": {"x=1"}, "Baggage": {"y=2"},
			"X-Request-Id": {"r1"}, "X-Correlation-Id": {"c1"}, "Idempotency-Key": {"i1"},
		}),
		Start: time.Now(),
	}
	if err := mcp.Scan(c.Body, &c.Message); err != nil {
		panic(err)
	}
	return c
}

// legacyCall is an agent's tools/list of 2025-06-18.
func legacyCall() *mcp.Call {
	c := &mcp.Call{
		Upstream: "docs", Lane: mcp.LaneRequest, Version: mcp.Version20250618,
		Body: []byte(`{"jsonrpc":"2.0","id":7,"method":"tools/list"}`),
		Header: header.Of(http.Header{
			"Authorization": {"Bearer one"}, "Accept": {"application/json, text/event-stream"}, "Content-Type": {"application/json"},
			"Mcp-Protocol-Version": {"2025-06-18"}, "Last-Event-Id": {"9"}, "Traceparent": {"00-1"},
		}),
		Start: time.Now(),
	}
	if err := mcp.Scan(c.Body, &c.Message); err != nil {
		panic(err)
	}
	return c
}

const (
	toolsChanged = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"x"}}}`
	acknowledged = `{"jsonrpc":"2.0","method":"notifications/subscriptions/acknowledged","params":{"notifications":{}}}`
)
