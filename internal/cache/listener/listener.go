// Package listener holds the daemon's own `subscriptions/listen` streams to a server of 2026-07-28
// (basic/patterns/subscriptions), on which it says what has changed.
//
// For each partition of which an answer is stored it asks by server/discover what the server announces, and keeps one
// stream open for that: changes of lists, and of the resources that were read. It speaks with the headers of the request
// whose answer was stored first. Where no stream is open a stored answer lives by its TTL alone, so nothing here is urgent:
// a stream that breaks is opened again after 1 s to 30 s, and what a server refuses is not asked for again for 10 min.
//
// A Listener knows nothing of what is stored. To a legacy server it opens nothing: one that allows a single GET stream would
// refuse the agent's own.
package listener

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

const (
	maxPartitions = 32               // of one upstream
	idleAfter     = 5 * time.Minute  // without a request: the partition's stream is closed
	refusedFor    = 10 * time.Minute // how long what a server refused is not asked for again
)

// partition is a credential by the HMAC over its headers.
type partition = [32]byte

// Options say to which upstream a Listener subscribes, and who is told. Next, Received and Base are required.
type Options struct {
	Upstream string     // the configured name, for the log
	Next     mcp.Caller // the way to the server, past the cache

	// Received is called with every notification that comes and its bytes; both are dead when it returns. It returns soon:
	// the stream is not read meanwhile.
	Received func(m *mcp.Message, data []byte)

	Off  bool            // `listen: off`: nothing is ever opened
	Base context.Context // its end closes everything
	Log  *slog.Logger    // nil: silent
}

// Listener subscribes to the changes of one upstream. It is safe for concurrent use, and none of its methods but Close
// blocks.
type Listener struct {
	o       Options
	base    context.Context
	stop    context.CancelFunc
	open    atomic.Int64 // streams
	running sync.WaitGroup

	mu      sync.RWMutex                // guards the following, and what a subscription says it guards
	by      map[partition]*subscription // the running ones. With refused they are at most maxPartitions
	refused map[partition]time.Time     // until when the server is not asked
}

// New returns a Listener with no stream open.
func New(o Options) *Listener {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler)).With(slog.String("upstream", o.Upstream))
	l := &Listener{o: o, by: make(map[partition]*subscription), refused: make(map[partition]time.Time)}
	l.base, l.stop = context.WithCancel(o.Base)
	return l
}

// Stored says that an answer to the call was stored for the partition. It subscribes where there is no subscription yet,
// with the call's own headers, version, capabilities and client info, which are copied and kept in memory only. The uri of a
// resources/read is subscribed to as well. A tools/call subscribes to nothing: no notification says that its answer is stale.
func (l *Listener) Stored(c *mcp.Call, p partition) {
	if l.o.Off || c.Era != mcp.EraModern || c.Method() == mcp.MethodToolsCall {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.by[p]
	if s == nil {
		s = l.subscribeLocked(c, p)
	}
	if s != nil {
		s.touch()
		s.addLocked(uriOf(c))
	}
}

// Touched says that a request of the partition passed: its stream, if there is one, stays open for idleAfter.
func (l *Listener) Touched(p partition) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if s := l.by[p]; s != nil {
		s.touch()
	}
}

// Refused says that the server answered the partition 401 or 403: its stream is closed. The next answer stored opens it
// again.
func (l *Listener) Refused(p partition) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.by[p]; s != nil {
		l.endLocked(s)
	}
}

// Streams returns how many streams are open.
func (l *Listener) Streams() int { return int(l.open.Load()) }

// Subscriptions returns for how many credentials there is a subscription, those that the server refused not counted. Each has a goroutine,
// whether or not the server announces any changes; a stream that is open has another one.
func (l *Listener) Subscriptions() int {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.by)
}

// Close closes everything, and returns when it has ended. Nothing begins any more.
func (l *Listener) Close() {
	l.mu.Lock() // nobody is about to begin
	l.stop()
	l.mu.Unlock()
	l.running.Wait()
}

// subscribeLocked begins a subscription; nil if there is no room for one, or the server is not to be asked.
func (l *Listener) subscribeLocked(c *mcp.Call, p partition) *subscription {
	now := time.Now()
	maps.DeleteFunc(l.refused, func(_ partition, until time.Time) bool { return !now.Before(until) })
	if _, refused := l.refused[p]; refused || len(l.by)+len(l.refused) >= maxPartitions || l.base.Err() != nil {
		return nil
	}
	client := newClient(c)
	if client == nil {
		return nil
	}
	s := newSubscription(l, p, client)
	l.by[p] = s
	l.running.Go(s.run)
	return s
}

// endLocked ends a subscription, its credential and stream with it. It may be called more than once.
func (l *Listener) endLocked(s *subscription) {
	s.cancel()
	s.idle.Stop()
	if l.by[s.partition] == s {
		delete(l.by, s.partition)
	}
}

// end ends a subscription and notes, where that is why, that the server refused it, unless it was this side that ended it.
// Whoever counts meanwhile counts the partition once.
func (l *Listener) end(s *subscription, refused bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if refused && s.ctx.Err() == nil {
		l.refused[s.partition] = time.Now().Add(refusedFor)
		l.o.Log.Info("the server does not let the daemon subscribe to changes: cached answers live by their TTL",
			slog.String("again_after", refusedFor.String()))
	}
	l.endLocked(s)
}
