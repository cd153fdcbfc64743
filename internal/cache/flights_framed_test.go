package cache_test

import (
	"context"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
)

// framed is a stream that carries one answer, which everybody may have.
func framed(ctx context.Context, c *mcp.Call, end error, closed *atomic.Int64) *mcp.Result {
	whole := shareable(c, "ok")
	res := stream(ctx, "id: 7\nretry: 100\ndata: \n\nevent: message\ndata: "+string(whole.Body)+"\n\n", end, closed)
	res.Header.Set("Cache-Control", "no-cache")
	res.Header.Set("Set-Cookie", "user=leader")
	res.Body, res.Message, res.Checked = whole.Body, whole.Message, true
	setShare(res, true)
	return res
}

// TestFramed: an answer that the server framed as a stream goes to the leader as it came, under its own id, and to the
// others as JSON.
func TestFramed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closed atomic.Int64
		r := flightNewRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
			return framed(ctx, c, io.EOF, &closed), flightAfter(ctx, time.Second)
		})
		var leader got
		var wg sync.WaitGroup
		wg.Go(func() {
			c := list(`"the leader"`)
			c.Era = mcp.EraModern
			leader = r.call(context.Background(), c)
		})
		synctest.Wait()
		all := r.wave(10)
		wg.Wait()
		wantCalls(t, r, 1)
		if wantAnswers(t, all, "ok") != 10 {
			t.Error("a follower's answer was its own")
		}
		for _, g := range all {
			if g.header.Get("Content-Type") != "application/json" || g.header.Get("Cache-Control") != "" || g.header.Get("Set-Cookie") != "" {
				t.Fatalf("a follower's header is %v", g.header)
			}
		}
		want := "id: 7\nretry: 100\ndata: \n\nevent: message\n" +
			`data: {"result":{"ttlMs":5,"text":"ok"},"jsonrpc":"2.0","id":"the leader"}` + "\n\n"
		if leader.err != nil || leader.body != want || leader.header.Get("Set-Cookie") == "" {
			t.Errorf("the leader got %v %v\n%q, want\n%q", leader.err, leader.header, leader.body, want)
		}
		if closed.Load() != 1 {
			t.Errorf("the stream was closed %d times", closed.Load())
		}
		r.Wait()
	})
}

// TestFramedStaysOpen: the followers do not wait for a server that leaves the stream open, and the leader's end ends it.
func TestFramedStaysOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closed, open atomic.Int64
		r := flightNewRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
			if err := flightAfter(ctx, time.Second); err != nil {
				return nil, err
			}
			open.Add(1)
			context.AfterFunc(ctx, func() { open.Add(-1) })
			return framed(ctx, c, nil, &closed), nil
		})
		cancel, answer := r.leader()
		for _, g := range r.wave(3) {
			if g.err != nil || g.took > time.Second {
				t.Fatalf("a follower got %v after %v", g.err, g.took)
			}
		}
		<-time.After(time.Minute)
		if open.Load() != 1 || closed.Load() != 0 {
			t.Fatal("the leader's stream has ended")
		}
		cancel(nil)
		g := <-answer
		wantFailure(t, g.err, 0, mcp.ReasonCanceled)
		synctest.Wait()
		if open.Load() != 0 || closed.Load() != 1 || !strings.Contains(g.body, `"text":"ok"`) {
			t.Errorf("open %d, closed %d, got %q", open.Load(), closed.Load(), g.body)
		}
		r.Wait()
	})
}

// TestFramedWithoutLeader: the stream of a leader that has left is closed, and the followers have their answers.
func TestFramedWithoutLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var closed, open atomic.Int64
		r := flightNewRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
			if err := flightAfter(ctx, time.Second); err != nil {
				return nil, err
			}
			open.Add(1)
			context.AfterFunc(ctx, func() { open.Add(-1) })
			return framed(ctx, c, nil, &closed), nil
		})
		cancel, answer := r.leader()
		go func() {
			<-time.After(time.Second / 2)
			cancel(nil)
		}()
		if wantAnswers(t, r.wave(3), "ok") != 3 {
			t.Error("an answer was not shared")
		}
		<-answer
		synctest.Wait()
		if open.Load() != 0 || closed.Load() != 1 {
			t.Errorf("open %d, closed %d", open.Load(), closed.Load())
		}
		r.Wait()
	})
}
