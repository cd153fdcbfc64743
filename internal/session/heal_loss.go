package session

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"time"

	"fluentd-perf/internal/mcp"
)

// pingTime is how long the server has to say whether it knows a session.
const pingTime = 2 * time.Second

// lost reports whether an answer to a call in the place says that the server has lost the session. Of what it may say in
// other words a ping decides.
func (s *Stage) lost(ctx context.Context, c *mcp.Call, e *session, at place, res *mcp.Result) bool {
	loss := mcp.LossOf(c, res)
	if res.Status == http.StatusBadRequest && !e.initialized.Load() {
		return false // it waits for notifications/initialized, and a ping would hear the same
	}
	switch loss {
	case mcp.LossSure:
		return true
	case mcp.LossDoubtful:
		a := s.doubt(ctx, c, e, at)
		return a.status == res.Status && a.loss != mcp.LossNone
	}
	return false
}

// pong is what came of a ping; the zero pong is no answer.
type pong struct {
	status int
	loss   mcp.Loss
}

// probe is a ping under way for all who wait.
type probe struct {
	done chan struct{}
	pong pong // set before done is closed
}

// probeKey says who may wait for the same ping: what one credential gets says nothing of another.
type probeKey struct {
	credential [32]byte
	gen        int
}

// doubt asks the server whether it knows the session in the place: one ping for all who wait, with the headers of the call
// that came first. It is nobody's own, so that who set it off may leave.
func (s *Stage) doubt(ctx context.Context, c *mcp.Call, e *session, at place) pong {
	p := s.probe(c, e, at)
	if p == nil {
		return pong{}
	}
	select {
	case <-p.done:
		return p.pong
	case <-ctx.Done():
		return pong{}
	}
}

// probe finds the ping to wait for, or sends one; nil where the stage is closed.
func (s *Stage) probe(c *mcp.Call, e *session, at place) *probe {
	key := probeKey{s.opts.Credential(c), at.gen}
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.probes[key]; p != nil {
		return p
	}
	p := &probe{done: make(chan struct{})}
	if !s.start(func() { s.decide(c, e, at, key, p) }) {
		return nil
	}
	if e.probes == nil {
		e.probes = make(map[probeKey]*probe)
	}
	e.probes[key] = p
	return p
}

// decide sends the ping and lets go of all who wait for it.
func (s *Stage) decide(c *mcp.Call, e *session, at place, key probeKey, p *probe) {
	p.pong = s.ping(s.base, c, at)
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.probes, key)
	close(p.done)
}

// ping asks the server something in the place, with the call's headers.
func (s *Stage) ping(ctx context.Context, c *mcp.Call, at place) pong {
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	ping := ownCall(c, mcp.LaneRequest, []byte(`{"jsonrpc":"2.0","id":`+newID()+`,"method":"ping"}`), at.id)
	res, err := s.opts.Probe.Call(ctx, ping)
	if err != nil {
		return pong{}
	}
	defer s.discard(res)
	return pong{res.Status, mcp.LossOf(ping, res)}
}

// maxLossText is how much of a server's own words about a lost session is passed on, in bytes.
const maxLossText = 4 << 10

// pass closes the answer that was a loss, so that it holds nothing, and returns what passes it on: 404 in text, which
// every client takes for the end of the session. That is the server's own where it says it so.
func (s *Stage) pass(res *mcp.Result) *mcp.Result {
	lost := lostResult()
	isText := strings.HasPrefix(strings.ToLower(res.Header.Get("Content-Type")), "text/plain")
	if isText && res.Status == http.StatusNotFound && len(res.Body) > 0 && len(res.Body) <= maxLossText {
		lost.Header, lost.Body = res.Header, bytes.Clone(res.Body)
	}
	s.discard(res)
	return lost
}

// lostResult is a loss in the daemon's words.
func lostResult() *mcp.Result {
	return &mcp.Result{
		Status: http.StatusNotFound, Header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}},
		Body: []byte("session not found\n"),
	}
}

// refusal is what the server said to a healing that it refused for want of authorization. The agent gets it: it has to sign
// in, or is told why it may not.
type refusal struct {
	status int
	header http.Header
	body   []byte
}

// maxRefusal is how much of such an answer is passed on, in bytes.
const maxRefusal = 64 << 10

// refusalOf returns the refusal that a 401 or 403 is, or nil. A body that cannot be passed on whole is left out.
func refusalOf(res *mcp.Result) *refusal {
	if res.Status != http.StatusUnauthorized && res.Status != http.StatusForbidden {
		return nil
	}
	r := &refusal{status: res.Status, header: res.Header.Clone(), body: bytes.Clone(res.Body)}
	r.header.Del(sessionHeader)
	if res.Raw == nil {
		return r
	}
	body, err := io.ReadAll(io.LimitReader(res.Raw, maxRefusal+1))
	if r.body = body; err != nil || len(body) > maxRefusal {
		r.body = nil
		for _, name := range []string{"Content-Type", "Content-Length", "Content-Encoding"} {
			r.header.Del(name)
		}
	}
	return r
}

// result returns the refusal as one caller's own.
func (r *refusal) result() *mcp.Result {
	return &mcp.Result{Status: r.status, Header: r.header.Clone(), Body: r.body}
}

// passed returns what the agent gets for a loss that was not mended.
func (m mended) passed(lost *mcp.Result) *mcp.Result {
	if m.refusal != nil {
		return m.refusal.result()
	}
	return lost
}
