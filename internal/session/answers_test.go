package session_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session"
)

// TestAnswerToWhatCouldNotBeRead holds that in a healed session the answer to a request of the server's which passed in pieces
// reaches the server: nobody knows what it asked.
func TestAnswerToWhatCouldNotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, pieces := range []bool{false, true} {
			w := newWorld()
			a := newAgent(t, w, session.HealReads)
			a.begin()
			w.forget()
			a.list()
			a.restarted()
			w.before = func(c *mcp.Call) (*mcp.Result, error) {
				if c.Method() != mcp.MethodToolsCall {
					return nil, nil
				}
				ask := `{"jsonrpc":"2.0","id":"q1","method":"sampling/createMessage","params":{"x":"` + strings.Repeat("x", 70<<10) + `"}}`
				raw := "data: " + ask + "\n\n"
				var list []mcp.Event
				if pieces {
					list = []mcp.Event{{Raw: []byte(raw[:65536]), Partial: true}, {Raw: []byte(raw[65536:]), Last: true, Answer: true}}
				} else {
					ev := mcp.Event{Raw: []byte(raw), Data: []byte(ask)}
					must(mcp.Scan(ev.Data, &ev.Message))
					list = []mcp.Event{ev}
				}
				return &mcp.Result{Status: 200, Header: http.Header{}, Events: &events{list: list, end: io.EOF}}, nil
			}
			res, err := a.post(context.Background(), a.request("tools/call", `{"name":"t"}`))
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				res.Events.Next()
			}
			before := w.count(mcp.LaneResponse, mcp.MethodNone)
			a.wantStatus(202, `{"jsonrpc":"2.0","id":"q1","result":{"role":"assistant"}}`)
			if n := w.count(mcp.LaneResponse, mcp.MethodNone) - before; n != 1 {
				t.Errorf("pieces %v: the agent's answer reached the server %d times", pieces, n)
			}
			res.Close()
		}
	})
}

// TestNotInitializedYet holds that a session whose server waits for notifications/initialized is not taken for lost: the ping
// would get the same words.
func TestNotInitializedYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		a := newAgent(t, w, session.HealReads)
		res, err := a.post(context.Background(), `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}`)
		if err != nil || res.Status != 200 {
			t.Fatal(res, err)
		}
		a.id = res.Header.Get("Mcp-Session-Id")
		body(t, res)
		early := `{"jsonrpc":"2.0","id":99,"error":{"code":-32000,"message":"Session not initialized. Send notifications/initialized first."}}`
		w.before = func(c *mcp.Call) (*mcp.Result, error) {
			if c.Method() == mcp.MethodInitialize || c.Lane == mcp.LaneNotification {
				return nil, nil
			}
			res := &mcp.Result{Status: 400, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(early)}
			must(mcp.Scan(res.Body, &res.Message))
			return res, nil
		}
		a.wantStatus(400, `{"jsonrpc":"2.0","id":99,"method":"tools/call","params":{"name":"t"}}`)
		if n := w.count(mcp.LaneRequest, mcp.MethodInitialize); n != 1 {
			t.Errorf("%d initialize", n)
		}
	})
}
