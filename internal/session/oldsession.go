package session

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// maxPending bounds the calls of one HTTP+SSE session that wait for their answer.
const maxPending = 1000

// oldSession is one agent's GET stream of the HTTP+SSE transport, with the calls whose answers are due on it. It is the
// mcp.Events that the handler reads: the server's events, every endpoint replaced by the stream's own, and a failure for each
// call that will get no answer.
type oldSession struct {
	old    *Old
	id     string
	target atomic.Pointer[url.URL] // where messages go: what the last endpoint event named
	ctx    context.Context         // the GET's; cancel ends it
	cancel context.CancelCauseFunc
	next   mcp.Events // read by the pump alone, once it runs

	events   chan pumped   // from the pump
	resume   chan struct{} // to the pump: the event before is dead
	pumpDone chan struct{} // closed at the pump's end
	changed  chan struct{} // wakes the reader: failures wait, or the drain has begun

	// Owned by the reader, which is the goroutine that calls Next and Close.
	first  bool  // the endpoint event is still to come
	lent   bool  // the reader holds an event of the pump's
	ending error // what Next returns once the failures are out

	mu       sync.Mutex     // guards the following
	late     sync.WaitGroup // expirations under way
	pending  map[string]*pendingCall
	seq      uint64
	failures []failedCall
	draining bool
	closed   bool // no call is expected any more
}

// pumped is what the pump read: an event, or the stream's end.
type pumped struct {
	ev  mcp.Event
	err error
}

// pendingCall is a request that the server has, or may have, and has not answered.
type pendingCall struct {
	seq   uint64
	id    []byte
	call  mcp.Call // without its body, which may be large and is not wanted again
	sent  mcp.Sent
	timer *time.Timer
}

type failedCall struct {
	id      []byte
	failure *mcp.Failure
}

// newOldSession reads the server's stream up to its endpoint event and starts the pump.
func newOldSession(ctx context.Context, cancel context.CancelCauseFunc, o *Old, events mcp.Events) (*oldSession, error) {
	target, err := readEndpoint(ctx, events, o.opts.URL)
	if err != nil {
		return nil, err
	}
	s := &oldSession{
		old: o, id: rand.Text(), ctx: ctx, cancel: cancel, next: events,
		events: make(chan pumped), resume: make(chan struct{}), pumpDone: make(chan struct{}), changed: make(chan struct{}, 1),
		first: true, pending: make(map[string]*pendingCall),
	}
	s.target.Store(target)
	go s.pump()
	return s, nil
}

// readEndpoint returns the URL that the first event names: absolute, relative or a query, but of the server's own origin.
func readEndpoint(ctx context.Context, events mcp.Events, base *url.URL) (*url.URL, error) {
	for {
		ev, err := events.Next()
		switch {
		case err != nil:
			return nil, noEndpoint(ctx, err)
		case ev.Data == nil:
			continue // a comment
		case string(ev.Name) != "endpoint":
			return nil, badEndpoint(errors.New("the stream's first event is not `endpoint`"))
		}
		target, f := endpointOf(base, ev.Data)
		if f != nil {
			return nil, f
		}
		return target, nil
	}
}

// endpointOf returns the URL that an endpoint event names.
func endpointOf(base *url.URL, data []byte) (*url.URL, *mcp.Failure) {
	target, err := base.Parse(strings.TrimSpace(string(data)))
	if err != nil {
		return nil, badEndpoint(err)
	}
	if !mcp.SameOrigin(target, base) {
		return nil, badEndpoint(errors.New("the endpoint is on another origin: " + target.Scheme + "://" + target.Host))
	}
	return target, nil
}

func badEndpoint(cause error) *mcp.Failure {
	return &mcp.Failure{
		Code: mcp.CodeBadGateway, Reason: mcp.ReasonBadAnswer, Sent: mcp.SentYes,
		Message: "the server's stream has no usable endpoint", Cause: cause,
	}
}

func noEndpoint(ctx context.Context, err error) error {
	var f *mcp.Failure
	if errors.As(context.Cause(ctx), &f) {
		return f
	}
	if err == io.EOF {
		return badEndpoint(errors.New("the stream ended before its endpoint event"))
	}
	return err
}

// pump reads the server's stream, so that the reader can wait for failures too. An event is lent to the reader until it
// says resume: its bytes are the stream's buffer.
func (s *oldSession) pump() {
	defer close(s.pumpDone)
	for {
		ev, err := s.next.Next()
		select {
		case s.events <- pumped{ev, err}:
		case <-s.ctx.Done():
			return
		}
		if err != nil {
			return
		}
		select {
		case <-s.resume:
		case <-s.ctx.Done():
			return
		}
	}
}

// Next returns the next event.
func (s *oldSession) Next() (mcp.Event, error) {
	if s.first {
		s.first = false
		return s.endpoint(), nil
	}
	if s.lent {
		s.lent = false
		select {
		case s.resume <- struct{}{}:
		case <-s.pumpDone:
		}
	}
	for {
		if f, ok := s.nextFailure(); ok {
			return mcp.Event{Failure: f.failure, FailedID: f.id}, nil
		}
		if s.ending != nil {
			return mcp.Event{}, s.ending
		}
		select {
		case p := <-s.events:
			if p.err != nil {
				s.endAll(p.err)
				break
			}
			s.lent = true
			ev, f := s.passed(p.ev)
			if f == nil {
				return ev, nil
			}
			s.cancel(f) // ends the server's side, and the stream with this failure
			s.endAll(f)
		case <-s.ctx.Done():
			s.endAll(s.ctx.Err())
		case <-s.changed:
			if s.drained() {
				s.ending = mcp.Draining()
			}
		}
	}
}

// passed returns an event as the agent gets it. Clients post to where an endpoint event says, the last one for some, and a
// path there is one of the daemon's: so each is replaced, and tells the daemon alone where the server wants its messages. A
// later one that names another origin, or nothing, changes nothing.
// What comes in pieces cannot be looked into, and so does not pass.
func (s *oldSession) passed(ev mcp.Event) (mcp.Event, *mcp.Failure) {
	switch {
	case ev.Partial:
		return ev, badEndpoint(errors.New("an event is too large to be looked into"))
	case !isEndpoint(ev.Name):
		s.settle(ev)
		return ev, nil
	case len(ev.Data) > 0: // else it dispatches nothing (WHATWG HTML, server-sent events)
		target, f := endpointOf(s.old.opts.URL, ev.Data)
		if f != nil {
			s.old.opts.Log.Warn("an endpoint event is not followed", "upstream", s.old.opts.Upstream, "error", f)
			break
		}
		s.target.Store(target)
	}
	return s.endpoint(), nil
}

// isEndpoint is as generous as a client may be.
func isEndpoint(name []byte) bool {
	return bytes.EqualFold(bytes.TrimSpace(name), []byte("endpoint"))
}

func (s *oldSession) endpoint() mcp.Event {
	path := "/mcp/" + s.old.opts.Upstream + "/message/" + s.id
	return mcp.Event{
		Raw:  []byte("event: endpoint\ndata: " + path + "\n\n"),
		Name: []byte("endpoint"), Data: []byte(path),
	}
}

// endAll fails every call whose answer will not come, and settles how the stream ends after that.
func (s *oldSession) endAll(err error) {
	failure := &mcp.Failure{
		Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Message: "the server's stream ended before the answer", Cause: err,
	}
	s.ending = io.EOF
	var cause *mcp.Failure
	switch {
	case errors.As(context.Cause(s.ctx), &cause):
		failure, s.ending = cause, cause
	case s.ctx.Err() != nil:
		s.ending = &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentYes, Cause: s.ctx.Err()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true // a call that is accepted from here on would get nothing
	calls := make([]*pendingCall, 0, len(s.pending))
	for _, p := range s.pending {
		calls = append(calls, p)
	}
	slices.SortFunc(calls, func(a, b *pendingCall) int { return cmp.Compare(a.seq, b.seq) })
	for _, p := range calls {
		own := *failure
		own.Sent = p.sent
		s.removeLocked(p)
		s.failures = append(s.failures, failedCall{p.id, &own})
	}
}

func (s *oldSession) nextFailure() (failedCall, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.failures) == 0 {
		return failedCall{}, false
	}
	f := s.failures[0]
	s.failures = s.failures[1:]
	return f, true
}

// drained reports whether the daemon stops and nothing is owed any more.
func (s *oldSession) drained() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining && len(s.pending) == 0
}

// Drain lets the stream end when the answers are given.
func (s *oldSession) Drain() {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	s.wake()
}

func (s *oldSession) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Close ends the session.
func (s *oldSession) Close() error {
	s.old.remove(s.id)
	s.cancel(nil)
	<-s.pumpDone
	s.mu.Lock()
	s.closed = true
	for _, p := range s.pending {
		s.removeLocked(p)
	}
	s.mu.Unlock()
	s.late.Wait()
	return s.next.Close()
}
