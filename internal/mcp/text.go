package mcp

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// Text returns the text of a JSON string, given as the token that a Span covers, quotes included. It returns false if
// the token is not one valid JSON string, or is one that is no Unicode.
func Text(token []byte) (string, bool) {
	escaped, ok := isText(token)
	if !ok {
		return "", false
	}
	raw := token[1 : len(token)-1]
	if !escaped {
		return string(raw), true
	}
	text := make([]byte, 0, len(raw))
	for u := (unescaper{src: raw}); ; {
		c, ok := u.next()
		if !ok {
			return string(text), true
		}
		text = append(text, c)
	}
}

// TextIs reports whether the token is a valid JSON string with the text s. It does not allocate.
func TextIs(token []byte, s string) bool {
	escaped, ok := isText(token)
	if !ok {
		return false
	}
	raw := token[1 : len(token)-1]
	if !escaped {
		return string(raw) == s
	}
	u := unescaper{src: raw}
	for i := 0; ; i++ {
		c, more := u.next()
		switch {
		case !more:
			return i == len(s)
		case i == len(s) || c != s[i]:
			return false
		}
	}
}

// isText reports whether the token is one valid JSON string, and whether it has escapes.
func isText(token []byte) (escaped, ok bool) {
	if len(token) < 2 || token[0] != '"' {
		return false, false
	}
	s := lexer{b: token}
	end, escaped := s.text(0)
	return escaped, end == len(token) && !s.loose
}

// unescaper hands out the text of a JSON string, given without its quotes, byte by byte. Half of a surrogate pair becomes
// U+FFFD, as with most parsers; other bytes that are no Unicode stay as they are.
type unescaper struct {
	src  []byte
	i    int
	rest [utf8.UTFMax]byte // what is left of a rune that came from an escape: rest[k:n]
	k, n int
}

// next returns the next byte, false at the end.
func (u *unescaper) next() (byte, bool) {
	switch {
	case u.k < u.n:
		u.k++
		return u.rest[u.k-1], true
	case u.i == len(u.src):
		return 0, false
	}
	c := u.src[u.i]
	u.i++
	if c != '\\' {
		return c, true
	}
	c = u.src[u.i]
	u.i++
	switch c {
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	case 'u':
		u.n, u.k = utf8.EncodeRune(u.rest[:], u.rune()), 1
		return u.rest[0], true
	}
	return c, true // a quote, a backslash or a slash
}

// rune returns the rune of an escape whose \u has been read.
func (u *unescaper) rune() rune {
	r := hex4(u.src, u.i)
	u.i += 4
	if !utf16.IsSurrogate(r) {
		return r
	}
	if bytes.HasPrefix(u.src[u.i:], []byte(`\u`)) {
		if pair := utf16.DecodeRune(r, hex4(u.src, u.i+2)); pair != utf8.RuneError {
			u.i += 6
			return pair
		}
	}
	return utf8.RuneError
}
