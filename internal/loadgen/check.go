package loadgen

import (
	"bytes"
	"fmt"

	"fluentd-perf/internal/mcp"
)

// The reasons for which a call has failed.
const (
	FaultConnect   = "connect"    // no connection, or no session
	FaultBroke     = "broke_off"  // the connection ended before the whole answer was there
	FaultTimeout   = "timeout"    // no whole answer in time
	FaultStatus    = "status"     // not 200
	FaultMalformed = "malformed"  // not HTTP/1.1, or not one JSON-RPC message for the call
	FaultError     = "error"      // a JSON-RPC error
	FaultTool      = "tool_error" // a result with isError
	FaultBody      = "wrong_body" // a result, and not that of the call
)

// fault says why a call has failed.
type fault struct{ reason, detail string }

// checkAnswer says what is wrong with an answer; nil: nothing.
func (m *message) check(a *answer) *fault {
	switch {
	case a.status != 200:
		return &fault{FaultStatus, fmt.Sprintf("status %d: %.200q", a.status, a.body)}
	case m.kind.Array > 0:
		return m.checkArray(a.body)
	case a.events:
		return m.checkEvents(a.body)
	case m.kind.Progress && m.answer != nil && a.told == 0:
		return &fault{FaultBody, "an answer without the progress that was asked for"}
	}
	return m.checkMessage(a.body)
}

// checkMessage compares the answer as bytes, and reads it where it is not known or differs.
func (m *message) checkMessage(body []byte) *fault {
	if m.answer != nil && m.answer.matches(body, m.id(), m.key()) {
		return nil
	}
	var scanned mcp.Message
	if err := mcp.Scan(body, &scanned); err != nil {
		return &fault{FaultMalformed, fmt.Sprintf("%v: %.200q", err, body)}
	}
	return m.checkScanned(body, &scanned)
}

func (m *message) checkScanned(body []byte, s *mcp.Message) *fault {
	ownID := mcp.SameID(s.ID.Of(body), m.id())
	switch {
	case m.kind.Error && s.Kind == mcp.KindError && ownID:
		return nil
	case m.kind.Error && s.Kind == mcp.KindResult:
		return quoted(FaultBody, body)
	case s.Kind == mcp.KindError:
		return quoted(FaultError, body)
	case s.Kind != mcp.KindResult || !ownID:
		return quoted(FaultMalformed, body)
	case string(s.IsError.Of(body)) == "true":
		return quoted(FaultTool, body)
	case m.result != nil && !m.result.matches(s.Result.Of(body), m.id(), m.key()):
		return quoted(FaultBody, body)
	}
	return nil
}

// quoted is a fault that shows the beginning of what came.
func quoted(reason string, body []byte) *fault { return &fault{reason, fmt.Sprintf("%.200q", body)} }

// checkEvents looks for the one answer among the events of a stream. Where progress was asked for and the server is the scripted one, it
// has to be there.
func (m *message) checkEvents(body []byte) *fault {
	notifications, answers := 0, 0
	if bytes.IndexByte(body, '\r') >= 0 { // which JSON has no raw one of: lines end in CRLF
		body = bytes.ReplaceAll(body, []byte("\r\n"), []byte("\n"))
	}
	for len(body) > 0 {
		var event []byte
		event, body, _ = bytes.Cut(body, []byte("\n\n"))
		data := dataOf(event)
		if len(data) == 0 {
			continue
		}
		if m.answer != nil && m.answer.matches(data, m.id(), m.key()) {
			answers++
			continue
		}
		var scanned mcp.Message
		if err := mcp.Scan(data, &scanned); err != nil {
			return &fault{FaultMalformed, fmt.Sprintf("%v: %.200q", err, data)}
		}
		if !scanned.Kind.IsAnswer() {
			notifications++
			continue
		}
		if f := m.checkScanned(data, &scanned); f != nil {
			return f
		}
		answers++
	}
	switch {
	case answers == 0:
		return &fault{FaultMalformed, "a stream without the answer"}
	case answers > 1: // a request has one (JSON-RPC 2.0, section 5)
		return &fault{FaultMalformed, fmt.Sprintf("a stream with %d answers to one call", answers)}
	case notifications == 0 && m.kind.Progress && m.answer != nil:
		return &fault{FaultBody, "an answer without the progress that was asked for"}
	}
	return nil
}

// dataOf returns the data of an event, whose lines end in LF.
func dataOf(event []byte) []byte {
	var data []byte
	for len(event) > 0 {
		var line []byte
		line, event, _ = bytes.Cut(event, []byte("\n"))
		value, ok := bytes.CutPrefix(line, []byte("data:"))
		if !ok {
			continue
		}
		value = bytes.TrimPrefix(value, []byte(" "))
		if data == nil {
			data = value
		} else {
			data = append(append(bytes.Clone(data), '\n'), value...)
		}
	}
	return data
}

// checkArray wants an answer to each call of an array, in whatever order (JSON-RPC 2.0, section 6).
func (m *message) checkArray(body []byte) *fault {
	elements, err := mcp.Elements(nil, body, m.kind.Array)
	if err != nil {
		return &fault{FaultMalformed, fmt.Sprintf("%v: %.200q", err, body)}
	}
	wanted := make(map[string]bool, m.kind.Array)
	for _, at := range m.ids {
		wanted[string(m.text[at:at+width])] = true
	}
	for _, span := range elements {
		element := span.Of(body)
		var s mcp.Message
		if err := mcp.Scan(element, &s); err != nil {
			return &fault{FaultMalformed, fmt.Sprintf("%v: %.200q", err, element)}
		}
		id := s.ID.Of(element)
		switch {
		case s.Kind == mcp.KindError:
			return quoted(FaultError, element)
		case s.Kind != mcp.KindResult || !wanted[string(id)]:
			return quoted(FaultMalformed, element)
		case m.result != nil && !m.result.matches(s.Result.Of(element), id, m.key()):
			return quoted(FaultBody, element)
		}
		delete(wanted, string(id))
	}
	if len(wanted) > 0 {
		return &fault{FaultMalformed, fmt.Sprintf("%d calls of an array are not answered", len(wanted))}
	}
	return nil
}
