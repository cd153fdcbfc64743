package http

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

// cancels are the places of the notifications/cancelled under way. Close takes all of them.
type cancels struct {
	places chan struct{} // maxCancels
	once   sync.Once
}

// stop lets none begin any more and waits for those under way.
func (k *cancels) stop() {
	k.once.Do(func() {
		for range maxCancels {
			k.places <- struct{}{}
		}
	})
}

// sendCancelled tells a legacy server in the background that nobody waits for the call's answer any more: there a closed
// stream does not mean cancelled (2025-11-25, basic/transports, "Sending Messages"), and after a timeout the sender should
// say so (basic/lifecycle, "Timeouts"). A task has tasks/cancel for it.
func (u *Upstream) sendCancelled(c *mcp.Call) {
	id := c.ID()
	if !cancellable(c) || c.Message.Task.Present() || len(id) == 0 || id[0] == 'n' {
		return
	}
	select {
	case u.cancels.places <- struct{}{}:
	default:
		u.opts.Log.Warn("a timed out call was not cancelled at the server: too many at once", slog.String("upstream", u.opts.Name))
		return
	}
	body := append([]byte(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":`), id...)
	body = append(body, `,"reason":"timed out"}}`...)
	n := &mcp.Call{
		Upstream: c.Upstream, Lane: mcp.LaneNotification, Era: c.Era, Version: c.Version,
		Message: mcp.Message{Kind: mcp.KindNotification, Method: mcp.MethodCancelled},
		Body:    body, Header: c.Header, Query: c.Query, Target: c.Target, Start: time.Now(),
	}
	go func() {
		defer func() { <-u.cancels.places }()
		ctx, cancel := context.WithTimeout(context.Background(), cancelTimeout)
		defer cancel()
		res, err := u.Call(ctx, n)
		if err == nil {
			err = res.Close()
		}
		if err != nil {
			u.opts.Log.Debug("a timed out call could not be cancelled at the server",
				slog.String("upstream", u.opts.Name), slog.Any("error", err))
		}
	}()
}
