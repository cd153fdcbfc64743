package rpc

import (
	"context"
	"net/http"
	"time"

	"fluentd-perf/internal/mcp"
)

// send sends a request in its era and returns what came back. A request that did not run, because the server does not
// speak the era that was found out, is sent in the other.
func (r *arrayRun) send(ctx context.Context, body []byte, m *mcp.Message) (arrayReply, *mcp.Failure) {
	if r.a.opts.Plain {
		return r.exchange(ctx, r.newCall(mcp.EraPlain, "", body, m, r.header), &r.room)
	}
	if era, version, stated := r.stated(body, m); stated {
		if era == mcp.EraModern {
			return r.modern(ctx, body, m, version)
		}
		return r.sendLegacy(ctx, body, m)
	}
	for tries := 0; ; tries++ {
		know, f := r.learn(ctx)
		if f != nil {
			return arrayReply{}, f
		}
		reply, again, f := r.sendAs(ctx, know, body, m)
		if !again || tries == 2 {
			return reply, f
		}
		reply.free(r)
	}
}

// sendAs sends a request in an era that was found out, and reports whether that was wrong and the request is to be sent
// again.
func (r *arrayRun) sendAs(ctx context.Context, know *eraKnown, body []byte, m *mcp.Message) (arrayReply, bool, *mcp.Failure) {
	if know.era == mcp.EraModern {
		reply, f := r.modern(ctx, body, m, know.version)
		if f != nil || !reply.foreign() {
			return reply, false, f
		}
		again := reply.unread(know)
		if again {
			r.a.eras.replace(know, &eraKnown{era: mcp.EraLegacy})
		} else {
			r.a.eras.replace(know, nil) // the next will ask; this one has its answer
		}
		return reply, again, nil
	}
	reply, wrong, f := r.onOwnSession(ctx, body, m)
	if wrong {
		r.a.eras.replace(know, nil)
	}
	return reply, wrong, f
}

// notify sends a notification, and says why it was not taken.
func (r *arrayRun) notify(ctx context.Context, e *arrayElement, m *mcp.Message) *mcp.Failure {
	if ctx.Err() != nil {
		return ended(ctx, &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentNo, Cause: ctx.Err()})
	}
	reply, f := r.send(ctx, e.body, m)
	if f == nil && reply.status >= http.StatusMultipleChoices {
		f = reply.noAnswer()
	}
	return f
}

// stated returns the era and version that a caller says an element is of: by the element's own `_meta`, by
// MCP-Protocol-Version, or by a session, which only legacy has.
func (r *arrayRun) stated(body []byte, m *mcp.Message) (era mcp.Era, version string, ok bool) {
	if own, is := mcp.Text(m.ProtocolVersion.Of(body)); is && mcp.EraOf(own) == mcp.EraModern {
		return mcp.EraModern, own, true
	}
	if r.version == "" && r.session == nil {
		return mcp.EraLegacy, "", false
	}
	return mcp.EraOf(r.version), r.version, true
}

// sendLegacy sends a message on the caller's session, or on one of the daemon's own.
func (r *arrayRun) sendLegacy(ctx context.Context, body []byte, m *mcp.Message) (arrayReply, *mcp.Failure) {
	if r.session == nil {
		reply, _, f := r.onOwnSession(ctx, body, m)
		return reply, f
	}
	c := r.legacyCall(body, m, r.version, r.legacyHeader(nil))
	return r.exchange(ctx, c, &r.room)
}

// onOwnSession sends a message on the caller's session of the daemon's own. What a server did not run, because it has lost
// that, is sent again, once, on a new one. It reports whether the server turned out not to be legacy; the message did not
// run then.
func (r *arrayRun) onOwnSession(ctx context.Context, body []byte, m *mcp.Message) (arrayReply, bool, *mcp.Failure) {
	for tries := 0; ; tries++ {
		s, f := r.ownSession(ctx)
		if f != nil {
			return arrayReply{}, s != nil && s.unknown, f
		}
		reply, f := r.exchange(ctx, r.legacyCall(body, m, s.version, r.legacyHeader(s)), &r.room)
		again := false
		if f == nil {
			again = r.a.heed(s, &reply)
		} else {
			// The session was opened anew under way, and the state that the caller is warned of is nobody's.
			again = f.Code == mcp.CodeSessionRestart && f.Sent == mcp.SentNo
		}
		r.a.leave(s)
		if !again || tries == 1 || ctx.Err() != nil {
			return reply, f == nil && reply.modernOnly(), f
		}
		reply.free(r)
	}
}

// heed notes what a reply says of its session, and reports whether the message is to be sent on another.
func (a *Stage) heed(s *ownSession, p *arrayReply) bool {
	switch {
	case !p.lost() || s.id == "" && p.status == http.StatusNotFound:
		return false
	case p.unheard():
		a.forget(s)
		return true
	}
	a.retire(s)
	return p.repeats
}

// legacyCall is a message of the legacy era. A request gets an id of the daemon's own: on one session no two may be equal.
func (r *arrayRun) legacyCall(body []byte, m *mcp.Message, version string, h http.Header) *mcp.Call {
	own := *m
	if id, replace := r.ownID(body, m); replace {
		at := m.ID
		body = own.Splice(make([]byte, 0, len(body)+len(id)), body, at, id)
	}
	return r.newCall(mcp.EraLegacy, version, body, &own, h)
}

// ownID returns the id under which a request goes out. A null id is the server's to refuse.
func (r *arrayRun) ownID(body []byte, m *mcp.Message) (id []byte, replace bool) {
	if sent := m.ID.Of(body); len(sent) == 0 || sent[0] == 'n' {
		return sent, false
	}
	return r.a.ids.Next(), true
}

func (r *arrayRun) newCall(era mcp.Era, version string, body []byte, m *mcp.Message, h http.Header) *mcp.Call {
	c := &mcp.Call{
		Upstream: r.call.Upstream, Lane: mcp.LaneRequest, Era: era, Version: version, Message: *m, Body: body, Header: h,
		Query: r.call.Query, Whole: true, Start: time.Now(), Conn: r.call.Conn,
	}
	if m.Kind == mcp.KindNotification {
		c.Lane = mcp.LaneNotification
	}
	return c
}
