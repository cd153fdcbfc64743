package http_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	upstreamhttp "fluentd-perf/internal/upstream/http"
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
	u := newUpstream(t, s.URL(), func(o *upstreamhttp.Options) { value = metered(o) })
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
	if d := value("upstream_duration_seconds", "list"); d != 2 {
		t.Errorf("%v durations", d)
	}
}

// TestEventsThatAnswer holds that on a stream of one request every result, every error and whatever cannot be read is its
// answer, that no event is refused, and that only the strict answer may be shared.
func TestEventsThatAnswer(t *testing.T) {
	other := `{"jsonrpc":"2.0","id":8,"result":{}}`
	for name, tt := range map[string]struct {
		lane          mcp.Lane
		piece         string
		answer, exact bool
	}{
		"answer":                       {mcp.LaneRequest, event(good), true, true},
		"error without an id":          {mcp.LaneRequest, event(`{"jsonrpc":"2.0","error":{"code":1,"message":""}}`), true, true},
		"wrong id":                     {mcp.LaneRequest, event(other), true, false},
		"id as text":                   {mcp.LaneRequest, event(`{"jsonrpc":"2.0","id":"7","result":{}}`), true, false},
		"error with a wrong id":        {mcp.LaneRequest, event(`{"jsonrpc":"2.0","id":8,"error":{"code":1,"message":""}}`), true, false},
		"result with a null id":        {mcp.LaneRequest, event(`{"jsonrpc":"2.0","id":null,"result":{}}`), true, false},
		"half a surrogate":             {mcp.LaneRequest, event(`{"jsonrpc":"2.0","id":7,"result":{"text":"\ud83d"}}`), true, false},
		"not JSON":                     {mcp.LaneRequest, event("hello"), true, false},
		"not JSON-RPC":                 {mcp.LaneRequest, event(`{"id":7,"result":{}}`), true, false},
		"named message":                {mcp.LaneRequest, event("hello", "event: message"), true, false},
		"another name":                 {mcp.LaneRequest, event("hello", "event: log"), false, false},
		"a request of the server's":    {mcp.LaneRequest, event(`{"jsonrpc":"2.0","id":7,"method":"ping"}`), false, false},
		"an array of notifications":    {mcp.LaneRequest, event("[" + progress + "]"), false, false},
		"an array with the answer":     {mcp.LaneRequest, event("[" + progress + "," + good + "]"), true, false},
		"an array of rubbish":          {mcp.LaneRequest, event("[1]"), true, false},
		"listen":                       {mcp.LaneListen, event(other), true, false},
		"of a body nobody understands": {mcp.LaneOpaque, event(good), true, false},
		"batch":                        {mcp.LaneBatch, event("hello"), false, false},
		"any id in a batch":            {mcp.LaneBatch, event(other), false, false},
		"anything on GET":              {mcp.LaneStream, event("hello"), false, false},
		"to a notification":            {mcp.LaneNotification, event("hello"), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := mcptest.NewServer(t, streaming(tt.piece, event(progress)))
			res := mustCall(t, newUpstream(t, s.URL()), onLane(tt.lane, bodyOf(tt.lane)))
			defer closeResult(t, res)
			ev, err := res.Events.Next()
			if err != nil || string(ev.Raw) != tt.piece || ev.Answer != tt.answer || ev.Exact != tt.exact {
				t.Errorf("%q, answer %v, exact %v, %v", ev.Raw, ev.Answer, ev.Exact, err)
			}
			if all, _, err := eventsOf(res.Events); err != io.EOF || len(all) != 1 {
				t.Errorf("then %q, %v", all, err)
			}
		})
	}
}

// TestEventsOverTheLimit holds that an event that has to be held and is too large ends the stream, and nothing else does.
func TestEventsOverTheLimit(t *testing.T) {
	large := event(`{"jsonrpc":"2.0","method":"x","params":{"x":"` + strings.Repeat("x", 6000) + `"}}`)
	for name, call := range map[string]*mcp.Call{"a list": request(), "GET": onLane(mcp.LaneStream, "")} {
		t.Run(name, func(t *testing.T) {
			s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
				st := x.Stream()
				st.Raw(event(progress))
				st.Raw(large)
				x.Hang()
			})
			var value func(string, ...string) float64
			u := newUpstream(t, s.URL(), func(o *upstreamhttp.Options) { o.EventLimit, value = 5000, metered(o) })
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
		})
	}
}

func bodyOf(lane mcp.Lane) string {
	switch lane {
	case mcp.LaneBatch, mcp.LaneOpaque:
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

// What the end of a stream without the answer means is the handler's business.
func TestStreamThatEndsWithoutAnswer(t *testing.T) {
	s := mcptest.NewServer(t, mcptest.EndBeforeAnswer)
	var value func(string, ...string) float64
	u := newUpstream(t, s.URL(), func(o *upstreamhttp.Options) { value = metered(o) })
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
			u := newUpstream(t, s.URL(), func(o *upstreamhttp.Options) { value = metered(o) })
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

// TestEventsInPieces holds that an event of a call that nobody shares passes in pieces where it is too large to hold, all of
// it byte for byte, that its last piece is the answer, and that what may be shared is held.
func TestEventsInPieces(t *testing.T) {
	large := event(sizedAnswer(1<<20), "id: 7", "event: message")
	for _, method := range []string{"tools/call", "vendor/x", "tools/list"} {
		s := mcptest.NewServer(t, streaming(event(progress), large, event(progress)))
		res := mustCall(t, newUpstream(t, s.URL()), requestOf(method))
		var all strings.Builder
		pieces, answers := 0, 0
		for {
			ev, err := res.Events.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			all.Write(ev.Raw)
			if ev.Partial {
				pieces++
			}
			if ev.Answer {
				answers++
				if string(ev.ID) != "7" || ev.Exact != (method == "tools/list") || ev.Last == ev.Exact {
					t.Errorf("%s: the answer has id %q, exact %v, last %v", method, ev.ID, ev.Exact, ev.Last)
				}
			}
		}
		if all.String() != event(progress)+large+event(progress) {
			t.Errorf("%s: %d bytes came, or others", method, all.Len())
		}
		if (pieces == 0) != (method == "tools/list") || answers != 1 {
			t.Errorf("%s: %d pieces, %d answers", method, pieces, answers)
		}
		closeResult(t, res)
	}
}

// TestMarkBeforeEvents holds that a byte order mark passes with the first event.
func TestMarkBeforeEvents(t *testing.T) {
	s := mcptest.NewServer(t, streaming("\ufeff"+event(good)))
	res := mustCall(t, newUpstream(t, s.URL()), request())
	defer closeResult(t, res)
	ev, err := res.Events.Next()
	if err != nil || string(ev.Raw) != "\ufeff"+event(good) || !ev.Exact || string(ev.Data) != good {
		t.Errorf("%q, exact %v, %v", ev.Raw, ev.Exact, err)
	}
}

// TestLastEventWithoutABlankLine holds that an answer whose server left out what ends the event reaches the agent, complete,
// and that what is no whole message does not.
func TestLastEventWithoutABlankLine(t *testing.T) {
	for tail, want := range map[string]string{
		"data: " + good:                            "data: " + good + "\n\n",
		"data: " + good + "\n":                     "data: " + good + "\n\n",
		"event: message\r\ndata: " + good + "\r\n": "event: message\r\ndata: " + good + "\n\n",
		"data: " + good[:len(good)-1]:              "",
		": comment\n":                              ": comment\n",
		"id: 7\n":                                  "",
		"event: other\ndata: " + good:              "",
	} {
		for _, method := range []string{"tools/call", "tools/list"} {
			s := mcptest.NewServer(t, streaming(event(progress), tail))
			res := mustCall(t, newUpstream(t, s.URL()), requestOf(method))
			all, answers, err := eventsOf(res.Events)
			if err != io.EOF || strings.Join(all, "") != event(progress)+want || (answers == 1) != strings.Contains(want, "data") {
				t.Errorf("%q: %q, %d answers, %v", tail, all, answers, err)
			}
			closeResult(t, res)
		}
	}
}
