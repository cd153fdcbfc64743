package httpsse

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// maxPending bounds the calls of one stream that wait for their answer.
const maxPending = 1000

// stream is one agent's GET stream of the HTTP+SSE transport, with the calls whose answers are due on it. It is the
// mcp.Events that the handler reads: the server's events, every endpoint replaced by the stream's own, and a failure for each
// call that will get no answer.
type stream struct {
	stage  *Stage
	id     string
	target atomic.Pointer[url.URL] // where messages go: what the last endpoint event named
	ctx    context.Context         // the GET's; cancel ends it
	cancel context.CancelCauseFunc

	// Owned by the reader, which is the goroutine that calls Next and Close.
	server  mcp.Events
	reading chan event     // the server's next event is on its way; nil where nobody reads
	first   bool           // the endpoint event is still to come
	cancels sync.WaitGroup // notifications to the server that calls are cancelled

	changed chan struct{} // wakes the reader: a call has another deadline or none, or the drain has begun

	mu       sync.Mutex     // guards the following
	pending  []*pendingCall // in the order of asking
	draining bool
	ending   error        // what Next returns once all calls have failed; nil until then. No call is expected any more
	failure  *mcp.Failure // of the calls that wait when the stream ends
}

// event is what the server's stream gave: an event, or its end.
type event struct {
	mcp.Event
	err error
}

// newStream makes a stream of what the server sends after its endpoint event.
func newStream(ctx context.Context, cancel context.CancelCauseFunc, stage *Stage, events mcp.Events, target *url.URL) *stream {
	s := &stream{
		stage: stage, id: rand.Text(), ctx: ctx, cancel: cancel, server: events, first: true, changed: make(chan struct{}, 1),
	}
	s.target.Store(target)
	return s
}

// Next returns the next event.
func (s *stream) Next() (mcp.Event, error) {
	if s.first {
		s.first = false
		return s.endpoint(), nil
	}
	for {
		if ev, ok := s.nextFailure(); ok {
			return ev, nil
		}
		if err := s.ended(); err != nil {
			return mcp.Event{}, err
		}
		if ev, ok := s.wait(); ok {
			return ev, nil
		}
	}
}

// read starts to read the server's next event, beside the reader, which waits for failures too. The event lives until
// the next read.
func (s *stream) read() {
	reading := make(chan event, 1)
	s.reading = reading
	go func() {
		ev, err := s.server.Next()
		reading <- event{ev, err}
	}()
}

// wait waits for an event, which it returns, or for anything else that Next has to look at.
func (s *stream) wait() (mcp.Event, bool) {
	if s.reading == nil {
		s.read()
	}
	late := time.NewTimer(s.untilLate())
	defer late.Stop()
	select {
	case ev := <-s.reading:
		s.reading = nil
		if ev.err != nil {
			s.end(ev.err)
			break
		}
		passed, f := s.passed(ev.Event)
		if f == nil {
			return passed, true
		}
		s.cancel(f) // ends the server's side, and the stream with this failure
		s.end(f)
	case <-s.ctx.Done():
		s.end(s.ctx.Err())
	case <-s.changed:
	case <-late.C:
	}
	return mcp.Event{}, false
}

// passed returns an event as the agent gets it. Clients post to where an endpoint event says, the last one for some, and a
// path there is one of the daemon's: so each is replaced, and tells the daemon alone where the server wants its messages. A
// later one that names another origin, or nothing, changes nothing. What comes in pieces cannot be looked into, and so does
// not pass.
func (s *stream) passed(ev mcp.Event) (mcp.Event, *mcp.Failure) {
	switch {
	case ev.Partial:
		return ev, badEndpoint(errors.New("an event is too large to be looked into"))
	case !isEndpoint(ev.Name):
		s.answered(ev)
		return ev, nil
	case len(ev.Data) > 0: // else it dispatches nothing (WHATWG HTML, server-sent events)
		target, err := endpointOf(s.stage.opts.URL, ev.Data)
		if err != nil {
			s.stage.opts.Log.Warn("an endpoint event is not followed", "upstream", s.stage.opts.Upstream, "error", err)
			break
		}
		s.target.Store(target)
	}
	return s.endpoint(), nil
}

func (s *stream) endpoint() mcp.Event {
	path := "/mcp/" + s.stage.opts.Upstream + "/message/" + s.id
	return mcp.Event{
		Raw:  []byte("event: endpoint\ndata: " + path + "\n\n"),
		Name: []byte("endpoint"), Data: []byte(path),
	}
}

// end says how the stream ends, and what becomes of every call whose answer will not come.
func (s *stream) end(err error) {
	failure := &mcp.Failure{
		Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff, Message: "the server's stream ended before the answer", Cause: err,
	}
	ending := io.EOF
	var cause *mcp.Failure
	switch {
	case errors.As(context.Cause(s.ctx), &cause):
		failure, ending = cause, cause
	case s.ctx.Err() != nil:
		ending = mcp.Canceled(s.ctx, mcp.SentYes)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure, s.ending = failure, ending
}

// ended returns how the stream ends, nil while it does not. It ends as well when the daemon stops and no call waits for its
// answer any more.
func (s *stream) ended() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending == nil && s.draining && len(s.pending) == 0 {
		s.ending = mcp.Draining()
	}
	return s.ending
}

// Drain lets the stream end as soon as no call waits for its answer.
func (s *stream) Drain() {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	s.wake()
}

func (s *stream) wake() {
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// Close ends the session. A call that is accepted from here on gets nothing.
func (s *stream) Close() error {
	s.stage.streams.Delete(s.id)
	s.cancel(nil)
	if s.reading != nil {
		<-s.reading
	}
	s.end(context.Canceled)
	s.cancels.Wait()
	return s.server.Close()
}
