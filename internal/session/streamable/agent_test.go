package streamable_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// agent makes calls at the seam, as the handler would.
type agent struct {
	t       testing.TB
	caller  mcp.Caller
	session string
	header  header.List // besides
}

func newAgent(t testing.TB, caller mcp.Caller) *agent {
	return &agent{t: t, caller: caller, header: header.List{}}
}

// make makes the call of a body.
func (a *agent) make(lane mcp.Lane, body string) *mcp.Call {
	c := &mcp.Call{Upstream: "child", Lane: lane, Body: []byte(body), Header: a.header.Clone(), Start: time.Now()}
	if a.session != "" {
		c.Header.Set("Mcp-Session-Id", a.session)
	}
	if body == "" {
		return c
	}
	if mcp.Scan(c.Body, &c.Message) != nil || c.Message.Kind == mcp.KindBatch {
		c.Message = mcp.Message{Kind: c.Message.Kind, Method: mcp.MethodOther}
		c.Lane = mcp.LaneOpaque
		return c
	}
	switch c.Message.Kind {
	case mcp.KindNotification:
		c.Lane = mcp.LaneNotification
	case mcp.KindResult, mcp.KindError:
		c.Lane = mcp.LaneResponse
	}
	if v, ok := mcp.Text(c.Message.ProtocolVersion.Of(c.Body)); ok {
		c.Era, c.Version = mcp.EraOf(v), v
	}
	if c.Message.Method == mcp.MethodSubscriptionsListen {
		c.Lane = mcp.LaneListen
	}
	return c
}

// do makes a call.
func (a *agent) do(ctx context.Context, lane mcp.Lane, body string) (*mcp.Result, *mcp.Failure) {
	res, err := a.caller.Call(ctx, a.make(lane, body))
	if err != nil {
		var f *mcp.Failure
		if !errors.As(err, &f) {
			a.t.Fatalf("%s: an error that is no failure: %v", body, err)
		}
		return nil, f
	}
	return res, nil
}

// open begins a session of that version.
func (a *agent) open(version string) {
	a.t.Helper()
	res, f := a.do(a.t.Context(), mcp.LaneRequest, `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"`+version+`","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}`)
	if f != nil {
		a.t.Fatalf("initialize: %v", f)
	}
	a.session = res.Header.Get("Mcp-Session-Id")
	if a.session == "" || res.Status != 200 {
		a.t.Fatalf("initialize: %d %s", res.Status, res.Body)
	}
	closeResult(a.t, res)
	if res, f := a.do(a.t.Context(), 0, `{"jsonrpc":"2.0","method":"notifications/initialized"}`); f != nil || res.Status != 202 {
		a.t.Fatalf("initialized: %v, %v", res, f)
	}
}

// said is everything that an answer said: the data of its events, or its body.
type said struct {
	status   int
	body     string // of a whole answer
	events   []mcp.Event
	failure  *mcp.Failure
	isStream bool
}

// call makes a call and reads its answer to the end.
func (a *agent) call(body string) said {
	a.t.Helper()
	return a.read(a.do(a.t.Context(), mcp.LaneRequest, body))
}

func (a *agent) read(res *mcp.Result, f *mcp.Failure) (s said) {
	if f != nil {
		return said{failure: f}
	}
	s.status, s.body, s.isStream = res.Status, string(res.Body), res.Events != nil
	for s.isStream {
		ev, err := res.Events.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			s.failure = mcp.AsFailure(err)
			break
		}
		if ev.Failure != nil {
			s.failure = ev.Failure
			continue
		}
		ev.Data, ev.ID = bytes.Clone(ev.Data), bytes.Clone(ev.ID)
		s.events = append(s.events, ev)
	}
	closeResult(a.t, res)
	return s
}

// get opens a GET stream, whose events come on the channel.
func (a *agent) get(ctx context.Context, last string) (<-chan mcp.Event, *mcp.Result) {
	a.t.Helper()
	if last != "" {
		a.header.Set("Last-Event-Id", last)
		defer a.header.Del("Last-Event-Id")
	}
	res, f := a.do(ctx, mcp.LaneStream, "")
	if f != nil {
		a.t.Fatalf("GET: %v", f)
	}
	if res.Events == nil {
		return nil, res
	}
	events := make(chan mcp.Event, 1024)
	go func() {
		defer close(events)
		defer closeResult(a.t, res)
		for {
			ev, err := res.Events.Next()
			if err != nil {
				return
			}
			ev.Data, ev.ID = bytes.Clone(ev.Data), bytes.Clone(ev.ID)
			events <- ev
		}
	}()
	return events, res
}

func closeResult(t testing.TB, res *mcp.Result) {
	if err := res.Close(); err != nil {
		t.Errorf("closing: %v", err)
	}
}
