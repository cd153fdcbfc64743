package rpc

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"fluentd-perf/internal/mcp"
)

// perCall are the header fields of the caller's that are about one call, as Mcp-Param-* are, and so about none of an array's. Its
// like for calls of the daemon's own in a session is ofOneCall in package session.
var perCall = []string{"Mcp-Protocol-Version", "Mcp-Session-Id", "Mcp-Method", "Mcp-Name", "Last-Event-Id"}

// perBody are the header fields that are about the bytes of the array, or would make one call of its elements.
var perBody = []string{
	"Content-Type", "Content-Length", "Content-Encoding", "Content-Digest", "Content-Md5", "Digest", "Repr-Digest",
	"Idempotency-Key", "X-Idempotency-Key",
}

// jsonType is the Content-Type of what goes out, and of answers.
var jsonType = []string{"application/json"}

// bothTypes is what a client of MCP has to accept (2025-11-25 and 2026-07-28, basic/transports).
var bothTypes = []string{"application/json, text/event-stream"}

// readHeader reads the caller's header, and makes that of the elements from it.
func (r *run) readHeader(h http.Header) {
	plain := r.a.opts.Plain
	r.header = make(http.Header, len(h)+4)
	for name, values := range h {
		about := slices.Contains(perCall, name) || strings.HasPrefix(name, "Mcp-Param-")
		if !slices.Contains(perBody, name) && (plain || !about) {
			r.header[name] = values
		}
	}
	r.header["Content-Type"] = jsonType
	switch {
	case !plain:
		r.header["Accept"] = bothTypes
		r.version, r.session = h.Get("Mcp-Protocol-Version"), h.Get("Mcp-Session-Id")
		r.partition = r.a.opts.Partition(&mcp.Call{Header: r.header, Query: r.call.Query})
	case len(h["Accept"]) == 0:
		r.header["Accept"] = jsonType
	}
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
