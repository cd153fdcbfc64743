package rpc

import (
	"context"
	"io"

	"fluentd-perf/internal/era"
	"fluentd-perf/internal/mcp"
)

// reply is what came back of one call. Its Body is pooled.
type reply struct {
	era.Reply
	loss mcp.Loss // of the session on which the call went out
}

// drop gives up a reply to a call within the array's budget.
func (p *reply) drop(r *run) {
	r.budget.Put(len(p.Body))
	r.a.opts.Buffers.Put(p.Body)
}

func tooManyAnswers(sent mcp.Sent) *mcp.Failure {
	return &mcp.Failure{
		Code: mcp.CodeTooLarge, Reason: mcp.ReasonRPCAnswers, Sent: sent,
		Message: "the answers of the array are over rpc.answers together",
	}
}

// callOnce sends one call and reads its answer, within the budget. The failure's Sent is true to the facts.
func (r *run) callOnce(ctx context.Context, c *mcp.Call, budget *mcp.Budget) (reply, *mcp.Failure) {
	res, err := r.a.opts.Next.Call(ctx, c)
	if err != nil {
		return reply{}, ended(ctx, mcp.AsFailure(err))
	}
	defer func() { _ = res.Close() }() // whatever there was to read has been read
	t := reading{r: r, c: c, budget: budget, reply: reply{
		Reply: era.Reply{Status: res.Status, Header: res.Header.Clone(), Repeatable: c.Repeatable()}, loss: mcp.LossOf(c, res),
	}}
	if c.Lane == mcp.LaneNotification {
		return t.reply, nil
	}
	if f := t.result(ctx, res); f != nil {
		return reply{}, ended(ctx, f)
	}
	return t.reply, nil
}

// reading finds the answer to a call in a Result.
type reading struct {
	r      *run
	c      *mcp.Call
	budget *mcp.Budget
	held   int // bytes of the budget that have been taken for a body that is being read
	reply
}

func (t *reading) result(ctx context.Context, res *mcp.Result) *mcp.Failure {
	switch {
	case len(res.Body) > 0 && (res.Checked || res.Events == nil):
		return t.found(res.Scanned())
	case res.Events != nil:
		data, f := mcp.ReadAnswer(res.Events, t.c.ID(), func(ev *mcp.Event) *mcp.Failure { return t.other(ctx, ev) })
		if f != nil {
			return f
		}
		return t.found(data)
	case res.Raw != nil && res.Status >= 200 && res.Status < 300 && !mcp.IsEncoded(res.Header):
		return t.body(res.Raw)
	}
	return nil
}

// other drops what is no answer. A request of a legacy server is declined, or the server might wait for ever.
func (t *reading) other(ctx context.Context, ev *mcp.Event) *mcp.Failure {
	switch ev.Message.Kind {
	case mcp.KindRequest, mcp.KindNotification, mcp.KindBatch:
		t.r.a.meters.dropped.Inc()
	}
	if ev.Message.Kind == mcp.KindRequest && t.c.Era == mcp.EraLegacy {
		return t.decline(ctx, ev)
	}
	return nil
}

// pieceSize is how much of an answer is read before the budget is asked for it.
const pieceSize = 32 << 10

// body reads a body that has not been read yet. The budget is taken from as it comes, so that all answers under way share what there
// is.
func (t *reading) body(from io.Reader) *mcp.Failure {
	buffers := t.r.a.opts.Buffers
	b := buffers.Get(pieceSize)
	defer func() {
		buffers.Put(b)
		t.budget.Put(t.held)
	}()
	for {
		if len(b) == cap(b) {
			small := b
			b = append(buffers.Get(2*cap(small)), small...)
			buffers.Put(small)
		}
		n, err := from.Read(b[len(b):min(len(b)+pieceSize, cap(b))])
		b = b[:len(b)+n]
		if !t.budget.Take(n) {
			return tooManyAnswers(mcp.SentYes)
		}
		t.held += n
		switch err {
		case nil:
		case io.EOF:
			return t.found(b)
		default:
			return mcp.AsFailure(err)
		}
	}
}

// found keeps the response in a body that is one, or an array with one in it (2025-03-26, basic/transports). A body that is
// no response to the call leaves the reply without one.
func (t *reading) found(b []byte) *mcp.Failure {
	var m mcp.Message
	if mcp.Scan(b, &m) != nil {
		return nil
	}
	if m.Kind != mcp.KindBatch {
		return t.message(b, &m)
	}
	spans, err := mcp.Elements(nil, b, maxElements)
	if err != nil {
		return nil
	}
	for _, s := range spans {
		_ = mcp.Scan(s.Of(b), &m) // the kind of what is no message is KindInvalid
		if f := t.message(s.Of(b), &m); f != nil {
			return f
		}
	}
	return nil
}

// message keeps a message that is the response to the call, without the white space around it.
func (t *reading) message(b []byte, m *mcp.Message) *mcp.Failure {
	answers := !m.Loose && t.c.Answers(b, m)
	if !answers || t.Body != nil {
		t.OtherMessages = t.OtherMessages || !answers
		t.r.a.meters.dropped.Inc()
		return nil
	}
	b = m.Trim(b)
	held := min(len(b), t.held) // first of what was taken for the body
	if !t.budget.Take(len(b) - held) {
		return tooManyAnswers(mcp.SentYes)
	}
	t.held -= held
	t.Body, t.Message = append(t.r.a.opts.Buffers.Get(len(b)), b...), *m
	return nil
}
