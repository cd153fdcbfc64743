package stdio_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
	"fluentd-perf/internal/upstream/stdio"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const meta = `"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}`

// server is a modern scripted server, and what it got.
type server struct {
	discover func(s *mcptest.Stdio, r mcptest.StdioRequest) // nil: it answers
	on       func(s *mcptest.Stdio, r mcptest.StdioRequest) bool

	settled atomic.Int32 // starts

	mu    sync.Mutex
	all   []*mcptest.Stdio
	lines []string
}

func (x *server) start(context.Context) (stdio.Process, func(), error) {
	s := mcptest.NewStdio(func(s *mcptest.Stdio) {
		for {
			r, ok := s.Next()
			if !ok {
				return
			}
			x.mu.Lock()
			x.lines = append(x.lines, r.Line)
			x.mu.Unlock()
			switch {
			case r.Method == "server/discover" && x.discover != nil:
				x.discover(s, r)
			case r.Method == "server/discover":
				s.Result(r, `{"resultType":"complete","supportedVersions":["2026-07-28"]}`)
			case x.on != nil && x.on(s, r):
			case r.ID != nil && r.Method != "":
				s.Result(r, `{"resultType":"complete","name":"`+r.Params.Name+`"}`)
			}
		}
	})
	x.mu.Lock()
	defer x.mu.Unlock()
	x.all = append(x.all, s)
	return s, func() { x.settled.Add(1) }, nil
}

func (x *server) started() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.all)
}

func (x *server) last() *mcptest.Stdio {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.all[len(x.all)-1]
}

// got returns the last line that came.
func (x *server) got() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.lines[len(x.lines)-1]
}

// methods returns the methods of all lines that came.
func (x *server) methods() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var all []string
	for _, line := range x.lines {
		var m struct{ Method string }
		_ = json.Unmarshal([]byte(line), &m) // Next has read it
		all = append(all, m.Method)
	}
	return strings.Join(all, " ")
}

// newUpstream makes an upstream over the server.
func newUpstream(t testing.TB, x *server, change func(*stdio.PoolOptions, *stdio.Options)) (*stdio.Upstream, *stdio.Pool) {
	t.Helper()
	po := stdio.PoolOptions{Name: "server", Start: x.start}
	o := stdio.Options{Legacy: mcp.CallerFunc(func(context.Context, *mcp.Call) (*mcp.Result, error) {
		return nil, &mcp.Failure{Code: 1, Reason: "legacy"}
	})}
	if change != nil {
		change(&po, &o)
	}
	o.Pool = stdio.NewPool(po)
	t.Cleanup(o.Pool.Close)
	return stdio.New(o), o.Pool
}

func call(body string) *mcp.Call {
	c := &mcp.Call{Upstream: "server", Era: mcp.EraModern, Version: mcp.Version20260728, Body: []byte(body), Header: header.List{}}
	if mcp.Scan(c.Body, &c.Message) != nil {
		c.Lane = mcp.LaneOpaque
	}
	if c.Message.Method == mcp.MethodSubscriptionsListen {
		c.Lane = mcp.LaneListen
	}
	if c.Message.Kind == mcp.KindNotification {
		c.Lane = mcp.LaneNotification
	}
	return c
}

func request(id, method, params string) *mcp.Call {
	return call(`{"jsonrpc":"2.0","id":` + id + `,"method":"` + method + `","params":{` + params + `"_meta":{` + meta + `}}}`)
}

func do(u mcp.Caller, ctx context.Context, c *mcp.Call) (*mcp.Result, *mcp.Failure) {
	res, err := u.Call(ctx, c)
	var f *mcp.Failure
	errors.As(err, &f)
	return res, f
}
