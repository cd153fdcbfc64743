package daemon

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

// pipeReply is what one caller got.
type pipeReply struct {
	code          int    // of HTTP
	body          string // of the answer; the last event's of a stream
	notifications int    // notifications before it
	collapsed     bool
	cookie        string
	status        string // Cache-Status
	failure       *mcp.Failure
	at            time.Duration // since the wave began
}

// ask sends one call and reads the whole answer.
func (p *pipe) ask(ctx context.Context, c *mcp.Call) (r pipeReply) {
	start := time.Now()
	res, err := p.stage.Call(ctx, c)
	if err != nil {
		if !errors.As(err, &r.failure) {
			p.t.Errorf("an error that is no Failure: %v", err)
		}
		r.at = time.Since(start)
		return r
	}
	r.code = res.Status
	r.body, r.collapsed = string(res.Body), res.Collapsed
	r.cookie, r.status = res.Header.Get("Set-Cookie"), res.Header.Get("Cache-Status")
	for res.Events != nil {
		ev, err := res.Events.Next()
		if err != nil {
			break
		}
		if r.body = string(ev.Data); !ev.Answer {
			r.notifications++
		}
	}
	r.at = time.Since(start)
	if err := res.Close(); err != nil {
		p.t.Errorf("closing an answer: %v", err)
	}
	return r
}

// wave sends calls at the same time and returns what each got, in their order.
func (p *pipe) wave(calls ...*mcp.Call) []pipeReply {
	replies := make([]pipeReply, len(calls))
	var wg sync.WaitGroup
	for i, c := range calls {
		wg.Go(func() { replies[i] = p.ask(context.Background(), c) })
	}
	wg.Wait()
	return replies
}

// pipeEqual returns n equal calls of one credential under different ids.
func pipeEqual(n int, whose string) []*mcp.Call {
	calls := make([]*mcp.Call, n)
	for i := range calls {
		calls[i] = pipeList(whose, pipeID(i))
	}
	return calls
}

// wantIDs checks that each call got an answer under its own id.
func (p *pipe) wantIDs(calls []*mcp.Call, replies []pipeReply) {
	p.t.Helper()
	for i, r := range replies {
		if r.failure != nil {
			p.t.Fatalf("call %d failed: %v", i, r.failure)
		}
		var m mcp.Message
		if err := mcp.Scan([]byte(r.body), &m); err != nil || string(m.ID.Of([]byte(r.body))) != string(calls[i].ID()) {
			p.t.Fatalf("call %d, id %s: %v: %s", i, calls[i].ID(), err, r.body)
		}
	}
}

// pipeText returns the text by which an answer is known.
func pipeText(r pipeReply) string {
	_, rest, _ := strings.Cut(r.body, `"text":"`)
	text, _, _ := strings.Cut(rest, `"`)
	return text
}

// wantCalls checks how often the server was called since the last time.
func (p *pipe) wantCalls(n int) {
	p.t.Helper()
	if got := p.server.seen(); len(got) != n {
		p.t.Fatalf("the server was called %d times, want %d", len(got), n)
	}
}
