package mcp

// scanner reads values, and those objects member by member of which the members matter. As with lexer, its methods
// return the offset behind what they read, or -1 after a fault in the JSON.
type scanner struct {
	lexer
	m        Message
	version  Span // jsonrpc
	secondID bool
	wanted   string            // what Member looks for,
	found    Span              // and where it is
	room     [longestName]byte // for a name or a method without its escapes

	kinds    [MaxDepth / 64]uint64 // of the open values but the innermost 64, 64 to a word: 1 is an object
	overflow []uint64              // the same below MaxDepth, where the message is refused already
}

// object reads the object at i, which must be there, and fills the fields of its level.
func (s *scanner) object(i int, l level) int {
	i = s.space(i + 1)
	if s.at(i) == '}' {
		return i + 1
	}
	for {
		if i = s.member(i, l); i < 0 {
			return -1
		}
		i = s.space(i)
		switch s.at(i) {
		case ',':
			i = s.space(i + 1)
		case '}':
			return i + 1
		default:
			return s.fail(i, "no comma or end after a member")
		}
	}
}

// member reads a name and its value.
func (s *scanner) member(i int, l level) int {
	name := i
	end, i, escaped := s.name(i)
	if i < 0 {
		return -1
	}
	field, inside := s.field(l, name, end, escaped)
	start, first := i, field != nil && !field.Present()
	if first && inside != inNothing && s.at(i) == '{' {
		i = s.object(i, inside)
	} else {
		i = s.value(i, depths[l])
	}
	switch {
	case i < 0:
		return -1
	case first:
		*field = Span{uint32(start), uint32(i)}
	case field != nil:
		s.again(l, field, name)
	case l == inEnvelope:
		s.m.Ambiguous = true
	}
	return i
}

// value reads any value. It does not recurse: open values are bits in a word, older ones in words aside, so that
// nothing that is sent can use up the stack. base is how many are open around the value.
func (s *scanner) value(i, base int) int {
	var (
		b     = s.b
		depth int    // open values
		kinds uint64 // of the innermost up to 64 of them, the lowest bit of the innermost one
	)
value:
	if i >= len(b) {
		return s.fail(i, "no value where one must be")
	}
	switch c := b[i]; c {
	case '"':
		i, _ = s.text(i)
	case '{', '[':
		if depth&63 == 0 && depth > 0 {
			s.save(depth, kinds)
		}
		if depth++; base+depth > MaxDepth {
			s.refuse(i, "too deep")
		}
		kinds = kinds<<1 | uint64(c>>5&1)
		i = s.space(i + 1)
		if i < len(b) && b[i] == c+2 { // the end comes two after the start: [\], {|}
			goto end
		}
		if c == '{' {
			goto name
		}
		goto value
	case 't':
		i = s.literal(i, "true")
	case 'f':
		i = s.literal(i, "false")
	case 'n':
		i = s.literal(i, "null")
	default:
		i = s.number(i)
	}
	if i < 0 {
		return -1
	}
after:
	if depth == 0 {
		return i
	}
	i = s.space(i)
	if i < len(b) && b[i] == ',' {
		i = s.space(i + 1)
		if kinds&1 == 1 {
			goto name
		}
		goto value
	}
	if i >= len(b) || b[i] != ']'|byte(kinds&1)<<5 { // ']' or '}'
		return s.fail(i, "no comma or end after a value")
	}
end:
	i++
	depth--
	if kinds >>= 1; depth&63 == 0 && depth > 0 {
		kinds = s.saved(depth)
	}
	goto after
name:
	if _, i, _ = s.name(i); i < 0 {
		return -1
	}
	goto value
}

// save puts away the kinds of 64 values, the innermost of which is the depth-th.
func (s *scanner) save(depth int, kinds uint64) {
	n := depth/64 - 1
	switch deep := n - len(s.kinds); {
	case deep < 0:
		s.kinds[n] = kinds
	case deep < len(s.overflow):
		s.overflow[deep] = kinds
	default:
		s.overflow = append(s.overflow, kinds)
	}
}

// saved returns what save put away for the same depth.
func (s *scanner) saved(depth int) uint64 {
	n := depth/64 - 1
	if n < len(s.kinds) {
		return s.kinds[n]
	}
	return s.overflow[n-len(s.kinds)]
}

// name reads a member up to where its value starts. The name itself ends at end.
func (s *scanner) name(i int) (end, value int, escaped bool) {
	if s.at(i) != '"' {
		return -1, s.fail(i, "no name where one must be"), false
	}
	if end, escaped = s.text(i); end < 0 {
		return -1, -1, false
	}
	if i = s.space(end); s.at(i) != ':' {
		return -1, s.fail(i, "no colon after a name"), false
	}
	return end, s.space(i + 1), escaped
}
