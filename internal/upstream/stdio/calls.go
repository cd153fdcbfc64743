package stdio

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

const (
	cancelTime = 5 * time.Second  // for a message of the daemon's own
	speaksOn   = 30 * time.Second // of a request that was given up
	maxTells   = 64               // answers to requests of the server's on their way
)

// calls are the requests under way in the modern process.
type calls struct {
	lease *Lease
	tells atomic.Int32

	mu     sync.Mutex // guards the following
	open   map[*exchange]struct{}
	gaveUp time.Time    // when a request was given up last
	ended  *mcp.Failure // not nil once the process has ended
}

// call answers one request. The lease is entered, and left at the end.
func (p *process) call(ctx context.Context, u *Upstream, c *mcp.Call) (*mcp.Result, *mcp.Failure) {
	x := &exchange{u: u, calls: &p.calls, call: c, own: p.lease.pool.conns.ids.Next(), limit: u.limitsOf(c.Method()), begun: time.Now(), more: make(chan struct{}, 1)}
	if c.Lane == mcp.LaneListen {
		x.limit = limits{}
	}
	if f := p.calls.add(x); f != nil {
		p.lease.Leave()
		return nil, f
	}
	if c.Lane == mcp.LaneListen {
		p.lease.addListens(1)
	}
	x.since = p.lease.Received()
	if f := p.lease.conn.request(ctx, x.own, c.Body, &c.Message, x.take); f != nil {
		if f.Sent == mcp.SentNo {
			x.finish(false)
		} else {
			x.leave()
		}
		return nil, f
	}
	res, f := x.answer(ctx)
	if f == nil { // asked last, as streamable does: what a cache notes of the request from before it is void then
		res.Outdated = p.lease.Outdated()
	}
	return res, f
}

// add begins an exchange, unless the process has ended.
func (k *calls) add(x *exchange) *mcp.Failure {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended != nil {
		own := *k.ended
		own.Sent = mcp.SentNo
		return &own
	}
	if k.open == nil {
		k.open = make(map[*exchange]struct{})
	}
	k.open[x] = struct{}{}
	return nil
}

// end fails everybody who waits: the process has ended.
func (k *calls) end(f *mcp.Failure) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended = f
	for x := range k.open {
		x.end(f)
	}
}

// other takes what answers no request: notifications of listens, and what the server asks, which it may not in this era.
func (k *calls) other(data []byte, m *mcp.Message) {
	switch {
	case m.Kind == mcp.KindRequest:
		k.refuse(data, m)
	case m.Method == mcp.MethodCancelled: // how a server over stdio ends a listen (2026-07-28, basic/patterns/cancellation)
		if x := k.byOwn(m.RequestID.Of(data)); x != nil && x.call.Lane == mcp.LaneListen {
			k.lease.Forget(x.own)
			x.end(nil)
		}
	case m.Method == mcp.MethodProgress: // of no request under way
	default:
		if x, at := k.owner(data, m); x != nil {
			if at.Present() {
				data = m.Splice(nil, data, at, x.call.ID())
			}
			x.take(data, m)
			return
		}
		k.lease.pool.opts.Log.Debug("a modern stdio server sent what belongs to no request: dropped", "upstream", k.lease.pool.opts.Name)
	}
}

// refuse answers a request of the server's. A ping is answered here, and the rest has nobody to go to.
func (k *calls) refuse(data []byte, m *mcp.Message) {
	answer := append([]byte(`{"jsonrpc":"2.0","id":`), m.ID.Of(data)...)
	if m.Method == mcp.MethodPing {
		answer = append(answer, `,"result":{}}`...)
	} else {
		answer = append(answer, `,"error":{"code":-32601,"message":"2026-07-28 has no requests of servers"}}`...)
	}
	if k.tells.Add(1) > maxTells { // it asks and does not read
		k.tells.Add(-1)
		return
	}
	k.lease.pool.run(func() { // the reader must not wait for the writer
		defer k.tells.Add(-1)
		k.tell(answer)
	})
}

// tell sends a message of the daemon's own.
func (k *calls) tell(message []byte) {
	ctx, cancel := context.WithTimeout(k.lease.pool.base, cancelTime)
	defer cancel()
	_ = k.lease.conn.send(ctx, message) // a process that has ended needs it no more
}

// owner returns whose a notification is, and where the subscription's id stands in it. A log message says nothing of its
// request (2026-07-28, server/utilities/logging): it is that of the one request under way, if there is only one and that asked
// for log messages, and if none was given up a while ago, of which the server may still speak. It is never given to anybody else.
func (k *calls) owner(data []byte, m *mcp.Message) (*exchange, mcp.Span) {
	if at := subscriptionID(data, m.Meta); at.Present() {
		return k.byOwn(at.Of(data)), at
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.open) != 1 || time.Since(k.gaveUp) < speaksOn {
		return nil, mcp.Span{}
	}
	for x := range k.open {
		if x.call.Lane != mcp.LaneListen && x.call.Message.LogLevel.Present() {
			return x, mcp.Span{}
		}
	}
	return nil, mcp.Span{}
}

func (k *calls) byOwn(id []byte) *exchange {
	k.mu.Lock()
	defer k.mu.Unlock()
	for x := range k.open {
		if mcp.SameID(x.own, id) {
			return x
		}
	}
	return nil
}

// subscriptionID returns where the subscription's id stands in a `_meta`.
func subscriptionID(data []byte, meta mcp.Span) mcp.Span {
	at, err := mcp.Member(meta.Of(data), "io.modelcontextprotocol/subscriptionId")
	if err != nil || !at.Present() {
		return mcp.Span{}
	}
	return mcp.Span{Start: at.Start + meta.Start, End: at.End + meta.Start}
}
