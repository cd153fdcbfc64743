package session

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// pingTime is how long the server has to say whether it knows a session.
const pingTime = 2 * time.Second

// isLoss reports whether an answer to a call in the place says that the server has lost the session. What the words mean is
// mcp.LossOf's to say; where that is doubtful, a ping decides. So it does for a session's first GET stream: many servers have no
// such streams, and some say 404 to that.
func (s *Stage) isLoss(ctx context.Context, c *mcp.Call, e *session, at *place, res *mcp.Result) bool {
	loss := mcp.LossOf(c, res)
	switch {
	case loss == mcp.LossNone || e.name == "" || !s.heals():
		return false
	case at.gone || e.opening == nil: // there is nothing that a ping could ask about
		return loss == mcp.LossSure
	case res.Status == http.StatusBadRequest && !e.initialized.Load():
		return false // it waits for notifications/initialized, and a ping would get the same
	case loss == mcp.LossSure && (c.Lane != mcp.LaneStream || e.accepted.Load()):
		return true
	}
	status, pinged := s.ask(ctx, c, e, at)
	if status == http.StatusBadRequest && !e.initialized.Load() {
		return false
	}
	return pinged == mcp.LossSure && loss == mcp.LossSure || pinged != mcp.LossNone && status == res.Status
}

// ping asks the server whether it knows a session, for all who want to know.
type ping struct {
	done chan struct{}

	// Set before done is closed; zero where there was no answer.
	status int
	loss   mcp.Loss
}

// ask asks the server whether it knows the session in the place: by one ping for all who wait, with the headers of the call
// that came first. It returns the answer's status, 0 for none, and what that says of the session. The ping is nobody's own, so
// that who sent it may leave.
func (s *Stage) ask(ctx context.Context, c *mcp.Call, e *session, at *place) (status int, loss mcp.Loss) {
	p := s.pingUnderWay(c, e, at)
	if p == nil {
		return 0, mcp.LossNone
	}
	select {
	case <-p.done:
		return p.status, p.loss
	case <-ctx.Done():
		return 0, mcp.LossNone
	}
}

// pingUnderWay finds the ping to wait for, or sends one; nil where the stage is closed. What one credential gets says nothing of
// another.
func (s *Stage) pingUnderWay(c *mcp.Call, e *session, at *place) *ping {
	credential := s.opts.Credential(c)
	e.mu.Lock()
	defer e.mu.Unlock()
	if p := at.pings[credential]; p != nil {
		return p
	}
	p := &ping{done: make(chan struct{})}
	send := func() {
		p.status, p.loss = s.ping(c, at)
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(at.pings, credential)
		close(p.done)
	}
	if !s.start(send) {
		return nil
	}
	at.pings[credential] = p
	return p
}

// ping sends a ping to the place, with the call's headers.
func (s *Stage) ping(c *mcp.Call, at *place) (status int, loss mcp.Loss) {
	ctx, cancel := context.WithTimeout(s.base, pingTime)
	defer cancel()
	ping := s.ownRequest(c, mcp.MethodPing, "", at.id)
	res, err := s.opts.Probe.Call(ctx, ping)
	if err != nil {
		return 0, mcp.LossNone
	}
	defer s.discard(res)
	return res.Status, mcp.LossOf(ping, res)
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
	return &mcp.Result{Status: status, Header: header.List{{Name: "Content-Type", Value: "text/plain; charset=utf-8"}}, Body: []byte(text)}
}
