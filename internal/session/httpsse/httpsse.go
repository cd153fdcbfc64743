// Package httpsse is the session stage of an upstream with the HTTP+SSE transport of 2024-11-05 (basic/transports): answers
// come as events on a GET stream, messages go by POST to a URL that the stream's first event, `endpoint`, names.
//
// It promises that every endpoint event which an agent gets names a path of the daemon's own, that messages go to the
// server's own origin alone, and that each request which the server has accepted gets its answer or an error on the stream,
// also where the server breaks off, is late, or the daemon stops. A session lasts as long as its GET stream; nothing of it
// is kept or opened again. Connections are the business of the stage behind it, the shape of errors that of the handler.
package httpsse

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// Options are what a Stage needs; Next and URL are required.
type Options struct {
	Upstream  string        // the configured name, which is in the path of messages
	Next      mcp.Caller    // where calls go on
	URL       *url.URL      // the upstream's endpoint: where its GET stream is
	Handshake time.Duration // `timeouts.handshake`: to the answer of initialize and ping; 0: FirstByte
	FirstByte time.Duration // `timeouts.first_byte`: to the endpoint event, and to the answer of a method that is known to be quick; 0: 55 s
	Call      time.Duration // `timeouts.call`: to the answer of any other method; 0: 30 min
	Log       *slog.Logger  // nil means silent
}

func (o *Options) fill() {
	o.FirstByte = cmp.Or(o.FirstByte, 55*time.Second)
	o.Handshake = cmp.Or(o.Handshake, o.FirstByte)
	o.Call = cmp.Or(o.Call, 30*time.Minute)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
}

// Stage is the session stage of one upstream with the HTTP+SSE transport. Make it with New.
type Stage struct {
	opts    Options
	streams sync.Map // of *stream, by the id in the path of their messages
}

// New makes a Stage. It needs no closing: its streams end with the calls that opened them.
func New(o Options) *Stage {
	o.fill()
	return &Stage{opts: o}
}

// Call answers one call: GET opens a stream, POST to the stream's message path sends to its server.
func (s *Stage) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	switch {
	case c.Lane == mcp.LaneStream:
		return s.open(ctx, c)
	case c.Lane == mcp.LaneMessage && c.Endpoint != "":
		return s.send(ctx, c)
	case c.Lane == mcp.LaneMessage:
		// A client that tries Streamable HTTP first falls back to GET on this status (2025-11-25, "Backwards
		// Compatibility").
		return textResult(http.StatusMethodNotAllowed, "this server speaks the HTTP+SSE transport of 2024-11-05: GET first"), nil
	case c.Lane == mcp.LaneFetch:
		return s.opts.Next.Call(ctx, c)
	}
	return textResult(http.StatusMethodNotAllowed, "this server speaks the HTTP+SSE transport of 2024-11-05"), nil
}

func textResult(status int, text string) *mcp.Result {
	h := header.List{{Name: "Content-Type", Value: "text/plain; charset=utf-8"}}
	if status == http.StatusMethodNotAllowed {
		h.Set("Allow", "GET")
	}
	return &mcp.Result{Status: status, Header: h, Body: []byte("fluentd-perf: " + text + "\n")}
}

// open opens the server's stream and waits for its endpoint event, so that an endpoint elsewhere is an HTTP error and
// not a stream.
func (s *Stage) open(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	limit := time.AfterFunc(s.opts.FirstByte, func() { cancel(lateEndpoint()) })
	defer limit.Stop()
	out := *c
	out.Whole = true // each event is looked into
	res, err := s.opts.Next.Call(ctx, &out)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	if res.Events == nil {
		res.OnClose(func() { cancel(nil) })
		return res, nil
	}
	target, err := readEndpoint(ctx, res.Events, s.opts.URL)
	if err != nil {
		cancel(nil)
		s.discard(res)
		return nil, err
	}
	st := newStream(ctx, cancel, s, res.Events, target)
	s.streams.Store(st.id, st)
	res.Events = st
	return res, nil
}

func (s *Stage) discard(res *mcp.Result) {
	if err := res.Close(); err != nil {
		s.opts.Log.Debug("closing an answer", "upstream", s.opts.Upstream, "error", err)
	}
}

// send posts a message to the server of its stream. The answer comes on the stream; here is only whether the server took
// the message.
func (s *Stage) send(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	found, ok := s.streams.Load(c.Endpoint)
	if !ok {
		return textResult(http.StatusNotFound, "no such session: its GET stream has ended"), nil
	}
	st := found.(*stream)
	p, f := st.expect(c)
	if f != nil {
		return nil, f
	}
	out := *c
	out.Target = st.target.Load()
	res, err := s.opts.Next.Call(ctx, &out)
	st.posted(p, err == nil && res.Status < http.StatusMultipleChoices)
	return res, err
}
