package session

import (
	"context"
	"slices"
	"sync"
	"time"
)

// maxWait is how long a POST waits for a GET of its session that came before it to be written.
const maxWait = 250 * time.Millisecond

// beginGET notes a GET of the session's. An agent opens its stream and then calls a tool, over two connections; the server is to
// see them in that order, or what the tool says on the stream is lost. The GET has been written, or will not be, when written is
// called, which may be called more than once.
func (e *session) beginGET() (written func()) {
	done := make(chan struct{})
	e.mu.Lock()
	defer e.mu.Unlock()
	e.unwritten = append(e.unwritten, done)
	return sync.OnceFunc(func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.unwritten = slices.DeleteFunc(e.unwritten, func(d chan struct{}) bool { return d == done })
		close(done)
	})
}

// waitForGETs waits until those GETs that the session has under way now are written.
func (e *session) waitForGETs(ctx context.Context) {
	e.mu.Lock()
	gets := slices.Clone(e.unwritten)
	e.mu.Unlock()
	if len(gets) == 0 {
		return
	}
	limit := time.NewTimer(maxWait)
	defer limit.Stop()
	for _, written := range gets {
		select {
		case <-written:
		case <-limit.C:
			return
		case <-ctx.Done():
			return
		}
	}
}
