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

// TestLaterEndpoints holds that no endpoint event tells an agent anything but its stream's own path, and that one of the
// server's origin changes where the daemon posts.
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
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer("/m")
			o := newStage(t, s)
			res, id := open(t, t.Context(), o)
			for range 2 {
				go func() { s.feed <- endpointEvent(c.name, c.data) }()
				ev, err := res.Events.Next()
				own := "event: endpoint\ndata: /mcp/old/message/" + id + "\n\n"
				if err != nil || string(ev.Raw) != own || string(ev.Data) != "/mcp/old/message/"+id {
					t.Fatalf("%q: the agent gets %q, %v", c.data, ev.Raw, err)
				}
				for _, body := range []string{`{"jsonrpc":"2.0","id":1,"method":"tools/call"}`, `{"jsonrpc":"2.0","method":"x"}`} {
					if r, err := o.Call(t.Context(), message(t, id, body)); err != nil || r.Status != 202 {
						t.Fatalf("%v, %v", r, err)
					}
					if got := s.posts[len(s.posts)-1].Target.String(); got != c.want {
						t.Errorf("%q: %s went to %s, want %s", c.data, body, got, c.want)
					}
				}
			}
			closeResult(t, res)
		})
	}
}

// TestEndpointElsewhere holds that a later endpoint of another origin, or of none, is not followed, and that the agent does
// not hear of it.
func TestEndpointElsewhere(t *testing.T) {
	for _, data := range []string{
		"http://evil.test/m", "//evil.test/m", "http://server.test:81/m", "https://server.test/m", "javascript:alert(1)", "http://[::1", "/a\n/b",
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newServer("/m")
			o := newStage(t, s)
			res, id := open(t, t.Context(), o)
			go func() { s.feed <- endpointEvent("endpoint", data) }()
			ev, err := res.Events.Next()
			if err != nil || string(ev.Data) != "/mcp/old/message/"+id {
				t.Fatalf("%q: the agent gets %q, %v", data, ev.Raw, err)
			}
			if r, err := o.Call(t.Context(), message(t, id, `{"jsonrpc":"2.0","id":1,"method":"tools/call"}`)); err != nil || r.Status != 202 {
				t.Fatalf("%q: %v, %v", data, r, err)
			}
			if got := s.posts[0].Target.String(); got != "http://server.test/m" {
				t.Errorf("%q: posted to %s", data, got)
			}
			closeResult(t, res)
		})
	}
}

// TestEndpointInPieces holds that what cannot be looked into ends the stream with an error, as it ends the calls that wait
// for an answer on it, and that nothing is posted after it.
func TestEndpointInPieces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer("/m")
		o := newStage(t, s)
		res, id := open(t, t.Context(), o)
		if r, err := o.Call(t.Context(), message(t, id, `{"jsonrpc":"2.0","id":1,"method":"tools/call"}`)); err != nil || r.Status != 202 {
			t.Fatalf("%v, %v", r, err)
		}
		go func() { s.feed <- mcp.Event{Raw: []byte("data: /rpc/other\ndata: x"), Partial: true} }()
		got, err := res.Events.Next()
		if err != nil || got.Failure == nil || got.Failure.Reason != mcp.ReasonBadAnswer || string(got.FailedID) != "1" || len(got.Raw) > 0 {
			t.Fatalf("got %+v, %v", got, err)
		}
		var f *mcp.Failure
		if _, err := res.Events.Next(); !errors.As(err, &f) || f.Code != 1502 || f.Reason != mcp.ReasonBadAnswer {
			t.Errorf("ended with %v", err)
		}
		if _, err := o.Call(t.Context(), message(t, id, `{"jsonrpc":"2.0","id":2,"method":"tools/list"}`)); err == nil || len(s.posts) != 1 {
			t.Errorf("a call after it: %v, %d posts", err, len(s.posts))
		}
		closeResult(t, res)
	})
}

// TestLooks holds that the stream is asked for in whole events: in a piece of one nobody sees what it is.
func TestLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer("/m")
		var whole bool
		o := newStageWith(t, mcp.CallerFunc(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
			whole = c.Whole
			return s.Call(ctx, c)
		}))
		res, _ := open(t, t.Context(), o)
		if !whole {
			t.Error("events may come in pieces")
		}
		closeResult(t, res)
	})
}

// TestSloppy holds that loose and opaque messages pass both ways, and that a loose answer is one: no error follows it.
func TestSloppy(t *testing.T) {
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
			synctest.Test(t, func(t *testing.T) {
				s := newServer("/m")
				o := newStage(t, s)
				res, id := open(t, t.Context(), o)
				call := &mcp.Call{Upstream: "old", Lane: mcp.LaneMessage, Endpoint: id, Body: []byte(c.request)}
				if mcp.Scan(call.Body, &call.Message) != nil || call.Message.Kind == mcp.KindBatch {
					call.Message = mcp.Message{Kind: call.Message.Kind, Method: mcp.MethodOther}
				}
				if r, err := o.Call(t.Context(), call); err != nil || r.Status != 202 || string(s.posts[0].Body) != c.request {
					t.Fatalf("%v, %v, posted %s", r, err, s.posts[0].Body)
				}
				go func() {
					s.feed <- answerEvent(c.answer)
					<-time.After(2 * time.Hour)
					s.end <- io.EOF
				}()
				if ev, err := res.Events.Next(); err != nil || !strings.Contains(string(ev.Raw), c.answer) {
					t.Errorf("got %q, %v", ev.Raw, err)
				}
				if ev, err := res.Events.Next(); err != io.EOF {
					t.Errorf("then %+v, %v", ev, err)
				}
				closeResult(t, res)
			})
		})
	}
}
