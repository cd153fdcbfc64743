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

	claims    int  // requests that get the restart notice if it succeeds. Guarded by the session's lock, as is the next
	succeeded bool // the session is open again

	done   chan struct{}
	failed *recoveryError // set before done is closed; nil: it succeeded
}

// recover opens a session again that its server has lost from the place at, or waits for the recovery that is going on. It
// returns nil where the call may be sent again, to the session's new place. Else the call gets what it returns: the loss, or
// what the server said to a recovery without authorization; the restart notice; or the failure of a caller who left, or of a
// server that could not be asked just now, so that the session may still be recovered later.
func (s *Stage) recover(ctx context.Context, c *mcp.Call, e *session, at *place, lost *mcp.Result) (*mcp.Result, error) {
	credential := s.opts.Credential(c)
	claims := s.needsNotice(c) && e.trusts(credential)
	for ctx.Err() == nil { // who has left must not use the notice up
		r, res := s.join(c, e, at, credential, claims)
		if r == nil && res != resultHealed {
			s.gaveUpOn(res)
			return lost, nil
		}
		var failed *recoveryError
		if r != nil {
			select {
			case <-r.done:
				failed = r.failed
			case <-ctx.Done():
				r.unclaim(claims)
				continue
			}
		}
		switch {
		case failed == nil && claims:
			return nil, restarted()
		case failed == nil:
			return nil, nil
		case failed.failure != nil:
			f := *failed.failure
			f.Sent = mcp.SentNo // of this call: it met the loss, and has therefore not run
			return nil, &f
		case r.credential == credential:
			return failed.answer(lost), nil
		}
		// Another credential's recovery failed: it may have been the credential.
	}
	return nil, mcp.Canceled(ctx, mcp.SentNo)
}

// join finds the recovery to wait for, or begins one. If there is none, it says why: the session has been recovered since the
// call was sent (resultHealed), or cannot be. claims says that the call is one that gets the restart notice.
func (s *Stage) join(c *mcp.Call, e *session, at *place, credential [32]byte, claims bool) (*recovery, result) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r, res := e.recovery, result("")
	switch {
	case e.at.number > at.number && !e.at.gone:
		if claims {
			e.noticeDue.Store(false)
		}
		return nil, resultHealed
	case e.at.over:
		return nil, resultEnded
	case !slices.Contains(e.trusted, credential):
		return nil, resultCredential
	case r == nil:
		r, res = s.beginLocked(c, e, credential)
	}
	if r != nil && claims {
		r.claims++
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
func (r *recovery) finish(failed *recoveryError) {
	e := r.session
	e.change(func() {
		e.recovery = nil
		switch {
		case failed == nil && e.at.over:
			failed = &recoveryError{result: resultEnded}
		case failed == nil:
			e.moveLocked(r.id, false)
			r.succeeded = true
			e.noticeDue.Store(r.stage.opts.Heal == HealReads && r.claims == 0)
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

// succeeded counts and tells that a session is open again.
func (s *Stage) succeeded() {
	s.opts.Recovered()
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
