package session_test

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	errRefused = &mcp.Failure{Code: 1502, Reason: mcp.ReasonConnect, Sent: mcp.SentNo, Message: "refused"}
	errBroke   = &mcp.Failure{Code: 1502, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes, Message: "broke off"}
)

// server is a scripted upstream: each call takes the next step.
type server struct {
	t     *testing.T
	mu    sync.Mutex
	steps []step
	calls []mcp.Call
	at    []time.Time
}

// step is what the server does with one call: fail, answer with a status, or open a stream of events that ends with end.
type step struct {
	err    error
	status int
	events []mcp.Event
	end    error           // nil: the stream stays open
	hang   bool            // no answer until the call is given up
	until  <-chan struct{} // the stream's end waits for it
}

func (s *server) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	s.mu.Lock()
	s.calls, s.at = append(s.calls, *c), append(s.at, time.Now())
	if len(s.steps) == 0 {
		s.mu.Unlock()
		s.t.Errorf("call %d has no step", len(s.calls))
		return nil, errRefused
	}
	st := s.steps[0]
	if len(s.steps) > 1 || !s.repeats(st) {
		s.steps = s.steps[1:]
	}
	s.mu.Unlock()
	switch {
	case st.hang:
		<-ctx.Done()
		return nil, &mcp.Failure{Reason: mcp.ReasonCanceled, Cause: ctx.Err()}
	case st.err != nil:
		return nil, st.err
	case st.status != 0:
		return &mcp.Result{Status: st.status, Header: header.List{}, Body: []byte("status")}, nil
	}
	return &mcp.Result{Status: 200, Header: header.List{}, Events: &events{ctx: ctx, list: st.events, end: st.end, until: st.until}}, nil
}

// repeats reports whether a step that is the last one serves all further calls: a server that stays down.
func (s *server) repeats(st step) bool { return st.err != nil || st.status >= 500 }

type events struct {
	ctx  context.Context
	list []mcp.Event
	end  error

	until <-chan struct{}
}

func (e *events) Next() (mcp.Event, error) {
	if len(e.list) > 0 {
		ev := e.list[0]
		e.list = e.list[1:]
		return ev, nil
	}
	if e.until != nil {
		<-e.until
	}
	if e.end != nil {
		return mcp.Event{}, e.end
	}
	<-e.ctx.Done()
	return mcp.Event{}, &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentYes, Cause: e.ctx.Err()}
}

func (e *events) Close() error { return nil }

func numbered(id string) mcp.Event {
	return mcp.Event{Raw: []byte("id: " + id + "\ndata: x\n\n"), ID: []byte(id), HasID: true, Data: []byte("x")}
}

// newStage is a stage in front of the server.
func (s *server) newStage(reopen time.Duration) *session.Stage {
	return session.New(session.Options{Upstream: "s", Next: s, Reopen: reopen})
}

// open opens a GET stream, which must be accepted.
func open(t *testing.T, stage *session.Stage, fields ...string) *mcp.Result {
	t.Helper()
	res, err := stage.Call(t.Context(), get(fields...))
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func get(fields ...string) *mcp.Call {
	c := &mcp.Call{Upstream: "s", Lane: mcp.LaneStream, Header: header.List{}}
	for i := 0; i+1 < len(fields); i += 2 {
		c.Header.Set(fields[i], fields[i+1])
	}
	return c
}

// read reads a stream to its end and returns the ids of its events.
func read(t *testing.T, res *mcp.Result) ([]string, error) {
	t.Helper()
	var ids []string
	for {
		ev, err := res.Events.Next()
		if err != nil {
			if cerr := res.Close(); cerr != nil {
				t.Error(cerr)
			}
			return ids, err
		}
		ids = append(ids, string(ev.ID))
	}
}

func TestReopen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{t: t, steps: []step{
			{events: []mcp.Event{numbered("1"), numbered("2")}, end: errBroke},
			{err: errRefused}, {status: 503},
			{events: []mcp.Event{{Raw: []byte("data: no id\n\n"), Data: []byte("no id")}}, end: errBroke},
			{events: []mcp.Event{numbered("3")}, end: io.EOF},
		}}
		res := open(t, s.newStage(2*time.Minute), "Mcp-Session-Id", "a")
		ids, err := read(t, res)
		if !errors.Is(err, io.EOF) || len(ids) != 4 || ids[3] != "3" {
			t.Errorf("got %v and %v, want events 1 2 - 3 and a clean end", ids, err)
		}
		for i, want := range []string{"", "2", "2", "2", "2"} {
			if got := s.calls[i].Header.Get("Last-Event-ID"); got != want {
				t.Errorf("call %d has Last-Event-ID %q, want %q", i, got, want)
			}
		}
		for i := 1; i < len(s.at); i++ {
			if gap := s.at[i].Sub(s.at[i-1]); gap < 250*time.Millisecond || gap > 10*time.Second {
				t.Errorf("try %d came after %v", i, gap)
			}
		}
	})
}

// TestReopenGivesUp holds the bound: a clean end once `streams.reopen` is over, also where the server accepts the stream
// and breaks it again each time, or takes the request and says nothing.
func TestReopenGivesUp(t *testing.T) {
	for name, steps := range map[string][]step{
		"refused": {{err: errRefused}},
		"503":     {{status: 503}},
		"hung":    {{hang: true}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{t: t, steps: append([]step{{events: []mcp.Event{numbered("1")}, end: errBroke}}, steps...)}
				if name == "hung" {
					s.steps = append(s.steps, step{err: errRefused})
				}
				start := time.Now()
				res := open(t, s.newStage(time.Minute), "Mcp-Session-Id", "a")
				_, err := read(t, res)
				if took := time.Since(start); !errors.Is(err, io.EOF) || took < 45*time.Second || took > 61*time.Second {
					t.Errorf("ended with %v after %v, want a clean end after about a minute", err, took)
				}
			})
		})
	}
	t.Run("flapping", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := &server{t: t}
			for range 200 {
				s.steps = append(s.steps, step{end: errBroke})
			}
			res := open(t, s.newStage(time.Minute))
			if _, err := read(t, res); !errors.Is(err, io.EOF) || len(s.calls) > 20 {
				t.Errorf("%v after %d tries", err, len(s.calls))
			}
		})
	})
}

// TestFirstGET holds what a GET that opens no stream gets. A session that the stage did not see begin is one from before
// the daemon's restart: it may have had a stream, and waits for a server that cannot be reached, but not for one that answers.
func TestFirstGET(t *testing.T) {
	waits := []string{"Mcp-Session-Id", "a", "Last-Event-ID", "7"}
	for _, c := range []struct {
		name   string
		header []string
		step   step
		status int // 0: the failure; 200: a stream that waits
	}{
		{"refused, no session", nil, step{err: errRefused}, 0},
		{"refused, a session from before", []string{"Mcp-Session-Id", "a"}, step{err: errRefused}, 200},
		{"broken off, a session from before", []string{"Mcp-Session-Id", "a"}, step{err: errBroke}, 200},
		{"503, a session from before", []string{"Mcp-Session-Id", "a"}, step{status: 503}, 503},
		{"404, a session from before", []string{"Mcp-Session-Id", "a"}, step{status: 404}, 404},
		{"405", nil, step{status: 405}, 405},
		{"503", nil, step{status: 503}, 503},
		{"resumed, refused", waits, step{err: errRefused}, 200},
		{"resumed, 503", waits, step{status: 503}, 200},
		{"resumed, 404", waits, step{status: 404}, 404},
		{"resumed, too many", waits, step{err: &mcp.Failure{Code: 1429, Reason: mcp.ReasonTooManyStreams}}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &server{t: t, steps: []step{c.step, {events: []mcp.Event{numbered("8")}, end: io.EOF}}}
				res, err := s.newStage(time.Minute).Call(t.Context(), get(c.header...))
				switch {
				case c.status == 0:
					if !errors.Is(err, c.step.err) {
						t.Errorf("got %v, %v", res, err)
					}
				case err != nil || res.Status != c.status:
					t.Errorf("got %v, %v, want %d", res, err, c.status)
				case c.status == 200:
					ids, err := read(t, res)
					if resumed := s.calls[1].Header.Get("Last-Event-ID"); len(ids) != 1 || !errors.Is(err, io.EOF) || resumed != get(c.header...).Header.Get("Last-Event-ID") {
						t.Errorf("got %v, %v after a GET that resumed %q", ids, err, resumed)
					}
				}
			})
		})
	}
}

// TestKnownSession holds that a session whose stream was accepted once may wait for its server, at a 5xx too until it has
// ended: then it is as one that the stage never knew.
func TestKnownSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{t: t, steps: []step{
			{end: io.EOF}, {err: errRefused}, {end: io.EOF}, {status: 503}, {end: io.EOF}, {status: 204}, {status: 503},
		}}
		stage := s.newStage(time.Minute)
		for range 3 {
			res := open(t, stage, "Mcp-Session-Id", "a")
			if _, err := read(t, res); !errors.Is(err, io.EOF) {
				t.Error(err)
			}
		}
		end := get("Mcp-Session-Id", "a")
		end.Lane = mcp.LaneEnd
		if res, err := stage.Call(t.Context(), end); err != nil || res.Status != 204 {
			t.Errorf("%v %v", res, err)
		}
		if res, err := stage.Call(t.Context(), get("Mcp-Session-Id", "a")); err != nil || res.Status != 503 {
			t.Errorf("a GET after the session's end: %v, %v", res, err)
		}
	})
}

// TestAgentLeaves holds that a stream that waits for its server ends with its agent, and says why at the drain.
func TestAgentLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{t: t, steps: []step{{err: errRefused}}}
		drain := &mcp.Failure{Code: 1503, Reason: mcp.ReasonDraining}
		for _, cause := range []error{nil, drain} {
			ctx, cancel := context.WithCancelCause(t.Context())
			res, err := s.newStage(time.Hour).Call(ctx, get("Last-Event-ID", "1"))
			if err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(3*time.Second, func() { cancel(cause) })
			start := time.Now()
			_, err = read(t, res)
			var f *mcp.Failure
			if !errors.As(err, &f) || time.Since(start) != 3*time.Second {
				t.Fatalf("got %v after %v", err, time.Since(start))
			}
			if want := map[bool]mcp.Reason{true: mcp.ReasonCanceled, false: mcp.ReasonDraining}[cause == nil]; f.Reason != want {
				t.Errorf("reason %s, want %s", f.Reason, want)
			}
		}
	})
}

// TestRetryField holds that the server's own `retry` paces the re-opening.
func TestRetryField(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ev := numbered("1")
		ev.Retry = []byte(strconv.Itoa(4000))
		s := &server{t: t, steps: []step{{events: []mcp.Event{ev}, end: errBroke}, {end: io.EOF}}}
		res := open(t, s.newStage(time.Minute))
		if _, err := read(t, res); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
		if gap := s.at[1].Sub(s.at[0]); gap < 4*time.Second || gap > 4400*time.Millisecond {
			t.Errorf("re-opened after %v", gap)
		}
	})
}

// TestSecondBreak holds that each break has a term of its own, also where the stream was quiet in between.
func TestSecondBreak(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quiet := make(chan struct{})
		s := &server{t: t, steps: []step{{end: errBroke}, {until: quiet, end: errBroke}, {end: io.EOF}}}
		res := open(t, s.newStage(time.Minute))
		time.AfterFunc(time.Hour, func() { close(quiet) })
		if _, err := read(t, res); !errors.Is(err, io.EOF) || len(s.calls) != 3 {
			t.Errorf("%v after %d calls, want a third", err, len(s.calls))
		}
	})
}

// TestNoReopening holds that `streams.reopen: 0` passes on what the server says.
func TestNoReopening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &server{t: t, steps: []step{{err: errRefused}}}
		if _, err := s.newStage(0).Call(t.Context(), get("Last-Event-ID", "1")); !errors.Is(err, errRefused) {
			t.Error(err)
		}
	})
}
