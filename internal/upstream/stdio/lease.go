package stdio

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

// The bounds of what is kept of what a process wrote before it had a session. A session buffers no more messages for its agent
// (package session/streamable), so that a spare which has more is nobody's: its agent would miss some.
const (
	maxUnread         = 64 << 10 // bytes
	maxUnreadAwaited  = 1 << 20  // bytes, of a process that an agent waits for: it has it in a moment
	maxUnreadOfSpares = 256      // messages
)

// Lease is a process in use: by one session, by all modern agents, or by nobody yet. Its methods are safe for concurrent
// use.
type Lease struct {
	pool    *Pool
	session bool
	conn    *conn         // nil until the process runs
	gone    chan struct{} // closed when nothing is left of the process
	onDisk  string        // PoolOptions.OnDisk from before its start
	number  uint64        // of its start in the pool, from 1; guarded by total.mu

	discover []byte // the server/discover that a modern process answered; nil: it is a session's

	// Guarded by Total.mu.
	busy    int       // who holds it by Enter
	listens int       // those of them that listen only
	since   time.Time // when it was used last
	state   bool
	stream  bool
	shared  bool // several sessions may have it
	holders int  // those that do
	evicted bool // it may not be used any more
	ready   bool // it has answered its first message
	started time.Time
	spare   bool                    // nobody has it: it gives way at once
	ahead   bool                    // a spare it was
	abandon context.CancelCauseFunc // of its start, which nobody has asked for; nil of others

	mu     sync.Mutex // guards the following
	taker  func(data []byte, m *mcp.Message)
	unread []unread
	bytes  int
	asked  bool // it has sent a request before it had a session
}

// unread is a message that came before anybody could take it.
type unread struct {
	data []byte
	m    mcp.Message
}

// Enter begins a use of the process: a call, or a request of the server's that waits for its answer. It reports false where
// the process is gone or on its way.
func (l *Lease) Enter() bool {
	t := l.pool.total
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.evicted || l.conn.hasEnded() {
		return false
	}
	l.busy++
	return true
}

// Leave ends a use.
func (l *Lease) Leave() {
	t := l.pool.total
	t.mu.Lock()
	defer t.mu.Unlock()
	l.busy--
	l.since = time.Now()
	if l.session {
		l.pool.ahead.used = l.since
	}
	t.settleLocked()
}

// OnDisk returns what was on disk before the process was started (PoolOptions.OnDisk).
func (l *Lease) OnDisk() string { return l.onDisk }

// Outdated reports whether a process of the pool that was started with something else on disk has answered since.
func (l *Lease) Outdated() bool {
	t := l.pool.total
	t.mu.Lock()
	defer t.mu.Unlock()
	return l.onDisk != "" && l.onDisk != l.pool.onDisk
}

// WasSpare reports whether the process had been started ahead of its session.
func (l *Lease) WasSpare() bool {
	t := l.pool.total
	t.mu.Lock()
	defer t.mu.Unlock()
	return l.ahead
}

// addListens counts uses that listen only: they keep the process, but ask nothing of it.
func (l *Lease) addListens(n int) {
	t := l.pool.total
	t.mu.Lock()
	defer t.mu.Unlock()
	l.listens += n
}

// Note says what the process holds: state that its session would miss, and an open stream of its agent's.
func (l *Lease) Note(state, stream bool) {
	t := l.pool.total
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.state == state && l.stream == stream {
		return
	}
	l.state, l.stream = state, stream
	t.settleLocked()
}

// Share says that several sessions may have the process, and how many do.
func (l *Lease) Share(sessions int) {
	t := l.pool.total
	t.mu.Lock()
	defer t.mu.Unlock()
	l.shared, l.holders = true, sessions
}

// Release gives the process up: it is stopped.
func (l *Lease) Release() {
	t := l.pool.total
	t.mu.Lock()
	defer t.mu.Unlock()
	l.evictLocked()
}

// evictLocked begins to end the process.
func (l *Lease) evictLocked() {
	if l.evicted {
		return
	}
	l.evicted = true
	l.pool.spares = slices.DeleteFunc(l.pool.spares, func(s *spare) bool { return s.lease == l })
	if l.spare && l.abandon != nil {
		l.abandon(reaped())
	}
	if l.conn != nil {
		go l.conn.end(reaped()) // it calls into the process: not under the lock
	}
}

// reaped is why a conn ends whose process is wanted no longer. Nobody waits there.
func reaped() *mcp.Failure {
	return &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentNo, Message: "the server's process was ended because nobody used it, or others waited"}
}

// expiresLocked returns in how long the process goes because nobody uses it; never, and 0 for now.
func (l *Lease) expiresLocked(now time.Time) time.Duration {
	since := l.since
	switch {
	case l.evicted:
		return never
	case l.spare: // it stays as long as the sessions use the server
		since = l.pool.ahead.used
	case l.busy > 0 || l.state && l.stream:
		return never
	}
	return max(since.Add(l.pool.opts.IdleTimeout).Sub(now), 0)
}

// givesWayLocked returns in how long the process may go because others wait; never, and 0 for now.
func (l *Lease) givesWayLocked(now time.Time) time.Duration {
	rest := statelessRest
	switch {
	case l.evicted:
		return never
	case l.spare:
		return 0
	case l.busy > 0:
		return never
	case l.state:
		rest = stateRest
	}
	return max(l.since.Add(rest).Sub(now), 0)
}

// take takes what comes from the process and answers no request. Until there is a session, it is kept.
func (l *Lease) take(data []byte, m *mcp.Message) {
	l.mu.Lock()
	taker := l.taker
	if taker == nil && !l.isFullLocked() {
		l.unread = append(l.unread, unread{data, *m})
		l.bytes += len(data)
		l.asked = l.asked || m.Kind == mcp.KindRequest
	}
	tooMuch, why := l.isFullLocked(), l.unfitLocked()
	l.mu.Unlock()
	switch {
	case taker != nil:
		taker(data, m)
	case why != "" && l.isThrownAway(why):
	case tooMuch:
		l.conn.end(brokeOff("the server's process wrote too much before it was used"))
	}
}

// isFullLocked reports whether no more is kept. Each message takes memory beside its bytes.
func (l *Lease) isFullLocked() bool {
	const each = 256
	return l.bytes+each*len(l.unread) > maxUnreadAwaited
}

// adopt gives all that has come and will come to a session.
func (l *Lease) adopt(taker func([]byte, *mcp.Message)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, u := range l.unread {
		taker(u.data, &u.m)
	}
	l.unread, l.bytes, l.taker = nil, 0, taker
}

// unfit says why a process without a session may not be given to one that comes later, "" where it may.
func (l *Lease) unfit() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.unfitLocked()
}

const saidTooMuch = "it says more before an agent has it than is kept for one"

func (l *Lease) unfitLocked() string {
	switch {
	case l.asked:
		return "it sends requests before an agent has it"
	case len(l.unread) > maxUnreadOfSpares || l.bytes > maxUnread:
		return saidTooMuch
	}
	return ""
}

// Request sends a request under an id of the daemon's own, which it returns. take gets what names it, ids and tokens put
// back, the answer last; the process's reader calls it, and what it is given is its own.
func (l *Lease) Request(ctx context.Context, body []byte, m *mcp.Message, take func([]byte, *mcp.Message)) ([]byte, *mcp.Failure) {
	own := l.pool.conns.ids.Next()
	return own, l.conn.request(ctx, own, body, m, take)
}

// Forget drops a request that has no answer yet.
func (l *Lease) Forget(id []byte) { l.conn.forget(id) }

// Send sends a notification or an answer.
func (l *Lease) Send(ctx context.Context, body []byte, m *mcp.Message) *mcp.Failure {
	return l.conn.send(ctx, bytes.TrimSpace(m.Whole.Of(body)))
}

// Ended is closed when nothing can be sent or will come any more.
func (l *Lease) Ended() <-chan struct{} { return l.conn.ended }

// Failure returns why, once Ended is closed, as the failure of a call of which nobody knows whether the server has read it.
func (l *Lease) Failure() *mcp.Failure { return l.conn.failed(mcp.SentUnknown) }

// Received counts the messages that have come.
func (l *Lease) Received() uint64 { return l.conn.received.Load() }
