package mcp

import "bytes"

// block is what is known of the bytes up to the next blank line, or of a comment line that stands alone. Offsets are
// from the first byte held, which is the block's first.
type block struct {
	size   int  // of the whole block, once that is complete
	line   int  // where the line starts that is being read
	pos    int  // there is no line end in [line, pos)
	lf     int  // there is no LF in [pos, lf)
	fields bool // there was a line that is no comment
	lines  int  // of data

	name, data, id, retry Span // values; data is the first line's
}

func isLineEnd(c byte) bool { return c == '\n' || c == '\r' }

// lineEnd returns the offset of the LF or CR that ends the line, or -1. It searches no byte twice for either, however
// many lines the other ends.
func (b *block) lineEnd(held []byte) int {
	b.lf = max(b.lf, b.pos)
	if b.lf < len(held) && held[b.lf] != '\n' {
		if i := bytes.IndexByte(held[b.lf:], '\n'); i >= 0 {
			b.lf += i
		} else {
			b.lf = len(held)
		}
	}
	if i := bytes.IndexByte(held[b.pos:b.lf], '\r'); i >= 0 {
		return b.pos + i
	}
	if b.pos = b.lf; b.pos == len(held) {
		return -1
	}
	return b.pos
}

// field takes in the line that ends before end. The last field of a name counts, but for data.
func (b *block) field(held []byte, end int) {
	line := held[b.line:end]
	name, value := cutField(line)
	at := Span{uint32(end - len(value)), uint32(end)}
	b.fields = true
	switch string(name) {
	case "data":
		if b.lines++; b.lines == 1 {
			b.data = at
		}
	case "event":
		b.name = at
	case "id":
		if bytes.IndexByte(value, 0) < 0 {
			b.id = at
		}
	case "retry":
		if isDigits(value) {
			b.retry = at
		}
	}
}

// cutField splits a line into a field's name and its value, which starts behind the first colon and one space after that,
// and ends where the line does. The name of a comment is empty.
func cutField(line []byte) (name, value []byte) {
	i := bytes.IndexByte(line, ':')
	if i < 0 {
		return line, line[len(line):]
	}
	name, value = line[:i], line[i+1:]
	if len(value) > 0 && value[0] == ' ' {
		value = value[1:]
	}
	return name, value
}

func isDigits(value []byte) bool {
	for _, c := range value {
		if !isDigit(c) {
			return false
		}
	}
	return len(value) > 0
}

// join appends to dst the data of all lines of a block, with an LF between any two.
func join(dst, raw []byte) []byte {
	for first := true; len(raw) > 0; {
		end := bytes.IndexAny(raw, "\r\n")
		if name, value := cutField(raw[:end]); string(name) == "data" {
			if !first {
				dst = append(dst, '\n')
			}
			dst = append(dst, value...)
			first = false
		}
		raw = raw[end+1:]
	}
	return dst
}
