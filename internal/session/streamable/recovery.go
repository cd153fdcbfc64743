package streamable

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"time"

	"fluentd-perf/internal/mcp"
)

const (
	recoveryTime   = 30 * time.Second // for what is said again to a process that has answered initialize
	recoveriesEach = time.Minute      // a session whose process ends by itself
	mostRecoveries = 3                // so often in that time is lost
)

// opening is a process for a session whose former one has gone, for all who wait.
type opening struct {
	done    chan struct{} // closed when the following are there
	failure *mcp.Failure
	lost    bool // the session cannot be opened again
	notice  bool // it had state, which is gone

	waiting int // calls that get the restart notice when done is closed; guarded by the session's lock
}

// needsNotice reports whether a call may get the notice that state is gone: what may have changed something.
func (f *Front) needsNotice(c *mcp.Call) bool {
	switch c.Lane {
	case mcp.LaneRequest, mcp.LaneListen:
		return f.opts.Heal == HealReads && !f.opts.Repeatable(c)
	case mcp.LaneOpaque, mcp.LaneBatch:
		return f.opts.Heal == HealReads
	}
	return false
}

// wait is a request that waits for its process. Guarded by the session's lock.
type wait struct {
	id     []byte // the agent's, raw
	cancel context.CancelCauseFunc
}

// beginWait returns the context of a call's wait, which ends where the agent cancels the call: what it gave up must not be sent
// after that.
func (s *session) beginWait(ctx context.Context, c *mcp.Call) (context.Context, func()) {
	if c.Lane != mcp.LaneRequest {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	w := &wait{id: c.ID(), cancel: cancel}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waits = append(s.waits, w)
	return ctx, func() {
		cancel(nil)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.waits = slices.DeleteFunc(s.waits, func(other *wait) bool { return other == w })
	}
}

// stopWaitingLocked ends the wait of the request with an id of the agent's, if it waits.
func (s *session) stopWaitingLocked(id []byte) {
	i := slices.IndexFunc(s.waits, func(w *wait) bool { return mcp.SameID(w.id, id) })
	if i >= 0 {
		s.waits[i].cancel(cancelled(mcp.SentNo))
	}
}

// enter returns the session's process, entered once, opened again if it has gone. It returns a result or a failure instead where
// the call is not to be sent. While the process is being asked whether it answers, a call waits: it would end with one that does
// not.
func (s *session) enter(ctx context.Context, c *mcp.Call) (*link, *mcp.Result, *mcp.Failure) {
	needs, waits := s.f.needsNotice(c), false
	for {
		s.mu.Lock()
		if s.ended {
			s.mu.Unlock()
			return nil, lost(), nil
		}
		l, o := s.link, s.opening
		if needs && s.notice && o == nil {
			s.notice = false
			s.mu.Unlock()
			s.f.opts.Store.saver.Changed()
			return nil, nil, restarted()
		}
		if l == nil && o == nil {
			o = s.beginLocked()
		}
		if o != nil && needs {
			o.waiting++
		}
		s.mu.Unlock()
		var checking <-chan struct{}
		if o == nil && l != nil {
			checking = l.server.Checking()
		}
		switch {
		case o != nil: // also where its process is there already: it has not been told everything yet
		case checking != nil:
		case l == nil:
			s.lose(s.whyNot())
			return nil, lost(), nil
		case l.server.Enter():
			return l, nil, nil
		default:
			s.detach(l, whyGone(l.server))
			continue
		}
		if !waits {
			var end func()
			ctx, end = s.beginWait(ctx, c)
			defer end()
			waits = true
		}
		if res, f := s.await(ctx, o, checking, needs); res != nil || f != nil {
			return nil, res, f
		}
	}
}

// whyGone is why a process cannot be entered.
func whyGone(server Server) *mcp.Failure {
	select {
	case <-server.Ended():
		return server.Failure()
	default:
		return &mcp.Failure{Reason: mcp.ReasonCanceled, Message: "the server's process gives way to others"}
	}
}

// await waits for the opening, or for the end of a check where there is none.
func (s *session) await(ctx context.Context, o *opening, checking <-chan struct{}, needs bool) (*mcp.Result, *mcp.Failure) {
	if o == nil {
		select {
		case <-checking:
			return nil, nil
		case <-ctx.Done():
			return nil, mcp.Canceled(ctx, mcp.SentNo)
		}
	}
	select {
	case <-o.done:
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		switch {
		case needs && s.opening == o:
			o.waiting--
		case needs && o.notice:
			s.notice = true // it was this call's in just this moment: rather once too often than never
		}
		return nil, mcp.Canceled(ctx, mcp.SentNo)
	}
	switch {
	case o.lost:
		return lost(), nil
	case o.failure != nil:
		own := *o.failure
		own.Sent = mcp.SentNo
		return nil, &own
	case o.notice && needs:
		return nil, restarted()
	}
	return nil, nil
}

// restarted is the notice.
func restarted() *mcp.Failure {
	return &mcp.Failure{
		Code: mcp.CodeSessionRestart, Reason: mcp.ReasonSessionRestarted, Sent: mcp.SentNo,
		Message: "the server's process of this session has ended, and another was started: what it kept for the session is gone. " +
			"This request was not sent; send it again if it does not need that",
	}
}

// whyNot is why a session may not be opened again. With HealOff none may: that is nothing to count.
func (s *session) whyNot() Replacement {
	switch {
	case s.f.opts.Heal == HealOff:
		return ""
	case s.initialize == nil:
		return ReplacementUnknown
	}
	return ReplacementTooOften
}

// lose ends a session that cannot be opened again.
func (s *session) lose(why Replacement) {
	if why != "" {
		s.f.opts.Replaced(why)
	}
	s.f.opts.Log.Info("session lost and not healed", "upstream", s.f.opts.Upstream, "result", string(why))
	s.f.opts.Store.remove(s)
	s.end()
}

// beginLocked begins to open another process; nil where that may not be.
func (s *session) beginLocked() *opening {
	now := time.Now()
	for len(s.begun) > 0 && now.Sub(s.begun[0]) >= recoveriesEach {
		s.begun = s.begun[1:]
	}
	if s.f.opts.Heal == HealOff && s.recalled == nil || len(s.begun) > mostRecoveries || s.initialize == nil {
		return nil
	}
	o := &opening{done: make(chan struct{})}
	s.opening = o
	if !s.f.start(func() { s.recover(o) }) {
		s.opening = nil
		o.failure = mcp.Draining()
		close(o.done)
	}
	return o
}

// recover opens another process for the session, says to it what the agent said to the former one, and lets the calls in.
func (s *session) recover(o *opening) {
	isFirst := s.isRecalled() // nothing has gone
	failure, isLost := s.reopen(&link{s: s})
	s.mu.Lock()
	s.opening = nil
	if o.failure, o.lost = failure, isLost; failure == nil && !isLost {
		o.notice = s.state && s.f.opts.Heal == HealReads
		s.notice = s.notice || o.notice && o.waiting == 0
		s.state = false
		s.noteLocked()
	}
	close(o.done)
	s.mu.Unlock()
	switch {
	case isLost:
		s.lose(ReplacementChanged)
		return
	case isFirst:
	case failure == nil:
		s.f.opts.Replaced(ReplacementHealed)
	case s.f.base.Err() == nil:
		s.f.opts.Replaced(ReplacementUnreachable)
	}
	s.f.opts.Store.saver.Changed()
	switch {
	case failure != nil:
		s.f.opts.Log.Warn("a session got no process; its next call tries again", "upstream", s.f.opts.Upstream, "error", failure)
	case !isFirst:
		s.f.opts.Log.Info("session healed", "upstream", s.f.opts.Upstream, "state_lost", o.notice)
	}
}

// reopen starts the process and says everything again. A process with another version of the protocol, other capabilities or
// another name is none of this session's. The process is the session's before it is told everything: it may ask meanwhile.
func (s *session) reopen(l *link) (f *mcp.Failure, isLost bool) {
	var m mcp.Message
	if mcp.Scan(s.initialize, &m) != nil {
		return nil, true
	}
	server, answer, f := s.f.opts.Open(s.f.base, s.initialize, &m, l.take)
	if f != nil {
		return f, false
	}
	defer server.Leave()
	var am mcp.Message
	if mcp.Scan(answer, &am) != nil {
		am = mcp.Message{}
	}
	facts, _, ok := factsOf(answer, &am)
	if ok {
		s.mu.Lock()
		ok = s.acceptLocked(facts, am.Result.Of(answer))
		s.mu.Unlock()
	}
	if !ok {
		server.Release()
		return nil, true
	}
	l.know(server)
	if !s.attach(l, server) {
		server.Release()
		return mcp.Draining(), false
	}
	ctx, cancel := context.WithTimeout(s.f.base, recoveryTime)
	defer cancel()
	if f := s.repeat(ctx, l); f != nil {
		s.detach(l, f)
		server.Release()
		return f, false
	}
	return nil, false
}

// repeat says again to the process what the agent has said: initialized, log level, subscriptions. What the server refuses
// now, it refuses: a resource may be gone.
func (s *session) repeat(ctx context.Context, l *link) *mcp.Failure {
	server := l.server
	s.mu.Lock()
	initialized, level, uris := s.initialized, s.level, s.uris[:len(s.uris):len(s.uris)]
	l.told = initialized
	s.mu.Unlock()
	if !initialized {
		return nil
	}
	own := []byte(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	if f := server.Send(ctx, own, scanned(own)); f != nil {
		return f
	}
	if level != nil {
		if f := ask(ctx, server, mcp.MethodLoggingSetLevel, `{"level":`+string(level)+`}`); f != nil {
			return f
		}
	}
	for _, uri := range uris {
		if f := ask(ctx, server, mcp.MethodResourcesSubscribe, `{"uri":`+string(uri)+`}`); f != nil {
			return f
		}
	}
	s.confirm(ctx, l)
	return nil
}

// scanned is the scan of a message of the daemon's own.
func scanned(own []byte) *mcp.Message {
	var m mcp.Message
	if err := mcp.Scan(own, &m); err != nil {
		panic("streamable: a message of the daemon's own is none (this is a bug): " + err.Error())
	}
	return &m
}

// ask sends a request of the daemon's own and waits for the answer.
func ask(ctx context.Context, server Server, method mcp.Method, params string) *mcp.Failure {
	body := []byte(`{"jsonrpc":"2.0","id":0,"method":"` + method.String() + `","params":` + params + `}`)
	answered := make(chan struct{}, 1)
	id, f := server.Request(ctx, body, scanned(body), func(_ []byte, m *mcp.Message) {
		if m.Kind.IsAnswer() {
			answered <- struct{}{}
		}
	})
	if f != nil {
		return f
	}
	select {
	case <-answered:
		return nil
	case <-server.Ended():
		return server.Failure()
	case <-ctx.Done():
		server.Forget(id)
		return &mcp.Failure{
			Code: mcp.CodeDeadlinePassed, Reason: mcp.ReasonFirstByte, Sent: mcp.SentNo,
			Message: "the server's new process did not answer in time what belongs to the session",
		}
	}
}

// factsOf returns what an initialize result says that may not differ in another process, as a hash, and the version in it.
func factsOf(answer []byte, m *mcp.Message) (facts [32]byte, version string, ok bool) {
	if m.Kind != mcp.KindResult {
		return facts, "", false
	}
	var result struct {
		ProtocolVersion string
		Capabilities    any
		ServerInfo      struct{ Name string }
	}
	if json.Unmarshal(m.Result.Of(answer), &result) != nil {
		return facts, "", false
	}
	text, err := json.Marshal(result) // members of objects in order
	if err != nil {
		return facts, "", false
	}
	return sha256.Sum256(text), result.ProtocolVersion, true
}
