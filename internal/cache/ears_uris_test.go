package cache

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
				ToolsListChanged      *bool    `json:"toolsListChanged"`
				ResourceSubscriptions []string `json:"resourceSubscriptions"`
			} `json:"notifications"`
		} `json:"params"`
	}
	if err := json.Unmarshal(c.Body, &body); err != nil || body.Params.Notifications.ToolsListChanged != nil {
		t.Fatalf("%v in %s", err, c.Body)
	}
	return body.Params.Notifications.ResourceSubscriptions
}

func TestEarsListenForReadResources(t *testing.T) {
	earTest(t, &earServer{}, func(r *earRig) {
		want := func(uris ...string) {
			t.Helper()
			synctest.Wait()
			if got := urisOf(t, r.server.last(t, "uris").call); !slices.Equal(got, uris) {
				t.Errorf("listened for is %q, want %q", got, uris)
			}
			r.wantStanding(2)
		}
		r.stored(earCall(""), earAsker(1))
		r.at(time.Second)
		r.wantLog("0s server/discover, 0s lists")
		r.stored(earCall("b"), earAsker(1))
		want("b")
		for i, uri := range []string{"a", "b", "c", "a\"<é>"} {
			r.at(time.Second + time.Duration(i)*time.Second)
			r.stored(earCall(uri), earAsker(1))
		}
		r.at(6*time.Second - 1)
		want("b")
		r.at(6 * time.Second)
		want("a", `a"<é>`, "b", "c")
		r.stored(earCall("c"), earAsker(1)) // known: nothing changes
		r.at(time.Minute)
		r.stored(earCall("d"), earAsker(1)) // 5 s have long passed
		want("a", `a"<é>`, "b", "c", "d")
		r.stored(earCall("e"), earAsker(1))
		r.at(time.Minute + 5*time.Second)
		want("a", `a"<é>`, "b", "c", "d", "e")
		r.wantLog("0s server/discover, 0s lists, 1s uris, 6s uris, 1m0s uris, 1m5s uris")
	})
}

func TestEarsKnowUrisBeforeTheyMayListen(t *testing.T) {
	server := &earServer{}
	server.discover = func(context.Context) (*mcp.Result, error) {
		<-time.After(10 * time.Second)
		return earJSON(200, `{"jsonrpc":"2.0","id":1,"result":`+server.discovered()+`}`), nil
	}
	earTest(t, server, func(r *earRig) {
		r.stored(earCall("a"), earAsker(1))
		r.at(9 * time.Second)
		r.stored(earCall("b"), earAsker(1))
		r.at(10 * time.Second)
		if got := urisOf(t, server.last(t, "uris").call); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("listened for is %q", got)
		}
		r.at(time.Minute)
		if n := len(server.times("uris")); n != 1 {
			t.Errorf("it was opened %d times, want once", n)
		}
	})
}

func TestEarsListenForThe256LatestUris(t *testing.T) {
	earTest(t, &earServer{}, func(r *earRig) {
		for i := range 300 {
			r.stored(earCall(fmt.Sprintf("u%03d", i)), earAsker(1))
			if i == 299 {
				r.stored(earCall("u044"), earAsker(1)) // the oldest but for this
			}
		}
		r.stored(earCall("u300"), earAsker(1))
		r.at(5 * time.Second)
		var want []string
		for i := range 301 {
			if i == 44 || i > 45 {
				want = append(want, fmt.Sprintf("u%03d", i))
			}
		}
		if got := urisOf(t, r.server.last(t, "uris").call); !slices.Equal(got, want) || len(got) != 256 {
			t.Errorf("listened for are %d uris, %q, want %d, %q", len(got), got, len(want), want)
		}
	})
}

func TestEarsListenForUrisAgainAfterABreak(t *testing.T) {
	earTest(t, &earServer{}, func(r *earRig) {
		r.stored(earCall("a"), earAsker(1))
		r.at(time.Minute)
		r.server.last(t, "uris").end(errEarBroke)
		r.wantStanding(1)
		r.stored(earCall("b"), earAsker(1)) // does not shorten the pause
		r.wantStanding(1)
		r.at(time.Minute + 2*time.Second)
		if got := urisOf(t, r.server.last(t, "uris").call); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("listened for is %q", got)
		}
		at := r.server.times("uris")
		if len(at) != 2 || at[1] < time.Minute+time.Second {
			t.Errorf("it was opened at %v", at)
		}
		r.at(2 * time.Minute)
		if n := len(r.server.times("uris")); n != 2 {
			t.Errorf("it was opened %d times, want 2", n)
		}
	})
}

func TestEarsDoNotListenForLongUris(t *testing.T) {
	earTest(t, &earServer{}, func(r *earRig) {
		r.stored(earCall(strings.Repeat("x", 2047)), earAsker(1)) // with its quotes over 2 KiB
		r.at(time.Minute)
		r.wantLog("0s server/discover, 0s lists")
		fits := strings.Repeat("x", 2046)
		r.stored(earCall(fits), earAsker(1))
		synctest.Wait()
		if got := urisOf(t, r.server.last(t, "uris").call); !slices.Equal(got, []string{fits}) {
			t.Errorf("listened for is %q", got)
		}
	})
}

// A listen that the server has not begun to answer is not given up for another.
func TestEarsWaitForASlowListen(t *testing.T) {
	server := &earServer{listen: func(s *earStream) (*mcp.Result, error) {
		select {
		case <-time.After(20 * time.Second):
			return s.open(), nil
		case <-s.ctx.Done():
			return nil, &mcp.Failure{Reason: mcp.ReasonCanceled}
		}
	}}
	earTest(t, server, func(r *earRig) {
		for i := range 10 {
			r.stored(earCall(fmt.Sprint(i)), earAsker(1))
			r.at(time.Duration(i) * time.Second)
		}
		r.at(20 * time.Second)
		if at := server.times("uris"); len(at) != 2 || at[1] != 20*time.Second {
			t.Errorf("it was opened at %v, want 0 and 20 s", at)
		}
		r.at(time.Minute)
		if n := len(server.times("uris")); n != 2 {
			t.Errorf("it was opened %d times, want 2", n)
		}
	})
}
