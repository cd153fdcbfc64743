package rpc

import (
	"net/http"
	"strings"

	"fluentd-perf/internal/mcp"
)

// perCall reports whether a header field of the caller's is about one call, and so about none of an array's.
func perCall(canonical string) bool {
	switch canonical {
	case "Mcp-Protocol-Version", "Mcp-Session-Id", "Mcp-Method", "Mcp-Name", "Last-Event-Id":
		return true
	}
	return strings.HasPrefix(canonical, "Mcp-Param-")
}

// perBody reports whether a header field is about the bytes of the array, or would make one call of its elements.
func perBody(canonical string) bool {
	switch canonical {
	case "Content-Type", "Content-Length", "Content-Encoding", "Content-Digest", "Content-Md5", "Digest", "Repr-Digest",
		"Idempotency-Key", "X-Idempotency-Key":
		return true
	}
	return false
}

// jsonType is the Content-Type of what goes out, and of answers.
var jsonType = []string{"application/json"}

// bothTypes is what a client of MCP has to take (2025-11-25 and 2026-07-28, basic/transports).
var bothTypes = []string{"application/json, text/event-stream"}

func (r *arrayRun) readHeader(h http.Header) {
	plain := r.a.opts.Plain
	r.header = make(http.Header, len(h)+4)
	for name, values := range h {
		if !perBody(name) && (plain || !perCall(name)) {
			r.header[name] = values
		}
	}
	r.header["Content-Type"] = jsonType
	if plain {
		if len(h["Accept"]) == 0 {
			r.header["Accept"] = jsonType
		}
		return
	}
	r.header["Accept"] = bothTypes
	if v := h["Mcp-Protocol-Version"]; len(v) > 0 {
		r.version = v[0]
	}
	if s := h["Mcp-Session-Id"]; len(s) > 0 && s[0] != "" {
		r.session = s
	}
}

// whose returns the partition of the caller.
func (r *arrayRun) whose() [32]byte {
	r.once.Do(func() { r.partition = r.a.opts.Partition(&mcp.Call{Header: r.header, Query: r.call.Query}) })
	return r.partition
}

// legacyHeader returns the header of what goes out on a session: one for all elements. A nil session is the caller's.
func (r *arrayRun) legacyHeader(s *ownSession) http.Header {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.legacy != nil && r.legacyS == s {
		return r.legacy
	}
	h := cloneHeader(r.header)
	version, session := r.version, r.session
	if s != nil {
		version, session = s.version, s.idField()
	}
	if version != "" {
		h["Mcp-Protocol-Version"] = []string{version}
	}
	if session != nil {
		h["Mcp-Session-Id"] = session
	}
	r.legacy, r.legacyS = h, s
	return h
}

// cloneHeader copies the map, with room for what a call adds. Values are shared, and nobody changes them.
func cloneHeader(h http.Header) http.Header {
	out := make(http.Header, len(h)+4)
	for name, values := range h {
		out[name] = values
	}
	return out
}
