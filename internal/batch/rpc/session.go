package rpc

import (
	"context"
	"net/http"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

// Bounds of the sessions of the daemon's own.
const (
	maxOwnSessions = 1000
	ownSessionIdle = 5 * time.Minute
	ownEndTime     = 5 * time.Second
)

// ownSessions are the legacy sessions that the daemon has opened for callers without one: one for each partition, without
// client capabilities, so that the server never asks anything of a client that nobody can tell.
type ownSessions struct {
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

	// The following are guarded by ownSessions.mu.
	users int
	since time.Time   // nobody uses it, if users is 0
	timer *time.Timer // ends it then
	gone  bool        // no longer in the table
	lost  bool        // the server does not know it: there is nothing to end
}

func (s *ownSession) isReady() bool {
	select {
	case <-s.ready:
		return true
	default:
		return false
	}
}

func (s *ownSession) idField() []string {
	if s.id == "" {
		return nil
	}
	return []string{s.id}
}

// ownSession returns the session of the caller's partition, opened if need be: once for all who wait. Whoever gets one
// without a failure calls leave. The failure is of calls that were not sent; the session beside it is never used.
func (r *arrayRun) ownSession(ctx context.Context) (*ownSession, *mcp.Failure) {
	a, key := r.a, r.whose()
	t := &a.sessions
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
		s = &ownSession{key: key, ready: make(chan struct{})}
		t.by[key] = s
		a.running.Add(1) // beside the array, which runs
		go func() {
			defer a.running.Done()
			r.open(s)
		}()
	}
	s.users++
	if s.timer != nil {
		s.timer.Stop()
	}
	t.mu.Unlock()
	var f *mcp.Failure
	select {
	case <-s.ready:
		f = s.failure
	case <-ctx.Done():
		f = ended(ctx, &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentNo, Cause: ctx.Err()})
		a.leave(s)
		return nil, f
	}
	if f != nil {
		a.leave(s)
	}
	return s, f
}

// makeRoomLocked ends the session that nobody has used for longest, if there are as many as there may be.
func (a *Stage) makeRoomLocked() bool {
	t := &a.sessions
	if len(t.by) < maxOwnSessions {
		return true
	}
	var oldest *ownSession
	for _, s := range t.by {
		if s.users == 0 && s.isReady() && (oldest == nil || s.since.Before(oldest.since)) {
			oldest = s
		}
	}
	if oldest == nil {
		return false
	}
	a.removeLocked(oldest)
	a.endSoon(oldest)
	return true
}

func (a *Stage) removeLocked(s *ownSession) {
	if s.gone {
		return
	}
	s.gone = true
	delete(a.sessions.by, s.key)
	if s.timer != nil {
		s.timer.Stop()
	}
}

// leave ends one use of a session. The last one begins its idle time, or ends it if it is out of the table.
func (a *Stage) leave(s *ownSession) {
	t := &a.sessions
	t.mu.Lock()
	defer t.mu.Unlock()
	if s.users--; s.users > 0 {
		return
	}
	s.since = time.Now()
	switch {
	case s.gone:
		a.endSoon(s)
	case s.timer == nil:
		s.timer = time.AfterFunc(ownSessionIdle, func() { a.idle(s) })
	default:
		s.timer.Reset(ownSessionIdle)
	}
}

// idle ends a session that nobody has used for long.
func (a *Stage) idle(s *ownSession) {
	if !a.begin() {
		return // Close ends it
	}
	defer a.running.Done()
	t := &a.sessions
	t.mu.Lock()
	if s.gone || s.users > 0 || time.Since(s.since) < ownSessionIdle {
		t.mu.Unlock()
		return
	}
	a.removeLocked(s)
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(a.base, ownEndTime)
	defer cancel()
	a.end(ctx, s)
}

// forget takes a session out of the table that the server has lost.
func (a *Stage) forget(s *ownSession) {
	a.sessions.mu.Lock()
	s.lost = true
	a.removeLocked(s)
	a.sessions.mu.Unlock()
}

// retire takes a session out of the table that the server may have lost. It is ended when nobody uses it any more.
func (a *Stage) retire(s *ownSession) {
	a.sessions.mu.Lock()
	a.removeLocked(s)
	a.sessions.mu.Unlock()
}

// endSoon ends a session that is out of the table and that nobody uses. The caller is within an array, which runs.
func (a *Stage) endSoon(s *ownSession) {
	if s.lost {
		return
	}
	a.running.Add(1)
	go func() {
		defer a.running.Done()
		ctx, cancel := context.WithTimeout(a.base, ownEndTime)
		defer cancel()
		a.end(ctx, s)
	}()
}

// end tells the server that a session has ended (2025-11-25, basic/transports, "Session Management"). What it says to that
// is of no matter.
func (a *Stage) end(ctx context.Context, s *ownSession) {
	if s.id == "" || s.failure != nil {
		return
	}
	c := &mcp.Call{
		Upstream: a.opts.Upstream, Lane: mcp.LaneEnd, Era: mcp.EraLegacy, Version: s.version, Header: s.header, Query: s.query,
		Start: time.Now(),
	}
	res, err := a.opts.Next.Call(ctx, c)
	if err != nil {
		a.opts.Log.Debug("a session of the daemon's own could not be ended", "upstream", a.opts.Upstream, "cause", err)
		return
	}
	_ = res.Close() // nothing in it is of any use
}

// endSessions ends all that are open, many at a time. Nothing runs any more.
func (a *Stage) endSessions() {
	const atOnce = 32
	t := &a.sessions
	t.mu.Lock()
	open := make(chan *ownSession, len(t.by))
	for _, s := range t.by {
		a.removeLocked(s)
		open <- s
	}
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
