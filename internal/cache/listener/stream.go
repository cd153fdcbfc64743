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

// ask makes a request. It returns an answer that is a result or a stream, or what became of the request.
func (s *subscription) ask(ctx context.Context, c *mcp.Call) (*mcp.Result, outcome) {
	res, err := s.l.o.Next.Call(ctx, c)
	var f *mcp.Failure
	switch {
	case errors.As(err, &f) && (f.Reason == mcp.ReasonBadAnswer || f.Reason == mcp.ReasonRedirect):
		return nil, refused // who answers with what is not MCP will not soon do better
	case err != nil:
		return nil, failed
	case res.Status == http.StatusOK && (res.Events != nil || res.Checked && res.Message.Kind == mcp.KindResult):
		return res, succeeded
	}
	defer res.Close()
	if res.Status >= http.StatusInternalServerError {
		return nil, failed
	}
	return nil, refused
}

// discover asks what the server announces.
func (s *subscription) discover() outcome {
	ctx, cancel := context.WithTimeout(s.ctx, discoverTimeout)
	defer cancel()
	res, o := s.ask(ctx, s.client.request(mcp.LaneRequest, mcp.MethodServerDiscover, nil))
	if res == nil {
		return o
	}
	defer res.Close()
	if res.Events == nil {
		return s.understand(&res.Message, res.Body)
	}
	return s.discovered(res.Events)
}

// discovered reads a stream that ends with the answer.
func (s *subscription) discovered(events mcp.Events) outcome {
	for {
		ev, err := events.Next()
		switch {
		case err != nil || ev.Failure != nil:
			return failed
		case ev.Answer && !ev.Exact:
			return refused
		case ev.Answer:
			return s.understand(&ev.Message, ev.Data)
		}
	}
}

// understand reads the capabilities of a DiscoverResult (2026-07-28, schema, ServerCapabilities). Without a complete one
// there is nothing to subscribe to.
func (s *subscription) understand(m *mcp.Message, data []byte) outcome {
	type capability struct{ ListChanged, Subscribe bool }
	var r struct {
		Capabilities struct{ Tools, Prompts, Resources capability }
	}
	if m.Kind != mcp.KindResult || m.ResultType.Present() && !mcp.TextIs(m.ResultType.Of(data), "complete") ||
		json.Unmarshal(m.Result.Of(data), &r) != nil {
		return refused
	}
	c := &r.Capabilities
	s.announced = &filter{
		Tools: c.Tools.ListChanged, Prompts: c.Prompts.ListChanged, Resources: c.Resources.ListChanged,
		takesURIs: c.Resources.Subscribe,
	}
	s.again(0)
	return succeeded
}

// stream is one that is open.
type stream struct {
	cancel context.CancelFunc
	ended  chan outcome // has room for the one that comes
}

// open opens a stream, which is read until it ends or is cancelled, and closed. Where it returns none, the outcome says why.
func (s *subscription) open(f *filter) (*stream, outcome) {
	ctx, cancel := context.WithCancel(s.ctx)
	c := s.client.request(mcp.LaneListen, mcp.MethodSubscriptionsListen, f)
	res, o := s.ask(ctx, c)
	if res == nil {
		cancel()
		return nil, o
	}
	if res.Events == nil { // it ended as it began
		cancel()
		res.Close()
		return nil, failed
	}
	st := &stream{cancel: cancel, ended: make(chan outcome, 1)}
	s.l.running.Go(func() {
		defer cancel()
		st.ended <- s.l.receive(res, c)
	})
	return st, succeeded
}

// receive reads a stream to its end, and closes it.
func (l *Listener) receive(res *mcp.Result, c *mcp.Call) outcome {
	defer res.Close()
	l.open.Add(1)
	defer l.open.Add(-1)
	for first := true; ; {
		ev, err := res.Events.Next()
		if err != nil || ev.Failure != nil || !scan(&ev) {
			l.log.Debug("a stream of the daemon's own has ended", slog.Any("error", err))
			return failed
		}
		switch ev.Message.Kind {
		case mcp.KindNotification:
			if ended(&ev, c) {
				return failed
			}
			l.o.Received(&ev.Message, ev.Data)
		case mcp.KindError:
			if first {
				return refused
			}
			return failed
		case mcp.KindResult:
			return failed
		case mcp.KindInvalid:
			continue // a comment or a priming event
		}
		first = false
	}
}

// ended reports whether the event says that the server gives up the subscription. It may say so by this or by an answer: the
// pages of 2026-07-28 disagree (basic/patterns/cancellation, basic/patterns/subscriptions).
func ended(ev *mcp.Event, c *mcp.Call) bool {
	return ev.Message.Method == mcp.MethodCancelled && mcp.SameID(ev.Message.RequestID.Of(ev.Data), c.ID())
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
