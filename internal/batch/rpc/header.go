package rpc

import (
	"maps"
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

// bothTypes is what a client of MCP has to accept (2025-11-25 and 2026-07-28, basic/transports).
var bothTypes = []string{"application/json, text/event-stream"}

func (r *run) readHeader(h http.Header) {
	plain := r.a.opts.Plain
	r.header = make(http.Header, len(h)+4)
	for name, values := range h {
		if !perBody(name) && (plain || !perCall(name)) {
			r.header[name] = values
		}
	}
	r.header["Content-Type"] = jsonType
	switch {
	case !plain:
		r.header["Accept"] = bothTypes
		r.version, r.session = h.Get("Mcp-Protocol-Version"), h.Get("Mcp-Session-Id")
	case len(h["Accept"]) == 0:
		r.header["Accept"] = jsonType
	}
}

// whose returns the partition of the caller.
func (r *run) whose() [32]byte {
	r.once.Do(func() { r.partition = r.a.opts.Partition(&mcp.Call{Header: r.header, Query: r.call.Query}) })
	return r.partition
}

// headerIn returns the caller's header with what it has in a session.
func (r *run) headerIn(version, session string) http.Header {
	h := maps.Clone(r.header)
	if version != "" {
		h["Mcp-Protocol-Version"] = []string{version}
	}
	if session != "" {
		h["Mcp-Session-Id"] = []string{session}
	}
	return h
}
