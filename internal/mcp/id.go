package mcp

import "bytes"

// SameID reports whether two ids, given as the raw tokens that Message.ID covers, are the same id: byte for byte, or two
// strings of the same text, or two numbers of the same value (1, 1.0 and 10e-1; 2^53 and 2^53+1 are different). A server
// may write an id its own way, but not as another type: "1" and 1 are two ids (JSON-RPC 2.0, section 5). Numbers of which
// the exponent has more than 17 digits are the same only byte for byte. Nothing is the same as no id at all. It does not
// allocate.
func SameID(a, b []byte) bool {
	switch {
	case len(a) == 0 || len(b) == 0:
		return false
	case bytes.Equal(a, b):
		return true
	case a[0] == '"' && b[0] == '"':
		return sameText(a, b)
	}
	x, ok := decimalOf(a)
	y, too := decimalOf(b)
	return ok && too && x.equal(y)
}

// sameText compares two string tokens that differ. Without escapes their texts differ as well.
func sameText(a, b []byte) bool {
	if bytes.IndexByte(a, '\\') < 0 && bytes.IndexByte(b, '\\') < 0 {
		return false
	}
	_, ok := isText(a)
	_, too := isText(b)
	if !ok || !too {
		return false
	}
	u, v := unescaper{src: a[1 : len(a)-1]}, unescaper{src: b[1 : len(b)-1]}
	for {
		c, more := u.next()
		d, too := v.next()
		if c != d || more != too {
			return false
		}
		if !more {
			return true
		}
	}
}

// decimal is the number 0.DIGITS times ten to the power of exp. The digits neither start nor end with a zero; there may
// be a point among them, which means nothing. Zero has no digits, no sign and no exponent.
type decimal struct {
	negative bool
	digits   []byte
	exp      int64
}

// decimalOf returns the value of a number token, false for whatever is none and for exponents of more than 17 digits.
func decimalOf(token []byte) (decimal, bool) {
	if token[0] != '-' && !isDigit(token[0]) {
		return decimal{}, false
	}
	if x := (lexer{b: token}); x.number(0) != len(token) {
		return decimal{}, false
	}
	var exp int64
	if i := bytes.IndexAny(token, "eE"); i >= 0 {
		var ok bool
		if exp, ok = exponentOf(token[i+1:]); !ok {
			return decimal{}, false
		}
		token = token[:i]
	}
	digits := bytes.TrimPrefix(token, []byte("-"))
	first := bytes.IndexAny(digits, "123456789")
	if first < 0 {
		return decimal{}, true
	}
	point := bytes.IndexByte(digits, '.')
	switch {
	case point < 0:
		exp += int64(len(digits) - first)
	case point > first:
		exp += int64(point - first)
	default:
		exp -= int64(first - point - 1)
	}
	return decimal{token[0] == '-', bytes.TrimRight(digits[first:], "0."), exp}, true
}

func exponentOf(digits []byte) (int64, bool) {
	negative := digits[0] == '-'
	digits = bytes.TrimLeft(digits, "+-0")
	if len(digits) > 17 {
		return 0, false
	}
	var n int64
	for _, c := range digits {
		n = n*10 + int64(c-'0')
	}
	if negative {
		n = -n
	}
	return n, true
}

func (d decimal) equal(e decimal) bool {
	if d.negative != e.negative || d.exp != e.exp {
		return false
	}
	i, j := 0, 0
	for {
		if i < len(d.digits) && d.digits[i] == '.' {
			i++
		}
		if j < len(e.digits) && e.digits[j] == '.' {
			j++
		}
		if i == len(d.digits) || j == len(e.digits) {
			return i == len(d.digits) && j == len(e.digits)
		}
		if d.digits[i] != e.digits[j] {
			return false
		}
		i++
		j++
	}
}
