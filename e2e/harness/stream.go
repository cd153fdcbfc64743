package harness

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

// Event is one SSE event that dispatches something.
type Event struct{ Name, ID, Data string }

// eventStream reads an SSE answer event by event. It is a plain reader of its own: what the daemon writes is judged by
// code that shares nothing with it.
type eventStream struct {
	lines    *bufio.Reader
	comments int
	retry    string
}

func newEventStream(r io.Reader) *eventStream { return &eventStream{lines: bufio.NewReader(r)} }

// next returns the next event that has data or an id; comments and retry fields are noted on the way.
func (s *eventStream) next() (Event, error) {
	var e Event
	var data []string
	has := false
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			if line != "" || has {
				return Event{}, fmt.Errorf("in mid-event (%q): %w", line, errors.Join(io.ErrUnexpectedEOF, err))
			}
			return Event{}, err
		}
		line = strings.TrimRight(line, "\r\n")
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "" && has:
			e.Data = strings.Join(data, "\n")
			return e, nil
		case line == "":
		case field == "":
			s.comments++
		case field == "data":
			data, has = append(data, value), true
		case field == "id":
			e.ID, has = value, true
		case field == "event":
			e.Name = value
		case field == "retry":
			s.retry = value
		}
	}
}

func readEvents(t *testing.T, r io.Reader) []Event {
	t.Helper()
	s := newEventStream(r)
	var all []Event
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

// Listener is an agent's open stream, read in the background.
type Listener struct {
	t      *testing.T
	res    *http.Response
	Events chan Event    // closed after the last one
	ended  chan struct{} // closed when the stream has ended; then err counts
	err    error         // what ended it: io.EOF if it was clean
}

// Listen opens a stream and reads it in the background until it ends. The test's end closes it.
func (a *Agent) Listen(verb, path, body string, fields ...string) *Listener {
	a.T.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	res, err := a.Open(ctx, verb, path, body, fields...)
	if err != nil {
		cancel()
		a.T.Fatalf("%s %s: %v", verb, path, err)
	}
	l := &Listener{t: a.T, res: res, Events: make(chan Event, 1000), ended: make(chan struct{})}
	a.T.Cleanup(func() {
		cancel()
		<-l.ended
	})
	go l.read()
	return l
}

func (l *Listener) read() {
	defer func() { _ = l.res.Body.Close() }()
	s := newEventStream(l.res.Body)
	for {
		e, err := s.next()
		if err != nil {
			l.err = err
			close(l.ended)
			close(l.Events)
			return
		}
		l.Events <- e
	}
}

// GetStream opens a GET stream of the upstream s, which must be accepted.
func (a *Agent) GetStream(fields ...string) *Listener {
	a.T.Helper()
	l := a.Listen(http.MethodGet, "/mcp/s", "", fields...)
	if ct := l.res.Header.Get("Content-Type"); l.res.StatusCode != http.StatusOK || ct != "text/event-stream" {
		a.T.Fatalf("GET: got %d %s", l.res.StatusCode, ct)
	}
	return l
}

// Next waits for the next event.
func (l *Listener) Next() Event {
	l.t.Helper()
	select {
	case e, more := <-l.Events:
		if !more {
			l.t.Fatalf("the stream ended (%v), an event was due", l.err)
		}
		return e
	case <-time.After(MaxWait):
		l.t.Fatalf("no event within %v", MaxWait)
	}
	return Event{}
}

// CleanEnd waits for the stream's end, which must be clean and without a further event. Like Within, it bears a slow machine: what would
// end the stream without what is tested has to come later still.
func (l *Listener) CleanEnd(promise time.Duration) {
	l.t.Helper()
	select {
	case <-l.ended:
		if l.err != io.EOF {
			l.t.Errorf("the stream ended with %v, want a clean end", l.err)
		}
		if e, more := <-l.Events; more {
			l.t.Errorf("an event before the end: %+v", e)
		}
	case <-time.After(promise + slack):
		l.t.Errorf("the stream is still open after %v", promise+slack)
	}
}

// StillOpen fails the test if the stream has ended.
func (l *Listener) StillOpen() {
	l.t.Helper()
	select {
	case <-l.ended:
		l.t.Fatalf("the stream ended: %v", l.err)
	default:
	}
}
