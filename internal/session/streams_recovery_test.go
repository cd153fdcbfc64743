package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session"
)

// get opens a GET stream of the session.
func (a *agent) get(ctx context.Context, lastID string) *mcp.Result {
	a.t.Helper()
	c := a.call(mcp.LaneStream, "")
	if lastID != "" {
		c.Header.Set("Last-Event-ID", lastID)
	}
	res, err := a.stage.Call(ctx, c)
	if err != nil {
		a.t.Fatal(err)
	}
	if id := res.Header.Get("Mcp-Session-Id"); id != "" && id != a.id {
		a.t.Errorf("GET: the agent sees the session id %q", id)
	}
	return res
}

// feed returns the GET stream that the server has open, the last of all, once there are n.
func (w *world) feed(t *testing.T, n int) *feed {
	t.Helper()
	for range 100 {
		synctest.Wait()
		w.mu.Lock()
		var last *feed
		all := 0
		for _, l := range w.sessions {
			if all += len(l.feeds); len(l.feeds) > 0 {
				last = l.feeds[len(l.feeds)-1]
			}
		}
		w.mu.Unlock()
		if all == n {
			return last
		}
		wait(time.Second)
	}
	t.Fatalf("the server never had %d streams", n)
	return nil
}

// lastGet returns the headers of the last GET that came.
func (w *world) lastGet(t *testing.T) http.Header {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := len(w.calls) - 1; i >= 0; i-- {
		if w.calls[i].Lane == mcp.LaneStream {
			return w.calls[i].Header
		}
	}
	t.Fatal("no GET came")
	return nil
}

// next starts to read the next event.
func next(res *mcp.Result) <-chan func() (mcp.Event, error) {
	out := make(chan func() (mcp.Event, error), 1)
	go func() {
		ev, err := res.Events.Next()
		out <- func() (mcp.Event, error) { return ev, err }
	}()
	return out
}

// wantEvent makes the server send an event, which the agent is to get, and returns its id as the agent got it.
func wantEvent(t *testing.T, res *mcp.Result, f *feed, ev mcp.Event) string {
	t.Helper()
	out := next(res)
	f.events <- ev
	got, err := (<-out)()
	if err != nil || serverID(got) != string(ev.ID) || string(got.Data) != string(ev.Data) {
		t.Fatalf("got %s, %s, %v", got.ID, got.Data, err)
	}
	return string(got.ID)
}

// tag is what stands before the id of an event in a session that was recovered.
var tag = regexp.MustCompile(`^[A-Z2-7]{8}-[1-9]-`)

// serverID is the id that the server gave an event.
func serverID(ev mcp.Event) string { return tag.ReplaceAllString(string(ev.ID), "") }

func closed(t *testing.T, res *mcp.Result) {
	t.Helper()
	if err := res.Close(); err != nil {
		t.Error(err)
	}
}

// TestOpenStream holds that an open GET stream of a lost session goes on in the new one, subscriptions included, whoever
// heals it: the stream itself, when it is re-opened; or another request, also while the old stream still stands.
func TestOpenStream(t *testing.T) {
	for name, c := range map[string]struct {
		lose  func(*world)
		lists bool
	}{
		"by itself":          {(*world).restart, false},
		"by a list":          {(*world).restart, true},
		"stands on":          {(*world).forget, true},
		"the server is away": {func(w *world) { w.restart(); w.away(5 * time.Second) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				a := newAgent(t, w, session.HealReads)
				a.begin()
				a.works("resources/subscribe", `{"uri":"test://1"}`)
				res := a.get(t.Context(), "")
				wantEvent(t, res, w.feed(t, 1), numbered("7"))
				c.lose(w)
				if c.lists {
					a.list()
				}
				got := next(res)
				f := w.feed(t, 1)
				f.events <- numbered("1")
				if ev, err := (<-got)(); err != nil || serverID(ev) != "1" {
					t.Fatalf("got %+v, %v", ev, err)
				}
				if h := w.lastGet(t); h.Get("Last-Event-ID") != "" || h.Get("Mcp-Session-Id") != "s2" {
					t.Errorf("the stream was opened again with %v", h)
				}
				for _, l := range w.sessions {
					if len(l.uris) != 1 {
						t.Errorf("subscribed to %v", l.uris)
					}
				}
				// A break in the new session goes on from the new session's event.
				f.end <- errBroke
				got = next(res)
				w.feed(t, 2).events <- numbered("2")
				if ev, err := (<-got)(); err != nil || serverID(ev) != "2" || w.lastGet(t).Get("Last-Event-ID") != "1" {
					t.Errorf("got %+v, %v after %v", ev, err, w.lastGet(t))
				}
				closed(t, res)
				a.restarted()
				a.tool()
				a.wantHeals(healed{"healed": 1})
			})
		})
	}
}

// away makes the server refuse everything for a time.
func (w *world) away(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	back := time.Now().Add(d)
	w.before = func(*mcp.Call) (*mcp.Result, error) {
		if time.Now().Before(back) {
			return nil, &mcp.Failure{Code: 1503, Reason: mcp.ReasonBreakerOpen, Sent: mcp.SentNo}
		}
		return nil, nil
	}
}

// TestStreamGivenUp holds that a stream which cannot be re-opened, as its session is gone, ends cleanly.
func TestStreamGivenUp(t *testing.T) {
	for name, heal := range map[string]session.Heal{"changed": session.HealReads, "off": session.HealOff} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				a := newAgent(t, w, heal)
				a.begin()
				res := a.get(t.Context(), "")
				w.name = "other"
				w.restart()
				if _, err := (<-next(res))(); err != io.EOF {
					t.Errorf("ended with %v", err)
				}
				closed(t, res)
			})
		})
	}
}

// TestFreshGET holds that a first GET heals a session that is lost, and that a server without GET streams, which says 404
// to them, has lost nothing.
func TestFreshGET(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealReads)
		a.begin()
		w.restart()
		res := a.get(t.Context(), "")
		wantEvent(t, res, w.feed(t, 1), numbered("1"))
		closed(t, res)
		a.restarted()

		w.noStreams = 404
		a.id = ""
		a.begin()
		if res := a.get(t.Context(), ""); res.Status != 404 || string(res.Body) != "no such route" {
			t.Errorf("got %d %s", res.Status, res.Body)
		}
		a.tool()
		w.restart()
		if res := a.get(t.Context(), ""); res.Status != 404 {
			t.Errorf("got %d %s", res.Status, res.Body)
		}
		a.restarted()
		a.tool()
		a.wantHeals(healed{"healed": 2})

		a.id = "never seen"
		if res := a.get(t.Context(), ""); res.Status != 404 {
			t.Errorf("got %d %s", res.Status, res.Body)
		}
	})
}

// TestFirstGETOfSeenSession holds that a session which the stage saw begin, and which had no stream yet, does not wait for a
// server that cannot be reached.
func TestFirstGETOfSeenSession(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealReads)
		a.begin()
		w.away(5 * time.Second)
		res, err := a.stage.Call(t.Context(), a.call(mcp.LaneStream, ""))
		var f *mcp.Failure
		if !errors.As(err, &f) || f.Reason != mcp.ReasonBreakerOpen {
			t.Errorf("got %v, %v", res, err)
		}
	})
}

// dropAfterID makes the next tools/call answer with one event that has an id, and then an end.
func (w *world) dropAfterID(id string, end error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.before = func(c *mcp.Call) (*mcp.Result, error) {
		if c.Method() != mcp.MethodToolsCall {
			return nil, nil
		}
		w.before = nil
		prime := mcp.Event{Raw: []byte("id: " + id + "\ndata:\n\n"), ID: []byte(id), HasID: true}
		return &mcp.Result{Status: 200, Header: http.Header{}, Events: &events{list: []mcp.Event{prime}, end: end}}, nil
	}
}

func (a *agent) dropped(id string, end error) {
	a.t.Helper()
	a.w.dropAfterID(id, end)
	res, err := a.post(a.t.Context(), a.request("tools/call", `{"name":"t"}`))
	must(err)
	if ids, err := read(a.t, res); len(ids) != 1 || !errors.Is(err, end) {
		a.t.Fatalf("got %v, %v", ids, err)
	}
}

// wantLost reads a stream that carries the error of a lost call.
func wantLost(t *testing.T, res *mcp.Result, id string) {
	t.Helper()
	if res.Status != 200 || res.Events == nil {
		t.Fatalf("got %d %s, want a stream", res.Status, res.Body)
	}
	ev, err := res.Events.Next()
	if err != nil || ev.Failure == nil {
		t.Fatalf("got %+v, %v", ev, err)
	}
	f := ev.Failure
	if f.Code != 1502 || f.Reason != mcp.ReasonSessionLost || f.Sent != mcp.SentUnknown || string(ev.FailedID) != id {
		t.Errorf("the call %s failed with %+v", ev.FailedID, f)
	}
	if _, err := res.Events.Next(); err != io.EOF {
		t.Errorf("then %v", err)
	}
	closed(t, res)
}

// TestLostCall holds what a client gets that resumes the stream of a call whose session was lost: the call's error, once.
func TestLostCall(t *testing.T) {
	for name, first := range map[string]bool{"the GET heals": false, "a list heals": true} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				a := newAgent(t, w, session.HealReads)
				a.begin()
				a.dropped("p-1", io.EOF)
				a.dropped("p-2", errBroke)
				w.restart()
				if first {
					a.list()
				}
				wantLost(t, a.get(t.Context(), "p-2"), "2")
				if res := a.get(t.Context(), "p-2"); res.Status != 405 || res.Header.Get("Allow") == "" {
					t.Errorf("a further GET got %d %v", res.Status, res.Header)
				}
				wantLost(t, a.get(t.Context(), "p-1"), "1")
				if w.live() != 1 || w.count(mcp.LaneNotification, mcp.MethodInitialized) != 2 {
					t.Errorf("%d sessions are on the server", w.live())
				}
				for _, id := range []string{"p-0", "something else"} {
					res := a.get(t.Context(), id)
					if got := w.lastGet(t).Get("Last-Event-ID"); res.Status != 200 || got != "" {
						t.Errorf("a GET with an id of before: %d, and %q went to the server", res.Status, got)
					}
					closed(t, res)
				}
				a.wantHeals(healed{"healed": 1})
			})
		})
	}
}

// TestResumed holds that a stream that is resumed in a whole session passes as it is, that one whose server dies then
// tells of the lost call, and that an answered one is none.
func TestResumed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealReads)
		a.begin()
		a.dropped("p-1", io.EOF)
		res := a.get(t.Context(), "p-1")
		if got := w.lastGet(t).Get("Last-Event-ID"); got != "p-1" {
			t.Errorf("resumed with %q", got)
		}
		f := w.feed(t, 1)
		wantEvent(t, res, f, numbered("p-5"))
		w.restart()
		wantLost(t, res, "1")
		if res := a.get(t.Context(), "p-5"); res.Status != 405 {
			t.Errorf("a further GET got %d", res.Status)
		}
	})
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealAll)
		a.begin()
		a.dropped("p-1", io.EOF)
		res := a.get(t.Context(), "p-1")
		wantEvent(t, res, w.feed(t, 1), mcp.Event{ID: []byte("p-9"), HasID: true, Data: []byte(`{"jsonrpc":"2.0","id":1,"result":{}}`)})
		closed(t, res)
		w.restart()
		res = a.get(t.Context(), "p-9")
		if got := w.lastGet(t); got.Get("Last-Event-ID") != "" || got.Get("Mcp-Session-Id") != "s2" {
			t.Errorf("the GET went with %v", got)
		}
		// In the new session ids are passed on.
		id := wantEvent(t, res, w.feed(t, 1), numbered("n-1"))
		closed(t, res)
		res = a.get(t.Context(), id)
		if got := w.lastGet(t).Get("Last-Event-ID"); got != "n-1" {
			t.Errorf("resumed with %q", got)
		}
		closed(t, res)
	})
}

// TestEventIDsCountAnew holds that an id which the new session has given is the new session's, though a lost call's stream of
// before had the same, and whether its agent was told of that or not.
func TestEventIDsCountAnew(t *testing.T) {
	for name, told := range map[string]bool{"told": true, "not told": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				a := newAgent(t, w, session.HealReads)
				a.begin()
				a.dropped("1", io.EOF)
				w.restart()
				a.list()
				if told {
					wantLost(t, a.get(t.Context(), "1"), "1")
				}
				res := a.get(t.Context(), "")
				id := wantEvent(t, res, w.feed(t, 1), numbered("1"))
				closed(t, res)
				res = a.get(t.Context(), id)
				if got := w.lastGet(t).Get("Last-Event-ID"); res.Status != 200 || got != "1" {
					t.Errorf("got %d, resumed with %q", res.Status, got)
				}
				wantEvent(t, res, w.feed(t, 2), numbered("2"))
				closed(t, res)
			})
		})
	}
}

// TestOpenStreamAndSameID holds that an open stream knows that its last id is of before, though the new session has given
// the same on another stream.
func TestOpenStreamAndSameID(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealReads)
		a.begin()
		res := a.get(t.Context(), "")
		wantEvent(t, res, w.feed(t, 1), numbered("1"))
		w.restart()
		a.list()
		a.restarted()
		a.dropped("1", io.EOF)
		got := next(res)
		w.feed(t, 1).events <- numbered("2")
		if ev, err := (<-got)(); err != nil || serverID(ev) != "2" {
			t.Fatalf("got %+v, %v", ev, err)
		}
		if got := w.lastGet(t).Get("Last-Event-ID"); got != "" {
			t.Errorf("the stream was opened anew with %q", got)
		}
		closed(t, res)
	})
}

// TestReportedIsForgotten holds that a GET that comes long after its agent got the error of the lost call is any GET.
func TestReportedIsForgotten(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealReads)
		a.begin()
		a.dropped("p-1", io.EOF)
		w.restart()
		wantLost(t, a.get(t.Context(), "p-1"), "1")
		wait(2*time.Minute - time.Second)
		if res := a.get(t.Context(), "p-1"); res.Status != 405 {
			t.Errorf("soon: %d", res.Status)
		}
		wait(time.Second)
		res := a.get(t.Context(), "p-1")
		if got := w.lastGet(t).Get("Last-Event-ID"); res.Status != 200 || got != "" {
			t.Errorf("late: %d, and %q went to the server", res.Status, got)
		}
		closed(t, res)
	})
}

// TestManyEventIDs holds that an id of the new session is passed on however many others it gave since, and that one of
// before is not.
func TestManyEventIDs(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealReads)
		a.begin()
		old := a.get(t.Context(), "")
		f := w.feed(t, 1)
		for i := range 300 {
			wantEvent(t, old, f, numbered(fmt.Sprint("o", i)))
		}
		closed(t, old)
		w.restart()
		a.list()
		res := a.get(t.Context(), "")
		f = w.feed(t, 1)
		g1 := wantEvent(t, res, f, numbered("g1"))
		closed(t, res)
		pass := func(id, want string) {
			t.Helper()
			closed(t, a.get(t.Context(), id))
			if got := w.lastGet(t).Get("Last-Event-ID"); got != want {
				t.Errorf("%s went up as %q, want %q", id, got, want)
			}
		}
		pass(g1, "g1")
		pass("o1", "")
		w.framed, w.ids = true, true
		for range 260 {
			a.list()
		}
		pass(g1, "g1")
		pass("o299", "")
		pass("o290", "")
		w.restart()
		a.list()
		pass(g1, "")
		pass("o299", "")
	})
}

// TestAnswersToTheServer holds that an answer to a request of before the healing reaches no request of after it.
func TestAnswersToTheServer(t *testing.T) {
	ask := func(id string) mcp.Event {
		return mcp.Event{Data: []byte(`{"jsonrpc":"2.0","id":` + id + `,"method":"roots/list"}`)}
	}
	bubble(t, func(t *testing.T, w *world) {
		a := newAgent(t, w, session.HealReads)
		a.begin()
		a.wantStatus(202, `{"jsonrpc":"2.0","id":77,"result":{}}`) // in a whole session all pass
		res := a.get(t.Context(), "")
		wantEvent(t, res, w.feed(t, 1), ask("0"))
		wantEvent(t, res, w.feed(t, 1), ask("1"))
		w.restart()
		a.wantStatus(202, `{"jsonrpc":"2.0","id":0,"result":{"of":"before"}}`) // meets the loss
		a.wantStatus(202, `{"jsonrpc":"2.0","id":5,"result":{"of":"unknown"}}`)
		wait(10 * time.Second)
		got := next(res)
		w.feed(t, 1).events <- ask("1")
		if _, err := (<-got)(); err != nil {
			t.Fatal(err)
		}
		wantEvent(t, res, w.feed(t, 1), mcp.Event{Data: []byte(`[{"jsonrpc":"2.0","id":"x","method":"ping"},{"jsonrpc":"2.0","method":"m"}]`)})
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
