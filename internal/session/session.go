// Package session is the stage that knows what belongs together over more than one request: an agent's session with a
// server, its GET stream, and the two halves of the old HTTP+SSE transport.
//
// It promises that an agent's GET stream outlives a break on the server's side (Stage), and that an agent of the
// 2024-11-05 transport gets an answer or an error for every message that was accepted (Old). Session ids of servers pass
// through unchanged. Connections are the business of the stage behind it; the shape of errors that of the door.
package session

import (
	"context"
	"crypto/sha256"
	"log/slog"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

// Options are what a Stage needs; Next is required.
type Options struct {
	Upstream string        // the configured name
	Next     mcp.Caller    // where calls go on
	Reopen   time.Duration // `streams.reopen`: how long a broken GET stream is re-opened before it is closed; 0 for not at all
	Metrics  *Metrics      // nil means none
	Log      *slog.Logger  // nil means silent
}

func (o *Options) fill() {
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
}

// Stage is the session stage of one upstream with the Streamable HTTP transport.
type Stage struct {
	opts  Options
	table table
}

// New makes a Stage.
func New(o Options) *Stage {
	o.fill()
	return &Stage{opts: o, table: table{seen: make(map[[sha256.Size]byte]struct{})}}
}

// Call answers one call. Only GET streams and the end of a session concern this stage; all else goes straight on.
func (s *Stage) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	switch c.Lane {
	case mcp.LaneStream:
		return s.open(ctx, c)
	case mcp.LaneEnd:
		s.table.forget(sessionID(c))
	}
	return s.opts.Next.Call(ctx, c)
}

// sessionID returns the call's Mcp-Session-Id, or "".
func sessionID(c *mcp.Call) string { return c.Header.Get("Mcp-Session-Id") }

// maxSessions bounds the table; beyond it some session is forgotten, which costs it no more than one 503.
const maxSessions = 10_000

// table knows the sessions whose GET stream a server has accepted.
type table struct {
	mu   sync.Mutex
	seen map[[sha256.Size]byte]struct{} // by a hash: a server may mint ids of any length
}

func (t *table) accepted(id string) {
	if id == "" {
		return
	}
	key := sha256.Sum256([]byte(id))
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.seen[key]; !ok && len(t.seen) >= maxSessions {
		for some := range t.seen {
			delete(t.seen, some)
			break
		}
	}
	t.seen[key] = struct{}{}
}

func (t *table) hasAccepted(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, ok := t.seen[sha256.Sum256([]byte(id))]
	return ok
}

func (t *table) forget(id string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.seen, sha256.Sum256([]byte(id)))
}
