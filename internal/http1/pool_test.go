package http1_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/http1"
	"fluentd-perf/internal/mcptest"
)

// TestClosedIdleConnection posts a hundred times to a server that closes its connection behind each answer, or resets it, with
// which an answer may be lost: each of them finds out before a byte is written, and every request is received once.
func TestClosedIdleConnection(t *testing.T) {
	for name, script := range map[string]mcptest.Script{
		"closed": closing(okAnswer), "reset": resetting(okAnswer),
	} {
		t.Run(name, func(t *testing.T) {
			s := mcptest.NewServer(t, script)
			c := newClient(t, s.URL())
			for range 100 {
				if _, _, err := do(context.Background(), c, post("{}")); err != nil && name == "closed" {
					t.Fatal(err)
				}
				s.AwaitOpen(0)
			}
			if s.Received() != 100 {
				t.Errorf("%d requests were received", s.Received())
			}
		})
	}
}

// TestUnaskedBytes holds that a connection on which something came while it was idle carries no other request: what came would
// be its answer.
func TestUnaskedBytes(t *testing.T) {
	ln := listen(t)
	said := make(chan struct{})
	conns := make(chan net.Conn, 2)
	go func() {
		for answered := 0; ; answered++ {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns <- c
			_, _ = c.Read(make([]byte, 4096))
			_, _ = c.Write([]byte(okAnswer))
			if answered == 0 {
				<-said
				_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad"))
				said <- struct{}{}
			}
		}
	}()
	c := newClient(t, "http://"+ln.Addr().String())
	mustDo(t, c, post("{}"), "ok")
	said <- struct{}{}
	<-said
	mustDo(t, c, post("{}"), "ok")
	for range 2 {
		_ = (<-conns).Close()
	}
}

// TestLeftBeforeItIsSent holds that nothing is sent of a call that nobody waits for any more, though a connection is at hand.
func TestLeftBeforeItIsSent(t *testing.T) {
	s := mcptest.NewServer(t, answering(okAnswer))
	c := newClient(t, s.URL())
	mustDo(t, c, post("{}"), "ok")
	why := errors.New("the agent has left")
	ctx, leave := context.WithCancelCause(context.Background())
	leave(why)
	_, _, err := do(ctx, c, post("{}"))
	if !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
	wantSent(t, err, http1.SentNo)
	mustDo(t, c, post("{}"), "ok")
	if s.Received() != 2 {
		t.Errorf("%d requests were received, want 2", s.Received())
	}
	wantIdle(t, c, 1)
}

// TestClosedBeforeItWasUsed holds that a connection which was opened for a call that left, and closed by the server since, costs the next call
// nothing.
func TestClosedBeforeItWasUsed(t *testing.T) {
	var conns atomic.Int32
	answers := answeringAll(okAnswer, 0)
	p := &pipes{delay: time.Second, handle: func(c net.Conn) {
		if conns.Add(1) > 1 {
			answers(c)
		}
	}}
	inMemory(t, p, func(t *testing.T, c *http1.Client) {
		ctx, leave := context.WithTimeout(context.Background(), 500*time.Millisecond)
		defer leave()
		if _, _, err := do(ctx, c, post("{}")); err == nil {
			t.Error("it did not leave")
		}
		time.Sleep(time.Second)
		wantIdle(t, c, 1)
		mustDo(t, c, post("{}"), "ok")
	})
}

// TestSlowWriteAfterABound holds that the time in which one request had to be written is not that of the next one, whose body is written
// while the answer is awaited.
func TestSlowWriteAfterABound(t *testing.T) {
	p := &pipes{handle: func(c net.Conn) {
		for from := bufio.NewReader(c); ; {
			r, err := http.ReadRequest(from)
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
			if _, err := c.Write([]byte(okAnswer)); err != nil {
				return
			}
		}
	}}
	inMemory(t, p, func(t *testing.T, c *http1.Client) {
		small, large := post("{}"), post(strings.Repeat("x", 1<<20))
		small.HeadTimeout, large.HeadTimeout = 5*time.Second, time.Minute
		mustDo(t, c, small, "ok")
		time.Sleep(10 * time.Second)
		mustDo(t, c, large, "ok")
		if p.dialled() != 1 {
			t.Errorf("%d dials", p.dialled())
		}
	})
}

// pipes is an endpoint in memory, whose time can be false: each connection is served by handle.
type pipes struct {
	handle func(c net.Conn)
	mu     sync.Mutex
	dials  int
	delay  time.Duration // of a dial
	err    error         // of all dials
	there  func()        // is called when one is there; nil: nothing is
}

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	p.mu.Lock()
	p.dials++
	delay, err := p.delay, p.err
	p.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	if p.there != nil {
		p.there()
	}
	ours, theirs := net.Pipe()
	go func() {
		defer func() { _ = theirs.Close() }()
		p.handle(theirs)
	}()
	return ours, nil
}

func (p *pipes) dialled() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dials
}

// answeringAll answers each request, which is one write, with raw after a time.
func answeringAll(raw string, after time.Duration) func(net.Conn) {
	return func(c net.Conn) {
		for {
			if _, err := c.Read(make([]byte, 64<<10)); err != nil {
				return
			}
			time.Sleep(after)
			if _, err := c.Write([]byte(raw)); err != nil {
				return
			}
		}
	}
}

// inMemory runs f with a client of an endpoint in memory, in false time.
func inMemory(t *testing.T, p *pipes, f func(t *testing.T, c *http1.Client), change ...func(*http1.Options)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		change = append(change, func(o *http1.Options) { o.Dial, o.ConnectTimeout = p.dial, 5*time.Second })
		c := newClient(t, "http://server.example/mcp", change...)
		defer c.Close()
		f(t, c)
		c.Close()
		time.Sleep(time.Hour) // the servers' ends end
	})
}

// TestIdleTimes holds how long a connection is used again: not when it was idle for IdleTimeout, is MaxAge old, or was idle
// for nearly as long as the server says that it keeps it.
func TestIdleTimes(t *testing.T) {
	hint := "HTTP/1.1 200 OK\r\nKeep-Alive: max=100, timeout=5\r\nContent-Length: 2\r\n\r\nok"
	for name, test := range map[string]struct {
		answer string
		pause  time.Duration
		calls  int
		dials  int
	}{
		"used again":         {okAnswer, 89 * time.Second, 3, 1},
		"idle":               {okAnswer, 91 * time.Second, 3, 3},
		"age":                {okAnswer, 61 * time.Second, 6, 2}, // 5 minutes
		"hint, in time":      {hint, 3900 * time.Millisecond, 3, 1},
		"hint, nearly":       {hint, 4100 * time.Millisecond, 3, 3},
		"hint of one second": {strings.Replace(hint, "5", "1", 1), 600 * time.Millisecond, 3, 3},
		"hint of nothing":    {strings.Replace(hint, "5", "0", 1), 60 * time.Second, 3, 1},
	} {
		t.Run(name, func(t *testing.T) {
			p := &pipes{handle: answeringAll(test.answer, 0)}
			inMemory(t, p, func(t *testing.T, c *http1.Client) {
				for range test.calls {
					mustDo(t, c, post("{}"), "ok")
					time.Sleep(test.pause)
				}
				if p.dialled() != test.dials {
					t.Errorf("%d dials, want %d", p.dialled(), test.dials)
				}
			})
		})
	}
}

// TestIdleConnectionsEnd holds that idle connections are closed by themselves, and at most MaxIdle are kept.
func TestIdleConnectionsEnd(t *testing.T) {
	p := &pipes{handle: answeringAll(okAnswer, time.Second)}
	inMemory(t, p, func(t *testing.T, c *http1.Client) {
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { mustDo(t, c, post("{}"), "ok") })
		}
		wg.Wait()
		wantIdle(t, c, 4)
		time.Sleep(45 * time.Second)
		mustDo(t, c, post("{}"), "ok")
		time.Sleep(50 * time.Second)
		wantIdle(t, c, 1)
		time.Sleep(50 * time.Second)
		wantIdle(t, c, 0)
	}, func(o *http1.Options) { o.MaxIdle = 4 })
}

// TestClosedWhileIdle holds that an idle connection which its server has closed is closed when it is looked at, and one that is open stays.
func TestClosedWhileIdle(t *testing.T) {
	for name, test := range map[string]struct {
		script mcptest.Script
		want   int
	}{"closed": {closing(okAnswer), 0}, "reset": {resetting(okAnswer), 0}, "open": {answering(okAnswer), 1}} {
		t.Run(name, func(t *testing.T) {
			s := mcptest.NewServer(t, test.script)
			c := newClient(t, s.URL())
			if _, _, err := do(context.Background(), c, post("{}")); err != nil && name != "reset" {
				t.Fatal(err)
			}
			s.AwaitOpen(test.want)
			c.LookAtIdle()
			wantIdle(t, c, test.want)
		})
	}
}

// TestMaxConnections holds that no more are open or being opened than that, and that those who wait are served in the order of
// their asking.
func TestMaxConnections(t *testing.T) {
	p := &pipes{handle: answeringAll(okAnswer, time.Second), delay: 100 * time.Millisecond}
	inMemory(t, p, func(t *testing.T, c *http1.Client) {
		var mu sync.Mutex
		var order []int
		var wg sync.WaitGroup
		for i := range 12 {
			wg.Go(func() {
				mustDo(t, c, post("{}"), "ok")
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i/3)
			})
			time.Sleep(time.Millisecond)
		}
		wg.Wait()
		if p.dialled() != 3 || fmt.Sprint(order) != "[0 0 0 1 1 1 2 2 2 3 3 3]" {
			t.Errorf("%d dials, order %v", p.dialled(), order)
		}
	}, func(o *http1.Options) { o.MaxConnections = 3 })
}

// TestGrow holds that the bound can be changed while calls wait: they get what there is room for then, and connections beyond a
// bound that became smaller are not replaced.
func TestGrow(t *testing.T) {
	p := &pipes{handle: answeringAll(okAnswer, time.Second), delay: time.Millisecond}
	inMemory(t, p, func(t *testing.T, c *http1.Client) {
		var wg sync.WaitGroup
		three := func() {
			for range 3 {
				wg.Go(func() { mustDo(t, c, post("{}"), "ok") })
			}
		}
		three()
		synctest.Wait()
		if open, _, opening := c.Connections(); open != 0 || opening != 1 {
			t.Errorf("%d open, %d being opened, want 0 and 1", open, opening)
		}
		c.Grow(2)
		start := time.Now()
		wg.Wait()
		if took := time.Since(start); took > 1100*time.Millisecond || p.dialled() != 3 {
			t.Errorf("took %v, %d dials, want 3 at once", took, p.dialled())
		}
		c.Grow(-2)
		time.Sleep(10 * time.Second) // they are idle too long
		three()
		wg.Wait()
		if p.dialled() != 4 {
			t.Errorf("%d dials, want one more", p.dialled())
		}
	}, func(o *http1.Options) { o.MaxConnections, o.IdleTimeout = 1, 5*time.Second })
}

// TestDialsBelongToThePool has a call leave while its connection is being opened: the next one gets it.
func TestDialsBelongToThePool(t *testing.T) {
	p := &pipes{handle: answeringAll(okAnswer, 0), delay: time.Second}
	inMemory(t, p, func(t *testing.T, c *http1.Client) {
		gone := errors.New("the caller left")
		ctx, cancel := context.WithCancelCause(context.Background())
		time.AfterFunc(500*time.Millisecond, func() { cancel(gone) })
		_, err := c.Do(ctx, post("{}"))
		if !errors.Is(err, gone) {
			t.Errorf("got %v", err)
		}
		wantSent(t, err, http1.SentNo)
		time.Sleep(time.Second)
		wantIdle(t, c, 1)
		mustDo(t, c, post("{}"), "ok")
		if p.dialled() != 1 {
			t.Errorf("%d dials", p.dialled())
		}
	})
}

// TestLeavesAtTheLastMoment has calls leave just when their connection is there: it is not lost, whoever of both is first.
func TestLeavesAtTheLastMoment(t *testing.T) {
	p := &pipes{handle: answeringAll(okAnswer, 0), delay: time.Second}
	inMemory(t, p, func(t *testing.T, c *http1.Client) {
		for range 500 {
			ctx, cancel := context.WithCancel(context.Background())
			p.there = cancel
			_, _, err := do(ctx, c, post("{}"))
			if err != nil && !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			synctest.Wait()
			wantIdle(t, c, 0)
		}
	}, func(o *http1.Options) { o.MaxIdle = 0 })
}

// TestDialFails holds that a failure is that of a call that waits, that another call's dial is not, and that the room is free
// again.
func TestDialFails(t *testing.T) {
	p := &pipes{err: syscall.ECONNREFUSED, delay: time.Second, handle: answeringAll(okAnswer, 0)}
	inMemory(t, p, func(t *testing.T, c *http1.Client) {
		var wg sync.WaitGroup
		for range 5 {
			wg.Go(func() {
				_, err := c.Do(context.Background(), post("{}"))
				if !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("got %v", err)
				}
				wantSent(t, err, http1.SentNo)
			})
		}
		wg.Wait()
		wantIdle(t, c, 0)
		p.mu.Lock()
		p.err = nil
		p.mu.Unlock()
		mustDo(t, c, post("{}"), "ok")
	}, func(o *http1.Options) { o.MaxConnections = 2 })
}

// TestConnectTimeout holds it for a dial that hangs, and for a call for which there is no room.
func TestConnectTimeout(t *testing.T) {
	for name, p := range map[string]*pipes{
		"dial": {delay: time.Hour}, "room": {handle: answeringAll(okAnswer, time.Minute)},
	} {
		t.Run(name, func(t *testing.T) {
			inMemory(t, p, func(t *testing.T, c *http1.Client) {
				var wg sync.WaitGroup
				if name == "room" {
					wg.Go(func() { mustDo(t, c, post("{}"), "ok") })
					synctest.Wait()
				}
				start := time.Now()
				_, err := c.Do(context.Background(), post("{}"))
				var timeout net.Error
				if took := time.Since(start); !errors.As(err, &timeout) || !timeout.Timeout() || took != 5*time.Second {
					t.Errorf("%v after %v", err, took)
				}
				wantSent(t, err, http1.SentNo)
				wg.Wait()
			}, func(o *http1.Options) { o.MaxConnections = 1 })
		})
	}
}

// TestDeadlines holds HeadTimeout and SetReadDeadline. A read that a deadline ended is gone on with; a connection that had a
// nearer one before keeps none of it.
func TestDeadlines(t *testing.T) {
	p := &pipes{handle: func(c net.Conn) {
		for i := 0; ; i++ {
			if _, err := c.Read(make([]byte, 4096)); err != nil {
				return
			}
			time.Sleep(time.Duration(i) * 4 * time.Second)
			_, _ = c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab"))
			time.Sleep(10 * time.Second)
			_, _ = c.Write([]byte("cd"))
		}
	}}
	inMemory(t, p, func(t *testing.T, c *http1.Client) {
		for range 2 {
			r := post("{}")
			r.HeadTimeout = 5 * time.Second
			a, err := c.Do(context.Background(), r)
			if err != nil {
				t.Fatal(err)
			}
			readSlowly(t, a)
		}
		r := post("{}")
		r.HeadTimeout = 5 * time.Second // it takes 8
		_, err := c.Do(context.Background(), r)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		wantSent(t, err, http1.SentUnknown)
		wantIdle(t, c, 0)
	})
}

// TestOlderDeadline has a connection's deadline pass that an earlier call left there: a later call has its own bound.
func TestOlderDeadline(t *testing.T) {
	first, later := 100*time.Millisecond, 300*time.Millisecond
	run := func(t *testing.T, c *http1.Client) {
		for _, timeout := range []time.Duration{first, mcptest.WaitTimeout, 0} {
			r := post("{}")
			r.HeadTimeout = timeout
			mustDo(t, c, r, "ok")
		}
	}
	p := &pipes{}
	p.handle = func(c net.Conn) {
		for after := time.Duration(0); ; after = later {
			if _, err := c.Read(make([]byte, 4096)); err != nil {
				return
			}
			time.Sleep(after)
			_, _ = c.Write([]byte(okAnswer))
		}
	}
	inMemory(t, p, run)
	if p.dialled() != 1 {
		t.Errorf("%d dials", p.dialled())
	}
	s := mcptest.NewServer(t, func(x *mcptest.Exchange) { // a socket, which has no false time
		if x.Conn != 1 || x.Verb != "POST" {
			t.Errorf("%s on connection %d", x.Verb, x.Conn)
		}
		timer := make(chan struct{})
		time.AfterFunc(later, func() { close(timer) })
		x.Wait(timer)
		x.Say(http.StatusOK, "", "ok")
	})
	s.Once(answering(okAnswer))
	run(t, newClient(t, s.URL()))
}

// readSlowly reads ab, runs into a deadline twice, and reads cd after all.
func readSlowly(t *testing.T, a *http1.Answer) {
	b := make([]byte, 10)
	if n, err := a.Read(b); n != 2 || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	for range 2 {
		start := time.Now()
		a.SetReadDeadline(start.Add(3 * time.Second))
		n, err := a.Read(b)
		if n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 3*time.Second {
			t.Fatalf("%d bytes, %v after %v", n, err, time.Since(start))
		}
	}
	a.SetReadDeadline(time.Time{})
	if n, err := a.Read(b); string(b[:n]) != "cd" || err == nil {
		t.Fatalf("%q, %v", b[:n], err)
	}
}

// TestClose holds that a closed client keeps nothing, and ends no call.
func TestClose(t *testing.T) {
	gate := mcptest.NewGate()
	s := mcptest.NewServer(t, func(x *mcptest.Exchange) {
		x.Wait(gate.Opened())
		x.Say(http.StatusOK, "", "ok")
	})
	c := newClient(t, s.URL())
	var wg sync.WaitGroup
	wg.Go(func() { mustDo(t, c, post("{}"), "ok") })
	s.AwaitRequest(1)
	c.Close()
	gate.Open()
	wg.Wait()
	wantIdle(t, c, 0)
	s.AwaitOpen(0)
	mustDo(t, c, post("{}"), "ok")
	s.AwaitOpen(0)
}

// TestCloseEndsDials holds that a dial for which nobody waits any more does not keep Close waiting.
func TestCloseEndsDials(t *testing.T) {
	p := &pipes{delay: time.Hour}
	inMemory(t, p, func(t *testing.T, c *http1.Client) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := c.Do(ctx, post("{}")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		start := time.Now()
		c.Close()
		if took := time.Since(start); took != 0 {
			t.Errorf("Close took %v", took)
		}
	})
}
