package streamable

import (
	"slices"
	"time"

	"fluentd-perf/internal/mcp"
)

// GivenUp takes a notifications/cancelled to the call under way that it names. If that has waited for its answer for least or
// longer, and nothing has come from its process meanwhile, it returns the failure that the call would have had if its agent had
// left, once for each call: the failure that it has later is Counted. Otherwise it returns nil.
func (f *Front) GivenUp(c *mcp.Call, least time.Duration) *mcp.Failure {
	id := c.Header.Get(sessionHeader)
	if id == "" {
		return nil
	}
	s := f.opts.Store.find(f, id)
	if s == nil || s.owner != f.opts.Partition(c) {
		return nil
	}
	called := c.Message.RequestID.Of(c.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.calls, func(one *call) bool { return !one.givenUp && mcp.SameID(one.id, called) })
	if i < 0 {
		return nil
	}
	one := s.calls[i]
	waited := time.Since(one.begun)
	if waited < least || one.l.server.Received() != one.since {
		return nil
	}
	one.givenUp = true
	return &mcp.Failure{
		Reason: mcp.ReasonCanceled, Sent: mcp.SentUnknown, Silent: true, Waited: waited, Message: "the agent gave the call up",
	}
}
