package stdio

import (
	"context"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

const (
	streamAfter   = 15 * time.Second // an answer that takes longer becomes a stream, so that it can be kept alive
	commentAgain  = 5 * time.Second  // then a second comment: who may send a call again passes the first one on only with another
	maxQueued     = 256              // messages that wait for the agent of one call
	maxQueuedSize = 1 << 20          // bytes of them
)

// exchange is one request under way.
type exchange struct {
	u     *Upstream
	calls *calls
	call  *mcp.Call
	own   []byte // its id in the process
	limit limits
	since uint64 // Lease.Received, when the wait began
	begun time.Time

	mu       sync.Mutex // guards the following
	queue    []message  // for the agent
	received bool       // something has come
	size     int        // bytes of it
	over     bool       // nothing comes any more: an answer, an end
	overflow bool       // a listen stream whose agent does not read
	failure  *mcp.Failure
	more     chan struct{} // has one element when there is something new
	once     sync.Once
}

type message struct {
	data []byte
	m    mcp.Message
}

// take takes a message for the agent. Of one that does not read, notifications are dropped; a listen, of which each says
// that something is stale, ends.
func (x *exchange) take(data []byte, m *mcp.Message) {
	answer := m.Kind.IsAnswer()
	if at := subscriptionID(data, m.ResultMeta); answer && at.Present() {
		data = m.Splice(nil, data, at, x.call.ID())
	}
	if answer {
		x.u.modern.noteGiven(x.calls, data, m)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.received = true
	full := len(x.queue) >= maxQueued || x.size+len(data) > maxQueuedSize && len(x.queue) > 0
	switch {
	case x.over:
		return
	case full && !answer && x.call.Lane == mcp.LaneListen:
		x.over, x.overflow = true, true
	case full && !answer:
		return
	default:
		x.queue = append(x.queue, message{data, *m})
		x.size += len(data)
		x.over = answer
	}
	if answer && x.call.Lane == mcp.LaneRequest {
		x.u.opts.Answered(x.call.Method().Group(), time.Since(x.begun))
	}
	x.wakeLocked()
}

// end ends the exchange without an answer: with a failure, or just so.
func (x *exchange) end(f *mcp.Failure) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over {
		return
	}
	x.over, x.failure = true, f
	x.wakeLocked()
}

func (x *exchange) wakeLocked() {
	select {
	case x.more <- struct{}{}:
	default:
	}
}

// next returns the next message for the agent; over says that there will be none.
func (x *exchange) next() (msg message, ok, more, over bool, f *mcp.Failure) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.queue) == 0 {
		return message{}, false, false, x.over, x.failure
	}
	msg, x.queue = x.queue[0], x.queue[1:]
	x.size -= len(msg.data)
	return msg, true, len(x.queue) > 0, false, nil
}

// answer waits for the first message: the answer alone is a body, all else begins a stream. A listen is a stream at once.
func (x *exchange) answer(ctx context.Context) (*mcp.Result, *mcp.Failure) {
	timer := time.NewTimer(streamAfter)
	defer timer.Stop()
	bound := boundOf(x.limit.first)
	defer bound.Stop()
	s := &stream{x: x, ctx: ctx}
	for {
		msg, ok, more, over, f := x.next()
		switch {
		case ok && msg.m.Kind.IsAnswer() && x.call.Lane == mcp.LaneRequest:
			x.finish(false)
			return x.result(msg), nil
		case ok:
			s.first, s.hasFirst, s.more = msg, true, more
			return s.result(), nil
		case over:
			x.finish(false)
			return nil, x.endedWith(f)
		case x.call.Lane == mcp.LaneListen:
			return s.result(), nil
		}
		select {
		case <-x.more:
		case <-timer.C:
			s.comments = 2
			s.deadline = x.begun.Add(x.limit.first)
			return s.result(), nil
		case <-bound.C:
			f := x.late(x.limit.first)
			x.calls.lease.Check(x.own)
			x.finish(true)
			return nil, f
		case <-ctx.Done():
			return nil, x.left(ctx)
		}
	}
}

// boundOf returns a timer, which never fires for 0.
func boundOf(d time.Duration) *time.Timer {
	if d <= 0 {
		t := time.NewTimer(time.Hour)
		t.Stop()
		return t
	}
	return time.NewTimer(d)
}

// endedWith is the failure of a call whose exchange ended without an answer.
func (x *exchange) endedWith(f *mcp.Failure) *mcp.Failure {
	if f == nil {
		return brokeOff("the server ended the request without an answer")
	}
	own := *f
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.received {
		own.Sent = mcp.SentYes
	}
	return &own
}

// late is the failure of a call that took too long.
func (x *exchange) late(after time.Duration) *mcp.Failure {
	f := &mcp.Failure{
		Code: mcp.CodeDeadlinePassed, Reason: mcp.ReasonFirstByte, Sent: mcp.SentUnknown,
		Silent: x.calls.lease.Received() == x.since, Message: "the server did not begin to answer within " + after.String(),
	}
	if x.call.Method().Unhurried() {
		f.Reason, f.Message = mcp.ReasonCallTimeout, "the server did not answer within "+after.String()
	}
	return f
}

// leave gives the call up for its agent, unless it is over.
func (x *exchange) leave() {
	if x.call.Lane == mcp.LaneRequest {
		x.calls.lease.GaveUp(x.own, time.Since(x.begun))
	}
	x.finish(true)
}

// left gives the call up and returns the failure of one whose agent did not wait.
func (x *exchange) left(ctx context.Context) *mcp.Failure {
	f := mcp.Canceled(ctx, mcp.SentUnknown)
	f.Silent, f.Waited = x.calls.lease.Received() == x.since, time.Since(x.begun)
	x.leave()
	return f
}

// result is a whole answer.
func (x *exchange) result(msg message) *mcp.Result {
	if x.call.Method() == mcp.MethodToolsList && msg.m.Kind == mcp.KindResult {
		x.u.modern.params.learn(msg.m.Result.Of(msg.data))
	}
	res := jsonResult(x.call, statusOf(x.call, msg.data, &msg.m), msg.data, &msg.m)
	res.Timing.Upstream = time.Since(x.begun)
	res.Timing.FirstByte = res.Timing.Upstream
	return res
}

// finish lets go of the process. Where the answer has not come, the server is told that nobody waits for it.
func (x *exchange) finish(cancel bool) {
	x.once.Do(func() {
		own, k := x.own, x.calls
		if x.call.Lane == mcp.LaneListen {
			k.lease.addListens(-1)
		}
		k.mu.Lock()
		delete(k.open, x)
		gone := k.ended != nil
		if cancel {
			k.gaveUp = time.Now()
		}
		k.mu.Unlock()
		if cancel && !gone {
			k.lease.Forget(own)
			told := func() {
				k.tell(cancelled(own))
				k.lease.Leave()
			}
			if k.lease.pool.run(told) {
				return
			}
		}
		k.lease.Leave()
	})
}

// cancelled is a notifications/cancelled of a request of the daemon's own id.
func cancelled(own []byte) []byte {
	b := append([]byte(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`), own...)
	return append(b, `,"reason":"nobody waits for the answer"}}`...)
}
