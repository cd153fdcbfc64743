package session

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// Heal says what becomes of a session that its server has lost.
type Heal uint8

// `sessions.heal`. HealReads opens the session again and lets the agent know by one error; HealAll is the operator's word
// that the server keeps no state, so that nobody has to know; HealOff passes on what the server says.
const (
	HealOff Heal = iota
	HealReads
	HealAll
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
	Credential func(*mcp.Call) [32]byte // who asks, by the headers that go to the server; nil means HealOff
	Repeatable func(*mcp.Call) bool     // what may be sent again though nobody knows whether it ran; nil means Call.Repeatable
	Recovered  func()                   // is told of each session that was opened again: another server may answer now; nil means nobody is
	Base       context.Context          // the daemon's: a recovery belongs to all who wait for it; nil means context.Background
}

func (o *Options) fill() {
	o.Metrics = cmp.Or(o.Metrics, NewMetrics(nil))
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	o.Bound = cmp.Or(o.Bound, new(Bound))
	if o.Probe == nil {
		o.Probe = o.Next
	}
	if o.Recovered == nil {
		o.Recovered = func() {}
	}
	if o.Base == nil {
		o.Base = context.Background()
	}
	if o.Repeatable == nil {
		o.Repeatable = (*mcp.Call).Repeatable
	}
	if o.Credential == nil {
		o.Heal = HealOff
	}
}

// Stage is the session stage of one upstream with the Streamable HTTP transport. Make it with New.
type Stage struct {
	opts     Options
	sessions table
	ids      *mcp.IDs // of requests of the stage's own
	tag      string   // of event ids: this stage's alone, so that none of a server's own begins so

	base           context.Context // ends with Options.Base, or with Close
	stop           context.CancelFunc
	healed, gaveUp atomic.Int64

	mu      sync.Mutex     // held while base ends, and while something is added to running
	running sync.WaitGroup // recoveries and pings; none is added once base has ended
}

// New makes a Stage. It is to be closed.
func New(o Options) *Stage {
	o.fill()
	s := &Stage{opts: o, sessions: newTable(o.Bound), ids: mcp.NewIDs(), tag: rand.Text()[:8] + "-"}
	s.base, s.stop = context.WithCancel(o.Base)
	return s
}

// Close gives up the recoveries and pings that are going on and returns when they have ended. Calls may still come; none of
// them begins another.
func (s *Stage) Close() {
	s.mu.Lock()
	s.stop()
	s.mu.Unlock()
	s.running.Wait()
}

// Forget forgets all sessions, so that they take no room among those of other Stages. No call comes any more.
func (s *Stage) Forget() { s.sessions.clear() }

// start runs f on a goroutine of the stage's, unless the stage is closed or the daemon stops.
func (s *Stage) start(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.base.Err() != nil {
		return false
	}
	s.running.Go(f)
	return true
}

// Status is what a Stage knows and has done since the start, each number by itself exact.
type Status struct {
	Sessions int   `json:"sessions"` // remembered; no server says which of them it still has
	Healed   int64 `json:"healed"`   // recoveries that succeeded
	GaveUp   int64 `json:"gaveUp"`   // losses that were passed on, and recoveries that failed
}

// Status returns the stage's numbers.
func (s *Stage) Status() Status {
	return Status{Sessions: s.sessions.len(), Healed: s.healed.Load(), GaveUp: s.gaveUp.Load()}
}

func (s *Stage) heals() bool { return s.opts.Heal != HealOff }

// Call answers one call. What concerns this stage are GET streams, the beginning and the end of a session and, where lost
// sessions are recovered, every call within one; all else goes straight on, once a GET of its session that came before has
// been written.
func (s *Stage) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	if c.Lane == mcp.LaneStream {
		return s.open(ctx, c)
	}
	id := sessionID(c.Header)
	e := s.sessions.find(id)
	if e != nil {
		e.waitForGETs(ctx)
	}
	switch c.Lane {
	case mcp.LaneEnd:
		return s.end(ctx, c, e)
	case mcp.LaneRequest, mcp.LaneNotification, mcp.LaneResponse, mcp.LaneOpaque:
		initialize := c.Method() == mcp.MethodInitialize
		switch {
		case c.Era != mcp.EraLegacy:
		case id == "" && initialize && c.Lane == mcp.LaneRequest:
			return s.initialize(ctx, c)
		case id != "" && !initialize && s.heals():
			return s.within(ctx, c, e)
		}
	}
	return s.opts.Next.Call(ctx, c)
}

func (s *Stage) discard(res *mcp.Result) {
	if err := res.Close(); err != nil {
		s.opts.Log.Debug("closing an answer", "upstream", s.opts.Upstream, "error", err)
	}
}

const (
	sessionHeader   = "Mcp-Session-Id"
	lastEventHeader = "Last-Event-Id"
)

// sessionID returns the first Mcp-Session-Id, or "".
func sessionID(h header.List) string { return h.Get(sessionHeader) }

func isGood(status int) bool { return status >= 200 && status < 300 }
