package listener

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
)

// urisOf returns the uris that a listen asks for.
func urisOf(t *testing.T, c *mcp.Call) []string {
	t.Helper()
	var body struct {
		Params struct {
			Notifications struct {
				ResourceSubscriptions []string `json:"resourceSubscriptions"`
			} `json:"notifications"`
		} `json:"params"`
	}
	if err := json.Unmarshal(c.Body, &body); err != nil {
		t.Fatalf("%v in %s", err, c.Body)
	}
	return body.Params.Notifications.ResourceSubscriptions
}

func TestReadResources(t *testing.T) {
	listenerTest(t, &server{}, func(r *rig) {
		want := func(uris ...string) {
			t.Helper()
			synctest.Wait()
			if got := urisOf(t, r.server.last(t, "listen").call); !slices.Equal(got, uris) {
				t.Errorf("subscribed to is %q, want %q", got, uris)
			}
			r.wantOpen(1)
		}
		r.Stored(modernCall(""), partitionOf(1))
		r.at(6 * time.Second)
		r.wantLog("0s server/discover, 0s listen")
		r.Stored(modernCall("b"), partitionOf(1))
		want("b")
		for i, uri := range []string{"a", "b", "c", "a\"<é>"} {
			r.at(time.Duration(6+i) * time.Second)
			r.Stored(modernCall(uri), partitionOf(1))
		}
		r.at(11*time.Second - 1)
		want("b")
		r.at(11 * time.Second)
		want("a", `a"<é>`, "b", "c")
		r.Stored(modernCall("c"), partitionOf(1)) // known: nothing changes
		r.at(time.Minute)
		r.Stored(modernCall("d"), partitionOf(1)) // 5 s have long passed
		want("a", `a"<é>`, "b", "c", "d")
		r.Stored(modernCall("e"), partitionOf(1))
		r.at(time.Minute + 5*time.Second)
		want("a", `a"<é>`, "b", "c", "d", "e")
		r.wantLog("0s server/discover, 0s listen, 6s listen, 11s listen, 1m0s listen, 1m5s listen")
	})
}

func TestURIsBeforeDiscover(t *testing.T) {
	server := &server{}
	server.discover = func(context.Context) (*mcp.Result, error) {
		<-time.After(10 * time.Second)
		return jsonAnswer(200, `{"jsonrpc":"2.0","id":1,"result":`+server.discovered()+`}`), nil
	}
	listenerTest(t, server, func(r *rig) {
		r.Stored(modernCall("a"), partitionOf(1))
		r.at(9 * time.Second)
		r.Stored(modernCall("b"), partitionOf(1))
		r.at(10 * time.Second)
		if got := urisOf(t, server.last(t, "listen").call); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("subscribed to is %q", got)
		}
		r.at(time.Minute)
		if n := len(server.times("listen")); n != 1 {
			t.Errorf("it was opened %d times, want once", n)
		}
	})
}

func TestThe256LatestURIs(t *testing.T) {
	listenerTest(t, &server{}, func(r *rig) {
		for i := range 300 {
			r.Stored(modernCall(fmt.Sprintf("u%03d", i)), partitionOf(1))
			if i == 299 {
				r.Stored(modernCall("u044"), partitionOf(1)) // the oldest but for this
			}
		}
		r.Stored(modernCall("u300"), partitionOf(1))
		r.at(5 * time.Second)
		var want []string
		for i := range 301 {
			if i == 44 || i > 45 {
				want = append(want, fmt.Sprintf("u%03d", i))
			}
		}
		if got := urisOf(t, r.server.last(t, "listen").call); !slices.Equal(got, want) || len(got) != 256 {
			t.Errorf("subscribed to are %d uris, %q, want %d, %q", len(got), got, len(want), want)
		}
	})
}

func TestURIsAfterABreak(t *testing.T) {
	listenerTest(t, &server{}, func(r *rig) {
		r.Stored(modernCall("a"), partitionOf(1))
		r.at(time.Minute)
		r.server.last(t, "listen").end(errBroke)
		r.wantOpen(0)
		r.Stored(modernCall("b"), partitionOf(1)) // does not shorten the pause
		r.wantOpen(0)
		r.at(time.Minute + 2*time.Second)
		if got := urisOf(t, r.server.last(t, "listen").call); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("subscribed to is %q", got)
		}
		at := r.server.times("listen")
		if len(at) != 2 || at[1] < time.Minute+time.Second {
			t.Errorf("it was opened at %v", at)
		}
		r.at(2 * time.Minute)
		if n := len(r.server.times("listen")); n != 2 {
			t.Errorf("it was opened %d times, want 2", n)
		}
	})
}

func TestALongURI(t *testing.T) {
	listenerTest(t, &server{}, func(r *rig) {
		r.Stored(modernCall(strings.Repeat("x", 2047)), partitionOf(1)) // with its quotes over 2 KiB
		r.at(time.Minute)
		r.wantLog("0s server/discover, 0s listen")
		fits := strings.Repeat("x", 2046)
		r.Stored(modernCall(fits), partitionOf(1))
		synctest.Wait()
		if got := urisOf(t, r.server.last(t, "listen").call); !slices.Equal(got, []string{fits}) {
			t.Errorf("subscribed to is %q", got)
		}
	})
}

// A listen that the server has not begun to answer is not given up for another.
func TestASlowListen(t *testing.T) {
	server := &server{listen: func(s *fakeStream) (*mcp.Result, error) {
		select {
		case <-time.After(20 * time.Second):
			return s.open(), nil
		case <-s.ctx.Done():
			return nil, &mcp.Failure{Reason: mcp.ReasonCanceled}
		}
	}}
	listenerTest(t, server, func(r *rig) {
		for i := range 10 {
			r.Stored(modernCall(fmt.Sprint(i)), partitionOf(1))
			r.at(time.Duration(i) * time.Second)
		}
		r.at(20 * time.Second)
		if at := server.times("listen"); len(at) != 2 || at[1] != 20*time.Second {
			t.Errorf("it was opened at %v, want 0 and 20 s", at)
		}
		r.at(time.Minute)
		if n := len(server.times("listen")); n != 2 {
			t.Errorf("it was opened %d times, want 2", n)
		}
	})
}

// The stream that is open is closed only when there is another one: no change is missed.
func TestReopenMissesNothing(t *testing.T) {
	listenerTest(t, &server{}, func(r *rig) {
		r.Stored(modernCall("a"), partitionOf(1))
		r.at(time.Minute)
		first := r.server.last(t, "listen")
		r.server.change(func() {
			r.server.listen = func(s *fakeStream) (*mcp.Result, error) {
				<-time.After(time.Second)
				return s.open(), nil
			}
		})
		r.Stored(modernCall("b"), partitionOf(1))
		r.wantOpen(1)
		first.say(toolsChanged)
		r.wantReceived("notifications/tools/list_changed")
		r.at(time.Minute + time.Second)
		r.wantOpen(1)
		if s := r.server.last(t, "listen"); s == first || s.ctx.Err() != nil || first.ctx.Err() == nil {
			t.Error("it is not the second stream that is open")
		}
		r.server.change(func() { r.server.listen = func(*fakeStream) (*mcp.Result, error) { return nil, errBroke } })
		r.at(2 * time.Minute)
		r.Stored(modernCall("c"), partitionOf(1))
		r.at(3 * time.Minute) // a failure leaves it open
		r.wantOpen(1)
		if n := len(r.server.times("listen")); n < 5 {
			t.Errorf("the third was tried %d times", n-2)
		}
		r.server.change(func() { r.server.listen = nil })
		r.at(4 * time.Minute)
		if uris := urisOf(t, r.server.last(t, "listen").call); !slices.Equal(uris, []string{"a", "b", "c"}) {
			t.Errorf("subscribed to is %q", uris)
		}
		r.wantOpen(1)
	})
}

// A uri that comes between the moment at which the server is to be asked and the taking of the uris is taken, and does not
// have the server asked again.
func TestTakenURIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSubscription(New(Options{Base: t.Context()}), partitionOf(1), nil)
		s.announced = &filter{takesURIs: true}
		<-s.due.C
		s.addLocked("a")
		if f := s.take(); !slices.Equal(f.URIs, []string{"a"}) {
			t.Errorf("%q are taken", f.URIs)
		}
		select {
		case <-s.due.C:
			t.Error("the server is asked again")
		case <-time.After(time.Minute):
		}
		s.addLocked("b")
		<-s.due.C
		s.l.end(s, false)
	})
}
