package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/mcp"
)

// pass relays a call that is none of the cache's, and learns from it.
func (u *Upstream) pass(ctx context.Context, c *mcp.Call, asker Partition) (*mcp.Result, error) {
	if c.IsCancel() && u.flights.cancel(c) {
		return mcp.Accepted(), nil
	}
	w := watching{call: c, asker: asker}
	bearer, changes := u.store.bearer(c), u.mayChange(c)
	if changes {
		u.changed(bearer)
	}
	if c.Lane == mcp.LaneEnd {
		u.ended(first(c.Header["Mcp-Session-Id"]))
	}
	sent := time.Now()
	res, err := u.next.Call(ctx, c)
	if changes {
		u.answered(c, res, func() { u.changed(bearer) })
	}
	if err != nil {
		return nil, err
	}
	u.judged(c, asker, bearer, res, sent)
	if c.Lane == mcp.LaneRequest {
		u.metrics.count(tierNone, outcomeBypass)
		addStatus(res, "fwd=bypass")
	}
	if w.session = first(res.Header["Mcp-Session-Id"]); w.session == "" {
		w.session = first(c.Header["Mcp-Session-Id"]) // an initialize within a session
	}
	if res.Events != nil {
		res.Events = u.watch(res.Events, w)
		return res, nil
	}
	u.heardWhole(u.peerOf(c), c, res)
	if res.Checked && res.Message.Kind == mcp.KindResult {
		u.initialized(&w, res.Message.Result.Of(res.Body))
	} else if res.Status < http.StatusMultipleChoices {
		u.initialized(&w, nil)
	}
	return res, nil
}

// mayChange reports whether the call is a tools/call outside the operator's list, or a body that nobody understands and that
// may hold one.
func (u *Upstream) mayChange(c *mcp.Call) bool {
	if u.opts.Plain {
		return false
	}
	if c.Lane != mcp.LaneRequest || c.Method() != mcp.MethodToolsCall {
		return c.Lane == mcp.LaneOpaque
	}
	tool, ok := mcp.Text(c.Message.Name.Of(c.Body))
	ttl, listed := u.opts.toolTTL(tool)
	return !ok || c.Message.Ambiguous || !listed || ttl <= 0
}

// changed invalidates what a tools/call of the bearer may have changed, and lets nobody join what is in flight for it.
func (u *Upstream) changed(bearer Partition) {
	u.writesSeen.of(bearer).Add(1)
	u.writesSeen.of(Partition{}).Add(1)
	if u.opts.FlushOnCall && u.onTools {
		u.bumpWrites(bearer)
	}
}

// ended forgets a session.
func (u *Upstream) ended(session string) {
	if session != "" {
		u.flights.ended(session)
		u.peers.settled(session, nil)
		u.streams.forget(session)
	}
}

// initialized learns what an initialize settled, and forgets what one settled before where the answer, of which result is
// nil then, or the request was not understood.
func (u *Upstream) initialized(w *watching, result []byte) {
	c := w.call
	if c.Lane != mcp.LaneRequest || c.Era != mcp.EraLegacy || c.Method() != mcp.MethodInitialize {
		return
	}
	var own *peer
	if result != nil {
		u.isServer(mcp.EraLegacy, memberOf(result, "serverInfo"))
		if !c.Message.Loose {
			own = newPeer(c.Message.Params.Of(c.Body), result)
		}
	}
	if own == nil && w.session == "" {
		return
	}
	name := w.session
	if name == "" {
		name = peerName("", own.version)
	}
	if own != nil {
		own.session = w.session != ""
		if old := u.peerOf(c); old != nil && w.session == first(c.Header["Mcp-Session-Id"]) {
			own.deeds = old.deeds // it is no other session
		}
	}
	u.peers.settled(name, own)
}

// watching is what passes, and whose it is.
type watching struct {
	call    *mcp.Call
	asker   Partition
	session string // that an initialize made
}

// watch wraps a stream that passes: what makes entries old is applied before it is handed on.
func (u *Upstream) watch(events mcp.Events, w watching) mcp.Events {
	own := &watched{Events: events, up: u, watching: w}
	if c := w.call; c.Lane == mcp.LaneStream && c.Era == mcp.EraLegacy {
		own.stream = streamName(first(c.Header["Mcp-Session-Id"]), w.asker)
		u.streams.opened(own.stream, own.missed)
	}
	if d, ok := events.(mcp.Drainer); ok {
		return &drained{watched: own, Drainer: d}
	}
	return own
}

// watched is a stream on its way to an agent.
type watched struct {
	mcp.Events
	up *Upstream
	watching
	stream string // "" where no changes are counted on
	once   sync.Once
}

// drained is a watched stream that owes answers when the daemon stops.
type drained struct {
	*watched
	mcp.Drainer
}

// Next returns the next event.
func (w *watched) Next() (mcp.Event, error) {
	ev, err := w.Events.Next()
	if err != nil {
		w.over()
		return ev, err
	}
	if len(ev.Data) == 0 || len(ev.Name) > 0 && string(ev.Name) != "message" {
		return ev, nil
	}
	m := ev.Message
	if m.Kind == mcp.KindInvalid && mcp.Scan(ev.Data, &m) != nil {
		return ev, nil // a GET stream is not checked, and what is no message is none of ours
	}
	w.up.heardIn(w.up.peerOf(w.call), &m, ev.Data)
	switch {
	case ev.Exact && m.Kind == mcp.KindResult:
		w.up.initialized(&w.watching, m.Result.Of(ev.Data))
	case ev.Answer:
		w.up.initialized(&w.watching, nil)
	}
	return ev, nil
}

// over is the end of the stream.
func (w *watched) over() {
	w.once.Do(func() {
		if w.stream != "" {
			w.up.streams.closed(w.stream, w.missed)
		}
	})
}

// missed invalidates what was kept because of the stream: changes may have passed unheard. That is in memory alone.
func (w *watched) missed() {
	w.up.metrics.bumped(causeStream)
	w.up.store.bumpMemory([]tier.Generation{w.up.streamOf(w.stream)})
}

// Close ends the stream.
func (w *watched) Close() error {
	w.over()
	return w.Events.Close()
}

// heardIn applies a message to a session that is a notification, or an array that may hold some, and notes a request of the
// server's.
func (u *Upstream) heardIn(p *peer, m *mcp.Message, data []byte) {
	switch {
	case u.opts.Plain: // it is none of MCP's
	case m.Kind == mcp.KindRequest:
		p.asks(m, data)
	case m.Kind == mcp.KindNotification:
		u.heardBy(p, m, data)
	case m.Kind == mcp.KindBatch:
		u.heardAll(p, data)
	}
}

// heardWhole applies the notifications in a whole answer that is an array (2025-03-26, basic/transports).
func (u *Upstream) heardWhole(p *peer, c *mcp.Call, res *mcp.Result) {
	body := bytes.TrimPrefix(res.Said(), []byte("\ufeff"))
	if text := bytes.TrimLeft(body, " \t\r\n"); len(text) > 0 && text[0] == '[' && c.Era == mcp.EraLegacy {
		u.heardAll(p, body)
	}
}

// heardAll is heardIn for each of an array of messages, as far as that is one. What is loose in it is no matter.
func (u *Upstream) heardAll(p *peer, array []byte) {
	var messages []json.RawMessage
	if json.Unmarshal(array, &messages) != nil {
		return
	}
	for _, one := range messages {
		var m mcp.Message
		switch {
		case mcp.Scan(one, &m) != nil:
		case m.Kind == mcp.KindRequest:
			p.asks(&m, one)
		case m.Kind == mcp.KindNotification:
			u.heardBy(p, &m, one)
		}
	}
}

// heard is heardBy for a notification that comes to no session.
func (u *Upstream) heard(m *mcp.Message, data []byte) { u.heardBy(nil, m, data) }

// heardBy applies a notification of the server's (2026-07-28, server/utilities/caching, "Invalidation").
func (u *Upstream) heardBy(p *peer, m *mcp.Message, data []byte) {
	name, ok := mcp.Text(m.MethodName.Of(data))
	if !ok {
		return
	}
	switch name {
	case "notifications/tools/list_changed":
		u.listChanged(p, FamilyTools)
	case "notifications/prompts/list_changed":
		u.listChanged(p, FamilyPrompts)
	case "notifications/resources/list_changed":
		u.listChanged(p, FamilyResources)
	case "notifications/resources/updated":
		u.updated(m, data)
	}
}

// updated makes old what was read of a resource, and of those that it lies in where there are legacy agents: a legacy server
// may name a part of what they want to hear of (2025-11-25, schema, ResourceUpdatedNotification). Where the uri does not lie
// in the message in one way, everything read is old.
func (u *Upstream) updated(m *mcp.Message, data []byte) {
	var uri string
	ok := m.URI.End-m.URI.Start <= maxParams // nothing is kept of a longer one
	if ok {
		uri, ok = mcp.Text(m.URI.Of(data))
	}
	if !ok || m.Ambiguous {
		u.bump(causeNotification, u.family(FamilyRead))
		return
	}
	old := append(make([]tier.Generation, 0, maxAncestors+1), u.uri(uri))
	legacy := u.peers.any()
	for i := len(uri) - 1; legacy && i > 0 && len(old) < maxAncestors; i-- {
		switch uri[i] {
		case '/':
			old = append(old, u.uri(uri[:i+1]), u.uri(uri[:i]))
		case '?', '#':
			old = append(old, u.uri(uri[:i]))
		}
	}
	u.bump(causeNotification, old...)
}

// maxAncestors bounds the resources that an update makes old.
const maxAncestors = 32
