package batch

import (
	"bytes"
	"net/http"
	"slices"

	"fluentd-perf/internal/mcp"
)

// shared is an answer for everybody. Nobody changes it or what it points to; its body is the garbage collector's.
type shared struct {
	pattern mcp.Result                  // of the followers' results, under the leader's id
	header  [len(sharedFields)][]string // the values of their header, nil where there are none
}

// sharedFields are all that followers get of the header: what says how the body is to be read and kept, where it came from,
// and what to do after a refusal. The rest may be about the leader alone (a cookie, a session, a trace).
var sharedFields = [...]string{"Content-Type", "Cache-Control", "Cache-Status", "Retry-After", "Www-Authenticate"}

// canShare believes Shareable only of what can be given to everybody under their own ids: one checked answer, be it in a
// stream, or an error of HTTP's in which the flight's id stands nowhere or is that of a JSON-RPC error.
func (f *flight) canShare(res *mcp.Result) bool {
	switch {
	case !res.Shareable || res.Raw != nil:
		return false
	case res.Checked:
		return len(res.Body) > 0
	case res.Status < http.StatusBadRequest || res.Events != nil || isEncoded(res.Header):
		return false
	}
	id := f.call.ID()
	if mcp.Scan(res.Body, &res.Message) == nil && mcp.SameID(res.Message.ID.Of(res.Body), id) {
		return true
	}
	res.Message = mcp.Message{}
	return !bytes.Contains(res.Body, bytes.Trim(id, `"`))
}

// share makes of an answer the leader's result, under its id, and what the others get. It closes the answer, unless that is
// a stream: the leader gets it as the server sent it.
func (f *flight) share(res *mcp.Result, leaderID []byte) (own *mcp.Result, all *shared) {
	r := *res
	r.Release, r.Events = nil, nil
	if namesCall(&r.Message, r.Body) {
		at := r.Message.ID
		r.Body = splice(make([]byte, 0, len(r.Body)+len(leaderID)), r.Body, at, leaderID)
		move(&r.Message, at, len(leaderID))
	} else {
		r.Body = bytes.Clone(r.Body)
	}
	all = &shared{pattern: r}
	for i, name := range sharedFields {
		all.header[i] = slices.Clip(slices.Clone(r.Header[name]))
	}
	p := &all.pattern
	p.Header, p.Timing, p.Collapsed = nil, mcp.Timing{}, true
	if res.Events == nil {
		closeQuietly(res)
		return &r, all
	}
	all.header[0], all.header[1] = jsonType, nil // as the answer would be without the stream
	own = &mcp.Result{Status: res.Status, Header: res.Header, Timing: res.Timing, Release: res.Release}
	own.Events = &ownEvents{events: res.Events, id: leaderID, resumable: f.call.Era == mcp.EraLegacy}
	return own, all
}

// jsonType is the Content-Type of an answer that was taken out of a stream: the first of sharedFields.
var jsonType = []string{"application/json"}

// result returns the answer under another id. It is without a copy of the body where that is the leader's: agents count
// from the same number.
func (s *shared) result(id []byte, buffers *mcp.BufferPool) *mcp.Result {
	r := s.pattern
	r.Header = make(http.Header, len(s.header)+2)
	for i, values := range s.header {
		if values != nil {
			r.Header[sharedFields[i]] = values
		}
	}
	if at := r.Message.ID; namesCall(&r.Message, r.Body) && !bytes.Equal(at.Of(r.Body), id) {
		r.Body = splice(buffers.Get(len(r.Body)+len(id)), r.Body, at, id)
		move(&r.Message, at, len(id))
		if buffers != nil {
			body := r.Body
			r.Release = func() { buffers.Put(body) }
		}
	}
	return &r
}
