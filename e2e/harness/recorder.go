package harness

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Recorder is an http.RoundTripper that writes down what a Go client receives: every message, as soon as the client has
// read it, and every exchange.
type Recorder struct {
	Base *http.Transport

	mu       sync.Mutex
	received []json.RawMessage
	http     []string
	changed  chan struct{} // closed and replaced at every change
}

// NewRecorder makes a recorder with connections of its own, which end with the test.
func NewRecorder(t testing.TB) *Recorder {
	t.Helper()
	r := &Recorder{Base: &http.Transport{}, changed: make(chan struct{})}
	t.Cleanup(r.Base.CloseIdleConnections)
	return r
}

// RoundTrip implements http.RoundTripper.
func (r *Recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	index := r.begin(describe(request))
	response, err := r.Base.RoundTrip(request)
	if err != nil {
		outcome := "an error"
		if request.Context().Err() != nil {
			outcome = "left"
		}
		r.end(index, outcome)
		return nil, err
	}
	if response.StatusCode >= 300 {
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			return nil, err
		}
		response.Body = io.NopCloser(bytes.NewReader(body))
		r.end(index, describeResponse(response, body))
		return response, nil
	}
	r.end(index, describeResponse(response, nil))
	response.Body = &tee{ReadCloser: response.Body, sse: strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream"), message: r.message}
	return response, nil
}

func (r *Recorder) begin(what string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.http = append(r.http, what)
	return len(r.http) - 1
}

func (r *Recorder) end(index int, outcome string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.http[index] += " -> " + outcome
	r.wakeLocked()
}

func (r *Recorder) message(data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.received = append(r.received, json.RawMessage(bytes.Clone(data)))
	r.wakeLocked()
}

func (r *Recorder) wakeLocked() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// until waits until the condition holds; it is looked at, under the lock, after every message and every exchange.
func (r *Recorder) until(ctx context.Context, what string, condition func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, MaxWait)
	defer cancel()
	for {
		r.mu.Lock()
		held, changed := condition(), r.changed
		r.mu.Unlock()
		if held {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("waited for %s: %w", what, ctx.Err())
		}
	}
}

// Expect waits until a message of the method has been received since the last take.
func (r *Recorder) Expect(ctx context.Context, method string) error { return r.ExpectN(ctx, method, 1) }

// ExpectN is Expect of n messages at least.
func (r *Recorder) ExpectN(ctx context.Context, method string, n int) error {
	return r.until(ctx, fmt.Sprint(n, " ", method), func() bool { return r.countLocked(method) >= n })
}

// Exchanged waits until an exchange that begins with the text has been answered.
func (r *Recorder) Exchanged(ctx context.Context, prefix string) error {
	return r.until(ctx, prefix, func() bool {
		return slices.ContainsFunc(r.http, func(text string) bool {
			return strings.HasPrefix(text, prefix) && strings.Contains(text, " -> ")
		})
	})
}

// Answered waits until n exchanges that begin with the text have been answered by what begins with the answer.
func (r *Recorder) Answered(ctx context.Context, prefix, answer string, n int) error {
	return r.until(ctx, fmt.Sprintf("%d %s -> %s", n, prefix, answer), func() bool {
		found := 0
		for _, text := range r.http {
			if strings.HasPrefix(text, prefix) && strings.Contains(text, " -> "+answer) {
				found++
			}
		}
		return found >= n
	})
}

// Settled waits until every exchange has been answered.
func (r *Recorder) Settled(ctx context.Context) error {
	return r.until(ctx, "the answers to all requests", func() bool {
		return !slices.ContainsFunc(r.http, func(text string) bool { return !strings.Contains(text, " -> ") })
	})
}

// Verbatim waits until these very bytes have been received as a message since the last take.
func (r *Recorder) Verbatim(ctx context.Context, message string) error {
	return r.until(ctx, message, func() bool {
		return slices.ContainsFunc(r.received, func(raw json.RawMessage) bool { return string(raw) == message })
	})
}

// Take returns what was received since the last call, grouped by what orders it, groups sorted by name: see agent.mjs.
func (r *Recorder) Take() []Group {
	r.mu.Lock()
	defer r.mu.Unlock()
	byName := map[string][]json.RawMessage{}
	var names []string
	for _, raw := range r.received {
		name := HeadOf(raw).group()
		if byName[name] == nil {
			names = append(names, name)
		}
		byName[name] = append(byName[name], raw)
	}
	r.received = nil
	slices.Sort(names)
	groups := make([]Group, len(names))
	for i, name := range names {
		groups[i] = Group{RawJSON(name), RawJSON(byName[name])}
	}
	return groups
}

// Count returns how many messages of the method have been received since the last take.
func (r *Recorder) Count(method string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.countLocked(method)
}

func (r *Recorder) countLocked(method string) (n int) {
	for _, raw := range r.received {
		if HeadOf(raw).Method == method {
			n++
		}
	}
	return n
}

// Exchanges returns a line for each exchange, sorted.
func (r *Recorder) Exchanges() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(slices.Values(r.http))
}

// Head is what orders a message.
type Head struct {
	ID     json.RawMessage
	Method string
	Params struct {
		ProgressToken json.RawMessage
	}
}

// HeadOf reads what orders a message.
func HeadOf(raw json.RawMessage) Head {
	var h Head
	_ = json.Unmarshal(raw, &h) // what is no message has no head, and is in the transcript as it is
	return h
}

func (h Head) group() string {
	switch h.Method {
	case "notifications/progress":
		return "progress " + string(h.Params.ProgressToken)
	case "":
		return "answer " + string(h.ID)
	}
	return h.Method
}

// RawJSON writes a value that can be written as JSON.
func RawJSON(v any) json.RawMessage {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return raw
}

func describe(request *http.Request) string {
	if request.Body == nil {
		if request.Header.Get("Last-Event-ID") != "" {
			return request.Method + " resumed"
		}
		return request.Method
	}
	body, err := io.ReadAll(request.Body)
	if err != nil {
		panic(err)
	}
	request.Body.Close()
	request.Body = io.NopCloser(bytes.NewReader(body))
	if method := HeadOf(body).Method; method != "" {
		return request.Method + " " + method
	}
	return request.Method + " response"
}

// AnsweredByCache is the Cache-Status of an answer that the daemon had at hand.
var AnsweredByCache = regexp.MustCompile(`fluentd-perf; (hit|fwd=miss; collapsed)`)

// CachedMark stands for AnsweredByCache in an exchange.
const CachedMark = "cached"

// describeResponse is what an agent can see of an answer: status, type, the headers of the protocol, whether the daemon had
// the answer at hand and, of an error, the body.
func describeResponse(response *http.Response, body []byte) string {
	parts := []string{fmt.Sprint(response.StatusCode)}
	if contentType, _, _ := strings.Cut(response.Header.Get("Content-Type"), ";"); contentType != "" {
		parts = append(parts, contentType)
	}
	if response.Header.Get("Mcp-Session-Id") != "" {
		parts = append(parts, "session")
	}
	if AnsweredByCache.MatchString(response.Header.Get("Cache-Status")) {
		parts = append(parts, CachedMark)
	}
	for _, name := range []string{"Allow", "WWW-Authenticate"} {
		if value := response.Header.Get(name); value != "" {
			parts = append(parts, name+": "+value)
		}
	}
	if body != nil {
		parts = append(parts, fmt.Sprintf("%q", body))
	}
	return strings.Join(parts, " ")
}

// tee hands on a body and its messages: the data of SSE events, or the whole body at its end.
type tee struct {
	io.ReadCloser
	sse     bool
	message func([]byte)
	pending []byte
}

// Read implements io.Reader.
func (b *tee) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.pending = append(b.pending, p[:n]...)
	if b.sse {
		b.events()
	} else if err == io.EOF && len(bytes.TrimSpace(b.pending)) > 0 {
		b.message(bytes.TrimSpace(b.pending))
		b.pending = nil
	}
	return n, err
}

// Lines returns a server's stdout, whose lines the recorder writes down as messages when they are read.
func (r *Recorder) Lines(stdout io.ReadCloser) io.ReadCloser {
	return &lines{ReadCloser: stdout, message: r.message}
}

// lines hands on a stream and its lines.
type lines struct {
	io.ReadCloser
	message func([]byte)
	pending []byte
}

// Read implements io.Reader.
func (l *lines) Read(p []byte) (int, error) {
	n, err := l.ReadCloser.Read(p)
	l.pending = append(l.pending, p[:n]...)
	for {
		line, rest, found := bytes.Cut(l.pending, []byte("\n"))
		if !found {
			return n, err
		}
		l.pending = rest
		if line = bytes.TrimSpace(line); len(line) > 0 {
			l.message(line)
		}
	}
}

// events hands on the events that are whole, `endpoint` events of the old transport left out: they carry no message. No
// server here writes data of more than one line.
func (b *tee) events() {
	for {
		event, rest, found := bytes.Cut(b.pending, []byte("\n\n"))
		if !found {
			return
		}
		b.pending = rest
		if bytes.HasPrefix(event, []byte("event: endpoint\n")) {
			continue
		}
		for line := range bytes.Lines(event) {
			if data, ok := bytes.CutPrefix(bytes.TrimRight(line, "\r\n"), []byte("data: ")); ok && len(data) > 0 {
				b.message(data)
			}
		}
	}
}

// Group holds the messages that one stream orders: a name and the messages as received.
type Group [2]json.RawMessage
