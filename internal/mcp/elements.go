package mcp

import "math"

// Elements appends the spans of a JSON array's elements to dst and returns it. It checks all of doc as strictly as Scan: the
// error, a *ScanError, says that doc is not JSON, or (Invalid) not an array of one to limit elements. Strings that are no
// Unicode are let pass, a byte order mark is not: Scan of an element tells whether that one is loose.
func Elements(dst []Span, doc []byte, limit int) ([]Span, error) {
	if len(doc) > math.MaxInt32 {
		return dst, &ScanError{Invalid: true, What: "too long"}
	}
	s := scanner{lexer: lexer{b: doc}}
	dst = s.elements(dst, limit)
	if s.err != nil {
		return dst, s.err
	}
	return dst, nil
}

// MaxElements is how many elements of an array are looked at: it is as many as /rpc takes.
const MaxElements = 1000

// HasRequest reports whether there is a request in an array, or may be: what cannot be read, and what has more than
// MaxElements, is taken for one. An array without is of answers to the server and of notifications, for which calls under
// way may be waiting (2025-03-26, basic/transports, "Sending Messages to the Server").
func HasRequest(array []byte) bool {
	elements, err := Elements(nil, array, MaxElements)
	if err != nil {
		return true
	}
	for _, e := range elements {
		var m Message
		if Scan(e.Of(array), &m) != nil || m.Kind == KindRequest {
			return true
		}
	}
	return false
}

// EachMessage calls f for each message of an array. Elements that are no message are left out. The array was scanned before,
// so that its own size bounds the work.
func EachMessage(array []byte, f func(element []byte, m *Message)) {
	elements, err := Elements(nil, array, math.MaxInt)
	if err != nil {
		return // an empty array
	}
	for _, span := range elements {
		var m Message
		if element := span.Of(array); Scan(element, &m) == nil {
			f(element, &m)
		}
	}
}

func (s *scanner) elements(dst []Span, limit int) []Span {
	i := s.space(0)
	if s.at(i) != '[' {
		s.refuse(i, "not an array")
		s.rest(s.value(i, 0))
		return dst
	}
	if i = s.space(i + 1); s.at(i) == ']' {
		s.refuse(i, "an empty array")
		s.rest(i + 1)
		return dst
	}
	for n := 0; ; n++ {
		end := s.value(i, 1)
		if end < 0 {
			return dst
		}
		if n < limit {
			dst = append(dst, Span{uint32(i), uint32(end)})
		} else if n == limit {
			s.refuse(i, "too many elements")
		}
		i = s.space(end)
		switch s.at(i) {
		case ',':
			i = s.space(i + 1)
		case ']':
			s.rest(i + 1)
			return dst
		default:
			s.fail(i, "no comma or end of an array")
			return dst
		}
	}
}

// rest checks that there is nothing but white space from i on.
func (s *scanner) rest(i int) {
	if i < 0 {
		return
	}
	if i = s.space(i); i < len(s.b) {
		s.fail(i, "something after the end")
	}
}
