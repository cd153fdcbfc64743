package proxy

import (
	"context"
	"sync"

	"fluentd-perf/internal/mcp"
)

// streams is the registry of open GET and listen streams: it bounds them and ends them at the drain.
type streams struct {
	max int

	mu       sync.Mutex
	open     map[*stream]struct{}
	draining bool
}

// stream is one open stream. cancel ends it; drain, if not nil, asks it to end by itself.
type stream struct {
	cancel context.CancelCauseFunc
	drain  func()
}

func newStreams(most int) *streams {
	return &streams{max: most, open: make(map[*stream]struct{})}
}

// begin takes a place for a stream, and returns the context that it lives on. It fails when the daemon drains or has as
// many streams as its descriptors bear. The caller calls end exactly once.
func (s *streams) begin(ctx context.Context) (*stream, context.Context, *mcp.Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.draining:
		return nil, nil, mcp.Draining()
	case s.max > 0 && len(s.open) >= s.max:
		return nil, nil, &mcp.Failure{
			Code: mcp.CodeOverloaded, Reason: mcp.ReasonTooManyStreams, Sent: mcp.SentNo, RetryAfter: streamRetryAfter,
			Message: "too many open streams (see limits.max_streams and the descriptor limit)",
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	st := &stream{cancel: cancel}
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

// drain ends every stream, or asks it to, and lets none begin any more.
func (s *streams) drain() {
	s.mu.Lock()
	s.draining = true
	open := make([]*stream, 0, len(s.open))
	var ask []func()
	for st := range s.open {
		if st.drain != nil {
			ask = append(ask, st.drain)
			continue
		}
		open = append(open, st)
	}
	s.mu.Unlock()
	for _, st := range open {
		st.cancel(mcp.Draining())
	}
	for _, f := range ask {
		f()
	}
}
