package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// event is one SSE event that dispatches something.
type event struct{ name, id, data string }

// eventStream reads an SSE answer event by event. It is a plain reader of its own: what the daemon writes is judged by
// code that shares nothing with it.
type eventStream struct {
	lines    *bufio.Reader
	comments int
	retry    string
}

func newEventStream(r io.Reader) *eventStream { return &eventStream{lines: bufio.NewReader(r)} }

// next returns the next event that has data or an id; comments and retry fields are noted on the way.
func (s *eventStream) next() (event, error) {
	var e event
	var data []string
	has := false
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			if line != "" || has {
				return event{}, fmt.Errorf("in mid-event (%q): %w", line, errors.Join(io.ErrUnexpectedEOF, err))
			}
			return event{}, err
		}
		line = strings.TrimRight(line, "\r\n")
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "" && has:
			e.data = strings.Join(data, "\n")
			return e, nil
		case line == "":
		case field == "":
			s.comments++
		case field == "data":
			data, has = append(data, value), true
		case field == "id":
			e.id, has = value, true
		case field == "event":
			e.name = value
		case field == "retry":
			s.retry = value
		}
	}
}

func readEvents(t *testing.T, r io.Reader) []event {
	t.Helper()
	s := newEventStream(r)
	var all []event
	for {
		e, err := s.next()
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return all
		}
		if err != nil {
			t.Fatalf("reading events: %v", err)
		}
		all = append(all, e)
	}
}

// listener is an agent's open stream, read in the background.
type listener struct {
	t      *testing.T
	res    *http.Response
	events chan event    // closed after the last one
	ended  chan struct{} // closed when the stream has ended; then err counts
	err    error         // what ended it: io.EOF if it was clean
}

// listen opens a stream and reads it in the background until it ends. The test's end closes it.
func (a *agent) listen(verb, path, body string, fields ...string) *listener {
	a.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	res, err := a.open(ctx, verb, path, body, fields...)
	if err != nil {
		cancel()
		a.t.Fatalf("%s %s: %v", verb, path, err)
	}
	l := &listener{t: a.t, res: res, events: make(chan event, 1000), ended: make(chan struct{})}
	a.t.Cleanup(func() {
		cancel()
		<-l.ended
	})
	go l.read()
	return l
}

func (l *listener) read() {
	defer func() { _ = l.res.Body.Close() }()
	s := newEventStream(l.res.Body)
	for {
		e, err := s.next()
		if err != nil {
			l.err = err
			close(l.ended)
			close(l.events)
			return
		}
		l.events <- e
	}
}

// get opens a GET stream of the upstream s, which must be accepted.
func (a *agent) get(fields ...string) *listener {
	a.t.Helper()
	l := a.listen(http.MethodGet, "/mcp/s", "", fields...)
	if ct := l.res.Header.Get("Content-Type"); l.res.StatusCode != http.StatusOK || ct != "text/event-stream" {
		a.t.Fatalf("GET: got %d %s", l.res.StatusCode, ct)
	}
	return l
}

// next waits for the next event.
func (l *listener) next() event {
	l.t.Helper()
	select {
	case e, more := <-l.events:
		if !more {
			l.t.Fatalf("the stream ended (%v), an event was due", l.err)
		}
		return e
	case <-time.After(patience):
		l.t.Fatalf("no event within %v", patience)
	}
	return event{}
}

// cleanEnd waits for the stream's end, which must be clean and without a further event.
func (l *listener) cleanEnd(within time.Duration) {
	l.t.Helper()
	select {
	case <-l.ended:
		if l.err != io.EOF {
			l.t.Errorf("the stream ended with %v, want a clean end", l.err)
		}
		if e, more := <-l.events; more {
			l.t.Errorf("an event before the end: %+v", e)
		}
	case <-time.After(within):
		l.t.Errorf("the stream is still open after %v", within)
	}
}

// stillOpen fails the test if the stream has ended.
func (l *listener) stillOpen() {
	l.t.Helper()
	select {
	case <-l.ended:
		l.t.Fatalf("the stream ended: %v", l.err)
	default:
	}
}
