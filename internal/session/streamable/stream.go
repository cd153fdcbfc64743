package streamable

import (
	"bytes"
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"fluentd-perf/internal/mcp"
)

// The bounds of what is kept of a session's events, for streams to come and for Last-Event-ID. Those of all sessions together have one
// as well (maxBuffered).
const (
	maxEvents      = 256
	maxEventBytes  = 1 << 20
	maxRequestID   = 64 // bytes of a request's id that is told in the ids of its events
	commentAgain   = 5 * time.Second
	streamAfter    = 15 * time.Second // an answer that takes longer becomes a stream, so that it can be kept alive
	overheadOfItem = 256              // bytes that an event takes, besides its data
)

// stream is a stream of a session's, as long as there is something of it: that of one POST, or the one of GET. Guarded by the
// session's lock.
type stream struct {
	s      *session
	number uint64 // 0: that of GET
	id     []byte // of the request that is answered on it, raw; nil: that of GET, or of an array

	events []*event // kept, the oldest first
	next   uint64   // number of the next event
	size   int64    // bytes of events that nobody has read
	due    int      // answers that have not come
	plain  bool     // all that has come are answers
	reader *reader  // nil: nobody reads
	wake   chan struct{}
}

// event is a message on a stream, or the failure of the call that it answers.
type event struct {
	st      *stream
	number  uint64
	data    []byte
	m       mcp.Message
	failure *mcp.Failure
	call    *call // that this is an answer to; nil: none
	asked   *asked
	general bool // it names no request of the agent's: any stream may carry it
	read    bool
}

func (e *event) bytes() int64 { return int64(len(e.data)) + overheadOfItem }

func (s *session) newStreamLocked(id []byte, due int) *stream {
	s.last++
	st := &stream{s: s, number: s.last, id: bytes.Clone(id), due: due, plain: true, wake: make(chan struct{})}
	s.streams[st.number] = st
	return st
}

// isOver reports whether nothing more comes on the stream.
func (st *stream) isOver() bool { return st.number != 0 && st.due == 0 }

func (st *stream) wakeLocked() {
	close(st.wake)
	st.wake = make(chan struct{})
}

// addLocked puts an event on the stream. One that was dropped has nobody who could read it.
func (st *stream) addLocked(e *event) {
	s := st.s
	if s.ended || st.number != 0 && s.streams[st.number] != st {
		return
	}
	e.st, e.number = st, st.next
	st.next++
	st.plain = st.plain && e.call != nil && e.failure == nil
	st.events = append(st.events, e)
	st.size += e.bytes()
	s.log = append(s.log, e)
	s.size += e.bytes()
	s.f.opts.Store.buffered.Add(e.bytes())
	st.wakeLocked()
	s.trimLocked()
}

// trimLocked drops the oldest events beyond the session's bounds that nobody is about to read: all of them where the session goes on in
// another Front.
func (s *session) trimLocked() {
	for s.moved || len(s.log) > maxEvents || s.size > maxEventBytes {
		if !s.dropOldestLocked() {
			return
		}
	}
}

// dropOldestLocked drops the oldest event that nobody is about to read. It reports false where there is none.
func (s *session) dropOldestLocked() bool {
	i := slices.IndexFunc(s.log, func(e *event) bool { return e.read || e.st.reader == nil })
	if i < 0 {
		return false
	}
	s.dropLocked(s.log[i])
	return true
}

// dropEvents drops all events that nobody is about to read.
func (s *session) dropEvents() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.dropOldestLocked() {
	}
}

// dropLocked drops an event.
func (s *session) dropLocked(e *event) {
	same := func(other *event) bool { return other == e }
	st := e.st
	st.events = slices.DeleteFunc(st.events, same)
	if i := slices.Index(s.log, e); i >= 0 { // it is not there once the session has ended
		s.log = slices.Delete(s.log, i, i+1)
		s.size -= e.bytes()
		s.f.opts.Store.buffered.Add(-e.bytes())
	}
	if !e.read {
		st.size -= e.bytes()
	}
	if e.asked != nil && !e.read {
		s.refuseLocked(e.asked, "no agent could be given the request")
	}
	s.forgetLocked(st)
	s.changed.Broadcast()
}

// forgetLocked forgets a stream of which nothing is left.
func (s *session) forgetLocked(st *stream) {
	if st.isOver() && len(st.events) == 0 && st.reader == nil {
		delete(s.streams, st.number)
	}
}

// dropStreamLocked drops a stream with all that is on it: it was answered by a body.
func (s *session) dropStreamLocked(st *stream) {
	for len(st.events) > 0 {
		s.dropLocked(st.events[0])
	}
	st.reader = nil
	delete(s.streams, st.number)
}

// carriesGeneral reports whether somebody reads the stream who gives the agent more than answers: of an array that the daemon has made of
// calls, nobody does.
func (st *stream) carriesGeneral() bool { return st.reader != nil && st.reader.c.Lane != mcp.LaneBatch }

// passOnLocked puts what waits for the agent's next stream on that of a POST, which is it.
func (s *session) passOnLocked(st *stream) {
	if s.get.reader == nil && st.carriesGeneral() {
		s.get.moveGeneralLocked(st)
	}
}

// moveGeneralLocked moves what names no request and was given to nobody to another stream, behind what is there.
func (st *stream) moveGeneralLocked(to *stream) {
	var kept []*event
	for _, e := range st.events {
		if e.read || !e.general {
			kept = append(kept, e)
			continue
		}
		st.size -= e.bytes()
		e.st, e.number = to, to.next
		to.next++
		to.size += e.bytes()
		to.plain = false
		to.events = append(to.events, e)
	}
	st.events = kept
	to.wakeLocked()
}

// waitLocked waits while an agent has much to read: its server is not read meanwhile. The session has one process, so nobody
// else waits for that.
func (s *session) waitLocked(l *link, st *stream) {
	for st.size > maxEventBytes && st.reader != nil && s.link == l && !s.ended {
		s.changed.Wait()
	}
}

// reader is an agent's stream: of a POST, or a GET. Next and Close are called by one goroutine.
type reader struct {
	st       *stream
	ctx      context.Context
	c        *mcp.Call
	pos      uint64 // number of the next event
	begun    time.Time
	withID   bool // an event with an id has passed
	comments int  // that are to come before the first event
}

// attachLocked makes r the stream's reader, in the place of another.
func (st *stream) attachLocked(r *reader) {
	st.reader = r
	st.wakeLocked()
	if st.number == 0 {
		st.s.noteLocked()
	}
}

// result is the reader as an answer.
func (r *reader) result() *mcp.Result {
	res := mcp.StreamOf(r)
	res.Timing.Upstream = time.Since(r.begun)
	return res
}

// Next returns the next event.
func (r *reader) Next() (mcp.Event, error) {
	s := r.st.s
	comment := time.NewTimer(commentAgain)
	defer comment.Stop()
	switch r.comments {
	case 0:
		comment.Stop()
	case 2:
		comment.Reset(0)
	}
	for {
		s.mu.Lock()
		e, more := r.takeLocked()
		over := r.st.reader != r || s.ended || r.st.isOver() || r.st.number == 0 && s.moved
		wake := r.st.wake
		s.mu.Unlock()
		switch {
		case e != nil && e.failure != nil && r.isArray() && e.failure.Reason == mcp.ReasonCanceled:
			continue // its agent waits for the others alone
		case e != nil && e.failure != nil && !r.withID && !r.isArray():
			return mcp.Event{}, e.failure
		case e != nil:
			return r.event(e, more), nil
		case over:
			return mcp.Event{}, io.EOF
		}
		select {
		case <-wake:
		case <-comment.C:
			r.comments--
			return mcp.Event{Raw: []byte(":\n\n")}, nil
		case <-r.ctx.Done():
			return mcp.Event{}, mcp.Canceled(r.ctx, mcp.SentYes)
		}
	}
}

// isArray reports whether the stream answers an array: the failure of one of its calls is not that of the others.
func (r *reader) isArray() bool { return r.c.Message.Kind == mcp.KindBatch }

// takeLocked takes the next event, and says whether there is another.
func (r *reader) takeLocked() (e *event, more bool) {
	st := r.st
	if st.reader != r {
		return nil, false
	}
	i := slices.IndexFunc(st.events, func(e *event) bool { return e.number >= r.pos })
	if i < 0 {
		return nil, false
	}
	e = st.events[i]
	r.pos = e.number + 1
	if !e.read {
		e.read = true
		st.size -= e.bytes()
		if e.asked != nil {
			e.asked.timer.Reset(unanswered)
		}
		st.s.changed.Broadcast()
	}
	return e, i+1 < len(st.events)
}

// event is an event as the agent gets it.
func (r *reader) event(e *event, more bool) mcp.Event {
	r.comments = 0
	if e.failure != nil {
		return mcp.Event{Failure: e.failure, FailedID: e.call.id}
	}
	id := r.st.eventID(e.number)
	ev := mcp.Event{
		Raw:  bytes.Join([][]byte{[]byte("id: "), id, []byte("\nevent: message\ndata: "), e.data, []byte("\n\n")}, nil),
		Name: []byte("message"), Data: e.data, ID: id, HasID: true, More: more, Message: e.m,
	}
	r.withID = true
	if e.call != nil && r.c.Lane != mcp.LaneStream {
		ev.Answer = true
		ev.Message.Loose = ev.Message.Loose || r.c.Lane == mcp.LaneRequest && !r.c.Answers(e.data, &e.m)
		ev.Exact = !ev.Message.Loose && r.c.Lane == mcp.LaneRequest
		if r.c.Lane == mcp.LaneBatch { // whoever made the array counts its answers
			ev.Answer = false
		}
	}
	return ev
}

// Close ends the agent's stream. What comes later is kept for its next one, and so is what names no request where the agent got no id by
// which it could ask for the rest.
func (r *reader) Close() error {
	st := r.st
	st.s.mu.Lock()
	defer st.s.mu.Unlock()
	if st.reader != r {
		return nil
	}
	st.reader = nil
	switch {
	case st.number == 0:
		st.s.noteLocked()
	case !r.withID:
		st.moveGeneralLocked(st.s.get)
	}
	for _, c := range st.s.calls {
		if c.st == st && !c.cancelled {
			c.l.server.GaveUp(c.own, time.Since(c.begun))
		}
	}
	st.s.trimLocked()
	st.s.forgetLocked(st)
	st.s.changed.Broadcast()
	return nil
}

// The id of an event is the Front's tag, the number of its stream and its own, and on a POST's stream the request's id: so
// that whoever asks for the stream after the Front has gone can be told that the call is lost.

func (st *stream) eventID(number uint64) []byte {
	b := append([]byte(st.s.f.tag), '-')
	b = append(strconv.AppendUint(b, st.number, 10), '-')
	b = strconv.AppendUint(b, number, 10)
	if len(st.id) > 0 && len(st.id) <= maxRequestID {
		b = base64.RawURLEncoding.AppendEncode(append(b, '-'), st.id)
	}
	return b
}

// position is what the id of an event says.
type position struct {
	tag            string
	stream, number uint64
	request        []byte
}

func positionOf(id string) (p position, ok bool) {
	parts := strings.SplitN(id, "-", 4)
	if len(parts) < 3 {
		return p, false
	}
	var err, err2, err3 error
	p.tag = parts[0]
	p.stream, err = strconv.ParseUint(parts[1], 10, 64)
	p.number, err2 = strconv.ParseUint(parts[2], 10, 64)
	if len(parts) == 4 {
		p.request, err3 = base64.RawURLEncoding.DecodeString(parts[3])
	}
	return p, err == nil && err2 == nil && err3 == nil
}

// open answers a GET: the session's stream, or with a Last-Event-ID the rest of one.
func (s *session) open(ctx context.Context, c *mcp.Call) (*mcp.Result, *mcp.Failure) {
	r := &reader{ctx: ctx, c: c, begun: time.Now()}
	last := c.Header.Get(lastEventHeader)
	p, ok := positionOf(last)
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.get
	switch {
	case s.ended:
		return lost(), nil
	case !ok || p.stream == 0 && p.tag != s.f.tag: // none, or one of before: it is taken off
		r.pos = st.firstUnread()
	case p.stream == 0:
		r.pos = p.number + 1
	default:
		st = s.streams[p.stream]
		if p.tag != s.f.tag || st == nil {
			return s.lostCallLocked(last, p), nil
		}
		r.pos, r.withID = p.number+1, true
		if st.isOver() && !st.hasFrom(r.pos) {
			return nothingLeft(), nil
		}
	}
	if st.number == 0 && st.reader != nil {
		return textResult(http.StatusConflict, "the session has a GET stream already"), nil
	}
	r.st = st
	st.attachLocked(r)
	return r.result(), nil
}

// firstUnread returns the number of the first event that nobody was given.
func (st *stream) firstUnread() uint64 {
	for _, e := range st.events {
		if !e.read {
			return e.number
		}
	}
	return st.next
}

func (st *stream) hasFrom(number uint64) bool {
	return len(st.events) > 0 && st.events[len(st.events)-1].number >= number
}

// nothingLeft answers who asks for the rest of a stream of which there is none: so that it does not ask again.
func nothingLeft() *mcp.Result {
	res := textResult(http.StatusMethodNotAllowed, "nothing is left of this stream")
	res.Header.Set("Allow", "POST, DELETE")
	return res
}

// lostCallLocked answers who asks for the rest of a POST's stream that is gone: by that call's error, once.
func (s *session) lostCallLocked(last string, p position) *mcp.Result {
	var m mcp.Message
	isID := len(p.request) > 0 && mcp.Scan(slices.Concat([]byte(`{"jsonrpc":"2.0","result":0,"id":`), p.request, []byte("}")), &m) == nil
	if !isID || s.reported[last] || len(s.reported) >= maxEvents {
		return nothingLeft()
	}
	if s.reported == nil {
		s.reported = make(map[string]bool)
	}
	s.reported[last] = true
	return mcp.StreamOf(&mcp.LostCall{ID: p.request, Message: "the server's process ended before it answered this call"})
}
