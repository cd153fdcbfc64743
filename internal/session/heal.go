package session

import (
	"context"
	"time"

	"fluentd-perf/internal/mcp"
)

// Heal says what becomes of a session that its server has lost.
type Heal uint8

// `sessions.heal`. HealReads opens the session anew and lets the agent know by one error; HealAll is the operator's word
// that the server keeps no state, so that nobody has to know; HealOff passes on what the server says.
const (
	HealOff Heal = iota
	HealReads
	HealAll
)

// Under HealReads a healed session owes its agent one 1410, so that the model learns that the state is gone. What is owed
// moves so, all of it under the session's lock:
//
//   - A debtor is a request without R. One that meets the loss joins the healing, or sets it off, and is counted there.
//   - The healing succeeds: each of its debtors gets a 1410, and the session owes none; with no debtor there, it owes one.
//   - A debtor that met the loss but comes when the healing is over gets a 1410, which pays.
//   - The first debtor that comes to a session that owes gets the 1410 instead of being sent, which pays.
//   - Only who belongs to the session gets a 1410 of it: a credential that had no 2xx in it is asked about first.
//   - A debtor that leaves while it waits is none; if the healing is over by then and nobody reads its 1410, the session owes.
//   - The healing fails: everybody gets the loss, and what the session owed before it still owes.
//
// Requests with R, notifications, answers and GETs never pay. A session that has paid lets all requests through, until
// the next healing.

// healing is one attempt to open a session anew. Its fields but done and credential are guarded by the session's lock
// until done is closed, and never change after.
type healing struct {
	credential [32]byte
	debtors    int
	done       chan struct{}
	at         place // if it succeeded
	result     result
	failure    *mcp.Failure // of a step that the server did not answer; nil otherwise
	refusal    *refusal     // of a step that the server refused with 401 or 403; nil otherwise
}

// owed reports whether the call has to get a 1410 once its session was healed: a request without R, or what the daemon does
// not understand, which may be one.
func (s *Stage) owed(c *mcp.Call) bool {
	if s.opts.Heal != HealReads {
		return false
	}
	return c.Lane == mcp.LaneRequest && !s.opts.Repeatable(c) || c.Lane == mcp.LaneOpaque
}

func (e *session) mayOwe() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.owes
}

// pay reports whether the session owed a 1410, which the caller gets.
func (e *session) pay() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	owed := e.owes
	e.owes = false
	return owed
}

// mended is what came of a loss.
type mended struct {
	ok      bool
	at      place    // where the session lives now, if ok
	refusal *refusal // what the agent gets in the place of the loss, if not ok; nil: the loss
}

// heal opens a session anew that its server has lost from the place at, or waits for the healing that is going on. Where it
// gives up, the loss is to be passed on, or what the server said to a healing without authorization. The error is that of a
// caller who left, or of a server that could not be asked just now: the call has not run, and the session may still be
// healed. owed says that the caller will get a 1410.
func (s *Stage) heal(ctx context.Context, c *mcp.Call, e *session, at place, owed bool) (mended, error) {
	credential := s.opts.Credential(c)
	for {
		h, now, res := s.join(c, e, at, credential, owed)
		switch {
		case res == resultHealed:
			return mended{ok: true, at: now}, nil
		case res != "":
			s.gaveUpOn(res)
			return mended{}, nil
		}
		select {
		case <-h.done:
		case <-ctx.Done():
			e.leave(h, owed)
			return mended{}, left(ctx)
		}
		if h.result == resultHealed {
			return mended{ok: true, at: h.at}, nil
		}
		if h.failure != nil {
			return mended{}, unasked(h.failure)
		}
		if h.credential == credential {
			return mended{refusal: h.refusal}, nil
		}
		// Another credential's healing failed: it may have been the credential.
	}
}

// join finds the healing to wait for, or sets one off; or says at once what comes of it.
func (s *Stage) join(c *mcp.Call, e *session, at place, credential [32]byte, owed bool) (*healing, place, result) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.at.gen > at.gen:
		if owed && e.trustsLocked(credential) {
			e.owes = false
		}
		return nil, e.at, resultHealed
	case e.ended:
		return nil, place{}, resultEnded
	case e.opening == nil:
		return nil, place{}, resultUnknown
	case !e.trustsLocked(credential):
		return nil, place{}, resultCredential
	}
	h := e.healing
	if h == nil {
		if !e.mayHealLocked(time.Now()) {
			return nil, place{}, resultTooOften
		}
		h = &healing{credential: credential, done: make(chan struct{})}
		if !s.start(func() { s.run(e, h, c) }) {
			return nil, place{}, resultEnded
		}
		e.healing = h
	}
	if owed {
		h.debtors++
	}
	return h, place{}, ""
}

func (e *session) trusts(credential [32]byte) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.trustsLocked(credential)
}

func (e *session) trustsLocked(credential [32]byte) bool {
	for _, t := range e.trusted {
		if t == credential {
			return true
		}
	}
	return false
}

// mayHealLocked holds the bound of three healings in a minute, and counts one.
func (e *session) mayHealLocked(now time.Time) bool {
	for len(e.begun) > 0 && now.Sub(e.begun[0]) >= time.Minute {
		e.begun = e.begun[1:]
	}
	if len(e.begun) >= healsPerMinute {
		return false
	}
	e.begun = append(e.begun, now)
	return true
}

// leave is for a caller that does not wait for its healing any longer.
func (e *session) leave(h *healing, owed bool) {
	if !owed {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.healing == h:
		h.debtors--
	case h.result == resultHealed && e.at.gen == h.at.gen:
		e.owes = true
	}
}

// settle ends a healing: with the session's new place where it succeeded.
func (s *Stage) settle(e *session, h *healing, p *patient, res result) result {
	id := p.id
	e.mu.Lock()
	defer e.mu.Unlock()
	h.refusal = p.refusal
	if res == resultUnreachable {
		h.failure = p.failure.Load()
	}
	if p.id == "" && (h.refusal != nil || h.failure != nil && h.failure.Sent == mcp.SentNo) && len(e.begun) > 0 {
		e.begun = e.begun[:len(e.begun)-1] // no session was opened: it says nothing of how long one lasts
	}
	if res == resultHealed && e.ended {
		res = resultEnded
	}
	if res == resultHealed {
		e.weigh(len(id) - len(e.at.id))
		e.at = place{id: id, header: []string{id}, gen: e.at.gen + 1}
		e.owes = s.opts.Heal == HealReads && h.debtors == 0
		e.ageLocked()
		for _, move := range e.moves {
			move()
		}
	}
	e.healing, h.at, h.result = nil, e.at, res
	s.count(res)
	close(h.done)
	return res
}
