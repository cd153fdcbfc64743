package dispatch

import (
	"strconv"
	"strings"

	"fluentd-perf/internal/mcp"
)

// sessionHeader names a legacy session (2025-11-25, basic/transports, "Session Management").
const sessionHeader = "Mcp-Session-Id"

// suffixMark is what stands between a server's session id and the index of its endpoint, where there are several. It is a
// character that a session id may have: a server's own may end like ours, which is no matter, because each gets one more.
const suffixMark = "~"

// where says to which endpoint a call has to go, or anyEndpoint, and returns the call as it has to be sent: with several
// endpoints, a session's id is the server's own again.
//
// An id without an index, or with one of no endpoint, is older than the list of endpoints as it is now. It goes to the
// first one as it is: the one that was there alone, or a server that says that it does not know it. A call with a
// target of its own goes to the first one as well: only there are such targets learnt.
func (s *Stage) where(c *mcp.Call) (int, *mcp.Call) {
	if !s.endpoints.several() {
		return anyEndpoint, c
	}
	if c.Target != nil {
		return 0, c
	}
	if c.Era == mcp.EraPlain {
		return anyEndpoint, c
	}
	marked := c.Header.Get(sessionHeader)
	if marked == "" {
		return anyEndpoint, c
	}
	id, index, ok := s.endpoints.cut(marked)
	if !ok {
		return 0, c
	}
	out := *c
	out.Header = c.Header.Clone()
	out.Header.Set(sessionHeader, id)
	return index, &out
}

// mark puts the endpoint's index to the session id in an answer's header, where there are several endpoints.
func (s *Stage) mark(c *mcp.Call, res *mcp.Result, e *endpoint) {
	if !s.endpoints.several() || c.Era == mcp.EraPlain {
		return
	}
	if id := res.Header.Get(sessionHeader); id != "" {
		res.Header.Set(sessionHeader, id+suffixMark+strconv.Itoa(e.index))
	}
}

// cut takes the index off a session id.
func (s endpoints) cut(id string) (rest string, index int, ok bool) {
	at := strings.LastIndex(id, suffixMark)
	if at <= 0 {
		return "", 0, false
	}
	digits := id[at+1:]
	index, err := strconv.Atoi(digits)
	if err != nil || index < 0 || index >= len(s) || strconv.Itoa(index) != digits {
		return "", 0, false
	}
	return id[:at], index, true
}
