package cache_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// refusal is an error of HTTP's as a server sends it. ID in its body stands for the call's.
type refusal struct {
	status int
	body   string
	header header.List
}

// result is the answer to a call, which the stage behind lets everybody have.
func (f refusal) result(c *mcp.Call) *mcp.Result {
	res := &mcp.Result{
		Status: f.status, Body: []byte(strings.ReplaceAll(f.body, "ID", string(c.ID()))),
		Header: header.Of(http.Header{"X-Share": {"1"}, "Set-Cookie": {"user=leader"}, "X-Trace": {"1"}}),
	}
	res.Header = append(res.Header, f.header...)
	res.Release = func() { clear(res.Body) }
	return res
}

// refusalIDs are ids of all types, none twice and more than one digit apart from the flight's.
var refusalIDs = []string{"1", `"two"`, "-3.5e1", `"f\"our"`, `""`, `"` + strings.Repeat("x", 80) + `"`}

// refused sends equal calls under refusalIDs, over and over until there are n, and returns what they got.
func (r *flightRig) refused(n int) []got {
	all := make([]got, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { all[i] = r.call(context.Background(), list(refusalIDs[i%len(refusalIDs)])) })
	}
	wg.Wait()
	return all
}

// TestRefusalsReachAll: an error of HTTP's reaches everybody who waited, each under its own id, with what the server asks
// for and without what is the leader's; and the next who come share as well.
func TestRefusalsReachAll(t *testing.T) {
	text, object := header.Of(http.Header{"Content-Type": {"text/plain"}}), header.Of(http.Header{"Content-Type": {"application/json"}})
	for name, refuse := range map[string]refusal{
		"text":               {503, "busy", text},
		"too many":           {429, "later", header.Of(http.Header{"Retry-After": {"5"}, "Content-Type": {"text/html"}})},
		"who are you":        {401, "", header.Of(http.Header{"Www-Authenticate": {`Bearer resource_metadata="http://a/b"`, "Basic"}})},
		"empty":              {500, "", nil},
		"an error":           {400, `{"jsonrpc":"2.0","id":ID,"error":{"code":-32022,"message":"no"}}`, object},
		"an error, id last":  {404, `{"error":{"code":-32602,"message":"no"},"jsonrpc":"2.0","id":ID}`, object},
		"an error of nobody": {400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}`, object},
		"without an id":      {400, `{"jsonrpc":"2.0","error":{"code":-32600,"message":"no"}}`, object},
		"an object":          {502, `{"error":"no"}`, object},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testRefusal(t, refuse) })
		})
	}
}

func testRefusal(t *testing.T, refuse refusal) {
	const size = 60
	r := flightNewRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
		return refuse.result(c), flightAfter(ctx, time.Second)
	})
	for wave := range 3 {
		leaders := 0
		for _, g := range r.refused(size) {
			want := strings.ReplaceAll(refuse.body, "ID", g.id)
			if g.err != nil || g.status != refuse.status || g.body != want || g.took != time.Second {
				t.Fatalf("the call %s got %d %q, %v after %v, want %d %q", g.id, g.status, g.body, g.err, g.took, refuse.status, want)
			}
			for _, f := range refuse.header {
				got, want := slices.Collect(g.header.Values(f.Name)), slices.Collect(refuse.header.Values(f.Name))
				if !slices.Equal(got, want) {
					t.Fatalf("%s is %q, want %q", f.Name, got, want)
				}
			}
			switch {
			case !g.collapsed && g.header.Get("Set-Cookie") != "" && g.header.Get("X-Trace") != "":
				leaders++
			case !g.collapsed || len(g.header) != len(refuse.header):
				t.Fatalf("collapsed %v: %v", g.collapsed, g.header)
			}
		}
		if leaders != 1 {
			t.Errorf("wave %d: %d leaders", wave, leaders)
		}
		wantCalls(t, r, int64(wave+1))
	}
}

// TestRefusalWithoutLeader: the followers get it also where the leader has left.
func TestRefusalWithoutLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := flightNewRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
			return refusal{503, "busy", nil}.result(c), flightAfter(ctx, time.Second)
		})
		cancel, answer := r.leader()
		time.AfterFunc(time.Second/2, func() { cancel(nil) })
		for _, g := range r.refused(10) {
			if g.status != 503 || g.body != "busy" || !g.collapsed || g.header.Get("Set-Cookie") != "" {
				t.Errorf("got %d %q, collapsed %v, %v", g.status, g.body, g.collapsed, g.header)
			}
		}
		wantFailure(t, (<-answer).err, 0, mcp.ReasonCanceled)
		wantCalls(t, r, 1)
	})
}

// TestRefusalsOfOne are answers that go to one caller alone: the others go by themselves, and the key is held.
func TestRefusalsOfOne(t *testing.T) {
	for name, give := range map[string]func(ctx context.Context, c *mcp.Call) *mcp.Result{
		"an error of another id": refusal{400, `{"jsonrpc":"2.0","id":-5,"error":{"code":-32600,"message":"no"}}`, nil}.of,
		"an id of another type":  refusal{404, `{"jsonrpc":"2.0","id":"ID","error":{"code":-32600,"message":"no"}}`, nil}.of,
		"a loose error":          refusal{400, `{"jsonrpc":"2.0","id":ID,"result":null,"error":{"code":1,"message":"no"}}`, nil}.of,
		"an error twice":         refusal{400, `[{"jsonrpc":"2.0","id":ID,"error":{"code":1,"message":"no"}}]`, nil}.of,
		"an error cut off":       refusal{500, `{"jsonrpc":"2.0","id":ID,"error":{"code"`, nil}.of,
		"a stream held whole": func(_ context.Context, c *mcp.Call) *mcp.Result {
			data := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":1,"message":"no"}}`, c.ID())
			res := refusal{400, "data: " + data + "\n\n", nil}.result(c)
			res.Data = []byte(data)
			if err := mcp.Scan(res.Data, &res.Message); err != nil {
				panic(err)
			}
			return res
		},
		"not for all": func(_ context.Context, c *mcp.Call) *mcp.Result {
			res := refusal{503, "busy", nil}.result(c)
			setShare(res, false)
			return res
		},
		"encoded": func(_ context.Context, c *mcp.Call) *mcp.Result {
			res := refusal{503, "\x1f\x8b", header.Of(http.Header{"Content-Encoding": {"gzip"}})}.result(c)
			return res
		},
		"not checked": refusal{200, "fine", nil}.of,
		"moved":       refusal{302, "", header.Of(http.Header{"Location": {"/"}})}.of,
		"a stream": func(ctx context.Context, c *mcp.Call) *mcp.Result {
			res := stream(ctx, ": busy\n\n", io.EOF, new(atomic.Int64))
			res.Status = 503
			setShare(res, true)
			return res
		},
		"too large to hold": func(context.Context, *mcp.Call) *mcp.Result {
			body := rawBody("busy", 4, io.EOF, new(atomic.Int64))
			return &mcp.Result{Status: 503, Header: header.Of(http.Header{"X-Share": {"1"}}), Raw: body}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testRefusalOfOne(t, give) })
		})
	}
}

func (f refusal) of(_ context.Context, c *mcp.Call) *mcp.Result { return f.result(c) }

func testRefusalOfOne(t *testing.T, give func(context.Context, *mcp.Call) *mcp.Result) {
	const size = 20
	r := flightNewRig(func(ctx context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
		return give(ctx, c), flightAfter(ctx, time.Second)
	})
	want := int64(size)
	for wave, slowest := range []time.Duration{2 * time.Second, time.Second} {
		for i, g := range r.wave(size) {
			if g.collapsed || g.took > slowest {
				t.Fatalf("wave %d: the call %d got another's answer, or waited: %+v", wave, i, g)
			}
			if g.took == time.Second && wave == 0 {
				continue // the flight's own
			}
			if c := list(g.id); g.body != string(bodyOf(give(t.Context(), c))) {
				t.Fatalf("wave %d: the call %s got %q", wave, g.id, g.body)
			}
		}
		wantCalls(t, r, want)
		want += size
	}
}

// bodyOf reads an answer to its end.
func bodyOf(res *mcp.Result) []byte {
	switch {
	case res.Events != nil:
		text, err := textOfEvents(res.Events)
		if err != nil {
			panic(fmt.Sprint("a stream of the test's own broke off: ", err))
		}
		return []byte(text)
	case res.Raw != nil:
		text, _ := io.ReadAll(res.Raw)
		return text
	}
	return res.Body
}
