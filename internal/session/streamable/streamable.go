// Package streamable is the Streamable HTTP server (2025-03-26 to 2025-11-25) in front of servers that know no HTTP: one
// process for each session of an agent's, or what package multiplex gives it of one that sessions share. It mints the session ids, and
// says on which stream a server's message goes.
//
// A Front is an mcp.Caller in the place of an upstream, the innermost stage: what is above it takes it for a server over
// HTTP. It promises:
//   - a session belongs to the credential that opened it; to any other there is no such session (404);
//   - what a server sends goes to its own session's agent, on exactly one stream, and can be had again by Last-Event-ID from a
//     bounded buffer;
//   - a request of a server's that no agent was given within a minute is refused, and its ping is answered here;
//   - a session that is opened as others were before needs no process before it asks for something that is not remembered (recall.go);
//   - a session outlives its process. It is a record (record.go): the agent's initialize, log level, subscriptions, whether it has state.
//     Where the process has gone, by itself, because nobody used it, or with a former daemon, the next call gets another
//     one, to which all that has been said again (recovery.go).
//
// That last one is what package session does for HTTP servers, which is therefore not in the pipeline above a Front. It finds
// out that a session is lost by what a server answers, and knows nothing of processes; here the loss is known before a call is sent,
// the records have to survive the daemon, and a process that gives way to others is not the server's fault. Above a Front it
// would never see a loss. What agents see is the same: 1410 once where there was state, 404 where a session cannot be opened again.
//
// It leaves to others: processes, their number, and when they go (Server).
package streamable

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/session/remembered"
)

// Server is the process of one session. Its methods are safe for concurrent use.
type Server interface {
	// Request sends a request under an id of the daemon's own, which it returns. take gets what names it, ids and tokens put
	// back, the answer last. One goroutine calls it, and what it is given is its own.
	Request(ctx context.Context, body []byte, m *mcp.Message, take func(data []byte, m *mcp.Message)) ([]byte, *mcp.Failure)
	// Forget drops a request that has no answer yet.
	Forget(id []byte)
	// Send sends a notification or an answer.
	Send(ctx context.Context, body []byte, m *mcp.Message) *mcp.Failure
	// Ended is closed when nothing can be sent or will come any more; Failure then says why. Its Reason is ReasonCanceled where
	// the process did not end by itself.
	Ended() <-chan struct{}
	Failure() *mcp.Failure
	// Received counts the messages that have come.
	Received() uint64
	// Outdated reports whether a later process of the same server had something else on disk: what this one says is no other session's.
	Outdated() bool
	// Check asks the process in the background whether it still answers, and ends one that does not. It is for a request that has
	// timed out, by the id that Request returned, before it is forgotten; GaveUp is for one that its agent gave up after it had waited
	// so long. Checking returns what is closed when that is over, nil where it does not go on.
	Check(id []byte)
	GaveUp(id []byte, waited time.Duration)
	Checking() <-chan struct{}

	// Enter begins a use and reports false where the process is on its way; Leave ends it. Note says whether the process
	// holds state, and whether its agent has a stream open. Release gives it up.
	Enter() bool
	Leave()
	Note(state, stream bool)
	Release()
}

// Heal says what becomes of a session whose process has gone.
type Heal uint8

// `sessions.heal`. HealReads opens the session again and lets the agent know by one error; HealAll is the operator's word
// that the server keeps no state, so that nobody has to know; HealOff ends the session.
const (
	HealReads Heal = iota
	HealAll
	HealOff
)

// Replacement is what became of a session whose process went.
type Replacement string

// The Replacements. A session is lost for all but the first and the last one.
const (
	ReplacementHealed      Replacement = "healed"
	ReplacementChanged     Replacement = "changed"     // another process had another protocol version, capabilities or server name
	ReplacementTooOften    Replacement = "too_often"   // processes ended by themselves more than three times in a minute
	ReplacementUnknown     Replacement = "unknown"     // its initialize was too large to be kept
	ReplacementUnreachable Replacement = "unreachable" // no process could be started; the next call tries again
)

// Options are what a Front needs; Upstream and Open are required.
type Options struct {
	Upstream string // the configured name
	// Open gives a session a process that answers that initialize, and the answer under its id. other gets what
	// the process sends and no request asked for. The Server is entered once.
	Open func(ctx context.Context, initialize []byte, m *mcp.Message, other func(data []byte, m *mcp.Message)) (Server, []byte, *mcp.Failure)

	Memory   *remembered.Memory                                          // what processes have answered before; nil: every session needs one at once
	Eager    bool                                                        // a session that is opened from Memory is given a process behind, not only when it needs it
	Recalled func(initialize []byte, m *mcp.Message, took time.Duration) // is told of each session that is opened from Memory; nil: nobody is
	Unneeded func()                                                      // is told of each of them that has ended without a process; nil: nobody is

	Store      *Store                   // nil: one of its own, without a file
	Partition  func(*mcp.Call) [32]byte // whose a call is; nil: everybody's
	Repeatable func(*mcp.Call) bool     // what may be sent again though nobody knows whether it ran; nil: Call.Repeatable
	Heal       Heal
	Base       context.Context // the daemon's; nil: context.Background

	FirstByte time.Duration // `timeouts.first_byte`; 0: 55 s
	Handshake time.Duration // `timeouts.handshake`; 0: 55 s
	Call      time.Duration // `timeouts.call`; 0: 30 min
	Idle      time.Duration // `timeouts.idle`; 0: 5 min

	Answered func(kind mcp.Group, took time.Duration) // is told of each answer of a process; nil: nobody is
	Replaced func(Replacement)                        // is told of each session whose process went and that needed another; nil: nobody is

	Log *slog.Logger // nil: silent
}

func (o *Options) fill() {
	o.FirstByte = cmp.Or(o.FirstByte, 55*time.Second)
	o.Handshake = cmp.Or(o.Handshake, 55*time.Second)
	o.Call = cmp.Or(o.Call, 30*time.Minute)
	o.Idle = cmp.Or(o.Idle, 5*time.Minute)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	o.Store = cmp.Or(o.Store, NewStore(StoreOptions{}))
	if o.Partition == nil {
		o.Partition = func(*mcp.Call) [32]byte { return [32]byte{} }
	}
	if o.Repeatable == nil {
		o.Repeatable = (*mcp.Call).Repeatable
	}
	if o.Base == nil {
		o.Base = context.Background()
	}
	if o.Answered == nil {
		o.Answered = func(mcp.Group, time.Duration) {}
	}
	if o.Replaced == nil {
		o.Replaced = func(Replacement) {}
	}
	if o.Recalled == nil {
		o.Recalled = func([]byte, *mcp.Message, time.Duration) {}
	}
	if o.Unneeded == nil {
		o.Unneeded = func() {}
	}
}

// Front is the Streamable HTTP server of one upstream. Make it with New.
type Front struct {
	opts Options
	tag  string // of event ids: this Front's alone

	late atomic.Uint32 // lists that an agent asked for after it had answered its process, as bits by their place in remembered.Lists

	base context.Context // ends with Options.Base, or with Close
	stop context.CancelFunc

	mu      sync.Mutex     // held while base ends, and while something is added to running
	running sync.WaitGroup // recoveries and watchers; none is added once base has ended
}

// New makes a Front, with the sessions that its Store has of it. It is to be closed.
func New(o Options) *Front {
	o.fill()
	f := &Front{opts: o, tag: rand.Text()[:8]}
	f.base, f.stop = context.WithCancel(o.Base)
	o.Store.claim(f)
	return f
}

// Close gives up what is under way, lets the processes go and returns when that has ended. The sessions stay in the Store.
func (f *Front) Close() {
	f.mu.Lock()
	f.stop()
	f.mu.Unlock()
	f.running.Wait()
	f.opts.Store.release(f)
}

// Sessions returns how many there are.
func (f *Front) Sessions() int { return len(f.opts.Store.of(f)) }

// start runs g on a goroutine of the Front's, unless it is closed.
func (f *Front) start(g func()) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.base.Err() != nil {
		return false
	}
	f.running.Go(g)
	return true
}

const (
	sessionHeader   = "Mcp-Session-Id"
	lastEventHeader = "Last-Event-Id"
)

// Call answers one call, or returns a *mcp.Failure and no other error.
func (f *Front) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	res, failure := f.call(ctx, c)
	if failure != nil {
		return nil, failure
	}
	return res, nil
}

func (f *Front) call(ctx context.Context, c *mcp.Call) (*mcp.Result, *mcp.Failure) {
	id := c.Header.Get(sessionHeader)
	if id == "" {
		return f.callOutside(ctx, c)
	}
	s := f.opts.Store.find(f, id)
	if s == nil || s.owner != f.opts.Partition(c) {
		return lost(), nil
	}
	switch c.Lane {
	case mcp.LaneRequest, mcp.LaneListen:
		return s.request(ctx, c)
	case mcp.LaneNotification:
		return s.notify(ctx, c)
	case mcp.LaneResponse:
		return s.respond(ctx, c)
	case mcp.LaneStream:
		return s.open(ctx, c)
	case mcp.LaneEnd:
		f.opts.Store.remove(s)
		s.end()
		return &mcp.Result{Status: http.StatusNoContent}, nil
	case mcp.LaneOpaque, mcp.LaneBatch:
		return s.array(ctx, c)
	}
	return notAllowed(), nil
}

// callOutside answers a call without a session.
func (f *Front) callOutside(ctx context.Context, c *mcp.Call) (*mcp.Result, *mcp.Failure) {
	switch c.Lane {
	case mcp.LaneRequest:
		if c.Method() == mcp.MethodInitialize {
			return f.initialize(ctx, c)
		}
	case mcp.LaneOpaque, mcp.LaneBatch:
		if failure := unreadable(c); failure != nil {
			return nil, failure
		}
	case mcp.LaneMessage:
		return notAllowed(), nil
	}
	return textResult(http.StatusBadRequest, "the Mcp-Session-Id header is missing: initialize comes first"), nil
}

// initialize opens a session.
func (f *Front) initialize(ctx context.Context, c *mcp.Call) (*mcp.Result, *mcp.Failure) {
	if res := f.recall(c); res != nil {
		return res, nil
	}
	begun := time.Now()
	s := newSession(f, rand.Text(), f.opts.Partition(c))
	l := &link{s: s}
	server, answer, failure := f.opts.Open(ctx, c.Body, &c.Message, l.take)
	if failure != nil {
		return nil, failure
	}
	defer server.Leave()
	var m mcp.Message
	if mcp.Scan(answer, &m) != nil {
		m = mcp.Message{}
	}
	res := jsonResult(c, answer, &m)
	res.Timing.Upstream = time.Since(begun)
	f.opts.Answered(c.Method().Group(), res.Timing.Upstream)
	facts, version, ok := factsOf(answer, &m)
	if m.Kind != mcp.KindResult || !ok {
		server.Release()
		return res, nil
	}
	s.facts, s.version = facts, version
	if whole := c.Message.Whole.Of(c.Body); len(whole) <= maxInitialize {
		s.initialize = slices.Clone(whole)
	}
	l.know(server)
	if !s.attach(l, server) {
		server.Release()
		return nil, mcp.Draining()
	}
	f.opts.Store.add(s)
	res.Header.Set(sessionHeader, s.id)
	return res, nil
}

// unreadable is the failure of a body that is no message, nil for an array.
func unreadable(c *mcp.Call) *mcp.Failure {
	if mcp.IsEncoded(c.Header) {
		return &mcp.Failure{Code: mcp.CodeParse, Reason: mcp.ReasonParse, Sent: mcp.SentNo, Message: "an encoded body: a stdio server takes JSON only"}
	}
	var m mcp.Message
	switch fault, _ := mcp.Scan(c.Body, &m).(*mcp.ScanError); {
	case fault == nil:
		return nil
	case fault.Invalid:
		return invalid(fault.Error())
	default:
		return &mcp.Failure{Code: mcp.CodeParse, Reason: mcp.ReasonParse, Sent: mcp.SentNo, Message: fault.Error()}
	}
}

func invalid(message string) *mcp.Failure {
	return &mcp.Failure{Code: mcp.CodeInvalidRequest, Reason: mcp.ReasonInvalidMessage, Sent: mcp.SentNo, Message: message}
}

// lost is what an unknown session gets (2025-11-25, basic/transports, "Session Management").
func lost() *mcp.Result { return textResult(http.StatusNotFound, "session not found") }

func notAllowed() *mcp.Result {
	res := textResult(http.StatusMethodNotAllowed, "not here")
	res.Header.Set("Allow", "GET, POST, DELETE")
	return res
}

func textResult(status int, text string) *mcp.Result {
	return &mcp.Result{
		Status: status, Header: header.List{{Name: "Content-Type", Value: "text/plain; charset=utf-8"}}, Body: []byte("fluentd-perf: " + text + "\n"),
	}
}

// jsonResult is an answer of the server's that has come whole.
func jsonResult(c *mcp.Call, data []byte, m *mcp.Message) *mcp.Result {
	m.Loose = m.Loose || !c.Answers(data, m)
	return &mcp.Result{
		Status: http.StatusOK, Header: header.List{{Name: "Content-Type", Value: "application/json"}}, Body: data, Message: *m, Checked: !m.Loose,
	}
}
