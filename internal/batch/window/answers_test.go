package window_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// said is a server's answer to an array, and what each of its three calls comes to: "own", "single" (its own answer, by
// itself), or a reason and sent.
type said struct {
	name   string
	runs   bool // the server ran the calls of the array
	reply  func(ids []string) (*mcp.Result, error)
	reads  [3]string // of calls that may be sent again
	writes [3]string // of others
	spoils bool      // the server is sent single calls from then on
}

func ok(id string) string { return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":"x"}`, id) }

func say(format string, args ...any) func([]string) (*mcp.Result, error) {
	return func([]string) (*mcp.Result, error) { return arrayBody(fmt.Sprintf(format, args...)), nil }
}

func status(code int, body string) func([]string) (*mcp.Result, error) {
	return func([]string) (*mcp.Result, error) {
		return &mcp.Result{Status: code, Header: header.Of(http.Header{"Www-Authenticate": {"Bearer"}}), Body: []byte(body)}, nil
	}
}

func fails(f mcp.Failure) func([]string) (*mcp.Result, error) {
	return func([]string) (*mcp.Result, error) { return nil, &f }
}

// windowEvents is a stream of messages.
type windowEvents struct {
	messages []string
	end      error
}

func (e *windowEvents) Next() (mcp.Event, error) {
	if len(e.messages) == 0 {
		return mcp.Event{}, e.end
	}
	ev := mcp.Event{Data: []byte(e.messages[0])}
	e.messages = e.messages[1:]
	_ = mcp.Scan(ev.Data, &ev.Message)
	return ev, nil
}

func (e *windowEvents) Close() error { return nil }

func streamed(end error, of func(ids []string) []string) func([]string) (*mcp.Result, error) {
	return func(ids []string) (*mcp.Result, error) {
		return &mcp.Result{Status: 200, Events: &windowEvents{of(ids), end}}, nil
	}
}

func every(outcome string) [3]string { return [3]string{outcome, outcome, outcome} }

var (
	allOwn    = every("own")
	allSingle = every("single")
	allBad    = every("bad_answer unknown")
)

func sayings() []said {
	note := `{"jsonrpc":"2.0","method":"notifications/message","params":{}}`
	request := `{"jsonrpc":"2.0","id":"s","method":"ping"}`
	broke := &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes}
	missing := [3]string{"own", "bad_answer yes", "own"}
	return []said{
		{"in order", true, func(ids []string) (*mcp.Result, error) {
			return say("[%s,%s,%s]", ok(ids[0]), ok(ids[1]), ok(ids[2]))(ids)
		}, allOwn, allOwn, false},
		{"out of order", true, func(ids []string) (*mcp.Result, error) {
			return say("[%s,%s,%s]", ok(ids[2]), ok(ids[0]), ok(ids[1]))(ids)
		}, allOwn, allOwn, false},
		{"ids spelt as doubles", true, func(ids []string) (*mcp.Result, error) {
			odd := ids[1][:1] + "." + ids[1][1:] + "E+15"
			return say("[%s,%s,%s]", ok(ids[0]+".0"), ok(odd), ok(ids[2]+"e0"))(ids)
		}, allOwn, allOwn, false},
		{"text/plain", true, func(ids []string) (*mcp.Result, error) {
			res, err := say("[%s,%s,%s]", ok(ids[0]), ok(ids[1]), ok(ids[2]))(ids)
			res.Header = header.Of(http.Header{"Content-Type": {"text/plain"}})
			return res, err
		}, allOwn, allOwn, false},
		{"an id as a string", true, func(ids []string) (*mcp.Result, error) {
			return say("[%s,%s,%s]", ok(ids[0]), ok(`"`+ids[1]+`"`), ok(ids[2]))(ids)
		}, missing, missing, false},
		{"half a character", true, func(ids []string) (*mcp.Result, error) {
			return say(`[%s,{"jsonrpc":"2.0","id":%s,"result":"cut \ud83d"},%s]`, ok(ids[0]), ids[1], ok(ids[2]))(ids)
		}, missing, missing, false},
		{"not UTF-8", true, func(ids []string) (*mcp.Result, error) {
			return say("[%s,{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":\"\xff\"},%s]", ok(ids[0]), ids[1], ok(ids[2]))(ids)
		}, missing, missing, false},
		{"an error of null", true, func(ids []string) (*mcp.Result, error) {
			return say(`[%s,{"jsonrpc":"2.0","id":%s,"result":1,"error":null},%s]`, ok(ids[0]), ids[1], ok(ids[2]))(ids)
		}, missing, missing, false},
		{"an id alone", true, func(ids []string) (*mcp.Result, error) {
			return say(`[%s,{"jsonrpc":"2.0","id":%s},%s]`, ok(ids[0]), ids[1], ok(ids[2]))(ids)
		}, missing, missing, false},
		{"an event with half a character", true, streamed(io.EOF, func(ids []string) []string {
			return []string{ok(ids[0]), `{"jsonrpc":"2.0","id":` + ids[1] + `,"result":"\ud83d"}`, ok(ids[2])}
		}), missing, missing, false},
		{"a byte order mark", true, func(ids []string) (*mcp.Result, error) {
			return say("\ufeff[%s,%s,%s]", ok(ids[0]), ok(ids[1]), ok(ids[2]))(ids)
		}, allSingle, allBad, true},
		{"a loose error for all", true, say(`{"jsonrpc":"2.0","id":null,"result":null,"error":{"code":-32600,"message":"no arrays"}}`), allSingle, allBad, true},
		{"an error for one", true, func(ids []string) (*mcp.Result, error) {
			return say(`[%s,{"jsonrpc":"2.0","id":%s,"error":{"code":1,"message":"no"}},%s]`, ok(ids[0]), ids[1], ok(ids[2]))(ids)
		}, [3]string{"own", "error", "own"}, [3]string{"own", "error", "own"}, false},
		{"one missing", true, func(ids []string) (*mcp.Result, error) { return say("[%s,%s]", ok(ids[0]), ok(ids[2]))(ids) }, missing, missing, false},
		{"one twice, one unknown, other things", true, func(ids []string) (*mcp.Result, error) {
			return say(`[%s,%s,%s,%s,5,%s,%s,%s]`, note, ok(ids[0]), ok(ids[0]), ok(`"who"`), request, ok(ids[1]), ok(ids[2]))(ids)
		}, allOwn, allOwn, false},
		{"one object", true, func(ids []string) (*mcp.Result, error) { return say("%s", ok(ids[1]))(ids) },
			[3]string{"single", "own", "single"}, [3]string{"bad_answer unknown", "own", "bad_answer unknown"}, true},
		{"one object of nobody", true, say("%s", ok("7")), allSingle, allBad, true},
		{"an error for all", false, say(`{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no arrays"}}`), allSingle, allSingle, true},
		{"a parse error without an id", false, say(`{"jsonrpc":"2.0","error":{"code":-32700,"message":"no arrays"}}`), allSingle, allSingle, true},
		{"an inner error for all", true, say(`{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"oh"}}`), allSingle, allBad, true},
		{"an empty array", true, say("[]"), allSingle, allBad, true},
		{"an array of nothing that was asked", true, say("[1,2,%s]", ok("1")), allSingle, allBad, true},
		{"nothing", true, say(""), allSingle, allBad, true},
		{"400", false, status(400, "no"), allSingle, allSingle, true},
		{"413", false, status(413, "no"), allSingle, allSingle, true},
		{"415", false, status(415, "no"), allSingle, allSingle, true},
		{"401", false, status(401, "who"), every("401"), every("401"), false},
		{"503", true, status(503, "busy"), every("503"), every("503"), false},
		{"rubbish", true, fails(mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBadAnswer, Sent: mcp.SentYes}), allSingle, allBad, true},
		{"refused", false, fails(mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonConnect, Sent: mcp.SentNo}), every("connect no"), every("connect no"), false},
		{"lost after the work", true, fails(mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentUnknown}), every("broke_off unknown"), every("broke_off unknown"), false},
		{"lost before the work", false, fails(mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentUnknown}), every("broke_off unknown"), every("broke_off unknown"), false},
		{"too slow", true, fails(mcp.Failure{Code: mcp.CodeDeadlinePassed, Reason: mcp.ReasonFirstByte, Sent: mcp.SentUnknown}), every("first_byte_timeout unknown"), every("first_byte_timeout unknown"), false},
		{"events", true, streamed(io.EOF, func(ids []string) []string { return []string{note, ok(ids[1]), "", ok(ids[0]), ok(ids[2])} }), allOwn, allOwn, false},
		{"an event with an array", true, streamed(io.EOF, func(ids []string) []string {
			return []string{"[" + ok(ids[1]) + "," + ok(ids[0]) + "]", ok(ids[2])}
		}), allOwn, allOwn, false},
		{"events that break off", true, streamed(broke, func(ids []string) []string { return []string{ok(ids[1])} }),
			[3]string{"single", "own", "single"}, [3]string{"broke_off yes", "own", "broke_off yes"}, false},
		{"a large body", true, func(ids []string) (*mcp.Result, error) {
			text := fmt.Sprintf("[%s,%s,%s]", ok(ids[0]), ok(ids[1]), ok(ids[2]))
			return &mcp.Result{Status: 200, Raw: io.NopCloser(strings.NewReader(text))}, nil
		}, allOwn, allOwn, false},
		{"a large body that breaks off", true, func(ids []string) (*mcp.Result, error) {
			return &mcp.Result{Status: 200, Raw: io.NopCloser(io.MultiReader(strings.NewReader("[{"), failing{broke}))}, nil
		}, allSingle, every("broke_off yes"), false},
		{"a large body that stalls", true, func(ids []string) (*mcp.Result, error) {
			stalled := &mcp.Failure{Code: mcp.CodeDeadlinePassed, Reason: mcp.ReasonIdle, Sent: mcp.SentYes}
			return &mcp.Result{Status: 200, Raw: io.NopCloser(failing{stalled})}, nil
		}, every("idle_timeout yes"), every("idle_timeout yes"), false},
		{"an error for all under an id of the server's own", false,
			say(`{"jsonrpc":"2.0","id":"server-error","error":{"code":-32600,"message":"no arrays"}}`), allSingle, allSingle, true},
		{"many elements more than calls", true, func(ids []string) (*mcp.Result, error) {
			return say("[%s%s,%s,%s]", strings.Repeat("1,", 1000), ok(ids[0]), ok(ids[1]), ok(ids[2]))(ids)
		}, allOwn, allOwn, false},
		{"too many elements", true, func(ids []string) (*mcp.Result, error) {
			return say("[%s,%s,%s%s]", ok(ids[0]), ok(ids[1]), ok(ids[2]), strings.Repeat(",1", 1001))(ids)
		}, allSingle, allBad, true},
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// TestWindowAnswers: whatever a server makes of an array, each call ends right, and what may have run runs once.
func TestWindowAnswers(t *testing.T) {
	for _, s := range append(sayings(), statuses()...) {
		for method, want := range map[string][3]string{"getBlock": s.reads, "sendBlock": s.writes} {
			t.Run(s.name+", "+method, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { s.try(t, method, want) })
			})
		}
	}
}

func (s said) try(t *testing.T, method string, want [3]string) {
	server := &arrays{}
	server.reply = func(_ context.Context, _ *mcp.Call, calls []element) (*mcp.Result, error) {
		ids := make([]string, 3)
		for _, e := range calls {
			ids[e.Params[1]-'0'] = string(e.ID)
			if s.runs {
				server.run(e.Params)
			}
		}
		return s.reply(ids)
	}
	r := newWindow(server, 3, time.Minute)
	calls := []*mcp.Call{plainCall("1", method, 0), plainCall("1", method, 1), plainCall(`"1"`, method, 2)}
	for i, g := range r.together(t.Context(), calls) {
		if got := outcomeOf(calls[i], g); got != want[i] {
			t.Errorf("call %d: %s, want %s", i, got, want[i])
		}
	}
	r.Wait()
	if method == "sendBlock" {
		for params, n := range server.ran {
			if n > 1 {
				t.Errorf("%s ran %d times", params, n)
			}
		}
	}
	before := len(server.sizes)
	r.together(t.Context(), calls)
	if single := len(server.sizes) == before; single != s.spoils {
		t.Errorf("later calls go by themselves: %v, want %v", single, s.spoils)
	}
	r.Wait()
	if s.spoils {
		<-time.After(time.Hour + time.Second)
		r.together(t.Context(), calls)
		if len(server.sizes) == before {
			t.Error("an hour later the server is still sent single calls")
		}
		r.Wait()
	}
}

func outcomeOf(c *mcp.Call, g ended) string {
	var f *mcp.Failure
	if errors.As(g.err, &f) {
		return string(f.Reason) + " " + string(f.Sent)
	}
	defer g.res.Close()
	if g.res.Status != 200 {
		return fmt.Sprint(g.res.Status)
	}
	switch string(g.res.Body) {
	case ok(string(c.ID())):
		return "own"
	case fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":1,"message":"no"}}`, c.ID()):
		return "error"
	case fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, c.ID(), c.Message.Params.Of(c.Body)):
		return "single"
	}
	return string(g.res.Body)
}

// FuzzWindowAnswer: whatever comes back, every call ends, with its own answer or with a failure.
func FuzzWindowAnswer(f *testing.F) {
	for _, seed := range []string{
		"[%0,%1,%2]", "[%2,%0]", "%1", "[]", "{}", `[%0,%0,"x",null]`, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":""}}`,
		"[[%0]]", "[%0,%1,%2", `[%0,{"jsonrpc":"2.0","id":1,"result":1}]`,
	} {
		f.Add(seed, false)
		f.Add(seed, true)
	}
	f.Fuzz(func(t *testing.T, text string, events bool) {
		server := &arrays{}
		server.reply = func(_ context.Context, _ *mcp.Call, calls []element) (*mcp.Result, error) {
			var pairs []string
			for _, e := range calls {
				pairs = append(pairs, "%"+string(e.Params[1]), ok(string(e.ID)))
			}
			text := strings.NewReplacer(pairs...).Replace(text)
			if events {
				return streamed(io.EOF, func([]string) []string { return strings.Split(text, ",") })(nil)
			}
			return say("%s", text)(nil)
		}
		r := newWindow(server, 3, time.Minute)
		calls := []*mcp.Call{plainCall("1", "sendBlock", 0), plainCall("1", "sendBlock", 1), plainCall("2", "sendBlock", 2)}
		for i, g := range r.together(t.Context(), calls) {
			got := outcomeOf(calls[i], g)
			if !slices.Contains([]string{"own", "single", "bad_answer unknown", "bad_answer yes"}, got) {
				var m mcp.Message
				if mcp.Scan([]byte(got), &m) != nil || !mcp.SameID(m.ID.Of([]byte(got)), calls[i].ID()) {
					t.Errorf("call %d: %s", i, got)
				}
			}
		}
		r.Wait()
	})
}
