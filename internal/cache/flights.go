package cache

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/http"
	"slices"
	"sync/atomic"

	"fluentd-perf/internal/batch/flight"
	"fluentd-perf/internal/mcp"
)

// flights are the calls of an upstream that equal ones may follow.
type flights struct {
	*flight.Group[*mcp.Call, *copied]
	buffers   *mcp.BufferPool
	partition func(*mcp.Call) [32]byte
}

// lead is a call that may lead a flight.
type lead struct {
	u    *Upstream
	call mcp.Call // as it goes to the server: its answer is looked into
	plan plan

	served
	err error
	end context.CancelCauseFunc
}

func newLead(u *Upstream, c *mcp.Call, p plan) *lead {
	l := &lead{u: u, call: *c, plan: p}
	l.call.Whole = true
	return l
}

// call makes a call, or gives it what an equal one brings.
func (f *flights) call(ctx context.Context, l *lead, k flight.Key) (*mcp.Result, error) {
	role, a, err := f.Do(ctx, k, &l.call, l)
	switch role {
	case flight.Led:
		return l.take(ctx)
	case flight.Followed:
		if err != nil {
			return nil, likeliest(err)
		}
		res := a.result(l.call.ID(), f.buffers)
		l.u.collapsed(&l.call, l.plan.question, res)
		return res, nil
	case flight.Left:
		return nil, mcp.Left(ctx, mcp.SentUnknown)
	case flight.Released:
		return mcp.Accepted(), nil
	}
	p := l.plan
	if p.scoped { // the one that was waited for may have shown that sessions differ
		if q := l.u.ask(&l.call, p.asker); q != nil {
			p = l.u.planOf(q)
		}
	}
	return l.u.alone(ctx, &l.call, &p)
}

// likeliest returns a copy of a failure; of the failures of two flights, that which is the likelier to have been sent.
func likeliest(err error) *mcp.Failure {
	own := *mcp.AsFailure(err)
	if two, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range two.Unwrap() {
			if f := mcp.AsFailure(one); f.Sent != own.Sent && f.Sent.Likelier(own.Sent) == f.Sent {
				own = *f
			}
		}
	}
	return &own
}

// take returns the leader's own answer, if its agent is still there.
func (l *lead) take(ctx context.Context) (*mcp.Result, error) {
	switch {
	case ctx.Err() != nil:
		if l.err == nil {
			_ = l.res.Close() // how an answer ends that nobody wants is no news
		}
		l.end(context.Cause(ctx))
		return nil, mcp.Left(ctx, mcp.SentUnknown)
	case l.err != nil:
		return nil, likeliest(l.err)
	case l.goesOn():
		l.bind(ctx)
	}
	return l.res, nil
}

// goesOn reports whether an answer has only begun: it needs the flight's context until it is closed.
func (l *lead) goesOn() bool { return l.res.Events != nil || l.res.Raw != nil }

// bind makes the flight's context end with the leader's, or when its answer is closed.
func (l *lead) bind(ctx context.Context) {
	stop, release := context.AfterFunc(ctx, func() { l.end(context.Cause(ctx)) }), l.res.Release
	l.res.Release = func() {
		stop()
		l.end(nil)
		if release != nil {
			release()
		}
	}
}

// Lead makes the call.
func (l *lead) Lead(ctx context.Context, end context.CancelCauseFunc) flight.Landing {
	l.end = end
	crashed := l.run(ctx)
	if l.err != nil {
		l.err = l.failure(ctx)
		return flight.Landing{Err: l.err, Own: crashed || l.plan.scoped} // what becomes of a session is its agent's alone
	}
	share := l.share && canShare(&l.call, l.res)
	return flight.Landing{Share: share, Hold: !share && !l.plan.scoped, Open: l.goesOn()}
}

// errNoReturn is of a call whose goroutine was ended.
var errNoReturn = errors.New("the goroutine of the call was ended")

// run finds the answer, and reports whether that ended in the middle.
func (l *lead) run(ctx context.Context) (crashed bool) {
	l.err = errNoReturn
	defer func() {
		r := recover()
		switch {
		case r == nil && l.err != errNoReturn:
			return
		case r == nil:
			r = errNoReturn
		}
		l.served, l.err, crashed = served{}, l.u.crashed(l.plan.name, r), true
	}()
	l.served, l.err = l.u.find(ctx, &l.call, &l.plan)
	return false
}

// failure is what the call failed with. The reason is never that the agent left: those who wait have not.
func (l *lead) failure(ctx context.Context) *mcp.Failure {
	f := mcp.AsFailure(l.err)
	switch {
	case f.Reason != mcp.ReasonCanceled:
		return f
	case ctx.Err() == nil:
		return mcp.Inside(f)
	}
	return mcp.Stopped(ctx, f)
}

// Answer is what those get who follow.
func (l *lead) Answer() *copied { return newCopied(l.res) }

// cancel takes a legacy cancellation to those who wait here, and reports whether it was one follower's alone: then the server
// knows nothing of that.
func (f *flights) cancel(c *mcp.Call) (released bool) {
	name := mcp.CancelKey(c, c.Message.RequestID.Of(c.Body), f.partition)
	if name == "" {
		return false
	}
	_, released = f.Cancel(func(other *mcp.Call) bool {
		return mcp.CancelKey(other, other.ID(), f.partition) == name
	}, c.Message.IsPlain())
	return released
}

// ended sends those by themselves who follow a call of a session that its agent ends.
func (f *flights) ended(session string) {
	f.Cancel(func(c *mcp.Call) bool { return first(c.Header["Mcp-Session-Id"]) == session }, false)
}

// copied is an answer for the followers. Nobody changes it or what it points to; its body is the garbage collector's.
type copied struct {
	pattern mcp.Result                  // of their results, under the leader's id
	header  [len(sharedFields)][]string // the values of their header, nil where there are none
}

// sharedFields are all that followers get of the header: what says how the body is to be read and kept, where it came from,
// and what to do after a refusal. The rest may be about the leader alone (a cookie, a session, a trace).
var sharedFields = [...]string{"Content-Type", "Cache-Control", "Cache-Status", "Retry-After", "Www-Authenticate"}

// canShare reports whether an answer can be given to everybody under their own ids: one answer that was strictly understood,
// be it in a stream, or an error of HTTP's that says nothing in JSON-RPC. It fills in Message where nobody has.
func canShare(c *mcp.Call, res *mcp.Result) bool {
	switch {
	case res.Raw != nil || mcp.IsEncoded(res.Header):
		return false
	case res.Checked:
		return len(res.Body) > 0
	case res.Status < http.StatusBadRequest || res.Events != nil || res.Data != nil:
		return false
	}
	m := &res.Message
	if m.Kind == mcp.KindInvalid && mcp.Scan(res.Body, m) != nil {
		*m = mcp.Message{}
		return !bytes.Contains(res.Body, []byte(`"jsonrpc"`))
	}
	return !m.Loose && c.Answers(res.Body, m)
}

// newCopied makes of an answer what the followers get. The answer stays its owner's.
func newCopied(res *mcp.Result) *copied {
	s := &copied{pattern: *res}
	p := &s.pattern
	p.Body = bytes.Clone(res.Body)
	p.Header, p.Events, p.Release, p.Timing, p.Collapsed = nil, nil, nil, mcp.Timing{}, true
	for i, name := range sharedFields {
		s.header[i] = slices.Clip(slices.Clone(res.Header[name]))
	}
	if res.Events != nil {
		s.header[0], s.header[1] = jsonType, nil // as the answer would be without the stream
	}
	return s
}

// result returns the answer under another id. It is without a copy of the body where that is the leader's: agents count
// from the same number.
func (s *copied) result(id []byte, buffers *mcp.BufferPool) *mcp.Result {
	r := s.pattern
	r.Header = make(http.Header, len(s.header)+2)
	for i, values := range s.header {
		if values != nil {
			r.Header[sharedFields[i]] = values
		}
	}
	if at := r.Message.ID; namesCall(&r.Message, r.Body) && !bytes.Equal(at.Of(r.Body), id) {
		r.Body = r.Message.Splice(buffers.Get(len(r.Body)+len(id)), r.Body, at, id)
		if buffers != nil {
			body := r.Body
			r.Release = func() { buffers.Put(body) }
		}
	}
	return &r
}

// namesCall reports whether a response has an id to put another in place of. An error may have none, or null: that is how
// a server answers what it could not read (JSON-RPC 2.0, section 5), and such an answer goes on as it is.
func namesCall(m *mcp.Message, b []byte) bool {
	id := m.ID.Of(b)
	return len(id) > 0 && id[0] != 'n'
}

// writesSeen counts the calls of a partition that may have changed something: a call after one follows none of before.
// Partitions share counters, which costs a flight now and then and nothing else.
type writesSeen [1024]atomic.Uint64

func (w *writesSeen) of(p Partition) *atomic.Uint64 {
	return &w[binary.BigEndian.Uint16(p[:])%uint16(len(w))]
}
