package session_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session"
)

// minting is a legacy server that gives every session an id of its own, and lets GET streams stand.
type minting struct {
	n    int
	name string // its own
}

func (m *minting) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	res := &mcp.Result{Status: http.StatusOK, Header: header.Of(http.Header{"Content-Type": {"application/json"}})}
	if c.Lane == mcp.LaneStream {
		res.Events = standing{ctx}
		return res, nil
	}
	m.n++
	res.Header.Set("Mcp-Session-Id", fmt.Sprintf("%s-%d", c.Upstream, m.n))
	res.Body = []byte(`{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"` + m.name + `"}}}`)
	must(mcp.Scan(res.Body, &res.Message))
	return res, nil
}

// standing is a stream on which nothing comes.
type standing struct{ ctx context.Context }

func (s standing) Next() (mcp.Event, error) {
	<-s.ctx.Done()
	return mcp.Event{}, &mcp.Failure{Reason: mcp.ReasonCanceled}
}

func (standing) Close() error { return nil }

// bounded are the stages of several upstreams with one bound.
type bounded struct {
	t      *testing.T
	stages []*session.Stage
}

func newBounded(t *testing.T, upstreams int, server string) *bounded {
	b, bound := &bounded{t: t}, new(session.Bound)
	for range upstreams {
		s := session.New(session.Options{
			Next: &minting{name: server}, Heal: session.HealReads, Credential: credential, Base: t.Context(), Bound: bound,
		})
		t.Cleanup(s.Close)
		b.stages = append(b.stages, s)
	}
	return b
}

func (b *bounded) call(upstream int, c *mcp.Call) *mcp.Result {
	b.t.Helper()
	c.Upstream = fmt.Sprint(upstream)
	if c.Body != nil {
		must(mcp.Scan(c.Body, &c.Message))
	}
	res, err := b.stages[upstream].Call(b.t.Context(), c)
	must(err)
	return res
}

// begin opens a session with an initialize of about that size, and never ends it.
func (b *bounded) begin(upstream, size int) {
	b.t.Helper()
	body := []byte(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"x":"` + strings.Repeat("0", size) + `"}}`)
	must(b.call(upstream, &mcp.Call{Lane: mcp.LaneRequest, Header: header.List{}, Body: body}).Close())
}

func (b *bounded) sessions() (all []int, sum int) {
	for _, s := range b.stages {
		all = append(all, s.Status().Sessions)
		sum += s.Status().Sessions
	}
	return all, sum
}

// TestBoundOverAll: sessions that are left without DELETE are bounded over all upstreams, by number and by bytes, and those
// of another upstream go first if they were used longest ago.
func TestBoundOverAll(t *testing.T) {
	for name, c := range map[string]struct {
		size  int
		begun int    // sessions of the upstream that is used last: more than there is room for
		want  [2]int // sessions in all, at least and at most
	}{
		"small": {100, 10_000, [2]int{10_000, 10_000}},
		"large": {10_000, 3200, [2]int{2800, 3100}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBounded(t, 3, "s")
			for upstream, n := range []int{1000, 1000, c.begun} {
				for range n {
					b.begin(upstream, c.size)
				}
			}
			all, sum := b.sessions()
			if sum < c.want[0] || sum > c.want[1] || all[0] != 0 || all[1] != 0 {
				t.Errorf("%v sessions are known", all)
			}
			if got := b.stages[0].Weight(); got > 32<<20 {
				t.Errorf("they weigh %d bytes", got)
			}
		})
	}
}

// TestServerNameWeighsNothing: of what a server says of itself no more than a hash is kept.
func TestServerNameWeighsNothing(t *testing.T) {
	b := newBounded(t, 1, strings.Repeat("0", 9999))
	b.begin(0, 100)
	if got := b.stages[0].Weight(); got == 0 || got > 2<<10 {
		t.Errorf("a session weighs %d bytes", got)
	}
}

// TestBoundSparesStreams: who holds a stream open is in use, however long it has said nothing.
func TestBoundSparesStreams(t *testing.T) {
	b := newBounded(t, 2, "s")
	b.begin(0, 100)
	b.begin(0, 100)
	stream := b.call(0, &mcp.Call{Lane: mcp.LaneStream, Header: header.Of(http.Header{"Mcp-Session-Id": {"0-1"}})})
	for range 10_000 {
		b.begin(1, 100)
	}
	if all, _ := b.sessions(); all[0] != 1 || all[1] != 9999 {
		t.Errorf("%v sessions are known", all)
	}
	must(stream.Close())
	for range 10_000 {
		b.begin(1, 100)
	}
	if all, _ := b.sessions(); all[0] != 0 || all[1] != 10_000 {
		t.Errorf("after its end %v sessions are known", all)
	}
}

// TestBoundIsMemory: what the sessions weigh is about what they take.
func TestBoundIsMemory(t *testing.T) {
	b := newBounded(t, 12, "s")
	before := heap()
	for upstream := range 12 {
		for range 2000 {
			b.begin(upstream, 3000)
		}
	}
	if grown := heap() - before; grown > 48<<20 {
		t.Errorf("%d MB for sessions", grown>>20)
	}
	runtime.KeepAlive(b)
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
