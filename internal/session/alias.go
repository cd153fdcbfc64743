package session

import (
	"context"
	"errors"
	"maps"
	"net/http"

	"fluentd-perf/internal/mcp"
)

// within answers a call of an agent's session: under the id that the session has on its server now, and with a healing
// if the server has lost it.
func (s *Stage) within(ctx context.Context, c *mcp.Call, id string) (*mcp.Result, error) {
	e := s.sessions.find(id)
	if e != nil && e.opening != nil {
		return s.send(ctx, c, e)
	}
	// Whether there ever was such a session only the server knows: its own words pass.
	res, err := s.opts.Next.Call(ctx, c)
	if err == nil && mcp.LossOf(c, res) == mcp.LossSure {
		s.gaveUpOn(resultUnknown)
	}
	return res, err
}

// send sends a call into its session, again after each healing. The bound on healings bounds it, and so does rounds.
func (s *Stage) send(ctx context.Context, c *mcp.Call, e *session) (*mcp.Result, error) {
	const rounds = healsPerMinute + 1
	at := e.place()
	for range rounds {
		if c.Lane == mcp.LaneResponse && e.stale(at, c.ID()) {
			return taken(), nil
		}
		if s.pays(ctx, c, e, at) {
			return nil, restarted()
		}
		res, err := s.reach(ctx, c, e, at)
		if err != nil {
			return nil, err
		}
		if !s.lost(ctx, c, e, at, res) {
			return s.answer(c, e, at, res), nil
		}
		lost := s.pass(res)
		owed := s.owed(c)
		m, err := s.heal(ctx, c, e, at, owed)
		switch {
		case err != nil:
			return nil, err
		case !m.ok:
			return m.passed(lost), nil
		case owed && e.trusts(s.opts.Credential(c)):
			return nil, restarted()
		}
		if c.Lane == mcp.LaneResponse || c.Method() == mcp.MethodInitialized {
			return taken(), nil // what it answers is gone; a healing has said this one
		}
		at = m.at
	}
	s.gaveUpOn(resultTooOften)
	return lostResult(), nil
}

// reach sends a call to a place. Where another session lives by now, the call must not go: that is a loss.
func (s *Stage) reach(ctx context.Context, c *mcp.Call, e *session, at place) (*mcp.Result, error) {
	if at.gone {
		return lostResult(), nil
	}
	return s.opts.Next.Call(ctx, at.up(c, e))
}

// pays reports whether the call gets the 1410 that the session owes.
func (s *Stage) pays(ctx context.Context, c *mcp.Call, e *session, at place) bool {
	return ctx.Err() == nil && !at.gone && e.mayOwe() && s.owed(c) && s.belongs(ctx, c, e, at) && e.pay()
}

// belongs reports whether the call's credential is one of the session's. Of one that had no 2xx in it yet, a stranger's or
// one that was refreshed, the server judges: a ping asks.
func (s *Stage) belongs(ctx context.Context, c *mcp.Call, e *session, at place) bool {
	credential := s.opts.Credential(c)
	if e.trusts(credential) {
		return true
	}
	if !isGood(s.ping(ctx, c, at).status) {
		return false
	}
	e.trust(credential)
	return true
}

// answer takes in what an answer says of the session, and puts the agent's id back into its header.
func (s *Stage) answer(c *mcp.Call, e *session, at place, res *mcp.Result) *mcp.Result {
	if isGood(res.Status) {
		e.trust(s.opts.Credential(c))
		e.initialized.Store(true)
		if c.Lane == mcp.LaneResponse {
			e.settle(c.ID())
		}
		if res.Events != nil {
			res.Events = &eventsOf{Events: res.Events, stage: s, call: c, e: e, at: at}
		} else {
			e.result(c, res.Message.Kind)
		}
		s.sessions.weigh(e)
	}
	at.down(e, res)
	return res
}

func isGood(status int) bool { return status >= 200 && status < 300 }

// result notes the result of a request. One that is loose is never said again.
func (e *session) result(c *mcp.Call, kind mcp.Kind) {
	if kind == mcp.KindResult && !c.Message.Loose {
		e.accept(c)
	}
}

// up returns the call as it goes to the place: the agent's own as long as the session has the id that the agent knows.
func (at place) up(c *mcp.Call, e *session) *mcp.Call {
	if at.id == e.name {
		return c
	}
	out := *c
	out.Header = maps.Clone(c.Header)
	out.Header[sessionHeader] = at.header
	return &out
}

// down hides the id that the session has on its server.
func (at place) down(e *session, res *mcp.Result) {
	if at.id != e.name && len(res.Header[sessionHeader]) > 0 {
		res.Header[sessionHeader] = []string{e.name}
	}
}

// end relays the end of a session. The alias ends with it once the server has no such session any more, and not where it
// refuses to end it.
func (s *Stage) end(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	e := s.sessions.find(sessionID(c.Header))
	if e == nil {
		return s.opts.Next.Call(ctx, c)
	}
	at := e.place()
	res, err := s.reach(ctx, c, e, at)
	if err != nil {
		return nil, err
	}
	gone := isGood(res.Status) || res.Status == http.StatusNotFound || e.opening != nil && s.heals() && s.lost(ctx, c, e, at, res)
	at.down(e, res)
	if gone {
		e.end()
		s.sessions.remove(e)
	}
	return res, nil
}

// end makes a healing that is going on give up, and ends the session's GET streams: the id may be another's next.
func (e *session) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = true
	for _, move := range e.moves {
		move()
	}
}

func (e *session) hasEnded() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.ended
}

// taken is the answer to what the server need not hear any more: 202, as to everything that is no request (2025-11-25,
// basic/transports).
func taken() *mcp.Result { return &mcp.Result{Status: http.StatusAccepted, Header: http.Header{}} }

// restarted is what the agent's model has to know: what the session had on its server is gone.
func restarted() *mcp.Failure {
	return &mcp.Failure{
		Code: mcp.CodeSessionRestart, Reason: mcp.ReasonSessionRestarted, Sent: mcp.SentNo,
		Message: "the server lost this session, which was opened anew: what it kept for the session is gone. This request was not sent; send it again if it does not need that",
	}
}

// left is the failure of a caller that did not wait for the healing: its request met the loss, so it did not run.
func left(ctx context.Context) *mcp.Failure {
	var cause *mcp.Failure
	if errors.As(context.Cause(ctx), &cause) {
		return cause
	}
	return &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentNo, Cause: context.Cause(ctx)}
}
