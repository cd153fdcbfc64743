package mcptest

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// What a stage's test has behind the stage, in place of a server: results as a mcp.Caller returns them, and their ends.

// After waits for d, or until the context ends: then it fails as an upstream does.
func After(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentYes, Cause: context.Cause(ctx)}
	}
}

// Body returns a body that comes in pieces of a size in bytes and ends with end, which is io.EOF for a whole one. Each Close is
// counted in closed.
func Body(text string, size int, end error, closed *atomic.Int64) io.ReadCloser {
	return &body{pieces: slices.Collect(slices.Chunk([]byte(text), size)), end: end, closed: closed}
}

type body struct {
	pieces [][]byte
	end    error
	closed *atomic.Int64
}

func (b *body) Read(p []byte) (int, error) {
	if len(b.pieces) == 0 {
		return 0, b.end
	}
	n := copy(p, b.pieces[0])
	if b.pieces[0] = b.pieces[0][n:]; len(b.pieces[0]) == 0 {
		b.pieces = b.pieces[1:]
	}
	return n, nil
}

func (b *body) Close() error {
	b.closed.Add(1)
	return nil
}

// EventsOf returns a result whose events are given as the text of an SSE stream. After them comes end; nil waits for the
// context's end, and fails as an upstream does. Each Close is counted in closed.
func EventsOf(ctx context.Context, text string, end error, closed *atomic.Int64) *mcp.Result {
	return &mcp.Result{
		Status: http.StatusOK, Header: header.List{{Name: "Content-Type", Value: "text/event-stream"}},
		Events: &events{ctx, mcp.NewEventReader(strings.NewReader(text), nil, 1<<20), end, closed},
	}
}

type events struct {
	ctx    context.Context
	reader *mcp.EventReader
	end    error
	closed *atomic.Int64
}

func (s *events) Next() (mcp.Event, error) {
	ev, err := s.reader.Next()
	if err == io.EOF && s.end != nil {
		return mcp.Event{}, s.end
	}
	if err == io.EOF {
		<-s.ctx.Done()
		return mcp.Event{}, After(s.ctx, time.Hour)
	}
	if err == nil && len(ev.Data) > 0 {
		if err = mcp.Scan(ev.Data, &ev.Message); err != nil {
			panic(err)
		}
		ev.Answer = ev.Message.Kind == mcp.KindResult || ev.Message.Kind == mcp.KindError
	}
	return ev, err
}

func (s *events) Close() error {
	s.closed.Add(1)
	s.reader.Close()
	return nil
}

// WantFailure checks that a call failed, and how.
func WantFailure(tb testing.TB, err error, code int, reason mcp.Reason) *mcp.Failure {
	tb.Helper()
	f, ok := err.(*mcp.Failure)
	if !ok {
		tb.Fatalf("got %T %v, want a *mcp.Failure", err, err)
	}
	if f.Code != code || f.Reason != reason {
		tb.Fatalf("got %d %s (%v), want %d %s", f.Code, f.Reason, f, code, reason)
	}
	return f
}
