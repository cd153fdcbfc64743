package rpc

import (
	"context"
	"net/http"

	"fluentd-perf/internal/mcp"
)

// open opens a session, for all who wait for it.
func (r *arrayRun) open(s *ownSession) {
	a := r.a
	defer func() {
		if p := recover(); p != nil {
			a.opts.Log.Error("bug: an initialize panicked", "upstream", a.opts.Upstream, "panic", p)
			s.failure = notAsked("fluentd-perf failed at this call", nil)
		}
		if s.failure != nil {
			a.sessions.mu.Lock()
			a.removeLocked(s)
			a.sessions.mu.Unlock()
		}
		close(s.ready)
	}()
	ctx, cancel := context.WithTimeout(a.base, ownCallTime)
	defer cancel()
	if s.failure = r.initialize(ctx, s); s.failure == nil {
		s.failure = r.initialized(ctx, s)
	}
}

// initialize asks for a session without capabilities (2025-11-25, basic/lifecycle).
func (r *arrayRun) initialize(ctx context.Context, s *ownSession) *mcp.Failure {
	params := `{"protocolVersion":"` + mcp.Version20251125 + `","capabilities":{},"clientInfo":` + string(r.a.info) + `}`
	c := r.ownLegacy(mcp.MethodInitialize, string(r.a.ids.Next()), params, "", r.header)
	reply, f := r.exchange(ctx, c, ownRoom())
	if f != nil {
		return notAsked("the server could not be asked for a session", f)
	}
	defer r.a.opts.Buffers.Put(reply.body)
	if reply.message.Kind != mcp.KindResult {
		s.unknown = !isRefusal(reply.status)
		f := notAsked("", reply.noAnswer())
		f.Message += " to initialize"
		return f
	}
	result := reply.message.Result.Of(reply.body)
	if at, err := mcp.Member(result, "protocolVersion"); err == nil {
		s.version, _ = mcp.Text(at.Of(result))
	}
	s.id = reply.header.Get("Mcp-Session-Id")
	s.header, s.query = cloneHeader(r.header), r.call.Query
	delete(s.header, "Content-Type")
	s.fill(s.header)
	return nil
}

func (s *ownSession) fill(h http.Header) {
	if s.version != "" {
		h["Mcp-Protocol-Version"] = []string{s.version}
	}
	if s.id != "" {
		h["Mcp-Session-Id"] = []string{s.id}
	}
}

// initialized ends the handshake.
func (r *arrayRun) initialized(ctx context.Context, s *ownSession) *mcp.Failure {
	h := cloneHeader(r.header)
	s.fill(h)
	reply, f := r.exchange(ctx, r.ownLegacy(mcp.MethodInitialized, "", "", s.version, h), ownRoom())
	if f == nil && reply.status >= http.StatusMultipleChoices {
		f = reply.noAnswer()
	}
	if f == nil {
		return nil
	}
	r.a.end(ctx, s)
	return notAsked("the server could not be asked for a session", f)
}

// ownLegacy is a legacy message of the daemon's own, a notification if there is no id.
func (r *arrayRun) ownLegacy(method mcp.Method, id, params, version string, h http.Header) *mcp.Call {
	body := []byte(`{"jsonrpc":"2.0",`)
	if id != "" {
		body = append(append(append(body, `"id":`...), id...), ',')
	}
	body = append(append(append(body, `"method":"`...), method.String()...), '"')
	if params != "" {
		body = append(append(body, `,"params":`...), params...)
	}
	body = append(body, '}')
	var m mcp.Message
	if err := mcp.Scan(body, &m); err != nil {
		panic("rpc: a message of the daemon's own is none (this is a bug): " + err.Error())
	}
	return r.newCall(mcp.EraLegacy, version, body, &m, h)
}
