package session

import (
	"bytes"
	"hash/maphash"
	"math"
	"slices"
	"time"

	"fluentd-perf/internal/mcp"
)

// Event ids are remembered by a hash: a server may make them as long as it likes.
var idSeed = maphash.MakeSeed()

func hashID(id []byte) uint64         { return maphash.Bytes(idSeed, id) }
func hashIDString(id string) uint64   { return maphash.String(idSeed, id) }
func has(ids []uint64, h uint64) bool { return slices.Contains(ids, h) }

// recentIDs are the ids of the last events of a session, over all its streams: a ring once it is full.
type recentIDs struct {
	ids  []uint64
	next int // the oldest, of a full ring
}

// add returns by how many bytes the ring has grown.
func (r *recentIDs) add(h uint64) int {
	if !r.full() {
		r.ids = append(r.ids, h)
		return 8
	}
	r.ids[r.next] = h
	r.next = (r.next + 1) % len(r.ids)
	return 0
}

// full reports whether there may have been more ids than these.
func (r *recentIDs) full() bool { return len(r.ids) == maxEventIDs }

// post is a request whose answer is due on a stream with event ids, which its agent may resume by GET (2025-11-25,
// basic/transports, "Resumability"). It is the session's.
type post struct {
	id   []byte    // the request's
	gen  int       // of the place where it runs
	ids  [8]uint64 // of its last events
	n    int
	told time.Time // when its agent learnt that it is lost; zero before
}

func (p *post) add(h uint64) {
	p.ids[p.n%len(p.ids)] = h
	p.n++
}

func (p *post) holds(h uint64) bool { return has(p.ids[:min(p.n, len(p.ids))], h) }

// asked is a request of the server's that its agent has not answered yet.
type asked struct {
	id  []byte
	gen int
}

// saw notes the id of an event that passed on a stream of the place, and of which post it is, nil for none.
func (e *session) saw(at place, p *post, id []byte) {
	h := hashID(id)
	e.mu.Lock()
	defer e.mu.Unlock()
	if p != nil {
		p.add(h)
	}
	if at.gen == e.at.gen {
		e.weigh(e.fresh.add(h))
	} else {
		e.weigh(e.old.add(h))
	}
}

// ageLocked makes the ids of the place those of before.
func (e *session) ageLocked() {
	r := e.fresh
	for _, h := range slices.Concat(r.ids[r.next:], r.ids[:r.next]) {
		e.weigh(e.old.add(h))
	}
	e.weigh(-8 * len(r.ids))
	e.fresh = recentIDs{}
}

// posted begins a post. It returns nil where the request's id is too long to be remembered.
func (e *session) posted(at place, id []byte) *post {
	if len(id) > maxToken {
		return nil
	}
	p := &post{id: bytes.Clone(id), gen: at.gen}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.posts) == maxPosts {
		e.dropLocked(0)
	}
	e.posts = append(e.posts, p)
	e.weigh(postBytes + len(id))
	return p
}

// answered ends a post: its answer has passed.
func (e *session) answered(p *post) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if i := slices.Index(e.posts, p); i >= 0 {
		e.dropLocked(i)
	}
}

// dropLocked forgets a post.
func (e *session) dropLocked(i int) {
	e.weigh(-postBytes - len(e.posts[i].id))
	e.posts = slices.Delete(e.posts, i, i+1)
}

// anyGen stands for a place that is not known.
const anyGen = -1

// resume says what a GET with that Last-Event-ID is about: the post that it resumes, or nil; and whether the id is of
// before the last healing, so that the server would not know it, or take it for another. gen is of the place that gave the
// id. Where that is not known, an id that the place of now has given is its own: servers count from the start again. One
// that no list holds is taken for one of before as long as all ids of the place of now are known, and for one of now when
// they are too many: soon after a healing agents come with what they had before; later, an id that is taken off would lose
// events.
func (e *session) resume(lastID string, gen int) (p *post, before bool) {
	h := hashIDString(lastID)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.forgetToldLocked()
	now := e.at.gen
	p = e.postLocked(h, func(of int) bool { return of == now })
	if gen == now || gen == anyGen && (now == 0 || p != nil || has(e.fresh.ids, h)) {
		return p, false
	}
	p = e.postLocked(h, func(of int) bool { return of < now })
	return p, p != nil || gen != anyGen || !e.fresh.full() || has(e.old.ids, h)
}

// postLocked finds the latest post of such a place with an event of that id.
func (e *session) postLocked(h uint64, at func(gen int) bool) *post {
	for _, p := range slices.Backward(e.posts) {
		if at(p.gen) && p.holds(h) {
			return p
		}
	}
	return nil
}

// forgetToldLocked forgets the posts whose agents know for long that they are lost.
func (e *session) forgetToldLocked() {
	for i, p := range slices.Backward(e.posts) {
		if !p.told.IsZero() && time.Since(p.told) >= keepTold {
			e.dropLocked(i)
		}
	}
}

// tell notes that the agent learns that the post is lost.
func (e *session) tell(p *post) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p.told = time.Now()
}

func (e *session) isTold(p *post) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return !p.told.IsZero()
}

// ask notes a request that the server at the place has sent.
func (e *session) ask(at place, id []byte) {
	if len(id) > maxToken {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.asked) == maxAsked {
		e.answerLocked(0)
	}
	e.asked = append(e.asked, asked{bytes.Clone(id), at.gen})
	e.weigh(entryBytes + len(id))
}

// answerLocked forgets a request of the server's.
func (e *session) answerLocked(i int) {
	e.weigh(-entryBytes - len(e.asked[i].id))
	e.asked = slices.Delete(e.asked, i, i+1)
}

// stale reports whether an agent's answer is to a request of before the place. Servers begin to count anew, so of two
// requests with the same id the first is taken to be answered first: an answer to it must never reach the second. In a
// session that was healed, an answer to what is not known is one of before, unless something came since that nobody could read.
func (e *session) stale(at place, id []byte) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if at.gen == 0 {
		return false
	}
	i := e.askedLocked(id)
	if i < 0 {
		return !e.unread || e.unreadGen < at.gen
	}
	if e.asked[i].gen >= at.gen {
		return false
	}
	e.answerLocked(i)
	return true
}

// passedUnread notes that something of the server's came in the place that nobody could read: it may have asked something.
func (e *session) passedUnread(at place) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unread, e.unreadGen = true, max(e.unreadGen, at.gen)
}

// isUnread reports whether nobody knows what an event says: it came in pieces, or is no JSON-RPC.
func isUnread(ev *mcp.Event) bool {
	return ev.Partial || ev.Last || len(ev.Data) > 0 && ev.Message.Kind == mcp.KindInvalid
}

// settle notes that the server has taken an agent's answer.
func (e *session) settle(id []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if i := e.askedLocked(id); i >= 0 {
		e.answerLocked(i)
	}
}

func (e *session) askedLocked(id []byte) int {
	return slices.IndexFunc(e.asked, func(a asked) bool { return mcp.SameID(a.id, id) })
}

// note takes in what a message of the server's on a stream of the place says: that it asks something.
func (e *session) note(at place, data []byte, m *mcp.Message) {
	switch m.Kind {
	case mcp.KindRequest:
		e.ask(at, m.ID.Of(data))
	case mcp.KindBatch:
		// Servers of 2025-03-26 may batch what they send (basic/transports).
		each(data, func(element []byte, one *mcp.Message) {
			if one.Kind == mcp.KindRequest {
				e.ask(at, one.ID.Of(element))
			}
		})
	}
}

// each calls f for each message of a server's array. Elements that are no message are left out. The array was scanned before,
// so its own size bounds the work.
func each(array []byte, f func(element []byte, m *mcp.Message)) {
	elements, _ := mcp.Elements(nil, array, math.MaxInt)
	for _, span := range elements {
		var m mcp.Message
		if element := span.Of(array); mcp.Scan(element, &m) == nil {
			f(element, &m)
		}
	}
}

func isAnswer(m *mcp.Message) bool { return m.Kind == mcp.KindResult || m.Kind == mcp.KindError }

// eventsOf are the events of an answer within a session, watched as they pass. One goroutine reads them.
type eventsOf struct {
	mcp.Events
	stage *Stage
	call  *mcp.Call
	e     *session
	at    place
	post  *post // nil until an event with an id has passed
}

// Next returns the next event.
func (w *eventsOf) Next() (mcp.Event, error) {
	ev, err := w.Events.Next()
	if err != nil {
		return ev, err
	}
	defer w.stage.sessions.weigh(w.e)
	if len(ev.ID) > 0 && !ev.Answer {
		if w.post == nil && w.call.Lane == mcp.LaneRequest {
			w.post = w.e.posted(w.at, w.call.ID())
		}
		w.e.saw(w.at, w.post, ev.ID)
	}
	if isUnread(&ev) {
		w.e.passedUnread(w.at)
		return ev, nil
	}
	if ev.Answer {
		w.e.result(w.call, ev.Message.Kind)
		if w.post != nil {
			w.e.answered(w.post)
		}
		return ev, nil
	}
	w.e.note(w.at, ev.Data, &ev.Message)
	return ev, nil
}
