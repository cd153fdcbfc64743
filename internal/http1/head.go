package http1

import (
	"bytes"
	"strings"

	"fluentd-perf/internal/http1/header"
)

const (
	maxHead   = 64 << 10 // of a head, in bytes, its blank line included
	maxFields = 200      // of a head
)

// headEnd looks for the end of a head that comes in pieces.
type headEnd struct {
	line int // where the line begins that has no end yet
}

// find returns how long the head at the start of b is, 0 where it is not whole. A line that ends with LF alone is refused
// here: whoever waited for a CR would wait for ever.
func (e *headEnd) find(b []byte) (int, error) {
	for {
		i := bytes.IndexByte(b[e.line:], '\n')
		switch {
		case i < 0 && len(b) >= maxHead:
			return 0, errLongHead
		case i < 0:
			return 0, nil
		case i == 0 || b[e.line+i-1] != '\r':
			return 0, malformed("a line that ends with LF alone")
		case e.line+i >= maxHead:
			return 0, errLongHead
		}
		e.line += i + 1
		if i == 1 {
			return e.line, nil
		}
	}
}

const protocol = "HTTP/1."

// checkStart refuses at once what does not begin as an answer, of which nobody knows where it ends.
func checkStart(b []byte) error {
	n := min(len(b), len(protocol))
	switch {
	case string(b[:n]) == protocol[:n]:
		return nil
	case len(b) >= 5 && b[0] == 0 && b[3] == 4 && b[4] == 0: // the SETTINGS frame that begins HTTP/2 (RFC 9113, section 3.4)
		return ErrHTTP2
	case len(b) < 5 && b[0] == 0:
		return nil // perhaps that
	}
	return malformed("it does not begin with HTTP/1")
}

// parse reads a whole head, its blank line included, into the answer, whose Header keeps parts of text.
func (a *Answer) parse(text string) error {
	line, rest, _ := strings.Cut(text, "\r\n")
	var f framing
	if err := a.parseStatus(line, &f); err != nil {
		return err
	}
	for {
		line, rest, _ = strings.Cut(rest, "\r\n")
		if line == "" {
			return a.frame(&f)
		}
		name, value, err := parseField(line)
		if err != nil {
			return err
		}
		if len(a.Header) == maxFields {
			return malformed("a head of more than 200 fields")
		}
		a.Header = append(a.Header, header.Field{Name: name, Value: value})
		f.note(name, value)
	}
}

// parseStatus reads the status line. Its reason phrase may be missing, with or without the blank before it: servers omit both.
func (a *Answer) parseStatus(line string, f *framing) error {
	const digits = len("HTTP/1.1 ")
	if len(line) < digits+3 || line[digits-1] != ' ' || line[digits-2] != '0' && line[digits-2] != '1' ||
		len(line) > digits+3 && line[digits+3] != ' ' || !header.ValidValue(line) {
		return malformed("the status line")
	}
	f.old = line[digits-2] == '0'
	status, ok := decimal(line[digits : digits+3])
	if !ok || status < 100 {
		return malformed("the status")
	}
	a.Status = int(status)
	return nil
}

// parseField reads one line of a head or of trailers. A line that begins with a blank would be more of the one before
// (RFC 9112, section 5.2), which is refused with all other names that are no tokens.
func parseField(line string) (name, value string, err error) {
	name, value, ok := strings.Cut(line, ":")
	value = header.Trim(value)
	if !ok || !header.Valid(name, value) {
		return "", "", malformed("a header field")
	}
	return name, value, nil
}

// decimal reads a number of digits only, of at most 18 of them.
func decimal(s string) (n int64, ok bool) {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, false
		}
		n = n*10 + int64(s[i]-'0')
	}
	return n, 0 < len(s) && len(s) <= 18
}
