package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// parseJSON reads one JSON value, with the comments and trailing commas that agents' files have.
func parseJSON(text []byte) (*node, error) {
	text, err := plainJSON(text)
	if err != nil {
		return nil, err
	}
	// The token reader is lenient here and there, so the whole is validated first.
	var whole json.RawMessage
	if err := json.Unmarshal(text, &whole); err != nil {
		return nil, jsonError(text, err)
	}
	b := jsonBuilder{text: text, line: 1, decoder: json.NewDecoder(bytes.NewReader(text))}
	b.decoder.UseNumber()
	return b.value(0)
}

func jsonError(text []byte, err error) error {
	var at *json.SyntaxError
	if !errors.As(err, &at) {
		return &syntaxError{0, "is not valid JSON"}
	}
	end := min(int(at.Offset), len(text))
	return &syntaxError{1 + bytes.Count(text[:end], []byte("\n")), "is not valid JSON: " + at.Error()}
}

// plainJSON returns text with comments and commas before a closing bracket replaced by spaces, so that offsets and
// lines stay.
func plainJSON(text []byte) ([]byte, error) {
	p := jsonPlainer{text: bytes.Clone(text)}
	for p.at < len(p.text) {
		if err := p.step(); err != nil {
			return nil, err
		}
	}
	return p.text, nil
}

type jsonPlainer struct {
	text  []byte
	at    int
	comma int  // where a comma is that a closing bracket would make a trailing one; 0 where there is none
	last  byte // the last sign that is not space or comment
}

func (p *jsonPlainer) step() error {
	switch c := p.text[p.at]; c {
	case ' ', '\t', '\r', '\n':
		p.at++
		return nil
	case '"':
		p.at = endOfString(p.text, p.at)
		p.last, p.comma = c, 0
		return nil
	case '/':
		return p.comment()
	case ',':
		// A comma with no value before it is left for the parser to refuse.
		if p.comma = 0; p.last != '[' && p.last != '{' && p.last != ',' {
			p.comma = p.at
		}
	case ']', '}':
		if p.comma > 0 {
			p.text[p.comma] = ' '
		}
	}
	p.last = p.text[p.at]
	if p.last != ',' {
		p.comma = 0
	}
	p.at++
	return nil
}

func (p *jsonPlainer) comment() error {
	rest := p.text[p.at:]
	length := 1 // a lone slash is left for the parser to refuse
	switch {
	case bytes.HasPrefix(rest, []byte("//")):
		if length = bytes.IndexByte(rest, '\n'); length < 0 {
			length = len(rest)
		}
		blank(rest[:length])
	case bytes.HasPrefix(rest, []byte("/*")):
		end := bytes.Index(rest[2:], []byte("*/"))
		if end < 0 {
			line := 1 + bytes.Count(p.text[:p.at], []byte("\n"))
			return &syntaxError{line, "is not valid JSON: a comment without an end"}
		}
		length = 2 + end + 2
		blank(rest[:length])
	}
	p.at += length
	return nil
}

func blank(b []byte) {
	for i := range b {
		if b[i] != '\n' {
			b[i] = ' '
		}
	}
}

// endOfString returns the offset behind the string that starts at start.
func endOfString(text []byte, start int) int {
	for i := start + 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}

// jsonBuilder turns valid JSON into nodes. Lines are counted as the decoder goes.
type jsonBuilder struct {
	text    []byte
	decoder *json.Decoder
	counted int // offset up to which lines are counted
	line    int // at counted
	values  int
}

func (b *jsonBuilder) next() (json.Token, int, error) {
	tk, err := b.decoder.Token()
	if err != nil {
		return nil, b.line, &syntaxError{b.line, "is not valid JSON"}
	}
	if b.values++; b.values > maxValues {
		return nil, b.line, &syntaxError{0, fmt.Sprintf("is too long: more than %d values", maxValues)}
	}
	end := int(b.decoder.InputOffset())
	b.line += bytes.Count(b.text[b.counted:end], []byte("\n"))
	b.counted = end
	return tk, b.line, nil
}

func (b *jsonBuilder) value(depth int) (*node, error) {
	tk, line, err := b.next()
	if err != nil {
		return nil, err
	}
	if depth > maxDepth {
		return nil, &syntaxError{line, "is nested too deep"}
	}
	switch tk := tk.(type) {
	case json.Delim:
		if tk == '[' {
			return b.list(line, depth)
		}
		return b.mapping(line, depth)
	case bool:
		return &node{kind: kindBoolean, line: line, text: fmt.Sprint(tk)}, nil
	case json.Number:
		return &node{kind: kindNumber, line: line, text: tk.String()}, nil
	case string:
		return &node{kind: kindText, line: line, text: tk}, nil
	}
	return &node{kind: kindNull, line: line}, nil
}

func (b *jsonBuilder) list(line, depth int) (*node, error) {
	list := &node{kind: kindList, line: line}
	for b.decoder.More() {
		item, err := b.value(depth + 1)
		if err != nil {
			return nil, err
		}
		list.items = append(list.items, item)
	}
	_, _, err := b.next() // the closing bracket
	return list, err
}

func (b *jsonBuilder) mapping(line, depth int) (*node, error) {
	mapping := &node{kind: kindMapping, line: line}
	for b.decoder.More() {
		tk, at, err := b.next()
		if err != nil {
			return nil, err
		}
		name, _ := tk.(string) // valid JSON has no other
		value, err := b.value(depth + 1)
		if err != nil {
			return nil, err
		}
		mapping.fields = append(mapping.fields, field{name: name, line: at, value: value})
	}
	_, _, err := b.next()
	return mapping, err
}
