package session

import (
	"context"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// maxWait is how long a POST waits for a GET of its session that came before it to be written.
const maxWait = 250 * time.Millisecond

// unwritten are the GETs under way that have not been written yet, by session id. An agent opens its stream and then calls a
// tool, over two connections; the server is to see them in that order, or what the tool says on the stream is lost.
type unwritten struct {
	n atomic.Int32 // of them all: most POSTs need no lock

	mu   sync.Mutex // guards the following
	byID map[string]map[chan struct{}]bool
}

// begin notes a GET. It has been written, or will not be, when written is called, which may be called more than once.
func (u *unwritten) begin(id string) (written func()) {
	if id == "" {
		return func() {}
	}
	done := make(chan struct{})
	u.n.Add(1)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.byID == nil {
		u.byID = make(map[string]map[chan struct{}]bool)
	}
	if u.byID[id] == nil {
		u.byID[id] = make(map[chan struct{}]bool, 1)
	}
	u.byID[id][done] = true
	return sync.OnceFunc(func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if delete(u.byID[id], done); len(u.byID[id]) == 0 {
			delete(u.byID, id)
		}
		u.n.Add(-1)
		close(done)
	})
}

// wait waits until those that the session has under way now are written.
func (u *unwritten) wait(ctx context.Context, id string) {
	if id == "" || u.n.Load() == 0 {
		return
	}
	u.mu.Lock()
	gets := slices.Collect(maps.Keys(u.byID[id]))
	u.mu.Unlock()
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
