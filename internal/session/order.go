package session

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// mostWait is how long a POST waits for a GET of its session that came before it to be written.
const mostWait = 250 * time.Millisecond

// unwritten are the GETs under way that have not been written yet, by session id. An agent opens its stream and then calls a
// tool, over two connections; the server is to see them in that order, or what the tool says on the stream is lost.
type unwritten struct {
	n atomic.Int32 // of them all: most POSTs need no lock

	mu   sync.Mutex // guards the following
	byID map[string][]chan struct{}
}

// begin notes a GET. It has been written, or will not be, when written is called, which may be called twice.
func (u *unwritten) begin(id string) (written func()) {
	if id == "" {
		return func() {}
	}
	done := make(chan struct{})
	u.n.Add(1)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.byID == nil {
		u.byID = make(map[string][]chan struct{})
	}
	u.byID[id] = append(u.byID[id], done)
	return sync.OnceFunc(func() {
		u.end(id, done)
		close(done)
	})
}

func (u *unwritten) end(id string, done chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	left := slices.DeleteFunc(slices.Clone(u.byID[id]), func(d chan struct{}) bool { return d == done })
	if u.n.Add(-1); len(left) == 0 {
		delete(u.byID, id)
	} else {
		u.byID[id] = left
	}
}

// wait waits until those that the session has under way now are written.
func (u *unwritten) wait(ctx context.Context, id string) {
	if id == "" || u.n.Load() == 0 {
		return
	}
	u.mu.Lock()
	gets := u.byID[id]
	u.mu.Unlock()
	if len(gets) == 0 {
		return
	}
	limit := time.NewTimer(mostWait)
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
