package rpc

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"fluentd-perf/internal/era"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// Bounds of the sessions of the daemon's own.
const (
	maxOwnSessions = 1000
	ownSessionIdle = 5 * time.Minute
	ownOpenTime    = time.Minute
	ownEndTime     = 5 * time.Second
	ownAnswer      = 1 << 20
)

// ownSession is a legacy session that the daemon has opened for callers without one: one for each partition, without client
// capabilities, so that the server never asks a client that cannot be told apart. A server that mints no session id
// has one as well: the version that it agreed to.
type ownSession struct {
	key   [32]byte      // the partition
	ready chan struct{} // closed when the following are there

	id      string // ""
	version string
	header  header.List // of its initialize, with what a header has in the session
	query   string      // of its initialize
	failure *mcp.Failure

	// Guarded by Arrays.mu. It is open while it is in Arrays.sessions.
	users int         // who opens it is one
	since time.Time   // when it was last used, if users is 0
	timer *time.Timer // ends it then
	lost  bool        // the server does not know it: there is nothing to end
}

// ownSession returns the session of the caller's partition, opened if need be: once for all who wait. Whoever gets one
// calls leave. The failure is of calls that were not sent.
func (r *run) ownSession(ctx context.Context) (*ownSession, *mcp.Failure) {
	a, key := r.a, r.partition
	a.mu.Lock()
	s := a.sessions[key]
	if s == nil {
		if !a.evictLocked() {
			a.mu.Unlock()
			return nil, &mcp.Failure{
				Code: mcp.CodeOverloaded, Reason: mcp.ReasonTooManyCalls, Sent: mcp.SentNo, RetryAfter: time.Second,
				Message: "too many sessions of the daemon's own with this server are in use",
			}
		}
		s = &ownSession{key: key, ready: make(chan struct{}), users: 1}
		s.timer = time.AfterFunc(ownSessionIdle, func() { a.endIdle(s) })
		a.sessions[key] = s
		a.running.Go(func() { r.open(s) }) // beside the array, which runs
	}
	s.users++
	a.mu.Unlock()
	select {
	case <-s.ready:
	case <-ctx.Done():
		a.leave(s)
		return nil, mcp.Canceled(ctx, mcp.SentNo)
	}
	if s.failure != nil {
		a.leave(s)
		return nil, s.failure
	}
	return s, nil
}

// errNoInitialize is why there is no session with a server that does not know initialize.
var errNoInitialize = errors.New("the server does not know initialize")

// open opens a session, for all who wait for it, and is its first user.
func (r *run) open(s *ownSession) {
	defer r.a.leave(s)
	defer close(s.ready)
	f := r.a.forAll("initialize", ownOpenTime, func(ctx context.Context) *mcp.Failure { return r.initialize(ctx, s) })
	if f != nil {
		s.failure = era.Unsent(f)
		r.a.remove(s, false)
	}
}

// initialize makes a session without capabilities (2025-11-25, basic/lifecycle).
func (r *run) initialize(ctx context.Context, s *ownSession) *mcp.Failure {
	c := r.ownCall("", r.header, fmt.Sprintf(`"id":%s,"method":"initialize","params":{"protocolVersion":%q,"capabilities":{},"clientInfo":%s}`,
		r.a.ids.Next(), mcp.Version20251125, r.a.info))
	p, f := r.callOnce(ctx, c, mcp.NewBudget(ownAnswer))
	if f != nil {
		return f
	}
	defer r.a.opts.Buffers.Put(p.Body)
	if p.Message.Kind != mcp.KindResult {
		f := p.Failure()
		f.Message += " to initialize"
		if !p.Denied() {
			f.Cause = errNoInitialize
		}
		return f
	}
	result := p.Message.Result.Of(p.Body)
	if at, err := mcp.Member(result, "protocolVersion"); err == nil {
		s.version, _ = mcp.Text(at.Of(result))
	}
	s.id = p.Header.Get("Mcp-Session-Id")
	s.header, s.query = r.headerIn(s.version, s.id), r.call.Query
	p, f = r.callOnce(ctx, r.ownCall(s.version, s.header, `"method":"notifications/initialized"`), nil)
	if f == nil && p.Status >= http.StatusMultipleChoices {
		f = p.Failure()
	}
	return f
}

// evictLocked ends the session that has been unused for longest if there are as many as there may be, and reports whether there is
// room for one more.
func (a *Arrays) evictLocked() bool {
	if len(a.sessions) < maxOwnSessions {
		return true
	}
	var oldest *ownSession
	for _, s := range a.sessions {
		if s.users == 0 && (oldest == nil || s.since.Before(oldest.since)) {
			oldest = s
		}
	}
	if oldest != nil {
		a.removeLocked(oldest)
	}
	return oldest != nil
}

// remove takes a session off the table. Its last user ends it, unless lost says that the server does not know it any more.
func (a *Arrays) remove(s *ownSession, lost bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.lost = s.lost || lost
	a.removeLocked(s)
}

func (a *Arrays) removeLocked(s *ownSession) {
	if a.sessions[s.key] == s {
		delete(a.sessions, s.key)
		s.timer.Stop()
		a.endUnusedLocked(s)
	}
}

// leave ends one use of a session. The last one begins its idle time.
func (a *Arrays) leave(s *ownSession) {
	a.mu.Lock()
	defer a.mu.Unlock()
	s.users--
	s.since = time.Now()
	a.endUnusedLocked(s)
}

// endUnusedLocked ends a session without users: now if it is off the table, else when its idle time is over. The caller
// is within something that Close waits for.
func (a *Arrays) endUnusedLocked(s *ownSession) {
	switch {
	case s.users > 0:
	case a.sessions[s.key] == s:
		s.timer.Reset(ownSessionIdle)
	case !s.lost:
		a.running.Go(func() {
			ctx, cancel := context.WithTimeout(a.base, ownEndTime)
			defer cancel()
			a.end(ctx, s)
		})
	}
}

// endIdle ends a session that has been unused for its idle time. When the daemon stops Close does it.
func (a *Arrays) endIdle(s *ownSession) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.draining && s.users == 0 && time.Since(s.since) >= ownSessionIdle {
		a.removeLocked(s)
	}
}

// isLost notes what a reply says of its session, and reports whether the message is to be sent on another: the server has
// lost the session for sure, or perhaps and the request may run twice.
func (a *Arrays) isLost(s *ownSession, p *reply) bool {
	sure := p.loss == mcp.LossSure
	switch {
	case p.loss == mcp.LossNone, s.id == "" && p.Status == http.StatusNotFound:
		return false
	case !sure && p.Status != http.StatusBadRequest && p.Status != http.StatusNotFound:
		return false // 401 and 503 have other reasons
	}
	a.remove(s, sure)
	return sure || p.Repeatable
}

// end tells the server that a session has ended (2025-11-25, basic/transports, "Session Management"). What it says to that
// does not matter.
func (a *Arrays) end(ctx context.Context, s *ownSession) {
	if s.id == "" {
		return
	}
	h := s.header.Clone()
	h.Del("Content-Type")
	res, err := a.opts.Next.Call(ctx, &mcp.Call{
		Upstream: a.opts.Upstream, Lane: mcp.LaneEnd, Era: mcp.EraLegacy, Version: s.version, Header: h, Query: s.query,
		Start: time.Now(),
	})
	if err != nil {
		a.opts.Log.Debug("a session of the daemon's own could not be ended", "upstream", a.opts.Upstream, "cause", err)
		return
	}
	_ = res.Close() // nothing in it is of any use
}
