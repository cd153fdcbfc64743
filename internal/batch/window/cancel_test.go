package window_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// cancels is a Window of two calls in a legacy session, and a server that answers arrays when it is released.
type cancels struct {
	*windowRig
	t       *testing.T
	release chan struct{}

	mu        sync.Mutex
	ids       map[string]string // in arrays, by params
	cancelled []string          // cancellations as the server got them
}

func newCancels(t *testing.T, reply func(ids []string) (*mcp.Result, error)) *cancels {
	x := &cancels{t: t, release: make(chan struct{}), ids: map[string]string{}}
	server := &arrays{}
	server.reply = func(ctx context.Context, _ *mcp.Call, calls []element) (*mcp.Result, error) {
		var ids []string
		x.mu.Lock()
		for _, e := range calls {
			ids = append(ids, string(e.ID))
			x.ids[string(e.Params)] = string(e.ID)
		}
		x.mu.Unlock()
		select {
		case <-x.release:
			return reply(ids)
		case <-ctx.Done():
			return nil, &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentUnknown}
		}
	}
	server.single = func(_ context.Context, c *mcp.Call) (*mcp.Result, error) {
		if c.Lane == mcp.LaneNotification {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.cancelled = append(x.cancelled, string(c.Body))
			var m mcp.Message
			if err := mcp.Scan(c.Body, &m); err != nil || m != c.Message {
				t.Errorf("message %+v, a scan says %+v, %v", c.Message, m, err)
			}
			return &mcp.Result{Status: http.StatusAccepted, Header: header.Of(http.Header{"From": {"server"}})}, nil
		}
		server.run(c.Message.Params.Of(c.Body))
		return answerOf(c), nil
	}
	x.windowRig = newWindow(server, 3, time.Second)
	return x
}

func (x *cancels) message(lane mcp.Lane, session, body string) *mcp.Call {
	c := &mcp.Call{
		Lane: lane, Era: mcp.EraLegacy, Version: mcp.Version20250326, Header: header.Of(http.Header{"Mcp-Session-Id": {session}}), Body: []byte(body),
	}
	if err := mcp.Scan(c.Body, &c.Message); err != nil {
		x.t.Fatal(err)
	}
	return c
}

func (x *cancels) request(id, name string) *mcp.Call {
	return x.message(mcp.LaneRequest, "s", fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":%q}}`, id, name))
}

const cancellation = `{"jsonrpc":"2.0","method":"notifications/cancelled", "params":{"requestId":%s,"reason":"why"}}`

// cancel cancels a call, and returns what became of the notification.
func (x *cancels) cancel(by mcp.Caller, session, id string) *mcp.Result {
	x.t.Helper()
	res, err := by.Call(x.t.Context(), x.message(mcp.LaneNotification, session, fmt.Sprintf(cancellation, id)))
	if err != nil || res.Status != http.StatusAccepted {
		x.t.Fatal(res, err)
	}
	return res
}

// start makes calls at once, and returns what will have come of each.
func (x *cancels) start(by mcp.Caller, calls ...*mcp.Call) []chan ended {
	outs := make([]chan ended, len(calls))
	for i, c := range calls {
		outs[i] = make(chan ended, 1)
		go func() {
			res, err := by.Call(x.t.Context(), c)
			outs[i] <- ended{res, err}
		}()
		synctest.Wait()
	}
	return outs
}

func (x *cancels) wantTold(ids ...string) {
	x.t.Helper()
	var want []string
	for _, id := range ids {
		want = append(want, fmt.Sprintf(cancellation, id))
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if !slices.Equal(x.cancelled, want) {
		x.t.Errorf("the server was told %q, want %q", x.cancelled, want)
	}
}

func wantAccepted(t *testing.T, g ended) {
	t.Helper()
	if g.err != nil || g.res.Status != http.StatusAccepted || len(g.res.Body) > 0 {
		t.Errorf("%+v, %v; want an empty 202", g.res, g.err)
	}
}

func (x *cancels) id(name string) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.ids[fmt.Sprintf(`{"name":%q}`, name)]
}

// TestWindowCancelBefore: what has not left is not sent, and the server is not told of it.
func TestWindowCancelBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newCancels(t, func(ids []string) (*mcp.Result, error) { return say("[%s,%s]", ok(ids[0]), ok(ids[1]))(ids) })
		close(x.release)
		first := x.start(x, x.request("10", "a"), x.request("2", "b"))
		x.cancel(x, "s", "1e1")
		wantAccepted(t, <-first[0])
		second := x.start(x, x.request("3", "c"))
		if got := outcomeOf(x.request("2", "b"), <-first[1]); got != "own" {
			t.Error(got)
		}
		if got := outcomeOf(x.request("3", "c"), <-second[0]); got != "own" {
			t.Error(got)
		}
		if x.id("a") != "" || !slices.Equal(x.server.sizes, []int{2}) {
			t.Errorf("arrays of %v, the cancelled call went up as %q", x.server.sizes, x.id("a"))
		}
		x.wantTold()
		x.Wait()
	})
}

// TestWindowCancelUnderWay: the server is told by the id that it knows; for every other id as the agent said it.
func TestWindowCancelUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newCancels(t, func(ids []string) (*mcp.Result, error) { return say("[%s,%s]", ok(ids[0]), ok(ids[2]))(ids) })
		outs := x.start(x, x.request("1", "a"), x.request(`"b"`, "b"), x.request("3", "c"))
		x.cancel(x, "other", "1")
		x.cancel(x, "s", "4")
		x.cancel(x, "s", `"1"`)
		x.cancel(x, "s", "1.0")
		x.cancel(x, "s", `"\u0062"`)
		close(x.release)
		for i, c := range []*mcp.Call{x.request("1", "a"), nil, x.request("3", "c")} {
			g := <-outs[i]
			if c == nil {
				wantAccepted(t, g) // the server has ended it, and says nothing
			} else if got := outcomeOf(c, g); got != "own" {
				t.Errorf("call %d: %s", i, got)
			}
		}
		x.cancel(x, "s", "3")
		x.wantTold("1", "4", `"1"`, x.id("a"), x.id("b"), "3")
		x.Wait()
	})
}

// TestWindowCancelNotAgain: a call that its agent has cancelled does not go once more after a bad answer to its array.
func TestWindowCancelNotAgain(t *testing.T) {
	for name, reply := range map[string]func([]string) (*mcp.Result, error){
		"refused": status(413, "no"), "spoilt": say("[]"), "failed": fails(mcp.Failure{Code: mcp.CodeBadGateway, Reason: mcp.ReasonBrokeOff}),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := newCancels(t, reply)
				outs := x.start(x, x.request("1", "a"), x.request("2", "b"), x.request("3", "c"))
				x.cancel(x, "s", "2")
				close(x.release)
				wantAccepted(t, <-outs[1])
				<-outs[0]
				<-outs[2]
				if x.server.ran[`{"name":"b"}`] != 0 {
					t.Error("a cancelled call went by itself")
				}
				x.Wait()
			})
		})
	}
}

// TestWindowCancelGone: what is kept of a call whose caller has left is forgotten, and another one under its id is not
// taken for it.
func TestWindowCancelGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newCancels(t, say("[]"))
		ctx, leave := context.WithCancel(t.Context())
		left := make(chan ended, 1)
		go func() {
			res, err := x.Call(ctx, x.request("1", "a"))
			left <- ended{res, err}
		}()
		outs := x.start(x, x.request("2", "b"), x.request("3", "c"))
		leave()
		if f := failureIn(t, <-left); f.Sent != mcp.SentUnknown {
			t.Errorf("%+v", f)
		}
		<-time.After(9 * time.Second)
		x.cancel(x, "s", "1")
		known := x.id("a")
		again := x.start(x, x.request("1", "d"))
		x.cancel(x, "s", "1") // has not left
		wantAccepted(t, <-again[0])
		<-time.After(11 * time.Second)
		x.cancel(x, "s", "1")
		x.wantTold(known, "1")
		close(x.release)
		for _, out := range outs {
			<-out
		}
		x.Wait()
	})
}

// TestWindowCancelPlain: what has no session has no cancellations.
func TestWindowCancelPlain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := newCancels(t, say("[]"))
		outs := x.start(x, plainCall("1", "sendBlock", 1), plainCall("2", "sendBlock", 2))
		c := x.message(mcp.LaneNotification, "", fmt.Sprintf(cancellation, "1"))
		if res, err := x.Call(t.Context(), c); err != nil || res.Header.Get("From") != "server" {
			t.Error(res, err)
		}
		close(x.release)
		for _, out := range outs {
			if f := failureIn(t, <-out); !strings.Contains(f.Message, "may have run it") {
				t.Errorf("%+v", f)
			}
		}
		x.wantTold("1")
		x.Wait()
	})
}
