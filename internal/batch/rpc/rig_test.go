package rpc_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"fluentd-perf/internal/batch/rpc"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
	"fluentd-perf/internal/mcptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// arrayRig is an Array over a stage, with what a test wants to know of both.
type arrayRig struct {
	*rpc.Arrays
	reg *prometheus.Registry

	inside, maxInside atomic.Int64

	mu    sync.Mutex // guards the following
	calls []*mcp.Call
	open  int // Results that nobody has closed
}

// newArrayRig makes an Array whose elements are answered by answer.
func newArrayRig(answer mcp.CallerFunc, change func(*rpc.Options)) *arrayRig {
	r := &arrayRig{reg: prometheus.NewRegistry()}
	o := rpc.Options{
		Upstream: "test", Version: "1.2.3", Metrics: rpc.NewMetrics(r.reg), Buffers: new(mcp.BufferPool),
		Partition: func(c *mcp.Call) [32]byte { return sha256.Sum256([]byte(c.Header.Get("Authorization") + c.Query)) },
	}
	o.Next = mcp.CallerFunc(func(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
		for now := r.inside.Add(1); ; {
			seen := r.maxInside.Load()
			if seen >= now || r.maxInside.CompareAndSwap(seen, now) {
				break
			}
		}
		defer r.inside.Add(-1)
		r.mu.Lock()
		r.calls = append(r.calls, c)
		r.mu.Unlock()
		res, err := answer(ctx, c)
		if res != nil {
			r.count(1)
			release := res.Release
			res.Release = func() {
				r.count(-1)
				if release != nil {
					release()
				}
			}
		}
		return res, err
	})
	if change != nil {
		change(&o)
	}
	r.Arrays = rpc.New(o)
	return r
}

func (r *arrayRig) count(by int) {
	r.mu.Lock()
	r.open += by
	r.mu.Unlock()
}

// close ends the Array, and looks for Results that nobody has closed.
func (r *arrayRig) close(tb testing.TB) {
	tb.Helper()
	r.Close()
	if r.open != 0 {
		tb.Errorf("%d results were not closed", r.open)
	}
}

// sent returns the calls of a method so far; "" stands for all.
func (r *arrayRig) sent(method string) (all []*mcp.Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.calls {
		name, _ := mcp.Text(c.Message.MethodName.Of(c.Body))
		if method == "" || name == method || c.Lane == mcp.LaneEnd && method == "DELETE" {
			all = append(all, c)
		}
	}
	return all
}

func arrayCall(body string, fields ...string) *mcp.Call {
	c := &mcp.Call{
		Upstream: "test", Lane: mcp.LaneArray, Body: []byte(body), Request: "req-1", Conn: "127.0.0.1:1",
		Header: header.Of(http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"*/*"}}),
	}
	for i := 0; i+1 < len(fields); i += 2 {
		c.Header.Set(fields[i], fields[i+1])
	}
	return c
}

// ask sends an array and returns the status and the body.
func (r *arrayRig) ask(ctx context.Context, c *mcp.Call) (int, string, error) {
	res, err := r.Call(ctx, c)
	if err != nil {
		return 0, "", err
	}
	status, body := res.Status, string(res.Body)
	return status, body, res.Close()
}

// answers sends an array and takes its answers apart.
func (r *arrayRig) answers(tb testing.TB, ctx context.Context, body string, fields ...string) []reply {
	tb.Helper()
	status, text, err := r.ask(ctx, arrayCall(body, fields...))
	if err != nil || status != 200 {
		tb.Fatalf("the array got %d %s, %v", status, text, err)
	}
	return repliesOf(tb, text)
}

// reply is one response.
type reply struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      json.RawMessage `json:"id"`
	Result  json.RawMessage `json:"result"`
	Error   *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Data    struct {
			Source, Upstream, Reason, Sent, RequestID string
		} `json:"data"`
	} `json:"error"`
}

func (p reply) String() string {
	if p.Error == nil {
		return fmt.Sprintf("%s: %s", p.ID, p.Result)
	}
	return fmt.Sprintf("%s: error %d %s, sent %s", p.ID, p.Error.Code, p.Error.Data.Reason, p.Error.Data.Sent)
}

func repliesOf(tb testing.TB, text string) (all []reply) {
	tb.Helper()
	if err := json.Unmarshal([]byte(text), &all); err != nil {
		tb.Fatalf("%v in %s", err, text)
	}
	return all
}

// wantReplies compares answers, each as its String.
func wantReplies(tb testing.TB, got []reply, want ...string) {
	tb.Helper()
	if len(got) != len(want) {
		tb.Fatalf("%d answers, want %d: %v", len(got), len(want), got)
	}
	for i := range got {
		if got[i].String() != want[i] {
			tb.Errorf("answer %d is\n%s, want\n%s", i, got[i], want[i])
		}
	}
}

// okBody is a response with that result.
func okBody(c *mcp.Call, result string) string {
	return fmt.Sprintf(` {"jsonrpc":"2.0", "id": %s, "result":%s} `, c.ID(), result)
}

func errorBody(c *mcp.Call, code int, message string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":%q}}`, c.ID(), code, message)
}

// whole is a whole answer, checked where the upstream would have.
func whole(status int, body string, fields ...string) *mcp.Result {
	res := &mcp.Result{Status: status, Body: []byte(body), Header: header.List{}}
	for i := 0; i+1 < len(fields); i += 2 {
		res.Header.Set(fields[i], fields[i+1])
	}
	if err := mcp.Scan(res.Body, &res.Message); err != nil {
		res.Message = mcp.Message{}
		if status < 300 && body != "" {
			panic(err)
		}
	}
	res.Checked = status < 300 && body != ""
	return res
}

func answerOK(c *mcp.Call, result string) (*mcp.Result, error) {
	return whole(200, okBody(c, result)), nil
}

func accept202() (*mcp.Result, error) { return whole(202, ""), nil }

// metric reads a counter, by name and the value of its last label, "" for any.
func (r *arrayRig) metric(tb testing.TB, name, label string) int {
	tb.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	n := 0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if label == "" && l.GetName() == "upstream" || l.GetName() == "outcome" && l.GetValue() == label {
					n += int(m.GetCounter().GetValue())
				}
			}
		}
	}
	return n
}

// methodOf returns the name of a call's method.
func methodOf(c *mcp.Call) string {
	name, _ := mcp.Text(c.Message.MethodName.Of(c.Body))
	return name
}

// textParam returns a text of the params, "" if it is not there.
func textParam(c *mcp.Call, name string) string {
	at, err := mcp.Member(c.Message.Params.Of(c.Body), name)
	if err != nil {
		return ""
	}
	s, _ := mcp.Text(at.Of(c.Message.Params.Of(c.Body)))
	return s
}

// asScanned checks that the spans of a call are those that a scan of its body finds.
func asScanned(tb testing.TB, c *mcp.Call) {
	tb.Helper()
	var m mcp.Message
	err := mcp.Scan(c.Body, &m)
	if c.Era == mcp.EraPlain {
		m.Method = mcp.MethodOther
	}
	if err != nil || m != c.Message {
		tb.Errorf("%s: %v, the spans are %+v, want %+v", c.Body, err, c.Message, m)
	}
}

// What these tests share with those of other stages.
var (
	rawBody     = mcptest.Body
	stream      = mcptest.EventsOf
	after       = mcptest.After
	wantFailure = mcptest.WantFailure
)

func joinElements(elements []string) string { return "[" + strings.Join(elements, ",") + "]" }
