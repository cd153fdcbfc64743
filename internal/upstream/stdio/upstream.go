// Package stdio calls MCP servers that are commands: their messages are lines over stdin and stdout.
//
// An Upstream is an mcp.Caller that stands where the HTTP upstream stands, as the innermost stage, and behaves like a
// server with the Streamable HTTP transport: whatever is above it (cache, flights, breaker, admission, /rpc) need not know
// the difference. A Pool has the processes of one entry, a conn the messages of one process; how a process is started and
// ended is behind Process. The era of a call is the request's own:
//
//   - Modern (2026-07-28): one process for all agents, whose first message is the daemon's own server/discover (modern.go).
//     Ids, progress tokens, subscriptions and cancellations of the agents are kept apart by ids of the daemon's own, and put back.
//   - Legacy: Options.Legacy answers, which is package session/streamable: it has the sessions, one process of the Pool's for
//     each. Where the operator says so, package session/multiplex has one for several.
//
// It promises that nobody waits for ever when a process ends, now or later; that memory is bounded whatever a process
// writes; and that a process is given once, to whoever asked for it.
package stdio

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// Options are what an Upstream needs; Pool and Legacy are required.
type Options struct {
	Pool     *Pool
	Legacy   mcp.Caller    // answers what is not modern
	OnDisk   func() string // what the command is on disk now: with another, a server is asked again whether it is modern; nil: it never changes
	Client   string        // the version that the daemon gives itself in server/discover
	Replicas int           // `processes.replicas`: modern processes, at most; 0: 1

	FirstByte time.Duration // `timeouts.first_byte`; 0: 55 s
	Handshake time.Duration // `timeouts.handshake`; 0: 55 s
	Call      time.Duration // `timeouts.call`; 0: 30 min
	Idle      time.Duration // `timeouts.idle`; 0: 5 min

	Answered func(kind mcp.Group, took time.Duration) // is told of each answer of the modern process; nil: nobody is

	Log *slog.Logger // nil: silent
}

func (o *Options) fill() {
	o.Replicas = cmp.Or(o.Replicas, 1)
	o.FirstByte = cmp.Or(o.FirstByte, 55*time.Second)
	o.Handshake = cmp.Or(o.Handshake, 55*time.Second)
	o.Call = cmp.Or(o.Call, 30*time.Minute)
	o.Idle = cmp.Or(o.Idle, 5*time.Minute)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Answered == nil {
		o.Answered = func(mcp.Group, time.Duration) {}
	}
	if o.OnDisk == nil {
		o.OnDisk = func() string { return "" }
	}
}

// Upstream is one server. It is safe for concurrent use.
type Upstream struct {
	opts   Options
	modern modern
}

// New returns an Upstream. It starts nothing yet, and needs no closing: its Pool does.
func New(o Options) *Upstream {
	o.fill()
	u := &Upstream{opts: o}
	u.modern.u, u.modern.replicas = u, make([]replica, o.Replicas)
	return u
}

// Call answers one call, or returns a *mcp.Failure and no other error.
func (u *Upstream) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	if c.Written != nil { // there is one pipe: what comes later is written later
		defer c.Written()
	}
	var res *mcp.Result
	var f *mcp.Failure
	switch {
	case c.Lane == mcp.LaneFetch:
		res = textResult(http.StatusNotFound, "a stdio server has no documents")
	case c.Era == mcp.EraLegacy && !namesVersion(c):
		return u.opts.Legacy.Call(ctx, c)
	default:
		res, f = u.modern.call(ctx, c)
	}
	if f != nil {
		return nil, f
	}
	return res, nil
}

// namesVersion reports whether a request says its version as modern ones do, and is of no session: whichever version that
// is, a modern server has an answer to it.
func namesVersion(c *mcp.Call) bool {
	return c.Message.Kind == mcp.KindRequest && c.Message.ProtocolVersion.Present() && c.Header.Get("Mcp-Session-Id") == "" &&
		c.Method() != mcp.MethodInitialize
}

// textResult is an answer in words of the daemon's own.
func textResult(status int, text string) *mcp.Result {
	h := header.List{{Name: "Content-Type", Value: "text/plain; charset=utf-8"}}
	if status == http.StatusMethodNotAllowed {
		h.Add("Allow", "POST")
	}
	return &mcp.Result{Status: status, Header: h, Body: []byte("fluentd-perf: " + text + "\n")}
}

// jsonResult is an answer of a server's that has come whole.
func jsonResult(c *mcp.Call, status int, data []byte, m *mcp.Message) *mcp.Result {
	m.Loose = m.Loose || !c.Answers(data, m)
	return &mcp.Result{
		Status: status, Header: header.List{{Name: "Content-Type", Value: "application/json"}}, Body: data, Message: *m,
		Checked: status < http.StatusMultipleChoices && !m.Loose,
	}
}

// limits are the bounds of one call's waits, as over HTTP.
type limits struct{ first, next time.Duration }

func (u *Upstream) limitsOf(m mcp.Method) limits {
	switch {
	case m.Unhurried():
		return limits{u.opts.Call, u.opts.Call}
	case m.Handshake():
		return limits{u.opts.Handshake, u.opts.Idle}
	}
	return limits{u.opts.FirstByte, u.opts.Idle}
}
