package cache_test

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/cache/worker"
	"fluentd-perf/internal/mcp"
)

// withRig runs f on false time with a store of these options, the rest as rulesTest has it, over these tiers.
func withRig(t *testing.T, s cache.StoreOptions, o cache.StageOptions, tiers []worker.Options, f func(r *rulesRig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newMendedRig(t, s, o, tiers...)
		defer r.close()
		f(r)
	})
}

func newMendedRig(t *testing.T, s cache.StoreOptions, o cache.StageOptions, tiers ...worker.Options) *rulesRig {
	t.Helper()
	if s.State == nil {
		s.State = cache.MemoryState([]byte("0123456789abcdef"))
	}
	s.Memory.Size = 1 << 20
	store, err := cache.NewStore(s)
	if err != nil {
		t.Fatal(err)
	}
	for _, tier := range tiers {
		store.Add(tier)
	}
	r := &rulesRig{T: t, store: store, server: new(rulesServer)}
	r.up, r.caller = r.another("docs", "https://docs.example.com/mcp", o)
	r.up.Watch(func(_ *mcp.Call, f cache.Flown) { r.flown = f })
	r.says(`"ttlMs":9000,"cacheScope":"private"`)
	synctest.Wait()
	return r
}

// another makes one more upstream of the rig's store, before the same server.
func (r *rulesRig) another(name, identity string, o cache.StageOptions) (*cache.Stage, mcp.Caller) {
	o.Name, o.Identity = name, identity
	up := r.store.Stage(o, r.server)
	up.Switchable()
	return up, up
}

// through is the rig with another way in.
func (r *rulesRig) through(caller mcp.Caller) *rulesRig {
	return &rulesRig{T: r.T, store: r.store, server: r.server, caller: caller}
}

// fails makes the server fail, from now on.
func (r *rulesRig) fails() {
	r.gives(func(*mcp.Call) *mcp.Result { return rulesWhole(503, "busy") })
}

// readableLog is a log that tests read.
type readableLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *readableLog) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *readableLog) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// count returns how many lines have all these parts.
func (l *readableLog) count(parts ...string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		has := true
		for _, p := range parts {
			has = has && strings.Contains(line, p)
		}
		if has {
			n++
		}
	}
	return n
}

// hangingStream is a stream that the server holds: its events, and then silence until its call ends or free is closed.
type hangingStream struct {
	ctx    context.Context // of the call
	reader *mcp.EventReader
	left   bool // its reader met the end of the call
	closed int
}

// hangs is an answer that begins with this text and does not end.
func hangs(ctx context.Context, c *mcp.Call, text string) (*mcp.Result, *hangingStream) {
	s := &hangingStream{ctx: ctx, reader: mcp.NewEventReader(strings.NewReader(text), nil, 1<<20)}
	res := rulesStream(c, "")
	res.Events = s
	return res, s
}

func (s *hangingStream) Next() (mcp.Event, error) {
	ev, err := s.reader.Next()
	if err == io.EOF {
		<-s.ctx.Done()
		s.left = true
		return ev, &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentYes, Cause: context.Cause(s.ctx)}
	}
	if err == nil && len(ev.Data) > 0 {
		err = mcp.Scan(ev.Data, &ev.Message)
	}
	return ev, err
}

func (s *hangingStream) Close() error {
	s.closed++
	s.reader.Close()
	return nil
}
