package loadgen_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/mcp"
)

// timedTarget is a server in memory that answers each call when wait returns. It is for false time: nothing else takes any.
func timedTarget(wait func()) *loadgen.Target {
	return &loadgen.Target{Host: "timed", Path: "/mcp", Era: mcp.EraModern, Dial: func(context.Context) (net.Conn, error) {
		client, server := net.Pipe()
		go serveTimed(server, wait)
		return client, nil
	}}
}

func serveTimed(conn net.Conn, wait func()) {
	defer func() { _ = conn.Close() }()
	br := bufio.NewReader(conn)
	for {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		wait()
		_, id, _ := strings.Cut(string(body), `"id":`)
		id, _, _ = strings.Cut(id, ",")
		answer := `{"jsonrpc":"2.0","id":` + id + `,"result":{}}`
		if _, err := fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer); err != nil {
			return
		}
	}
}

// runTimed puts a load on a server in memory, in false time.
func runTimed(t *testing.T, target *loadgen.Target, load loadgen.Load) *loadgen.Tally {
	t.Helper()
	p := loadgen.NewClients(target)
	tally, err := p.Run(t.Context(), load, loadgen.Only(loadgen.List()), nil)
	if err != nil {
		t.Error(err)
	}
	p.Close(t.Context())
	synctest.Wait()
	return tally
}

// wantTime wants a percentile to be what arithmetic says, as exactly as the histogram is.
func wantTime(t *testing.T, what string, h *loadgen.Histogram, percent float64, want time.Duration) {
	t.Helper()
	if got := h.At(percent); got < want-want/500-time.Microsecond || got > want+want/500+time.Microsecond {
		t.Errorf("%s: p%g is %v, want %v", what, percent, got, want)
	}
}

// TestStall has a server stall for 200 ms in every second, and 1,000 calls a second made to it, of which the nth in the second is then
// answered after 200-n ms, or at once. With that, a tenth of the calls take 100 ms or more, and a thousandth 200 ms.
func TestStall(t *testing.T) {
	for name, c := range map[string]struct {
		concurrency int
		late        int64   // of 5,000
		servicePct  float64 // the percentile of service time
		service     time.Duration
	}{
		"with enough connections":     {1000, 0, 90, 100 * time.Millisecond},
		"with 10 calls under way":     {10, 5 * 180, 98, 0}, // all others wait for those to be answered: the service time does not show it
		"one more percent of calls":   {10, 5 * 180, 99.95, 200 * time.Millisecond},
		"with a single one under way": {1, 5 * 189, 99.8, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				target := timedTarget(func() {
					if in := time.Since(begun) % time.Second; in < 200*time.Millisecond {
						time.Sleep(200*time.Millisecond - in)
					}
				})
				tally := runTimed(t, target, loadgen.Load{Loop: loadgen.Open, Concurrency: c.concurrency, Rate: 1000, DurationMs: 5_000})
				service, intended := tally.Times()
				for percent, want := range map[float64]time.Duration{79: 0, 90: 100 * time.Millisecond, 99: 190 * time.Millisecond, 99.9: 199 * time.Millisecond, 100: 200 * time.Millisecond} {
					wantTime(t, "intended", intended, percent, want)
				}
				wantTime(t, "service", service, c.servicePct, c.service)
				if r := tally.Round(); r.Succeeded != 5_000 || r.Dropped != 0 || r.Late != c.late {
					t.Errorf("%d succeeded, %d late, want %d, %d dropped", r.Succeeded, r.Late, c.late, r.Dropped)
				}
			})
		})
	}
}

// TestClosedLoopTimes: of a server that takes 5 ms every time is 5 ms, however many call at once; of one that makes one answer after the
// other, a millisecond each, the times are those of its queue: as many milliseconds as there are clients (Little's law).
func TestClosedLoopTimes(t *testing.T) {
	for _, clients := range []int{1, 32, 256} {
		synctest.Test(t, func(t *testing.T) {
			load := loadgen.Load{Loop: loadgen.Closed, Concurrency: clients, Requests: int64(20 * clients)}
			tally := runTimed(t, timedTarget(func() { time.Sleep(5 * time.Millisecond) }), load)
			service, _ := tally.Times()
			for _, percent := range []float64{0, 50, 99, 100} {
				wantTime(t, fmt.Sprintf("%d at once, 5 ms each", clients), service, percent, 5*time.Millisecond)
			}
			if r := tally.Round(); r.Seconds != 0.1 {
				t.Errorf("%d at once: 20 calls of 5 ms each took %v s", clients, r.Seconds)
			}
			free := make(chan struct{}, 1)
			service, _ = runTimed(t, timedTarget(func() {
				free <- struct{}{}
				time.Sleep(time.Millisecond)
				<-free
			}), load).Times()
			for _, percent := range []float64{50, 99, 100} {
				wantTime(t, fmt.Sprintf("%d at once, one after the other", clients), service, percent, time.Duration(clients)*time.Millisecond)
			}
		})
	}
}

// TestClosedLoopOmitsAStall shows what the open loop is for: in a closed one the same stall meets one call in each client.
func TestClosedLoopOmitsAStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		target := timedTarget(func() {
			time.Sleep(time.Millisecond)
			if in := time.Since(begun) % time.Second; in < 200*time.Millisecond {
				time.Sleep(200*time.Millisecond - in)
			}
		})
		tally := runTimed(t, target, loadgen.Load{Loop: loadgen.Closed, Concurrency: 1, DurationMs: 10_000})
		service, intended := tally.Times()
		wantTime(t, "service", service, 99.8, time.Millisecond)
		if intended != nil {
			t.Error("a closed loop has times from the intended send")
		}
	})
}

// TestConstantRate wants calls to be sent at their times, whatever becomes of those before.
func TestConstantRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls, under, most atomic.Int64
		begun := time.Now()
		target := timedTarget(func() {
			if at, want := time.Since(begun), time.Duration(calls.Add(1)-1)*10*time.Millisecond; at != want {
				t.Errorf("call %d was sent at %v, want %v", calls.Load(), at, want)
			}
			most.Store(max(most.Load(), under.Add(1)))
			time.Sleep(95 * time.Millisecond)
			under.Add(-1)
		})
		tally := runTimed(t, target, loadgen.Load{Loop: loadgen.Open, Concurrency: 100, Rate: 100, Requests: 200})
		if r := tally.Round(); r.Succeeded != 200 || r.Late+r.Dropped != 0 || r.Opened != 10 || most.Load() != 10 {
			t.Errorf("%d succeeded, %d late, %d dropped, %d connections, %d under way, want 200 over 10", r.Succeeded, r.Late, r.Dropped, r.Opened, most.Load())
		}
	})
}

// TestRateIsTooHigh: what was not sent when the last call should have been is dropped and counted.
func TestRateIsTooHigh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tally := runTimed(t, timedTarget(func() { time.Sleep(20 * time.Millisecond) }), loadgen.Load{Loop: loadgen.Open, Concurrency: 2, Rate: 200, DurationMs: 1000})
		// Two at a time take 20 ms each: 100 a second.
		if r := tally.Round(); r.Succeeded < 100 || r.Succeeded > 102 || r.Succeeded+r.Dropped != 200 || r.Late < 90 {
			t.Errorf("%d succeeded, %d late, %d dropped", r.Succeeded, r.Late, r.Dropped)
		}
	})
}

// TestNoneIsDue: a rate by which not one call is due is told as that.
func TestNoneIsDue(t *testing.T) {
	p := loadgen.NewClients(timedTarget(func() {}))
	_, err := p.Run(t.Context(), loadgen.Load{Loop: loadgen.Open, Concurrency: 1, Rate: 0.5, DurationMs: 1500}, loadgen.Only(loadgen.List()), nil)
	if !errors.Is(err, loadgen.ErrNoSuccess) || !strings.Contains(err.Error(), "at 0.5 calls a second none is due within 1.5s") {
		t.Error(err)
	}
}

// TestTimeout: a call that is not answered ends, and counts.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int64
		target := timedTarget(func() {
			if calls.Add(1) == 1 {
				time.Sleep(time.Minute)
			}
		})
		tally := runTimed(t, target, loadgen.Load{Loop: loadgen.Closed, Concurrency: 1, Requests: 2})
		if r := tally.Round(); r.Succeeded != 1 || r.Faults[loadgen.FaultTimeout] != 1 || r.Seconds != 30 {
			t.Errorf("%d succeeded, %v in %v s", r.Succeeded, r.Faults, r.Seconds)
		}
		time.Sleep(time.Minute) // the server's end
	})
}

// TestHungServer: a server that answers nothing is found out after a minute, however many calls were to be made.
func TestHungServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := loadgen.NewClients(timedTarget(func() { time.Sleep(time.Hour) }))
		begun := time.Now()
		tally, err := p.Run(t.Context(), loadgen.Load{Loop: loadgen.Closed, Concurrency: 4, Requests: 5000}, loadgen.Only(loadgen.List()), nil)
		if !errors.Is(err, loadgen.ErrNoSuccess) || !strings.Contains(err.Error(), "no whole answer within 30s") {
			t.Error(err)
		}
		if took := time.Since(begun); took != time.Minute || tally.Requests() != 8 {
			t.Errorf("%d calls in %v", tally.Requests(), took)
		}
		p.Close(t.Context())
		time.Sleep(2 * time.Hour) // the server's end
	})
}

// TestLimiter holds what a server without leave gets: evenly 5 requests a second, those of all clients and of their handshakes together.
func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex // guards last
		var last time.Time
		target := timedTarget(func() {
			mu.Lock()
			defer mu.Unlock()
			if apart := time.Since(last); !last.IsZero() && apart < 200*time.Millisecond {
				t.Errorf("two requests are %v apart", apart)
			}
			last = time.Now()
		})
		target.Limit = loadgen.NewLimiter(5)
		tally := runTimed(t, target, loadgen.Load{Loop: loadgen.Closed, Concurrency: 2, Requests: 11})
		r := tally.Round()
		if r.Seconds != 2 || r.Succeeded != 11 {
			t.Errorf("%d calls in %v s", r.Succeeded, r.Seconds)
		}
		if r.Service.Max > 1 {
			t.Errorf("the wait counts as the server's time: %v µs", r.Service.Max)
		}
	})
}

// TestCurve has the points of a long run thinned out, and be told to who watches.
func TestCurve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, told := loadgen.NewClients(timedTarget(func() { time.Sleep(time.Second) })), 0
		tally, err := p.Run(t.Context(), loadgen.Load{Loop: loadgen.Closed, Concurrency: 1, Requests: 600}, loadgen.Only(loadgen.List()), func(loadgen.Point) { told++ })
		p.Close(t.Context())
		synctest.Wait()
		if err != nil {
			t.Fatal(err)
		}
		curve := tally.Round().Curve
		if len(curve) < 240 || len(curve) > 480 || told < 2390 {
			t.Errorf("%d points, %d told", len(curve), told)
		}
		for i, point := range curve {
			if done := point.AtMs / 1000; point.Done < done-1 || point.Done > done || i > 0 && point.AtMs < curve[i-1].AtMs {
				t.Errorf("point %d: %+v", i, point)
			}
		}
		if last := curve[len(curve)-1]; last.Done != 600 || last.AtMs != 600_000 {
			t.Errorf("the last point is %+v", last)
		}
	})
}
