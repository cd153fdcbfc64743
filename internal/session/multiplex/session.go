package multiplex

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

// The bounds of what waits for a session whose agent does not read. Answers always wait.
const (
	maxQueued     = 256
	maxQueuedSize = 1 << 20 // bytes
	drainTime     = time.Second
)

// Session is what one session has of a process that it shares. It is a streamable.Server, and safe for concurrent use.
type Session struct {
	p     *process // nil: initialize was refused, and nothing is used but Leave and Release
	other func([]byte, *mcp.Message)
	ended chan struct{}

	// Guarded by process.mu.
	released bool
	stream   bool
	level    level // of its last logging/setLevel that was not refused; 0: none
	set      int   // how often level was set
	uris     int   // subscriptions
	open     map[string]*request

	mu         sync.Mutex // guards the following; process.mu may be held when it is taken, never the reverse
	queue      []delivery
	size       int  // bytes of it
	delivering bool // on a goroutine of its own
	over       bool // nothing is put into the queue any more
	failure    *mcp.Failure
}

// delivery is a message on its way to a session.
type delivery struct {
	take func(data []byte, m *mcp.Message)
	data []byte
	m    mcp.Message
}

// request is a request of a session's that the process has.
type request struct {
	own     []byte // its id there
	task    bool   // it asked for a task, and is not to be cancelled
	settled bool
	answer  func(data []byte, m *mcp.Message) // is told of the answer, or with nil that nobody knows one, or that it was notSent
}

// notSent stands where an answer would: the process has never had the request.
var notSent = new(mcp.Message)

// refused is the Session of an initialize that the server refused.
func refused() *Session { return &Session{} }

// Request sends a request, or answers what is the daemon's to answer.
func (s *Session) Request(ctx context.Context, body []byte, m *mcp.Message, take func([]byte, *mcp.Message)) ([]byte, *mcp.Failure) {
	switch m.Method {
	case mcp.MethodInitialize:
		s.reply(body, m, take, rpcError(codeInvalidRequest, "the session is initialized already"))
		return nil, nil
	case mcp.MethodLoggingSetLevel:
		return s.setLevel(ctx, body, m, take)
	case mcp.MethodResourcesSubscribe:
		return s.subscribe(ctx, body, m, take)
	case mcp.MethodResourcesUnsubscribe:
		return s.unsubscribe(ctx, body, m, take)
	case mcp.MethodTasksGet, mcp.MethodTasksResult, mcp.MethodTasksCancel, mcp.MethodTasksUpdate:
		if !s.ownsTask(body, m) {
			s.reply(body, m, take, rpcError(codeInvalidParams, "Task not found"))
			return nil, nil
		}
	case mcp.MethodTasksList:
		take = s.ownTasks(take)
	case mcp.MethodToolsList:
		take = s.p.x.seesTools(take)
	}
	if m.Task.Present() {
		return s.requestTask(ctx, body, m, take)
	}
	return s.pass(ctx, body, m, take, nil)
}

// pass sends a request up. answer is told once what came of it: before the session's agent is, and on the reader's goroutine.
func (s *Session) pass(
	ctx context.Context, body []byte, m *mcp.Message, take func([]byte, *mcp.Message), answer func([]byte, *mcp.Message),
) ([]byte, *mcp.Failure) {
	r := &request{task: m.Task.Present(), answer: answer}
	own, f := s.p.lease.Request(ctx, body, m, func(data []byte, m *mcp.Message) {
		if m.Kind.IsAnswer() {
			s.settle(r, data, m)
		}
		s.deliver(take, data, m)
	})
	if f != nil && f.Sent == mcp.SentNo {
		s.settle(r, nil, notSent)
		return own, f
	}
	s.keep(r, own)
	return own, f
}

// keep notes a request under way, by which it is cancelled when the session goes.
func (s *Session) keep(r *request, own []byte) {
	p := s.p
	p.mu.Lock()
	r.own = own
	gone := s.released && !r.settled
	if !r.settled && !gone {
		s.open[string(own)] = r
	}
	p.mu.Unlock()
	if gone {
		p.settleLater(func(ctx context.Context) { s.giveUp(ctx, r) })
	}
}

// settle ends the wait for an answer, once.
func (s *Session) settle(r *request, data []byte, m *mcp.Message) {
	s.p.mu.Lock()
	was := r.settled
	r.settled = true
	delete(s.open, string(r.own))
	s.p.mu.Unlock()
	if !was && r.answer != nil {
		r.answer(data, m)
	}
}

// giveUp drops a request of a session that has gone, and has the server stop it. A task is stopped by its own method alone
// (2025-11-25, basic/utilities/cancellation).
func (s *Session) giveUp(ctx context.Context, r *request) {
	s.p.lease.Forget(r.own)
	s.settle(r, nil, nil)
	if r.task {
		return
	}
	own := fmt.Appendf(nil, `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s,"reason":"the session has ended"}}`, r.own)
	_ = s.p.lease.Send(ctx, own, scanned(own)) // a process that has ended needs it no more
}

// reply answers a request here.
func (s *Session) reply(body []byte, m *mcp.Message, take func([]byte, *mcp.Message), member string) {
	data := answerTo(body, m, member)
	s.deliver(take, data, scanned(data))
}

// answerTo is an answer of the daemon's own to a request.
func answerTo(body []byte, m *mcp.Message, member string) []byte {
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,%s}`, m.ID.Of(body), member)
}

func rpcError(code int, message string) string {
	return fmt.Sprintf(`"error":{"code":%d,"message":%q}`, code, message)
}

// Forget drops a request that has no answer yet.
func (s *Session) Forget(id []byte) {
	if id == nil { // it was answered here
		return
	}
	s.p.lease.Forget(id)
	s.p.mu.Lock()
	r := s.open[string(id)]
	s.p.mu.Unlock()
	if r != nil {
		s.settle(r, nil, nil)
	}
}

// Send sends a notification, but for those that speak of the one client that the daemon is. What the server asks is answered here,
// so an answer is to nothing.
func (s *Session) Send(ctx context.Context, body []byte, m *mcp.Message) *mcp.Failure {
	switch m.Method {
	case mcp.MethodInitialized:
		return s.p.told(ctx)
	case mcp.MethodRootsListChanged, mcp.MethodProgress:
		return nil
	}
	if m.Kind.IsAnswer() {
		return nil
	}
	return s.p.lease.Send(ctx, body, m)
}

// Ended is closed when nothing can be sent any more, and all that has come for the session was given to it.
func (s *Session) Ended() <-chan struct{} { return s.ended }

// Failure returns why.
func (s *Session) Failure() *mcp.Failure {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure
}

// Received counts the messages that have come from the process, for whomever.
func (s *Session) Received() uint64 { return s.p.lease.Received() }

// Outdated reports whether the server was changed since the process was started.
func (s *Session) Outdated() bool { return s.p.lease.Outdated() }

// Check asks the process whether it still answers, for a request that has timed out.
func (s *Session) Check(id []byte) { s.p.lease.Check(id) }

// GaveUp is Check for a call that its agent gave up after it had waited so long.
func (s *Session) GaveUp(id []byte, waited time.Duration) { s.p.lease.GaveUp(id, waited) }

// Checking returns what is closed when a check that goes on is over, nil where none does.
func (s *Session) Checking() <-chan struct{} { return s.p.lease.Checking() }

// Enter begins a use and reports false where the process is on its way. Where it has ended, what has come for the session is given
// to it first.
func (s *Session) Enter() bool {
	s.p.mu.Lock()
	released := s.released
	s.p.mu.Unlock()
	if released {
		return false
	}
	entered := s.p.lease.Enter()
	select {
	case <-s.p.lease.Ended():
	default:
		return entered
	}
	if entered {
		s.p.lease.Leave()
	}
	timer := time.NewTimer(drainTime) // an agent that does not read its other streams waits no longer
	defer timer.Stop()
	select {
	case <-s.ended:
	case <-timer.C:
	}
	return false
}

// Leave ends a use.
func (s *Session) Leave() {
	if s.p != nil {
		s.p.lease.Leave()
	}
}

// Note says whether the session's agent has a stream open. That its session has state is not asked: the process holds that of all.
func (s *Session) Note(_, stream bool) {
	defer s.p.use()() // it goes idle_timeout after the last stream
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if _, has := s.p.sessions[s]; has {
		s.p.noteLocked(s, stream)
	}
}

// noteLocked tells the pool whether a session has a stream open, for which the process stays.
func (p *process) noteLocked(s *Session, stream bool) {
	switch {
	case stream && !s.stream:
		p.streams++
	case !stream && s.stream:
		p.streams--
	}
	s.stream = stream
	p.lease.Note(true, p.streams > 0)
}

// use has the process count as used until the returned function is called, and not to go before.
func (p *process) use() (leave func()) {
	if p.lease.Enter() {
		return p.lease.Leave
	}
	return func() {}
}

// Release takes the session from the process. Its calls under way are cancelled there, its level counts no more, and what it alone
// has subscribed to is unsubscribed.
func (s *Session) Release() {
	p := s.p
	if p == nil {
		return
	}
	defer p.use()()
	p.mu.Lock()
	if s.released {
		p.mu.Unlock()
		return
	}
	s.released = true
	if p.over {
		p.mu.Unlock()
		s.discard()
		return
	}
	delete(p.sessions, s)
	p.parted = time.Now()
	p.attached.Store(int32(len(p.sessions)))
	p.lease.Share(len(p.sessions))
	p.noteLocked(s, false)
	open := slices.Collect(maps.Values(s.open))
	left := p.leaveLocked(s)
	p.dropTasksLocked(s)
	p.mu.Unlock()
	s.discard()
	p.settleLater(func(ctx context.Context) {
		for _, r := range open {
			s.giveUp(ctx, r)
		}
		p.setMostVerbose(ctx)
		for _, uri := range left {
			p.unsubscribe(ctx, uri)
		}
	})
}

// settleLater does what follows for the process from what came of a session, in the background.
func (p *process) settleLater(f func(ctx context.Context)) {
	p.x.start(func() {
		ctx, cancel := context.WithTimeout(p.x.base, settleTime)
		defer cancel()
		f(ctx)
	})
}

// deliver puts a message into the session's queue. Of an agent that does not read, notifications are dropped.
func (s *Session) deliver(take func([]byte, *mcp.Message), data []byte, m *mcp.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	full := len(s.queue) >= maxQueued || s.size+len(data) > maxQueuedSize && len(s.queue) > 0
	if s.over || full && !m.Kind.IsAnswer() {
		return
	}
	s.queue = append(s.queue, delivery{take, data, *m})
	s.size += len(data)
	if !s.delivering {
		s.delivering = s.p.x.start(s.drain)
	}
}

// drain gives the session what is in its queue.
func (s *Session) drain() {
	for {
		s.mu.Lock()
		if len(s.queue) == 0 {
			s.delivering = false
			if s.over {
				close(s.ended)
			}
			s.mu.Unlock()
			return
		}
		d := s.queue[0]
		s.queue[0] = delivery{}
		s.queue = s.queue[1:]
		s.size -= len(d.data)
		s.mu.Unlock()
		d.take(d.data, &d.m)
	}
}

// end ends the session when it has got what is in its queue.
func (s *Session) end(f *mcp.Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.over, s.failure = true, f
	if !s.delivering {
		close(s.ended)
	}
}

// discard ends the session, which wants nothing more.
func (s *Session) discard() {
	s.end(&mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentNo, Message: "the session has given its process up"})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue, s.size = nil, 0
}
