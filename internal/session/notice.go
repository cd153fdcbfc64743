package session

import (
	"context"

	"fluentd-perf/internal/mcp"
)

// The restart notice of a session: under HealReads the agent's model has to learn by one error, 1410 session_restarted, that what the session
// had on its server is gone. It belongs to requests that may have changed something (those that are not repeatable); all others never get it.
//
//   - Each such request that waits for a recovery claims it (recovery.claims), and gets it when that succeeds.
//   - If there was none, or all of them have left, it is due: the next such request gets it, and is not sent.
//   - Only who belongs to the session gets it: a ping asks the server about a credential that had no 2xx in it.
//   - A recovery that fails changes nothing.

// needsNotice reports whether a call may get the notice: a request that is not repeatable, or what the daemon does not understand,
// which may be one.
func (s *Stage) needsNotice(c *mcp.Call) bool {
	return s.opts.Heal == HealReads &&
		(c.Lane == mcp.LaneRequest && !s.opts.Repeatable(c) || c.Lane == mcp.LaneOpaque)
}

// takesNotice reports whether the call gets the notice that is due instead of being sent.
func (s *Stage) takesNotice(ctx context.Context, c *mcp.Call, e *session, at *place) bool {
	return e.noticeDue.Load() && ctx.Err() == nil && !at.gone && s.needsNotice(c) && s.belongs(ctx, c, e, at) &&
		e.noticeDue.CompareAndSwap(true, false)
}

// belongs reports whether the call's credential is one of the session's. Of one that had no 2xx in it yet, a stranger's or
// one that was refreshed, the server judges: a ping asks.
func (s *Stage) belongs(ctx context.Context, c *mcp.Call, e *session, at *place) bool {
	credential := s.opts.Credential(c)
	if e.trusts(credential) {
		return true
	}
	if status, _ := s.ask(ctx, c, e, at); !isGood(status) {
		return false
	}
	e.trust(credential)
	return true
}

// unclaim gives up the claim of a request whose agent has left, if it had one. Where all have left that had one, the notice is due.
func (r *recovery) unclaim(had bool) {
	if !had {
		return
	}
	e := r.session
	e.mu.Lock()
	defer e.mu.Unlock()
	if r.claims--; r.claims == 0 && r.succeeded {
		e.noticeDue.Store(true)
	}
}

// restarted is the notice.
func restarted() *mcp.Failure {
	return &mcp.Failure{
		Code: mcp.CodeSessionRestart, Reason: mcp.ReasonSessionRestarted, Sent: mcp.SentNo,
		Message: "the server lost this session, which was opened anew: what it kept for the session is gone. This request was not sent; send it again if it does not need that",
	}
}
