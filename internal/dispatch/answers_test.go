package dispatch_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/admission"
	"fluentd-perf/internal/breaker"
	"fluentd-perf/internal/mcp"
)

// The bodies of answers that servers send with an error's status.
const (
	ownError      = `{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"no"}}`
	namelessError = `{"jsonrpc":"2.0","error":{"code":-32603,"message":"no"}}`
	nullError     = `{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"no"}}`
	otherError    = `{"jsonrpc":"2.0","id":2,"error":{"code":-32603,"message":"no"}}`
	otherResult   = `{"jsonrpc":"2.0","id":2,"result":{}}`
	noIDResult    = `{"jsonrpc":"2.0","id":null,"result":{}}`
	looseOwn      = `{"jsonrpc":"2.0","id":1,"result":null,"error":{"code":1,"message":"\ud83d"}}`
	html          = `<html>Bad Gateway</html>`
	discoverBody  = `{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{}}`
)

// rpc answers with a whole body, which is scanned as upstreams do.
func rpc(status int, body string, header ...string) play {
	return func(ctx context.Context, work func()) (*mcp.Result, error) {
		res, err := says(status, header...)(ctx, work)
		res.Body = []byte(body)
		_ = mcp.Scan(res.Body, &res.Message)
		return res, err
	}
}

// sse answers with an error's status and the body as the data of one event.
func sse(status int, data string) play {
	return func(ctx context.Context, work func()) (*mcp.Result, error) {
		res, err := says(status, "Content-Type", "text/event-stream")(ctx, work)
		res.Body, res.Data = []byte("event: message\ndata: "+data+"\n\n"), []byte(data)
		_ = mcp.Scan(res.Data, &res.Message)
		return res, err
	}
}

// modernPost makes a request of 2026-07-28.
func modernPost(body string) *mcp.Call {
	c := post(body)
	c.Era, c.Version = mcp.EraModern, "2026-07-28"
	return c
}

// TestAnswerIsLife: an answer in JSON-RPC to this request is life at any status, and never asked for again; what is not one,
// or cannot be read, counts by its status and is asked for again where that may be.
func TestAnswerIsLife(t *testing.T) {
	cases := []struct {
		name  string
		play  func(status int) play
		alive bool
	}{
		{"an error of the own id", func(s int) play { return rpc(s, ownError) }, true},
		{"a result of the own id", func(s int) play { return rpc(s, answerBody) }, true},
		{"a loose error of the own id", func(s int) play { return rpc(s, looseOwn) }, true},
		{"the id written another way", func(s int) play { return rpc(s, `{"jsonrpc":"2.0","id":1.0,"error":{}}`) }, true},
		{"an error without an id", func(s int) play { return rpc(s, namelessError) }, true},
		{"an error with id null", func(s int) play { return rpc(s, nullError) }, true},
		{"an error as an event", func(s int) play { return sse(s, ownError) }, true},
		{"an error without an id as an event", func(s int) play { return sse(s, nullError) }, true},
		{"an error in a second", func(s int) play { return rpc(s, ownError, "Retry-After", "1") }, true},
		{"an error of another id", func(s int) play { return rpc(s, otherError) }, false},
		{"a result of another id", func(s int) play { return rpc(s, otherResult) }, false},
		{"a result without an id", func(s int) play { return rpc(s, noIDResult) }, false},
		{"a request of the own id", func(s int) play { return rpc(s, listBody) }, false},
		{"another id as an event", func(s int) play { return sse(s, otherError) }, false},
		{"HTML", func(s int) play { return rpc(s, html) }, false},
		{"nothing", func(s int) play { return rpc(s, "") }, false},
		{"JSON that is no JSON-RPC", func(s int) play { return rpc(s, `{"error":"no"}`) }, false},
		{"an error in an array", func(s int) play { return rpc(s, "["+ownError+"]") }, false},
		{"bytes that still come", func(s int) play { return raws(s, io.EOF) }, false},
		{"a stream", func(s int) play {
			return func(ctx context.Context, work func()) (*mcp.Result, error) {
				res, err := streams(response)(ctx, work)
				res.Status = s
				return res, err
			}
		}, false},
	}
	for _, c := range cases {
		for _, status := range []int{500, 501, 502, 503, 504, 599} {
			for _, body := range []string{callBody, listBody} {
				t.Run(fmt.Sprintf("%s/%d/%s", c.name, status, post(body).Message.Method), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						server := newServer(c.play(status))
						s := newStage(t, setup{}, server)
						want := 1
						if !c.alive && body == listBody && status >= 502 && status <= 504 {
							want = 3
						}
						for i := range 3 {
							if got, f := s.do(t.Context(), post(body)); got != status {
								t.Fatalf("got %d, %v", got, f)
							}
							if n, _ := server.sent(); i == 0 && n != want { // later ones have not all of the budget
								t.Errorf("sent %d times, want %d", n, want)
							}
						}
						if closed := s.breakers[0].State() == breaker.Closed; closed != c.alive {
							t.Errorf("after three the breaker is closed: %v", closed)
						}
						s.idle()
					})
				})
			}
		}
	}
}

// TestNotAskedAgain: an answer in JSON-RPC is the answer, whatever its status, Retry-After or not, and so is the sure loss of
// a session.
func TestNotAskedAgain(t *testing.T) {
	session := []string{"Mcp-Session-Id", "s"}
	for _, p := range []play{
		rpc(429, ownError, "Retry-After", "0"), rpc(502, ownError), rpc(503, ownError), rpc(504, nullError), sse(503, ownError),
		rpc(404, "session not found"), rpc(410, ""), rpc(404, nullError),
	} {
		for _, p := range []play{p, working(p)} { // it did nothing; it did the work
			synctest.Test(t, func(t *testing.T) {
				server := newServer(p, answers)
				s := newStage(t, setup{}, server)
				if status, f := s.do(t.Context(), post(listBody, session...)); status < 400 {
					t.Errorf("got %d, %v", status, f)
				}
				if n, _ := server.sent(); n != 1 || s.Status().Retries != 0 {
					t.Errorf("sent %d times", n)
				}
				s.idle()
			})
		}
	}
}

// TestOpaqueLife: of a body that was not read, and of an array, the ids are not known: any answer is life.
func TestOpaqueLife(t *testing.T) {
	opaque := of(mcp.LaneOpaque, "")
	opaque.Body, opaque.Message = []byte{0x1f, 0x8b}, mcp.Message{Method: mcp.MethodOther}
	array := of(mcp.LaneOpaque, "["+callBody+"]")
	cases := []struct {
		name  string
		call  *mcp.Call
		play  play
		alive bool
	}{
		{"opaque, an error", opaque, rpc(500, otherError), true},
		{"opaque, an error without an id", opaque, rpc(500, nullError), true},
		{"opaque, an event", opaque, sse(500, otherError), true},
		{"opaque, HTML", opaque, rpc(500, html), false},
		{"opaque, a request", opaque, rpc(500, listBody), false},
		{"array, answers", array, rpc(500, "["+otherError+","+ownError+"]"), true},
		{"array, one error", array, rpc(503, nullError), true},
		{"array, an array of others", array, rpc(500, `[{"a":1},`+listBody+`]`), false},
		{"array, an array of nothing", array, rpc(500, `[1,2]`), false},
		{"a window's array", of(mcp.LaneBatch, "["+callBody+"]"), rpc(500, "["+ownError+"]"), true},
		{"a window's array, HTML", of(mcp.LaneBatch, "["+callBody+"]"), rpc(500, html), false},
		{"a notification, an error without an id", of(mcp.LaneNotification, progressBody), rpc(500, nullError), true},
		{"a notification, an error of some id", of(mcp.LaneNotification, progressBody), rpc(500, ownError), true},
		{"the end of a session, an error without an id", of(mcp.LaneEnd, ""), rpc(500, namelessError), true},
		{"the end of a session, text", of(mcp.LaneEnd, ""), rpc(501, "no"), true},
		{"a notification, text", of(mcp.LaneNotification, progressBody), rpc(500, "no"), true},
	}
	for _, c := range cases {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, setup{}, newServer(c.play))
			for range 3 {
				s.do(t.Context(), c.call)
			}
			if closed := s.breakers[0].State() == breaker.Closed; closed != c.alive {
				t.Errorf("%s: the breaker is %s", c.name, s.breakers[0].State())
			}
			s.idle()
		})
	}
}

// TestToolErrorsHarmNobody: a server that answers one tool with 500 and a JSON-RPC error works for everybody else.
func TestToolErrorsHarmNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newServer(rpc(500, ownError))
		s := newStage(t, setup{}, server)
		for range 11 {
			server.set(working(rpc(500, ownError)))
			for range 3 {
				s.do(t.Context(), post(callBody))
			}
			server.set(answers)
			if status, f := s.do(t.Context(), post(callBody, "Mcp-Session-Id", "b")); status != 200 {
				t.Errorf("another agent got %v", f)
			}
		}
		if st := s.Status(); st.LastError != nil {
			t.Errorf("the last error is %+v", st.LastError)
		}
		s.idle()
	})
}

// failing are all the ways in which a server fails a request.
var failing = map[string]play{
	"503": says(503), "500": says(500), "404": says(404), "400": rpc(400, html), "a hang-up": fails(brokeOff), "refused": fails(refused),
	"silence": fails(timeoutOf(true)), "bytes": raws(503, io.EOF), "a stream cut": streams(progress, ends(&cutOff)),
	"a stream that ends": streams(), "rubbish": fails(rubbish), "no dial": fails(noDial), "a JSON-RPC error": rpc(404, ownError),
}

// TestDiscoverCountsNothing: whatever comes of server/discover, in whichever form, the breaker does not hear of it: it ends no
// row of failures either.
func TestDiscoverCountsNothing(t *testing.T) {
	for name, p := range failing {
		synctest.Test(t, func(t *testing.T) {
			server := newServer(p)
			o := setup{}
			o.SlowCall = time.Second
			s := newStage(t, o, server)
			for range 30 {
				s.do(t.Context(), modernPost(discoverBody))
			}
			if state := s.breakers[0].State(); state != breaker.Closed {
				t.Errorf("%s: the breaker is %s", name, state)
			}
			s.idle()
		})
	}
	for _, p := range []play{answers, streams(response), rpc(500, ownError)} {
		synctest.Test(t, func(t *testing.T) {
			server := newServer(nil)
			s := newStage(t, setup{}, server)
			for range 3 {
				server.set(says(500))
				s.do(t.Context(), post(callBody))
				server.set(p)
				s.do(t.Context(), modernPost(discoverBody))
			}
			if s.breakers[0].State() != breaker.Open {
				t.Error("a discover ended a row of failures")
			}
		})
	}
}

// TestDiscoverIsNoProbe: at a breaker that is not closed it is refused, and takes no probe's place; on a server of plain
// JSON-RPC it is a method as any other.
func TestDiscoverIsNoProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newServer(answers)
		s := newStage(t, setup{gate: admission.Options{MaxInFlight: 1}}, server)
		fall(s.breakers[0])
		for _, d := range []time.Duration{0, time.Second, time.Minute} { // open, due, half-open
			pass(d)
			if f := s.Refusal(modernPost(discoverBody)); f == nil || f.Reason != mcp.ReasonBreakerOpen {
				t.Errorf("the refusal is %v", f)
			}
			_, f := s.do(t.Context(), modernPost(discoverBody))
			if f == nil || f.Code != 1503 || f.Reason != mcp.ReasonBreakerOpen || f.Sent != mcp.SentNo || f.RetryAfter <= 0 {
				t.Errorf("got %+v", f)
			}
		}
		if n, _ := server.sent(); n != 0 {
			t.Errorf("sent %d times", n)
		}
		if status, f := s.do(t.Context(), post(listBody)); status != 200 {
			t.Errorf("the probe got %v", f)
		}
		if status, f := s.do(t.Context(), modernPost(discoverBody)); status != 200 {
			t.Errorf("at a closed breaker: %v", f)
		}
		fall(s.breakers[0])
		pass(time.Second)
		plain := post(discoverBody)
		plain.Era = mcp.EraPlain
		if status, f := s.do(t.Context(), plain); status != 200 || s.breakers[0].State() != breaker.Closed {
			t.Errorf("of plain JSON-RPC: %v", f)
		}
		s.idle()
	})
}

// TestDiscoverGoesElsewhere: with several endpoints it goes to one of which the breaker is closed, also when it is sent
// again.
func TestDiscoverGoesElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := newServer(answers), newServer(answers), newServer(says(503))
		s := newStage(t, setup{}, a, b, c)
		fall(s.breakers[0])
		pass(time.Minute) // due
		for range 20 {
			if status, f := s.do(t.Context(), modernPost(discoverBody)); status != 200 {
				t.Errorf("got %d, %v", status, f)
			}
		}
		if n, _ := a.sent(); n != 0 || s.breakers[0].State() == breaker.Closed || s.breakers[2].State() != breaker.Closed {
			t.Errorf("%d went to an open one; it is %s, and the one that fails %s", n, s.breakers[0].State(), s.breakers[2].State())
		}
		s.idle()
	})
}

// TestAgentsConnect: a server that fails server/discover in whatever way, and is well otherwise, is there for all agents at
// once: none waits, none is refused.
func TestAgentsConnect(t *testing.T) {
	for name, p := range failing {
		if name == "silence" || name == "no dial" {
			continue // they take their time; TestDiscoverCountsNothing has them
		}
		synctest.Test(t, func(t *testing.T) {
			server := newServer(nil)
			s := newStage(t, setup{gate: admission.Options{MaxInFlight: 4}}, server)
			begun := time.Now()
			for agent := range 3 {
				server.set(p)
				s.do(t.Context(), modernPost(discoverBody))
				server.set(answers)
				for _, body := range []string{initBody, listBody, callBody} {
					if status, f := s.do(t.Context(), post(body)); status != 200 {
						t.Errorf("%s: agent %d got %v", name, agent, f)
					}
				}
			}
			if d := time.Since(begun); d > 3*150*time.Millisecond { // the repeats of a discover
				t.Errorf("%s: it took %v", name, d)
			}
			s.idle()
		})
	}
}

// TestInitializeProbes: at an open breaker an initialize tries the server within a second, whatever the backoff, one at a
// time and a second apart; if it is answered, everybody may call.
func TestInitializeProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newServer(fails(refused))
		s := newStage(t, setup{}, server)
		fall(s.breakers[0])
		for range 6 {
			pass(s.breakers[0].RetryAfter(false))
			s.do(t.Context(), post(callBody))
		}
		if d := s.breakers[0].RetryAfter(false); d != 30*time.Second {
			t.Fatalf("it backs off %v", d)
		}
		server.calls = nil
		for range 100 { // ten seconds
			if _, f := s.do(t.Context(), post(initBody)); f == nil || f.Reason == mcp.ReasonBreakerOpen && f.RetryAfter > time.Second {
				t.Fatalf("got %+v", f)
			}
			if _, f := s.do(t.Context(), post(listBody)); f == nil || f.Reason != mcp.ReasonBreakerOpen || f.RetryAfter < 20*time.Second {
				t.Fatalf("another call got %+v", f)
			}
			pass(100 * time.Millisecond)
		}
		if n, _ := server.sent(); n != 9 {
			t.Errorf("%d tried in ten seconds", n)
		}
		server.set(after(500*time.Millisecond, answers))
		pass(time.Second)
		go s.do(t.Context(), post(initBody))
		synctest.Wait()
		if _, f := s.do(t.Context(), post(initBody)); f == nil || f.Reason != mcp.ReasonBreakerOpen {
			t.Errorf("beside the probe another got %v", f)
		}
		pass(600 * time.Millisecond)
		if status, f := s.do(t.Context(), post(listBody)); status != 200 {
			t.Errorf("after it was answered a call got %v", f)
		}
		s.idle()
	})
}

// TestInitializeOfPlain: on a server of plain JSON-RPC the name means nothing.
func TestInitializeOfPlain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, setup{}, newServer(fails(refused)))
		fall(s.breakers[0])
		pass(time.Second)
		s.do(t.Context(), post(callBody)) // the next is due in two seconds
		pass(time.Second)
		plain := post(initBody)
		plain.Era = mcp.EraPlain
		if _, f := s.do(t.Context(), plain); f == nil || f.Reason != mcp.ReasonBreakerOpen {
			t.Errorf("got %v", f)
		}
		if s.Refusal(plain) == nil || s.Refusal(post(initBody)) != nil {
			t.Error("the refusal says otherwise")
		}
	})
}

// TestCountsOnce: a call counts once at an endpoint, by what came of it there last.
func TestCountsOnce(t *testing.T) {
	cut := streams(ends(&cutOff))
	cases := []struct {
		name  string
		body  string
		plays []play // of one call
		opens int    // the call that opens the breaker; 0: none of ten
	}{
		{"503", listBody, []play{says(503), says(503), says(503)}, 3},
		{"502, done", listBody, []play{working(says(502)), working(says(502)), working(says(502))}, 3},
		{"hang-ups", listBody, []play{fails(brokeOff), fails(brokeOff), fails(brokeOff)}, 3},
		{"streams cut", listBody, []play{cut, cut, cut}, 3},
		{"bytes", listBody, []play{raws(503, io.EOF), raws(503, io.EOF), raws(503, io.EOF)}, 3},
		{"refused", callBody, []play{fails(refused), fails(refused), fails(refused)}, 2},
		{"refused, then not reached", callBody, []play{fails(refused), fails(refused), fails(unreachable)}, 3},
		{"503, then refused", listBody, []play{says(503), says(503), fails(refused)}, 2},
		{"refused, then 500", callBody, []play{fails(refused), says(500)}, 3},
		{"good in the end", listBody, []play{says(503), fails(refused), answers}, 0},
		{"good in the end, as a stream", listBody, []play{says(503), cut, streams(progress, response)}, 0},
		{"an error in the end", listBody, []play{fails(refused), rpc(500, ownError)}, 0},
		{"good in the end, cut later", listBody, []play{says(503), streams(progress, ends(&cutOff))}, 3},
		{"no connection free in the end", listBody, []play{fails(brokeOff), fails(poolWait)}, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newServer(nil)
				s := newStage(t, setup{}, server)
				got := 0
				for n := 1; n <= 10 && got == 0; n++ {
					server.calls = nil
					server.set(c.plays...)
					s.do(t.Context(), post(c.body))
					if calls, _ := server.sent(); calls != len(c.plays) {
						t.Errorf("sent %d times", calls)
					}
					if s.breakers[0].State() != breaker.Closed {
						got = n
					}
					s.idle()
					pass(time.Second)
					for range 2 { // the budget: discover counts nothing
						server.set(answers)
						s.do(t.Context(), modernPost(discoverBody))
					}
				}
				if got != c.opens {
					t.Errorf("call %d opened the breaker, want %d", got, c.opens)
				}
			})
		})
	}
}

// TestCountsOnceEach: at each of several endpoints, and at once where it goes elsewhere.
func TestCountsOnceEach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bad, slow := newServer(fails(unreachable)), newServer(after(time.Minute, answers))
		s := newStage(t, setup{}, bad, slow)
		for n := 0; n < 3; {
			before, _ := bad.sent()
			if before > n {
				t.Fatalf("%d calls at the bad endpoint, %d counted", before, n)
			}
			go s.do(t.Context(), post(callBody))
			pass(time.Second)
			n, _ = bad.sent()
		}
		if s.breakers[0].State() != breaker.Open {
			t.Error("three calls that failed there are not known while they are served elsewhere")
		}
		pass(2 * time.Minute)
		s.idle()
	})
	synctest.Test(t, func(t *testing.T) {
		a, b := newServer(says(503)), newServer(says(503))
		s := newStage(t, setup{}, a, b)
		for n := range 3 {
			s.do(t.Context(), post(listBody))
			for i := range 2 {
				if open := s.breakers[i].State() == breaker.Open; open != (n == 2) {
					t.Errorf("endpoint %d after %d calls: open is %v", i, n+1, open)
				}
			}
			for range 4 { // the budget
				s.do(t.Context(), modernPost(discoverBody))
				a.set(answers)
				b.set(answers)
			}
			a.set(says(503))
			b.set(says(503))
		}
		s.idle()
	})
}

// TestCountsWhenItLeaves: a call that is left while it waits to be sent again has failed as it had.
func TestCountsWhenItLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, setup{}, newServer(says(503, "Retry-After", "2")))
		for range 3 {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, cancel)
			s.do(ctx, post(listBody))
		}
		if s.breakers[0].State() != breaker.Open {
			t.Error("three calls that failed are not known")
		}
		s.idle()
	})
}

// TestLossCountsNothing: a sure loss of a session is neither a failure nor a success, but proof enough for a probe. What is
// none, or of a call without a session, counts as any answer.
func TestLossCountsNothing(t *testing.T) {
	inSession := func(body string) *mcp.Call { return post(body, "Mcp-Session-Id", "s") }
	modern := inSession(callBody)
	modern.Era = mcp.EraModern
	cases := []struct {
		name  string
		call  *mcp.Call
		play  play
		opens bool // with the failures before and after it
	}{
		{"404 in text", inSession(callBody), rpc(404, "session not found"), true},
		{"404 of no id", inSession(listBody), rpc(404, nullError), true},
		{"410", inSession(callBody), rpc(410, ""), true},
		{"of a notification", of(mcp.LaneNotification, progressBody, "Mcp-Session-Id", "s"), rpc(404, ""), true},
		{"of the own id", inSession(callBody), rpc(404, ownError), false},
		{"without a session", post(callBody), rpc(404, "session not found"), false},
		{"in the modern era", modern, rpc(404, "session not found"), false},
		{"another refusal", inSession(callBody), rpc(403, "no"), false},
	}
	for _, c := range cases {
		synctest.Test(t, func(t *testing.T) {
			server := newServer(says(500), says(500), c.play, says(500), c.play, c.play)
			s := newStage(t, setup{}, server)
			s.do(t.Context(), post(callBody))
			s.do(t.Context(), post(callBody))
			s.do(t.Context(), c.call)
			if s.breakers[0].State() != breaker.Closed {
				t.Errorf("%s: it counts as a failure", c.name)
			}
			s.do(t.Context(), post(callBody))
			if opens := s.breakers[0].State() == breaker.Open; opens != c.opens {
				t.Errorf("%s: with failures around it the breaker is %s", c.name, s.breakers[0].State())
			}
			fall(s.breakers[0])
			pass(2 * time.Second)
			if status, f := s.do(t.Context(), c.call); status < 400 || s.breakers[0].State() != breaker.Closed {
				t.Errorf("%s: as a probe it got %v and leaves the breaker %s", c.name, f, s.breakers[0].State())
			}
			s.idle()
		})
	}
}

// TestRememberedCountsNothing: an answer for which no server was asked is neither a failure nor a success, nor does it prove anything.
func TestRememberedCountsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		remembered := func(ctx context.Context, work func()) (*mcp.Result, error) {
			res, err := answers(ctx, work)
			res.Remembered = true
			return res, err
		}
		s := newStage(t, setup{}, newServer(says(500), says(500), remembered, says(500), remembered, says(500)))
		for _, c := range []*mcp.Call{post(callBody), post(callBody), post(listBody), post(callBody)} {
			s.do(t.Context(), c)
		}
		if s.breakers[0].State() != breaker.Open {
			t.Error("it counts as a success")
		}
		pass(2 * time.Second)
		if status, _ := s.do(t.Context(), post(listBody)); status != 200 || s.breakers[0].State() == breaker.Closed {
			t.Errorf("as a probe it got %d and leaves the breaker %s", status, s.breakers[0].State())
		}
		s.idle()
	})
}

// piecewise is a piece of an event that is too large to hold.
var piecewise = piece{event: mcp.Event{Raw: []byte("data: aaaa"), Partial: true}}

// lastPiece ends an event that counts as the answer.
var lastPiece = piece{event: mcp.Event{Raw: []byte("aaaa\n\n"), Answer: true}}

// TestPieces: a piece of a large event is handed on and settles nothing; its last does.
func TestPieces(t *testing.T) {
	for _, body := range []string{callBody, listBody} {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, setup{gate: admission.Options{MaxInFlight: 1}}, newServer(streams(piecewise, piecewise, lastPiece)))
			res, err := s.Call(t.Context(), post(body))
			if err != nil {
				t.Fatal(err)
			}
			var got []byte
			for n := range 3 {
				ev, err := res.Events.Next()
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, ev.Raw...)
				if held := s.Status().InFlight == 1; held != (n < 2) {
					t.Errorf("after %d pieces it holds a slot: %v", n+1, held)
				}
			}
			if n, _ := s.servers[0].sent(); n != 1 || string(got) != "data: aaaadata: aaaaaaaa\n\n" {
				t.Errorf("sent %d times, got %q", n, got)
			}
			_ = res.Close()
			s.idle()
		})
	}
	synctest.Test(t, func(t *testing.T) { // cut within the answer
		server := newServer(streams(piecewise, ends(&cutOff)))
		s := newStage(t, setup{}, server)
		for range 3 {
			s.do(t.Context(), post(listBody))
		}
		if n, _ := server.sent(); n != 3 || s.breakers[0].State() != breaker.Open {
			t.Errorf("sent %d times, the breaker is %s", n, s.breakers[0].State())
		}
		s.idle()
	})
}

// TestAnswerOfAnyID: whatever its id, readable or not, the answer on a stream settles slot and breaker, and the end after it
// is an end.
func TestAnswerOfAnyID(t *testing.T) {
	for _, data := range []string{answerBody, otherResult, `{"jsonrpc":"2.0","id":"1","result":{}}`, "{", "[]", ""} {
		synctest.Test(t, func(t *testing.T) {
			answer := piece{event: mcp.Event{Raw: []byte("data: x\n\n"), Data: []byte(data), Answer: true}}
			server := newServer(says(500), says(500), streams(progress, answer, ends(&cutOff)), says(500), says(500))
			s := newStage(t, setup{}, server)
			for range 5 {
				s.do(t.Context(), post(callBody))
			}
			if s.breakers[0].State() != breaker.Closed {
				t.Errorf("%q was no answer", data)
			}
			s.idle()
		})
	}
}

// TestOpaqueStreams: a body that was not read is taken for one request, so that its answer settles slot and breaker, but none
// is due; the answers to an array may be several, and its stream is over at its end. A legacy stream that can be resumed is
// no failure in either.
func TestOpaqueStreams(t *testing.T) {
	opaque, array := of(mcp.LaneOpaque, ""), of(mcp.LaneOpaque, "["+callBody+"]")
	opaque.Body, opaque.Message = []byte{0x1f, 0x8b}, mcp.Message{Method: mcp.MethodOther}
	cases := []struct {
		name   string
		call   *mcp.Call
		pieces []piece
		holds  bool // a slot, after the first two
		opens  bool // the breaker, after three such
	}{
		{"opaque, answered", opaque, []piece{progress, response, ends(&cutOff)}, false, false},
		{"opaque, cut", opaque, []piece{progress, progress, ends(&cutOff)}, true, true},
		{"opaque, ended", opaque, []piece{progress, progress}, true, false},
		{"opaque, cut and can be resumed", opaque, []piece{priming, progress, ends(&cutOff)}, true, false},
		{"array, answered", array, []piece{response, response}, true, false},
		{"array, cut", array, []piece{progress, response, ends(&cutOff)}, true, true},
		{"array, cut and can be resumed", array, []piece{priming, response, ends(&cutOff)}, true, false},
	}
	for _, c := range cases {
		synctest.Test(t, func(t *testing.T) {
			s := newStage(t, setup{gate: admission.Options{MaxInFlight: 1}}, newServer(streams(c.pieces...)))
			for range 3 {
				res, err := s.Call(t.Context(), c.call)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = res.Events.Next()
				_, _ = res.Events.Next()
				if holds := s.Status().InFlight == 1; holds != c.holds {
					t.Errorf("%s: it holds a slot: %v", c.name, holds)
				}
				read(t, res)
				_ = res.Close()
			}
			if opens := s.breakers[0].State() == breaker.Open; opens != c.opens {
				t.Errorf("%s: the breaker is %s", c.name, s.breakers[0].State())
			}
			s.idle()
		})
	}
}

// TestBadStatusCountsAtOnce: of bytes that still come a bad status is enough, whether or not somebody reads them.
func TestBadStatusCountsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStage(t, setup{}, newServer(raws(http.StatusBadGateway, io.EOF)))
		for range 3 {
			res, err := s.Call(t.Context(), post(callBody))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = res.Close() }()
		}
		if s.breakers[0].State() != breaker.Open {
			t.Error("a bad status counts when its body is over only")
		}
	})
}

// TestDiscoverIsNotAskedAgain holds that a status in the place of an answer to server/discover reaches the agent at once where
// there is one server: a Retry-After of an old server's is no reason to keep its client from initialize.
func TestDiscoverIsNotAskedAgain(t *testing.T) {
	for _, status := range []int{429, 502, 503, 504} {
		synctest.Test(t, func(t *testing.T) {
			server := newServer(says(status, "Retry-After", "1"))
			s := newStage(t, setup{}, server)
			begun := time.Now()
			got, _ := s.do(t.Context(), modernPost(discoverBody))
			if n, _ := server.sent(); got != status || n != 1 || time.Since(begun) != 0 {
				t.Errorf("%d: got %d after %v, sent %d times", status, got, time.Since(begun), n)
			}
			s.idle()
		})
	}
}

// TestOrdinaryCallsAreProbes holds that agents which try initialize again and again, each in vain, do not keep the probes of
// sessions that live from the server: it takes calls, and no new sessions.
func TestOrdinaryCallsAreProbes(t *testing.T) {
	for _, slots := range []int{0, 8} {
		synctest.Test(t, func(t *testing.T) { ordinaryCallIsProbe(t, setup{gate: admission.Options{MaxInFlight: slots}}) })
	}
}

func ordinaryCallIsProbe(t *testing.T, o setup) {
	server := newServer(fails(refused))
	s := newStage(t, o, server)
	fall(s.breakers[0])
	for range 120 {
		pass(time.Second)
		server.set(says(503))
		s.do(t.Context(), post(initBody))
		server.set(answers)
		if status, _ := s.do(t.Context(), post(callBody)); status == 200 {
			return
		}
	}
	t.Error("no call of a living session was let through in two minutes")
}
