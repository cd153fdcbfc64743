package session

import (
	"context"

	"fluentd-perf/internal/mcp"
)

// notice is the restart notice of a session: under HealReads the agent's model has to learn by one error, 1410, that what
// the session had on its server is gone. It belongs to requests that may have changed something (those without R); all
// others never get it.
//
//   - Each such request that waits for a recovery gets it when that succeeds.
//   - If there was none, or all of them have left, it is pending: the next such request gets it, and is not sent.
//   - Only who belongs to the session gets it: a ping asks the server about a credential that had no 2xx in it.
//   - A recovery that fails changes nothing.
type notice struct {
	pending bool // since a recovery, until somebody gets it
	waiting int  // requests that will get it: for them the pending one is kept
}

// needsNotice reports whether a call may get the notice: a request without R, or what the daemon does not understand,
// which may be one.
func (s *Stage) needsNotice(c *mcp.Call) bool {
	return s.opts.Heal == HealReads &&
		(c.Lane == mcp.LaneRequest && !s.opts.Repeatable(c) || c.Lane == mcp.LaneOpaque)
}

// takesNotice reports whether the call gets the notice that is pending instead of being sent.
func (s *Stage) takesNotice(ctx context.Context, c *mcp.Call, e *session, at *place) bool {
	return e.hasNotice(false) && ctx.Err() == nil && !at.gone && s.needsNotice(c) && s.belongs(ctx, c, e, at) && e.hasNotice(true)
}

// hasNotice reports whether a notice is pending for the next request, which takes it or only looks.
func (e *session) hasNotice(take bool) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	has := e.notice.pending && e.notice.waiting == 0
	if has && take {
		e.notice.pending = false
	}
	return has
}

// endWait ends the wait of a request for a recovery; got says that the request gets the notice.
func (e *session) endWait(got bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.notice.waiting--
	if got {
		e.notice.pending = false
	}
}

// belongs reports whether the call's credential is one of the session's. Of one that had no 2xx in it yet, a stranger's or
// one that was refreshed, the server judges: a ping asks.
func (s *Stage) belongs(ctx context.Context, c *mcp.Call, e *session, at *place) bool {
	credential := s.opts.Credential(c)
	if e.trusts(credential) {
		return true
	}
	if !isGood(s.ask(ctx, c, e, at).status) {
		return false
	}
	e.trust(credential)
	return true
}

// restarted is the notice.
func restarted() *mcp.Failure {
	return &mcp.Failure{
		Code: mcp.CodeSessionRestart, Reason: mcp.ReasonSessionRestarted, Sent: mcp.SentNo,
		Message: "the server lost this session, which was opened anew: what it kept for the session is gone. This request was not sent; send it again if it does not need that",
	}
}
