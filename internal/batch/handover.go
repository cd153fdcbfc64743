package batch

import (
	"bytes"
	"context"
	"net/http"

	"fluentd-perf/internal/mcp"
)

// handOver gives the leader an answer that is for it alone, under its own id. A stream keeps the flight's context alive
// until it is closed, or the leader's ends.
func (f *flight) handOver(ctx context.Context, c *mcp.Call, w *waiter) (*mcp.Result, error) {
	res := f.own
	if isEncoded(res.Header) {
		w.closed() // whatever goes to the server now has the leader's id
		return f.unreadable(ctx, c)
	}
	switch {
	case res.Events != nil:
		res.Events = &ownEvents{events: res.Events, id: c.ID(), resumable: c.Era == mcp.EraLegacy}
	case res.Raw != nil:
		res.Raw = &replacer{src: res.Raw, old: f.call.ID(), new: c.ID()}
		delete(res.Header, "Content-Length")
	default:
		res.Body = f.ownBody(res, c)
	}
	f.bind(ctx, res, w)
	return res, nil
}

// goesOn reports whether a flight that has landed has an answer for its leader that may have only begun. The server knows
// the call by the flight's id.
func (f *flight) goesOn() bool {
	return f.own != nil && (f.shared == nil || f.own.Events != nil)
}

// bind makes the flight's context end with the leader's, or when its answer is closed. Until then the leader's agent may
// cancel it.
func (f *flight) bind(ctx context.Context, res *mcp.Result, w *waiter) {
	stop := context.AfterFunc(ctx, func() { f.cancel(context.Cause(ctx)) })
	release := res.Release
	res.Release = func() {
		stop()
		w.closed()
		f.cancel(nil)
		if release != nil {
			release()
		}
	}
}

// ownBody returns a whole answer under the leader's id: a checked one, an error that came with an HTTP status, or text
// that may quote the id.
func (f *flight) ownBody(res *mcp.Result, c *mcp.Call) []byte {
	m := &res.Message
	if !res.Checked {
		var found mcp.Message
		if mcp.Scan(res.Body, &found) != nil || !mcp.SameID(found.ID.Of(res.Body), f.call.ID()) {
			return replaced(res.Body, f.call.ID(), c.ID())
		}
		m = &found
	}
	if !namesCall(m, res.Body) {
		return res.Body
	}
	at := m.ID
	body := splice(make([]byte, 0, len(res.Body)+len(c.ID())), res.Body, at, c.ID())
	move(m, at, len(c.ID()))
	return body
}

func replaced(body, old, id []byte) []byte {
	if !bytes.Contains(body, old) {
		return body
	}
	return bytes.ReplaceAll(body, old, id)
}

// isEncoded reports whether the bytes of an answer are not its text, though the daemon asks for nothing else.
func isEncoded(h http.Header) bool {
	for _, v := range h["Content-Encoding"] {
		if v != "" && v != "identity" {
			return true
		}
	}
	return false
}

// unreadable is what becomes of an answer in which the id cannot be put back. The leader asks again by itself, as the
// followers do; but what may not run twice is not sent twice for one call.
func (f *flight) unreadable(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	closeQuietly(f.own)
	f.cancel(nil)
	if f.group.opts.Repeatable(c) {
		return f.group.opts.Next.Call(ctx, c)
	}
	return nil, badAnswer("the server's answer is encoded, though that was not asked for")
}

func badAnswer(message string) *mcp.Failure {
	return &mcp.Failure{
		Code: mcp.CodeBadGateway, Reason: mcp.ReasonBadAnswer, Sent: mcp.SentYes, Message: message,
	}
}
