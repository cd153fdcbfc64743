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
	calls    map[dialogue]int // those in flight
	draining bool

	refusing atomic.Bool  // no call begins any more
	unowed   atomic.Int64 // what is relayed now and no call
}

// dialogue is what the calls and the GET stream of a session have in common. Where the agent has no session, all that have
// none at this upstream are taken for one.
type dialogue struct {
	up      *upstream
	session string
}

// stream is one open stream. cancel ends it; drain, if not nil, asks it to end by itself.
type stream struct {
	cancel   context.CancelCauseFunc
	drain    func()
	dialogue dialogue // whose calls it may carry answers and requests for; zero: nobody's
}

func newStreams(most int) *streams {
	return &streams{max: most, open: make(map[*stream]struct{}), calls: make(map[dialogue]int)}
}

// beginCall counts a call. late says that the drain had begun; a refused call is not counted. The caller of one that is
// not refused calls endCall exactly once.
func (s *streams) beginCall(of dialogue) (late, refused bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if refused = s.refusing.Load(); !refused {
		s.calls[of]++
	}
	return s.draining, refused
}

// endCall ends a call, and at the drain the streams that were left open for it.
func (s *streams) endCall(of dialogue) {
	s.mu.Lock()
	if s.calls[of]--; s.calls[of] > 0 {
		s.mu.Unlock()
		return
	}
	delete(s.calls, of)
	var idle []*stream
	if s.draining {
		idle = s.idleLocked()
	}
	s.mu.Unlock()
	endAll(idle)
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

// idleLocked returns the streams on which no call in flight waits for anything. The caller holds mu.
func (s *streams) idleLocked() []*stream {
	var idle []*stream
	for st := range s.open {
		if st.drain == nil && s.calls[st.dialogue] == 0 {
			idle = append(idle, st)
		}
	}
	return idle
}

func endAll(open []*stream) {
	for _, st := range open {
		st.cancel(mcp.Draining())
	}
}

// begin takes a place for a stream, and returns the context that it lives on. It fails when the daemon has as many streams
// as its descriptors bear, or drains and no call in flight needs the stream. The caller calls end exactly once.
func (s *streams) begin(ctx context.Context, of dialogue) (*stream, context.Context, *mcp.Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.draining && (s.calls[of] == 0 || s.refusing.Load()):
		return nil, nil, mcp.Draining()
	case s.max > 0 && len(s.open) >= s.max:
		return nil, nil, &mcp.Failure{
			Code: mcp.CodeOverloaded, Reason: mcp.ReasonTooManyStreams, Sent: mcp.SentNo, RetryAfter: streamRetryAfter,
			Message: "too many open streams (see limits.max_streams and the descriptor limit)",
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	st := &stream{cancel: cancel, dialogue: of}
	s.open[st] = struct{}{}
	return st, ctx, nil
}

// owesAnswers says that the stream has a way of its own to drain.
func (s *streams) owesAnswers(st *stream, d mcp.Drainer) {
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
	idle := s.idleLocked()
	var ask []func()
	for st := range s.open {
		if st.drain != nil {
			ask = append(ask, st.drain)
		}
	}
	s.mu.Unlock()
	endAll(idle)
	for _, f := range ask {
		f()
	}
}
