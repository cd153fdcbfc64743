package batch

import (
	"bytes"
	"net/http"
	"slices"

	"fluentd-perf/internal/mcp"
)

// shared is an answer for the followers. Nobody changes it or what it points to; its body is the garbage collector's.
type shared struct {
	pattern mcp.Result                  // of their results, under the leader's id
	header  [len(sharedFields)][]string // the values of their header, nil where there are none
}

// sharedFields are all that followers get of the header: what says how the body is to be read and kept, where it came from,
// and what to do after a refusal. The rest may be about the leader alone (a cookie, a session, a trace).
var sharedFields = [...]string{"Content-Type", "Cache-Control", "Cache-Status", "Retry-After", "Www-Authenticate"}

// canShare believes Shareable only of what can be given to everybody under their own ids: one answer that was strictly
// understood, be it in a stream, or an error of HTTP's that says nothing in JSON-RPC. It fills in Message where nobody has.
func canShare(c *mcp.Call, res *mcp.Result) bool {
	switch {
	case !res.Shareable || res.Raw != nil || mcp.IsEncoded(res.Header):
		return false
	case res.Checked:
		return len(res.Body) > 0
	case res.Status < http.StatusBadRequest || res.Events != nil || res.Data != nil:
		return false
	}
	m := &res.Message
	if m.Kind == mcp.KindInvalid && mcp.Scan(res.Body, m) != nil {
		*m = mcp.Message{}
		return !bytes.Contains(res.Body, []byte(`"jsonrpc"`))
	}
	return !m.Loose && c.Answers(res.Body, m)
}

// newShared makes of an answer what the followers get. The answer stays its owner's.
func newShared(res *mcp.Result) *shared {
	s := &shared{pattern: *res}
	p := &s.pattern
	p.Body = bytes.Clone(res.Body)
	p.Header, p.Events, p.Release, p.Timing, p.Collapsed = nil, nil, nil, mcp.Timing{}, true
	for i, name := range sharedFields {
		s.header[i] = slices.Clip(slices.Clone(res.Header[name]))
	}
	if res.Events != nil {
		s.header[0], s.header[1] = jsonType, nil // as the answer would be without the stream
	}
	return s
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
		r.Body = r.Message.Splice(buffers.Get(len(r.Body)+len(id)), r.Body, at, id)
		if buffers != nil {
			body := r.Body
			r.Release = func() { buffers.Put(body) }
		}
	}
	return &r
}

// namesCall reports whether a response has an id to put another in place of. An error may have none, or null: that is how
// a server answers what it could not read (JSON-RPC 2.0, section 5), and such an answer goes on as it is.
func namesCall(m *mcp.Message, b []byte) bool {
	id := m.ID.Of(b)
	return len(id) > 0 && id[0] != 'n'
}
