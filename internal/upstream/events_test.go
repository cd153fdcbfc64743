package upstream_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	"fluentd-perf/internal/upstream"
)

const (
	progress = `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`
	asked    = `{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{}}` // the server's own id 7
)

// streaming sends these pieces as a stream, whole.
func streaming(pieces ...string) mcptest.Script {
	return func(x *mcptest.Exchange) {
		s := x.Stream()
		for _, p := range pieces {
			s.Raw(p)
		}
		s.End()
	}
}

func event(data string, lines ...string) string { return mcptest.EventText(data, lines...) }

func TestEventsOfARequest(t *testing.T) {
	pieces := []string{
		event("", "id: 1"), // a priming event
		": a comment\n\n",
		event(progress), event(asked, "event: message", "id: 2"), event("not JSON-RPC at all", "event: other"),
		event(good, "id: 3"),
	}
	s := mcptest.NewServer(t, streaming(pieces...))
	var value func(string, ...string) float64
	u := newUpstream(t, s.URL(), func(o *upstream.Options) { value = metered(o) })
	for range 2 {
		res := mustCall(t, u, request())
		if res.Status != 200 || res.Events == nil {
			t.Fatalf("got %+v", res)
		}
		var names []string
		var kinds []mcp.Kind
		for {
			ev, err := res.Events.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			names = append(names, string(ev.Raw))
			kinds = append(kinds, ev.Message.Kind)
			if ev.Answer != (ev.Message.Kind == mcp.KindResult) {
				t.Errorf("answer %v: %q", ev.Answer, ev.Raw)
			}
		}
		if got := strings.Join(names, ""); got != strings.Join(pieces, "") {
			t.Errorf("got %q", got)
		}
		if _, err := res.Events.Next(); err != io.EOF {
			t.Errorf("after the end: %v", err)
		}
		want := []mcp.Kind{0, 0, mcp.KindNotification, mcp.KindRequest, 0, mcp.KindResult}
		for i, k := range want {
			if kinds[i] != k {
				t.Errorf("kinds %v, want %v", kinds, want)
				break
			}
		}
		closeResult(t, res)
	}
	if _, total := s.Connections(); total != 1 {
		t.Errorf("%d connections for two whole streams", total)
	}
	if d := value("upstream_duration_seconds", "tools/list"); d != 2 {
		t.Errorf("%v durations", d)
	}
}

func TestEventsThatAreNoAnswer(t *testing.T) {
	ok := func(lane mcp.Lane, piece string) func(t *testing.T) {
		return func(t *testing.T) {
			s := mcptest.NewServer(t, streaming(piece, event(good)))
			res := mustCall(t, newUpstream(t, s.URL()), onLane(lane, bodyOf(lane)))
			defer closeResult(t, res)
			if all, _, err := eventsOf(res.Events); err != io.EOF || len(all) != 2 {
				t.Errorf("%q, %v", all, err)
			}
		}
	}
	bad := func(call *mcp.Call, piece string) func(t *testing.T) {
		return func(t *testing.T) {
			s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
				st := x.Stream()
				st.Raw(event(progress))
				st.Raw(piece)
				x.Hang()
			})
			var value func(string, ...string) float64
			u := newUpstream(t, s.URL(), func(o *upstream.Options) { o.EventLimit, value = 5000, metered(o) })
			res := mustCall(t, u, call)
			all, _, err := eventsOf(res.Events)
			wantFailure(t, err, mcp.CodeBadGateway, mcp.ReasonBadAnswer, mcp.SentYes)
			if len(all) != 1 {
				t.Errorf("%q came before it", all)
			}
			if _, again := res.Events.Next(); again != err {
				t.Errorf("then %v", again)
			}
			s.AwaitOpen(0) // without waiting for Close
			if v := value("active_connections"); v != 0 {
				t.Errorf("%v active", v)
			}
			closeResult(t, res)
		}
	}
	other := `{"jsonrpc":"2.0","id":8,"result":{}}`
	large := event(`{"jsonrpc":"2.0","method":"x","params":{"x":"` + strings.Repeat("x", 6000) + `"}}`)
	t.Run("wrong id", bad(request(), event(other)))
	t.Run("error with a wrong id", bad(request(), event(`{"jsonrpc":"2.0","id":8,"error":{"code":1,"message":""}}`)))
	t.Run("result with a null id", bad(request(), event(`{"jsonrpc":"2.0","id":null,"result":{}}`)))
	t.Run("not JSON", bad(request(), event("hello")))
	t.Run("not JSON-RPC", bad(request(), event(`{"id":7,"result":{}}`)))
	t.Run("named message", bad(request(), event("hello", "event: message")))
	t.Run("listen", bad(onLane(mcp.LaneListen, bodyOf(mcp.LaneListen)), event(other)))
	t.Run("batch", bad(onLane(mcp.LaneBatch, batch), event("hello")))
	t.Run("array in the modern era", bad(modern(request()), event("["+progress+"]")))
	t.Run("too large", bad(request(), large))
	t.Run("too large on GET", bad(onLane(mcp.LaneStream, ""), large))

	t.Run("array in the legacy era", ok(mcp.LaneRequest, event("["+progress+"]")))
	t.Run("any id in a batch", ok(mcp.LaneBatch, event(other)))
	t.Run("anything on GET", ok(mcp.LaneStream, event("hello")))
	t.Run("anything on the answer to a notification", ok(mcp.LaneNotification, event("hello")))
}

func bodyOf(lane mcp.Lane) string {
	switch lane {
	case mcp.LaneBatch:
		return batch
	case mcp.LaneListen:
		return `{"jsonrpc":"2.0","id":7,"method":"subscriptions/listen","params":{}}`
	case mcp.LaneStream, mcp.LaneEnd:
		return ""
	case mcp.LaneResponse:
		return good
	case mcp.LaneNotification:
		return `{"jsonrpc":"2.0","method":"x"}`
	}
	return `{"jsonrpc":"2.0","id":7,"method":"tools/list"}`
}

func TestErrorEventsWithoutIDAnswer(t *testing.T) {
	for _, answer := range []string{
		`{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":""}}`,
		`{"jsonrpc":"2.0","error":{"code":-32700,"message":""}}`,
		`{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":""}}`,
	} {
		s := mcptest.NewServer(t, streaming(event(answer)))
		res := mustCall(t, newUpstream(t, s.URL()), request())
		if _, answers, err := eventsOf(res.Events); answers != 1 || err != io.EOF {
			t.Errorf("%s: %d answers, %v", answer, answers, err)
		}
		closeResult(t, res)
	}
}

// What the end of a stream without the answer means is the door's business.
func TestStreamThatEndsWithoutAnswer(t *testing.T) {
	s := mcptest.NewServer(t, mcptest.EndBeforeAnswer)
	var value func(string, ...string) float64
	u := newUpstream(t, s.URL(), func(o *upstream.Options) { value = metered(o) })
	res := mustCall(t, u, request())
	if all, answers, err := eventsOf(res.Events); len(all) != 1 || answers != 0 || err != io.EOF {
		t.Errorf("%q, %d, %v", all, answers, err)
	}
	closeResult(t, res)
	if v := value("upstream_duration_seconds"); v != 0 {
		t.Errorf("%v durations, but no answer came", v)
	}
}

// Each event comes through while the stream is still open.
func TestEventsComeAsTheyAreSent(t *testing.T) {
	first, second := mcptest.NewGate(), mcptest.NewGate()
	s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
		st := x.Stream()
		st.Event(progress)
		if !x.Wait(first.Opened()) {
			return
		}
		st.Raw("data: {\"jsonrpc\":") // and half of the next
		if !x.Wait(second.Opened()) {
			return
		}
		st.Raw("\"2.0\",\"id\":7,\"result\":{}}\n\n")
		st.End()
	})
	res := mustCall(t, newUpstream(t, s.URL()), request())
	defer closeResult(t, res)
	if ev, err := res.Events.Next(); err != nil || ev.Message.Kind != mcp.KindNotification {
		t.Fatalf("%+v, %v", ev, err)
	}
	first.Open()
	second.Open()
	if ev, err := res.Events.Next(); err != nil || !ev.Answer {
		t.Fatalf("%+v, %v", ev, err)
	}
}

func TestClosingAStreamClosesTheServersSide(t *testing.T) {
	for name, lane := range map[string]mcp.Lane{"POST": mcp.LaneRequest, "GET": mcp.LaneStream, "listen": mcp.LaneListen} {
		t.Run(name, func(t *testing.T) {
			s := mcptest.NewServer(t, mcptest.StallingStream)
			var value func(string, ...string) float64
			u := newUpstream(t, s.URL(), func(o *upstream.Options) { value = metered(o) })
			res := mustCall(t, u, onLane(lane, bodyOf(lane)))
			if _, err := res.Events.Next(); err != nil {
				t.Fatal(err)
			}
			if v := value("active_connections"); v != 1 {
				t.Errorf("%v active", v)
			}
			closeResult(t, res)
			s.AwaitOpen(0)
			if v := value("active_connections"); v != 0 {
				t.Errorf("%v active", v)
			}
			if _, err := res.Events.Next(); err == nil {
				t.Error("an event after Close")
			}
		})
	}
}

// Cancelling makes a blocked Next return, closes the server's side at once, and says why.
func TestCancellingAStream(t *testing.T) {
	draining := &mcp.Failure{Code: mcp.CodeUnavailable, Reason: mcp.ReasonDraining, Message: "stopping"}
	for name, tt := range map[string]struct {
		cause  error
		code   int
		reason mcp.Reason
	}{
		"the agent left": {nil, 0, mcp.ReasonCanceled},
		"draining":       {draining, mcp.CodeUnavailable, mcp.ReasonDraining},
		"something else": {errors.New("x"), 0, mcp.ReasonCanceled},
	} {
		t.Run(name, func(t *testing.T) {
			s := mcptest.NewServer(t, mcptest.StallingStream)
			ctx, cancel := context.WithCancelCause(t.Context())
			res, err := newUpstream(t, s.URL()).Call(ctx, onLane(mcp.LaneStream, ""))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := res.Events.Next(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error)
			go func() {
				_, err := res.Events.Next()
				ended <- err
			}()
			cancel(tt.cause)
			f := wantFailure(t, <-ended, tt.code, tt.reason, mcp.SentYes)
			if f == draining || draining.Sent != "" {
				t.Error("the shared failure was written to")
			}
			s.AwaitOpen(0)
			closeResult(t, res)
		})
	}
}
