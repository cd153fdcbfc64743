package rpc

import (
	"bytes"
	"context"

	"fluentd-perf/internal/mcp"
)

// modern sends a message with the envelope of the modern era (2026-07-28, basic/transports/streamable-http, SEP-2243). A
// tools/call whose headers the server finds wrong has not run: it is sent again with those of a new list of tools.
func (r *run) modern(ctx context.Context, body []byte, m *mcp.Message, version string) (reply, *mcp.Failure) {
	body, own := r.withMeta(body, m, version)
	for tries := 0; ; tries++ {
		c, tools := r.modernCall(ctx, body, &own, version)
		p, f := r.callOnce(ctx, c, r.budget)
		mismatch := p.ErrorCode() == mcp.CodeHeaderMismatch && p.IsRefused() // and so the call did not run
		if f != nil || tries == 1 || tools == nil || !mismatch {
			return p, f
		}
		r.a.forgetTools(r.partition, tools)
		p.drop(r)
	}
}

// modernCall makes the call, and returns which arguments of which tools have headers if it is a tools/call.
func (r *run) modernCall(ctx context.Context, body []byte, m *mcp.Message, version string) (*mcp.Call, *toolHeaders) {
	c := r.newCall(mcp.EraModern, version, body, m, r.headerIn(version, ""))
	if m.Kind == mcp.KindNotification { // for which no other headers are defined
		return c, nil
	}
	method, _ := mcp.Text(m.MethodName.Of(body))
	c.Header.Set("Mcp-Method", mcp.HeaderValue(method))
	named, ok := m.Named()
	if !ok {
		return c, nil
	}
	name, ok := mcp.Text(named.Of(body))
	if c.Mismatch = !ok; c.Mismatch {
		return c, nil
	}
	c.Header.Set("Mcp-Name", mcp.HeaderValue(name))
	if m.Method != mcp.MethodToolsCall {
		return c, nil
	}
	tools := r.toolHeaders(ctx, version)
	tools.of[name].Set(&c.Header, m.Params.Of(body))
	return c, tools
}

// withMeta returns the message with an id of the daemon's own and with what is missing of the `_meta` that every request
// has (2026-07-28, basic/index). Params that are no object are the server's to refuse.
func (r *run) withMeta(body []byte, m *mcp.Message, version string) ([]byte, mcp.Message) {
	if m.Kind != mcp.KindRequest {
		return body, *m
	}
	body, own := r.withOwnID(body, *m)
	at, text := r.missingMeta(body, &own, version)
	body = mcp.Splice(make([]byte, 0, len(body)+len(text)), body, mcp.Span{Start: at, End: at}, text)
	return body, scanned(body)
}

// missingMeta returns what is to be inserted, and where.
func (r *run) missingMeta(b []byte, m *mcp.Message, version string) (at uint32, text []byte) {
	members := r.metaMembers(m, version)
	switch meta, params := m.Meta.Of(b), m.Params.Of(b); {
	case len(members) == 0, meta != nil && meta[0] != '{', meta == nil && params != nil && params[0] != '{':
		return m.Whole.End, nil
	case meta != nil:
		at, text = m.Meta.Start+1, members
	case params != nil:
		at, text = m.Params.Start+1, append(append([]byte(`"_meta":{`), members...), '}')
	default:
		text = append(append([]byte(`,"params":{"_meta":{`), members...), `}}`...)
		return m.Whole.End - 1, text
	}
	if rest := bytes.TrimLeft(b[at:], " \t\r\n"); rest[0] != '}' {
		text = append(text, ',')
	}
	return at, text
}

func (r *run) metaMembers(m *mcp.Message, version string) (b []byte) {
	add := func(is mcp.Span, name string, value []byte) {
		if !is.Present() {
			b = append(append(b, `,"io.modelcontextprotocol/`+name+`":`...), value...)
		}
	}
	add(m.ProtocolVersion, "protocolVersion", quoted(version))
	add(m.ClientInfo, "clientInfo", r.a.info)
	add(m.ClientCapabilities, "clientCapabilities", []byte("{}"))
	return bytes.TrimPrefix(b, []byte(","))
}
