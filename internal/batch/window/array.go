package window

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

// group is one array: first those who wait for it to leave, then the call that it is.
type group struct {
	window *Stage
	again  bool
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	once   sync.Once // it leaves once

	riders []*rider // guarded by Window.mu until the group is closed, read-only after that
	size   int      // bytes of their calls; guarded by Window.mu

	mu   sync.Mutex // guards the following and what rider says
	away bool       // it has left
	live int        // riders that have left with it and still wait
}

// rider is one call in an array.
type rider struct {
	call  *mcp.Call
	known *passenger   // nil for one that nobody can cancel
	done  chan outcome // has room for one

	// Guarded by group.mu.
	id        []byte // under which the server knows it; nil until it leaves with others, does not change after that
	left      bool   // its caller has left
	answered  bool   // the outcome has been given
	cancelled bool   // its agent has cancelled it under way

	found bool // its answer has been found; owned by travel
}

// outcome is what a rider gets: that it is to go by itself, a failure or a result.
type outcome struct {
	alone   bool
	sent    mcp.Sent // with alone: whether it may have run in the array, "" where it did not
	failure *mcp.Failure
	result  *mcp.Result
}

// leave gives a rider's place up, and says whether the server may have seen its call, and by which id. The last one out
// ends the array.
func (g *group) leave(r *rider) (sent mcp.Sent, id []byte) {
	g.mu.Lock()
	r.left = true
	away, answered := g.away, r.answered
	id = r.id
	if away && !answered {
		g.live--
	}
	last := away && g.live == 0
	g.mu.Unlock()
	if answered {
		o := <-r.done // it came at the same moment
		if o.result != nil {
			_ = o.result.Close()
		}
	}
	if last {
		g.cancel(errNobody)
	}
	if !away {
		return mcp.SentNo, nil
	}
	return mcp.SentUnknown, id
}

// give hands a rider its outcome, if it still waits for one. It reports whether it did. One that was cancelled has no use
// for a failure, and is not sent again.
func (g *group) give(r *rider, o outcome) bool {
	g.mu.Lock()
	if r.answered || r.left {
		g.mu.Unlock()
		if o.result != nil {
			_ = o.result.Close()
		}
		return false
	}
	r.answered = true
	g.live--
	if r.cancelled && o.result == nil {
		o = outcome{result: mcp.Accepted()}
	}
	g.mu.Unlock()
	r.done <- o
	return true
}

// depart sends the array off, once.
func (g *group) depart() {
	g.once.Do(func() {
		g.timer.Stop()
		go g.travel()
	})
}

// travel sends the calls of those who still wait, and gives everybody what came of it.
func (g *group) travel() {
	w := g.window
	defer w.wg.Done()
	defer g.cancel(nil)
	riders := g.present()
	switch len(riders) {
	case 0:
		return
	case 1:
		g.give(riders[0], outcome{alone: true})
		return
	}
	w.meters.size.Observe(float64(len(riders)))
	defer g.rescue(riders)
	call := g.array(riders)
	res, err := w.opts.Next.Call(g.ctx, call)
	if err != nil {
		g.failed(riders, err)
		return
	}
	defer func() { _ = res.Close() }()
	g.answered(riders, res)
}

// present returns those who have not left, and closes the door. If they are more than one they get their ids.
func (g *group) present() []*rider {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.away = true
	riders := make([]*rider, 0, len(g.riders))
	for _, r := range g.riders {
		if !r.left {
			riders = append(riders, r)
		}
	}
	g.live = len(riders)
	if len(riders) > 1 {
		for _, r := range riders {
			r.id = g.window.ids.Next()
		}
	}
	return riders
}

// rescue gives everybody a failure who would wait for ever after a panic.
func (g *group) rescue(riders []*rider) {
	panicked := recover()
	if panicked == nil {
		return
	}
	g.window.opts.Log.Error("an array of calls ended in the middle (this is a bug)",
		slog.String("upstream", g.window.opts.Upstream), slog.Any("panic", panicked), slog.String("stack", string(debug.Stack())))
	for _, r := range riders {
		g.give(r, outcome{failure: mcp.Inside(fmt.Errorf("panic: %v", panicked))})
	}
}

// array makes the call that the riders' are together: under ids of its own, with the first one's header but what belongs
// to that call alone.
func (g *group) array(riders []*rider) *mcp.Call {
	first := riders[0].call
	out := *first
	out.Body = g.encode(riders)
	out.Lane, out.Again, out.Whole = mcp.LaneBatch, g.again, true
	out.Flight, out.Scope, out.Notes = mcp.FlightKey{}, mcp.Scope{}, nil
	// The method says how long the server may take: all riders of an array are of one mind there.
	out.Message = mcp.Message{Kind: mcp.KindBatch, Method: first.Method(), Whole: mcp.Span{End: uint32(len(out.Body))}}
	out.Header = make(http.Header, len(first.Header))
	for name, values := range first.Header {
		switch name {
		case "Traceparent", "Tracestate", "Baggage":
		default:
			out.Header[name] = values
		}
	}
	return &out
}

func (g *group) encode(riders []*rider) []byte {
	size := 2
	for _, r := range riders {
		size += len(r.call.Body) + len(r.id) + 1
	}
	body := append(make([]byte, 0, size), '[')
	for i, r := range riders {
		if i > 0 {
			body = append(body, ',')
		}
		body = mcp.Splice(body, r.call.Body, r.call.Message.ID, r.id)
	}
	return append(body, ']')
}
