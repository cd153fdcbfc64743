package mcp

import "math"

// Member returns the span of the value of a JSON object's member, found by its exact name after escapes are resolved, or
// the zero Span if it is not there. It reads all of doc in one pass, as strictly as Scan, and does not allocate unless
// it fails. The error, a *ScanError, says that doc is not one valid JSON object of at most MaxDepth levels and
// math.MaxInt32 bytes, or that the name is there twice. Strings that are no Unicode are let pass, a byte order mark is not;
// a member whose name is no Unicode is never found.
func Member(doc []byte, name string) (Span, error) {
	if len(doc) > math.MaxInt32 {
		return Span{}, &ScanError{Invalid: true, What: "too long"}
	}
	s := scanner{lexer: lexer{b: doc}, wanted: name}
	s.document()
	if s.err != nil {
		return Span{}, s.err
	}
	return s.found, nil
}

// MemberOf returns the value of an object's member as Member finds it, nil where there is none or object is none.
func MemberOf(object []byte, name string) []byte {
	if object == nil {
		return nil
	}
	at, err := Member(object, name)
	if err != nil {
		return nil
	}
	return at.Of(object)
}

func (s *scanner) document() {
	i := s.space(0)
	if s.at(i) == '{' {
		i = s.object(i, inDocument)
	} else {
		s.refuse(i, "not an object")
		i = s.value(i, 0)
	}
	if i < 0 {
		return
	}
	if i = s.space(i); i < len(s.b) {
		s.fail(i, "something after the end")
	}
}
