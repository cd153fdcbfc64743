package proxy

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"fluentd-perf/internal/mcp"
)

// longCall is the age from which on a call under way is worth a line in the log.
const longCall = 30 * time.Second

// streamRetryAfter is the Retry-After where there are too many streams.
const streamRetryAfter = 5 * time.Second

// inFlight is what is relayed now. It lists the calls, logs those that take long, bounds the streams, and ends those that no call
// needs: all at the drain, and those of an upstream that is retired. A call costs it two locks and, once the maps have grown, no memory.
type inFlight struct {
	maxStreams int // 0 means no limit
	log        *slog.Logger

	mu       sync.Mutex           // guards the following
	requests map[*request]bool    // all but streams without end: whether it was logged as long under way
	calls    map[sessionKey]int   // those of the requests that get an answer
	oneWay   int                  // the other ones
	streams  map[*stream]struct{} // GET and listen streams
	draining bool                 // no stream begins any more but for a call
	refusing bool                 // no call either
	retiring int                  // upstreams that are retired and have requests left
	watching bool                 // logLong runs within a second
}

// sessionKey is what the calls and the GET stream of a session have in common, also where the upstream was swapped between
// them. Where the agent has no session, all that have none at this upstream are taken for one.
type sessionKey struct {
	upstream string
	session  string
}

// stream is one open stream. cancel ends it; drain, if not nil, asks it to end by itself.
type stream struct {
	cancel  context.CancelCauseFunc
	drain   func()
	users   *Users     // of its upstream
	session sessionKey // whose calls it may carry answers and requests for; zero: nobody's
}

func newInFlight(o *Options) *inFlight {
	return &inFlight{
		maxStreams: o.MaxStreams, log: o.Log,
		requests: map[*request]bool{}, calls: map[sessionKey]int{}, streams: map[*stream]struct{}{},
	}
}

// begin puts a request in, of which the call does not change any more, so that others may read it, also after end. oneWay says
// that it gets no answer but that it has arrived. It reports whether the drain has begun. The failure is that of a call that is
// refused; for another request end is called exactly once.
func (f *inFlight) begin(q *request, oneWay bool) (draining bool, refused *mcp.Failure) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case oneWay:
		f.oneWay++
	case f.refusing:
		return true, mcp.Draining()
	default:
		f.calls[q.sessionKey()]++
	}
	f.requests[q] = false
	f.watchLocked()
	return f.draining, nil
}

// end takes a request out, and ends the streams that were left open for it where they are to end.
func (f *inFlight) end(q *request, oneWay bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.requests, q)
	if oneWay {
		f.oneWay--
		return
	}
	key := q.sessionKey()
	if f.calls[key]--; f.calls[key] > 0 {
		return
	}
	delete(f.calls, key)
	if f.draining || f.retiring > 0 {
		f.endIdleLocked()
	}
}

// logLong logs the calls that have become long, each once.
func (f *inFlight) logLong() {
	for _, q := range f.becomeLong(time.Now()) {
		s := q.callStatus(time.Now())
		f.log.LogAttrs(context.Background(), slog.LevelWarn, "a call has been under way for long",
			slog.String("id", s.Request), slog.String("upstream", s.Upstream), slog.String("method", s.Method), slog.String("tool", s.Tool),
			slog.String("agent", s.Agent), slog.String("for", time.Since(q.call.Start).Round(time.Second).String()))
	}
}

// becomeLong returns the calls that have become long, the oldest first.
func (f *inFlight) becomeLong(now time.Time) []*request {
	f.mu.Lock()
	defer f.mu.Unlock()
	var long []*request
	for q, logged := range f.requests {
		if !logged && now.Sub(q.call.Start) >= longCall {
			f.requests[q] = true
			long = append(long, q)
		}
	}
	f.watching = false
	f.watchLocked()
	slices.SortFunc(long, byAge)
	return long
}

// watchLocked sees to it that long calls are looked for once a second while there are calls.
func (f *inFlight) watchLocked() {
	if !f.watching && len(f.requests) > 0 {
		f.watching = true
		time.AfterFunc(time.Second, f.logLong)
	}
}

// byAge puts the oldest first.
func byAge(a, b *request) int {
	return cmp.Or(a.call.Start.Compare(b.call.Start), cmp.Compare(a.seq, b.seq))
}

// count returns how many calls have begun and not ended, open streams included, and how many requests get no answer.
func (f *inFlight) count() (calls, oneWay int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.requests) - f.oneWay + len(f.streams), f.oneWay
}

// beginStream takes a place for a stream, and returns the context that it lives on. It fails when the daemon has as many
// streams as its descriptors bear, or the stream is to end and no call in flight needs it. The caller calls endStream exactly once.
func (f *inFlight) beginStream(ctx context.Context, key sessionKey, u *Users) (*stream, context.Context, *mcp.Failure) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.endsLocked(u) && (f.calls[key] == 0 || f.refusing):
		return nil, nil, mcp.Draining()
	case f.maxStreams > 0 && len(f.streams) >= f.maxStreams:
		return nil, nil, &mcp.Failure{
			Code: mcp.CodeOverloaded, Reason: mcp.ReasonTooManyStreams, Sent: mcp.SentNo, RetryAfter: streamRetryAfter,
			Message: "too many open streams (see limits.max_streams and the descriptor limit)",
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	s := &stream{cancel: cancel, users: u, session: key}
	f.streams[s] = struct{}{}
	return s, ctx, nil
}

// setDrainer says that the stream has a way of its own to drain.
func (f *inFlight) setDrainer(s *stream, d mcp.Drainer) {
	f.mu.Lock()
	s.drain = d.Drain
	ends := f.endsLocked(s.users)
	f.mu.Unlock()
	if ends {
		d.Drain()
	}
}

func (f *inFlight) endStream(s *stream) {
	s.cancel(nil)
	f.mu.Lock()
	delete(f.streams, s)
	f.mu.Unlock()
}

// endsLocked reports whether a stream of an upstream is to end.
func (f *inFlight) endsLocked(u *Users) bool { return f.draining || u.retired }

// endIdleLocked ends those of the streams that are to end on which no call in flight waits for anything.
func (f *inFlight) endIdleLocked() {
	for s := range f.streams {
		if f.endsLocked(s.users) && s.drain == nil && f.calls[s.session] == 0 {
			s.cancel(mcp.Draining())
		}
	}
}

// drain ends every stream that no call in flight needs, or asks it to end, and lets none begin any more.
func (f *inFlight) drain() { f.mark(func() { f.draining = true }) }

// retire is drain for the streams of one upstream, until forget.
func (f *inFlight) retire(u *Users) {
	f.mark(func() {
		u.retired = true
		f.retiring++
	})
}

// forget ends a retire, when no request of the upstream is left.
func (f *inFlight) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.retiring--
}

// mark says which streams are to end, and ends or asks them.
func (f *inFlight) mark(which func()) {
	f.mu.Lock()
	which()
	f.endIdleLocked()
	var ask []func()
	for s := range f.streams {
		if s.drain != nil && f.endsLocked(s.users) {
			ask = append(ask, s.drain)
		}
	}
	f.mu.Unlock()
	for _, drain := range ask {
		drain()
	}
}

// refuse lets no call begin any more.
func (f *inFlight) refuse() {
	f.mu.Lock()
	f.refusing = true
	f.mu.Unlock()
}

// refuses reports whether calls are refused.
func (f *inFlight) refuses() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refusing
}

// of returns the requests of an upstream, in no order.
func (f *inFlight) of(upstream string) (list []*request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for q := range f.requests {
		if q.upstream.Name == upstream {
			list = append(list, q)
		}
	}
	return list
}

// CallStatus is a call under way.
type CallStatus struct {
	Request  string `json:"request"` // its id in log and error data
	Upstream string `json:"upstream"`
	AgeMs    int64  `json:"ageMs"` // since the head of its request came
	Method   string `json:"method"`
	Tool     string `json:"tool,omitempty"`
	Agent    string `json:"agent"` // the name that it gives itself, else its connection
}

// Calls returns the calls of an upstream that are under way, the oldest first and at most limit of them, and how many there are.
// Streams without end are none, and an array is one.
func (h *Handler) Calls(upstream string, limit int) (oldest []CallStatus, count int) {
	all, now := h.inFlight.of(upstream), time.Now()
	slices.SortFunc(all, byAge)
	for _, q := range all[:min(limit, len(all))] {
		oldest = append(oldest, q.callStatus(now))
	}
	return oldest, len(all)
}

// callStatus says what is called, by whom and for how long. Another goroutine may ask, so that only the call is looked at.
func (q *request) callStatus(now time.Time) CallStatus {
	session := ""
	if q.call.Header.Get(sessionHeader) != "" {
		session = q.sessionHash()
	}
	return CallStatus{
		Request: q.id(), Upstream: q.upstream.Name, AgeMs: now.Sub(q.call.Start).Milliseconds(), Method: methodLabel(&q.call),
		Tool: toolName(&q.call), Agent: cmp.Or(q.agent(session), q.call.Conn),
	}
}
