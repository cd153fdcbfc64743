package httpsse_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
)

func endpointEvent(name, data string) mcp.Event {
	ev := mcp.Event{Raw: []byte("event: " + name + "\ndata: " + data + "\n\n"), Name: []byte(name)}
	if data != "" {
		ev.Data = []byte(data)
	}
	return ev
}

// wantEndpoint makes the server send an endpoint event, of which the agent is to get its stream's own path, and wants the
// messages after it to go to that URL.
func (a *agent) wantEndpoint(name, data, want string) {
	a.t.Helper()
	go func() { a.s.feed <- endpointEvent(name, data) }()
	ev := a.next()
	if path := "/mcp/old/message/" + a.id; string(ev.Raw) != "event: endpoint\ndata: "+path+"\n\n" || string(ev.Data) != path {
		a.t.Fatalf("%q: the agent gets %q", data, ev.Raw)
	}
	for _, body := range []string{`{"jsonrpc":"2.0","id":1,"method":"tools/call"}`, `{"jsonrpc":"2.0","method":"x"}`} {
		a.send(body)
		if got := a.s.posts[len(a.s.posts)-1].Target.String(); got != want {
			a.t.Errorf("%q: %s went to %s, want %s", data, body, got, want)
		}
	}
}

// TestLaterEndpoints holds that no endpoint event tells an agent anything but its stream's own path; that one of the server's
// origin changes where the daemon posts; and that one of another origin, or of none, is not followed.
func TestLaterEndpoints(t *testing.T) {
	for _, c := range []struct{ name, data, want string }{
		{"endpoint", "/rpc/other", "http://server.test/rpc/other"},
		{"endpoint", "/mcp/other/message/x", "http://server.test/mcp/other/message/x"},
		{"endpoint", " /m2?session=2 ", "http://server.test/m2?session=2"},
		{"endpoint", "m2", "http://server.test/base/m2"},
		{"endpoint", "http://server.test:80/m2", "http://server.test:80/m2"},
		{"ENDPOINT", "/m2", "http://server.test/m2"},
		{" endpoint ", "/m2", "http://server.test/m2"},
		{"endpoint", "", "http://server.test/m"},
		{"endpoint", "http://evil.test/m", "http://server.test/m"},
		{"endpoint", "//evil.test/m", "http://server.test/m"},
		{"endpoint", "http://server.test:81/m", "http://server.test/m"},
		{"endpoint", "https://server.test/m", "http://server.test/m"},
		{"endpoint", "javascript:alert(1)", "http://server.test/m"},
		{"endpoint", "http://[::1", "http://server.test/m"},
		{"endpoint", "/a\n/b", "http://server.test/m"},
	} {
		withStream(t, func(a *agent) {
			for range 2 {
				a.wantEndpoint(c.name, c.data, c.want)
			}
		})
	}
}

// TestEndpointInPieces holds that what cannot be looked into ends the stream with an error, as it ends the calls that wait
// for an answer on it, and that nothing is posted after it.
func TestEndpointInPieces(t *testing.T) {
	withStream(t, func(a *agent) {
		a.send(`{"jsonrpc":"2.0","id":1,"method":"tools/call"}`)
		go func() { a.s.feed <- mcp.Event{Raw: []byte("data: /rpc/other\ndata: x"), Partial: true} }()
		a.wantFailure("1", 1502, mcp.ReasonBadAnswer, time.Now(), 0)
		var f *mcp.Failure
		if _, err := a.res.Events.Next(); !errors.As(err, &f) || f.Code != 1502 || f.Reason != mcp.ReasonBadAnswer {
			t.Errorf("ended with %v", err)
		}
		if _, err := a.call(`{"jsonrpc":"2.0","id":2,"method":"tools/list"}`); err == nil || len(a.s.posts) != 1 {
			t.Errorf("a call after it: %v, %d posts", err, len(a.s.posts))
		}
	})
}

// TestLooks holds that the stream is asked for in whole events: in a piece of one nobody sees what it is.
func TestLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer("/m")
		var whole bool
		a := open(t, t.Context(), s, newStage(t, mcp.CallerFunc(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
			whole = c.Whole
			return s.Call(ctx, c)
		})))
		if !whole {
			t.Error("events may come in pieces")
		}
		a.close()
	})
}

// TestLooseAndOpaque holds that loose and opaque messages pass both ways, and that a loose answer is one: no error follows it.
func TestLooseAndOpaque(t *testing.T) {
	for name, c := range map[string]struct{ request, answer string }{
		"params null":     {`{"jsonrpc":"2.0","id":1,"method":"tools/list","params":null}`, `{"jsonrpc":"2.0","id":1,"result":{}}`},
		"a lone half":     {`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"\ud83d"}}`, `{"jsonrpc":"2.0","id":1,"result":"\ud83d"}`},
		"another type":    {`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, `{"jsonrpc":"2.0","id":"1","result":{}}`},
		"the other way":   {`{"jsonrpc":"2.0","id":"1","method":"tools/list"}`, `{"jsonrpc":"2.0","id":1,"result":{}}`},
		"error null":      {`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, `{"jsonrpc":"2.0","id":1,"result":{},"error":null}`},
		"an array of one": {`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`, `[{"jsonrpc":"2.0","id":1,"result":{}}]`},
		"an array":        {`[{"jsonrpc":"2.0","id":1,"method":"tools/list"}]`, `[{"jsonrpc":"2.0","id":1,"result":{}}]`},
		"no JSON":         {`{"jsonrpc":`, `what?`},
	} {
		t.Run(name, func(t *testing.T) {
			withStream(t, func(a *agent) {
				call := &mcp.Call{Upstream: "old", Lane: mcp.LaneMessage, Endpoint: a.id, Body: []byte(c.request)}
				if mcp.Scan(call.Body, &call.Message) != nil || call.Message.Kind == mcp.KindBatch {
					call.Message = mcp.Message{Kind: call.Message.Kind, Method: mcp.MethodOther}
				}
				if r, err := a.stage.Call(t.Context(), call); err != nil || r.Status != 202 || string(a.s.posts[0].Body) != c.request {
					t.Fatalf("%v, %v, posted %s", r, err, a.s.posts[0].Body)
				}
				go func() {
					a.s.feed <- answerEvent(c.answer)
					<-time.After(2 * time.Hour)
					a.s.end <- io.EOF
				}()
				if ev := a.next(); !strings.Contains(string(ev.Raw), c.answer) {
					t.Errorf("got %q", ev.Raw)
				}
				a.wantEnd(io.EOF)
			})
		})
	}
}
