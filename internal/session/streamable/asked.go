package streamable

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"fluentd-perf/internal/mcp"
)

const (
	unclaimed  = time.Minute      // how long a request of a server's waits for an agent that takes it
	unanswered = 10 * time.Minute // how long one is kept whose agent, which took it, has no stream open and asks for nothing
	maxAsked   = 256              // requests of one process without an answer
)

// asked is a request of a server's that its agent has not answered. Guarded by the session's lock.
type asked struct {
	id    []byte // raw
	l     *link
	e     *event
	timer *time.Timer // fires where nobody was given it, and again and again where nobody answers
}

// dropLocked forgets the request: its process has gone.
func (a *asked) dropLocked() {
	a.timer.Stop()
	if !a.e.read {
		a.e.asked = nil
		a.e.st.s.dropLocked(a.e)
	}
	a.l.server.Leave()
}

// route takes what a process sends and no request asked for, and puts it on a stream.
func (s *session) route(l *link, data []byte, m *mcp.Message) {
	e := &event{data: data, m: *m, general: true}
	s.f.opts.Store.makeRoom(e.bytes())
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != l || s.ended {
		return
	}
	if m.Kind == mcp.KindRequest && m.Method == mcp.MethodPing {
		s.tell(l, fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"result":{}}`, m.ID.Of(data)))
		return
	}
	s.changedLocked(l, data, m)
	st := s.streamOfLocked(data, m)
	if m.Kind == mcp.KindRequest {
		if len(s.asked) >= maxAsked {
			s.tell(l, refusal(m.ID.Of(data), "too many requests without an answer"))
			return
		}
		if !l.server.Enter() { // until it is answered; a process on its way waits for nothing
			return
		}
		a := &asked{id: bytes.Clone(m.ID.Of(data)), l: l, e: e}
		a.timer = time.AfterFunc(unclaimed, func() { s.unclaimed(a) })
		e.asked, s.asked = a, append(s.asked, a)
	}
	st.addLocked(e)
	s.waitLocked(l, st)
}

// streamOfLocked says on which stream a message goes that names no request of the agent's: with one call under way on that
// call's, with several on the GET stream if it is open, else on the oldest call's; with none on the GET stream. If that is not open, it
// waits there for the agent's next stream, whichever that is. The cancellation of a request goes where the request went.
func (s *session) streamOfLocked(data []byte, m *mcp.Message) *stream {
	if m.Method == mcp.MethodCancelled {
		id := m.RequestID.Of(data)
		i := slices.IndexFunc(s.asked, func(a *asked) bool { return mcp.SameID(a.id, id) })
		if i >= 0 && !s.asked[i].e.st.isOver() {
			return s.asked[i].e.st
		}
	}
	var open []*stream
	for _, c := range s.calls {
		if c.st.carriesGeneral() && !c.cancelled && !slices.Contains(open, c.st) {
			open = append(open, c.st)
		}
	}
	if len(open) == 1 || len(open) > 1 && s.get.reader == nil {
		return open[0]
	}
	return s.get
}

// unclaimed refuses a request that nobody was given, or whose agent has gone: it holds the process. One whose agent is there may wait
// for a person.
func (s *session) unclaimed(a *asked) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case !slices.Contains(s.asked, a):
	case !a.e.read:
		s.dropLocked(a.e) // which refuses it
	case s.hasReaderLocked() || s.f.opts.Store.usedWithin(s, unanswered):
		a.timer.Reset(unanswered)
	default:
		s.refuseLocked(a, "its agent has gone without an answer")
	}
}

func (s *session) hasReaderLocked() bool {
	return s.get.reader != nil || slices.ContainsFunc(s.calls, func(c *call) bool { return c.st.reader != nil })
}

// refuseLocked answers a request of a server's that no agent gets.
func (s *session) refuseLocked(a *asked, why string) {
	i := slices.Index(s.asked, a)
	if i < 0 {
		return
	}
	s.asked = slices.Delete(s.asked, i, i+1)
	a.timer.Stop()
	s.f.opts.Log.Warn("a stdio server's request was refused: "+why, "upstream", s.f.opts.Upstream)
	s.tell(a.l, refusal(a.id, why))
	a.l.server.Leave()
}

func refusal(id []byte, why string) []byte {
	return fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"error":{"code":-32603,"message":%q}}`, id, why)
}

// respond passes on an agent's answer. One to what the process of now has not asked is of a former one, and goes no further.
func (s *session) respond(ctx context.Context, c *mcp.Call) (*mcp.Result, *mcp.Failure) {
	id := c.ID()
	s.mu.Lock()
	i := slices.IndexFunc(s.asked, func(a *asked) bool { return mcp.SameID(a.id, id) })
	if i < 0 {
		s.mu.Unlock()
		return mcp.Accepted(), nil
	}
	a := s.asked[i]
	s.asked = slices.Delete(s.asked, i, i+1)
	a.timer.Stop()
	a.e.asked = nil
	a.l.answered = true // it knows something of this agent now: what it says from here on may be no other's
	if name, _ := mcp.Text(a.e.m.MethodName.Of(a.e.data)); name == "roots/list" {
		a.l.rooted = time.Now()
	}
	s.mu.Unlock()
	defer a.l.server.Leave()
	if f := a.l.server.Send(ctx, c.Body, &c.Message); f != nil {
		return nil, f
	}
	return mcp.Accepted(), nil
}
