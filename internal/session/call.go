package session

import (
	"context"
	"net/http"

	"fluentd-perf/internal/mcp"
)

// within answers a call of an agent's session, nil for one that is not known.
func (s *Stage) within(ctx context.Context, c *mcp.Call, e *session) (*mcp.Result, error) {
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

// send sends a call of an agent's session to where the session lives.
func (s *Stage) send(ctx context.Context, c *mcp.Call, e *session) (*mcp.Result, error) {
	return s.deliver(ctx, c, e, func(at *place) (*mcp.Result, error) {
		if c.Lane == mcp.LaneResponse && e.isStaleAnswer(at, c.ID()) {
			return mcp.Accepted(), nil
		}
		if s.takesNotice(ctx, c, e, at) {
			return nil, restarted()
		}
		res, err := s.sendTo(ctx, c, e, at)
		if err != nil {
			return nil, err
		}
		return s.answer(c, e, at, res), nil
	})
}

// rounds bounds how often a call is sent into a session that the server loses again and again. So does the bound on
// recoveries, as long as all of them are this daemon's.
const rounds = healsPerMinute + 1

// deliver sends a call or a GET by try to the place where its session lives, and again after each recovery. The answer is a loss
// only where the session could not be recovered.
func (s *Stage) deliver(ctx context.Context, c *mcp.Call, e *session, try func(*place) (*mcp.Result, error)) (*mcp.Result, error) {
	isStream := c.Lane == mcp.LaneStream
	for range rounds {
		if isStream {
			e.waitForRecovery(ctx)
		}
		at := e.place()
		if at.over {
			return lostResult(), nil
		}
		res, err := try(at)
		switch {
		case err != nil && isStream && at.left() && ctx.Err() == nil:
			continue // the session has moved meanwhile: the stream is to be where it lives now
		case err != nil || !s.isLoss(ctx, c, e, at, res):
			return res, err
		case e.opening == nil: // whether there ever was such a session only the server knows: its own words pass
			s.gaveUpOn(resultUnknown)
			return res, nil
		}
		if res, err := s.recover(ctx, c, e, at, s.lossText(res)); res != nil || err != nil {
			return res, err
		}
		if c.Lane == mcp.LaneResponse || c.Method() == mcp.MethodInitialized {
			return mcp.Accepted(), nil // what it answers is gone; a recovery has sent this one
		}
	}
	s.gaveUpOn(resultTooOften)
	return lostResult(), nil
}

// sendTo sends a call to a place: under the id that the session has there, which the agent does not get to see. Where another
// session lives by now, the call must not go: that is a loss.
func (s *Stage) sendTo(ctx context.Context, c *mcp.Call, e *session, at *place) (*mcp.Result, error) {
	switch {
	case at.gone:
		return lostResult(), nil
	case at.id == e.name: // the agent's own
		return s.opts.Next.Call(ctx, c)
	}
	out := *c
	out.Header = c.Header.Clone()
	out.Header.Set(sessionHeader, at.id)
	res, err := s.opts.Next.Call(ctx, &out)
	if err == nil && res.Header.Has(sessionHeader) {
		res.Header.Set(sessionHeader, e.name)
	}
	return res, err
}

// answer notes what an answer from the place says of the session, and returns it as the agent gets it.
func (s *Stage) answer(c *mcp.Call, e *session, at *place, res *mcp.Result) *mcp.Result {
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

// end relays the end of a session, nil for one that is not known. It ends here once the server has no such session any more,
// and not where the server refuses to end it.
func (s *Stage) end(ctx context.Context, c *mcp.Call, e *session) (*mcp.Result, error) {
	if e == nil {
		return s.opts.Next.Call(ctx, c)
	}
	at := e.place()
	res, err := s.sendTo(ctx, c, e, at)
	if err != nil {
		return nil, err
	}
	if isGood(res.Status) || res.Status == http.StatusNotFound || e.opening != nil && s.isLoss(ctx, c, e, at, res) {
		s.sessions.end(e)
	}
	return res, nil
}
