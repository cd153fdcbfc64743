package mcp

import (
	"bytes"
	"fmt"
	"math"
)

// MaxDepth is how many arrays and objects may lie inside each other, the message itself counted.
const MaxDepth = 1024

// ScanError says why bytes are not a message. It never quotes them.
type ScanError struct {
	Offset  int    // of the byte at fault, or of the member; 0 where something is missing
	Invalid bool   // the bytes are JSON, but not one valid JSON-RPC message (-32600); else they are not JSON (-32700)
	What    string // one of a fixed set of short texts
}

// Error describes the fault for the log.
func (e *ScanError) Error() string {
	if e.Invalid {
		return fmt.Sprintf("not a valid JSON-RPC message: %s (offset %d)", e.What, e.Offset)
	}
	return fmt.Sprintf("not JSON: %s (offset %d)", e.What, e.Offset)
}

// Scan reads one JSON-RPC 2.0 message and fills m, which it empties first. It goes over the bytes once, checks all of
// them, copies none and does not allocate unless it fails. The spans in m are offsets into b.
//
// JSON is taken strictly (RFC 8259): no raw control character in a string, nothing but white space after the end, at most
// MaxDepth levels. At most math.MaxInt32 bytes; a tighter limit is the caller's.
//
// The envelope is an object with "jsonrpc":"2.0" and one of: a method (a string; with an id, null included, a request,
// else a notification), a result and an id, or an error (an object; its id may be null or missing). An id is a string, a
// number or null, params are an object or an array (JSON-RPC 2.0, sections 4 and 5). A second jsonrpc, id, method,
// params, result or error is refused. Members that JSON-RPC does not name are allowed, twice as well, and set Ambiguous:
// nobody here knows what they mean. So do params beside a result or an error, and a name of Message that appears twice
// inside params, params._meta, result or error; the first of the two counts.
//
// What the field sends beside that sets Loose: a byte order mark; a string that is no Unicode (a byte that is not UTF-8,
// half of a surrogate pair); params that are null; an error that is null beside a result, or a result that is null beside
// an error (the null one is left out); an id with nothing else, which is a KindResult without a Result. A string that is
// no Unicode is none of the names and methods that the package knows, and no id but its own bytes (SameID).
//
// An array that is not empty is a KindBatch: valid JSON, with nothing but Whole and Loose filled. Its elements are not
// looked at.
//
// The error is a *ScanError. After it m holds nothing but the ID, if there is exactly one in the envelope and it is well
// formed: wherever it stands if the error is Invalid, else only if it stands before the fault.
func Scan(b []byte, m *Message) error {
	s := scanner{lexer: lexer{b: b}}
	s.message()
	if s.err != nil {
		*m = Message{ID: s.readableID()}
		return s.err
	}
	*m = s.m
	return nil
}

// message reads all of the bytes. A fault in the JSON ends it; any other is noted, so that what follows is still known
// to be JSON and an id that comes later is found.
func (s *scanner) message() {
	if len(s.b) > math.MaxInt32 {
		s.refuse(0, "too long")
		return
	}
	start := s.space(s.mark())
	var end int
	switch s.at(start) {
	case '{':
		end = s.object(start, inEnvelope)
	case '[':
		if s.at(s.space(start+1)) == ']' {
			s.refuse(start, "an empty array")
		}
		end = s.value(start, 0)
		s.m.Kind = KindBatch
	default:
		s.refuse(start, "neither an object nor an array")
		end = s.value(start, 0)
	}
	if end < 0 {
		return
	}
	if rest := s.space(end); rest < len(s.b) {
		s.fail(rest, "something after the end")
		return
	}
	s.m.Whole = Span{uint32(start), uint32(end)}
	s.m.Loose = s.m.Loose || s.loose
	if s.m.Kind != KindBatch && s.err == nil {
		s.envelope()
	}
}

// envelope checks the members of an object that is JSON, and says what kind of message they make.
func (s *scanner) envelope() {
	m := &s.m
	if !TextIs(s.version.Of(s.b), "2.0") {
		s.refuse(int(s.version.Start), `jsonrpc is not "2.0"`)
	}
	if m.ID.Present() && !s.readableID().Present() {
		s.refuse(int(m.ID.Start), "an id that is no string, number or null")
	}
	switch {
	case !m.Params.Present() || s.b[m.Params.Start] == '{' || s.b[m.Params.Start] == '[':
	case s.isNull(m.Params):
		m.Loose = true
	default:
		s.refuse(int(m.Params.Start), "params that are no object or array")
	}
	switch {
	case m.MethodName.Present():
		s.called()
	case m.Result.Present() || m.Error.Present():
		s.answered()
	case m.ID.Present() && !m.Params.Present() && !m.Ambiguous: // else what it is may stand in a member that others know
		m.Kind, m.Loose = KindResult, true
	default:
		s.refuse(0, "no method, result or error")
	}
}

// mark returns the offset behind a byte order mark, which makes the message loose (RFC 8259, 8.1).
func (s *scanner) mark() int {
	if !bytes.HasPrefix(s.b, []byte(byteOrderMark)) {
		return 0
	}
	s.m.Loose = true
	return len(byteOrderMark)
}

func (s *scanner) isNull(at Span) bool { return s.b[at.Start] == 'n' }

func (s *scanner) called() {
	m := &s.m
	switch {
	case s.b[m.MethodName.Start] != '"':
		s.refuse(int(m.MethodName.Start), "a method that is no string")
	case m.Result.Present() || m.Error.Present():
		s.refuse(int(m.MethodName.Start), "a method beside a result or an error")
	case m.ID.Present():
		m.Kind = KindRequest
	default:
		m.Kind = KindNotification
	}
	if m.Kind != KindInvalid {
		m.Method = s.method()
	}
}

func (s *scanner) answered() {
	m := &s.m
	if m.Result.Present() && m.Error.Present() {
		switch {
		case s.isNull(m.Error):
			m.Error, m.Loose = Span{}, true
		case s.isNull(m.Result):
			m.Result, m.Loose = Span{}, true
		}
	}
	switch {
	case m.Result.Present() && m.Error.Present():
		s.refuse(int(m.Error.Start), "a result beside an error")
	case m.Result.Present() && !m.ID.Present():
		s.refuse(int(m.Result.Start), "a result without an id")
	case m.Result.Present():
		m.Kind = KindResult
	case s.b[m.Error.Start] != '{':
		s.refuse(int(m.Error.Start), "an error that is no object")
	default:
		m.Kind = KindError
	}
	if m.Params.Present() {
		m.Ambiguous = true
	}
}

func (s *scanner) method() Method {
	token := s.m.MethodName
	escaped := bytes.IndexByte(token.Of(s.b), '\\') >= 0
	return MethodOf(s.resolved(int(token.Start), int(token.End), escaped))
}

// readableID returns the id's span if an error can be addressed to it: there is one, there is only one, and it is a
// string, a number or null.
func (s *scanner) readableID() Span {
	id := s.m.ID
	if !id.Present() || s.secondID {
		return Span{}
	}
	switch s.b[id.Start] {
	case '{', '[', 't', 'f':
		return Span{}
	}
	return id
}
