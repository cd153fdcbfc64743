package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/api"
)

type question struct {
	Name string `json:"name"`
	N    int    `json:"n"`
}

// TestCall holds what comes back from a call, and what an error of the daemon's looks like.
func TestCall(t *testing.T) {
	path := serving(t, api.Options{Handlers: map[string]api.Handler{
		"echo": echo,
		"typed": api.Handle(func(_ context.Context, q question) (question, error) {
			return question{q.Name + "!", q.N + 1}, nil
		}),
		"fail":       func(context.Context, json.RawMessage) (any, error) { return nil, errors.New(`no upstream "x"`) },
		"panic":      func(context.Context, json.RawMessage) (any, error) { panic("oh") },
		"unwritable": func(context.Context, json.RawMessage) (any, error) { return func() {}, nil },
	}})
	for _, c := range []struct {
		name   string
		in     any
		want   string // JSON of the answer
		status int    // of the refusal
		says   string
	}{
		{name: "echo", in: map[string]int{"a": 1}, want: `{"a":1}`},
		{name: "echo", in: nil, want: `null`},
		{name: "typed", in: question{"x", 1}, want: `{"name":"x!","n":2}`},
		{name: "typed", in: nil, want: `{"name":"!","n":1}`},
		{name: "typed", in: map[string]any{"name": "x", "wide": true}, status: 400, says: `unknown field "wide"`},
		{name: "typed", in: []int{1}, status: 400, says: "the parameters: "},
		{name: "fail", status: 500, says: `no upstream "x"`},
		{name: "panic", status: 500, says: "a bug in the daemon"},
		{name: "unwritable", status: 500, says: "cannot be written as JSON"},
		{name: "status", status: 404, says: `no call "status": this daemon knows echo, fail, panic, typed, unwritable`},
		{name: "../echo", status: 404, says: "no call"},
		{name: "", status: 404, says: "no call"},
	} {
		var got json.RawMessage
		err := api.Call(t.Context(), path, c.name, c.in, &got)
		var refused *api.RefusedError
		switch {
		case c.status == 0 && (err != nil || string(bytes.TrimSpace(got)) != c.want):
			t.Errorf("%s %v: %s, %v; want %s", c.name, c.in, got, err, c.want)
		case c.status != 0 && (!errors.As(err, &refused) || refused.Status != c.status || !strings.Contains(err.Error(), c.says)):
			t.Errorf("%s %v: %s, %v; want %d %s", c.name, c.in, got, err, c.status, c.says)
		}
	}
	if err := api.Call(t.Context(), path, "fail", nil, nil); err == nil || err.Error() != `no upstream "x"` {
		t.Errorf("%v: not verbatim", err)
	}
	if err := api.Call(t.Context(), path, "echo", question{}, nil); err != nil {
		t.Error(err)
	}
	if err := api.Call(t.Context(), path, "echo", func() {}, nil); err == nil {
		t.Error("a function was sent as JSON")
	}
	if err := api.Call(t.Context(), path, "echo", "text", new(int)); err == nil || !strings.Contains(err.Error(), "answer to echo") {
		t.Errorf("text as a number: %v", err)
	}
}

// TestCallLargeAnswer holds that a client reads no more than it promises.
func TestCallLargeAnswer(t *testing.T) {
	path := serving(t, api.Options{Handlers: map[string]api.Handler{
		"large": api.Handle(func(_ context.Context, n int) (string, error) { return strings.Repeat("x", n), nil }),
	}})
	var got string
	if err := api.Call(t.Context(), path, "large", 8<<20, &got); err != nil || len(got) != 8<<20 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	err := api.Call(t.Context(), path, "large", 16<<20, &got)
	if err == nil || !strings.Contains(err.Error(), "larger than 16777216 bytes") {
		t.Errorf("%v", err)
	}
}

// TestCallNobody holds what is said where nobody listens.
func TestCallNobody(t *testing.T) {
	path := filepath.Join(directory(t), "admin.sock")
	err := api.Call(t.Context(), path, "echo", nil, nil)
	if want := "asking the daemon at " + path + ": no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	long := "/" + strings.Repeat("x", 200)
	if err := api.Call(t.Context(), long, "echo", nil, nil); !errors.Is(err, api.ErrPathTooLong) {
		t.Errorf("%v", err)
	}
}

// TestCallTime holds the times of a call: a handler may be slower than a request may be, its own time ends it, and so
// does its caller.
func TestCallTime(t *testing.T) {
	gone := make(chan error, 1)
	until := func(ctx context.Context, _ json.RawMessage) (any, error) {
		<-ctx.Done()
		gone <- ctx.Err()
		return nil, ctx.Err()
	}
	quick := serving(t, api.Options{CallTimeout: 20 * time.Millisecond, Handlers: map[string]api.Handler{"until": until}})
	var refused *api.RefusedError
	err := api.Call(t.Context(), quick, "until", nil, nil)
	if !errors.As(err, &refused) || refused.Status != http.StatusGatewayTimeout || err.Error() != "until took longer than 20ms" {
		t.Errorf("%v", err)
	}
	<-gone

	slow := serving(t, api.Options{ReadTimeout: 20 * time.Millisecond, Handlers: map[string]api.Handler{
		"slow": func(ctx context.Context, _ json.RawMessage) (any, error) {
			select {
			case <-time.After(200 * time.Millisecond):
				return "done", nil
			case <-ctx.Done():
				return nil, errors.New("the time to read ended the call")
			}
		},
		"until": until,
	}})
	if err := api.Call(t.Context(), slow, "slow", nil, nil); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("I go"))
	defer cancel()
	if err := api.Call(ctx, slow, "until", nil, nil); err == nil || !strings.Contains(err.Error(), "I go") {
		t.Errorf("%v", err)
	}
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the handler of a caller who left: %v", err)
	}
}

// TestCallLong holds that a call with a time of its own has that, and no other call.
func TestCallLong(t *testing.T) {
	t.Parallel() // it takes its time
	wait := func(ctx context.Context, _ json.RawMessage) (any, error) {
		select {
		case <-time.After(10500 * time.Millisecond): // over all that net/http gives an answer here
			return "done", nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	path := serving(t, api.Options{
		ReadTimeout: 100 * time.Millisecond, CallTimeout: 10 * time.Millisecond, Long: map[string]time.Duration{"long": time.Minute},
		Handlers: map[string]api.Handler{"long": wait, "other": wait},
	})
	if err := api.Call(t.Context(), path, "other", nil, nil); err == nil || err.Error() != "other took longer than 10ms" {
		t.Errorf("%v", err)
	}
	if err := api.Call(t.Context(), path, "long", nil, nil); err != nil {
		t.Error(err)
	}
}

// TestCallLog holds that a panic is told to the operator, with its place.
func TestCallLog(t *testing.T) {
	var log bytes.Buffer
	o := api.Options{Path: filepath.Join(directory(t), "admin.sock"), Log: slog.New(slog.NewTextHandler(&log, nil))}
	o.Handlers = map[string]api.Handler{"panic": func(context.Context, json.RawMessage) (any, error) { panic("oh") }}
	s := open(t, o)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve() }()
	if err := api.Call(t.Context(), o.Path, "panic", nil, nil); err == nil || strings.Contains(err.Error(), "oh") {
		t.Errorf("the caller was told %v", err)
	}
	if err := errors.Join(s.Close(), <-ended); err != nil {
		t.Error(err)
	}
	if got := log.String(); !strings.Contains(got, "call=panic panic=oh") || !strings.Contains(got, "call_test.go") {
		t.Errorf("%s", got)
	}
}
