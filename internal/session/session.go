// Package session is the stage that knows what belongs together over more than one request: an agent's session with a
// server, its GET stream, and the two halves of the old HTTP+SSE transport.
//
// It promises that an agent's GET stream outlives a break on the server's side, that a session which the server has lost
// is opened anew where that is safe (Stage), and that an agent of the 2024-11-05 transport gets an answer or an error for
// every message that was accepted (Old). An agent knows its session by the id that the server gave it first; the id of a
// session that was opened anew never leaves this stage. Connections are the business of the stage behind it; the shape
// of errors that of the door.
package session

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// Options are what a Stage needs; Next is required.
type Options struct {
	Upstream string        // the configured name
	Next     mcp.Caller    // where calls go on
	Probe    mcp.Caller    // where a ping goes that asks whether a session lives: past queue, breaker and retry; nil means Next
	Reopen   time.Duration // `streams.reopen`: how long a broken GET stream is re-opened before it is closed; 0 for not at all
	Bound    *Bound        // what bounds the sessions of all Stages that have the same one; nil means one of its own
	Metrics  *Metrics      // nil means none
	Log      *slog.Logger  // nil means silent

	Heal       Heal                     // `sessions.heal`
	Credential func(*mcp.Call) [32]byte // who asks, by the headers that go to the server; nil switches healing off
	Repeatable func(*mcp.Call) bool     // what may be sent again though nobody knows whether it ran; nil means Call.Repeatable
	Base       context.Context          // the daemon's: a healing belongs to all who wait for it; nil means context.Background
}

func (o *Options) fill() {
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Credential == nil {
		o.Heal = HealOff
	}
	if o.Repeatable == nil {
		o.Repeatable = (*mcp.Call).Repeatable
	}
	if o.Probe == nil {
		o.Probe = o.Next
	}
	if o.Bound == nil {
		o.Bound = new(Bound)
	}
	if o.Base == nil {
		o.Base = context.Background()
	}
}

// Stage is the session stage of one upstream with the Streamable HTTP transport.
type Stage struct {
	opts     Options
	sessions table
	gets     unwritten

	base           context.Context // ends with Options.Base, or with Close
	stop           context.CancelFunc
	healed, gaveUp atomic.Int64

	mu      sync.Mutex // guards the following
	closed  bool
	running sync.WaitGroup // healings and pings; Add only under mu, while the stage is not closed
}

// New makes a Stage. It is to be closed.
func New(o Options) *Stage {
	o.fill()
	s := &Stage{opts: o, sessions: newTable(o.Bound)}
	s.base, s.stop = context.WithCancel(o.Base)
	return s
}

// Close gives up the healings and pings that are going on and returns when they have ended. Calls may still come; none of
// them sets off another.
func (s *Stage) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.running.Wait()
}

// start runs f on a goroutine of the stage's, unless the stage is closed.
func (s *Stage) start(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.running.Go(f)
	return true
}

// Status is what a Stage knows and has done since the start, each number by itself exact.
type Status struct {
	Sessions int   `json:"sessions"` // remembered; no server says which of them it still has
	Healed   int64 `json:"healed"`   // healings that succeeded
	GaveUp   int64 `json:"gaveUp"`   // losses that were passed on, and healings that failed
}

// Status returns the stage's numbers.
func (s *Stage) Status() Status {
	return Status{Sessions: s.sessions.len(), Healed: s.healed.Load(), GaveUp: s.gaveUp.Load()}
}

// Call answers one call. What concerns this stage are GET streams, the beginning and the end of a session and, where
// sessions are healed, every call within one; all else goes straight on, once a GET of its session that came before has
// been written.
func (s *Stage) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	if c.Lane == mcp.LaneStream {
		return s.open(ctx, c)
	}
	s.gets.wait(ctx, sessionID(c.Header))
	switch c.Lane {
	case mcp.LaneEnd:
		return s.end(ctx, c)
	case mcp.LaneRequest, mcp.LaneNotification, mcp.LaneResponse, mcp.LaneOpaque:
		if c.Era != mcp.EraLegacy {
			break
		}
		if id := sessionID(c.Header); id != "" && c.Method() != mcp.MethodInitialize && s.heals() {
			return s.within(ctx, c, id)
		} else if id == "" && c.Method() == mcp.MethodInitialize && c.Lane == mcp.LaneRequest {
			return s.initialize(ctx, c)
		}
	}
	return s.opts.Next.Call(ctx, c)
}

// sessionHeader is spelled as http.Header spells it.
const sessionHeader = "Mcp-Session-Id"

// sessionID returns the first Mcp-Session-Id, or "".
func sessionID(h http.Header) string {
	if ids := h[sessionHeader]; len(ids) > 0 {
		return ids[0]
	}
	return ""
}
