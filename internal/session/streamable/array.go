package streamable

import (
	"context"

	"fluentd-perf/internal/mcp"
)

// array answers an array, which only sessions of 2025-03-26 may send (basic/transports): it is taken apart, since no server
// takes one as a line, and answered as one.
func (s *session) array(ctx context.Context, c *mcp.Call) (*mcp.Result, *mcp.Failure) {
	if f := unreadable(c); f != nil {
		return nil, f
	}
	if s.version != mcp.Version20250326 {
		return nil, invalid("an array: it is allowed in sessions of 2025-03-26 only")
	}
	parts, f := partsOf(c.Body)
	if f != nil {
		return nil, f
	}
	var requests []part
	for _, p := range parts {
		if p.m.Kind == mcp.KindRequest {
			requests = append(requests, p)
			continue
		}
		if res, f := s.oneWay(ctx, c, p); f != nil || res.Status >= 300 {
			return res, f
		}
	}
	if len(requests) == 0 {
		return mcp.Accepted(), nil
	}
	return s.requests(ctx, c, requests)
}

// part is one message of an array.
type part struct {
	body []byte
	m    mcp.Message
}

func partsOf(array []byte) ([]part, *mcp.Failure) {
	elements, err := mcp.Elements(nil, array, mcp.MaxElements)
	if err != nil {
		return nil, invalid(err.Error())
	}
	parts := make([]part, len(elements))
	for i, at := range elements {
		p := &parts[i]
		p.body = at.Of(array)
		if err := mcp.Scan(p.body, &p.m); err != nil {
			return nil, invalid(err.Error())
		}
		if p.m.Kind == mcp.KindBatch || p.m.Method == mcp.MethodInitialize {
			return nil, invalid("an array in an array, or an initialize")
		}
	}
	return parts, nil
}

// oneWay sends a notification or an answer out of an array.
func (s *session) oneWay(ctx context.Context, c *mcp.Call, p part) (*mcp.Result, *mcp.Failure) {
	one := *c
	one.Body, one.Message, one.Lane = p.body, p.m, mcp.LaneNotification
	if p.m.Kind == mcp.KindNotification {
		return s.notify(ctx, &one)
	}
	one.Lane = mcp.LaneResponse
	return s.respond(ctx, &one)
}

// requests sends the requests of an array, and answers them as one.
func (s *session) requests(ctx context.Context, c *mcp.Call, requests []part) (*mcp.Result, *mcp.Failure) {
	l, res, f := s.enter(ctx, c)
	if res != nil || f != nil {
		return res, f
	}
	defer l.server.Leave()
	r := s.reader(ctx, c, len(requests))
	for _, p := range requests {
		if !l.server.Enter() {
			f = lostOnTheWay(l.server)
		} else {
			f = s.send(ctx, l, r.st, p.body, &p.m)
		}
		if f != nil { // those before it may have gone: their answers are nobody's
			f.Sent = mcp.SentUnknown
			s.abandon(r)
			return nil, f
		}
	}
	return r.answerOf(ctx, l)
}
