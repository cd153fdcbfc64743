package cache

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// refParams reads params by another JSON library, into a form that compares: numbers as written, without what changes no
// result, nothing for no params at all. It returns false for what has no such form: no object, names that are there twice,
// text that is no UTF-8.
func refParams(params []byte) (map[string]any, bool) {
	if len(params) == 0 {
		return nil, true
	}
	d := json.NewDecoder(bytes.NewReader(params))
	d.UseNumber()
	v, ok := refValue(d)
	object, isObject := v.(map[string]any)
	if _, err := d.Token(); !ok || err != io.EOF || !isObject || !utf8.Valid(params) || refSurrogate(params) {
		return nil, false
	}
	if meta, ok := object["_meta"].(map[string]any); ok {
		for _, name := range strings.Fields("traceparent tracestate baggage io.modelcontextprotocol/clientInfo " +
			"io.modelcontextprotocol/clientCapabilities io.modelcontextprotocol/protocolVersion") {
			delete(meta, name)
		}
		if len(meta) == 0 {
			delete(object, "_meta")
		}
	}
	if len(object) == 0 {
		return nil, true
	}
	return object, true
}

// refValue reads one value token by token, since Decode would take the last of two equal names.
func refValue(d *json.Decoder) (any, bool) {
	t, err := d.Token()
	if err != nil {
		return nil, false
	}
	switch t {
	case json.Delim('['):
		all := []any{}
		for d.More() {
			v, ok := refValue(d)
			if !ok {
				return nil, false
			}
			all = append(all, v)
		}
		_, err := d.Token()
		return all, err == nil
	case json.Delim('{'):
		all := map[string]any{}
		for d.More() {
			name, err := d.Token()
			key, isText := name.(string)
			if err != nil || !isText {
				return nil, false
			}
			v, ok := refValue(d)
			if _, twice := all[key]; !ok || twice {
				return nil, false
			}
			all[key] = v
		}
		_, err := d.Token()
		return all, err == nil
	}
	return t, true
}

// refSurrogate reports whether half of a surrogate pair is escaped alone somewhere.
func refSurrogate(params []byte) bool {
	for i := 0; i < len(params); i++ {
		if params[i] != '\\' || i+1 == len(params) {
			continue
		}
		i++
		if params[i] != 'u' || i+5 > len(params) {
			continue
		}
		r := refHex(params[i+1:])
		i += 4
		if r < 0xd800 || r > 0xdfff {
			continue
		}
		if r >= 0xdc00 || i+7 > len(params) || string(params[i+1:i+3]) != `\u` {
			return true
		}
		if low := refHex(params[i+3:]); low < 0xdc00 || low > 0xdfff {
			return true
		}
		i += 6
	}
	return false
}

func refHex(b []byte) uint64 {
	n, err := strconv.ParseUint(string(b[:4]), 16, 16)
	if err != nil {
		return 0
	}
	return n
}
