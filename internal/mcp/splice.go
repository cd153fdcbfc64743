package mcp

// Splice appends b to dst with other bytes in place of what is at the span.
func Splice(dst, b []byte, at Span, other []byte) []byte {
	dst = append(dst, b[:at.Start]...)
	dst = append(dst, other...)
	return append(dst, b[at.End:]...)
}

// Splice is Splice of the bytes that m is the scan of, and makes m the scan of the outcome. No span of m lies inside the one
// that is replaced.
func (m *Message) Splice(dst, b []byte, at Span, other []byte) []byte {
	m.move(at, len(other))
	return Splice(dst, b, at, other)
}

// Trim returns the message without the bytes around it in b, and makes m the scan of that.
func (m *Message) Trim(b []byte) []byte {
	b = m.Whole.Of(b)
	m.move(Span{End: m.Whole.Start}, 0)
	return b
}

// move makes the spans right after what was at a span has been replaced by size bytes.
func (m *Message) move(at Span, size int) {
	by := uint32(size) - (at.End - at.Start) // wraps around, and back
	if by == 0 {
		return
	}
	for _, s := range m.spans() {
		if s.Start >= at.End {
			s.Start += by
		}
		if s.End >= at.End {
			s.End += by
		}
	}
}

// spans lists the spans of a message. A test holds that none is missing.
func (m *Message) spans() [26]*Span {
	return [...]*Span{
		&m.Whole, &m.ID, &m.MethodName, &m.Params, &m.Result, &m.Error, &m.ErrorCode,
		&m.Name, &m.URI, &m.Cursor, &m.Meta, &m.RequestID, &m.InputResponses, &m.RequestState, &m.Task,
		&m.ProtocolVersion, &m.ClientCapabilities, &m.ClientInfo, &m.LogLevel, &m.ProgressToken,
		&m.ResultType, &m.TTL, &m.CacheScope, &m.IsError, &m.ResultMeta, &m.ServerInfo,
	}
}
