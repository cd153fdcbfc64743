package cache

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"fluentd-perf/internal/mcp"
)

// ask opens a stream. It returns a Result with Events, or what became of it.
func (l *earLife) ask(ctx context.Context, c *mcp.Call) (*mcp.Result, earOutcome) {
	res, err := l.e.o.Next.Call(ctx, c)
	if err != nil {
		return nil, failedEar(err)
	}
	if res.Status == http.StatusOK && res.Events != nil {
		return res, earDone
	}
	outcome := judgeEar(res)
	res.Close()
	return nil, outcome
}

// failedEar says what a call means that got no answer. A server that answers with what is not MCP will not soon do better.
func failedEar(err error) earOutcome {
	var f *mcp.Failure
	if errors.As(err, &f) && (f.Reason == mcp.ReasonBadAnswer || f.Reason == mcp.ReasonRedirect) {
		return earDeclined
	}
	return earBroken
}

// judgeEar says what an answer means that is not the stream asked for. A server that fails now may do better soon, and one
// that ends a listen as it begins, too.
func judgeEar(res *mcp.Result) earOutcome {
	switch {
	case res.Status >= http.StatusInternalServerError, res.Status == http.StatusOK && res.Checked && res.Message.Kind == mcp.KindResult:
		return earBroken
	}
	return earDeclined
}

// hear reads a stream to its end, and closes it.
func (l *earLife) hear(res *mcp.Result, c *mcp.Call) earOutcome {
	defer res.Close()
	l.e.stand.Add(1)
	defer l.e.stand.Add(-1)
	l.e.log.Debug("the daemon listens for changes", slog.String("method", c.Method().String()))
	for silent := true; ; {
		ev, err := res.Events.Next()
		if err != nil || ev.Failure != nil || !scanEar(&ev) {
			l.e.log.Debug("a stream of the daemon's own has ended", slog.Any("error", err))
			return earBroken
		}
		switch ev.Message.Kind {
		case mcp.KindNotification:
			if tornDown(&ev, c) {
				return earBroken
			}
			l.e.o.Heard(&ev.Message, ev.Data)
		case mcp.KindResult, mcp.KindError:
			if silent && ev.Message.Kind == mcp.KindError {
				return earDeclined
			}
			return earBroken
		case mcp.KindInvalid:
			continue // a comment or a priming event
		}
		silent = false
	}
}

// tornDown reports whether the event says that the server gives up the listen. It may be said so or by an answer: the
// pages of 2026-07-28 disagree (basic/patterns/cancellation, basic/patterns/subscriptions).
func tornDown(ev *mcp.Event, c *mcp.Call) bool {
	return ev.Message.Method == mcp.MethodCancelled && mcp.SameID(ev.Message.RequestID.Of(ev.Data), c.ID())
}

// scanEar fills in the event's message where nobody has, if it carries one. It returns false if its data is no JSON-RPC:
// what was meant went unheard.
func scanEar(ev *mcp.Event) bool {
	if ev.Message.Kind != mcp.KindInvalid || len(ev.Data) == 0 || len(ev.Name) != 0 && string(ev.Name) != "message" {
		return true
	}
	return mcp.Scan(ev.Data, &ev.Message) == nil
}
