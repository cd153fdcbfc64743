package rpc

import (
	"context"
	"io"

	"fluentd-perf/internal/mcp"
)

// taker finds the answer to a call in a Result.
type taker struct {
	r     *arrayRun
	c     *mcp.Call
	reply *arrayReply
	own   []byte // a body that was read here, pooled
	held  int    // bytes of the room that have been taken for it
}

func (t *taker) take(ctx context.Context, res *mcp.Result) *mcp.Failure {
	good := res.Status >= 200 && res.Status < 300
	switch {
	case len(res.Body) > 0 && (res.Checked || res.Events == nil):
		return t.found(res.Said())
	case res.Events != nil:
		return t.fromEvents(ctx, res.Events)
	case res.Raw != nil && good && !mcp.IsEncoded(res.Header):
		return t.fromRaw(res.Raw)
	}
	return nil
}

// fromEvents reads a stream to its answer. What else comes has nobody to go to.
func (t *taker) fromEvents(ctx context.Context, events mcp.Events) *mcp.Failure {
	for {
		ev, err := events.Next()
		switch {
		case err == io.EOF:
			return &mcp.Failure{
				Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes,
				Message: "the server's stream ended without a response",
			}
		case err != nil:
			return mcp.AsFailure(err)
		case ev.Failure != nil && mcp.SameID(ev.FailedID, t.c.ID()):
			return ev.Failure
		case ev.Answer:
			return t.found(ev.Data)
		}
		if f := t.aside(ctx, &ev); f != nil {
			return f
		}
	}
}

// aside drops what is no answer. A request of a legacy server is declined, or the server might wait for ever.
func (t *taker) aside(ctx context.Context, ev *mcp.Event) *mcp.Failure {
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

// rawPiece is how much of an answer is read before room is taken for it.
const rawPiece = 32 << 10

// fromRaw reads what nobody has looked at, as far as there is room.
func (t *taker) fromRaw(body io.Reader) *mcp.Failure {
	defer t.letGo()
	pieces, f := t.readPieces(body)
	if f != nil {
		t.putBack(pieces)
		return f
	}
	t.own = t.joined(pieces)
	return t.found(t.own)
}

// readPieces reads a body to its end. Room is taken as it comes, so that all answers under way share what there is.
func (t *taker) readPieces(body io.Reader) (pieces [][]byte, f *mcp.Failure) {
	for {
		piece := t.r.a.opts.Buffers.Get(rawPiece)[:rawPiece]
		n, err := io.ReadFull(body, piece)
		pieces = append(pieces, piece[:n])
		if !t.reply.room.take(n) {
			return pieces, tooManyAnswers(mcp.SentYes)
		}
		t.held += n
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return pieces, nil
		default:
			return pieces, mcp.AsFailure(err)
		}
	}
}

// joined puts the pieces together and gives them back. A single one stays as it is.
func (t *taker) joined(pieces [][]byte) []byte {
	if len(pieces) == 1 {
		return pieces[0]
	}
	t.reply.room.join.Lock()
	defer t.reply.room.join.Unlock()
	whole := t.r.a.opts.Buffers.Get(t.held)
	for i, p := range pieces {
		whole = append(whole, p...)
		t.r.a.opts.Buffers.Put(p)
		pieces[i] = nil
	}
	return whole
}

func (t *taker) putBack(pieces [][]byte) {
	for _, p := range pieces {
		t.r.a.opts.Buffers.Put(p)
	}
}

// letGo gives back the memory and the room of what is not kept.
func (t *taker) letGo() {
	t.r.a.opts.Buffers.Put(t.own)
	t.own = nil
	t.reply.room.give(t.held)
	t.held = 0
}

// found keeps the response in a body that is one, or an array with one in it (2025-03-26, basic/transports). A body that is
// no response to the call leaves the reply without one.
func (t *taker) found(b []byte) *mcp.Failure {
	var m mcp.Message
	if int64(len(b)-t.held) > t.reply.room.left.Load() {
		t.reply.room.full.Store(true)
		return tooManyAnswers(mcp.SentYes)
	}
	if mcp.Scan(b, &m) != nil {
		return nil
	}
	switch {
	case m.Kind == mcp.KindBatch:
		return t.foundAmong(b)
	case t.isAnswer(b, &m):
		return t.keep(b, &m)
	}
	t.reply.spoke = true
	return nil
}

func (t *taker) foundAmong(b []byte) *mcp.Failure {
	spans, err := mcp.Elements(nil, b, maxElements)
	if err != nil {
		return nil
	}
	for _, s := range spans {
		var m mcp.Message
		one := s.Of(b)
		if mcp.Scan(one, &m) == nil && t.isAnswer(one, &m) {
			if f := t.keep(one, &m); f != nil {
				return f
			}
		} else {
			t.r.a.meters.dropped.Inc()
			t.reply.spoke = true
		}
	}
	return nil
}

// isAnswer reports whether a message answers the call and can be taken apart.
func (t *taker) isAnswer(b []byte, m *mcp.Message) bool { return !m.Loose && t.c.Answers(b, m) }

// keep keeps the response, without the white space around it.
func (t *taker) keep(b []byte, m *mcp.Message) *mcp.Failure {
	b = m.Trim(b)
	if t.reply.body != nil {
		t.r.a.meters.dropped.Inc() // a second answer
		return nil
	}
	if !t.claim(len(b)) {
		return tooManyAnswers(mcp.SentYes)
	}
	t.reply.body = t.copied(b)
	t.reply.message = *m
	return nil
}

// claim takes room for n bytes: first of what was taken for the body.
func (t *taker) claim(n int) bool {
	if n > t.held {
		return t.reply.room.take(n)
	}
	t.held -= n
	return true
}

// copied copies a response. One that is nearly all of a body that was read here stays where it is.
func (t *taker) copied(b []byte) []byte {
	const waste = 1 << 10
	if t.own != nil && cap(t.own)-len(b) <= waste {
		t.own = nil
		return b
	}
	return append(t.r.a.opts.Buffers.Get(len(b)), b...)
}
