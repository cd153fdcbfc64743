package proxy

import (
	"context"
	"sync"
	"sync/atomic"

	"fluentd-perf/internal/mcp"
)

// streams is the registry of open GET and listen streams, and of the calls in flight that may need one: it bounds the
// streams and ends them at the drain.
type streams struct {
	max int

	// mu guards the following.
	mu       sync.Mutex
	open     map[*stream]struct{}
	calls    map[sessionKey]int // those in flight
	draining bool

	refusing atomic.Bool  // no call begins any more
	oneWay   atomic.Int64 // messages that are relayed now and get no answer
}

// sessionKey is what the calls and the GET stream of a session have in common, also where the upstream was swapped between
// them. Where the agent has no session, all that have none at this upstream are taken for one.
type sessionKey struct {
	upstream string
	session  string
}

// stream is one open stream. cancel ends it; drain, if not nil, asks it to end by itself.
type stream struct {
	cancel  context.CancelCauseFunc
	drain   func()
	session sessionKey // whose calls it may carry answers and requests for; zero: nobody's
}

func newStreams(most int) *streams {
	return &streams{max: most, open: make(map[*stream]struct{}), calls: make(map[sessionKey]int)}
}

// beginCall counts a call. draining says that the drain has begun; a refused call is not counted. The caller of one that is
// not refused calls endCall exactly once.
func (s *streams) beginCall(key sessionKey) (draining, refused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if refused = s.refusing.Load(); !refused {
		s.calls[key]++
	}
	return s.draining, refused
}

// endCall ends a call, and at the drain the streams that were left open for it.
func (s *streams) endCall(key sessionKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.calls[key]--; s.calls[key] > 0 {
		return
	}
	delete(s.calls, key)
	if s.draining {
		s.endIdleLocked()
	}
}

// inFlight returns how many calls have begun and not ended, streams that are open at the drain included.
func (s *streams) inFlight() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.open)
	for _, calls := range s.calls {
		n += calls
	}
	return n
}

// endIdleLocked ends the streams on which no call in flight waits for anything.
func (s *streams) endIdleLocked() {
	for st := range s.open {
		if st.drain == nil && s.calls[st.session] == 0 {
			st.cancel(mcp.Draining())
		}
	}
}

// begin takes a place for a stream, and returns the context that it lives on. It fails when the daemon has as many streams
// as its descriptors bear, or drains and no call in flight needs the stream. The caller calls end exactly once.
func (s *streams) begin(ctx context.Context, key sessionKey) (*stream, context.Context, *mcp.Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.draining && (s.calls[key] == 0 || s.refusing.Load()):
		return nil, nil, mcp.Draining()
	case s.max > 0 && len(s.open) >= s.max:
		return nil, nil, &mcp.Failure{
			Code: mcp.CodeOverloaded, Reason: mcp.ReasonTooManyStreams, Sent: mcp.SentNo, RetryAfter: streamRetryAfter,
			Message: "too many open streams (see limits.max_streams and the descriptor limit)",
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	st := &stream{cancel: cancel, session: key}
	s.open[st] = struct{}{}
	return st, ctx, nil
}

// setDrainer says that the stream has a way of its own to drain.
func (s *streams) setDrainer(st *stream, d mcp.Drainer) {
	s.mu.Lock()
	st.drain = d.Drain
	draining := s.draining
	s.mu.Unlock()
	if draining {
		d.Drain()
	}
}

func (s *streams) end(st *stream) {
	st.cancel(nil)
	s.mu.Lock()
	delete(s.open, st)
	s.mu.Unlock()
}

// drain ends every stream that no call in flight needs, or asks it to end, and lets none begin any more.
func (s *streams) drain() {
	s.mu.Lock()
	s.draining = true
	s.endIdleLocked()
	var ask []func()
	for st := range s.open {
		if st.drain != nil {
			ask = append(ask, st.drain)
		}
	}
	s.mu.Unlock()
	for _, f := range ask {
		f()
	}
}
