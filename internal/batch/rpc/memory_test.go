package rpc_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"fluentd-perf/internal/batch/rpc"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// slowEnd is a body whose end comes when the gate is opened. It counts what has been read of it until it is closed.
type slowEnd struct {
	text *strings.Reader
	gate chan struct{}
	held *atomic.Int64
	own  int64
}

func (b *slowEnd) Read(p []byte) (int, error) {
	n, err := b.text.Read(p)
	if err == io.EOF {
		<-b.gate
	}
	b.own += int64(n)
	b.held.Add(int64(n))
	return n, err
}

func (b *slowEnd) Close() error {
	b.held.Add(-b.own)
	return nil
}

// TestArrayRoomIsShared reads many large answers at once: together they hold no more than rpc.answers and a piece each.
func TestArrayRoomIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const limit, each, calls, piece = 8 << 20, 512 << 10, 32, 32 << 10
		var held atomic.Int64
		gate := make(chan struct{})
		r := newArrayRig(func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
			text := okBody(c, `"`+strings.Repeat("x", each)+`"`)
			return &mcp.Result{Status: 200, Header: header.List{}, Raw: &slowEnd{text: strings.NewReader(text), gate: gate, held: &held}}, nil
		}, func(o *rpc.Options) { o.Plain, o.Answers = true, limit })
		var elements []string
		for i := range calls {
			elements = append(elements, fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"m"}`, i))
		}
		done := make(chan []reply)
		go func() { done <- r.answers(t, t.Context(), joinElements(elements)) }()
		synctest.Wait()
		if n := held.Load(); n > limit+calls*piece {
			t.Errorf("%d bytes of answers are held, the limit is %d", n, limit)
		}
		close(gate)
		answered := 0
		for _, p := range <-done {
			switch {
			case p.Error == nil && len(p.Result) == each+2:
				answered++
			case p.Error == nil || p.Error.Data.Reason != "rpc_answers":
				t.Errorf("got %.200s", p)
			}
		}
		if answered > limit/each {
			t.Errorf("%d of %d were answered", answered, calls)
		}
		r.close(t)
	})
}

// TestArrayLargeRaw puts large answers together as they were, whatever stands around them, fills the room to the byte, and keeps
// no room for what is not kept.
func TestArrayLargeRaw(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 20_000) // ten pieces
	var closed atomic.Int64
	for name, around := range map[string][2]string{
		"alone": {"", ""}, "blanks": {"  \n", strings.Repeat(" ", 100_000)}, "in an array": {"[" + `{"jsonrpc":"2.0","method":"n"},`, "]"},
	} {
		var size, kept int64
		server := func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
			text := strings.TrimSpace(okBody(c, fmt.Sprintf("%q", long)))
			kept = int64(len(text))
			text = around[0] + text + around[1]
			size = int64(len(text))
			return &mcp.Result{Status: 200, Header: header.List{}, Raw: rawBody(text, 9000, io.EOF, &closed)}, nil
		}
		ask := func(answers int64, want ...string) {
			r := newArrayRig(server, func(o *rpc.Options) { o.Plain, o.Concurrency, o.Answers = true, 1, answers })
			wantReplies(t, r.answers(t, t.Context(), joinElements(repeat(`{"jsonrpc":"2.0","id":1,"method":"m"}`, len(want)))), want...)
			r.close(t)
		}
		ok := fmt.Sprintf("1: %q", long)
		ask(1<<20, ok)
		ask(size, ok)
		ask(size+kept, ok, ok)
		ask(size-1, "1: error 1413 rpc_answers, sent yes")
		if t.Failed() {
			t.Fatal(name)
		}
	}
}
