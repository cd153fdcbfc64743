package cache

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"

	"fluentd-perf/internal/cache/tier"

	"github.com/go-json-experiment/json/jsontext"
)

// keyFormat changes whenever what goes into a key does: entries of other formats are never found.
const keyFormat = "fluentd-perf/1"

// plainFormat is keyFormat for calls that are not MCP's.
const plainFormat = keyFormat + " jsonrpc"

// maxParams bounds the params of a call that may be cached, in bytes.
const maxParams = 64 << 10

// scope is what a key holds beside method and params: who asks whom, in which version, with which capabilities.
type scope struct {
	plain        bool   // of JSON-RPC without MCP
	upstream     string // the identity of the server
	version      string
	partition    Partition
	capabilities []byte // of the client, canonical; nil where there is no part
	session      string // legacy session id and peer.nonce; "" where there is none or where it may be shared
	params       []byte // the headers that repeat parameters (isParam); nil where there are none

	// Of a key that sessions share.
	view   bool
	agent  string   // clientInfo.name of the session's initialize
	server [32]byte // a hash over what the server said to it
	early  uint32   // how often the session was told at its beginning that the list has changed
}

// keyOf returns the key of a call with the given params. The params are hashed as they are: effectiveParams and canonical
// make them comparable.
func keyOf(buf []byte, s *scope, method string, params []byte) (tier.Key, []byte) {
	format := keyFormat
	if s.plain {
		format = plainFormat
	}
	buf = appendPart(buf[:0], format)
	buf = appendPart(buf, s.upstream)
	buf = appendPart(buf, s.version)
	buf = appendPart(buf, s.partition[:])
	buf = appendPart(buf, method)
	buf = appendPart(buf, params)
	if s.capabilities == nil {
		buf = append(buf, 0)
	} else {
		buf = appendPart(append(buf, 1), s.capabilities)
	}
	buf = appendPart(buf, s.session)
	if s.view {
		buf = appendPart(appendPart(appendPart(buf, "view"), s.agent), s.server[:])
		buf = binary.AppendUvarint(buf, uint64(s.early))
	}
	if s.params != nil {
		buf = appendPart(appendPart(buf, "params"), s.params)
	}
	return sha256.Sum256(buf), buf
}

// inertMeta are the `_meta` members that change no result: trace context (SEP-414), who the client says it is, and what
// the key has as a part of its own.
func inertMeta(name string) bool {
	switch name {
	case "traceparent", "tracestate", "baggage", "io.modelcontextprotocol/clientInfo",
		"io.modelcontextprotocol/clientCapabilities", "io.modelcontextprotocol/protocolVersion":
		return true
	}
	return false
}

var errNotKeyed = errors.New("cache: params without a canonical form")

// canonical returns params in the one spelling that all equal params have (RFC 8785, but numbers stay as written: 2^53+1
// is not 2^53), without what changes no result. Names that are there twice have none.
func canonical(params []byte) ([]byte, error) {
	if len(params) == 0 {
		return nil, nil
	}
	if len(params) > maxParams {
		return nil, errNotKeyed
	}
	kept, err := withoutInert(params)
	if err != nil {
		return nil, errNotKeyed
	}
	v, err := canonicalObject(kept)
	if err != nil || string(v) == "{}" {
		return nil, err // no params and none that count are the same
	}
	return v, nil
}

// canonicalPlain is canonical where MCP says nothing of params: all that is in them counts, and none, {} and [] are three
// different ones.
func canonicalPlain(params []byte) ([]byte, error) {
	if len(params) == 0 {
		return nil, nil
	}
	if len(params) > maxParams {
		return nil, errNotKeyed
	}
	return canonicalValue(params)
}

// canonicalObject is canonical with nothing left out. It does not change object.
func canonicalObject(object []byte) ([]byte, error) {
	if len(object) == 0 || object[0] != '{' {
		return nil, errNotKeyed
	}
	return canonicalValue(object)
}

// canonicalValue is canonicalObject for any value.
func canonicalValue(value []byte) ([]byte, error) {
	v := jsontext.Value(bytes.Clone(value))
	if err := v.Canonicalize(jsontext.CanonicalizeRawInts(false), jsontext.CanonicalizeRawFloats(false)); err != nil {
		return nil, errNotKeyed
	}
	return v, nil
}

// withoutInert returns an object without the inert members of its `_meta`, and without `_meta` if that leaves nothing.
func withoutInert(params []byte) ([]byte, error) {
	return filterObject(params, func(name string, value jsontext.Value) (jsontext.Value, error) {
		if name != "_meta" || value.Kind() != '{' {
			return value, nil
		}
		meta, err := filterObject(value, func(name string, value jsontext.Value) (jsontext.Value, error) {
			if inertMeta(name) {
				return nil, nil
			}
			return value, nil
		})
		if err != nil || string(meta) == "{}" {
			return nil, err
		}
		return meta, nil
	})
}

// withoutCursor returns canonical params without their cursor: those of the list's first page.
func withoutCursor(params []byte) ([]byte, error) {
	kept, err := filterObject(params, func(name string, value jsontext.Value) (jsontext.Value, error) {
		if name == "cursor" {
			return nil, nil
		}
		return value, nil
	})
	if err != nil || string(kept) == "{}" {
		return nil, err
	}
	return canonical(kept)
}

// filterObject copies an object, each value as keep returns it; nil leaves the member out.
func filterObject(object []byte, keep func(name string, value jsontext.Value) (jsontext.Value, error)) ([]byte, error) {
	d := jsontext.NewDecoder(bytes.NewReader(object))
	if t, err := d.ReadToken(); err != nil || t.Kind() != '{' {
		return nil, errNotKeyed
	}
	out := append(make([]byte, 0, len(object)), '{')
	for d.PeekKind() != '}' {
		token, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		name := token.String()
		value, err := d.ReadValue()
		if err != nil {
			return nil, err
		}
		if value, err = keep(name, value); err != nil {
			return nil, err
		}
		if value == nil {
			continue
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		if out, err = jsontext.AppendQuote(out, name); err != nil {
			return nil, err
		}
		out = append(append(out, ':'), value...)
	}
	return append(out, '}'), nil
}
