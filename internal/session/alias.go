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
	if e == nil || e.opening == nil {
		// Whether there ever was such a session only the server knows: its own words pass.
		res, err := s.opts.Next.Call(ctx, c)
		if err == nil && isLoss(res) {
			s.gaveUpOn(resultUnknown)
		}
		return res, err
	}
	if res, err := s.refuse(ctx, c, e); res != nil || err != nil {
		return res, err
	}
	return s.send(ctx, c, e)
}

// refuse answers what does not go to a session that was healed: an answer to a question of before, and the request that
// gets the 1410 which the session owes.
func (s *Stage) refuse(ctx context.Context, c *mcp.Call, e *session) (*mcp.Result, error) {
	switch {
	case c.Lane == mcp.LaneResponse:
		if e.stale(c.ID()) {
			return taken(), nil
		}
	case ctx.Err() == nil && e.mayOwe() && s.owed(c) && e.pay():
		return nil, restarted()
	}
	return nil, nil
}

// send sends a call into its session, again after each healing. The bound on healings bounds it, and so does rounds.
func (s *Stage) send(ctx context.Context, c *mcp.Call, e *session) (*mcp.Result, error) {
	const rounds = healsPerMinute + 1
	at := e.place()
	for range rounds {
		res, err := s.opts.Next.Call(ctx, at.up(c, e))
		if err != nil {
			return nil, err
		}
		if !isLoss(res) {
			return s.answer(c, e, at, res), nil
		}
		lost := s.pass(res)
		owed := s.owed(c)
		now, ok, err := s.heal(ctx, c, e, at, owed)
		switch {
		case err != nil:
			return nil, err
		case !ok:
			return lost, nil
		case owed:
			return nil, restarted()
		case c.Lane == mcp.LaneResponse || c.Method() == mcp.MethodInitialized:
			return taken(), nil // the question is gone; a healing has said notifications/initialized
		}
		at = now
	}
	s.gaveUpOn(resultTooOften)
	return lostResult(), nil
}

// answer takes in what an answer says of the session, and puts the agent's id back into its header.
func (s *Stage) answer(c *mcp.Call, e *session, at place, res *mcp.Result) *mcp.Result {
	if isGood(res.Status) {
		e.trust(s.opts.Credential(c.Header))
		switch {
		case res.Events != nil:
			res.Events = &eventsOf{Events: res.Events, stage: s, call: c, e: e, at: at}
		case res.Checked:
			s.accepted(c, e, res.Message.Kind)
		case c.Lane == mcp.LaneResponse:
			e.settle(c.ID())
		}
	}
	at.down(e, res)
	return res
}

func isGood(status int) bool { return status >= 200 && status < 300 }

// accepted notes the result of a request.
func (s *Stage) accepted(c *mcp.Call, e *session, kind mcp.Kind) {
	if kind != mcp.KindResult {
		return
	}
	if grown := e.accept(c); grown != 0 {
		s.sessions.grow(e, grown)
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

// end relays the end of a session, which ends the alias as well, unless the server could not be told.
func (s *Stage) end(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	e := s.sessions.find(sessionID(c.Header))
	if e == nil {
		return s.opts.Next.Call(ctx, c)
	}
	at := e.place()
	res, err := s.opts.Next.Call(ctx, at.up(c, e))
	if err != nil {
		return nil, err
	}
	at.down(e, res)
	if res.Status < http.StatusInternalServerError {
		e.end()
		s.sessions.remove(e)
	}
	return res, nil
}

// end makes a healing that is going on give up.
func (e *session) end() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = true
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
