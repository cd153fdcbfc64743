package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
)

// parseJSON reads one JSON value, with the comments and trailing commas that agents' files have.
func parseJSON(text []byte) (*node, error) {
	text = plainJSON(text)
	// The token reader is lenient here and there, so the whole is validated first.
	var whole json.RawMessage
	if err := json.Unmarshal(text, &whole); err != nil {
		return nil, jsonError(text, err)
	}
	b := jsonBuilder{text: text, line: 1, decoder: json.NewDecoder(bytes.NewReader(text))}
	b.decoder.UseNumber()
	root := b.value(0)
	return root, b.err
}

func jsonError(text []byte, err error) error {
	var at *json.SyntaxError
	if !errors.As(err, &at) {
		return &syntaxError{0, "is not valid JSON"}
	}
	end := min(int(at.Offset), len(text))
	why := at.Error()
	if end > 0 && bytes.HasPrefix(text[end-1:], []byte("/*")) {
		why = "a comment without an end"
	}
	return &syntaxError{1 + bytes.Count(text[:end], []byte("\n")), "is not valid JSON: " + why}
}

// What agents write and JSON does not have. Strings are matched so that nothing within them is.
var (
	jsonComment = regexp.MustCompile(`(?s)"(?:[^"\\]|\\.)*"?|//[^\n]*|/\*.*?\*/`)
	jsonComma   = regexp.MustCompile(`(?s)"(?:[^"\\]|\\.)*"?|(?:[\[{,]\s*)?,\s*[\]}]`)
	notNewline  = regexp.MustCompile(`[^\n]`)
)

// plainJSON returns text with comments and commas before a closing bracket replaced by spaces, so that lines stay. A comma
// with no value before it, and a comment without an end, are left for the parser to refuse.
func plainJSON(text []byte) []byte {
	text = jsonComment.ReplaceAllFunc(text, func(found []byte) []byte {
		if found[0] == '"' {
			return found
		}
		return notNewline.ReplaceAll(found, []byte(" "))
	})
	return jsonComma.ReplaceAllFunc(text, func(found []byte) []byte {
		if found[0] == ',' && bytes.Count(found, []byte(",")) == 1 {
			return append([]byte(" "), found[1:]...)
		}
		return found
	})
}

// jsonBuilder turns valid JSON into nodes. Lines are counted as the decoder goes.
type jsonBuilder struct {
	text    []byte
	decoder *json.Decoder
	counted int // offset up to which lines are counted
	line    int // at counted
	values  int
	err     error // why it has given up
}

func (b *jsonBuilder) next() json.Token {
	tk, err := b.decoder.Token()
	if b.values++; b.values > maxValues {
		b.fail(0, fmt.Sprintf("is too long: more than %d values", maxValues))
	} else if err != nil {
		b.fail(b.line, "is not valid JSON")
	}
	end := int(b.decoder.InputOffset())
	b.line += bytes.Count(b.text[b.counted:end], []byte("\n"))
	b.counted = end
	return tk
}

// fail gives up, for the first reason that there is.
func (b *jsonBuilder) fail(line int, why string) {
	if b.err == nil {
		b.err = &syntaxError{line, why}
	}
}

func (b *jsonBuilder) value(depth int) *node {
	if depth > maxDepth {
		b.fail(b.line, "is nested too deep")
	}
	switch tk := b.next(); v := tk.(type) {
	case json.Delim:
		return b.nested(v, depth)
	case bool:
		return &node{kind: kindBoolean, line: b.line, text: strconv.FormatBool(v)}
	case json.Number:
		return &node{kind: kindNumber, line: b.line, text: v.String()}
	case string:
		return &node{kind: kindText, line: b.line, text: v}
	}
	return &node{kind: kindNull, line: b.line}
}

// nested reads what is in brackets.
func (b *jsonBuilder) nested(open json.Delim, depth int) *node {
	n := &node{kind: kindList, line: b.line}
	if open == '{' {
		n.kind = kindMapping
	}
	for b.err == nil && b.decoder.More() {
		if n.kind == kindList {
			n.items = append(n.items, b.value(depth+1))
			continue
		}
		name, _ := b.next().(string) // valid JSON has no other
		line := b.line
		n.fields = append(n.fields, field{name: name, line: line, value: b.value(depth + 1)})
	}
	b.next() // the closing bracket
	return n
}
