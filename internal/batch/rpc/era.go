package rpc

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

// ownCallTime bounds what is asked for all callers: discover, initialize, a list of tools.
const ownCallTime = time.Minute

// arrayEras is what is known of the upstream's era, for calls that say nothing of theirs.
type arrayEras struct {
	mu      sync.Mutex
	known   *eraKnown
	flights map[[32]byte]*eraFlight // by partition: one caller's credential says nothing of another's
}

// eraKnown is not changed after it was made.
type eraKnown struct {
	era     mcp.Era
	version string // modern
	proved  bool   // by a DiscoverResult
}

// eraFlight is a question under way.
type eraFlight struct {
	done    chan struct{} // closed when the following are there
	known   *eraKnown
	failure *mcp.Failure // of the calls that wait: none of them was sent
}

// replace puts something else, or nothing, in the place of what turned out wrong.
func (e *arrayEras) replace(wrong, now *eraKnown) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.known == wrong {
		e.known = now
	}
}

// learn returns the era of the upstream. Who does not know it asks, with the caller's headers: server/discover, then
// initialize (2026-07-28, basic/versioning).
func (r *arrayRun) learn(ctx context.Context) (*eraKnown, *mcp.Failure) {
	a, e := r.a, &r.a.eras
	key := r.whose()
	e.mu.Lock()
	if e.known != nil {
		known := e.known
		e.mu.Unlock()
		return known, nil
	}
	f := e.flights[key]
	if f == nil {
		f = &eraFlight{done: make(chan struct{})}
		e.flights[key] = f
		a.running.Add(1) // beside the array, which runs
		go func() {
			defer a.running.Done()
			r.find(key, f)
		}()
	}
	e.mu.Unlock()
	select {
	case <-f.done:
		return f.known, f.failure
	case <-ctx.Done():
		return nil, ended(ctx, &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentNo, Cause: ctx.Err()})
	}
}

// find flies one question.
func (r *arrayRun) find(key [32]byte, f *eraFlight) {
	e := &r.a.eras
	defer func() {
		if p := recover(); p != nil {
			r.a.opts.Log.Error("bug: a server/discover panicked", "upstream", r.a.opts.Upstream, "panic", p)
			f.failure = notAsked("fluentd-perf failed at this call", nil)
		}
		e.mu.Lock()
		delete(e.flights, key)
		if f.known != nil {
			e.known = f.known
		}
		e.mu.Unlock()
		close(f.done)
	}()
	ctx, cancel := context.WithTimeout(r.a.base, ownCallTime)
	defer cancel()
	if f.known, f.failure = r.discover(ctx); f.known != nil || f.failure != nil {
		return
	}
	s, failure := r.ownSession(ctx)
	if f.failure = failure; failure == nil {
		r.a.leave(s)
		f.known = &eraKnown{era: mcp.EraLegacy}
	}
}

// notAsked makes the failure of calls that were not sent, because one did not succeed that has to come before them.
func notAsked(message string, f *mcp.Failure) *mcp.Failure {
	if f == nil {
		return &mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBadAnswer, Sent: mcp.SentNo, Message: message}
	}
	own := *f
	own.Sent = mcp.SentNo
	if own.Reason == mcp.ReasonCanceled { // the daemon's context, or its bound: no caller has left
		own.Code, own.Reason, own.Message = mcp.CodeDeadlinePassed, mcp.ReasonCallTimeout, message
	}
	return &own
}

// discover asks a server whether it is modern. Neither an answer nor a failure means that it is not.
func (r *arrayRun) discover(ctx context.Context) (*eraKnown, *mcp.Failure) {
	room := ownRoom()
	reply, f := r.exchange(ctx, r.ownModern(mcp.MethodServerDiscover, mcp.Version20260728, ""), room)
	switch {
	case f != nil && f.Reason == mcp.ReasonBadAnswer: // a server that knows nothing of it may say anything
		return nil, nil
	case f != nil:
		return nil, notAsked("the server could not be asked for its protocol version", f)
	}
	defer r.a.opts.Buffers.Put(reply.body)
	modern := &eraKnown{era: mcp.EraModern, version: mcp.Version20260728, proved: reply.message.Kind == mcp.KindResult}
	switch code := reply.errorCode(); {
	case reply.message.Kind == mcp.KindResult:
		if speaksModern(reply.message.Result.Of(reply.body), "supportedVersions") {
			return modern, nil
		}
		return nil, nil
	case code == unsupportedVersion:
		if data, err := mcp.Member(reply.message.Error.Of(reply.body), "data"); err == nil && data.Present() {
			if speaksModern(data.Of(reply.message.Error.Of(reply.body)), "supported") {
				return modern, nil
			}
		}
		return nil, nil
	case code == mcp.CodeHeaderMismatch || code == -32021: // which only modern servers know
		return modern, nil
	case isRefusal(reply.status):
		return nil, notAsked("", reply.noAnswer())
	}
	return nil, nil
}

// isRefusal reports whether a status says nothing of the server's era: the caller is not let in, or not now.
func isRefusal(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusForbidden || status == http.StatusTooManyRequests ||
		status > http.StatusNotImplemented
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

// ownRoom is room for the answer to a question of the daemon's own.
func ownRoom() *answerRoom {
	room := new(answerRoom)
	room.left.Store(1 << 20)
	return room
}

// ownModern is a modern request of the daemon's own with the caller's headers. params are members of its params, or "".
func (r *arrayRun) ownModern(method mcp.Method, version, params string) *mcp.Call {
	body := append([]byte(`{"jsonrpc":"2.0","id":`), r.a.ids.Next()...)
	body = append(append(append(body, `,"method":"`...), method.String()...), `","params":{`...)
	body = append(append(body, params...), `}}`...)
	var m mcp.Message
	if err := mcp.Scan(body, &m); err != nil {
		panic("rpc: a request of the daemon's own is none (this is a bug): " + err.Error())
	}
	body, own := r.withMeta(body, &m, version)
	h := cloneHeader(r.header)
	h["Mcp-Protocol-Version"], h["Mcp-Method"] = []string{version}, []string{method.String()}
	c := r.newCall(mcp.EraModern, version, body, own, h)
	return c
}
