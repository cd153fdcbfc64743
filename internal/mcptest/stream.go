package mcptest

import (
	"fmt"
	"net/http"
	"strings"
)

// Stream is an SSE answer being written, chunk by chunk: every call is one chunk and one write.
type Stream struct{ x *Exchange }

// Stream begins a 200 text/event-stream answer: the head goes out at once. Fields are extra header fields.
func (x *Exchange) Stream(fields ...string) *Stream {
	fields = append(fields, "Cache-Control: no-cache, no-transform", "Transfer-Encoding: chunked")
	x.unended = true
	x.put(Head(http.StatusOK, "text/event-stream", fields...))
	return &Stream{x}
}

// Event sends one event: first the lines, each a whole SSE line without its end ("id: 7"), then the data.
func (s *Stream) Event(data string, lines ...string) { s.Raw(EventText(data, lines...)) }

// Answer sends the answer to the request as an event: its own id and the result, which is JSON.
func (s *Stream) Answer(result string, lines ...string) { s.Event(s.x.Answer(result), lines...) }

// Comment sends a comment and a blank line, which dispatches nothing.
func (s *Stream) Comment(text string) { s.Raw(": " + text + "\n\n") }

// Raw sends bytes of the stream as they are: a part of an event, or several.
func (s *Stream) Raw(text string) {
	if text != "" { // an empty chunk would be the end
		s.x.put(fmt.Sprintf("%x\r\n%s\r\n", len(text), text))
	}
}

// End ends the stream in good order. The connection may be used again.
func (s *Stream) End() {
	s.x.put("0\r\n\r\n")
	s.x.unended = false
}

// EventText returns the text of one event: the lines, then the data, of which each line gets a data field of its own.
func EventText(data string, lines ...string) string {
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(line + "\n")
	}
	for line := range strings.SplitSeq(data, "\n") {
		b.WriteString("data: " + line + "\n")
	}
	b.WriteString("\n")
	return b.String()
}
