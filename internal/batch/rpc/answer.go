package rpc

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// answerRoom is the memory that the answers of an array may take together.
type answerRoom struct {
	left atomic.Int64
	full atomic.Bool // an answer did not fit: no request goes out any more
	join sync.Mutex  // held while an answer that came in pieces is put together: for that time it takes its room twice
}

// take takes n bytes, or notes that there are not as many.
func (a *answerRoom) take(n int) bool {
	for {
		left := a.left.Load()
		if left < int64(n) {
			a.full.Store(true)
			return false
		}
		if a.left.CompareAndSwap(left, left-int64(n)) {
			return true
		}
	}
}

// give gives back what was taken.
func (a *answerRoom) give(n int) { a.left.Add(int64(n)) }

func tooManyAnswers(sent mcp.Sent) *mcp.Failure {
	return &mcp.Failure{
		Code: mcp.CodeTooLarge, Reason: mcp.ReasonRPCAnswers, Sent: sent,
		Message: "the answers of the array are over rpc.answers together",
	}
}

// arrayReply is what came back of one call.
type arrayReply struct {
	status  int
	header  http.Header
	body    []byte      // one response, pooled; nil where there was none
	message mcp.Message // what the scan of body found
	room    *answerRoom // of which the body is a part
	repeats bool        // the call may run twice
	spoke   bool        // the server said something in JSON-RPC that is no answer that can be taken apart
}

// free gives up a reply of which the body is of no use.
func (p *arrayReply) free(r *arrayRun) {
	if p.body != nil {
		p.room.give(len(p.body))
		r.a.opts.Buffers.Put(p.body)
		p.body = nil
	}
}

// noAnswer is the failure of a request of which the answer is no JSON-RPC: a status that says all, most likely.
func (p *arrayReply) noAnswer() *mcp.Failure {
	f := &mcp.Failure{
		Code: mcp.CodeBadGateway, Reason: mcp.ReasonBadAnswer, Sent: mcp.SentYes,
		Message: fmt.Sprintf("the server answered with HTTP status %d", p.status),
	}
	if p.status >= 200 && p.status < 300 {
		f.Message += " and no JSON-RPC response"
	}
	if s, err := strconv.ParseUint(p.header.Get("Retry-After"), 10, 16); err == nil {
		f.RetryAfter = time.Duration(s) * time.Second
	}
	return f
}

// errorCode returns the code of the JSON-RPC error that the reply is, or 0.
func (p *arrayReply) errorCode() int {
	if p.message.Kind != mcp.KindError {
		return 0
	}
	n, err := strconv.Atoi(string(p.message.ErrorCode.Of(p.body)))
	if err != nil {
		return 0
	}
	return n
}

// exchange sends one call and reads its answer, within the room. The failure's Sent is true to the facts.
func (r *arrayRun) exchange(ctx context.Context, c *mcp.Call, room *answerRoom) (arrayReply, *mcp.Failure) {
	res, err := r.a.opts.Next.Call(ctx, c)
	if err != nil {
		return arrayReply{}, ended(ctx, mcp.AsFailure(err))
	}
	defer func() { _ = res.Close() }() // whatever there was to read has been read
	p := arrayReply{status: res.Status, header: res.Header, room: room, repeats: c.Repeatable()}
	if c.Lane == mcp.LaneNotification {
		return p, nil
	}
	t := taker{r: r, c: c, reply: &p}
	if f := t.take(ctx, res); f != nil {
		p.free(r)
		return arrayReply{}, ended(ctx, f)
	}
	return p, nil
}
