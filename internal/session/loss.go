package session

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"time"

	"fluentd-perf/internal/mcp"
)

// pingTime is how long the server has to say whether it knows a session.
const pingTime = 2 * time.Second

// isLoss reports whether an answer to a call in the place says that the server has lost the session. What the words mean is
// mcp.LossOf's to say; where that is doubtful, a ping decides.
func (s *Stage) isLoss(ctx context.Context, c *mcp.Call, e *session, at *place, res *mcp.Result) bool {
	loss := mcp.LossOf(c, res)
	if res.Status == http.StatusBadRequest && !e.initialized.Load() {
		return false // it waits for notifications/initialized, and a ping would get the same
	}
	if loss != mcp.LossDoubtful {
		return loss == mcp.LossSure
	}
	pong := s.ask(ctx, c, e, at)
	return pong.status == res.Status && pong.loss != mcp.LossNone
}

// ping asks the server whether it knows a session, for all who want to know.
type ping struct {
	done chan struct{}
	pong pong // set before done is closed
}

// pong is what came of a ping; the zero pong is no answer.
type pong struct {
	status int
	loss   mcp.Loss
}

// pingKey says who may wait for the same ping: what one credential gets says nothing of another.
type pingKey struct {
	credential [32]byte
	at         *place
}

// ask asks the server whether it knows the session in the place: by one ping for all who wait, with the headers of the call
// that came first. The ping is nobody's own, so that who sent it may leave.
func (s *Stage) ask(ctx context.Context, c *mcp.Call, e *session, at *place) pong {
	p := s.pingUnderWay(c, e, at)
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

// pingUnderWay finds the ping to wait for, or sends one; nil where the stage is closed.
func (s *Stage) pingUnderWay(c *mcp.Call, e *session, at *place) *ping {
	key := pingKey{s.opts.Credential(c), at}
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := e.pings[key]; p != nil {
		return p
	}
	p := &ping{done: make(chan struct{})}
	send := func() {
		p.pong = s.ping(c, at)
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.pings, key)
		close(p.done)
	}
	if !s.start(send) {
		return nil
	}
	if e.pings == nil {
		e.pings = make(map[pingKey]*ping)
	}
	e.pings[key] = p
	return p
}

// ping sends a ping to the place, with the call's headers.
func (s *Stage) ping(c *mcp.Call, at *place) pong {
	ctx, cancel := context.WithTimeout(s.base, pingTime)
	defer cancel()
	ping := ownRequest(c, mcp.MethodPing, "", at.id)
	res, err := s.opts.Probe.Call(ctx, ping)
	if err != nil {
		return pong{}
	}
	defer s.discard(res)
	return pong{res.Status, mcp.LossOf(ping, res)}
}

// maxLossText is how much of a server's own words about a lost session is passed on, in bytes.
const maxLossText = 4 << 10

// lossText closes the answer that was a loss, so that it holds nothing, and returns what passes it on: 404 in text, which
// every client takes for the end of the session. That is the server's own where it says it so.
func (s *Stage) lossText(res *mcp.Result) *mcp.Result {
	lost := lostResult()
	isText := strings.HasPrefix(strings.ToLower(res.Header.Get("Content-Type")), "text/plain")
	if isText && res.Status == http.StatusNotFound && len(res.Body) > 0 && len(res.Body) <= maxLossText {
		lost.Header, lost.Body = res.Header.Clone(), bytes.Clone(res.Body)
	}
	s.discard(res)
	return lost
}

// lostResult is a loss in the daemon's words.
func lostResult() *mcp.Result { return textResult(http.StatusNotFound, "session not found\n") }

func textResult(status int, text string) *mcp.Result {
	return &mcp.Result{Status: status, Header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}}, Body: []byte(text)}
}
