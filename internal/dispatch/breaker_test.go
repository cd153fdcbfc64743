package dispatch_test

import (
	"context"
	"io"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/admission"
	"fluentd-perf/internal/breaker"
	"fluentd-perf/internal/mcp"
)

// TestCounts says of each outcome what the breaker hears. Each call stands between two failures where it takes two in a
// row to open: it stays closed after a success, opens with the second after what is ignored, and before it after a failure.
func TestCounts(t *testing.T) {
	const (
		success = "success"
		nothing = "nothing"
		failure = "failure"
	)
	resumable := streams(priming, progress, ends(&cutOff))
	endless := func(p ...piece) play { return streams(append(p, response.after(time.Hour))...) }
	cases := []struct {
		name string
		play play
		want string
	}{
		{"a good answer", answers, success},
		{"a JSON-RPC error, a tool's error", says(200), success},
		{"a good stream", streams(progress, response), success},
		{"a good stream with event ids", streams(priming, response), success},
		{"bytes", raws(200, io.EOF), success},
		{"302", says(302), success},
		{"404", says(404), success},
		{"429", says(429), success},
		{"bad answer", fails(rubbish), success},
		{"redirect", fails(mcp.Failure{Code: 1502, Reason: mcp.ReasonRedirect, Sent: mcp.SentYes}), success},
		{"500", says(500), failure},
		{"503", says(503), failure},
		{"599 in bytes", raws(599, io.EOF), failure},
		{"refused", fails(refused), failure},
		{"not reached", fails(unreachable), failure},
		{"no port left here", fails(noPort), nothing},
		{"connect timeout", fails(noDial), failure},
		{"connect timeout while others were answered", fails(mcp.Failure{Code: 1504, Reason: mcp.ReasonConnectTimeout, Sent: mcp.SentNo}), nothing},
		{"broke off", fails(brokeOff), failure},
		{"a silent timeout", fails(timeoutOf(true)), failure},
		{"a timeout while others were answered", fails(timeoutOf(false)), nothing},
		{"a stream that broke off", streams(progress, ends(&cutOff)), failure},
		{"a stream that ended without an answer", streams(progress), failure},
		{"a stream that broke off and can be resumed", resumable, nothing},
		{"a stream that ended and can be resumed", streams(priming), nothing},
		{"a stream in which a silent timeout", streams(progress, ends(silent())), failure},
		{"bytes that broke off", raws(200, &cutOff), failure},
		{"a stream that broke off after its answer", streams(response, ends(&cutOff)), success},
		{"an agent that left", fails(leaves), nothing},
		{"an agent that gave up after 10 s of silence", fails(givesUp(10*time.Second, true)), failure},
		{"an agent that left after less", fails(givesUp(10*time.Second-1, true)), nothing},
		{"an agent that gave up while others were answered", fails(givesUp(time.Minute, false)), nothing},
		{"an agent that leaves a stream", endless(progress), nothing},
		{"no connection free", fails(poolWait), nothing},
		{"draining", fails(*mcp.Draining()), nothing},
		{"the array's deadline", fails(mcp.Failure{Code: 1504, Reason: mcp.ReasonRPCTimeout, Sent: mcp.SentUnknown}), nothing},
		{"slow", after(2*time.Second, answers), failure},
		{"a slow stream", streams(progress, response.after(2*time.Second)), failure},
		{"a slow refusal", after(2*time.Second, says(404)), failure},
		{"a slow timeout while others were answered", after(2*time.Second, fails(timeoutOf(false))), failure},
		{"an agent that left after long", after(2*time.Second, fails(leaves)), nothing},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newServer(says(500), c.play, says(500))
				o := setup{inARow: 2}
				o.SlowCall = time.Second
				o.Retry.Budget = 1
				s := newStage(t, o, server)
				var states [3]string
				for i := range states {
					ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
					s.do(ctx, post(callBody))
					cancel()
					states[i] = s.breakers[0].State()
				}
				got := failure
				switch {
				case states[1] == breaker.Closed && states[2] == breaker.Open:
					got = nothing
				case states[2] == breaker.Closed:
					got = success
				}
				if got != c.want {
					t.Errorf("it counts as %s, want %s", got, c.want)
				}
				s.idle()
			})
		})
	}
}

func silent() *mcp.Failure {
	f := timeoutOf(true)
	return &f
}

// down opens the breaker of a stage's only endpoint.
func (s *stage) down() {
	s.tb.Helper()
	for range 4 {
		if s.breakers[0].State() == breaker.Open {
			return
		}
		s.do(s.tb.Context(), post(callBody))
	}
	s.tb.Fatal("the breaker did not open")
}

// TestSlowServerIsUsedAgain: after an outage a server is used again though none of its calls is over within a probe's time.
func TestSlowServerIsUsedAgain(t *testing.T) {
	for _, takes := range []time.Duration{9 * time.Second, 12 * time.Second, 40 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			server := newServer(fails(refused))
			s := newStage(t, setup{}, server)
			s.down()
			server.set(after(takes, answers))
			pass(time.Second)
			var calls sync.WaitGroup
			for ends := time.Now().Add(takes); time.Now().Before(ends); pass(time.Second) {
				calls.Go(func() { s.do(t.Context(), post(callBody)) })
			}
			synctest.Wait()
			if state := s.breakers[0].State(); state != breaker.Closed {
				t.Errorf("calls of %v: after the first good answer the breaker is %s", takes, state)
			}
			calls.Wait()
			s.idle()
		})
	}
}

// TestOpenBreaker: a dead server costs its callers nothing, though all slots are taken by calls that hang.
func TestOpenBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newServer(hangs, hangs, fails(refused))
		o := setup{gate: admission.Options{MaxInFlight: 3, Queue: 10, QueueWait: time.Second}}
		s := newStage(t, o, server)
		ctx, cancel := context.WithCancel(t.Context())
		for range 2 {
			go s.do(ctx, post(callBody))
		}
		synctest.Wait()
		s.down()
		<-time.After(1100 * time.Millisecond)
		server.mu.Lock()
		server.plays = []play{hangs}
		server.mu.Unlock()
		go s.do(ctx, post(callBody)) // the probe, and the last slot
		synctest.Wait()
		begun := time.Now()
		for range 100 {
			_, f := s.do(t.Context(), post(listBody))
			if f == nil || f.Code != 1503 || f.Reason != mcp.ReasonBreakerOpen || f.Sent != mcp.SentNo || f.RetryAfter < 100*time.Millisecond {
				t.Fatalf("got %+v", f)
			}
		}
		if d := time.Since(begun); d != 0 {
			t.Errorf("it took %v", d)
		}
		if st := s.Status(); st.InFlight != 3 || st.Queued != 0 || st.LastError == nil || st.LastError.Reason != "connect" {
			t.Errorf("the status is %+v", st)
		}
		cancel()
		synctest.Wait()
		s.idle()
	})
}

// TestProbeThatWaits: a call that is to try the server waits for its slot, nobody else does, and one that gets none gives its
// place to the next.
func TestProbeThatWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newServer(hangs)
		o := setup{gate: admission.Options{MaxInFlight: 1, Queue: 10, QueueWait: time.Second}}
		s := newStage(t, o, server)
		ctx, cancel := context.WithCancel(t.Context())
		go s.do(ctx, post(callBody))
		synctest.Wait()
		fall(s.breakers[0])
		server.set(answers)
		<-time.After(1100 * time.Millisecond)
		if _, f := s.do(t.Context(), post(listBody)); f == nil || f.Reason != mcp.ReasonQueueWait {
			t.Fatalf("the probe got %v", f)
		}
		time.AfterFunc(500*time.Millisecond, cancel)
		if status, f := s.do(t.Context(), post(listBody)); status != 200 {
			t.Errorf("the next probe got %v", f)
		}
		if s.breakers[0].State() != breaker.Closed {
			t.Error("it is not closed")
		}
		s.idle()
	})
}

// TestPassesOpenBreaker: what the server's calls may wait for goes to a server whose circuit is open, and streams always do.
func TestPassesOpenBreaker(t *testing.T) {
	cases := []struct {
		call   *mcp.Call
		passes bool
	}{
		{of(mcp.LaneResponse, responseBody), true},
		{of(mcp.LaneNotification, cancelledBody), true},
		{of(mcp.LaneMessage, responseBody), true},
		{of(mcp.LaneMessage, cancelledBody), true},
		{of(mcp.LaneStream, ""), true},
		{of(mcp.LaneListen, listBody), true},
		{of(mcp.LaneFetch, ""), true},
		{of(mcp.LaneNotification, progressBody), false},
		{of(mcp.LaneMessage, listBody), false},
		{of(mcp.LaneBatch, "["+listBody+"]"), false},
		{of(mcp.LaneEnd, ""), false},
		{post(listBody), false},
	}
	for i, c := range cases {
		synctest.Test(t, func(t *testing.T) {
			server := newServer(fails(refused))
			s := newStage(t, setup{}, server)
			s.down()
			server.set(answers)
			if status, f := s.do(t.Context(), c.call); (status == 200) != c.passes {
				t.Errorf("%d, lane %d: got %d, %v", i, c.call.Lane, status, f)
			}
			s.idle()
		})
	}
}

// TestStreamsCountNothing: GET and listen streams that fail open nothing and take no slot; one that is accepted makes the
// next probe due.
func TestStreamsCountNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newServer(fails(refused))
		s := newStage(t, setup{gate: admission.Options{MaxInFlight: 1}}, server)
		for range 10 {
			s.do(t.Context(), of(mcp.LaneStream, ""))
			s.do(t.Context(), of(mcp.LaneListen, listBody))
			s.do(t.Context(), of(mcp.LaneFetch, ""))
		}
		if s.breakers[0].State() != breaker.Closed {
			t.Fatal("streams opened the breaker")
		}
		for range 6 { // probes fail: 1, 2, 4, 8, 16, 30 s
			s.do(t.Context(), post(callBody))
			<-time.After(s.breakers[0].RetryAfter(false))
		}
		s.do(t.Context(), post(callBody))
		if d := s.breakers[0].RetryAfter(false); d < 20*time.Second {
			t.Fatalf("it backs off %v", d)
		}
		<-time.After(2 * time.Second)
		server.plays = []play{streams(comment.after(time.Hour))}
		ctx, cancel := context.WithCancel(t.Context())
		go s.do(ctx, of(mcp.LaneStream, ""))
		synctest.Wait()
		if st := s.Status(); st.InFlight != 0 {
			t.Errorf("a stream holds %d slots", st.InFlight)
		}
		server.mu.Lock()
		server.plays = []play{answers}
		server.mu.Unlock()
		if status, f := s.do(t.Context(), post(listBody)); status != 200 {
			t.Errorf("after a stream was accepted a call got %v", f)
		}
		cancel()
		synctest.Wait()
		s.idle()
	})
}

// TestProbeIsAStream: a probe that is answered by a stream has succeeded with its head.
func TestProbeIsAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newServer(fails(refused))
		s := newStage(t, setup{}, server)
		s.down()
		server.set(streams(response.after(time.Minute)))
		<-time.After(1100 * time.Millisecond)
		done := make(chan int)
		go func() {
			status, _ := s.do(t.Context(), post(listBody))
			done <- status
		}()
		synctest.Wait()
		if s.breakers[0].State() != breaker.Closed {
			t.Error("it is not closed")
		}
		server.set(answers)
		if status, _ := s.do(t.Context(), post(callBody)); status != 200 {
			t.Error("the next call was refused")
		}
		if status := <-done; status != 200 {
			t.Errorf("the probe got %d", status)
		}
		s.idle()
	})
}

// TestHolds: when a call lets its slot and its endpoint go.
func TestHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newServer(streams(progress, response, progress.after(time.Hour)))
		s := newStage(t, setup{gate: admission.Options{MaxInFlight: 1}}, server)
		holds := func(want int, when string) {
			t.Helper()
			if st := s.Status(); st.InFlight != want || st.Endpoints[0].InFlight != want {
				t.Errorf("%s: %+v", when, st)
			}
		}
		begin := func(body string, p play) *mcp.Result {
			t.Helper()
			server.plays = []play{p}
			res, err := s.Call(t.Context(), post(body))
			if err != nil {
				t.Fatal(err)
			}
			return res
		}
		res := begin(callBody, streams(progress, response, progress))
		holds(1, "at the head of a stream")
		_, _ = res.Events.Next()
		holds(1, "at an event")
		_, _ = res.Events.Next()
		holds(0, "at the answer")
		_ = res.Close()
		holds(0, "twice")

		res = begin(listBody, streams(response))
		holds(0, "at an answer that was waited for")
		if ev, err := res.Events.Next(); err != nil || !ev.Answer {
			t.Errorf("got %v, %v", ev, err)
		}
		if _, err := res.Events.Next(); err != io.EOF {
			t.Errorf("got %v", err)
		}
		_ = res.Close()

		res = begin(callBody, streams(progress, response))
		_ = res.Close()
		holds(0, "at Close")

		res = begin(callBody, raws(200, io.EOF))
		holds(1, "while bytes come")
		_, _ = io.Copy(io.Discard, res.Raw)
		holds(0, "at the end of bytes")
		_ = res.Close()

		res = begin(callBody, answers)
		holds(0, "with a whole answer")
		_ = res.Close()
		s.idle()
	})
}

// TestSilentStreamIsHandedOn: a stream that says nothing but comments is handed on in the end, and not sent again after that.
func TestSilentStreamIsHandedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quiet := []piece{}
		for range 5 {
			quiet = append(quiet, comment.after(3*time.Second))
		}
		server := newServer(streams(append(quiet, ends(&cutOff))...))
		s := newStage(t, setup{}, server)
		begun := time.Now()
		res, err := s.Call(t.Context(), post(listBody))
		if err != nil || time.Since(begun) != 6*time.Second {
			t.Fatalf("got %v after %v", err, time.Since(begun))
		}
		ev, err := res.Events.Next()
		if err != nil || string(ev.Raw) != ": hi\n\n: hi\n\n" {
			t.Errorf("got %q, %v", ev.Raw, err)
		}
		if f := read(t, res); f == nil || f.Reason != mcp.ReasonBrokeOff {
			t.Errorf("got %v", f)
		}
		_ = res.Close()
		if n, _ := server.sent(); n != 1 {
			t.Errorf("sent %d times", n)
		}
		s.idle()
	})
}

// TestOtherUpstreams: a server that hangs, or is dead, holds nothing of another's.
func TestOtherUpstreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		total := admission.NewTotal(100)
		o := setup{gate: admission.Options{MaxInFlight: 10, Queue: 100, QueueWait: time.Hour, Total: total}}
		hung := newStage(t, o, newServer(hangs))
		well := newStage(t, o, newServer(after(time.Millisecond, answers)))
		ctx, cancel := context.WithCancel(t.Context())
		for range 110 {
			go hung.do(ctx, post(listBody))
		}
		synctest.Wait()
		for range 100 {
			begun := time.Now()
			if status, f := well.do(t.Context(), post(listBody)); status != 200 || time.Since(begun) != time.Millisecond {
				t.Fatalf("got %d, %v after %v", status, f, time.Since(begun))
			}
		}
		cancel()
		synctest.Wait()
		hung.idle()
		well.idle()
	})
}

// TestHeaderUntouched: with one endpoint the call goes on as it is.
func TestHeaderUntouched(t *testing.T) {
	server := newServer(says(http.StatusOK, "Mcp-Session-Id", "a"))
	s := newStage(t, setup{}, server)
	c := post(listBody, "Mcp-Session-Id", "a~0")
	res, err := s.Call(t.Context(), c)
	if err != nil || server.calls[0] != c || res.Header.Get("Mcp-Session-Id") != "a" {
		t.Errorf("got %v, %v", res, err)
	}
	_ = res.Close()
}
