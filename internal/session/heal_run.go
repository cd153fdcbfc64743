package session

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

const (
	healTime    = 30 * time.Second // for all of a healing
	abandonTime = 2 * time.Second  // for the end of a session that nobody will use
)

// result is how a healing ended, or why there was none. The set is closed: results are metric labels.
type result string

const (
	resultHealed      result = "healed"
	resultUnknown     result = "unknown"     // the daemon did not see the session's initialize, or it was too large
	resultCredential  result = "credential"  // the request's credential never had a 2xx in this session
	resultTooOften    result = "too_often"   // more than three in a minute
	resultChanged     result = "changed"     // another protocol version, capabilities or server name, or no session id
	resultRefused     result = "refused"     // the server answered a step of it with an error
	resultUnreachable result = "unreachable" // no answer to a step of it, or not in time
	resultEnded       result = "ended"       // the agent ended the session meanwhile, or the daemon stops
)

// run is a healing. It is nobody's call: who set it off may leave, and others wait for it.
func (s *Stage) run(e *session, h *healing, c *mcp.Call) {
	ctx, cancel := context.WithTimeout(s.base, healTime)
	defer cancel()
	p := &patient{stage: s, e: e, ctx: ctx, trigger: c}
	res := p.heal()
	if s.settle(e, h, p, res) != resultHealed {
		p.abandon()
	}
}

// count counts and logs the end of a healing.
func (s *Stage) count(res result) {
	if res != resultHealed {
		s.gaveUpOn(res)
		return
	}
	s.healed.Add(1)
	s.opts.Metrics.heals.WithLabelValues(s.opts.Upstream, string(res)).Inc()
	s.opts.Log.Info("session healed", "upstream", s.opts.Upstream)
}

// gaveUpOn counts and logs that a loss was not mended.
func (s *Stage) gaveUpOn(res result) {
	s.gaveUp.Add(1)
	s.opts.Metrics.heals.WithLabelValues(s.opts.Upstream, string(res)).Inc()
	level := slog.LevelInfo
	if res == resultUnknown {
		level = slog.LevelDebug // as often as an agent of before the daemon's start asks
	}
	s.opts.Log.Log(s.base, level, "session lost and not healed", "upstream", s.opts.Upstream, "result", string(res))
}

// patient is a session while it is healed. It belongs to the healing's goroutine.
type patient struct {
	stage   *Stage
	e       *session
	ctx     context.Context
	trigger *mcp.Call // whose headers all steps go with
	id      string    // of the new session; "" until there is one

	failure atomic.Pointer[mcp.Failure] // of a step that was not answered; steps may go at the same time
	refusal *refusal                    // of a step that was refused for want of authorization
}

// heal says to the server what the agent has said: initialize, initialized, the log level, the subscriptions.
func (p *patient) heal() result {
	if res := p.initialize(); res != resultHealed {
		return res
	}
	if res := p.initialized(); res != resultHealed {
		return res
	}
	return p.replay()
}

func (p *patient) initialize() result {
	o := p.e.opening
	c := p.call(mcp.LaneRequest, o.body)
	delete(c.Header, "Mcp-Protocol-Version")
	if c.Version = o.version; o.version != "" {
		c.Header["Mcp-Protocol-Version"] = []string{o.version}
	}
	res, err := p.stage.opts.Next.Call(p.ctx, c)
	if err != nil {
		return p.failed(err)
	}
	defer p.stage.discard(res)
	switch {
	case isBusy(res.Status):
		return p.failed(errBusy)
	case !isGood(res.Status):
		p.refusal = refusalOf(res)
		return resultRefused
	}
	p.id = sessionID(res.Header)
	body, m, err := answerOf(res)
	switch {
	case err != nil:
		return p.failed(err)
	case m.Kind != mcp.KindResult:
		return resultRefused
	}
	if server, ok := factsOf(body, m); !ok || server != o.server || p.id == "" {
		return resultChanged
	}
	p.stage.sessions.take(p.e, p.id)
	return resultHealed
}

func (p *patient) initialized() result {
	res, err := p.stage.opts.Next.Call(p.ctx, p.call(mcp.LaneNotification, []byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)))
	if err != nil {
		return p.failed(err)
	}
	defer p.stage.discard(res)
	switch {
	case isBusy(res.Status):
		return p.failed(errBusy)
	case !isGood(res.Status):
		p.refusal = refusalOf(res)
		return resultRefused
	}
	return resultHealed
}

// failed says what a step without an answer means.
func (p *patient) failed(err error) result {
	if p.stage.base.Err() != nil {
		return resultEnded
	}
	var f *mcp.Failure
	if !errors.As(err, &f) || f.Reason == mcp.ReasonCanceled {
		f = &mcp.Failure{
			Code: mcp.CodeBadGateway, Reason: mcp.ReasonSessionLost, Sent: mcp.SentUnknown, RetryAfter: time.Second,
			Message: "the server has lost the session and could not be asked for another", Cause: err,
		}
	}
	p.failure.Store(f)
	return resultUnreachable
}

// unasked is a healing's failure as that of a call that met the loss, which has therefore not run.
func unasked(f *mcp.Failure) *mcp.Failure {
	own := *f
	own.Sent = mcp.SentNo
	return &own
}

// isBusy reports whether a status says that the server may do later what it does not do now.
func isBusy(status int) bool {
	return status >= http.StatusInternalServerError || status == http.StatusTooManyRequests
}

var errBusy = errors.New("the server did not take a step of the healing (429 or 5xx)")

var errNoAnswer = errors.New("the server's stream ended without a response")

// answerOf returns the answer to a request, whole or at the end of a stream, and its scan. Both are valid until the
// result is closed.
func answerOf(res *mcp.Result) ([]byte, *mcp.Message, error) {
	if res.Events == nil {
		if !isAnswer(&res.Message) {
			return nil, nil, errNoAnswer
		}
		return res.Said(), &res.Message, nil
	}
	for {
		ev, err := res.Events.Next()
		if err != nil {
			return nil, nil, err
		}
		if ev.Answer {
			return ev.Data, &ev.Message, nil
		}
	}
}

// abandon ends a session on the server that came of a healing that failed. Whether it hears of that is not our agent's
// concern.
func (p *patient) abandon() {
	if p.id == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.ctx), abandonTime)
	defer cancel()
	res, err := p.stage.opts.Next.Call(ctx, p.call(mcp.LaneEnd, nil))
	if err != nil {
		p.stage.opts.Log.Debug("ending an abandoned session", "upstream", p.stage.opts.Upstream, "error", err)
		return
	}
	p.stage.discard(res)
}

// call makes a call of the healing.
func (p *patient) call(lane mcp.Lane, body []byte) *mcp.Call {
	return ownCall(p.trigger, lane, body, p.id)
}

// ownCall makes a call of the daemon's own in the session of that id, if any: with the headers of an agent's call, less
// what belongs to that alone.
func ownCall(t *mcp.Call, lane mcp.Lane, body []byte, id string) *mcp.Call {
	c := &mcp.Call{
		Upstream: t.Upstream, Lane: lane, Era: mcp.EraLegacy, Version: t.Version, Body: body, Query: t.Query, Whole: true,
		Start: time.Now(), Conn: t.Conn,
		Header: make(http.Header, len(t.Header)+2),
	}
	for name, values := range t.Header {
		if !ofOneCall(name) {
			c.Header[name] = values
		}
	}
	c.Header["Accept"] = []string{"application/json, text/event-stream"}
	if id != "" {
		c.Header[sessionHeader] = []string{id}
	}
	if body == nil {
		return c
	}
	c.Header["Content-Type"] = []string{"application/json"}
	if err := mcp.Scan(body, &c.Message); err != nil {
		panic("session: a healing made a message that is none (this is a bug): " + err.Error())
	}
	return c
}
