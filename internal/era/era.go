// Package era finds out which era a server speaks, for calls that do not say theirs: server/discover, then initialize
// (2026-07-28, basic/versioning).
//
// It promises:
//   - one probe under way for each partition, with that one's credential, and its answer for all who wait;
//   - what was found out is remembered for everybody, until an answer contradicts it; a failure is not remembered;
//   - a request is said to have not run only where that is sure.
//
// It leaves to others how a request looks in each era, and sessions.
package era

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// timeout bounds one probe, initialize included.
const timeout = time.Minute

// Options are those of a Finder. All are required.
type Options struct {
	Upstream string       // the upstream's configured name
	Next     mcp.Caller   // takes server/discover
	Client   []byte       // clientInfo, as JSON
	IDs      *mcp.IDs     // of the daemon's own calls
	Go       func(func()) // runs what may outlive its caller, and is waited for
	Log      *slog.Logger

	Base context.Context // its end ends all probes
}

// Finder finds out the era of one server. It is safe for concurrent use.
type Finder struct {
	opts Options

	mu     sync.Mutex // guards the following
	known  *Known
	probes map[[32]byte]*probe // by partition: one caller's credential says nothing of another's
}

// Known is an era that was found out. It does not change.
type Known struct {
	Era    mcp.Era
	proved bool // by a DiscoverResult
}

// probe is one under way.
type probe struct {
	done    chan struct{} // closed when the following are there
	known   *Known
	failure *mcp.Failure
}

// Principal is who wants to know.
type Principal struct {
	Partition   [32]byte
	Header      header.List // of server/discover, without what is MCP's
	Query, Conn string
	Initialize  func(context.Context) *mcp.Failure // opens a legacy session; nil: the server is legacy
}

// New returns a Finder that knows nothing.
func New(o Options) *Finder { return &Finder{opts: o, probes: map[[32]byte]*probe{}} }

// Find returns the era of the server. The failure is of what waited for that, and was not sent.
func (f *Finder) Find(ctx context.Context, by Principal) (*Known, *mcp.Failure) {
	f.mu.Lock()
	if f.known != nil {
		defer f.mu.Unlock()
		return f.known, nil
	}
	p := f.probes[by.Partition]
	if p == nil {
		p = &probe{done: make(chan struct{})}
		f.probes[by.Partition] = p
		f.opts.Go(func() { f.run(p, by) })
	}
	f.mu.Unlock()
	select {
	case <-p.done:
		return p.known, p.failure
	case <-ctx.Done():
		return nil, mcp.Canceled(ctx, mcp.SentNo)
	}
}

// run runs one probe, and remembers its answer.
func (f *Finder) run(p *probe, by Principal) {
	defer func() {
		if panicked := recover(); panicked != nil {
			f.opts.Log.Error("bug: a server/discover panicked", "upstream", f.opts.Upstream, "panic", panicked)
			p.failure = Unsent(mcp.InternalFailure(fmt.Errorf("panic: %v", panicked)))
		}
		f.mu.Lock()
		delete(f.probes, by.Partition)
		if p.known != nil {
			f.known = p.known
		}
		f.mu.Unlock()
		close(p.done)
	}()
	ctx, cancel := context.WithTimeout(f.opts.Base, timeout)
	defer cancel()
	if p.known, p.failure = f.discover(ctx, by); p.known != nil || p.failure != nil {
		return
	}
	if p.failure = by.Initialize(ctx); p.failure == nil {
		p.known = &Known{Era: mcp.EraLegacy}
	}
}

// Check holds an answer to a request, which went out in the era known, against that. It reports whether the request is to be
// sent again, in the era that Find says then.
func (f *Finder) Check(known *Known, r *Reply) (again bool) {
	var now *Known
	switch {
	case known.Era != mcp.EraModern:
		if again = r.modernOnly(); !again {
			return false
		}
	case !r.notModern():
		return false
	case r.notExecuted(known):
		again, now = true, &Known{Era: mcp.EraLegacy}
	}
	f.replace(known, now)
	return again
}

// Forget forgets an era that was wrong.
func (f *Finder) Forget(known *Known) { f.replace(known, nil) }

func (f *Finder) replace(wrong, now *Known) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known == wrong {
		f.known = now
	}
}

// discover asks a server whether it is modern. Neither an answer nor a failure means that it is not.
func (f *Finder) discover(ctx context.Context, by Principal) (*Known, *mcp.Failure) {
	c := f.request(by)
	res, err := f.opts.Next.Call(ctx, c)
	if err != nil {
		return unanswered(ctx, mcp.AsFailure(err))
	}
	defer func() { _ = res.Close() }() // whatever there was to read has been read
	r := Reply{Status: res.Status, Header: res.Header, Body: res.Scanned(), Repeatable: true}
	if res.Events != nil && !res.Checked {
		var failed *mcp.Failure
		if r.Body, failed = mcp.ReadAnswer(res.Events, c.ID(), func(*mcp.Event) *mcp.Failure { return nil }); failed != nil {
			return unanswered(ctx, failed)
		}
	}
	if mcp.Scan(r.Body, &r.Message) != nil || r.Message.Loose || !c.Answers(r.Body, &r.Message) {
		r.Body, r.Message = nil, mcp.Message{}
	}
	return eraOf(&r)
}

// unanswered is what a failure says of the era. A server that knows nothing of server/discover may answer anything.
func unanswered(ctx context.Context, f *mcp.Failure) (*Known, *mcp.Failure) {
	switch f.Reason {
	case mcp.ReasonBadAnswer:
		return nil, nil
	case mcp.ReasonCanceled:
		f = mcp.Canceled(ctx, mcp.SentNo)
	}
	return nil, Unsent(f)
}

// request is a server/discover.
func (f *Finder) request(by Principal) *mcp.Call {
	body := fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%s,"method":"server/discover","params":{"_meta":{`+
		`"io.modelcontextprotocol/protocolVersion":%q,"io.modelcontextprotocol/clientInfo":%s,`+
		`"io.modelcontextprotocol/clientCapabilities":{}}}}`, f.opts.IDs.Next(), mcp.Version20260728, f.opts.Client)
	c := &mcp.Call{
		Upstream: f.opts.Upstream, Lane: mcp.LaneRequest, Era: mcp.EraModern, Version: mcp.Version20260728, Body: body,
		Header: by.Header.Clone(), Query: by.Query, Conn: by.Conn, Whole: true, Again: true, Start: time.Now(),
	}
	c.Header.Set("Mcp-Protocol-Version", c.Version)
	c.Header.Set("Mcp-Method", "server/discover")
	if err := mcp.Scan(body, &c.Message); err != nil {
		panic("era: a request of the daemon's own is none (this is a bug): " + err.Error())
	}
	return c
}

// eraOf reads the answer to server/discover.
func eraOf(r *Reply) (*Known, *mcp.Failure) {
	modern := &Known{Era: mcp.EraModern, proved: r.Message.Kind == mcp.KindResult}
	switch code := r.ErrorCode(); {
	case modern.proved:
		if speaksModern(r.Message.Result.Of(r.Body), "supportedVersions") {
			return modern, nil
		}
	case code == unsupportedVersion:
		if data := mcp.MemberOf(r.Message.Error.Of(r.Body), "data"); data != nil && speaksModern(data, "supported") {
			return modern, nil
		}
	case code == mcp.CodeHeaderMismatch || code == missingCapability: // which only modern servers know
		return modern, nil
	case r.Denied():
		return nil, Unsent(r.Failure())
	}
	return nil, nil
}

// speaksModern reports whether a list of versions has one that the daemon speaks as modern. None is no reason against it.
func speaksModern(object []byte, member string) bool {
	at, err := mcp.Member(object, member)
	if err != nil {
		return false
	}
	var versions []string
	if !at.Present() || json.Unmarshal(at.Of(object), &versions) != nil {
		return true
	}
	return slices.ContainsFunc(versions, func(v string) bool { return mcp.EraOf(v) == mcp.EraModern })
}

// Unsent returns the failure of calls that were not sent, because one failed like f that has to come before them.
func Unsent(f *mcp.Failure) *mcp.Failure {
	own := *f
	own.Sent = mcp.SentNo
	if own.Reason == mcp.ReasonCanceled { // the daemon's context, or a bound: no caller has left
		own.Code, own.Reason = mcp.CodeDeadlinePassed, mcp.ReasonCallTimeout
		own.Message = "the server could not be asked for its protocol version or a session"
	}
	return &own
}
