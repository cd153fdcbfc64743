package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session"
)

// TestEventTags holds how the ids of events pass: as they come in a session that was never lost; in one that was recovered,
// with a tag before each, whatever ends its lines and in however many pieces it comes, and all other bytes as they come.
func TestEventTags(t *testing.T) {
	for name, c := range map[string]struct {
		pieces []string
		want   string // TAG stands for the tag
	}{
		"first":         {[]string{"id: 7\ndata: x\n\n"}, "id: TAG7\ndata: x\n\n"},
		"last":          {[]string{"event: message\ndata: id: 8\nid: 7\n\n"}, "event: message\ndata: id: 8\nid: TAG7\n\n"},
		"without space": {[]string{"id:7\r\ndata: x\r\n\r\n"}, "id: TAG7\r\ndata: x\r\n\r\n"},
		"by CR":         {[]string{"data: x\rid:7\r\r"}, "data: x\rid: TAG7\r\r"},
		"empty":         {[]string{"id:\ndata: x\n\n"}, "id:\ndata: x\n\n"},
		"nothing":       {[]string{"id\ndata: x\n\n"}, "id\ndata: x\n\n"},
		"twice":         {[]string{"id: 6\nid: 7\ndata: x\n\n"}, "id: TAG6\nid: TAG7\ndata: x\n\n"},
		"pieces":        {[]string{"id: 7\ndata: x", "id: 8\nid", "x\n", "id: 9\n\n"}, "id: TAG7\ndata: xid: 8\nidx\nid: TAG9\n\n"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, recovered := range []bool{false, true} {
				raw, ids := passes(t, c.pieces, recovered)
				got := tag.FindString(ids)
				if recovered != (got != "") && strings.Contains(c.want, "TAG") {
					t.Errorf("recovered %v: the id is %q", recovered, ids)
				}
				if want := strings.ReplaceAll(c.want, "TAG", got); recovered && raw != want {
					t.Errorf("got %q, want %q", raw, want)
				}
				if !recovered && raw != strings.Join(c.pieces, "") {
					t.Errorf("of a session that was never lost got %q", raw)
				}
			}
		})
	}
}

// passes makes the server answer tools/list with an event, in pieces if there are several, and returns what the agent gets: all
// bytes, and the id.
func passes(t *testing.T, pieces []string, recovered bool) (raw, id string) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		if recovered {
			w.restart()
			a.list()
		}
		w.before = func(*mcp.Call) (*mcp.Result, error) {
			return &mcp.Result{Status: 200, Header: header.List{}, Events: &events{list: asEvents(t, pieces), end: io.EOF}}, nil
		}
		res, err := a.post(context.Background(), a.request("tools/list", `{}`))
		must(err)
		raw, id = "", ""
		for {
			ev, err := res.Events.Next()
			if err == io.EOF {
				break
			}
			must(err)
			raw += string(ev.Raw)
			id = string(ev.ID)
		}
		closed(t, res)
	})
	return raw, id
}

// asEvents are the pieces of one event as the upstream hands them on.
func asEvents(t *testing.T, pieces []string) []mcp.Event {
	if len(pieces) == 1 {
		ev, err := mcp.NewEventReader(strings.NewReader(pieces[0]), nil, 1<<10).Next()
		if err != nil {
			t.Fatal(err)
		}
		ev.Raw = []byte(pieces[0])
		return []mcp.Event{ev}
	}
	var all []mcp.Event
	for i, p := range pieces {
		last := i == len(pieces)-1
		ev := mcp.Event{Raw: []byte(p), Partial: !last, Last: last}
		if last {
			ev.ID, ev.HasID = []byte("9"), true
		}
		all = append(all, ev)
	}
	return all
}

// dropAfterID makes the next tools/call answer with one event that has an id, and then an end.
func (w *fakeServer) dropAfterID(id string, end error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.before = func(c *mcp.Call) (*mcp.Result, error) {
		if c.Method() != mcp.MethodToolsCall {
			return nil, nil
		}
		w.before = nil
		prime := mcp.Event{Raw: []byte("id: " + id + "\ndata:\n\n"), ID: []byte(id), HasID: true}
		return &mcp.Result{Status: 200, Header: header.List{}, Events: &events{list: []mcp.Event{prime}, end: end}}, nil
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
			inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
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

// TestLostCallIsReportedOnce holds that of two GETs which resume the same lost call one gets its error.
func TestLostCallIsReportedOnce(t *testing.T) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		a.dropped("p-1", io.EOF)
		w.restart()
		first := a.get(t.Context(), "p-1")
		if res := a.get(t.Context(), "p-1"); res.Status != 405 {
			t.Errorf("the second got %d", res.Status)
		}
		wantLost(t, first, "1")
	})
}

// TestResumed holds that a stream that is resumed in a whole session passes as it is, that one whose server dies then
// tells of the lost call, and that an answered one is none.
func TestResumed(t *testing.T) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		a.dropped("p-1", io.EOF)
		res := a.get(t.Context(), "p-1")
		if got := w.lastGet(t).Get("Last-Event-ID"); got != "p-1" {
			t.Errorf("resumed with %q", got)
		}
		f := w.stream(t, 1)
		wantEvent(t, res, f, numbered("p-5"))
		w.restart()
		wantLost(t, res, "1")
		if res := a.get(t.Context(), "p-5"); res.Status != 405 {
			t.Errorf("a further GET got %d", res.Status)
		}
	})
	inSession(t, session.HealAll, func(t *testing.T, w *fakeServer, a *agent) {
		a.dropped("p-1", io.EOF)
		res := a.get(t.Context(), "p-1")
		wantEvent(t, res, w.stream(t, 1), mcp.Event{ID: []byte("p-9"), HasID: true, Data: []byte(`{"jsonrpc":"2.0","id":1,"result":{}}`)})
		closed(t, res)
		w.restart()
		res = a.get(t.Context(), "p-9")
		if got := w.lastGet(t); got.Get("Last-Event-ID") != "" || got.Get("Mcp-Session-Id") != "s2" {
			t.Errorf("the GET went with %v", got)
		}
		// In the new session ids are passed on.
		id := wantEvent(t, res, w.stream(t, 1), numbered("n-1"))
		closed(t, res)
		res = a.get(t.Context(), id)
		if got := w.lastGet(t).Get("Last-Event-ID"); got != "n-1" {
			t.Errorf("resumed with %q", got)
		}
		closed(t, res)
	})
}

// TestReportedIsForgotten holds that a GET that comes long after its agent got the error of the lost call is any GET.
func TestReportedIsForgotten(t *testing.T) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
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

// TestEventIDsCountAnew holds that an id which the new session has given is the new session's, though a lost call's stream of
// before had the same, and whether its agent was told of that or not.
func TestEventIDsCountAnew(t *testing.T) {
	for name, told := range map[string]bool{"told": true, "not told": false} {
		t.Run(name, func(t *testing.T) {
			inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
				a.dropped("1", io.EOF)
				w.restart()
				a.list()
				if told {
					wantLost(t, a.get(t.Context(), "1"), "1")
				}
				res := a.get(t.Context(), "")
				id := wantEvent(t, res, w.stream(t, 1), numbered("1"))
				closed(t, res)
				res = a.get(t.Context(), id)
				if got := w.lastGet(t).Get("Last-Event-ID"); res.Status != 200 || got != "1" {
					t.Errorf("got %d, resumed with %q", res.Status, got)
				}
				wantEvent(t, res, w.stream(t, 2), numbered("2"))
				closed(t, res)
			})
		})
	}
}

// TestOpenStreamAndSameID holds that an open stream knows that its last id is of before, though the new session has given
// the same on another stream.
func TestOpenStreamAndSameID(t *testing.T) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		res := a.get(t.Context(), "")
		wantEvent(t, res, w.stream(t, 1), numbered("1"))
		w.restart()
		a.list()
		a.restarted()
		a.dropped("1", io.EOF)
		got := next(res)
		w.stream(t, 1).events <- numbered("2")
		if ev, err := (<-got)(); err != nil || serverID(ev) != "2" {
			t.Fatalf("got %+v, %v", ev, err)
		}
		if got := w.lastGet(t).Get("Last-Event-ID"); got != "" {
			t.Errorf("the stream was opened anew with %q", got)
		}
		closed(t, res)
	})
}

// TestManyEventIDs holds that an id of the new session is passed on however many others it gave since, and that one of
// before is not.
func TestManyEventIDs(t *testing.T) {
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		old := a.get(t.Context(), "")
		f := w.stream(t, 1)
		for i := range 300 {
			wantEvent(t, old, f, numbered(fmt.Sprint("o", i)))
		}
		closed(t, old)
		w.restart()
		a.list()
		res := a.get(t.Context(), "")
		f = w.stream(t, 1)
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
