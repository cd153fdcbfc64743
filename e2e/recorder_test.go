package e2e

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
	"testing/iotest"
	"time"
)

// recorder is an http.RoundTripper that writes down what a Go client receives: every message, as soon as the client has
// read it, and every exchange.
type recorder struct {
	base *http.Transport

	mu       sync.Mutex
	received []json.RawMessage
	http     []string
	changed  chan struct{} // closed and replaced at every change
}

func newRecorder(t testing.TB) *recorder {
	t.Helper()
	r := &recorder{base: &http.Transport{}, changed: make(chan struct{})}
	t.Cleanup(r.base.CloseIdleConnections)
	return r
}

// RoundTrip implements http.RoundTripper.
func (r *recorder) RoundTrip(request *http.Request) (*http.Response, error) {
	index := r.begin(describe(request))
	response, err := r.base.RoundTrip(request)
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
		r.end(index, seen(response, body))
		return response, nil
	}
	r.end(index, seen(response, nil))
	response.Body = &tee{ReadCloser: response.Body, sse: strings.HasPrefix(response.Header.Get("Content-Type"), "text/event-stream"), message: r.message}
	return response, nil
}

func (r *recorder) begin(what string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.http = append(r.http, what)
	return len(r.http) - 1
}

func (r *recorder) end(index int, outcome string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.http[index] += " -> " + outcome
	r.wakeLocked()
}

func (r *recorder) message(data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.received = append(r.received, json.RawMessage(bytes.Clone(data)))
	r.wakeLocked()
}

func (r *recorder) wakeLocked() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// until waits until the condition holds; it is looked at, under the lock, after every message and every exchange.
func (r *recorder) until(ctx context.Context, what string, condition func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
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

// expect waits until a message of the method has been received since the last take.
func (r *recorder) expect(ctx context.Context, method string) error {
	return r.until(ctx, method, func() bool {
		return slices.ContainsFunc(r.received, func(raw json.RawMessage) bool { return headOf(raw).Method == method })
	})
}

// count returns how many messages of the method have been received since the last take.
func (r *recorder) count(method string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, raw := range r.received {
		if headOf(raw).Method == method {
			n++
		}
	}
	return n
}

// exchanged waits until an exchange that begins with the text has been answered.
func (r *recorder) exchanged(ctx context.Context, prefix string) error {
	return r.until(ctx, prefix, func() bool {
		return slices.ContainsFunc(r.http, func(text string) bool {
			return strings.HasPrefix(text, prefix) && strings.Contains(text, " -> ")
		})
	})
}

// answered waits until n exchanges that begin with the text have been answered by what begins with the answer.
func (r *recorder) answered(ctx context.Context, prefix, answer string, n int) error {
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

// settled waits until every exchange has been answered.
func (r *recorder) settled(ctx context.Context) error {
	return r.until(ctx, "the answers to all requests", func() bool {
		return !slices.ContainsFunc(r.http, func(text string) bool { return !strings.Contains(text, " -> ") })
	})
}

// verbatim waits until these very bytes have been received as a message since the last take.
func (r *recorder) verbatim(ctx context.Context, message string) error {
	return r.until(ctx, message, func() bool {
		return slices.ContainsFunc(r.received, func(raw json.RawMessage) bool { return string(raw) == message })
	})
}

// take returns what was received since the last call, grouped by what orders it, groups sorted by name: see agent.mjs.
func (r *recorder) take() []group {
	r.mu.Lock()
	defer r.mu.Unlock()
	byName := map[string][]json.RawMessage{}
	var names []string
	for _, raw := range r.received {
		name := headOf(raw).group()
		if byName[name] == nil {
			names = append(names, name)
		}
		byName[name] = append(byName[name], raw)
	}
	r.received = nil
	slices.Sort(names)
	groups := make([]group, len(names))
	for i, name := range names {
		groups[i] = group{rawJSON(name), rawJSON(byName[name])}
	}
	return groups
}

func (r *recorder) exchanges() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(slices.Values(r.http))
}

// head is what orders a message.
type head struct {
	ID     json.RawMessage
	Method string
	Params struct {
		ProgressToken json.RawMessage
	}
}

func headOf(raw json.RawMessage) head {
	var h head
	_ = json.Unmarshal(raw, &h) // what is no message has no head, and stands in the transcript as it is
	return h
}

func (h head) group() string {
	switch h.Method {
	case "notifications/progress":
		return "progress " + string(h.Params.ProgressToken)
	case "":
		return "answer " + string(h.ID)
	}
	return h.Method
}

func rawJSON(v any) json.RawMessage {
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
	if method := headOf(body).Method; method != "" {
		return request.Method + " " + method
	}
	return request.Method + " response"
}

// atHand is the Cache-Status of an answer that the daemon had at hand, cachedMark what stands for it in an exchange.
var atHand = regexp.MustCompile(`fluentd-perf; (hit|fwd=miss; collapsed)`)

const cachedMark = "cached"

// seen is what an agent can see of an answer: status, type, the headers of the protocol, whether the daemon had the answer
// at hand and, of an error, the body.
func seen(response *http.Response, body []byte) string {
	parts := []string{fmt.Sprint(response.StatusCode)}
	if contentType, _, _ := strings.Cut(response.Header.Get("Content-Type"), ";"); contentType != "" {
		parts = append(parts, contentType)
	}
	if response.Header.Get("Mcp-Session-Id") != "" {
		parts = append(parts, "session")
	}
	if atHand.MatchString(response.Header.Get("Cache-Status")) {
		parts = append(parts, cachedMark)
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

func TestRecorder(t *testing.T) {
	var got []string
	body := "event: endpoint\ndata: /x\n\nid: 1\ndata: \n\n: comment\n\nevent: message\ndata: {\"method\":\"a\"}\n\ndata: {\"id\":2}\n\n"
	b := &tee{ReadCloser: io.NopCloser(iotest.OneByteReader(strings.NewReader(body))), sse: true, message: func(m []byte) { got = append(got, string(m)) }}
	if _, err := io.Copy(io.Discard, b); err != nil {
		t.Fatal(err)
	}
	if want := []string{`{"method":"a"}`, `{"id":2}`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	r := newRecorder(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := r.expect(ctx, "none"); err == nil {
		t.Error("expect found a message that was not there")
	}
}
