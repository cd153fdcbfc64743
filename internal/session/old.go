package session

import (
	"context"
	"net/http"
	"net/url"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

// OldOptions are what an Old needs; Next and URL are required.
type OldOptions struct {
	Options
	URL       *url.URL      // the upstream's endpoint: where its GET stream is
	Handshake time.Duration // `timeouts.handshake`: to the answer of initialize and ping; 0: FirstByte
	FirstByte time.Duration // `timeouts.first_byte`: to the endpoint event, and to the answer of a method that is known to be quick
	Call      time.Duration // `timeouts.call`: to the answer of any other method
}

// Old is the session stage of an upstream with the HTTP+SSE transport of 2024-11-05 (basic/transports): answers come as
// events on a GET stream, messages go by POST to a URL that the stream's first event names. The daemon names a path of
// its own there, and keeps the pairing for as long as the GET stream is open.
type Old struct {
	opts OldOptions

	mu       sync.Mutex
	sessions map[string]*oldSession // by the id in the path
}

// NewOld makes an Old.
func NewOld(o OldOptions) *Old {
	o.fill()
	if o.FirstByte == 0 {
		o.FirstByte = 55 * time.Second
	}
	if o.Handshake == 0 {
		o.Handshake = o.FirstByte
	}
	if o.Call == 0 {
		o.Call = 30 * time.Minute
	}
	return &Old{opts: o, sessions: make(map[string]*oldSession)}
}

// Call answers one call: GET opens a session, POST to its message path sends into it.
func (o *Old) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	switch c.Lane {
	case mcp.LaneStream:
		return o.open(ctx, c)
	case mcp.LaneMessage:
		if c.Endpoint == "" {
			// A client that tries Streamable HTTP first falls back to GET on this status (2025-11-25, "Backwards
			// Compatibility").
			return textResult(http.StatusMethodNotAllowed, "this server speaks the HTTP+SSE transport of 2024-11-05: GET first"), nil
		}
		return o.send(ctx, c)
	case mcp.LaneFetch:
		return o.opts.Next.Call(ctx, c)
	}
	return textResult(http.StatusMethodNotAllowed, "this server speaks the HTTP+SSE transport of 2024-11-05"), nil
}

func textResult(status int, text string) *mcp.Result {
	h := http.Header{"Content-Type": {"text/plain; charset=utf-8"}}
	if status == http.StatusMethodNotAllowed {
		h.Set("Allow", "GET")
	}
	return &mcp.Result{Status: status, Header: h, Body: []byte("fluentd-perf: " + text + "\n")}
}

// open opens the server's stream and waits for its endpoint event, so that an endpoint elsewhere is an HTTP error and
// not a stream.
func (o *Old) open(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	patience := time.AfterFunc(o.opts.FirstByte, func() { cancel(lateEndpoint()) })
	defer patience.Stop()
	out := *c
	out.Whole = true // each event is looked into
	res, err := o.opts.Next.Call(ctx, &out)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	if res.Events == nil {
		release := res.Release
		res.Release = func() {
			cancel(nil)
			if release != nil {
				release()
			}
		}
		return res, nil
	}
	s, err := newOldSession(ctx, cancel, o, res.Events)
	if err != nil {
		cancel(nil)
		o.close(res)
		return nil, err
	}
	o.mu.Lock()
	o.sessions[s.id] = s
	o.mu.Unlock()
	res.Events = s
	return res, nil
}

func lateEndpoint() *mcp.Failure {
	return &mcp.Failure{
		Code: mcp.CodeDeadlinePassed, Reason: mcp.ReasonFirstByte, Sent: mcp.SentYes,
		Message: "the server did not send its endpoint event in time",
	}
}

func (o *Old) close(res *mcp.Result) {
	if err := res.Close(); err != nil {
		o.opts.Log.Debug("closing an answer", "upstream", o.opts.Upstream, "error", err)
	}
}

func (o *Old) remove(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.sessions, id)
}

func (o *Old) session(id string) *oldSession {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.sessions[id]
}

// send posts a message into its session. The answer comes on the stream; here is only whether the server took it.
func (o *Old) send(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	s := o.session(c.Endpoint)
	if s == nil {
		return textResult(http.StatusNotFound, "no such session: its GET stream has ended"), nil
	}
	p, f := s.expect(c)
	if f != nil {
		return nil, f
	}
	out := *c
	out.Target = s.target.Load()
	res, err := o.opts.Next.Call(ctx, &out)
	if err != nil {
		s.forget(p)
		return nil, err
	}
	if res.Status >= http.StatusMultipleChoices {
		s.forget(p)
		return res, nil
	}
	s.accepted(p)
	return res, nil
}
