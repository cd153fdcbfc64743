package cache

import (
	"bytes"
	"errors"
	"maps"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
)

// canonical returns params in the one spelling that all equal params have (RFC 8785, but numbers stay as written: 2^53+1
// is not 2^53), without what changes no result. Names that are there twice have none.
func canonical(params []byte) ([]byte, error) {
	if len(params) == 0 {
		return nil, nil
	}
	all, err := membersOf(params)
	if err != nil {
		return nil, err
	}
	if raw := all["_meta"]; raw.Kind() == '{' {
		meta, err := membersOf(raw)
		if err != nil {
			return nil, err
		}
		maps.DeleteFunc(meta, func(name string, _ jsontext.Value) bool { return inertMeta(name) })
		if all["_meta"], err = joined(meta); err != nil {
			return nil, err
		}
		if len(meta) == 0 {
			delete(all, "_meta")
		}
	}
	return joined(all)
}

// canonicalObject is canonical with nothing left out. It does not change object.
func canonicalObject(object []byte) ([]byte, error) {
	if len(object) == 0 || object[0] != '{' {
		return nil, errNotKeyed
	}
	return canonicalValue(object)
}

// canonicalValue is canonicalObject for any value, or none.
func canonicalValue(value []byte) ([]byte, error) {
	if len(value) == 0 {
		return nil, nil
	}
	v := jsontext.Value(bytes.Clone(value))
	if err := v.Canonicalize(jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false)); err != nil {
		return nil, errNotKeyed
	}
	return v, nil
}

// withoutCursor returns canonical params without their cursor: those of the list's first page.
func withoutCursor(params []byte) ([]byte, error) {
	all, err := membersOf(params)
	if err != nil {
		return nil, err
	}
	delete(all, "cursor")
	return joined(all)
}

// membersOf reads an object's members. Names that are there twice are an error, and so is text that is no Unicode.
func membersOf(object []byte) (members map[string]jsontext.Value, err error) {
	if err := json.Unmarshal(object, &members); err != nil || members == nil { // null is no object
		return nil, errNotKeyed
	}
	return members, nil
}

// joined is the canonical object of these members; nil for none: no params and none that count are the same.
func joined(members map[string]jsontext.Value) ([]byte, error) {
	if len(members) == 0 {
		return nil, nil
	}
	object, err := json.Marshal(members)
	if err != nil {
		return nil, errNotKeyed
	}
	return canonicalValue(object)
}

// inertMeta are the `_meta` members that change no result: trace context (SEP-414), who the client says it is, and what
// is a part of the key by itself.
func inertMeta(name string) bool {
	switch name {
	case "traceparent", "tracestate", "baggage", "io.modelcontextprotocol/clientInfo",
		"io.modelcontextprotocol/clientCapabilities", "io.modelcontextprotocol/protocolVersion":
		return true
	}
	return false
}

var errNotKeyed = errors.New("cache: params without a canonical form")

// maxParams bounds the params of a call that may be cached, in bytes.
const maxParams = 64 << 10
