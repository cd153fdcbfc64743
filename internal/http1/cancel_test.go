package http1_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/http1"
	"fluentd-perf/internal/mcptest"
)

// TestCancel ends calls before the head of their answer and in its body: at once, with the cause, and the server sees it.
func TestCancel(t *testing.T) {
	for name, script := range map[string]mcptest.Script{
		"before the head": mcptest.Hang,
		"in the body": func(x *mcptest.Exchange) {
			x.Write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n")
			x.Hang()
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := mcptest.NewServer(t, script)
			c := newClient(t, s.URL())
			gone := errors.New("the caller left")
			ctx, cancel := context.WithCancelCause(context.Background())
			ended := make(chan error, 1)
			go func() {
				_, _, err := do(ctx, c, post("{}"))
				ended <- err
			}()
			s.AwaitRequest(1)
			start := time.Now()
			cancel(gone)
			if err := <-ended; !errors.Is(err, gone) {
				t.Errorf("got %v", err)
			}
			s.AwaitOpen(0)
			t.Logf("closed after %v", time.Since(start))
			wantIdle(t, c, 0)
		})
	}
}

// TestCancelInTime ends calls that have just been sent, and calls whose contexts tell their end by themselves by then: within 10 ms, in
// one of ten tries at least on a machine that is busy with other things.
func TestCancelInTime(t *testing.T) {
	for name, asked := range map[string]int{"just sent": 1, "long": 0} {
		t.Run(name, func(t *testing.T) {
			s := mcptest.NewServer(t, mcptest.Hang)
			c := newClient(t, s.URL())
			best := time.Hour
			for try := range 10 {
				ctx, cancel := context.WithCancel(context.Background())
				ended := make(chan error, 1)
				go func() {
					_, _, err := do(ctx, c, post("{}"))
					ended <- err
				}()
				s.AwaitRequest(try + 1)
				for c.Asked() > asked {
					time.Sleep(time.Millisecond)
				}
				start := time.Now()
				cancel()
				if err := <-ended; !errors.Is(err, context.Canceled) {
					t.Fatal(err)
				}
				best = min(best, time.Since(start))
			}
			if best > 10*time.Millisecond {
				t.Errorf("it took %v", best)
			}
			wantIdle(t, c, 0)
		})
	}
}

// TestCancelledIsNotUsedAgain: a connection whose call was cancelled before it had its whole answer is not used again, though nobody has
// looked at the call's context yet.
func TestCancelledIsNotUsedAgain(t *testing.T) {
	s := mcptest.NewServer(t, answering(okAnswer))
	c := newClient(t, s.URL())
	ctx, cancel := context.WithCancel(context.Background())
	a, err := c.Do(ctx, post("{}"))
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	_, _ = io.ReadAll(a) // it may have been cancelled meanwhile
	_ = a.Close()
	wantIdle(t, c, 0)
}

// TestCloseEndsTheAnswer closes an answer in its body, which closes the connection, and one behind it, which does not.
func TestCloseEndsTheAnswer(t *testing.T) {
	s := mcptest.NewServer(t, answering(okAnswer))
	c := newClient(t, s.URL())
	for range 2 {
		a := mustDo(t, c, post("{}"), "ok")
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	wantIdle(t, c, 1)
	a, err := c.Do(context.Background(), post("{}"))
	if err != nil {
		t.Fatal(err)
	}
	_ = a.Close()
	if _, err := a.Read(make([]byte, 1)); err == nil {
		t.Error("an answer that was closed was read")
	}
	s.AwaitOpen(0)
	wantIdle(t, c, 0)
}

// TestLateCancel ends the context of a call that is over while its connection is another call's, and does what a watch over it
// does that had begun before: the other call goes on.
func TestLateCancel(t *testing.T) {
	gate := mcptest.NewGate()
	s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
		x.Wait(gate.Opened())
		x.Say(http.StatusOK, "", "ok")
	})
	s.Once(answering(okAnswer))
	c := newClient(t, s.URL())
	ctx, cancel := context.WithCancel(context.Background())
	a, err := c.Do(ctx, post("{}"))
	if err != nil {
		t.Fatal(err)
	}
	late := http1.LateCancel(a)
	if _, err := io.ReadAll(a); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { mustDo(t, c, post("{}"), "ok") })
	if s.AwaitRequest(2).Conn != 1 {
		t.Error("it is another connection")
	}
	cancel()
	late()
	_ = a.Close()
	gate.Open()
	wg.Wait()
	wantIdle(t, c, 1)
}

// TestCancelRaces ends contexts at all times, around the ends of answers above all, and wants that every call whose context
// did not end has the answer to its own request.
func TestCancelRaces(t *testing.T) {
	s := mcptest.NewServer(t, func(x *mcptest.Exchange) { x.Say(http.StatusOK, "", string(x.Body)) })
	c := newClient(t, s.URL(), func(o *http1.Options) { o.MaxConnections = 4 })
	var wg sync.WaitGroup
	for worker := range 8 {
		rng := rand.New(rand.NewPCG(7, uint64(worker)))
		wg.Go(func() {
			for i := range 150 {
				ctx, cancel := context.WithCancel(context.Background())
				if rng.IntN(2) == 0 {
					time.AfterFunc(time.Duration(rng.IntN(2000))*time.Microsecond, cancel)
				}
				want := fmt.Sprintf("%d-%d", worker, i)
				_, got, err := do(ctx, c, post(want))
				if err == nil && got != want || err != nil && ctx.Err() == nil {
					t.Errorf("got %q, %v, want %q", got, err, want)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if open, idle, _ := c.Connections(); open != idle || open > 4 {
		t.Errorf("%d connections open, %d idle", open, idle)
	}
}

// TestEarlyAnswers has servers answer before they have read a large body. The answer is had, and the connection used again only
// where the body was read after all. Behind its end nobody reads the body's memory: the race detector watches that it is
// written to.
func TestEarlyAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		reads, closes bool
		kept          int
	}{
		"reads it all the same": {true, false, 1}, "does not read": {false, false, 0}, "closes": {false, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			ln := listen(t)
			checked, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				defer func() { _ = conn.Close() }()
				_, _ = io.CopyN(io.Discard, conn, 100)
				_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\n")
				if test.reads {
					_, _ = io.CopyN(io.Discard, conn, 32<<20)
				}
				_, _ = io.WriteString(conn, "big")
				if !test.closes {
					<-checked
				}
			}()
			c := newClient(t, "http://"+ln.Addr().String())
			r := post(strings.Repeat("x", 32<<20))
			a, body, err := do(context.Background(), c, r)
			clear(r.Body)
			if !test.closes && (err != nil || a.Status != 413 || body != "big") { // with a reset, what came may be lost
				t.Errorf("%q, %v", body, err)
			}
			wantIdle(t, c, test.kept)
			close(checked)
			<-done
		})
	}
}

// TestCancelWhileWriting ends a call whose body the server does not read.
func TestCancelWhileWriting(t *testing.T) {
	ln := listen(t)
	c := newClient(t, "http://"+ln.Addr().String()) // the kernel accepts
	ctx, cancel := context.WithCancel(context.Background())
	written := &traced{connected: cancel}
	r := post(strings.Repeat("x", 32<<20))
	r.Trace = written
	_, err := c.Do(ctx, r)
	clear(r.Body)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	wantIdle(t, c, 0)
}

// traced notes what a Trace is told.
type traced struct {
	mu        sync.Mutex // guards told
	told      []string
	connected func()
}

func (t *traced) tell(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.told = append(t.told, what)
}

func (t *traced) Connecting() { t.tell("connecting") }

func (t *traced) Connected(reused bool, _ time.Time) {
	t.tell(map[bool]string{false: "fresh", true: "reused"}[reused])
	if t.connected != nil {
		t.connected()
	}
}

func (t *traced) Written()   { t.tell("written") }
func (t *traced) Answering() { t.tell("answering") }

// TestTrace holds what is told, and in which order.
func TestTrace(t *testing.T) {
	s := mcptest.NewServer(t, answering(okAnswer))
	c := newClient(t, s.URL())
	for _, want := range []string{"[connecting fresh written answering]", "[reused written answering]"} {
		trace := &traced{}
		r := post("{}")
		r.Trace = trace
		mustDo(t, c, r, "ok")
		if got := fmt.Sprint(trace.told); got != want {
			t.Errorf("told %s, want %s", got, want)
		}
	}
	s.Script(closing(okAnswer))
	mustDo(t, c, post("{}"), "ok")
	s.AwaitOpen(0)
	trace := &traced{}
	r := post("{}")
	r.Trace = trace
	mustDo(t, c, r, "ok")
	if got := fmt.Sprint(trace.told); got != "[reused connecting fresh written answering]" {
		t.Errorf("told %s", got)
	}
}
