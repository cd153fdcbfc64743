package batch

import (
	"bytes"

	"fluentd-perf/internal/mcp"
)

// ownEvents is the stream of a flight's call, as the leader's own.
type ownEvents struct {
	events mcp.Events
	id     []byte // the leader's

	// A legacy client would resume a broken stream by its last event id, and get the answer under an id that it does not
	// know. Without event ids it does not try, and the call fails as one does that broke off.
	resumable bool

	raw, data []byte // of the event handed out last, where it was changed
}

// Next implements mcp.Events. An answer of which the id cannot be replaced is bad_answer.
func (e *ownEvents) Next() (mcp.Event, error) {
	ev, err := e.events.Next()
	if err != nil {
		return ev, err
	}
	hide := e.resumable && ev.HasID
	replace := ev.Answer && namesCall(&ev.Message, ev.Data)
	if replace {
		at := ev.Message.ID
		e.data = splice(e.data[:0], ev.Data, at, e.id)
		move(&ev.Message, at, len(e.id))
		ev.Data = e.data
	}
	if hide {
		ev.ID, ev.HasID = nil, false
	}
	if replace || hide {
		e.raw = rewrite(e.raw[:0], ev.Raw, ev.Data, hide)
		ev.Raw = e.raw
	}
	return ev, nil
}

// Close implements mcp.Events.
func (e *ownEvents) Close() error { return e.events.Close() }

// rewrite appends an event to dst with other data, and without its id if that is to be hidden. All other lines stay as
// they are (WHATWG HTML, 9.2, for what a line is).
func rewrite(dst, raw, data []byte, hideID bool) []byte {
	written := false
	for len(raw) > 0 {
		end := lineEnd(raw)
		line, rest := raw[:end], raw[end:]
		switch name := fieldName(line); {
		case name == "id" && hideID:
		case name == "data" && !written:
			dst = appendData(dst, data)
			written = true
		case name == "data":
		default:
			dst = append(dst, line...)
		}
		raw = rest
	}
	return dst
}

// appendData appends data as lines of the field: more than one if there is an LF in it.
func appendData(dst, data []byte) []byte {
	for line := range bytes.SplitSeq(data, []byte("\n")) {
		dst = append(dst, "data: "...)
		dst = append(dst, line...)
		dst = append(dst, '\n')
	}
	return dst
}

// lineEnd returns the offset behind the first line and its end, which may be LF, CR or CRLF.
func lineEnd(b []byte) int {
	i := bytes.IndexAny(b, "\r\n")
	switch {
	case i < 0:
		return len(b)
	case b[i] == '\r' && i+1 < len(b) && b[i+1] == '\n':
		return i + 2
	}
	return i + 1
}

// fieldName returns the name of the field that a line with its end sets, "" for comments and blank lines.
func fieldName(line []byte) string {
	line = bytes.TrimRight(line, "\r\n")
	if i := bytes.IndexByte(line, ':'); i >= 0 {
		line = line[:i]
	}
	switch string(line) {
	case "data":
		return "data"
	case "id":
		return "id"
	}
	return ""
}
