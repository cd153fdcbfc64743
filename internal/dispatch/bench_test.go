package dispatch_test

import (
	"context"
	"testing"
	"time"

	"fluentd-perf/internal/admission"
	"fluentd-perf/internal/dispatch"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// benchStage is a stage as the configuration makes it by default, over endpoints that answer at once and allocate nothing.
func benchStage(endpoints int, answer func() (*mcp.Result, error)) *dispatch.Stage {
	o := dispatch.Options{
		Upstream: "files", Retry: dispatch.RetryOptions{Max: 2, Budget: 0.2},
		Admission: admission.New(admission.Options{
			Upstream: "files", MaxInFlight: 512, Queue: 1024, QueueWait: 2 * time.Second, Total: admission.NewTotal(10_000),
		}),
	}
	for i := range endpoints {
		o.Endpoints = append(o.Endpoints, dispatch.Endpoint{
			Caller:  mcp.CallerFunc(func(context.Context, *mcp.Call) (*mcp.Result, error) { return answer() }),
			Breaker: newBreaker(i, 3),
		})
	}
	return dispatch.New(complete(o))
}

// instant answers with the same result each time.
func instant() func() (*mcp.Result, error) {
	res := &mcp.Result{Header: header.List{}, Body: []byte(answerBody)}
	return func() (*mcp.Result, error) {
		*res = mcp.Result{Status: 200, Header: res.Header, Body: res.Body}
		return res, nil
	}
}

// oneEvent answers with the same stream each time.
func oneEvent() func() (*mcp.Result, error) {
	res := &mcp.Result{}
	return func() (*mcp.Result, error) {
		*res = mcp.Result{Status: 200, Events: single{}}
		return res, nil
	}
}

// single is a stream that says its answer for ever.
type single struct{}

func (single) Next() (mcp.Event, error) { return response.event, nil }
func (single) Close() error             { return nil }

// BenchmarkStage is what a call costs in the stage, the server's part being nothing.
func BenchmarkStage(b *testing.B) {
	cases := []struct {
		name      string
		endpoints int
		call      *mcp.Call
		answer    func() (*mcp.Result, error)
	}{
		{"call", 1, post(callBody), instant()},
		{"list", 1, post(listBody), instant()},
		{"call of two endpoints", 2, post(callBody), instant()},
		{"call in a session of two endpoints", 2, post(callBody, "Mcp-Session-Id", "a~1"), instant()},
		{"stream", 1, post(callBody), oneEvent()},
		{"stream of a list", 1, post(listBody), oneEvent()},
		{"notification", 1, of(mcp.LaneNotification, progressBody), instant()},
		{"get stream", 1, of(mcp.LaneStream, ""), instant()},
	}
	for _, c := range cases {
		b.Run(c.name, func(b *testing.B) {
			s := benchStage(c.endpoints, c.answer)
			b.ReportAllocs()
			for b.Loop() {
				use(b, s, c.call)
			}
		})
	}
	b.Run("open", func(b *testing.B) {
		s := benchStage(1, func() (*mcp.Result, error) { return nil, &refused })
		_, _ = s.Call(b.Context(), post(callBody))
		b.ReportAllocs()
		for range b.N { // a probe each time one is due
			_, _ = s.Call(b.Context(), post(listBody))
		}
	})
	b.Run("parallel", func(b *testing.B) {
		s := benchStage(1, func() (*mcp.Result, error) { return &mcp.Result{Status: 200}, nil })
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			c := post(callBody)
			for pb.Next() {
				use(b, s, c)
			}
		})
	})
}

func use(tb testing.TB, s *dispatch.Stage, c *mcp.Call) {
	res, err := s.Call(tb.Context(), c)
	if err != nil {
		tb.Fatal(err)
	}
	if res.Events != nil {
		_, _ = res.Events.Next()
	}
	_ = res.Close()
}

// TestAllocations: a call costs none, but for the one look into an array; nor does what is passed through.
func TestAllocations(t *testing.T) {
	s := benchStage(1, instant())
	for _, c := range []struct {
		call *mcp.Call
		most float64
	}{{post(callBody), 0}, {post(listBody), 0}, {of(mcp.LaneBatch, "["+callBody+"]"), 1}, {of(mcp.LaneNotification, progressBody), 0}, {of(mcp.LaneStream, ""), 0}, {of(mcp.LaneListen, listBody), 0}, {of(mcp.LaneFetch, ""), 0}} {
		if n := testing.AllocsPerRun(1000, func() { use(t, s, c.call) }); n > c.most {
			t.Errorf("lane %d: %v allocations, want %v at most", c.call.Lane, n, c.most)
		}
	}
}
