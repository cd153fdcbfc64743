package mcp

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// lexer reads the tokens of JSON. Its methods take the offset at which something must start and return the offset behind
// it, or -1 after a fault in the JSON, which is then in err.
type lexer struct {
	b     []byte
	err   *ScanError
	loose bool // a string was read that is no Unicode: a byte that is not UTF-8, half of a surrogate pair
}

// fail notes a fault in the JSON, which counts for more than any other.
func (s *lexer) fail(i int, what string) int {
	s.err = &ScanError{Offset: i, What: what}
	return -1
}

// refuse notes the first fault of a message that may be JSON.
func (s *lexer) refuse(i int, what string) {
	if s.err == nil {
		s.err = &ScanError{Offset: i, Invalid: true, What: what}
	}
}

// at returns the byte at i, or at the end a 0, which no JSON has outside of strings.
func (s *lexer) at(i int) byte {
	if i < len(s.b) {
		return s.b[i]
	}
	return 0
}

// space returns the offset of the first byte from i on that is no white space. Most often there is none to skip: that
// case is small enough to be inlined.
func (s *lexer) space(i int) int {
	if i >= len(s.b) || s.b[i] > ' ' {
		return i
	}
	return s.spaces(i)
}

func (s *lexer) spaces(i int) int {
	for i < len(s.b) && (s.b[i] == ' ' || s.b[i] == '\n' || s.b[i] == '\r' || s.b[i] == '\t') {
		i++
	}
	return i
}

func (s *lexer) literal(i int, word string) int {
	if end := i + len(word); end <= len(s.b) && string(s.b[i:end]) == word {
		return end
	}
	return s.fail(i, "no value where one must be")
}

// number reads a number, or fails for whatever else is there.
func (s *lexer) number(i int) int {
	start := i
	if s.at(i) == '-' {
		i++
	}
	switch c := s.at(i); {
	case c == '0':
		i++
	case isDigit(c):
		i = s.digits(i)
	case i == start:
		return s.fail(i, "no value where one must be")
	default:
		return s.fail(i, "no digit where one must be")
	}
	if s.at(i) == '.' {
		if i = s.someDigits(i + 1); i < 0 {
			return -1
		}
	}
	if s.at(i)|0x20 == 'e' {
		i++
		if c := s.at(i); c == '+' || c == '-' {
			i++
		}
		return s.someDigits(i)
	}
	return i
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func (s *lexer) digits(i int) int {
	for i < len(s.b) && isDigit(s.b[i]) {
		i++
	}
	return i
}

func (s *lexer) someDigits(i int) int {
	if !isDigit(s.at(i)) {
		return s.fail(i, "no digit where one must be")
	}
	return s.digits(i)
}

// special marks, with its highest bit, each of the eight bytes of x that is a quote, a backslash or a control character.
// A byte above such a one may be marked wrongly, so only the lowest mark counts. Turning a 2 over makes the quote, 0x22,
// the neighbour of the control characters, and the space and the exclamation mark stay above both.
func special(x uint64) uint64 {
	const ones, highest = 0x0101010101010101, 0x8080808080808080
	low := (x ^ 2*ones) - 0x21*ones
	slash := (x ^ '\\'*ones) - ones
	return (low | slash) &^ x & highest
}

// plain returns the offset of the first special byte from i on, or from which on fewer than 32 bytes are left; and all with
// the bytes before it laid over, and perhaps some behind. It is text's loop for what is long, 32 bytes a round: base64 and
// prose take two thirds of the time (BenchmarkScan).
func plain(b []byte, i int, all uint64) (int, uint64) {
	for ; i+32 <= len(b); i += 32 {
		w := b[i : i+32]
		x0, x1 := binary.LittleEndian.Uint64(w), binary.LittleEndian.Uint64(w[8:])
		x2, x3 := binary.LittleEndian.Uint64(w[16:]), binary.LittleEndian.Uint64(w[24:])
		all |= x0 | x1 | x2 | x3
		m0, m1, m2, m3 := special(x0), special(x1), special(x2), special(x3)
		if m0|m1|m2|m3 == 0 {
			continue
		}
		if m0|m1 == 0 {
			i, m0, m1 = i+16, m2, m3
		}
		if m0 == 0 {
			i, m0 = i+8, m1
		}
		return i + bits.TrailingZeros64(m0)/8, all
	}
	return i, all
}

// long is after how many bytes without a special one text takes more of them at a time. Most strings are shorter.
const long = 32

// text reads the string at i, which must be there, eight bytes at a time or more. Whether its bytes are UTF-8 is asked at its
// end, and only if there may be some that are not ASCII: escapes are, so the string is UTF-8 if what is between them is.
// A string that is no Unicode makes the whole loose and is read on: where it ends is as clear as of any other.
func (s *lexer) text(i int) (end int, escaped bool) {
	b, start := s.b, i+1
	var all uint64 // of the bytes, one over the other; and perhaps of some behind the string
	plainFrom := start
	for i = start; ; {
		var c byte
		if i+8 <= len(b) {
			x := binary.LittleEndian.Uint64(b[i:])
			all |= x
			marks := special(x)
			if marks == 0 {
				if i += 8; i-plainFrom == long {
					i, all = plain(b, i, all)
				}
				continue
			}
			n := bits.TrailingZeros64(marks) &^ 7
			c = byte(x >> n)
			i += n / 8
		} else if i < len(b) {
			c = b[i]
			all |= uint64(c)
		} else {
			return s.fail(i, "the end within a string"), escaped
		}
		switch {
		case c == '"':
			if all&0x8080808080808080 != 0 && !s.loose {
				s.loose = !utf8.Valid(b[start:i])
			}
			return i + 1, escaped
		case c == '\\':
			escaped = true
			if i = s.escape(i); i < 0 {
				return -1, escaped
			}
			plainFrom = i
		case c < ' ':
			return s.fail(i, "a control character within a string"), escaped
		default: // one of the last of b
			i++
		}
	}
}

// escape reads the escape at i, a pair of surrogates as one. Half of a pair is read by itself and makes the whole loose
// (RFC 8259, 8.2: the grammar allows it, what it means is not said).
func (s *lexer) escape(i int) int {
	switch s.at(i + 1) {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 2
	case 'u':
	default:
		return s.fail(i, "an unknown escape")
	}
	r := hex4(s.b, i+2)
	switch {
	case r < 0:
		return s.fail(i, "an unknown escape")
	case r < 0xd800 || r > 0xdfff:
		return i + 6
	case r < 0xdc00 && s.at(i+6) == '\\' && s.at(i+7) == 'u':
		if low := hex4(s.b, i+8); low >= 0xdc00 && low <= 0xdfff {
			return i + 12
		}
	}
	s.loose = true
	return i + 6
}

// hex4 returns the value of the four hexadecimal digits at i, or -1.
func hex4(b []byte, i int) rune {
	if i+4 > len(b) {
		return -1
	}
	var r rune
	for _, c := range b[i : i+4] {
		switch {
		case isDigit(c):
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return -1
		}
	}
	return r
}
