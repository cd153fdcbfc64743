package rpc

import (
	"context"
	"io"
	"maps"

	"fluentd-perf/internal/era"
	"fluentd-perf/internal/mcp"
)

// reply is what came back of one call. Its Body is pooled.
type reply struct {
	era.Reply
	loss mcp.Loss // of the session on which the call went out
	room *mcp.Budget
}

// free gives up a reply of which the body is of no use.
func (p *reply) free(r *run) {
	if p.Body != nil {
		p.room.Put(len(p.Body))
		r.a.opts.Buffers.Put(p.Body)
		p.Body = nil
	}
}

func tooManyAnswers(sent mcp.Sent) *mcp.Failure {
	return &mcp.Failure{
		Code: mcp.CodeTooLarge, Reason: mcp.ReasonRPCAnswers, Sent: sent,
		Message: "the answers of the array are over rpc.answers together",
	}
}

// exchange sends one call and reads its answer, within the room. The failure's Sent is true to the facts.
func (r *run) exchange(ctx context.Context, c *mcp.Call, room *mcp.Budget) (reply, *mcp.Failure) {
	res, err := r.a.opts.Next.Call(ctx, c)
	if err != nil {
		return reply{}, ended(ctx, mcp.AsFailure(err))
	}
	defer func() { _ = res.Close() }() // whatever there was to read has been read
	p := reply{Reply: era.Reply{Status: res.Status, Header: maps.Clone(res.Header), Repeatable: c.Repeatable()}, loss: mcp.LossOf(c, res), room: room}
	if c.Lane == mcp.LaneNotification {
		return p, nil
	}
	t := reading{r: r, c: c, reply: &p}
	f := t.result(ctx, res)
	room.Put(t.held)
	if f != nil {
		p.free(r)
		return reply{}, ended(ctx, f)
	}
	return p, nil
}

// reading finds the answer to a call in a Result.
type reading struct {
	r     *run
	c     *mcp.Call
	reply *reply
	held  int // bytes of the room that have been taken for a body that is being read
}

func (t *reading) result(ctx context.Context, res *mcp.Result) *mcp.Failure {
	switch {
	case len(res.Body) > 0 && (res.Checked || res.Events == nil):
		return t.found(res.Said())
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
	case mcp.KindRequest:
		t.r.a.meters.dropped.Inc()
		if t.c.Era == mcp.EraLegacy {
			return t.decline(ctx, ev)
		}
	case mcp.KindNotification, mcp.KindBatch:
		t.r.a.meters.dropped.Inc()
	}
	return nil
}

// pieceSize is how much of an answer is read before room is taken for it.
const pieceSize = 32 << 10

// body reads what nobody has looked at. Room is taken as it comes, so that all answers under way share what there is.
func (t *reading) body(from io.Reader) *mcp.Failure {
	buffers := t.r.a.opts.Buffers
	b := buffers.Get(pieceSize)
	defer func() { buffers.Put(b) }()
	for {
		if len(b) == cap(b) {
			small := b
			b = append(buffers.Get(2*cap(small)), small...)
			buffers.Put(small)
		}
		n, err := from.Read(b[len(b):min(len(b)+pieceSize, cap(b))])
		b = b[:len(b)+n]
		if !t.take(n) {
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

func (t *reading) take(n int) bool {
	ok := t.reply.room.Take(n)
	if !ok && t.reply.room == t.r.room {
		t.r.full.Store(true)
	}
	return ok
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
		one := s.Of(b)
		if mcp.Scan(one, &m) != nil {
			m = mcp.Message{}
		}
		if f := t.message(one, &m); f != nil {
			return f
		}
	}
	return nil
}

// message keeps a message that is the response to the call, without the white space around it.
func (t *reading) message(b []byte, m *mcp.Message) *mcp.Failure {
	answers := !m.Loose && t.c.Answers(b, m)
	if !answers || t.reply.Body != nil {
		t.reply.Spoke = t.reply.Spoke || !answers
		t.r.a.meters.dropped.Inc()
		return nil
	}
	b = m.Trim(b)
	held := min(len(b), t.held) // first of what was taken for the body
	t.held -= held
	if !t.take(len(b) - held) {
		t.held += held
		return tooManyAnswers(mcp.SentYes)
	}
	t.reply.Body, t.reply.Message = append(t.r.a.opts.Buffers.Get(len(b)), b...), *m
	return nil
}
