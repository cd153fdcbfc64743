package session

import (
	"bytes"
	"hash/maphash"
	"slices"

	"fluentd-perf/internal/mcp"
)

// Event ids are remembered by a hash: a server may make them as long as it likes.
var idSeed = maphash.MakeSeed()

func hashID(id []byte) uint64         { return maphash.Bytes(idSeed, id) }
func hashIDString(id string) uint64   { return maphash.String(idSeed, id) }
func has(ids []uint64, h uint64) bool { return slices.Contains(ids, h) }

// recentIDs are the ids of the last events of a session, over all its streams.
type recentIDs struct {
	ids  [256]uint64
	next int
	n    int
}

func (r *recentIDs) add(h uint64) {
	r.ids[r.next] = h
	r.next = (r.next + 1) % len(r.ids)
	r.n = min(r.n+1, len(r.ids))
}

// post is a request whose answer is due on a stream with event ids, which its agent may resume by GET (2025-11-25,
// basic/transports, "Resumability"). It is the session's.
type post struct {
	id   []byte // the request's
	gen  int    // of the place where it runs
	ids  [8]uint64
	n    int
	told bool // that it is lost
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
	if e.fresh != nil && at.gen == e.at.gen {
		e.fresh.add(h)
	}
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
		e.posts = slices.Delete(e.posts, 0, 1)
	}
	e.posts = append(e.posts, p)
	return p
}

// answered ends a post: its answer has passed.
func (e *session) answered(p *post) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if i := slices.Index(e.posts, p); i >= 0 {
		e.posts = slices.Delete(e.posts, i, i+1)
	}
}

// resume says what a GET with that Last-Event-ID is about: the post that it resumes, or nil; and whether the id is of
// before the last healing, so that the server would not know it, or take it for another.
func (e *session) resume(lastID string) (p *post, before bool) {
	h := hashIDString(lastID)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, p := range slices.Backward(e.posts) {
		if p.holds(h) {
			return p, p.gen < e.at.gen
		}
	}
	return nil, e.fresh != nil && !has(e.fresh.ids[:e.fresh.n], h)
}

// tell reports whether the agent has been told before that the post is lost, and notes that it now is.
func (e *session) tell(p *post) (before bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before, p.told = p.told, true
	return before
}

func (e *session) isTold(p *post) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return p.told
}

// ask notes a request that the server at the place has sent.
func (e *session) ask(at place, id []byte) {
	if len(id) > maxToken {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.asked) == maxAsked {
		e.asked = slices.Delete(e.asked, 0, 1)
	}
	e.asked = append(e.asked, asked{bytes.Clone(id), at.gen})
}

// stale reports whether an agent's answer is to a request of before the last healing. Servers begin to count anew, so of
// two requests with the same id the first is taken to be answered first: an answer to it must never reach the second. In
// a session that was healed, an answer to what is not known is one of before.
func (e *session) stale(id []byte) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.at.gen == 0 {
		return false
	}
	i := e.askedLocked(id)
	if i < 0 {
		return true
	}
	if e.asked[i].gen == e.at.gen {
		return false
	}
	e.asked = slices.Delete(e.asked, i, i+1)
	return true
}

// settle notes that the server has taken an agent's answer.
func (e *session) settle(id []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if i := e.askedLocked(id); i >= 0 {
		e.asked = slices.Delete(e.asked, i, i+1)
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
		const most = 1_000
		elements, err := mcp.Elements(nil, data, most)
		if err != nil {
			return
		}
		for _, span := range elements {
			var one mcp.Message
			if element := span.Of(data); mcp.Scan(element, &one) == nil && one.Kind == mcp.KindRequest {
				e.ask(at, one.ID.Of(element))
			}
		}
	}
}

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
	if len(ev.ID) > 0 && !ev.Answer {
		if w.post == nil && w.call.Lane == mcp.LaneRequest {
			w.post = w.e.posted(w.at, w.call.ID())
		}
		w.e.saw(w.at, w.post, ev.ID)
	}
	if ev.Answer {
		w.stage.accepted(w.call, w.e, ev.Message.Kind)
		if w.post != nil {
			w.e.answered(w.post)
		}
		return ev, nil
	}
	w.e.note(w.at, ev.Data, &ev.Message)
	return ev, nil
}
