package cache

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"slices"

	"fluentd-perf/internal/mcp"
)

// callServer calls the server for an answer that may be kept or shared. Most servers frame every answer as a stream: where a stream
// begins with the answer, and has nothing before it but priming events and comments, the answer is in Body as well, checked. The
// stream itself still delivers all events from its beginning, as any other stream does. One that ends before the answer is a
// failure, unless a legacy client may ask for the rest of it.
func (u *Stage) callServer(ctx context.Context, c *mcp.Call, q *request) (*mcp.Result, error) {
	res, err := u.send(ctx, c, q.principal, q.credential)
	if err != nil || res.Events == nil || res.Status != http.StatusOK {
		return res, err
	}
	r := &replayed{Events: res.Events}
	res.Events = r
	for {
		ev, err := r.Events.Next()
		switch {
		case err != nil && r.resumable(c):
			r.err = err
			return res, nil
		case err != nil:
			u.store.discard(res)
			return nil, brokenStream(err)
		case ev.Partial || ev.Answer: // handed on, whatever it is
		case isComment(&ev) && len(r.before) == maxReplay:
			continue // dropped: it has kept the connection open, which was all it was for
		case len(ev.Data) == 0 && ev.Failure == nil && len(r.before) < maxReplay:
			r.before = append(r.before, keepEvent(ev)) // a priming event, a comment
			continue
		}
		if ev.Exact && plainAnswer(&ev) {
			res.Body = append(make([]byte, 0, len(ev.Data)), ev.Data...)
			res.Message, res.Checked = ev.Message, true
		}
		r.before = append(r.before, ev) // valid until the stream is read on
		return res, nil
	}
}

// resumable reports whether a legacy client could ask for the rest of the stream by the id of an event (2025-11-25,
// basic/transports, "Resumability and Redelivery").
func (r *replayed) resumable(c *mcp.Call) bool {
	return c.Era == mcp.EraLegacy && slices.ContainsFunc(r.before, func(ev mcp.Event) bool { return len(ev.ID) > 0 })
}

// brokenStream is the failure of a call whose stream ended without the answer.
func brokenStream(err error) error {
	if err != io.EOF {
		return err
	}
	return &mcp.Failure{
		Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes,
		Message: "the server's stream ended without a response",
	}
}

func isComment(ev *mcp.Event) bool {
	return len(ev.Data) == 0 && ev.Data == nil && !ev.HasID && ev.Retry == nil && ev.Failure == nil && len(ev.Name) == 0
}

// plainAnswer reports whether the event is a message as it would be in a JSON body.
func plainAnswer(ev *mcp.Event) bool {
	return ev.Failure == nil && (ev.Message.Kind == mcp.KindResult || ev.Message.Kind == mcp.KindError) &&
		(len(ev.Name) == 0 || string(ev.Name) == "message")
}

// maxReplay bounds the priming events and comments before an answer.
const maxReplay = 16

// keepEvent copies an event without data, to deliver it again.
func keepEvent(ev mcp.Event) mcp.Event {
	return mcp.Event{
		HasID: ev.HasID, More: ev.More, Raw: bytes.Clone(ev.Raw), ID: bytes.Clone(ev.ID), Name: bytes.Clone(ev.Name),
		Data: bytes.Clone(ev.Data), Retry: bytes.Clone(ev.Retry),
	}
}

// replayed is a stream of which some events have been read, which it delivers first.
type replayed struct {
	mcp.Events
	before []mcp.Event
	err    error // after them
}

// Next returns the next event.
func (r *replayed) Next() (mcp.Event, error) {
	switch {
	case len(r.before) > 0:
		ev := r.before[0]
		r.before = r.before[1:]
		return ev, nil
	case r.err != nil:
		return mcp.Event{}, r.err
	}
	return r.Events.Next()
}
