package cache_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
)

// stage is the stage behind: it counts its calls and answers each as answer says.
type stage struct {
	answer func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error)

	calls  atomic.Int64
	inside atomic.Int64 // at this moment
	most   atomic.Int64 // of them at once

	mu  sync.Mutex // guards the following
	ids []string
}

func (s *stage) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	n := s.calls.Add(1)
	for now := s.inside.Add(1); ; {
		most := s.most.Load()
		if most >= now || s.most.CompareAndSwap(most, now) {
			break
		}
	}
	defer s.inside.Add(-1)
	s.mu.Lock()
	s.ids = append(s.ids, string(c.ID()))
	s.mu.Unlock()
	return s.answer(ctx, c, int(n))
}

// What these tests share with those of other stages.
var (
	flightAfter = mcptest.After
	rawBody     = mcptest.Body
	stream      = mcptest.EventsOf
	wantFailure = mcptest.WantFailure
)

// list is a call of tools/list under that id, given as JSON.
func list(id string) *mcp.Call {
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"tools/list","params":{"cursor":"c1"}}`, id)
	c := &mcp.Call{
		Upstream: "test", Lane: mcp.LaneRequest, Body: []byte(body), Start: time.Now(),
		Header: header.Of(http.Header{"Mcp-Session-Id": {"s1"}}),
	}
	if err := mcp.Scan(c.Body, &c.Message); err != nil {
		panic(err)
	}
	setKey(c, sha256.Sum256([]byte("tools/list")))
	return c
}

// flightKey is under which calls are one; the zero one goes by itself.
type flightKey [32]byte

func setKey(c *mcp.Call, k flightKey) {
	c.Header = c.Header.Clone()
	c.Header.Del(cache.FlightHeader)
	if k != (flightKey{}) {
		c.Header.Set(cache.FlightHeader, string(k[:]))
	}
}

// setShare says whether everybody who asked the same may have the result.
func setShare(res *mcp.Result, share bool) {
	res.Header.Del(cache.ShareHeader)
	if share {
		res.Header.Set(cache.ShareHeader, "1")
	}
}

func newLog(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// checked is the whole answer to the call, with the text in its result.
func checked(c *mcp.Call, text string) *mcp.Result {
	body := fmt.Sprintf(`{"result":{"ttlMs":5,"text":%q},"jsonrpc":"2.0","id":%s}`, text, c.ID())
	res := &mcp.Result{
		Status: 200, Body: []byte(body), Checked: true,
		Header: header.Of(http.Header{
			"Content-Type": {"application/json"}, "Cache-Control": {"no-store"}, "Set-Cookie": {"user=leader"},
		}),
	}
	if err := mcp.Scan(res.Body, &res.Message); err != nil {
		panic(err)
	}
	return res
}

func shareable(c *mcp.Call, text string) *mcp.Result {
	res := checked(c, text)
	setShare(res, true)
	return res
}

// flightRig is the flights of an upstream over a stage, with what a test wants to know of both.
type flightRig struct {
	*cache.Flights
	stage *stage
	reg   *prometheus.Registry
	log   *strings.Builder
	stop  context.CancelCauseFunc // ends Base
}

const (
	maxAge = 10 * time.Second
	hold   = 30 * time.Second
)

func flightNewRig(answer func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error)) *flightRig {
	r := &flightRig{stage: &stage{answer: answer}, reg: prometheus.NewRegistry(), log: new(strings.Builder)}
	base, stop := context.WithCancelCause(context.Background())
	r.stop = stop
	r.Flights = cache.NewFlights(cache.FlightsOptions{
		Next: r.stage, Base: base, MaxAge: maxAge, Hold: hold,
		Buffers: new(mcp.BufferPool), Metrics: cache.NewMetrics(r.reg), Log: newLog(r.log),
	})
	return r
}

// coalesced reads the counter.
func (r *flightRig) coalesced(tb testing.TB) int {
	tb.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "fluentd_perf_coalesced_total" {
			return int(f.GetMetric()[0].GetCounter().GetValue())
		}
	}
	tb.Fatal("there is no fluentd_perf_coalesced_total")
	return 0
}

// got is what one caller got, and when.
type got struct {
	id        string
	status    int
	body      string // whole, or the events, or what was raw
	header    header.List
	collapsed bool
	err       error
	took      time.Duration
}

// call calls under the id and reads the answer to its end.
func (r *flightRig) call(ctx context.Context, c *mcp.Call) got {
	start := time.Now()
	g := got{id: string(c.ID())}
	res, err := r.Call(ctx, c)
	if err != nil {
		g.err, g.took = err, time.Since(start)
		return g
	}
	g.status, g.header, g.collapsed = res.Status, res.Header, res.Collapsed
	switch {
	case res.Events != nil:
		g.body, g.err = textOfEvents(res.Events)
	case res.Raw != nil:
		var b []byte
		b, g.err = io.ReadAll(res.Raw)
		g.body = string(b)
	default:
		g.body = string(res.Body)
		if res.Checked {
			g.err = sameScan(res)
		}
	}
	g.took = time.Since(start)
	if err := res.Close(); err != nil && g.err == nil {
		g.err = err
	}
	return g
}

func textOfEvents(events mcp.Events) (string, error) {
	var all strings.Builder
	for {
		ev, err := events.Next()
		if err == io.EOF {
			return all.String(), nil
		}
		if err != nil {
			return all.String(), err
		}
		all.Write(ev.Raw)
	}
}

// sameScan checks that the spans of a result are those that a scan of its body finds.
func sameScan(res *mcp.Result) error {
	var m mcp.Message
	if err := mcp.Scan(res.Body, &m); err != nil {
		return fmt.Errorf("%w in %s", err, res.Body)
	}
	if m != res.Message {
		return fmt.Errorf("the spans are %+v, want %+v", res.Message, m)
	}
	return nil
}

// wave sends n equal calls with ids of their own at once and returns what they got, in the order of the ids.
func (r *flightRig) wave(n int) []got {
	return r.waveOf(n, func(int) context.Context { return context.Background() })
}

func (r *flightRig) waveOf(n int, ctx func(i int) context.Context) []got {
	all := make([]got, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { all[i] = r.call(ctx(i), list(fmt.Sprint(i))) })
	}
	wg.Wait()
	return all
}

// wantAnswers checks that each got the text under its own id, and returns how many were collapsed.
func wantAnswers(tb testing.TB, all []got, text string) (collapsed int) {
	tb.Helper()
	for _, g := range all {
		want := fmt.Sprintf(`{"result":{"ttlMs":5,"text":%q},"jsonrpc":"2.0","id":%s}`, text, g.id)
		if g.err != nil || g.body != want {
			tb.Errorf("call %s got %q, %v, want %q", g.id, g.body, g.err, want)
			return collapsed
		}
		if g.collapsed {
			collapsed++
		}
	}
	return collapsed
}

func wantCalls(tb testing.TB, r *flightRig, want int64) {
	tb.Helper()
	if n := r.stage.calls.Load(); n != want {
		tb.Fatalf("%d calls reached the stage behind, want %d", n, want)
	}
}

func keyOfCall(c *mcp.Call) (k flightKey) {
	copy(k[:], c.Header.Get(cache.FlightHeader))
	return k
}

// setHeader gives a call another header, under the same key.
func setHeader(c *mcp.Call, h header.List) {
	k := keyOfCall(c)
	c.Header = h
	setKey(c, k)
}
