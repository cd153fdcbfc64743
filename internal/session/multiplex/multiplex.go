// Package multiplex lets several sessions use one process of a stdio server, by the operator's word (`sessions: shared`).
//
// A Multiplexer has the processes of one entry: one for each version of the protocol that was asked for and that there is, or so many replicas of it.
// The daemon initialises each as itself, with no capabilities of a client, and gives each session a Session, which is
// what streamable.Server wants. It promises:
//   - answers, progress, tasks and cancellations are those of the session that asked; a progress token that no agent gave, and
//     what nobody can be told to own, reaches no session that shares its process with another;
//   - changes of lists reach every session of the process, updates of a resource those that have subscribed to it;
//   - a log message reaches a session only while it is the only one of the process, and has been for a while; else the
//     daemon's log, at debug. The most verbose level of all goes up, each session gets its own level or above;
//   - a request of the server's is refused, since no client can be told apart; its ping is answered here;
//   - an agent that does not read holds back no other: its notifications are dropped, its answers wait in a queue of its own.
//
// Whoever lets agents share a process gives up what the server keeps for one client: a tool may still tell one agent what
// another has left there. What belongs to a message is kept apart here, and nothing else can be.
//
// It leaves to others: sessions, their streams and their healing (streamable), processes, their number and when they go (stdio).
package multiplex

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

// Process is a process of the server. Its methods are safe for concurrent use.
type Process interface {
	// Request sends a request under an id of the daemon's own, which it returns. take gets what names it, ids and tokens put
	// back, the answer last. One goroutine calls it, and what it is given is its own.
	Request(ctx context.Context, body []byte, m *mcp.Message, take func(data []byte, m *mcp.Message)) ([]byte, *mcp.Failure)
	// Forget drops a request that has no answer yet.
	Forget(id []byte)
	// Send sends a notification or an answer.
	Send(ctx context.Context, body []byte, m *mcp.Message) *mcp.Failure
	// Ended is closed when nothing can be sent or will come any more; Failure then says why.
	Ended() <-chan struct{}
	Failure() *mcp.Failure
	// Received counts the messages that have come; Outdated, Check, GaveUp and Checking are streamable.Server's.
	Received() uint64
	Outdated() bool
	Check(id []byte)
	GaveUp(id []byte, waited time.Duration)
	Checking() <-chan struct{}

	// Enter begins a use and reports false where the process is on its way; Leave ends it. Note says that the process holds state,
	// and whether a session has a stream open; Share, how many sessions have it. Release gives it up.
	Enter() bool
	Leave()
	Note(state, stream bool)
	Share(sessions int)
	Release()
}

// Options are what a Multiplexer needs; Upstream and Start are required.
type Options struct {
	Upstream string // the configured name
	Version  string // that the daemon gives itself in initialize
	Replicas int    // `processes.replicas`: processes of one version of the protocol, at most; 0: 1

	// Start starts a process whose first message is that initialize, and returns the raw answer to it, under its id. other gets
	// what the process sends and no request asked for; the process's reader calls it, and what it is given is its own. The Process
	// is entered once. With ReasonStillStarting the start goes on, and the next Start waits for the same.
	Start func(ctx context.Context, initialize []byte, m *mcp.Message, other func(data []byte, m *mcp.Message)) (Process, []byte, *mcp.Failure)

	Handshake time.Duration       // `timeouts.handshake`: how long an agent waits for a start that another has begun; 0: 55 s
	Joined    func(time.Duration) // is told of each session that was given a process which it did not start, and how long that took; nil: nobody is
	Mask      func(string) string // takes secrets out of what the server wrote, before it is logged; nil: there are none

	Base context.Context // the daemon's; nil: context.Background
	Log  *slog.Logger    // nil: silent
}

func (o *Options) fill() {
	o.Replicas = cmp.Or(o.Replicas, 1)
	o.Handshake = cmp.Or(o.Handshake, 55*time.Second)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Joined == nil {
		o.Joined = func(time.Duration) {}
	}
	if o.Mask == nil {
		o.Mask = func(text string) string { return text }
	}
	if o.Base == nil {
		o.Base = context.Background()
	}
}

// Multiplexer has the shared processes of one entry. Make it with New.
type Multiplexer struct {
	opts Options
	ids  *mcp.IDs        // of progress tokens of tasks
	base context.Context // ends with Options.Base, or with Close
	stop context.CancelFunc

	warned warned

	mu       sync.Mutex            // guards the following; held while base ends, and while something is added to running
	replicas map[string][]*replica // by version of the protocol; none is empty
	running  sync.WaitGroup        // none is added once base has ended
}

// replica is the place of one process, from its start to its end.
type replica struct {
	version string
	waiting int // sessions that are to have it; guarded by Multiplexer.mu

	slow chan struct{} // closed when the start takes longer than an agent waits; late is there then
	late *mcp.Failure

	done    chan struct{} // closed when the following are there
	process *process      // nil: the start failed, or initialize was refused
	answer  []byte        // to initialize, raw
	m       mcp.Message   // of it
	failure *mcp.Failure  // of the start
}

// maxVersion bounds the version of the protocol that an agent asks for, in bytes.
const maxVersion = 64

// New makes a Multiplexer. It starts nothing yet, and is to be closed.
func New(o Options) *Multiplexer {
	o.fill()
	x := &Multiplexer{opts: o, ids: mcp.NewIDs(), replicas: make(map[string][]*replica)}
	x.base, x.stop = context.WithCancel(o.Base)
	return x
}

// Close gives the processes up and returns when what is under way has ended. The sessions have been released before.
func (x *Multiplexer) Close() {
	x.mu.Lock()
	x.stop()
	var all []*replica
	for _, of := range x.replicas {
		all = append(all, of...)
	}
	x.mu.Unlock()
	for _, r := range all {
		<-r.done // base has ended: soon
		if r.process != nil {
			r.process.lease.Release()
		}
	}
	x.running.Wait()
}

// start runs f on a goroutine of the Multiplexer's, unless it is closed.
func (x *Multiplexer) start(f func()) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.startLocked(f)
}

func (x *Multiplexer) startLocked(f func()) bool {
	if x.base.Err() != nil {
		return false
	}
	x.running.Go(f)
	return true
}

// Open gives a session a process of the version of the protocol that it asks for, and the answer to its initialize: that of the
// process to the daemon's own, under its id. other gets what the session is sent and has not asked for. The Session is entered once.
func (x *Multiplexer) Open(ctx context.Context, initialize []byte, m *mcp.Message, other func([]byte, *mcp.Message)) (*Session, []byte, *mcp.Failure) {
	version, ok := mcp.Text(mcp.MemberOf(m.Params.Of(initialize), "protocolVersion"))
	if !ok || len(version) > maxVersion {
		return refused(), answerTo(initialize, m, rpcError(codeInvalidParams, "initialize names no protocolVersion that can be asked for")), nil
	}
	version = negotiable(version)
	begun := time.Now()
	for {
		r, isFirst := x.join(version)
		if r == nil {
			return nil, nil, mcp.Draining()
		}
		f := x.await(ctx, r, isFirst)
		var s *Session
		if f == nil && r.process != nil {
			s = r.process.attach(other)
		}
		x.leave(r)
		switch {
		case f != nil:
			return nil, nil, f
		case r.process == nil:
			return refused(), r.answerTo(initialize, m), nil
		case s != nil && !isFirst:
			x.opts.Joined(time.Since(begun))
			fallthrough
		case s != nil:
			return s, r.answerTo(initialize, m), nil
		}
		x.drop(r) // it is on its way: another is started
	}
}

// negotiable is the version for which a process is started where an agent asks for that one: of what is no version with an initialize, the
// latest that is one, as a server would choose it (2025-11-25, basic/lifecycle, "Version Negotiation"). Else each text that an agent asks
// for would have a process.
func negotiable(version string) string {
	if !mcp.KnownVersion(version) || mcp.EraOf(version) == mcp.EraModern {
		return mcp.Version20251125
	}
	return version
}

// join returns the replica for a session, and whether its start begins for it: that with the fewest sessions, or another one where
// there may be one. It returns nil where the Multiplexer is closed.
func (x *Multiplexer) join(version string) (best *replica, isFirst bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	all := x.replicas[version]
	least := 0
	for _, r := range all {
		if n := r.sessionsLocked(); best == nil || n < least {
			best, least = r, n
		}
	}
	if best == nil || least > 0 && len(all) < x.opts.Replicas {
		best = &replica{version: version, slow: make(chan struct{}), done: make(chan struct{})}
		if !x.startLocked(func() { x.run(best) }) {
			return nil, false
		}
		x.replicas[version] = append(all, best)
		isFirst = true
	}
	best.waiting++
	return best, isFirst
}

// sessionsLocked counts those that have the process and those that are to have it.
func (r *replica) sessionsLocked() int {
	n := r.waiting
	select {
	case <-r.done:
		if r.process != nil {
			n += int(r.process.attached.Load())
		}
	default:
	}
	return n
}

func (x *Multiplexer) leave(r *replica) {
	x.mu.Lock()
	defer x.mu.Unlock()
	r.waiting--
}

// drop takes a replica out whose process goes.
func (x *Multiplexer) drop(r *replica) {
	x.mu.Lock()
	defer x.mu.Unlock()
	rest := slices.DeleteFunc(x.replicas[r.version], func(other *replica) bool { return other == r })
	if x.replicas[r.version] = rest; len(rest) == 0 {
		delete(x.replicas, r.version)
	}
}

// await waits for the start as long as an agent does. Whoever started it is told by the start itself when that is.
func (x *Multiplexer) await(ctx context.Context, r *replica, isFirst bool) *mcp.Failure {
	timer := time.NewTimer(x.opts.Handshake)
	defer timer.Stop()
	slow, late := r.slow, timer.C
	if isFirst {
		late = nil
	} else {
		slow = nil
	}
	select {
	case <-r.done:
	case <-slow:
	case <-late:
	case <-ctx.Done():
		return mcp.Canceled(ctx, mcp.SentNo)
	}
	select {
	case <-r.done:
		if r.failure == nil {
			return nil
		}
		own := *r.failure
		return &own
	default:
	}
	return r.stillStarting(x.opts.Handshake)
}

// stillStarting is the failure of who does not wait any longer.
func (r *replica) stillStarting(after time.Duration) *mcp.Failure {
	select {
	case <-r.slow:
		own := *r.late
		return &own
	default:
	}
	return &mcp.Failure{
		Code: mcp.CodeDeadlinePassed, Reason: mcp.ReasonStillStarting, Sent: mcp.SentNo, RetryAfter: time.Second,
		Message: "the server's process, which other sessions wait for too, is still starting after " + after.String() + "; the start goes on",
	}
}

// answerTo returns the answer under the id of another initialize.
func (r *replica) answerTo(initialize []byte, m *mcp.Message) []byte {
	own := r.m
	return own.Splice(nil, r.answer, own.ID, m.ID.Of(initialize))
}

// run starts the process of a replica and waits for its end. The daemon's context bounds the start, and not that of any agent.
func (x *Multiplexer) run(r *replica) {
	p := newProcess(x)
	body := x.initialize(r.version)
	m := scanned(body)
	lease, answer, f := x.opts.Start(x.base, body, m, p.other)
	for f != nil && f.Reason == mcp.ReasonStillStarting && x.base.Err() == nil {
		if r.late == nil {
			r.late = f
			close(r.slow)
		}
		lease, answer, f = x.opts.Start(x.base, body, m, p.other)
	}
	if f != nil {
		r.failure = f
		x.drop(r)
		close(r.done)
		return
	}
	r.answer = bytes.TrimSpace(answer)
	if err := mcp.Scan(r.answer, &r.m); err != nil {
		panic("multiplex: an answer that was read cannot be read again (this is a bug): " + err.Error())
	}
	if r.m.Kind != mcp.KindResult { // what the server refuses, it refuses to all who wait
		lease.Leave()
		lease.Release()
		x.drop(r)
		close(r.done)
		return
	}
	p.begin(lease, mcp.MemberOf(r.m.Result.Of(r.answer), "capabilities"))
	r.process = p
	close(r.done)
	lease.Leave()
	<-lease.Ended()
	x.drop(r)
	p.end()
}

// initialize is the daemon's own.
func (x *Multiplexer) initialize(version string) []byte {
	params := struct {
		ProtocolVersion string            `json:"protocolVersion"`
		Capabilities    struct{}          `json:"capabilities"`
		ClientInfo      map[string]string `json:"clientInfo"`
	}{ProtocolVersion: version, ClientInfo: map[string]string{"name": "fluentd-perf", "version": x.opts.Version}}
	text, err := json.Marshal(params)
	if err != nil {
		panic("multiplex: an initialize of the daemon's own cannot be written (this is a bug): " + err.Error())
	}
	return slices.Concat([]byte(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":`), text, []byte("}"))
}

// scanned is the scan of a message of the daemon's own.
func scanned(own []byte) *mcp.Message {
	var m mcp.Message
	if err := mcp.Scan(own, &m); err != nil {
		panic("multiplex: a message of the daemon's own is none (this is a bug): " + err.Error())
	}
	return &m
}
