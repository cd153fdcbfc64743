package rpc

import (
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// perCall are the header fields of the caller's that are about one call, as Mcp-Param-* are, and so about none of an array's. Its
// like for calls of the daemon's own in a session is ofOneCall in package session.
var perCall = header.Names{"Mcp-Protocol-Version", "Mcp-Session-Id", "Mcp-Method", "Mcp-Name", "Last-Event-Id"}

// perBody are the header fields that are about the bytes of the array, or would make one call of its elements.
var perBody = header.Names{
	"Content-Type", "Content-Length", "Content-Encoding", "Content-Digest", "Content-Md5", "Digest", "Repr-Digest",
	"Idempotency-Key", "X-Idempotency-Key",
}

// jsonType is the Content-Type of what goes out, and of answers.
const jsonType = "application/json"

// bothTypes is what a client of MCP has to accept (2025-11-25 and 2026-07-28, basic/transports).
const bothTypes = "application/json, text/event-stream"

// readHeader reads the caller's header, and makes that of the elements from it.
func (r *run) readHeader(h header.List) {
	plain := r.a.opts.Plain
	r.header = h.Clone()
	r.header.Drop(func(f header.Field) bool {
		about := perCall.Has(f.Name) || mcp.IsParamHeader(f.Name)
		return perBody.Has(f.Name) || about && !plain
	})
	r.header.Add("Content-Type", jsonType)
	switch {
	case !plain:
		r.header.Set("Accept", bothTypes)
		r.version, r.session = h.Get("Mcp-Protocol-Version"), h.Get("Mcp-Session-Id")
		r.partition = r.a.opts.Partition(&mcp.Call{Header: r.header, Query: r.call.Query})
	case !h.Has("Accept"):
		r.header.Add("Accept", jsonType)
	}
}

// headerIn returns the caller's header with what it has in a session.
func (r *run) headerIn(version, session string) header.List {
	h := r.header.Clone()
	if version != "" {
		h.Set("Mcp-Protocol-Version", version)
	}
	if session != "" {
		h.Set("Mcp-Session-Id", session)
	}
	return h
}
