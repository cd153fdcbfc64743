package cache_test

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// rulesStream is an SSE stream of this text, its messages scanned as the way to the server does.
func rulesStream(c *mcp.Call, text string) *mcp.Result {
	return &mcp.Result{
		Status: 200, Header: header.Of(http.Header{"Content-Type": {"text/event-stream"}, "Cache-Control": {"no-cache"}}),
		Events: &rulesEvents{call: c, reader: mcp.NewEventReader(strings.NewReader(text), nil, 1<<20)},
	}
}

type rulesEvents struct {
	call   *mcp.Call
	reader *mcp.EventReader
	closed bool
}

func (e *rulesEvents) Next() (mcp.Event, error) {
	ev, err := e.reader.Next()
	if err != nil || e.call.Lane == mcp.LaneStream || len(ev.Data) == 0 || len(ev.Name) > 0 && string(ev.Name) != "message" {
		return ev, err
	}
	if mcp.Scan(ev.Data, &ev.Message) != nil {
		return ev, &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBadAnswer, Sent: mcp.SentYes}
	}
	kind := ev.Message.Kind
	ev.Answer = kind == mcp.KindResult || kind == mcp.KindError || kind == mcp.KindBatch && bytes.Contains(ev.Data, []byte(`"result"`))
	ev.Exact = ev.Answer && e.call.Answers(ev.Data, &ev.Message) && !ev.Message.Loose
	return ev, nil
}

func (e *rulesEvents) Close() error {
	if e.closed {
		panic("a stream was closed twice")
	}
	e.closed = true
	e.reader.Close()
	return nil
}

// rulesData is an event with that message, which may have several lines.
func rulesData(message string) string {
	return "data: " + strings.ReplaceAll(message, "\n", "\ndata: ") + "\n\n"
}

const (
	rulesProgress = `{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}`
	rulesRequest  = `{"jsonrpc":"2.0","id":"s1","method":"elicitation/create","params":{"message":"?"}}`
)

// rulesCalm is a stream without the comments before the first message: they only keep the way open, to the daemon.
func rulesCalm(text string) string {
	before, after, _ := strings.Cut(text, "data: {")
	for _, comment := range []string{": ping\n\n", ": hello\n\n", ": a\r\n\r\n"} {
		before = strings.ReplaceAll(before, comment, "")
	}
	return before + "data: {" + after
}

// TestFramedAnswers holds that an answer in a stream with nothing else is kept as a JSON answer is. The one who asked
// gets the stream as it is, but for comments, and the next one JSON.
func TestFramedAnswers(t *testing.T) {
	for what, frame := range map[string]string{
		"alone":                    "<A>",
		"a priming event":          "id: 1\ndata: \n\n<A>",
		"a priming event, no data": "id: 1\n\n<A>",
		"retry":                    "retry: 3000\n\n<A>",
		"comments":                 ": ping\n\n: ping\n\n<A>",
		"all of it":                ": hello\n\nid: 0\nretry: 10\ndata:\n\n: ping\n\nevent: message\nid: 1\nretry: 3\n<A>",
		"named":                    "event: message\n<A>",
		"CRLF":                     ": a\r\n\r\nid: 2\r\n<A>",
		"many comments":            strings.Repeat(": ping\n\n", 1000) + "<A>",
		"many priming events":      strings.Repeat("id: 1\n\n", 16) + "<A>",
		"priming events after it":  "<A>id: 2\n\n",
	} {
		for _, several := range []bool{false, true} {
			rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
				message := func(id string) string {
					if several {
						return "{\"jsonrpc\":\"2.0\",\n\"id\":" + id + ",\n\"result\":{\"ttlMs\":9000}}"
					}
					return `{"jsonrpc":"2.0","id":` + id + `,"result":{"ttlMs":9000}}`
				}
				text := strings.ReplaceAll(frame, "<A>", rulesData(message("7")))
				r.gives(func(c *mcp.Call) *mcp.Result { return rulesStream(c, text) })
				first := r.asks(what, rulesModern("tools/list").under("7"))
				if got := strings.Join(first.events, ""); rulesCalm(got) != rulesCalm(text) || first.body != message("7") {
					t.Errorf("%s: the first reader got %q, want %q", what, got, rulesCalm(text))
				}
				if first.status() != "fwd=miss; stored" || first.header.Get("Content-Type") != "text/event-stream" {
					t.Errorf("%s: %v", what, first.header)
				}
				hit := r.hits(what, 0, rulesModern("tools/list").under(`"x"`))
				if hit.body != message(`"x"`) || hit.events != nil || hit.header.Get("Content-Type") != "application/json" {
					t.Errorf("%s: a hit is %q, %v", what, hit.body, hit.header)
				}
			})
		}
	}
}

// TestTalkingStreams holds that a stream with more than the answer passes whole and in order, and is not kept.
func TestTalkingStreams(t *testing.T) {
	answer := rulesData(`{"jsonrpc":"2.0","id":1,"result":{"ttlMs":9000}}`)
	for what, text := range map[string]string{
		"a notification":               rulesData(rulesProgress) + answer,
		"a request":                    rulesData(rulesRequest) + answer,
		"a primed notification":        "id: 1\n\nretry: 5\n\n" + rulesData(rulesProgress) + answer,
		"comments in between":          rulesData(rulesProgress) + ": ping\n\n" + answer + ": bye\n\n",
		"many":                         strings.Repeat(rulesData(rulesProgress), 50) + rulesData(rulesRequest) + answer,
		"an array":                     rulesData("["+rulesProgress+"]") + answer,
		"somebody else's answer":       rulesData(`{"jsonrpc":"2.0","id":2,"result":{"ttlMs":9000}}`) + answer,
		"an event of another name":     "event: endpoint\ndata: /x\n\n" + answer,
		"an answer under another name": "event: other\n" + answer,
		"an error":                     rulesData(`{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"x"}}`),
		"too many priming events":      strings.Repeat("id: 1\n\n", 17) + answer,
	} {
		rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
			r.gives(func(c *mcp.Call) *mcp.Result { return rulesStream(c, text) })
			for range 2 {
				p := r.asks(what, rulesModern("tools/list"))
				if got := strings.Join(p.events, ""); got != text {
					t.Errorf("%s: got %q, want %q", what, got, text)
				}
				if p.status() != "fwd=miss" {
					t.Errorf("%s: %s", what, p.status())
				}
			}
		})
	}
}

// TestBrokenStreams holds that a stream which breaks off with something in it does so for the agent at the same place, and
// that one with nothing in it is a failure; and that neither is kept.
func TestBrokenStreams(t *testing.T) {
	for _, tt := range []struct {
		era    mcp.Era
		before string
		passes bool // as a stream
	}{
		{mcp.EraModern, "", false}, {mcp.EraModern, ": a\n\n", false}, {mcp.EraModern, "id: 1\n\n", false},
		{mcp.EraModern, rulesData(rulesProgress), true}, {mcp.EraModern, "id: 1\n\n" + rulesData(rulesProgress), true},
		{mcp.EraLegacy, "", false}, {mcp.EraLegacy, "retry: 1\n\n", false}, {mcp.EraLegacy, "id: 1\n\n", true}, // it can be resumed
		{mcp.EraLegacy, rulesData(rulesProgress), true},
	} {
		for end, reason := range map[string]mcp.Reason{"data: rubbish\n\n": mcp.ReasonBadAnswer, "": mcp.ReasonBrokeOff} {
			rulesTest(t, rulesAll(), func(r *rulesRig) {
				r.initialize("s", "{}", "{}")
				r.gives(func(c *mcp.Call) *mcp.Result { return rulesStream(c, tt.before+end) })
				a := rulesAsk{era: tt.era}
				if tt.era == mcp.EraLegacy {
					a = a.in("s")
				}
				for range 2 {
					got, err := r.broken(a)
					if (got != nil) != tt.passes {
						t.Errorf("%s, %q: a stream: %v", tt.era, tt.before+end, got != nil)
					}
					if got == nil {
						got = []string{tt.before} // nothing to compare
					} else if err == io.EOF {
						err = &mcp.Failure{Reason: mcp.ReasonBrokeOff}
					}
					if f, ok := err.(*mcp.Failure); !ok || f.Reason != reason || strings.Join(got, "") != tt.before {
						t.Errorf("%s, %q: came %q and %v", tt.era, tt.before+end, got, err)
					}
				}
				if n := r.server.asked(); n != 3 {
					t.Errorf("%s, %q: the server was asked %d times", tt.era, tt.before+end, n)
				}
			})
		}
	}
}

// broken makes a request, and returns the events that came before the error, nil where there was no stream.
func (r *rulesRig) broken(a rulesAsk) ([]string, error) {
	r.Helper()
	res, err := r.caller.Call(r.Context(), a.call(r))
	if err != nil {
		return nil, err
	}
	got := []string{}
	for err == nil {
		var ev mcp.Event
		if ev, err = res.Events.Next(); err == nil {
			got = append(got, string(ev.Raw))
		}
	}
	if err := res.Close(); err != nil {
		r.Error(err)
	}
	return got, err
}

// TestFailedEvents holds that an answer that the daemon made itself is nobody else's.
func TestFailedEvents(t *testing.T) {
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
		for range 2 {
			r.gives(func(c *mcp.Call) *mcp.Result {
				ev := mcp.Event{Failure: mcp.Draining(), FailedID: c.ID()}
				return &mcp.Result{Status: 200, Header: header.List{}, Events: &rulesFixed{events: []mcp.Event{ev}}}
			})
			if p := r.asks("failed", rulesModern("tools/list")); p.status() != "fwd=miss" || len(p.events) != 1 {
				t.Error(p.status(), p.events)
			}
		}
	})
}

// rulesFixed are events made by hand, then the end, or silence until over is closed.
type rulesFixed struct {
	events []mcp.Event
	over   chan struct{}
}

func (e *rulesFixed) Next() (mcp.Event, error) {
	if len(e.events) > 0 {
		ev := e.events[0]
		e.events = slices.Delete(e.events, 0, 1)
		return ev, nil
	}
	if e.over != nil {
		<-e.over
	}
	return mcp.Event{}, io.EOF
}

func (e *rulesFixed) Close() error { return nil }
