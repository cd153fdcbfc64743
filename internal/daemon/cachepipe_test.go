package daemon

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/cache/memory"
	"fluentd-perf/internal/config"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// pipe is the stages of one upstream as the daemon joins them, cache and flights, with memory alone and a server of the
// test's behind them. It stands no longer than the bubble that it was made in.
type pipe struct {
	t      testing.TB
	d      *daemon
	stage  mcp.Caller
	server *pipeServer
}

// newPipe makes a pipe. change, if not nil, changes the upstream's configuration before.
func newPipe(t testing.TB, change func(*config.Upstream), answer pipeAnswer) *pipe {
	t.Helper()
	buffers := new(mcp.BufferPool)
	state, err := cache.OpenState("", nil)
	if err != nil {
		t.Fatal(err)
	}
	store, err := cache.NewStore(cache.StoreOptions{
		State: state, Memory: memory.Options{Size: 4 << 20}, Buffers: buffers,
	})
	if err != nil {
		t.Fatal(err)
	}
	base, end := context.WithCancelCause(context.Background())
	d := &daemon{log: slog.New(slog.DiscardHandler), base: base, abandon: end, store: store}
	p := &pipe{t: t, d: d, server: &pipeServer{answer: answer}}
	stage := cached(d, pipeConfig(t, change), p.server)
	p.stage = stage
	t.Cleanup(func() {
		end(mcp.Draining())
		stage.Close()
		d.closeCache(time.Second)
	})
	return p
}

// cached is the caching stage of a pipeline that has no other.
func cached(d *daemon, entry config.Upstream, next mcp.Caller) *cache.Stage {
	p := &pipeline{shared: &shared{daemon: d}, entry: entry, ctx: d.base}
	p.withCache(next)
	return p.cache
}

func pipeConfig(t testing.TB, change func(*config.Upstream)) config.Upstream {
	t.Helper()
	u, err := url.Parse("http://server.test/mcp")
	if err != nil {
		t.Fatal(err)
	}
	c := config.Upstream{Name: "s", URL: u, URLs: []*url.URL{u}, Protocol: config.ProtocolMCP}
	c.Cache.FlushOnCall, c.Cache.MaxTTL = true, 24*time.Hour
	if change != nil {
		change(&c)
	}
	return c
}

// pipeAnswer answers the server's n-th call, counted from 1.
type pipeAnswer func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error)

// pipeServer is the server behind a pipe: it counts its calls and knows whose they are.
type pipeServer struct {
	answer pipeAnswer

	mu    sync.Mutex // guards the following
	total int
	calls []pipeSeen // since it was last asked for them
}

// pipeSeen is one call that the server got.
type pipeSeen struct {
	method mcp.Method
	whose  string // Authorization
	at     time.Time
}

func (s *pipeServer) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	s.mu.Lock()
	s.calls = append(s.calls, pipeSeen{c.Method(), c.Header.Get("Authorization"), time.Now()})
	s.total++
	n := s.total
	s.mu.Unlock()
	return s.answer(ctx, c, n)
}

// seen returns the calls since the last time it was asked, by credential.
func (s *pipeServer) seen() []pipeSeen {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.calls
	s.calls = nil
	slices.SortFunc(out, func(a, b pipeSeen) int { return cmp.Compare(a.whose, b.whose) })
	return out
}

// forget drops the calls that were seen, and keeps their memory.
func (s *pipeServer) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = s.calls[:0]
}

// whose returns the credentials of the calls since the last time, in order, separated by spaces.
func (s *pipeServer) whose() string {
	var names []string
	for _, c := range s.seen() {
		names = append(names, c.whose)
	}
	return strings.Join(names, " ")
}

// pipeAfter waits in false time, or until ctx ends: then it fails as an upstream does.
func pipeAfter(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentYes, Cause: context.Cause(ctx)}
	}
}

// pipeWait waits in false time.
func pipeWait(d time.Duration) { <-time.After(d) }

// pipeID returns the i-th of ids of all types that JSON-RPC knows, none twice.
func pipeID(i int) string {
	switch i % 4 {
	case 0:
		return fmt.Sprint(i)
	case 1:
		return fmt.Sprintf("%q", fmt.Sprint("id-", i))
	case 2:
		return fmt.Sprintf("%d.5", i)
	}
	return fmt.Sprintf("%q", fmt.Sprint("long \"quoted\" ", strings.Repeat("x", 60), i))
}

// pipeMeta is what a modern request says of itself.
const pipeMeta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"t","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}`

// pipeCall is a modern call as the handler hands it on. params are members of its params beside `_meta`, each with a comma
// behind it.
func pipeCall(whose, id, method, params string) *mcp.Call {
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":{%s%s}}`, id, method, params, pipeMeta)
	c := &mcp.Call{
		Upstream: "s", Lane: mcp.LaneRequest, Era: mcp.EraModern, Version: mcp.Version20260728, Body: []byte(body), Start: time.Now(),
		Header: header.Of(http.Header{"Accept": {"application/json, text/event-stream"}, "Mcp-Method": {method}}),
	}
	if whose != "" {
		c.Header.Set("Authorization", whose)
	}
	if err := mcp.Scan(c.Body, &c.Message); err != nil {
		panic(err)
	}
	return c
}

func pipeList(whose, id string) *mcp.Call { return pipeCall(whose, id, "tools/list", "") }

// pipeAnswered is a whole answer to the call: members of the result, and a text by which it is known.
func pipeAnswered(c *mcp.Call, members, text string) *mcp.Result {
	return pipeResult(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{%s,"text":%q,"tools":[]}}`, c.ID(), members, text))
}

func pipeResult(body string) *mcp.Result {
	res := &mcp.Result{
		Status: http.StatusOK, Body: []byte(body), Checked: true,
		Header: header.Of(http.Header{"Content-Type": {"application/json"}, "Set-Cookie": {"user=leader"}}),
	}
	if err := mcp.Scan(res.Body, &res.Message); err != nil {
		panic(err)
	}
	return res
}

// Members of results: what the server allows.
const (
	pipeOnce    = `"resultType":"complete","ttlMs":0,"cacheScope":"private"`
	pipePrivate = `"resultType":"complete","ttlMs":60000,"cacheScope":"private"`
	pipePublic  = `"resultType":"complete","ttlMs":60000,"cacheScope":"public"`
	pipeInput   = `"resultType":"input_required","inputRequests":{}`
)

// pipeStream is a stream of events.
type pipeStream struct {
	events []mcp.Event
	closed func()
}

func (s *pipeStream) Next() (mcp.Event, error) {
	if len(s.events) == 0 {
		return mcp.Event{}, io.EOF
	}
	ev := s.events[0]
	s.events = s.events[1:]
	return ev, nil
}

func (s *pipeStream) Close() error {
	if s.closed != nil {
		s.closed()
	}
	return nil
}

// pipeStreamed is an answer as a stream, after notifications.
func pipeStreamed(answer *mcp.Result, before ...string) *mcp.Result {
	event := func(data []byte, m mcp.Message) mcp.Event {
		return mcp.Event{Raw: fmt.Appendf(nil, "data: %s\n\n", data), Data: data, Message: m}
	}
	s := new(pipeStream)
	for _, text := range before {
		var m mcp.Message
		if err := mcp.Scan([]byte(text), &m); err != nil {
			panic(err)
		}
		s.events = append(s.events, event([]byte(text), m))
	}
	last := event(answer.Body, answer.Message)
	last.Answer, last.Exact = true, true
	s.events = append(s.events, last)
	return &mcp.Result{Status: http.StatusOK, Header: header.Of(http.Header{"Content-Type": {"text/event-stream"}}), Events: s}
}
