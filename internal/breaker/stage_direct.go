package breaker

import (
	"context"

	"fluentd-perf/internal/mcp"
)

// Direct sends a call past queue, breaker and retry: to the endpoint of its session, or to the one with the least to do. It
// holds nothing and tells no breaker. It is for what asks whether a session lives, on which calls wait that have their
// answer already.
func (s *Stage) Direct(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	bound, c := s.where(c)
	e := s.endpoints.least(s.endpoints.of(bound))
	res, err := e.Caller.Call(ctx, c)
	if err != nil {
		return nil, err
	}
	s.mark(c, res, e)
	return res, nil
}
