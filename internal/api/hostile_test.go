package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fluentd-perf/internal/api"
)

// raw sends bytes on a connection of their own and returns the answer's status and body.
func raw(t *testing.T, path, request string) (int, string) {
	t.Helper()
	c := connect(t, path)
	go io.WriteString(c, request) // it may hang up before it has read everything
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%.60q: %v", request, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%.60q: %v", request, err)
	}
	return resp.StatusCode, string(body)
}

// TestHostileRequests holds that requests are bounded and get an answer.
func TestHostileRequests(t *testing.T) {
	path := serving(t, api.Options{Handlers: map[string]api.Handler{"echo": echo}})
	post := func(body string) string {
		return fmt.Sprintf("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	for _, c := range []struct {
		request string
		status  int
		says    string
	}{
		{post(`{"a":1}`), 200, `{"a":1}`},
		{post(" \n"), 200, "null"},
		{post(`{"a":`), 400, "not JSON"},
		{post(`{} {}`), 400, "not JSON"},
		{post(`"` + strings.Repeat("x", 64<<10-2) + `"`), 200, "xxx"},
		{post(`"` + strings.Repeat("x", 64<<10-1) + `"`), 413, "larger than 65536 bytes"},
		{post(strings.Repeat("[", 60_000)), 400, "not JSON"},
		{"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n" + strings.Repeat("x", 128<<10), 413, "larger"},
		{"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("4000\r\n"+strings.Repeat("x", 0x4000)+"\r\n", 5), 413, "larger"},
		{"POST /echo HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 1<<20) + "\r\n\r\n", 431, ""},
		{"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n", 405, "echo is called by POST"},
		{"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400, ""},
	} {
		status, body := raw(t, path, c.request)
		if status != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%.60q: %d %.100s; want %d %s", c.request, status, body, c.status, c.says)
		}
	}
}

// TestHostileHalves fills every place with requests that never become whole: their time ends, and others get their turn.
func TestHostileHalves(t *testing.T) {
	path := serving(t, api.Options{
		Connections: 3, ReadTimeout: 50 * time.Millisecond, Handlers: map[string]api.Handler{"echo": echo},
	})
	var waiting []io.Reader
	for _, half := range []string{"", "POST /ec", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n[1", "POST /echo HTTP/1.1\r\n", "", ""} {
		c := connect(t, path)
		if _, err := io.WriteString(c, half); err != nil {
			t.Fatal(err)
		}
		waiting = append(waiting, c)
	}
	if err := api.Call(t.Context(), path, "echo", nil, nil); err != nil {
		t.Error(err)
	}
	for _, c := range waiting {
		if _, err := io.Copy(io.Discard, c); err != nil { // it ends, else the test does not
			t.Error(err)
		}
	}
}

// TestManyHostile sends many calls at once: no more than the places are handled at a time, and all are answered.
func TestManyHostile(t *testing.T) {
	const places, callers = 4, 100
	var inside, most atomic.Int64
	path := serving(t, api.Options{Connections: places, Handlers: map[string]api.Handler{
		"count": func(context.Context, json.RawMessage) (any, error) {
			defer inside.Add(-1)
			for now := inside.Add(1); ; {
				if m := most.Load(); m >= now || most.CompareAndSwap(m, now) {
					break
				}
			}
			<-time.After(time.Millisecond)
			return nil, nil
		},
	}})
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			if err := api.Call(t.Context(), path, "count", nil, nil); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if m := most.Load(); m < 1 || m > places {
		t.Errorf("%d at once, of at most %d", m, places)
	}
}

// TestCloseUnderWay holds that Close lets a call end, and that nobody comes after.
func TestCloseUnderWay(t *testing.T) {
	began, finish := make(chan struct{}), make(chan struct{})
	path := filepath.Join(directory(t), "admin.sock")
	s := open(t, api.Options{Path: path, Handlers: map[string]api.Handler{
		"wait": func(context.Context, json.RawMessage) (any, error) {
			close(began)
			<-finish
			return strings.Repeat("x", 100_000), nil
		},
	}})
	served, called, closed := make(chan error, 1), make(chan error, 1), make(chan error, 1)
	go func() { served <- s.Serve() }()
	var got string
	go func() { called <- api.Call(t.Context(), path, "wait", nil, &got) }()
	<-began
	half := connect(t, path) // which Close does not wait for
	if _, err := io.WriteString(half, "POST /wait HTTP/1.1\r\n"); err != nil {
		t.Fatal(err)
	}
	go func() { closed <- s.Close() }()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := api.Call(t.Context(), path, "wait", nil, nil); err == nil {
		t.Error("a call was answered after Close had begun")
	}
	select {
	case err := <-closed:
		t.Errorf("Close did not wait: %v", err)
	default:
	}
	close(finish)
	if err := <-called; err != nil || len(got) != 100_000 {
		t.Errorf("the call under way: %d bytes, %v", len(got), err)
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// TestCloseEndsCalls holds that Close ends a call that does not end by itself, with a word to its caller.
func TestCloseEndsCalls(t *testing.T) {
	began := make(chan struct{})
	path := filepath.Join(directory(t), "admin.sock")
	s := open(t, api.Options{Path: path, Handlers: map[string]api.Handler{
		"hang": func(ctx context.Context, _ json.RawMessage) (any, error) {
			close(began)
			<-ctx.Done()
			return nil, ctx.Err()
		},
	}})
	served, called := make(chan error, 1), make(chan error, 1)
	go func() { served <- s.Serve() }()
	go func() { called <- api.Call(t.Context(), path, "hang", nil, nil) }()
	<-began
	if err := errors.Join(s.Close(), <-served); err != nil {
		t.Error(err)
	}
	var refused *api.RefusedError
	if err := <-called; !errors.As(err, &refused) || refused.Status != 503 || err.Error() != "the daemon is stopping" {
		t.Errorf("%v", err)
	}
}

// TestCloseWhileClientReadsNothing holds that a client that asks for much and does not read it keeps Close no longer than its time.
func TestCloseWhileClientReadsNothing(t *testing.T) {
	began := make(chan struct{})
	path := filepath.Join(directory(t), "admin.sock")
	s := open(t, api.Options{Path: path, Handlers: map[string]api.Handler{
		"much": func(context.Context, json.RawMessage) (any, error) {
			close(began)
			return string(bytes.Repeat([]byte("x"), 8<<20)), nil
		},
	}})
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	if _, err := io.WriteString(connect(t, path), "POST /much HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-began
	if err := errors.Join(s.Close(), <-served); err != nil { // else the test's own time ends
		t.Error(err)
	}
}
