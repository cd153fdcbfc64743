package rpc

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"sync"
	"time"

	"fluentd-perf/internal/era"
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

// sessions are the legacy sessions that the daemon has opened for callers without one: one for each partition, without
// client capabilities, so that the server never asks anything of a client that nobody can tell.
type sessions struct {
	mu sync.Mutex
	by map[[32]byte]*ownSession // those that are open, or being opened
}

// ownSession is one of them. A server that mints no session id has one as well: the version that it agreed to.
type ownSession struct {
	key   [32]byte
	ready chan struct{} // closed when the following are there

	id      string // ""
	version string
	header  http.Header // of its DELETE
	query   string      // of its DELETE
	failure *mcp.Failure
	unknown bool // the server does not know initialize

	// The following are guarded by sessions.mu.
	users   int         // who opens it is one
	since   time.Time   // nobody uses it, if users is 0
	timer   *time.Timer // ends it then
	removed bool        // from the table
	lost    bool        // the server does not know it: there is nothing to end
}

// ownSession returns the session of the caller's partition, opened if need be: once for all who wait. Whoever gets one
// without a failure calls leave. The failure is of calls that were not sent; the session beside it is never used.
func (r *run) ownSession(ctx context.Context) (*ownSession, *mcp.Failure) {
	a, t, key := r.a, &r.a.sessions, r.whose()
	t.mu.Lock()
	s := t.by[key]
	if s == nil {
		if !a.makeRoomLocked() {
			t.mu.Unlock()
			return nil, &mcp.Failure{
				Code: mcp.CodeOverloaded, Reason: mcp.ReasonTooManyCalls, Sent: mcp.SentNo, RetryAfter: time.Second,
				Message: "too many sessions of the daemon's own with this server are in use",
			}
		}
		s = &ownSession{key: key, ready: make(chan struct{}), users: 1}
		t.by[key] = s
		a.running.Go(func() { r.open(s) }) // beside the array, which runs
	}
	s.users++
	t.mu.Unlock()
	select {
	case <-s.ready:
		if s.failure != nil {
			a.leave(s)
		}
		return s, s.failure
	case <-ctx.Done():
		a.leave(s)
		return nil, mcp.Left(ctx, mcp.SentNo)
	}
}

// open opens a session, for all who wait for it, and is its first user.
func (r *run) open(s *ownSession) {
	defer func() {
		if p := recover(); p != nil {
			r.a.opts.Log.Error("bug: an initialize panicked", "upstream", r.a.opts.Upstream, "panic", p)
			s.failure = era.Unsent(mcp.Inside(fmt.Errorf("panic: %v", p)))
		}
		if s.failure != nil {
			r.a.remove(s, true)
		}
		close(s.ready)
		r.a.leave(s)
	}()
	ctx, cancel := context.WithTimeout(r.a.base, ownOpenTime)
	defer cancel()
	if s.failure = r.initialize(ctx, s); s.failure == nil {
		s.failure = r.initialized(ctx, s)
	}
}

// initialize asks for a session without capabilities (2025-11-25, basic/lifecycle).
func (r *run) initialize(ctx context.Context, s *ownSession) *mcp.Failure {
	c := r.ownCall("", r.header, fmt.Sprintf(`"id":%s,"method":"initialize","params":{"protocolVersion":%q,"capabilities":{},"clientInfo":%s}`,
		r.a.ids.Next(), mcp.Version20251125, r.a.info))
	reply, f := r.exchange(ctx, c, mcp.NewBudget(ownAnswer))
	if f != nil {
		return era.Unsent(f)
	}
	defer r.a.opts.Buffers.Put(reply.Body)
	if reply.Message.Kind != mcp.KindResult {
		s.unknown = !reply.Denied()
		f := era.Unsent(reply.Failure())
		f.Message += " to initialize"
		return f
	}
	result := reply.Message.Result.Of(reply.Body)
	if at, err := mcp.Member(result, "protocolVersion"); err == nil {
		s.version, _ = mcp.Text(at.Of(result))
	}
	s.id = reply.Header.Get("Mcp-Session-Id")
	s.header, s.query = maps.Clone(r.header), r.call.Query
	delete(s.header, "Content-Type")
	fill(s.header, s.version, s.id)
	return nil
}

// initialized ends the handshake.
func (r *run) initialized(ctx context.Context, s *ownSession) *mcp.Failure {
	h := maps.Clone(r.header)
	fill(h, s.version, s.id)
	reply, f := r.exchange(ctx, r.ownCall(s.version, h, `"method":"notifications/initialized"`), mcp.NewBudget(ownAnswer))
	if f == nil && reply.Status >= http.StatusMultipleChoices {
		f = reply.Failure()
	}
	if f == nil {
		return nil
	}
	r.a.end(ctx, s)
	return era.Unsent(f)
}

// makeRoomLocked ends the session that nobody has used for longest, if there are as many as there may be.
func (a *Arrays) makeRoomLocked() bool {
	if len(a.sessions.by) < maxOwnSessions {
		return true
	}
	var oldest *ownSession
	for _, s := range a.sessions.by {
		if s.users == 0 && (oldest == nil || s.since.Before(oldest.since)) {
			oldest = s
		}
	}
	if oldest == nil {
		return false
	}
	a.removeLocked(oldest)
	return true
}

// remove takes a session off the table, which the server has lost for sure, or perhaps: then it is ended when nobody uses it
// any more.
func (a *Arrays) remove(s *ownSession, lost bool) {
	a.sessions.mu.Lock()
	defer a.sessions.mu.Unlock()
	s.lost = s.lost || lost
	a.removeLocked(s)
}

func (a *Arrays) removeLocked(s *ownSession) {
	if s.removed {
		return
	}
	s.removed = true
	delete(a.sessions.by, s.key)
	a.endUnusedLocked(s)
}

// leave ends one use of a session. The last one begins its idle time.
func (a *Arrays) leave(s *ownSession) {
	a.sessions.mu.Lock()
	defer a.sessions.mu.Unlock()
	s.users--
	s.since = time.Now()
	a.endUnusedLocked(s)
}

// endUnusedLocked ends a session that nobody uses: now if it is off the table, else when its idle time is over. The caller
// is within something that Close waits for.
func (a *Arrays) endUnusedLocked(s *ownSession) {
	if s.timer != nil {
		s.timer.Stop()
	}
	switch {
	case s.users > 0:
	case !s.removed:
		s.timer = time.AfterFunc(ownSessionIdle, func() { a.idle(s) })
	case !s.lost:
		a.running.Go(func() {
			ctx, cancel := context.WithTimeout(a.base, ownEndTime)
			defer cancel()
			a.end(ctx, s)
		})
	}
}

// idle ends a session that nobody has used for long.
func (a *Arrays) idle(s *ownSession) {
	if !a.begin() {
		return // Close ends it
	}
	defer a.running.Done()
	a.sessions.mu.Lock()
	defer a.sessions.mu.Unlock()
	if s.users == 0 && time.Since(s.since) >= ownSessionIdle {
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
	res, err := a.opts.Next.Call(ctx, &mcp.Call{
		Upstream: a.opts.Upstream, Lane: mcp.LaneEnd, Era: mcp.EraLegacy, Version: s.version, Header: s.header, Query: s.query,
		Start: time.Now(),
	})
	if err != nil {
		a.opts.Log.Debug("a session of the daemon's own could not be ended", "upstream", a.opts.Upstream, "cause", err)
		return
	}
	_ = res.Close() // nothing in it is of any use
}

// endSessions ends all that are open, many at a time. Nothing runs any more.
func (a *Arrays) endSessions() {
	const atOnce = 32
	t := &a.sessions
	t.mu.Lock()
	open := make(chan *ownSession, len(t.by))
	for _, s := range t.by {
		s.removed = true
		s.timer.Stop()
		open <- s
	}
	clear(t.by)
	t.mu.Unlock()
	close(open)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.opts.Base), ownEndTime)
	defer cancel()
	var enders sync.WaitGroup
	for range min(atOnce, len(open)) {
		enders.Go(func() {
			for s := range open {
				a.end(ctx, s)
			}
		})
	}
	enders.Wait()
}
