package session

import (
	"context"
	"maps"
	"net/http"

	"fluentd-perf/internal/mcp"
)

// within answers a call of an agent's session.
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

// rounds bounds how often a call is sent into a session that the server loses again and again. So does the bound on
// recoveries, as long as all of them are this daemon's.
const rounds = healsPerMinute + 1

// send sends a call to where its session lives, again after each recovery.
func (s *Stage) send(ctx context.Context, c *mcp.Call, e *session) (*mcp.Result, error) {
	for range rounds {
		at := e.place()
		if c.Lane == mcp.LaneResponse && e.isStaleAnswer(at, c.ID()) {
			return taken(), nil
		}
		if s.takesNotice(ctx, c, e, at) {
			return nil, restarted()
		}
		res, err := s.reach(ctx, c, e, at)
		if err != nil {
			return nil, err
		}
		if !s.isLoss(ctx, c, e, at, res) {
			return s.answer(c, e, at, res), nil
		}
		if res, err := s.recover(ctx, c, e, at, s.lossText(res)); res != nil || err != nil {
			return res, err
		}
		if c.Lane == mcp.LaneResponse || c.Method() == mcp.MethodInitialized {
			return taken(), nil // what it answers is gone; a recovery has sent this one
		}
	}
	s.gaveUpOn(resultTooOften)
	return lostResult(), nil
}

// reach sends a call to a place. Where another session lives by now, the call must not go: that is a loss.
func (s *Stage) reach(ctx context.Context, c *mcp.Call, e *session, at *place) (*mcp.Result, error) {
	if at.gone {
		return lostResult(), nil
	}
	if at.id == e.name {
		return s.opts.Next.Call(ctx, c) // the agent's own
	}
	out := *c
	out.Header = maps.Clone(c.Header)
	out.Header[sessionHeader] = at.header
	return s.opts.Next.Call(ctx, &out)
}

// hideID hides the id that the session has in the place: the agent knows it by another.
func (at *place) hideID(e *session, res *mcp.Result) {
	if at.id != e.name && len(res.Header[sessionHeader]) > 0 {
		res.Header[sessionHeader] = []string{e.name}
	}
}

// answer notes what an answer from the place says of the session, and returns it as the agent gets it.
func (s *Stage) answer(c *mcp.Call, e *session, at *place, res *mcp.Result) *mcp.Result {
	at.hideID(e, res)
	if !isGood(res.Status) {
		return res
	}
	e.trust(s.opts.Credential(c))
	e.initialized.Store(true)
	if c.Lane == mcp.LaneResponse {
		e.tookAnswer(c.ID())
	}
	if res.Events != nil {
		res.Events = s.watch(c, e, at, res.Events)
	} else {
		e.tookRequest(c, res.Message.Kind)
	}
	return res
}

// watched are events that are looked at, and may be changed, as they pass.
type watched struct {
	mcp.Events
	look func(*mcp.Event)
}

// Next returns the next event.
func (w *watched) Next() (mcp.Event, error) {
	ev, err := w.Events.Next()
	if err == nil {
		w.look(&ev)
	}
	return ev, err
}

// watch notes what the events of an answer to a call in the place say of the session, and tags their ids.
func (s *Stage) watch(c *mcp.Call, e *session, at *place, events mcp.Events) mcp.Events {
	tag := s.tagOf(at)
	var post *postStream // begins with the first event with an id
	return &watched{events, func(ev *mcp.Event) {
		if len(ev.ID) > 0 && !ev.Answer && c.Lane == mcp.LaneRequest && post == nil {
			post = e.addPostStream(at, c.ID())
		}
		if m := e.passed(at, post, ev); ev.Answer && m.Kind != mcp.KindInvalid {
			e.tookRequest(c, m.Kind)
			e.removePostStream(post)
		}
		tag.put(ev)
	}}
}

// end relays the end of a session. It ends here once the server has no such session any more, and not where the server
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
	gone := isGood(res.Status) || res.Status == http.StatusNotFound || e.opening != nil && s.heals() && s.isLoss(ctx, c, e, at, res)
	at.hideID(e, res)
	if gone {
		s.sessions.end(e)
	}
	return res, nil
}

// taken is the answer to what the server need not get any more: 202, as to everything that is no request (2025-11-25,
// basic/transports).
func taken() *mcp.Result { return &mcp.Result{Status: http.StatusAccepted, Header: http.Header{}} }
