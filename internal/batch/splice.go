package batch

import "fluentd-perf/internal/mcp"

// splice appends b to dst with other bytes in place of what is at the span.
func splice(dst, b []byte, at mcp.Span, other []byte) []byte {
	dst = append(dst, b[:at.Start]...)
	dst = append(dst, other...)
	return append(dst, b[at.End:]...)
}

// move makes the spans of a message right after what was at a span, none of which lies inside it, has been replaced by
// size bytes.
func move(m *mcp.Message, at mcp.Span, size int) {
	by := uint32(size) - (at.End - at.Start) // wraps around, and back
	if by == 0 {
		return
	}
	for _, s := range spans(m) {
		if s.Start >= at.End {
			s.Start += by
		}
		if s.End >= at.End {
			s.End += by
		}
	}
}

// spans lists the spans of a message. A test holds that none is missing.
func spans(m *mcp.Message) [24]*mcp.Span {
	return [...]*mcp.Span{
		&m.Whole, &m.ID, &m.MethodName, &m.Params, &m.Result, &m.Error, &m.ErrorCode,
		&m.Name, &m.URI, &m.Cursor, &m.Meta, &m.RequestID, &m.InputResponses, &m.RequestState, &m.Task,
		&m.ProtocolVersion, &m.ClientCapabilities, &m.ClientInfo, &m.LogLevel, &m.ProgressToken,
		&m.ResultType, &m.TTL, &m.CacheScope, &m.IsError,
	}
}

// namesCall reports whether a response has an id to put another in place of. An error may have none, or null: that is how
// a server answers what it could not read (JSON-RPC 2.0, section 5), and such an answer goes on as it is.
func namesCall(m *mcp.Message, b []byte) bool {
	id := m.ID.Of(b)
	return len(id) > 0 && id[0] != 'n'
}
