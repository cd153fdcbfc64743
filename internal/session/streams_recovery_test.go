package session_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/http1/header"
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

// stream returns the GET stream that the server has open, the last of all, once there are n.
func (w *fakeServer) stream(t *testing.T, n int) *serverStream {
	t.Helper()
	for range 100 {
		synctest.Wait()
		w.mu.Lock()
		var last *serverStream
		all := 0
		for _, l := range w.sessions {
			if all += len(l.streams); len(l.streams) > 0 {
				last = l.streams[len(l.streams)-1]
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
func (w *fakeServer) lastGet(t *testing.T) header.List {
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
func wantEvent(t *testing.T, res *mcp.Result, f *serverStream, ev mcp.Event) string {
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
		lose  func(*fakeServer)
		lists bool
	}{
		"by itself":          {(*fakeServer).restart, false},
		"by a list":          {(*fakeServer).restart, true},
		"stands on":          {(*fakeServer).forget, true},
		"the server is away": {func(w *fakeServer) { w.restart(); w.away(5 * time.Second) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
				a.works("resources/subscribe", `{"uri":"test://1"}`)
				res := a.get(t.Context(), "")
				wantEvent(t, res, w.stream(t, 1), numbered("7"))
				c.lose(w)
				if c.lists {
					a.list()
				}
				got := next(res)
				f := w.stream(t, 1)
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
				w.stream(t, 2).events <- numbered("2")
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
func (w *fakeServer) away(d time.Duration) {
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
			inSession(t, heal, func(t *testing.T, w *fakeServer, a *agent) {
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
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		w.restart()
		res := a.get(t.Context(), "")
		wantEvent(t, res, w.stream(t, 1), numbered("1"))
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
	inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
		w.away(5 * time.Second)
		res, err := a.stage.Call(t.Context(), a.call(mcp.LaneStream, ""))
		var f *mcp.Failure
		if !errors.As(err, &f) || f.Reason != mcp.ReasonBreakerOpen {
			t.Errorf("got %v, %v", res, err)
		}
	})
}

// TestFromBeforeAndMintedAgain holds that a GET of a session from before the daemon, which waits for its server, is not opened
// again when the server gives its id to a new session, or when its agent ends the session; and that the log says what it waits
// for.
func TestFromBeforeAndMintedAgain(t *testing.T) {
	for name, heal := range map[string]session.Heal{"reads": session.HealReads, "off": session.HealOff} {
		for what, end := range map[string]func(a *agent){
			"minted again": func(a *agent) { a.second() },
			"ended": func(a *agent) {
				if _, err := a.stage.Call(a.t.Context(), a.call(mcp.LaneEnd, "")); err != nil {
					a.t.Error(err)
				}
			},
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				bubble(t, func(t *testing.T, w *fakeServer) {
					a := newAgent(t, w, heal)
					a.id = "s1"
					w.away(time.Second)
					res := a.get(t.Context(), "")
					if said := a.log.String(); !strings.Contains(said, "waiting for the server") || !strings.Contains(said, "breaker_open") {
						t.Errorf("the log says %s", said)
					}
					wait(100 * time.Millisecond)
					w.mu.Lock()
					w.before, w.calls = nil, nil
					w.mu.Unlock()
					end(a)
					if _, err := (<-next(res))(); err != io.EOF {
						t.Errorf("ended with %v", err)
					}
					if n := w.count(mcp.LaneStream, mcp.MethodNone); n != 0 {
						t.Errorf("%d GETs came", n)
					}
					closed(t, res)
				})
			})
		}
	}
}

// TestRefusedGETsAreForgotten holds that a GET of a session that nobody knows takes a place in the table only while it is under
// way, or its stream was accepted: or GETs with made-up ids would drive the others out.
func TestRefusedGETsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newFakeServer()
		a := newAgent(t, w, session.HealReads)
		a.begin()
		known := a.id
		for i := range 3 {
			a.id = fmt.Sprint("never seen ", i)
			closed(t, a.get(t.Context(), ""))
		}
		w.away(time.Hour)
		waits := a.get(t.Context(), "")
		if got := a.stage.Status().Sessions; got != 2 {
			t.Errorf("%d sessions are known while a GET waits, want 2", got)
		}
		closed(t, waits)
		if got := a.stage.Status().Sessions; got != 1 {
			t.Errorf("%d sessions are known in the end, want 1", got)
		}
		w.before = nil
		a.id = known
		a.list()
	})
}

// TestGETDuringHealing holds that a GET which meets a healing waits for it: whether it comes while it is going on, or was on
// its way to where the session lived before.
func TestGETDuringHealing(t *testing.T) {
	for name, early := range map[string]bool{"comes": false, "on its way": true} {
		t.Run(name, func(t *testing.T) {
			inSession(t, session.HealReads, func(t *testing.T, w *fakeServer, a *agent) {
				w.restart()
				w.slow = 10 * time.Second
				w.hang(early) // the old place does not answer a GET
				got := make(chan *mcp.Result, 1)
				get := func() { got <- a.get(t.Context(), "") }
				if early {
					go get()
					synctest.Wait()
					w.hang(false)
				}
				go func() { a.list() }()
				synctest.Wait()
				if !early {
					go get()
				}
				res := <-got
				if res.Status != 200 || res.Events == nil {
					t.Fatalf("got %d %s", res.Status, res.Body)
				}
				gets := w.count(mcp.LaneStream, mcp.MethodNone)
				if want := map[bool]int{true: 2, false: 1}[early]; gets != want || w.lastGet(t).Get("Mcp-Session-Id") != "s2" {
					t.Errorf("%d GETs came, the last with %v", gets, w.lastGet(t))
				}
				wantEvent(t, res, w.stream(t, 1), numbered("1"))
				closed(t, res)
				a.wantHeals(healed{"healed": 1})
			})
		})
	}
}

// hang makes the server answer no GET, or answer again those that come.
func (w *fakeServer) hang(on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hangs = on
}

// TestMintedAgain holds that the GET stream of an agent ends, and is not opened again, when a server that counts its ids gives
// that of its session to another: whether the stream stands, waits for its next try or is on its way, and whatever is healed.
func TestMintedAgain(t *testing.T) {
	for name, heal := range map[string]session.Heal{"reads": session.HealReads, "off": session.HealOff} {
		for state, lose := range map[string]func(w *fakeServer){
			"stands":  func(w *fakeServer) { w.forget() },
			"waits":   func(w *fakeServer) { w.restart() },
			"tries":   func(w *fakeServer) { w.restart(); w.hang(true) },
			"is away": func(w *fakeServer) { w.restart(); w.away(100 * time.Millisecond) },
		} {
			t.Run(name+", "+state, func(t *testing.T) {
				inSession(t, heal, func(t *testing.T, w *fakeServer, a *agent) {
					res := a.get(t.Context(), "")
					got := next(res)
					w.stream(t, 1)
					lose(w)
					if synctest.Wait(); state == "tries" {
						wait(2 * time.Second)
					}
					w.mu.Lock()
					w.minted, w.before, w.hangs = 0, nil, false
					n := len(w.calls)
					w.mu.Unlock()
					b := a.second()
					if b.id != a.id {
						t.Fatalf("the server gave %s and %s", a.id, b.id)
					}
					if ev, err := (<-got)(); err != io.EOF {
						t.Errorf("the stream gave %+v, %v", ev, err)
					}
					closed(t, res)
					wait(time.Minute)
					w.mu.Lock()
					defer w.mu.Unlock()
					for _, c := range w.calls[n:] {
						if c.Lane == mcp.LaneStream {
							t.Errorf("a GET with the first agent's %v came", c.Header)
						}
					}
				})
			})
		}
	}
}
