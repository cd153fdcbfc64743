package mcp

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"fluentd-perf/internal/http1/header"
)

// What a modern request says in its header as well as in its body (2026-07-28, basic/transports/streamable-http, SEP-2243):
// Mcp-Method, Mcp-Name, and Mcp-Param-* for the arguments that a tool marks.

const sentinelStart, sentinelEnd = "=?base64?", "?="

// HeaderValue returns a text as the value of a header field: as it is if it is of visible ASCII and inner spaces, else in
// base64. So is one that looks like that already.
func HeaderValue(text string) string {
	plain := text == strings.Trim(text, " ") && !(strings.HasPrefix(text, sentinelStart) && strings.HasSuffix(text, sentinelEnd)) &&
		!strings.ContainsFunc(text, func(c rune) bool { return c < ' ' || c > '~' })
	if plain {
		return text
	}
	return sentinelStart + base64.StdEncoding.EncodeToString([]byte(text)) + sentinelEnd
}

// HeaderText returns the text of which HeaderValue makes the value. A value that only looks like base64 stays as it is.
func HeaderText(value string) string {
	rest, ok := strings.CutPrefix(value, sentinelStart)
	if !ok {
		return value
	}
	rest, ok = strings.CutSuffix(rest, sentinelEnd)
	if !ok {
		return value
	}
	text, err := base64.StdEncoding.Strict().DecodeString(rest)
	if err != nil {
		return value
	}
	return string(text)
}

// Named returns the span of what Mcp-Name says of a request, which is absent if the request is not as its method has it. ok
// is false for a method that has no Mcp-Name.
func (m *Message) Named() (at Span, ok bool) {
	switch m.Method {
	case MethodToolsCall, MethodPromptsGet:
		return m.Name, true
	case MethodResourcesRead:
		return m.URI, true
	}
	return Span{}, false
}

// HeaderDiffers reports whether the header of a modern request says something else than its body, or says it twice: the
// version, Mcp-Method or Mcp-Name. Only requests carry them.
func (c *Call) HeaderDiffers() bool {
	m := &c.Message
	if m.Kind != KindRequest {
		return false
	}
	if !c.headerIs("Mcp-Protocol-Version", m.ProtocolVersion) || !c.headerIs("Mcp-Method", m.MethodName) {
		return true
	}
	named, ok := m.Named()
	return ok && !c.headerIs("Mcp-Name", named)
}

// headerIs reports whether the field is there once and its value, decoded, is the JSON string at a place of the body.
func (c *Call) headerIs(name string, at Span) bool {
	value, fields := c.Header.Find(name)
	return fields == 1 && TextIs(at.Of(c.Body), HeaderText(value))
}

// ParamHeaders are the arguments of one tool that go into a header as well.
type ParamHeaders []paramHeader

type paramHeader struct {
	path  []string // of names, from the arguments on
	field string   // Mcp-Param-..., canonical
}

// UnmarshalJSON reads a tool's inputSchema. One that marks an argument in a way that is not allowed has no headers at all.
func (p *ParamHeaders) UnmarshalJSON(inputSchema []byte) error {
	var s paramSchema
	if err := json.Unmarshal(inputSchema, &s); err != nil {
		return err
	}
	*p, _ = s.headers(nil, nil)
	return nil
}

// Set sets the headers of a call of the tool with those params. An argument that is not there or null has none.
func (p ParamHeaders) Set(l *header.List, params []byte) {
	for _, a := range p {
		value := MemberOf(params, "arguments")
		for _, name := range a.path {
			value = MemberOf(value, name)
		}
		if text, ok := paramText(value); ok {
			l.Set(a.field, HeaderValue(text))
		}
	}
}

// paramSchema is of an inputSchema what says which arguments have headers: `x-mcp-header` at properties of properties, and
// nowhere else.
type paramSchema struct {
	Type       json.RawMessage        `json:"type"`
	Header     json.RawMessage        `json:"x-mcp-header"`
	Properties map[string]paramSchema `json:"properties"`
}

// headers appends those of the properties. It reports false where one is marked in a way that is not allowed.
func (s *paramSchema) headers(path []string, all ParamHeaders) (_ ParamHeaders, ok bool) {
	for name, p := range s.Properties {
		own := append(slices.Clip(path), name)
		if p.Header != nil {
			field := p.field()
			if field == "" || slices.ContainsFunc(all, func(a paramHeader) bool { return a.field == field }) {
				return nil, false
			}
			all = append(all, paramHeader{own, field})
		}
		if all, ok = p.headers(own, all); !ok {
			return nil, false
		}
	}
	return all, true
}

// field returns the header of an argument that is marked, "" where that is not allowed.
func (s *paramSchema) field() string {
	name, _ := Text(s.Header)
	switch string(s.Type) {
	case `"string"`, `"integer"`, `"boolean"`:
		if name != "" && strings.Trim(name, tokenChars) == "" {
			return http.CanonicalHeaderKey("Mcp-Param-" + name)
		}
	}
	return ""
}

// IsParamHeader reports whether a field repeats an argument of a tool.
func IsParamHeader(name string) bool {
	const prefix = "Mcp-Param-"
	return len(name) >= len(prefix) && header.EqualNames(name[:len(prefix)], prefix)
}

// tokenChars are what may stand in the name of a header field (RFC 9110, 5.6.2).
const tokenChars = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// paramText returns the text of a string, a boolean or an integer. One that is written as a float has the text of the integer,
// as far as every float is one of its own.
func paramText(token []byte) (string, bool) {
	if text, ok := Text(token); ok {
		return text, true
	}
	const limit = 1<<53 - 1
	text := string(token)
	n, err := strconv.ParseFloat(text, 64)
	switch {
	case text == "true", text == "false":
		return text, true
	case err != nil: // it is null, an object, a list or nothing
		return "", false
	case !strings.ContainsAny(text, ".eE"):
		return text, len(text) <= 64
	}
	return strconv.FormatInt(int64(n), 10), n == math.Trunc(n) && math.Abs(n) <= limit
}
