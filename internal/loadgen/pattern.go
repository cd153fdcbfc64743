package loadgen

import (
	"bytes"
	"strings"
)

// Marks in texts of a Kind, for what is another in every call. All are as long as what stands in their place.
const (
	KeyMark = "##########" // the call's key
	TTLMark = "%%"         // only in a Pattern: digits, as many as there are
	idMark  = "@@@@@@@@@@" // the call's id
	width   = len(KeyMark) // of keys and ids: 10 digits
)

// firstNumber is the least of the ids and keys that have that width.
const firstNumber = int64(1e9)

// putNumber writes a number, of which those 9 * 10^9 apart look alike, with the width of ids and keys.
func putNumber(dst []byte, n int64) {
	n = firstNumber + n%(9*firstNumber)
	for i := width - 1; i >= 0; i-- {
		dst[i], n = byte('0'+n%10), n/10
	}
}

// pattern is a text with marks, taken apart: between two pieces there is a mark.
type pattern struct {
	pieces [][]byte
	marks  []byte // '#', '%' or '@', one less than pieces
}

func newPattern(text string) *pattern {
	p := new(pattern)
	for {
		at := strings.IndexAny(text, KeyMark[:1]+TTLMark[:1]+idMark[:1])
		if at < 0 {
			break
		}
		mark := text[at]
		p.pieces, p.marks = append(p.pieces, []byte(text[:at])), append(p.marks, mark)
		text = strings.TrimLeft(text[at:], string(mark))
	}
	p.pieces = append(p.pieces, []byte(text))
	return p
}

// matches reports whether b is the text, with id and key in the places of their marks.
func (p *pattern) matches(b, id, key []byte) bool {
	for i, piece := range p.pieces {
		if !bytes.HasPrefix(b, piece) {
			return false
		}
		b = b[len(piece):]
		if i == len(p.marks) {
			return len(b) == 0
		}
		switch p.marks[i] {
		case '@':
			if !bytes.HasPrefix(b, id) {
				return false
			}
			b = b[len(id):]
		case '#':
			if !bytes.HasPrefix(b, key) {
				return false
			}
			b = b[len(key):]
		default:
			b = bytes.TrimLeft(b, "0123456789")
		}
	}
	return false
}
