package http_test

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
)

// TestFetchedAgain holds what is asked for once more here: documents, after a failure or where a server is busy, and no calls, whether an
// agent's or the daemon's own. Each sending has the call's header and body.
func TestFetchedAgain(t *testing.T) {
	probe := requestOf("server/discover")
	probe.Again = true
	document := onLane(mcp.LaneFetch, "")
	busy, moved := saying(503, "text/plain", "later", "Retry-After: 3600"), saying(307, "text/plain", "", "Location: /there")
	there := saying(200, "application/json", `{"resource":"x"}`)
	for name, tt := range map[string]struct {
		call   *mcp.Call
		script []mcptest.Script
		want   string // the answer's status, or the reason of the failure, and how many requests came
	}{
		"busy":                   {document, []mcptest.Script{busy, there}, "200 2"},
		"broken off":             {document, []mcptest.Script{mcptest.CloseBeforeHead, mcptest.CloseBeforeHead, there}, "200 3"},
		"for good":               {document, []mcptest.Script{busy, busy, busy}, "503 3"},
		"broken for good":        {document, slices.Repeat([]mcptest.Script{mcptest.CloseBeforeHead}, 3), "broke_off 3"},
		"moved, and then busy":   {document, []mcptest.Script{moved, busy, there}, "200 3"},
		"not there":              {document, []mcptest.Script{saying(404, "text/plain", "no")}, "404 1"},
		"a probe, broken off":    {probe, []mcptest.Script{mcptest.CloseBeforeHead}, "broke_off 1"},
		"a probe, busy":          {probe, []mcptest.Script{busy}, "503 1"},
		"an agent's, broken":     {request(), []mcptest.Script{mcptest.CloseBeforeHead}, "broke_off 1"},
		"an agent's discover":    {requestOf("server/discover"), []mcptest.Script{mcptest.CloseBeforeHead}, "broke_off 1"},
		"an agent's array of it": {again(mcp.LaneBatch), []mcptest.Script{mcptest.CloseBeforeHead}, "broke_off 1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := mcptest.NewServer(t, mcptest.Hang)
			s.Once(tt.script...)
			u := newUpstream(t, s.URL())
			res, err := u.Call(t.Context(), tt.call)
			var got string
			if err != nil {
				got = string(mcp.AsFailure(err).Reason)
			} else {
				got = fmt.Sprint(res.Status)
				closeResult(t, res)
			}
			if got = fmt.Sprint(got, " ", s.Received()); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
			for _, r := range s.Requests() {
				if string(r.Body) != string(tt.call.Body) || r.Get("Mcp-Session-Id") != "s1" || r.Verb != tt.call.Lane.Verb() ||
					!strings.HasPrefix(r.Get("User-Agent"), "agent/") {
					t.Errorf("got %q", r.Raw)
				}
			}
		})
	}
}

// TestUntrustedIsAskedOnce: a certificate that nobody trusts is none that is better a moment later.
func TestUntrustedIsAskedOnce(t *testing.T) {
	var connections atomic.Int32
	s := httptest.NewUnstartedServer(nil)
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that fail
	s.StartTLS()
	defer s.Close()
	_, err := newUpstream(t, s.URL).Call(t.Context(), onLane(mcp.LaneFetch, ""))
	if f := mcp.AsFailure(err); err == nil || f.Reason != mcp.ReasonConnect || connections.Load() != 1 {
		t.Errorf("%v, %d connections", err, connections.Load())
	}
}

// again is a call of the daemon's own that may be sent again.
func again(lane mcp.Lane) *mcp.Call {
	c := onLane(lane, `[{"jsonrpc":"2.0","id":7,"method":"ping"}]`)
	c.Again = true
	return c
}
