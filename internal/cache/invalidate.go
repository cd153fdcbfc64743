package cache

import (
	"bytes"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/mcp"
)

// What invalidates answers: a notification (received), a 401 or 403 (noteCredential), a call that may change something
// (invalidateWrites, invalidateShown), another server at the address (noteServer, Replaced), the end of a
// stream (streamObserver.missedChanges), a private answer where there was a public one (withdraw), and the operator (Purge).

// bump invalidates what depends on generations of this upstream.
func (u *Stage) bump(why cause, generations ...tier.Generation) {
	u.metrics.bumped(why)
	u.store.log.Debug("answers are stale", "upstream", u.opts.Name, "cause", causeNames[why], "generations", len(generations))
	u.store.bump(u.families[:], generations...)
}

// noteCredential notes from the status of the server's answer whether it accepts the credential: a 401 or 403 invalidates all entries
// of the credential, a 2xx lets it have public entries. sent is when the call was sent.
func (u *Stage) noteCredential(c *mcp.Call, principal, credential partition, res *mcp.Result, sent time.Time) {
	switch {
	case c.Lane == mcp.LaneFetch: // documents for those who have no credential yet
	case res.Status == http.StatusUnauthorized || res.Status == http.StatusForbidden:
		u.credentials.refused(principal, credential, time.Now())
		u.listener.Refused(principal)
		u.bump(causeRefused, u.guard(guardCredential, string(credential[:])))
	case res.Status < http.StatusMultipleChoices:
		u.credentials.accepted(principal, credential, sent, time.Now())
	}
}

// mayChange reports whether the call is a tools/call outside the operator's list, or an opaque body, which may hold one.
func (u *Stage) mayChange(c *mcp.Call) bool {
	switch {
	case u.opts.Plain:
		return false
	case c.Lane != mcp.LaneRequest || c.Method() != mcp.MethodToolsCall:
		return c.Lane == mcp.LaneOpaque
	}
	tool, ok := mcp.Text(c.Message.Name.Of(c.Body))
	ttl, listed := u.opts.toolTTL(tool)
	return !ok || c.Message.Ambiguous || !listed || ttl <= 0
}

// invalidateWrites invalidates what a tools/call of the credential may have changed, and lets nobody join the credential's flights
// that are under way. Tiers of this daemon alone need not be told where no such entry went to them since they were last told.
func (u *Stage) invalidateWrites(credential partition) {
	u.writeCounts.of(credential).Add(1)
	u.writeCounts.of(partition{}).Add(1)
	if !u.opts.FlushOnCall || !u.staleOnCall.Load() {
		return
	}
	u.metrics.bumped(causeCall)
	g := []tier.Generation{u.guard(guardWrites, string(credential[:]))}
	u.store.bumpMemory(g)
	u.writers.invalidate(credential, func(wrote bool) { // after the bump: who still saw the token from before it has called noteWrite by now, see outlivesWrites
		for _, t := range u.store.slowTiers {
			if wrote || !t.Exclusive() {
				t.Invalidate(g, u.families[:])
			}
		}
	})
}

// invalidateShown invalidates what a call without a session may have changed of what the server shows.
func (u *Stage) invalidateShown(credential partition) {
	u.store.bumpMemory([]tier.Generation{u.guard(guardShown, string(credential[:]))})
}

// writers knows the credentials of which the tiers hold nothing that a tools/call invalidates: no such answer went to a tier since
// the tiers were told of the last call.
type writers struct {
	mu    sync.Mutex
	clean boundedMap[partition, struct{}]
}

// noteWrite notes that such an answer is about to go to a tier.
func (w *writers) noteWrite(p partition) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.clean, p)
}

// invalidate calls bump, with whether such an answer may be in a tier. Another call of it relies on that only when bump has
// returned.
func (w *writers) invalidate(p partition, bump func(wrote bool)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, clean := w.clean[p]
	bump(!clean)
	w.clean.put(p, struct{}{}, maxRemembered)
}

// identity is who the server says it is. Another server at the same address invalidates everything once it has answered twice in a
// row, so that replicas that differ do not invalidate each other's answers for ever.
type identity struct {
	mu         sync.Mutex
	info, last string
}

// said notes a serverInfo. Where the server is another one it calls changed first: nobody sees the new one as known before that.
func (i *identity) said(info []byte, changed func()) {
	if len(info) == 0 {
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	again := i.last == string(info)
	if again && i.info != i.last {
		changed()
		i.info = i.last
	}
	if !again {
		i.last = string(info)
	}
	if i.info == "" {
		i.info = i.last
	}
}

// noteServer notes who the server says it is.
func (u *Stage) noteServer(era mcp.Era, info []byte) {
	u.identities[era].said(info, func() { u.bump(causeServer, u.families[:]...) })
}

// Replaced notes that the server lost its sessions, or that a process of it has ended by itself or has other files than before: another one
// answers from now on, with other lists perhaps. Whether sessions get the same lists is not learned anew.
func (u *Stage) Replaced() {
	u.bump(causeServer, u.families[:]...)
}

// received applies a message of the server's to a session: a notification, or an array that may hold some. A request is noted.
func (u *Stage) received(p *session, m *mcp.Message, data []byte) {
	switch {
	case u.opts.Plain: // not a message of MCP
	case m.Kind == mcp.KindRequest:
		p.noteServerRequest(m, data)
	case m.Kind == mcp.KindNotification:
		u.notified(p, m, data)
	case m.Kind == mcp.KindBatch:
		u.receivedArray(p, data)
	}
}

// receivedBody applies the notifications in a whole answer that is an array (2025-03-26, basic/transports).
func (u *Stage) receivedBody(c *mcp.Call, res *mcp.Result) {
	body := bytes.TrimPrefix(res.Scanned(), []byte("\ufeff"))
	if text := bytes.TrimLeft(body, " \t\r\n"); len(text) > 0 && text[0] == '[' && c.Era == mcp.EraLegacy {
		u.receivedArray(u.sessionOf(c), body)
	}
}

// receivedArray is received for each of an array of messages, as far as it is one, loose or not.
func (u *Stage) receivedArray(p *session, array []byte) {
	var messages []json.RawMessage
	if json.Unmarshal(array, &messages) != nil {
		return
	}
	for _, one := range messages {
		var m mcp.Message
		if mcp.Scan(one, &m) == nil && m.Kind != mcp.KindBatch {
			u.received(p, &m, one)
		}
	}
}

// listsChanged are the notifications that say that a list has changed.
var listsChanged = map[string]family{
	"notifications/tools/list_changed":     familyTools,
	"notifications/prompts/list_changed":   familyPrompts,
	"notifications/resources/list_changed": familyResources,
}

// notified applies a notification of the server's (2026-07-28, server/utilities/caching, "Invalidation"). A nil session is for
// one that belongs to no session.
func (u *Stage) notified(p *session, m *mcp.Message, data []byte) {
	name, _ := mcp.Text(m.MethodName.Of(data))
	if f, ok := listsChanged[name]; ok {
		u.listChanged(p, f)
	} else if name == "notifications/resources/updated" {
		u.updated(m, data)
	}
}

// settling is how long a new session's list_changed is about that session alone.
const settling = 2 * time.Second

// listChanged applies a notification that the family's list has changed. In the first seconds of a session it is
// about that session alone: servers that register their tools late say it to each.
func (u *Stage) listChanged(p *session, f family) {
	if p != nil && u.opts.Scope != ScopeSession && time.Since(p.born) < settling {
		p.earlyChanges[f].Add(1)
		return
	}
	u.bump(causeNotification, u.families[f])
}

// maxAncestors bounds the resources that an update invalidates.
const maxAncestors = 32

// updated invalidates what was read of a resource, and of those that it lies in where there are legacy agents: a legacy server
// may name a part of what they subscribed to (2025-11-25, schema, ResourceUpdatedNotification). Where the uri
// cannot be read in one way only, everything read is stale.
func (u *Stage) updated(m *mcp.Message, data []byte) {
	uri, ok := "", false
	if m.URI.End-m.URI.Start <= maxParams { // nothing is kept of a longer one
		uri, ok = mcp.Text(m.URI.Of(data))
	}
	if !ok || m.Ambiguous {
		u.bump(causeNotification, u.families[familyRead])
		return
	}
	stale := append(make([]tier.Generation, 0, maxAncestors+1), u.guard(guardURI, uri))
	legacy := !u.sessions.empty()
	for i := len(uri) - 1; legacy && i > 0; i-- {
		if len(stale) >= maxAncestors { // deeper than is told apart
			u.bump(causeNotification, u.families[familyRead])
			return
		}
		switch uri[i] {
		case '/':
			stale = append(stale, u.guard(guardURI, uri[:i+1]), u.guard(guardURI, uri[:i]))
		case '?', '#':
			stale = append(stale, u.guard(guardURI, uri[:i]))
		}
	}
	u.bump(causeNotification, stale...)
}

// withdraw invalidates everybody's entry, where there is one: the answer to its key is private now. A slow tier that could not be
// asked whether it has one is told as well, unless an invalidation of the entry is pending there anyhow.
func (u *Stage) withdraw(q *load) {
	withdrawal := withdrawalOf(u.opts.Identity, q.public.Key)
	if q.publicInTier || u.publicKeys.has(q.public.Key) || u.store.memory.Get(&q.public, time.Now()) != nil {
		u.store.bump(u.families[:], withdrawal)
		return
	}
	if q.privateOnly || !u.storable(q.request) {
		return
	}
	for i, t := range u.store.slowTiers {
		if q.slowTokens[i].public == nil && !t.Pending(q.public) {
			t.Invalidate([]tier.Generation{withdrawal}, u.families[:])
		}
	}
}
