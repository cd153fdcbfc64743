package mcp

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"fluentd-perf/internal/http1/header"
)

// Lane says how a call is relayed.
type Lane uint8

// The lanes. Only LaneRequest is request and answer; the others pass the cache and the batches by.
const (
	LaneRequest      Lane = iota // POST of one request: one answer, as JSON or at the end of a stream
	LaneNotification             // POST of one notification
	LaneResponse                 // POST of an answer to a request of the server's
	LaneOpaque                   // POST of a body that the daemon does not understand, an array included: relayed as bytes
	LaneBatch                    // POST of an array that a window has made of calls (2025-03-26, or plain JSON-RPC)
	LaneListen                   // POST of subscriptions/listen: a stream without end
	LaneStream                   // GET: a stream without end
	LaneEnd                      // DELETE of a session
	LaneMessage                  // POST of any message whose answer comes on another stream (HTTP+SSE, 2024-11-05)
	LaneFetch                    // GET of a document beside the endpoint (OAuth metadata)
	LaneArray                    // POST to /rpc/<name>: an array of requests, or one, each relayed as a call of its own
)

// Long reports whether the lane carries streams that stay open for as long as the agent does: they have no timeouts and
// take no connection that calls need.
func (l Lane) Long() bool { return l == LaneListen || l == LaneStream }

// Verb returns the lane's HTTP method.
func (l Lane) Verb() string {
	switch l {
	case LaneStream, LaneFetch:
		return http.MethodGet
	case LaneEnd:
		return http.MethodDelete
	}
	return http.MethodPost
}

// Call is one thing that an agent wants of a server. The handler decodes it once and writes it once; stages only read it.
// A stage that needs another call (the same one on a re-opened stream, say) makes a copy, which may share Body and Header.
//
// What a call refers to (Body, Header, Target) belongs to nobody: it is never changed and its memory never used for something
// else, not even when the call has ended. So whoever has the call, or a copy, may read it for as long as it likes, without asking
// whether the caller is still there: a transport that is still writing, an array of calls of which one's caller has left.
type Call struct {
	Upstream string // the configured name
	Lane     Lane
	Era      Era
	Version  string // MCP-Protocol-Version as sent, or the request's own `_meta`; "" where neither is there
	Mismatch bool   // header and body differ in version, method or name: relayed untouched, shared with nobody
	Message  Message
	Body     []byte      // the request body, whole; nil for GET and DELETE
	Header   header.List // all that goes to the server but Host, Content-Length and Accept-Encoding
	Query    string      // the agent's query, without what the configured URL sets itself: goes behind that URL's own. Part of the credential, never logged
	Target   *url.URL    // where to, if not to the upstream's endpoint; always of the endpoint's origin
	Endpoint string      // LaneMessage: the id that the daemon minted for the stream on which answers come
	Own      Principal   // whose it is, as far as that is known already
	Start    time.Time   // when the handler had the head of the request
	Conn     string      // the address of the agent's connection; "" for a call of the daemon's own
	Request  string      // LaneArray: the request's id in log and error data
	Again    bool        // of the daemon's own: it may be sent again, and of a LaneBatch every call in it
	Whole    bool        // whoever made the call takes its answer apart, or keeps it: it is held whole
	Written  func()      // called once, by the upstream: the request has been written, or the call has ended. nil: nobody waits
}

// Principal is the partition of a call (see package cache), made once for all who want to know it. It stays that of copies of the call
// which are sent in another session, or with other fields that say nothing of who calls.
type Principal struct {
	Partition [32]byte
	Known     bool
}

// Method returns the call's method, MethodNone where the call has none.
func (c *Call) Method() Method { return c.Message.Method }

// ID returns the request's id as sent, or nil.
func (c *Call) ID() []byte { return c.Message.ID.Of(c.Body) }

// HoldsRequest reports whether the call is a message that the server has to answer, or may be: what is not understood is taken for
// the most that it could be.
func (c *Call) HoldsRequest() bool {
	switch k := c.Message.Kind; c.Lane {
	case LaneRequest, LaneBatch:
		return true
	case LaneOpaque:
		return k != KindBatch || HasRequest(c.Body)
	case LaneMessage:
		return k == KindRequest || k == KindBatch && HasRequest(c.Body)
	}
	return false
}

// Timing is what is known of where an answer's time went. Zero means unknown or nothing.
type Timing struct {
	Queue     time.Duration // waited for a connection of the pool
	Connect   time.Duration // DNS, TCP and TLS
	FirstByte time.Duration // from the request's last byte sent to the answer's first
	Upstream  time.Duration // the whole of it, as far as it had gone when the Result was handed on
}

// Answers reports whether b, of which m is the scan, is an answer to the call: it has the call's id, or is an error without
// one, which is how a server answers what it could not read (JSON-RPC 2.0, section 5).
func (c *Call) Answers(b []byte, m *Message) bool {
	switch m.Kind {
	case KindResult, KindError:
		id := m.ID.Of(b)
		return m.Kind == KindError && isNullID(id) || SameID(c.ID(), id)
	}
	return false
}

// AnsweredBy reports whether a Result carries an answer in JSON-RPC to this call, at whatever status, its id of another type
// perhaps: the server is alive.
func (c *Call) AnsweredBy(r *Result) bool {
	b, m := r.Scanned(), &r.Message
	return c.Answers(b, m) || (m.Kind == KindResult || m.Kind == KindError) && AlikeID(c.ID(), m.ID.Of(b))
}

// Result is an answer. Exactly one of Body, Events and Raw carries it: Events and Raw if they are not nil, else Body. A
// stream that carries one answer and nothing else may come with that answer in Body too, for those who share it.
//
// Whoever gets a Result owns it and calls Close exactly once; Header and Body are dead after that. A stage that holds something for
// the length of a call wraps Events, or sets Release.
type Result struct {
	Status  int
	Header  header.List   // the server's, hop-by-hop fields taken off; may be changed by the owner
	Body    []byte        // a whole answer
	Data    []byte        // of a whole answer that is SSE with an error's status: the data of its one message
	Message Message       // what the scan of Scanned found; of KindInvalid where that is no JSON-RPC or was not scanned
	Checked bool          // Body is one valid JSON-RPC answer to this call, and not a loose one
	Events  Events        // an SSE stream
	Raw     io.ReadCloser // bytes that pass as they come: too large to hold. An error in mid-body is a *Failure
	Timing  Timing

	Failed *FailedCalls // LaneArray: those of its calls that the daemon failed; nil where there are none

	Collapsed bool // another caller's flight brought it
	Cached    bool // a tier of the cache had it

	// Remembered: it is what the server has answered to others before, and nobody asked it. It says nothing of the server's health, and is
	// neither kept nor compared nor shared.
	Remembered bool

	// Outdated: it is of a process from before the server was changed, while others run that began after it. It is its own session's, and
	// neither kept nor compared nor shared.
	Outdated bool

	Release func() // called once by Close, may be nil
}

// Scanned returns the bytes that Message is the scan of: Data, else Body.
func (r *Result) Scanned() []byte {
	if r.Data != nil {
		return r.Data
	}
	return r.Body
}

// FailedCalls are calls of one array that got no answer of the server's.
type FailedCalls struct {
	First *Failure       // the first of them
	Calls int            // how many there are, in all
	Shed  map[Reason]int // how many because a limit was reached (1429), by reason; nil: none
}

// Add counts one more. The caller sees to it that nobody else does at the same time.
func (c *FailedCalls) Add(f *Failure) {
	if c.First == nil {
		c.First = f
	}
	c.Calls++
	if f.Code == CodeOverloaded {
		if c.Shed == nil {
			c.Shed = map[Reason]int{}
		}
		c.Shed[f.Reason]++
	}
}

// Close ends the result and frees what it holds: it closes a stream that has not ended.
func (r *Result) Close() error {
	var err error
	switch {
	case r.Events != nil:
		err = r.Events.Close()
	case r.Raw != nil:
		err = r.Raw.Close()
	}
	if r.Release != nil {
		release := r.Release
		r.Release = nil
		release()
	}
	return err
}

// OnClose makes Close call f as well, after what it would do before.
func (r *Result) OnClose(f func()) {
	release := r.Release
	r.Release = func() {
		if release != nil {
			release()
		}
		f()
	}
}

// Events is a stream of SSE events. Next and Close are called from one goroutine; cancelling the call's context makes a
// blocked Next return.
type Events interface {
	// Next returns the next event, valid until Next or Close is called again. At the stream's clean end it returns
	// io.EOF, at a break a *Failure.
	Next() (Event, error)
	// Close ends the stream at once. It is called exactly once.
	Close() error
}

// StreamOf is an event stream of the daemon's own.
func StreamOf(events Events) *Result {
	return &Result{
		Status: http.StatusOK, Events: events,
		Header: header.List{{Name: "Content-Type", Value: "text/event-stream"}, {Name: "Cache-Control", Value: "no-cache, no-transform"}},
	}
}

// LostCall is the stream of a call of whose answer nobody knows any more: the call's error, and the end.
type LostCall struct {
	ID      []byte // the request's
	Message string // what became of the session
	over    bool
}

// Next implements Events.
func (l *LostCall) Next() (Event, error) {
	if l.over {
		return Event{}, io.EOF
	}
	l.over = true
	return Event{FailedID: l.ID, Failure: &Failure{Code: CodeBadGateway, Reason: ReasonSessionLost, Sent: SentUnknown, Message: l.Message}}, nil
}

// Close implements Events. There is no stream of a server's.
func (l *LostCall) Close() error { return nil }

// ReadAnswer reads a stream to the answer to the call with that id, and returns its data. What else comes is given to other,
// whose failure ends the reading.
func ReadAnswer(events Events, id []byte, other func(*Event) *Failure) ([]byte, *Failure) {
	for {
		ev, err := events.Next()
		switch {
		case err == io.EOF:
			return nil, &Failure{
				Code: CodeBadGateway, Reason: ReasonBrokeOff, Sent: SentYes, Message: "the server's stream ended without a response",
			}
		case err != nil:
			return nil, AsFailure(err)
		case ev.Failure != nil && SameID(ev.FailedID, id):
			return nil, ev.Failure
		case ev.Answer:
			return ev.Data, nil
		}
		if f := other(&ev); f != nil {
			return nil, f
		}
	}
}

// Event is one SSE event, or a block of comments that dispatches nothing.
type Event struct {
	Raw     []byte  // as received, with the blank line that ends it
	Name    []byte  // the event field; empty means message
	Data    []byte  // the data field, lines joined by newlines; nil where there is none
	ID      []byte  // the id field; nil where there is none
	HasID   bool    // an id field was there, empty ones included
	Retry   []byte  // the retry field; nil where there is none
	More    bool    // another whole event has been read already: Next will not block
	Message Message // what a scan of Data found, on POST streams
	Answer  bool    // this is the answer to this call, readable or not: the stream is about to end
	Exact   bool    // an Answer that is one valid JSON-RPC answer with this call's id, or an error without one, and not loose
	Partial bool    // Raw is a piece of an event that is too large to hold, and not its last; all but Raw is empty, and what follows belongs to it: nothing may be put between
	Last    bool    // Raw is the last piece of such an event; ID and HasID are the whole event's, Name, Data and Retry are empty

	// Failure, if not nil, makes this an event of the daemon's own with nothing else in it: the call FailedID, whose
	// answer was due on this stream, gets this failure instead.
	Failure  *Failure
	FailedID []byte
}

// Caller answers calls: a stage, or the upstream itself. It returns a Result or a *Failure, never both, and no other
// error type. A Caller is safe for concurrent use.
type Caller interface {
	Call(ctx context.Context, c *Call) (*Result, error)
}

// CallerFunc makes a Caller of a function.
type CallerFunc func(ctx context.Context, c *Call) (*Result, error)

// Call calls f.
func (f CallerFunc) Call(ctx context.Context, c *Call) (*Result, error) { return f(ctx, c) }

// Drainer is an Events on which answers may be outstanding when the daemon stops. Drain returns at once; the stream then ends by
// itself as soon as none is.
type Drainer interface{ Drain() }

// IsEncoded reports whether a body with that header is anything but its plain bytes.
func IsEncoded(l header.List) bool {
	for value := range l.Values("Content-Encoding") {
		for coding := range header.Elements(value) {
			if !strings.EqualFold(coding, "identity") {
				return true
			}
		}
	}
	return false
}
