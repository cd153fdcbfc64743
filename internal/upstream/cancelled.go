package upstream

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

const (
	maxCancels    = 64              // under way at once
	cancelTimeout = 5 * time.Second // for each
)

// cancels counts the notifications/cancelled under way.
type cancels struct {
	mu      sync.Mutex // guards the following
	running int
	stopped bool
	wg      sync.WaitGroup
}

func (k *cancels) begin() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopped || k.running == maxCancels {
		return false
	}
	k.running++
	k.wg.Add(1)
	return true
}

func (k *cancels) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running--
	k.wg.Done()
}

// stop lets none begin any more and waits for those under way.
func (k *cancels) stop() {
	k.mu.Lock()
	k.stopped = true
	k.mu.Unlock()
	k.wg.Wait()
}

// tellCancelled tells a legacy server in the background that nobody waits for the call's answer any more: there a closed
// stream does not mean cancelled (2025-11-25, basic/transports, "Sending Messages"), and after a timeout the sender should
// say so (basic/lifecycle, "Timeouts"). initialize must not be cancelled so, and a task has tasks/cancel for it
// (basic/utilities/cancellation). To a modern server the closed stream says it.
func (u *Upstream) tellCancelled(c *mcp.Call) {
	id := c.ID()
	if c.Lane != mcp.LaneRequest || c.Era != mcp.EraLegacy || c.Message.Method == mcp.MethodInitialize ||
		c.Message.Task.Present() || len(id) == 0 || id[0] == 'n' {
		return
	}
	if !u.cancels.begin() {
		u.log.Warn("a timed out call was not cancelled at the server: too many at once", slog.String("upstream", u.opts.Name))
		return
	}
	// Made here: the call's body is the caller's again when Call has returned.
	body := append([]byte(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`), id...)
	body = append(body, `,"reason":"timed out"}}`...)
	n := &mcp.Call{
		Upstream: c.Upstream, Lane: mcp.LaneNotification, Era: c.Era, Version: c.Version,
		Message: mcp.Message{Kind: mcp.KindNotification, Method: mcp.MethodCancelled},
		Body:    body, Header: c.Header, Query: c.Query, Target: c.Target, Start: time.Now(),
	}
	go func() {
		defer u.cancels.end()
		u.sendCancelled(n)
	}()
}

func (u *Upstream) sendCancelled(n *mcp.Call) {
	ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
	defer cancel()
	res, err := u.Call(ctx, n)
	if err == nil {
		err = res.Close()
	}
	if err != nil {
		u.log.Debug("a timed out call could not be cancelled at the server",
			slog.String("upstream", u.opts.Name), slog.Any("error", err))
	}
}
