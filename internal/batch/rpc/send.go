package rpc

import (
	"context"
	"errors"
	"time"

	"fluentd-perf/internal/era"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// send sends a message in its era and returns what came back. A request that did not run, because the server does not
// speak the era that was found out, is sent in the other.
func (r *run) send(ctx context.Context, body []byte, m *mcp.Message) (reply, *mcp.Failure) {
	if r.a.opts.Plain {
		return r.callOnce(ctx, r.newCall(mcp.EraPlain, "", body, m, r.header), r.budget)
	}
	if version, ok := r.stated(body, m); ok {
		return r.sendIn(ctx, mcp.EraOf(version), version, body, m)
	}
	for tries := 0; ; tries++ {
		known, f := r.findEra(ctx)
		if f != nil {
			return reply{}, f
		}
		p, f := r.sendIn(ctx, known.Era, mcp.Version20260728, body, m)
		again := f == nil && r.a.era.Check(known, &p.Reply)
		if f != nil && errors.Is(f, errNoInitialize) {
			r.a.era.Forget(known)
			again = true
		}
		if !again || tries == 2 {
			return p, f
		}
		p.drop(r)
	}
}

// stated returns the version that a caller says an element is of: by the element's own `_meta`, by MCP-Protocol-Version, or
// by a session, which only legacy has.
func (r *run) stated(body []byte, m *mcp.Message) (version string, ok bool) {
	if own, ok := mcp.Text(m.ProtocolVersion.Of(body)); ok && mcp.EraOf(own) == mcp.EraModern {
		return own, true
	}
	return r.version, r.version != "" || r.session != ""
}

// findEra returns the era of the server, found out with this caller's credential if need be.
func (r *run) findEra(ctx context.Context) (*era.Known, *mcp.Failure) {
	return r.a.era.Find(ctx, era.Principal{
		Partition: r.partition, Header: r.header, Query: r.call.Query, Conn: r.call.Conn,
		Initialize: func(ctx context.Context) *mcp.Failure {
			s, f := r.ownSession(ctx)
			if f == nil {
				r.a.leave(s)
			}
			return f
		},
	})
}

// sendIn sends a message in an era. A failure that is errNoInitialize says that it is the wrong one.
func (r *run) sendIn(ctx context.Context, in mcp.Era, version string, body []byte, m *mcp.Message) (reply, *mcp.Failure) {
	switch {
	case in == mcp.EraModern:
		return r.modern(ctx, body, m, version)
	case r.session != "":
		return r.callOnce(ctx, r.legacyCall(body, m, r.version, r.session), r.budget)
	}
	return r.onOwnSession(ctx, body, m)
}

// onOwnSession sends a message on the caller's session of the daemon's own. What a server did not run, because it has lost
// that, is sent again, once, on a new one.
func (r *run) onOwnSession(ctx context.Context, body []byte, m *mcp.Message) (reply, *mcp.Failure) {
	for tries := 0; ; tries++ {
		s, f := r.ownSession(ctx)
		if f != nil {
			return reply{}, f
		}
		p, f := r.callOnce(ctx, r.legacyCall(body, m, s.version, s.id), r.budget)
		// A restart notice of another stage is about state in the session, and callers have none in this one.
		again := r.a.isLost(s, &p) || f != nil && f.Code == mcp.CodeSessionRestart && f.Sent == mcp.SentNo
		r.a.leave(s)
		if !again || tries == 1 || ctx.Err() != nil {
			return p, f
		}
		p.drop(r)
	}
}

// legacyCall is a message of the legacy era, in a session. A request gets an id of the daemon's own: on one session no two
// may be equal.
func (r *run) legacyCall(body []byte, m *mcp.Message, version, session string) *mcp.Call {
	body, own := r.withOwnID(body, *m)
	return r.newCall(mcp.EraLegacy, version, body, &own, r.headerIn(version, session))
}

// withOwnID returns a request under an id of the daemon's own. A null id is the server's to refuse.
func (r *run) withOwnID(body []byte, m mcp.Message) ([]byte, mcp.Message) {
	if sent := m.ID.Of(body); len(sent) > 0 && sent[0] != 'n' {
		id := r.a.ids.Next()
		body = m.Splice(make([]byte, 0, len(body)+len(id)), body, m.ID, id)
	}
	return body, m
}

// ownCall is a legacy message of the daemon's own. members are those after "jsonrpc".
func (r *run) ownCall(version string, h header.List, members string) *mcp.Call {
	body := []byte(`{"jsonrpc":"2.0",` + members + `}`)
	m := scanned(body)
	return r.newCall(mcp.EraLegacy, version, body, &m, h)
}

// scanned is the scan of a message that the daemon has made.
func scanned(body []byte) (m mcp.Message) {
	if err := mcp.Scan(body, &m); err != nil {
		panic("rpc: a message of the daemon's own is none (this is a bug): " + err.Error())
	}
	return m
}

func (r *run) newCall(in mcp.Era, version string, body []byte, m *mcp.Message, h header.List) *mcp.Call {
	c := &mcp.Call{
		Upstream: r.call.Upstream, Lane: mcp.LaneRequest, Era: in, Version: version, Message: *m, Body: body, Header: h,
		Query: r.call.Query, Whole: true, Start: time.Now(), Conn: r.call.Conn,
	}
	if m.Kind == mcp.KindNotification {
		c.Lane = mcp.LaneNotification
	}
	return c
}
