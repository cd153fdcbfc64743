package listener

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"fluentd-perf/internal/mcp"
)

const discoverTimeout = time.Minute

var (
	errRefused = errors.New("the server does not want it")
	errFailed  = errors.New("no answer, or the stream has ended") // to be tried again after a pause
)

// ask makes a request. It returns an answer that is a result or a stream, or why there is none: errRefused, or another error
// after which the request is to be made again.
func (s *subscription) ask(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	res, err := s.l.o.Next.Call(ctx, c)
	switch f, ok := errors.AsType[*mcp.Failure](err); {
	case ok && (f.Reason == mcp.ReasonBadAnswer || f.Reason == mcp.ReasonRedirect):
		return nil, errRefused // who answers with what is not MCP will not soon do better
	case err != nil:
		return nil, err
	case res.Status == http.StatusOK && (res.Events != nil || res.Checked && res.Message.Kind == mcp.KindResult):
		return res, nil
	}
	defer res.Close()
	if res.Status >= http.StatusInternalServerError {
		return nil, errFailed
	}
	return nil, errRefused
}

// discover asks what the server announces.
func (s *subscription) discover() error {
	ctx, cancel := context.WithTimeout(s.ctx, discoverTimeout)
	defer cancel()
	res, err := s.ask(ctx, s.client.request(mcp.LaneRequest, mcp.MethodServerDiscover, nil))
	if err != nil {
		return err
	}
	defer res.Close()
	m, data := &res.Message, res.Body
	for answered := res.Events == nil; !answered; {
		ev, err := res.Events.Next()
		if err != nil || ev.Failure != nil {
			return errFailed
		}
		if ev.Answer && !ev.Exact {
			return errRefused
		}
		m, data, answered = &ev.Message, ev.Data, ev.Answer
	}
	return s.understand(m, data)
}

// understand reads the capabilities of a DiscoverResult (2026-07-28, schema, ServerCapabilities). Without a complete one
// there is nothing to subscribe to.
func (s *subscription) understand(m *mcp.Message, data []byte) error {
	var r struct {
		Capabilities struct {
			Tools, Prompts, Resources struct{ ListChanged, Subscribe bool }
		}
	}
	if m.Kind != mcp.KindResult || m.ResultType.Present() && !mcp.TextIs(m.ResultType.Of(data), "complete") ||
		json.Unmarshal(m.Result.Of(data), &r) != nil {
		return errRefused
	}
	c := &r.Capabilities
	s.announced = &filter{
		Tools: c.Tools.ListChanged, Prompts: c.Prompts.ListChanged, Resources: c.Resources.ListChanged,
		takesURIs: c.Resources.Subscribe,
	}
	s.again(0)
	return nil
}

// reopen opens a stream for what is to be subscribed to now, which is read until it ends or is cancelled, and closed. The one
// that was open before is closed only then, so that no change is missed.
func (s *subscription) reopen() error {
	f := s.take()
	if len(f.URIs) == 0 && (s.ended != nil || !f.lists()) {
		return nil // until a uri comes
	}
	s.asked = f
	ctx, cancel := context.WithCancel(s.ctx)
	c := s.client.request(mcp.LaneListen, mcp.MethodSubscriptionsListen, f)
	res, err := s.ask(ctx, c)
	if err == nil && res.Events == nil { // it ended as it began
		res.Close()
		err = errFailed
	}
	if err != nil {
		cancel()
		return err
	}
	if s.ended != nil {
		s.closeStream()
	}
	ended := make(chan error, 1)
	s.closeStream, s.ended = cancel, ended
	s.l.running.Go(func() { defer cancel(); ended <- s.l.receive(res, c) })
	return nil
}

// receive reads a stream to its end, and closes it. It returns why it ended.
func (l *Listener) receive(res *mcp.Result, c *mcp.Call) error {
	defer res.Close()
	l.open.Add(1)
	defer l.open.Add(-1)
	for first := true; ; {
		ev, err := res.Events.Next()
		if err != nil || ev.Failure != nil || !scan(&ev) {
			l.o.Log.Debug("a stream of the daemon's own has ended", slog.Any("error", err))
			return errFailed
		}
		switch kind := ev.Message.Kind; {
		case kind == mcp.KindInvalid:
			continue // a comment or a priming event
		case kind == mcp.KindError && first:
			return errRefused
		case kind == mcp.KindError, kind == mcp.KindResult:
			return errFailed
		case kind == mcp.KindNotification && ev.Message.Method == mcp.MethodCancelled &&
			mcp.SameID(ev.Message.RequestID.Of(ev.Data), c.ID()):
			// The server gives up the subscription. It may say so by this or by an answer: the pages of 2026-07-28 disagree
			// (basic/patterns/cancellation, basic/patterns/subscriptions).
			return errFailed
		case kind == mcp.KindNotification:
			l.o.Received(&ev.Message, ev.Data)
		}
		first = false
	}
}

// scan fills in the event's message where nobody has, if it carries one. It returns false if its data is no JSON-RPC: a
// change may be in it.
func scan(ev *mcp.Event) bool {
	if ev.Message.Kind != mcp.KindInvalid || len(ev.Data) == 0 || len(ev.Name) != 0 && string(ev.Name) != "message" {
		return true
	}
	return mcp.Scan(ev.Data, &ev.Message) == nil
}

// filter is the `notifications` of a subscriptions/listen (2026-07-28, basic/patterns/subscriptions).
type filter struct {
	Tools     bool     `json:"toolsListChanged,omitempty"`
	Prompts   bool     `json:"promptsListChanged,omitempty"`
	Resources bool     `json:"resourcesListChanged,omitempty"` // of templates as well
	URIs      []string `json:"resourceSubscriptions,omitempty"`

	takesURIs bool // where it is what a server announces
}

func (f *filter) lists() bool { return f.Tools || f.Prompts || f.Resources }
