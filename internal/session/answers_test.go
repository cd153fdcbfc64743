package session_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session"
)

// TestAnswerToWhatCouldNotBeRead holds that in a healed session the answer to a request of the server's which passed in pieces
// reaches the server: nobody knows what it asked.
func TestAnswerToWhatCouldNotBeRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, pieces := range []bool{false, true} {
			w := newFakeServer()
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
				return &mcp.Result{Status: 200, Header: header.List{}, Events: &events{list: list, end: io.EOF}}, nil
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

// TestLostAnswer holds that an answer to the server in a session that cannot be healed is no success.
func TestLostAnswer(t *testing.T) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		w.restart()
		w.name = "other"
		a.wantStatus(404, `{"jsonrpc":"2.0","id":0,"result":{}}`)
	})
}

// TestAnswersToTheServer holds that an answer to a request of before the healing reaches no request of after it.
func TestAnswersToTheServer(t *testing.T) {
	ask := func(id string) mcp.Event {
		return mcp.Event{Data: []byte(`{"jsonrpc":"2.0","id":` + id + `,"method":"roots/list"}`)}
	}
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		a.wantStatus(202, `{"jsonrpc":"2.0","id":77,"result":{}}`) // in a whole session all pass
		res := a.get(t.Context(), "")
		wantEvent(t, res, w.stream(t, 1), ask("0"))
		wantEvent(t, res, w.stream(t, 1), ask("1"))
		w.restart()
		a.wantStatus(202, `{"jsonrpc":"2.0","id":0,"result":{"of":"before"}}`) // meets the loss
		a.wantStatus(202, `{"jsonrpc":"2.0","id":5,"result":{"of":"unknown"}}`)
		wait(10 * time.Second)
		got := next(res)
		w.stream(t, 1).events <- ask("1")
		if _, err := (<-got)(); err != nil {
			t.Fatal(err)
		}
		wantEvent(t, res, w.stream(t, 1), mcp.Event{Data: []byte(`[{"jsonrpc":"2.0","id":"x","method":"ping"},{"jsonrpc":"2.0","method":"m"}]`)})
		before := w.count(mcp.LaneResponse, mcp.MethodNone)
		a.wantStatus(202, `{"jsonrpc":"2.0","id":1,"result":{"of":"before"}}`)
		if n := w.count(mcp.LaneResponse, mcp.MethodNone); n != before {
			t.Errorf("an answer of before came to the server")
		}
		for i, answer := range []string{`{"jsonrpc":"2.0","id":1,"result":{}}`, `{"jsonrpc":"2.0","id":"x","error":{"code":1,"message":"no"}}`} {
			a.wantStatus(202, answer)
			if n := w.count(mcp.LaneResponse, mcp.MethodNone); n != before+i+1 {
				t.Errorf("%s did not come to the server", answer)
			}
			a.wantStatus(202, answer)
		}
		if n := w.count(mcp.LaneResponse, mcp.MethodNone); n != before+2 {
			t.Errorf("%d answers came to the server, want %d", n, before+2)
		}
		closed(t, res)
		a.restarted()
	})
}
