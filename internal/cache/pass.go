package cache

import (
	"context"
	"net/http"
	"time"

	"fluentd-perf/internal/mcp"
)

// pass relays a call that does not concern the cache, and learns from it what has changed.
func (u *Stage) pass(ctx context.Context, c *mcp.Call, principal partition) (*mcp.Result, error) {
	if c.IsCancel() && u.canceled(c) {
		return mcp.Accepted(), nil
	}
	credential, changes := u.store.credential(c, principal), u.mayChange(c)
	if changes {
		u.invalidateWrites(credential)
	}
	if c.Lane == mcp.LaneEnd {
		u.ended(sessionHeader(c))
	}
	res, err := u.send(ctx, c, principal, credential)
	if changes {
		whenAnswered(c, res, func() { u.invalidateWrites(credential) })
	}
	if err == nil && c.Lane == mcp.LaneRequest {
		u.relayed(res, outcomeBypass, statusBypass)
	}
	return res, err
}

// send calls the server, and notes what the answer says of the credential, of sessions and of what has changed; of a
// stream, as it passes: the observer is the first to read it, so that a change is applied once.
func (u *Stage) send(ctx context.Context, c *mcp.Call, principal, credential partition) (*mcp.Result, error) {
	sent := time.Now()
	res, err := u.next.Call(ctx, c)
	if err != nil {
		return nil, err
	}
	u.noteCredential(c, principal, credential, res, sent)
	sessionID := res.Header.Get("Mcp-Session-Id")
	if sessionID == "" {
		sessionID = sessionHeader(c) // an initialize within a session
	}
	if res.Events != nil {
		res.Events = u.watch(res.Events, c, principal, sessionID)
		return res, nil
	}
	u.receivedBody(c, res)
	if res.Checked && res.Message.Kind == mcp.KindResult {
		u.initialized(c, sessionID, res.Message.Result.Of(res.Body))
	} else if res.Status < http.StatusMultipleChoices {
		u.initialized(c, sessionID, nil)
	}
	return res, nil
}

// relayed counts what became of an answer of the server's, and appends this cache's member to its Cache-Status.
func (u *Stage) relayed(res *mcp.Result, o outcome, status string) {
	u.metrics.count(tierNone, o)
	res.Header.Add(cacheStatus, status)
}
