package rpc

import (
	"context"
	"maps"
	"net/http"
	"time"

	"fluentd-perf/internal/era"
	"fluentd-perf/internal/mcp"
)

// send sends a message in its era and returns what came back. A request that did not run, because the server does not
// speak the era that was found out, is sent in the other.
func (r *run) send(ctx context.Context, body []byte, m *mcp.Message) (reply, *mcp.Failure) {
	if r.a.opts.Plain {
		return r.exchange(ctx, r.newCall(mcp.EraPlain, "", body, m, r.header), r.room)
	}
	if stated, version, ok := r.stated(body, m); ok {
		switch {
		case stated == mcp.EraModern:
			return r.modern(ctx, body, m, version)
		case r.session != nil:
			h := maps.Clone(r.header)
			fill(h, r.version, r.session[0])
			return r.exchange(ctx, r.legacyCall(body, m, r.version, h), r.room)
		}
		reply, _, f := r.onOwnSession(ctx, body, m)
		return reply, f
	}
	for tries := 0; ; tries++ {
		known, f := r.findEra(ctx)
		if f != nil {
			return reply{}, f
		}
		reply, again, f := r.sendIn(ctx, known, body, m)
		if !again || tries == 2 {
			return reply, f
		}
		reply.free(r)
	}
}

// findEra returns the era of the server, found out with this caller's credential if need be.
func (r *run) findEra(ctx context.Context) (*era.Known, *mcp.Failure) {
	return r.a.era.Find(ctx, era.Principal{
		Partition: r.whose(), Header: r.header, Query: r.call.Query, Conn: r.call.Conn,
		Initialize: func(ctx context.Context) *mcp.Failure {
			s, f := r.ownSession(ctx)
			if f == nil {
				r.a.leave(s)
			}
			return f
		},
	})
}

// sendIn sends a message in an era that was found out, and reports whether that was wrong and the message is to be sent
// again.
func (r *run) sendIn(ctx context.Context, known *era.Known, body []byte, m *mcp.Message) (p reply, again bool, f *mcp.Failure) {
	if known.Era == mcp.EraModern {
		p, f = r.modern(ctx, body, m, mcp.Version20260728)
	} else if p, again, f = r.onOwnSession(ctx, body, m); again {
		r.a.era.Forget(known)
	}
	if f == nil {
		again = r.a.era.Check(known, &p.Reply)
	}
	return p, again, f
}

// notify sends a notification, and says why it was not taken.
func (r *run) notify(ctx context.Context, e *element, m *mcp.Message) *mcp.Failure {
	if ctx.Err() != nil {
		return mcp.Left(ctx, mcp.SentNo)
	}
	reply, f := r.send(ctx, e.body, m)
	if f == nil && reply.Status >= http.StatusMultipleChoices {
		f = reply.Failure()
	}
	return f
}

// stated returns the era and version that a caller says an element is of: by the element's own `_meta`, by
// MCP-Protocol-Version, or by a session, which only legacy has.
func (r *run) stated(body []byte, m *mcp.Message) (is mcp.Era, version string, ok bool) {
	if own, ok := mcp.Text(m.ProtocolVersion.Of(body)); ok && mcp.EraOf(own) == mcp.EraModern {
		return mcp.EraModern, own, true
	}
	return mcp.EraOf(r.version), r.version, r.version != "" || r.session != nil
}

// onOwnSession sends a message on the caller's session of the daemon's own. What a server did not run, because it has lost
// that, is sent again, once, on a new one. It reports whether there is no session because the server does not know
// initialize.
func (r *run) onOwnSession(ctx context.Context, body []byte, m *mcp.Message) (p reply, unknown bool, f *mcp.Failure) {
	for tries := 0; ; tries++ {
		s, f := r.ownSession(ctx)
		if f != nil {
			return reply{}, s != nil && s.unknown, f
		}
		h := maps.Clone(r.header)
		fill(h, s.version, s.id)
		p, f := r.exchange(ctx, r.legacyCall(body, m, s.version, h), r.room)
		again := r.a.isLost(s, &p)
		if f != nil {
			// The session was opened anew under way, and the state that the caller is warned of is nobody's.
			again = f.Code == mcp.CodeSessionRestart && f.Sent == mcp.SentNo
		}
		r.a.leave(s)
		if !again || tries == 1 || ctx.Err() != nil {
			return p, false, f
		}
		p.free(r)
	}
}

// legacyCall is a message of the legacy era. A request gets an id of the daemon's own: on one session no two may be equal.
func (r *run) legacyCall(body []byte, m *mcp.Message, version string, h http.Header) *mcp.Call {
	own := *m
	if id := r.ownID(body, m); id != nil {
		body = own.Splice(make([]byte, 0, len(body)+len(id)), body, m.ID, id)
	}
	return r.newCall(mcp.EraLegacy, version, body, &own, h)
}

// ownID returns the id under which a request goes out, nil for its own: a null id is the server's to refuse.
func (r *run) ownID(body []byte, m *mcp.Message) []byte {
	if sent := m.ID.Of(body); len(sent) == 0 || sent[0] == 'n' {
		return nil
	}
	return r.a.ids.Next()
}

// ownCall is a legacy message of the daemon's own. members are those after "jsonrpc".
func (r *run) ownCall(version string, h http.Header, members string) *mcp.Call {
	body := []byte(`{"jsonrpc":"2.0",` + members + `}`)
	var m mcp.Message
	if err := mcp.Scan(body, &m); err != nil {
		panic("rpc: a message of the daemon's own is none (this is a bug): " + err.Error())
	}
	return r.newCall(mcp.EraLegacy, version, body, &m, h)
}

func (r *run) newCall(in mcp.Era, version string, body []byte, m *mcp.Message, h http.Header) *mcp.Call {
	c := &mcp.Call{
		Upstream: r.call.Upstream, Lane: mcp.LaneRequest, Era: in, Version: version, Message: *m, Body: body, Header: h,
		Query: r.call.Query, Whole: true, Start: time.Now(), Conn: r.call.Conn,
	}
	if m.Kind == mcp.KindNotification {
		c.Lane = mcp.LaneNotification
	}
	return c
}
