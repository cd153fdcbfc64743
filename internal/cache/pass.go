package cache

import (
	"context"

	"fluentd-perf/internal/mcp"
)

// pass relays a call that is none of the cache's, and learns from it.
func (f *front) pass(ctx context.Context, c *mcp.Call, asker Partition) (*mcp.Result, error) {
	changes := c.Lane == mcp.LaneRequest && c.Method() == mcp.MethodToolsCall && f.opts.FlushOnCall
	if changes {
		f.changed(asker)
	}
	done := func() {}
	if c.Lane == mcp.LaneEnd {
		f.peers.forget(c.Header.Get("Mcp-Session-Id"))
	}
	res, err := f.next.Call(ctx, c)
	if changes {
		f.changed(asker)
	}
	if err != nil {
		return nil, err
	}
	f.judged(asker, res)
	if c.Lane == mcp.LaneRequest {
		res.Header["Cache-Status"] = []string{status("fwd=bypass", "")}
		f.metrics.count(tierMemory, outcomeBypass)
	}
	if c.Method() == mcp.MethodInitialize && res.Checked && res.Message.Kind == mcp.KindResult {
		f.initialized(c, res.Header.Get("Mcp-Session-Id"), res.Message.Result.Of(res.Body))
	}
	if res.Events != nil {
		if c.Lane == mcp.LaneStream {
			done = f.peers.listen(c.Header.Get("Mcp-Session-Id"))
		}
		w := f.watch(res.Events, c)
		w.session, w.done = res.Header.Get("Mcp-Session-Id"), done
		w.asker, w.changes = asker, changes
		res.Events = w
	}
	return res, nil
}

// changed makes old what a tools/call of the credential may have changed, and what is in flight for it.
func (f *front) changed(asker Partition) {
	if f.fence != nil {
		f.fence(f.scope(asker))
	}
	f.store.bumpNow([]Generation{f.writes(asker)})
}

// initialized learns of a legacy session.
func (f *front) initialized(c *mcp.Call, session string, result []byte) {
	if c.Era != mcp.EraLegacy {
		return
	}
	if span, err := mcp.Member(result, "serverInfo"); err == nil && f.server.changed(span.Of(result)) {
		f.store.bumpNow(f.families[:])
	}
	f.peers.initialized(session, c.Message.Params.Of(c.Body), result)
}

// watch wraps a stream that passes: what makes entries old is applied before it is handed on.
func (f *front) watch(events mcp.Events, c *mcp.Call) *watched {
	return &watched{Events: events, front: f, call: c, done: func() {}}
}

type watched struct {
	mcp.Events
	front   *front
	call    *mcp.Call
	session string
	asker   Partition
	changes bool
	done    func()
}

// Next returns the next event.
func (w *watched) Next() (mcp.Event, error) {
	ev, err := w.Events.Next()
	if err != nil || len(ev.Data) == 0 || len(ev.Name) > 0 && string(ev.Name) != "message" {
		return ev, err
	}
	m := ev.Message
	if m.Kind == mcp.KindInvalid && mcp.Scan(ev.Data, &m) != nil {
		return ev, nil // a GET stream is not checked, and what is no message is none of ours
	}
	switch {
	case m.Kind == mcp.KindNotification:
		w.front.heard(&m, ev.Data)
	case ev.Answer && w.changes:
		w.front.changed(w.asker)
	case ev.Answer && m.Kind == mcp.KindResult && w.call.Method() == mcp.MethodInitialize:
		w.front.initialized(w.call, w.session, m.Result.Of(ev.Data))
	}
	return ev, nil
}

// Close ends the stream.
func (w *watched) Close() error {
	w.done()
	return w.Events.Close()
}

// Drain passes the drain on to a stream that owes answers.
func (w *watched) Drain() {
	if d, ok := w.Events.(mcp.Drainer); ok {
		d.Drain()
	}
}

// heard applies a notification of the server's (2026-07-28, server/utilities/caching, "Invalidation").
func (u *Upstream) heard(m *mcp.Message, data []byte) {
	name, ok := mcp.Text(m.MethodName.Of(data))
	if !ok {
		return
	}
	switch name {
	case "notifications/tools/list_changed":
		u.store.bumpNow([]Generation{u.family(FamilyTools)})
	case "notifications/prompts/list_changed":
		u.store.bumpNow([]Generation{u.family(FamilyPrompts)})
	case "notifications/resources/list_changed":
		u.store.bumpNow([]Generation{u.family(FamilyResources)})
	case "notifications/resources/updated":
		if uri, ok := mcp.Text(m.URI.Of(data)); ok {
			u.store.bumpNow([]Generation{u.uri(uri)})
		}
	}
}
