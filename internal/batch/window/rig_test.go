package window_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"fluentd-perf/internal/batch/window"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// element is one call in an array, as the server reads it.
type element struct {
	ID     json.RawMessage
	Method string
	Params json.RawMessage
}

// arrays is a server that takes arrays: it notes what it runs and answers as reply says.
type arrays struct {
	reply func(ctx context.Context, c *mcp.Call, calls []element) (*mcp.Result, error)
	// Single calls are answered by this; nil: with their params.
	single func(ctx context.Context, c *mcp.Call) (*mcp.Result, error)

	mu      sync.Mutex
	sizes   []int          // of the arrays
	singles int            // calls by themselves
	ran     map[string]int // by params
	headers []header.List  // of the arrays
	again   []bool
}

func (s *arrays) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	if c.Lane != mcp.LaneBatch {
		s.mu.Lock()
		s.singles++
		s.mu.Unlock()
		if s.single != nil {
			return s.single(ctx, c)
		}
		s.run(c.Message.Params.Of(c.Body))
		return answerOf(c), nil
	}
	var calls []element
	if err := json.Unmarshal(c.Body, &calls); err != nil {
		panic(err)
	}
	s.mu.Lock()
	s.sizes = append(s.sizes, len(calls))
	s.headers = append(s.headers, c.Header)
	s.again = append(s.again, c.Again)
	s.mu.Unlock()
	return s.reply(ctx, c, calls)
}

func (s *arrays) run(params []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ran == nil {
		s.ran = map[string]int{}
	}
	s.ran[string(params)]++
}

func answerOf(c *mcp.Call) *mcp.Result {
	return arrayBody(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, c.ID(), c.Message.Params.Of(c.Body)))
}

func arrayBody(body string) *mcp.Result {
	res := &mcp.Result{Status: 200, Header: header.Of(http.Header{"Content-Type": {"application/json"}}), Body: []byte(body)}
	res.Checked = mcp.Scan(res.Body, &res.Message) == nil
	return res
}

func answerTo(e element) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, e.ID, e.Params)
}

// echo runs every call and answers in order.
func (s *arrays) echo(_ context.Context, _ *mcp.Call, calls []element) (*mcp.Result, error) {
	return arrayBody("[" + strings.Join(s.runAll(calls), ",") + "]"), nil
}

func (s *arrays) runAll(calls []element) []string {
	var out []string
	for _, e := range calls {
		s.run(e.Params)
		out = append(out, answerTo(e))
	}
	return out
}

type windowRig struct {
	*window.Stage
	server *arrays
	reg    *prometheus.Registry
	log    *strings.Builder
	stop   context.CancelCauseFunc
}

func newWindow(server *arrays, maxCalls int, wait time.Duration) *windowRig {
	r := &windowRig{server: server, reg: prometheus.NewRegistry(), log: new(strings.Builder)}
	base, stop := context.WithCancelCause(context.Background())
	r.stop = stop
	r.Stage = window.New(window.Options{
		Upstream: "node", Next: server, Max: maxCalls, Window: wait, Base: base,
		Partition:  func(c *mcp.Call) (p [32]byte) { copy(p[:], c.Header.Get("Authorization")); return p },
		Repeatable: func(c *mcp.Call) bool { return strings.HasPrefix(string(c.Message.MethodName.Of(c.Body)), `"get`) },
		Buffers:    new(mcp.BufferPool), Metrics: window.NewMetrics(r.reg), Log: slog.New(slog.NewTextHandler(r.log, nil)),
	})
	return r
}

// plainCall is a call of a plain JSON-RPC server.
func plainCall(id, method string, param int) *mcp.Call {
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":[%d]}`, id, method, param)
	c := &mcp.Call{
		Upstream: "node", Lane: mcp.LaneRequest, Era: mcp.EraPlain, Body: []byte(body), Start: time.Now(),
		Header: header.Of(http.Header{"Authorization": {"a"}, "Traceparent": {"00-1-2-01"}}),
	}
	if err := mcp.Scan(c.Body, &c.Message); err != nil {
		panic(err)
	}
	c.Message.Method = mcp.MethodOther
	return c
}

// ended is what a call came to.
type ended struct {
	res *mcp.Result
	err error
}

// together makes the calls at once and returns what came of each.
func (r *windowRig) together(ctx context.Context, calls []*mcp.Call) []ended {
	out := make([]ended, len(calls))
	var wg sync.WaitGroup
	for i, c := range calls {
		wg.Go(func() {
			res, err := r.Call(ctx, c)
			out[i] = ended{res, err}
		})
	}
	wg.Wait()
	return out
}

func failureIn(t *testing.T, g ended) *mcp.Failure {
	t.Helper()
	var f *mcp.Failure
	if g.res != nil || !errors.As(g.err, &f) {
		t.Fatalf("result %v, error %v; want a failure", g.res, g.err)
	}
	return f
}

// wantOwn holds an answer to the call's own id and params.
func wantOwn(t *testing.T, c *mcp.Call, g ended) {
	t.Helper()
	if g.err != nil {
		t.Errorf("%s: %v", c.Body, g.err)
		return
	}
	want := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, c.ID(), c.Message.Params.Of(c.Body))
	if got := string(g.res.Body); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	var m mcp.Message
	if err := mcp.Scan(g.res.Body, &m); err != nil || m != g.res.Message || !g.res.Checked {
		t.Errorf("%s: message %+v, a scan says %+v, %v", g.res.Body, g.res.Message, m, err)
	}
	_ = g.res.Close()
}

var after = mcptest.After
