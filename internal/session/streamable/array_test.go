package streamable

import (
	"context"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/mcp"
)

// leaving is a Server that can be entered so often, and answers when it is told to.
type leaving struct {
	entries, inside int
	released        int
	take            func([]byte, *mcp.Message)
	ended           chan struct{}
	noID            bool         // it answers requests itself
	refuses         *mcp.Failure // of requests; nil: it takes them
	meanwhile       func()       // while a request is sent; nil: nothing

	mu   sync.Mutex // guards sent
	sent []string   // what is no request
}

func (l *leaving) Request(_ context.Context, _ []byte, _ *mcp.Message, take func([]byte, *mcp.Message)) ([]byte, *mcp.Failure) {
	l.take = take
	if l.meanwhile != nil {
		l.meanwhile()
	}
	if l.noID {
		return nil, l.refuses
	}
	return []byte("1"), l.refuses
}
func (l *leaving) Send(_ context.Context, body []byte, _ *mcp.Message) *mcp.Failure {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = append(l.sent, string(body))
	return nil
}
func (l *leaving) Enter() bool {
	if l.entries == 0 {
		return false
	}
	l.entries--
	l.inside++
	return true
}
func (l *leaving) Leave()                       { l.inside-- }
func (l *leaving) Forget([]byte)                {}
func (l *leaving) Ended() <-chan struct{}       { return l.ended }
func (l *leaving) Failure() *mcp.Failure        { return &mcp.Failure{} }
func (l *leaving) Received() uint64             { return 0 }
func (l *leaving) Outdated() bool               { return false }
func (l *leaving) Check([]byte)                 {}
func (l *leaving) GaveUp([]byte, time.Duration) {}
func (l *leaving) Checking() <-chan struct{}    { return nil }
func (l *leaving) Note(bool, bool)              {}
func (l *leaving) Release()                     { l.released++ }

// TestArrayCutShort holds that nothing stays of the stream of an array whose process goes between two elements, neither at once nor
// when the answer to the first one comes.
func TestArrayCutShort(t *testing.T) {
	f := New(Options{Upstream: "x", Store: NewStore(StoreOptions{})})
	defer f.opts.Store.Close()
	defer f.Close()
	s := newSession(f, "s", [32]byte{})
	server := &leaving{entries: 2, ended: make(chan struct{})} // once for the array, once for its first request
	s.link = &link{s: s, server: server}
	body := []byte(`[{"jsonrpc":"2.0","id":1,"method":"tools/list"},{"jsonrpc":"2.0","id":2,"method":"tools/list"}]`)
	parts, failure := partsOf(body)
	if failure != nil {
		t.Fatal(failure)
	}
	c := &mcp.Call{Lane: mcp.LaneOpaque, Body: body, Message: mcp.Message{Kind: mcp.KindBatch}}
	if res, f := s.requests(t.Context(), c, parts); f == nil || f.Sent != mcp.SentUnknown {
		t.Fatalf("%+v, %v", res, f)
	}
	if len(s.streams) != 0 || len(s.calls) != 1 {
		t.Errorf("%d streams, %d calls", len(s.streams), len(s.calls))
	}
	answer := []byte(`{"jsonrpc":"2.0","id":1,"result":{}}`)
	server.take(answer, scanned(answer))
	if len(s.streams) != 0 || len(s.calls) != 0 || len(s.log) != 0 || s.size != 0 || server.inside != 0 {
		t.Errorf("after the answer: %d streams, %d calls, %d events, %d inside", len(s.streams), len(s.calls), len(s.log), server.inside)
	}
}

// TestCancelsWhatTheProcessHas holds that no cancellation reaches the process of a request that the Server answers itself, for which it has
// no id.
func TestCancelsWhatTheProcessHas(t *testing.T) {
	f := New(Options{Upstream: "x", Store: NewStore(StoreOptions{})})
	defer f.opts.Store.Close()
	defer f.Close()
	for noID, want := range map[bool]int{true: 0, false: 1} {
		s, server := opened(f, "s")
		server.noID = noID
		r := s.posted(t, server, &mcp.Call{})
		cancel := messageOf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}`)
		if res, f := s.cancel(t.Context(), &mcp.Call{Body: cancel.data, Message: *cancel.m}); f != nil || res.Status != 202 {
			t.Errorf("%v: %+v, %v", noID, res, f)
		}
		if len(server.sent) != want {
			t.Errorf("%v: the process got %q", noID, server.sent)
		}
		_ = r.Close() // it returns nil
		for _, c := range s.calls {
			c.timer.Stop()
		}
	}
}
