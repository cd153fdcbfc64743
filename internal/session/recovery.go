package session

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"fluentd-perf/internal/mcp"
)

// result is how a recovery ended, or why there was none. The set is closed: results are metric labels.
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

// recovery is one attempt to open a session again, for all who wait for it. It is nobody's call: who set it off may leave.
type recovery struct {
	stage      *Stage
	session    *session
	trigger    *mcp.Call // whose headers all steps go with
	credential [32]byte  // of the trigger
	id         string    // of the new session; "" until there is one. Owned by the recovery's goroutine

	done   chan struct{}
	failed *setback // set before done is closed; nil: the session is open again
}

// recovered stands for a recovery that has succeeded before somebody met the loss.
var recovered = func() *recovery {
	r := &recovery{done: make(chan struct{})}
	close(r.done)
	return r
}()

// recover opens a session again that its server has lost from the place at, or waits for the recovery that is going on. It
// returns nil where the call may be sent again, to the session's new place. Else the call gets what it returns: the loss, or
// what the server said to a recovery without authorization; the restart notice; or the failure of a caller who left, or of a
// server that could not be asked just now, so that the session may still be recovered later.
func (s *Stage) recover(ctx context.Context, c *mcp.Call, e *session, at *place, lost *mcp.Result) (*mcp.Result, error) {
	credential := s.opts.Credential(c)
	noticed := s.needsNotice(c) && e.trusts(credential)
	for {
		r, res := s.join(c, e, at, credential, noticed)
		if r == nil {
			s.gaveUpOn(res)
			return lost, nil
		}
		left := false
		select {
		case <-r.done:
		case <-ctx.Done():
			left = true
		}
		isOpen := !left && r.failed == nil
		if noticed {
			e.endWait(isOpen)
		}
		switch {
		case left:
			return nil, mcp.Left(ctx, mcp.SentNo)
		case isOpen && noticed:
			return nil, restarted()
		case isOpen:
			return nil, nil
		case r.failed.failure != nil:
			return nil, notSent(r.failed.failure)
		case r.credential == credential:
			return r.failed.answer(lost), nil
		}
		// Another credential's recovery failed: it may have been the credential.
	}
}

// notSent is a recovery's failure as that of a call that met the loss, which has therefore not run.
func notSent(f *mcp.Failure) *mcp.Failure {
	own := *f
	own.Sent = mcp.SentNo
	return &own
}

// join finds the recovery to wait for, which may have ended, or begins one; or says why there is none. noticed says that the
// caller is to get the restart notice.
func (s *Stage) join(c *mcp.Call, e *session, at *place, credential [32]byte, noticed bool) (*recovery, result) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r, res := e.recovery, result("")
	switch {
	case e.at.gen > at.gen && !e.at.gone: // since the call was sent
		r = recovered
	case e.ended:
		return nil, resultEnded
	case e.opening == nil:
		return nil, resultUnknown
	case !slices.Contains(e.trusted, credential):
		return nil, resultCredential
	case r == nil:
		r, res = s.beginLocked(c, e, credential)
	}
	if r != nil && noticed {
		e.notice.waiting++
	}
	return r, res
}

// beginLocked begins a recovery, three in a minute at most.
func (s *Stage) beginLocked(c *mcp.Call, e *session, credential [32]byte) (*recovery, result) {
	now := time.Now()
	for len(e.begun) > 0 && now.Sub(e.begun[0]) >= time.Minute {
		e.begun = e.begun[1:]
	}
	if len(e.begun) >= healsPerMinute {
		return nil, resultTooOften
	}
	r := &recovery{stage: s, session: e, trigger: c, credential: credential, done: make(chan struct{})}
	if !s.start(r.run) {
		return nil, resultEnded
	}
	e.begun = append(e.begun, now)
	e.recovery = r
	return r, ""
}

// finish ends the recovery: with the session's new place where it succeeded.
func (r *recovery) finish(failed *setback) {
	e := r.session
	e.change(func() {
		e.recovery = nil
		switch {
		case failed == nil && e.ended:
			failed = &setback{result: resultEnded}
		case failed == nil:
			e.moveLocked(r.id, false)
			e.notice.pending = r.stage.opts.Heal == HealReads
		case r.id == "" && failed.unsent() && len(e.begun) > 0:
			e.begun = e.begun[:len(e.begun)-1] // no session was opened: it says nothing of how long one lasts
		}
		if r.failed = failed; failed != nil {
			r.stage.gaveUpOn(failed.result)
		} else {
			r.stage.succeeded()
		}
		close(r.done)
	})
}

// waitForRecovery waits for the recovery of the session that is going on, if there is one.
func (e *session) waitForRecovery(ctx context.Context) {
	e.mu.Lock()
	r := e.recovery
	e.mu.Unlock()
	if r == nil {
		return
	}
	select {
	case <-r.done:
	case <-ctx.Done():
	}
}

// succeeded counts and logs that a session is open again.
func (s *Stage) succeeded() {
	s.healed.Add(1)
	s.opts.Metrics.heals.WithLabelValues(s.opts.Upstream, string(resultHealed)).Inc()
	s.opts.Log.Info("session healed", "upstream", s.opts.Upstream)
}

// gaveUpOn counts and logs that the session of a loss was not recovered.
func (s *Stage) gaveUpOn(res result) {
	s.gaveUp.Add(1)
	s.opts.Metrics.heals.WithLabelValues(s.opts.Upstream, string(res)).Inc()
	level := slog.LevelInfo
	if res == resultUnknown {
		level = slog.LevelDebug // as often as an agent of before the daemon's start asks
	}
	s.opts.Log.Log(s.base, level, "session lost and not healed", "upstream", s.opts.Upstream, "result", string(res))
}
