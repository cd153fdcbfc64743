package cache

import (
	"context"
	"io"
	"net/http"
	"slices"
	"time"

	"fluentd-perf/internal/mcp"
)

// askServer calls the server, where the call says that its answer is looked into, and notes what the answer says of the asker and of what has changed. Where a stream carries one
// answer and nothing else, that is in Body as well, checked: most servers frame every answer as a stream. The stream itself
// is then as if nothing had been read of it but comments, as any other one is; but one that breaks off with nothing in it is
// a failure.
func (u *Upstream) askServer(ctx context.Context, c *mcp.Call, q *question) (*mcp.Result, error) {
	sent := time.Now()
	res, err := u.next.Call(ctx, c)
	if err != nil {
		return nil, err
	}
	u.judged(c, q.asker, q.bearer, res, sent)
	u.heardWhole(u.peerOf(c), c, res)
	if res.Events == nil {
		return res, nil
	}
	res.Events = u.watch(res.Events, watching{call: c, asker: q.asker}) // below all who read it: a change counts once
	if res.Status != http.StatusOK {
		return res, nil
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
		case ev.Partial || ev.Answer: // whatever it is, it is handed on
		case isComment(&ev) && len(r.before) == maxReplay:
			continue // it has kept the way to the daemon open
		case len(ev.Data) == 0 && ev.Failure == nil && len(r.before) < maxReplay:
			r.before = append(r.before, keepEvent(ev)) // a priming event, a comment
			continue
		}
		if ev.Exact && plainAnswer(&ev) {
			res.Body = append(make([]byte, 0, len(ev.Data)), ev.Data...)
			res.Message, res.Checked = ev.Message, true
		}
		r.ev = &ev
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

// keepEvent copies what of an event without data has to be said again.
func keepEvent(ev mcp.Event) mcp.Event {
	kept := mcp.Event{HasID: ev.HasID, More: ev.More}
	kept.Raw = append([]byte(nil), ev.Raw...)
	kept.ID = append([]byte(nil), ev.ID...)
	if ev.Name != nil {
		kept.Name = append([]byte{}, ev.Name...)
	}
	if ev.Data != nil {
		kept.Data = []byte{}
	}
	if ev.Retry != nil {
		kept.Retry = append([]byte{}, ev.Retry...)
	}
	return kept
}

// replayed is a stream with the events that were read from it already before it.
type replayed struct {
	mcp.Events
	before []mcp.Event
	ev     *mcp.Event
	err    error
}

// Next returns the next event.
func (r *replayed) Next() (mcp.Event, error) {
	if len(r.before) > 0 {
		ev := r.before[0]
		r.before = r.before[1:]
		return ev, nil
	}
	if r.ev != nil {
		ev := *r.ev
		r.ev = nil
		return ev, nil
	}
	if r.err != nil {
		return mcp.Event{}, r.err
	}
	return r.Events.Next()
}
