package cache

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"

	"fluentd-perf/internal/batch/flight"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// flightKey returns the key of a call's flight. Its epoch is made of the present tokens, so that a call after an invalidation joins
// no flight that began before it. The key is the principal's own, unless the last answer to the request was public.
func (u *Stage) flightKey(v *variant) flight.Key {
	l, writer := v.keys.of(v.forAll), v.credential
	if v.forAll {
		writer = partition{}
	}
	k := flight.Key{Request: l.Key}
	if v.method != mcp.MethodToolsCall { // equal tools/calls may be one, though each counts as a write
		k.Epoch = u.writeCounts.of(writer).Load()
	}
	var room [tier.MaxGuards]tier.Token
	for _, t := range u.store.memory.Tokens.Read(l.Generations, room[:0]) {
		k.Epoch = k.Epoch*1099511628211 + uint64(t) // tokens are random
	}
	return k
}

// writeCounts count the calls of a credential that may have changed something: a call after one joins no flight that began before
// it. Credentials share counters, which now and then keeps two calls from sharing a flight and does nothing else.
type writeCounts [1024]atomic.Uint64

func (w *writeCounts) of(p partition) *atomic.Uint64 {
	return &w[binary.BigEndian.Uint16(p[:])%uint16(len(w))]
}

// joinFlight makes the call as the leader of a flight, or waits for the answer of an equal one.
func (u *Stage) joinFlight(ctx context.Context, l *leader, k flight.Key) (*mcp.Result, error) {
	role, a, err := u.flights.Do(ctx, k, &l.call, l)
	switch role {
	case flight.Led:
		return l.ownAnswer(ctx)
	case flight.Waited:
		if err != nil {
			return nil, mostLikelySent(err)
		}
		res := a.result(l.call.ID(), u.store.buffers)
		u.collapsed(&l.call, l.variant.request, res)
		return res, nil
	case flight.Left:
		return nil, mcp.Canceled(ctx, mcp.SentUnknown)
	case flight.Released:
		return mcp.Accepted(), nil
	}
	v := l.variant
	if v.forView { // the answer that was waited for may have shown that sessions differ
		if q := u.requestOf(&l.call, v.principal); q != nil {
			v = u.variantOf(q)
		}
	}
	return u.unshared(ctx, &l.call, &v)
}

// canceled applies a legacy cancellation to the flights, and reports whether it released one waiter and is done with: the server
// does not know of the waiter's call.
func (u *Stage) canceled(c *mcp.Call) (released bool) {
	name := mcp.CancelKey(c, c.Message.RequestID.Of(c.Body), u.store.Partition)
	if name == "" {
		return false
	}
	_, released = u.flights.Cancel(func(other *mcp.Call) bool {
		return mcp.CancelKey(other, other.ID(), u.store.Partition) == name
	}, c.Message.IsPlain())
	return released
}

// collapsed notes that a call got the answer of another one.
func (u *Stage) collapsed(c *mcp.Call, q *request, res *mcp.Result) {
	u.metrics.coalesced.Inc()
	u.metrics.count(tierNone, outcomeCollapsed)
	u.saved(c)
	u.savedBySession(q)
	if !strings.HasPrefix(res.Header.Get(cacheStatus), statusHit) { // where the leader found it in a tier it is a hit for all
		res.Header.Set(cacheStatus, statusCollapsed)
	}
}

// leader is a call that may lead a flight.
type leader struct {
	u       *Stage
	call    mcp.Call // as it goes to the server: its answer is held whole
	variant variant

	served
	err error
	end context.CancelCauseFunc
}

func newLeader(u *Stage, c *mcp.Call, v variant) *leader {
	l := &leader{u: u, call: *c, variant: v}
	l.call.Whole = true
	return l
}

// Lead implements flight.Leader: it makes the call.
func (l *leader) Lead(ctx context.Context, end context.CancelCauseFunc) flight.Outcome {
	l.end = end
	crashed := l.run(ctx)
	if l.err != nil {
		l.err = l.failure(ctx)
		return flight.Outcome{Err: l.err, Own: crashed || l.variant.forView} // a failure of one session is no other's
	}
	share := l.share && canShare(&l.call, l.res)
	return flight.Outcome{Share: share, Hold: !share && !l.variant.forView, Open: l.streaming()}
}

// errNoReturn is of a call whose goroutine was ended.
var errNoReturn = errors.New("the goroutine of the call was ended")

// run answers the call, and reports whether that ended by a panic, or with its goroutine.
func (l *leader) run(ctx context.Context) (crashed bool) {
	l.err = errNoReturn
	defer func() {
		r := recover()
		switch {
		case r == nil && l.err != errNoReturn:
			return
		case r == nil:
			r = errNoReturn
		}
		l.served, l.err, crashed = served{}, l.u.crashed(l.variant.name, r), true
	}()
	l.served, l.err = l.u.answerer(ctx, &l.call, &l.variant)
	return false
}

// failure returns what the call failed with. The reason is never that the agent left: those who wait are still there.
func (l *leader) failure(ctx context.Context) *mcp.Failure {
	f := mcp.AsFailure(l.err)
	switch {
	case f.Reason != mcp.ReasonCanceled:
		return f
	case ctx.Err() == nil:
		return mcp.InternalFailure(f)
	}
	return mcp.Stopped(ctx, f)
}

// Answer implements flight.Leader: it makes what the waiters get.
func (l *leader) Answer() *sharedAnswer { return newSharedAnswer(l.res) }

// ownAnswer returns the leader's own answer, if its agent is still there.
func (l *leader) ownAnswer(ctx context.Context) (*mcp.Result, error) {
	switch {
	case ctx.Err() != nil:
		if l.err == nil {
			_ = l.res.Close() // nobody wants the answer: how its closing ends does not matter
		}
		l.end(context.Cause(ctx))
		return nil, mcp.Canceled(ctx, mcp.SentUnknown)
	case l.err != nil:
		return nil, mostLikelySent(l.err)
	case l.streaming(): // the flight's context ends when the answer is closed, or the leader's ctx ends
		stop := context.AfterFunc(ctx, func() { l.end(context.Cause(ctx)) })
		onRelease(l.res, func() {
			stop()
			l.end(nil)
		})
	}
	return l.res, nil
}

// streaming reports whether an answer has only begun: it needs the flight's context until it is closed.
func (l *leader) streaming() bool { return l.res.Events != nil || l.res.Raw != nil }

// onRelease calls f when an answer is closed, before what is called then anyway.
func onRelease(res *mcp.Result, f func()) {
	release := res.Release
	res.Release = func() {
		f()
		if release != nil {
			release()
		}
	}
}

// mostLikelySent returns a copy of a failure; of the failures of two flights, that of the call which is the likelier to have been
// sent.
func mostLikelySent(err error) *mcp.Failure {
	likeliest := *mcp.AsFailure(err)
	if two, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range two.Unwrap() {
			if f := mcp.AsFailure(one); f.Sent != likeliest.Sent && f.Sent.Likelier(likeliest.Sent) == f.Sent {
				likeliest = *f
			}
		}
	}
	return &likeliest
}

// sharedAnswer is an answer for the waiters. It is not changed, nor is what it points to; its body is not from a pool.
type sharedAnswer struct {
	template mcp.Result  // of the waiters' results, under the leader's id
	header   header.List // sharedFields
}

// sharedFields are all that waiters get of the header: what says how the body is to be read and kept, where it came from,
// and what to do after a refusal. The rest may be about the leader alone (a cookie, a session, a trace).
var sharedFields = header.Names{"Content-Type", "Cache-Control", "Cache-Status", "Retry-After", "Www-Authenticate"}

// canShare reports whether an answer can be given to everybody under their own ids: one answer that was strictly understood,
// be it in a stream, or an error of HTTP's that says nothing in JSON-RPC. It fills in Message where that is empty.
func canShare(c *mcp.Call, res *mcp.Result) bool {
	switch {
	case res.Raw != nil || mcp.IsEncoded(res.Header) || res.Remembered:
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

// newSharedAnswer copies what the waiters get of an answer, which stays the leader's.
func newSharedAnswer(res *mcp.Result) *sharedAnswer {
	s := &sharedAnswer{template: *res}
	p := &s.template
	p.Body = bytes.Clone(res.Body)
	p.Header, p.Events, p.Release, p.Timing, p.Collapsed = nil, nil, nil, mcp.Timing{}, true
	for _, f := range res.Header {
		if sharedFields.Has(f.Name) {
			s.header = append(s.header, f)
		}
	}
	if res.Events != nil { // as the answer would be without the stream
		s.header.Del("Cache-Control")
		s.header.Set(jsonType.Name, jsonType.Value)
	}
	return s
}

// result returns the answer under another id. Where that is the leader's id, the body is not copied: agents often count from the same
// number.
func (s *sharedAnswer) result(id []byte, buffers *mcp.BufferPool) *mcp.Result {
	r := s.template
	r.Header = append(make(header.List, 0, len(s.header)+2), s.header...)
	if at := r.Message.ID; isID(at.Of(r.Body)) && !bytes.Equal(at.Of(r.Body), id) {
		r.Body = r.Message.Splice(buffers.Get(len(r.Body)+len(id)), r.Body, at, id)
		if buffers != nil {
			body := r.Body
			r.Release = func() { buffers.Put(body) }
		}
	}
	return &r
}

// isID reports whether a call can be answered under an id of its own, or a response has one to put another in place of. An error
// may have none, or null: that is how a server answers what it could not read (JSON-RPC 2.0, section 5), and such an answer goes
// on as it is.
func isID(token []byte) bool { return len(token) > 0 && token[0] != 'n' }
