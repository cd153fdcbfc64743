package cache

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

const (
	maxEars    = 32               // partitions of one upstream that are listened for; answers of further ones live by their TTL alone
	earIdle    = 5 * time.Minute  // a partition without a request for so long is not listened for any more
	earDecline = 10 * time.Minute // what a server refused is not asked again for so long
)

// earsOptions say for which upstream the daemon listens, and who is told. All but Off and Log are required.
type earsOptions struct {
	Upstream string     // the configured name, for the log
	Next     mcp.Caller // the way to the server, past the cache

	// Heard is told of every notification that comes, with its bytes; both are dead when it returns. It returns soon: the
	// stream is not read meanwhile.
	Heard func(m *mcp.Message, data []byte)

	Off  bool            // `listen: off`: nothing is ever opened
	Life context.Context // the daemon's; its end closes everything
	Log  *slog.Logger    // nil: silent
}

// ears listen to one upstream for changes: the streams that the daemon opens by itself, with the headers of the agents
// whose answers it keeps, one set for each partition. They know nothing of what is kept.
//
// Modern: a server/discover asks what the server tells of, one subscriptions/listen asks for the changes of lists, a
// second one for those of the resources that were read (2026-07-28, basic/patterns/subscriptions). Of a legacy server the
// daemon opens none: one that allows a single GET stream would refuse the agent's own.
//
// A stream that breaks is opened again, after 1 s to 30 s, while its partition has requests. A refusal is not repeated for
// earDecline, also if the partition was given up in between.
//
// ears are safe for concurrent use, and none of their methods but wait blocks.
type ears struct {
	o     earsOptions
	log   *slog.Logger
	start time.Time
	stand atomic.Int64 // streams that stand

	known atomic.Pointer[map[Partition]*ear] // at most maxEars. The map is never changed, only replaced, under mu

	mu      sync.Mutex // guards the following, the replacing of known, and what an ear says it guards
	stopped bool       // nothing begins any more
	running sync.WaitGroup
}

// ear is what is known of one partition.
type ear struct {
	last atomic.Int64            // when its last request passed, as ears.now
	open atomic.Pointer[earLife] // nil: not listened for. Set under ears.mu

	// ears.mu guards the following.
	declined [earKinds]int64 // until when a kind of request is not to be made, as ears.now
}

// newEars returns ears that hear nothing yet.
func newEars(o earsOptions) *ears {
	e := &ears{o: o, log: o.Log, start: time.Now()}
	if e.log == nil {
		e.log = slog.New(slog.DiscardHandler)
	}
	e.log = e.log.With(slog.String("upstream", o.Upstream))
	e.known.Store(&map[Partition]*ear{})
	return e
}

// now is the monotonic clock of the ears, in nanoseconds.
func (e *ears) now() int64 { return int64(time.Since(e.start)) }

func (e *ears) of(asker Partition) *ear { return (*e.known.Load())[asker] }

// stored says that a modern answer to the call was stored for the asker. It opens a listen for the partition if there is
// none, with the call's own headers, version, client capabilities and client info, which are copied and kept in memory
// only. The uri of a resources/read is listened for as well. A tools/call opens nothing: no notification tells that its
// answer is old.
func (e *ears) stored(c *mcp.Call, asker Partition) {
	if e.o.Off || c.Era != mcp.EraModern || c.Method() == mcp.MethodToolsCall {
		return
	}
	e.touched(asker)
	uri := earURI(c)
	m := e.modern(asker)
	if m == nil {
		m = e.openModern(c, asker)
	}
	if m != nil && uri != "" {
		m.uris.add(uri)
	}
}

// modern returns the partition's modern half, nil if there is none. It takes no lock.
func (e *ears) modern(asker Partition) *earModern {
	if own := e.of(asker); own != nil {
		if l := own.open.Load(); l != nil {
			return l.modern.Load()
		}
	}
	return nil
}

func (e *ears) openModern(c *mcp.Call, asker Partition) *earModern {
	v := newEarVoice(c)
	if v == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	l := e.lifeLocked(asker)
	if l == nil {
		return nil
	}
	m := l.modern.Load()
	if m == nil {
		m = newEarModern(l, v)
		l.modern.Store(m)
		e.running.Go(m.run)
	}
	return m
}

// touched says that a request of the partition passed: it is listened for earIdle longer, if it is at all.
func (e *ears) touched(asker Partition) {
	if own := e.of(asker); own != nil {
		own.last.Store(e.now())
	}
}

// refused says that the server answered the partition 401 or 403: its streams close. The next answer stored opens them
// again.
func (e *ears) refused(asker Partition) {
	if own := e.of(asker); own != nil {
		if l := own.open.Load(); l != nil {
			e.closeLife(l)
		}
	}
}

// listening returns how many streams stand.
func (e *ears) listening() int { return int(e.stand.Load()) }

// wait returns when everything that the ears began has ended. Life must have ended, or end.
func (e *ears) wait() {
	<-e.o.Life.Done()
	e.mu.Lock()
	e.stopped = true
	e.mu.Unlock()
	e.running.Wait()
}

// lifeLocked returns the partition's open life, begun if need be; nil if there is no room or no time left for one.
func (e *ears) lifeLocked(asker Partition) *earLife {
	if e.stopped || e.o.Life.Err() != nil {
		return nil
	}
	own := e.earLocked(asker)
	if own == nil {
		return nil
	}
	if l := own.open.Load(); l != nil {
		return l
	}
	l := newEarLife(e, own, asker)
	own.open.Store(l)
	e.running.Go(l.keep)
	return l
}

// earLocked returns the partition's ear, made if there is room.
func (e *ears) earLocked(asker Partition) *ear {
	if own := e.of(asker); own != nil {
		return own
	}
	next := maps.Clone(*e.known.Load())
	if len(next) >= maxEars {
		maps.DeleteFunc(next, func(_ Partition, own *ear) bool { return e.spentLocked(own) })
	}
	if len(next) >= maxEars {
		return nil
	}
	own := new(ear)
	own.last.Store(e.now())
	next[asker] = own
	e.known.Store(&next)
	return own
}

// spentLocked reports whether there is nothing to remember of an ear.
func (e *ears) spentLocked(own *ear) bool {
	if own.open.Load() != nil {
		return false
	}
	now := e.now()
	for _, until := range own.declined {
		if now < until {
			return false
		}
	}
	return true
}

// closeLife ends a life, its credentials and streams with it. What the server refused is remembered. It may be called more
// than once.
func (e *ears) closeLife(l *earLife) {
	e.mu.Lock()
	defer e.mu.Unlock()
	l.cancel()
	l.ear.open.CompareAndSwap(l, nil)
	if e.of(l.asker) != l.ear || !e.spentLocked(l.ear) {
		return
	}
	next := maps.Clone(*e.known.Load())
	delete(next, l.asker)
	e.known.Store(&next)
}
