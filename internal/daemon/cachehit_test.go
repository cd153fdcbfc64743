package daemon

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/config"
	"fluentd-perf/internal/mcp"
)

// TestHitBytes holds what a hit changes of the server's answer, wherever its id and ttlMs stand: these two, and nothing
// else.
func TestHitBytes(t *testing.T) {
	for _, form := range []string{
		`{"jsonrpc":"2.0","id":<ID>,"result":{"tools":[],"ttlMs":<TTL>,"cacheScope":"private"}}`,
		`{"result":{"ttlMs":<TTL>,"é": { "x" : [ 1,"\"id\":7" ] } },"jsonrpc":"2.0","id":<ID>}`,
		"{\"id\" : <ID>\n,\"jsonrpc\":\"2.0\",\t\"result\":{\"ttlMs\":<TTL>}} ",
		`{"result":{"a":{"ttlMs":5},"ttlMs":<TTL>},"id":<ID>,"jsonrpc":"2.0"}`,
	} {
		for _, alone := range []bool{false, true} { // under the flight's long id, or the short one of an agent
			synctest.Test(t, func(t *testing.T) { testHitBytes(t, form, alone) })
		}
	}
}

func testHitBytes(t *testing.T, form string, alone bool) {
	fill := func(id string, ttl int) string {
		return strings.ReplaceAll(strings.ReplaceAll(form, "<TTL>", fmt.Sprint(ttl)), "<ID>", id)
	}
	p := newPipe(t, func(c *config.Upstream) { c.Cache.StaleIfError = 0 }, func(_ context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
		if alone && n == 1 {
			return pipeAnswered(c, pipeInput, "whoever comes goes by itself for a while"), nil
		}
		return pipeResult(fill(string(c.ID()), 9500)), nil
	})
	if alone {
		p.ask(t.Context(), pipeList("A", "1"))
	}
	if r := p.ask(t.Context(), pipeList("A", "1")); r.body != fill("1", 9500) {
		t.Fatalf("the server's answer: %s\nwant %s", r.body, fill("1", 9500))
	}
	p.server.seen()
	for elapsed := 0; elapsed < 9500; elapsed += 475 {
		for _, id := range []string{"1", `"a"`, "-7.25e3", `"` + strings.Repeat("long ", 40) + `"`} {
			want := fill(id, 9500-elapsed)
			if r := p.ask(t.Context(), pipeList("A", id)); r.body != want {
				t.Errorf("after %d ms: %s\nwant %s", elapsed, r.body, want)
			}
		}
		pipeWait(475 * time.Millisecond)
	}
	p.wantCalls(0)
	p.ask(t.Context(), pipeList("A", "1"))
	p.wantCalls(1)
}

// TestHitWithoutTTL holds that an operator's time is not shown.
func TestHitWithoutTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipe(t, func(c *config.Upstream) { c.Cache.TTL = map[string]time.Duration{"tools/list": time.Minute} },
			func(_ context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
				return pipeResult(`{"result":{"tools":[]},"id":` + string(c.ID()) + `,"jsonrpc":"2.0"}`), nil
			})
		for _, id := range []string{"1", `"two"`, `"` + strings.Repeat("long ", 40) + `"`} {
			if r := p.ask(t.Context(), pipeList("A", id)); r.body != `{"result":{"tools":[]},"id":`+id+`,"jsonrpc":"2.0"}` {
				t.Errorf("%s: %s", id, r.body)
			}
		}
		p.wantCalls(1)
	})
}

// TestHitIsItsOwn holds that no two hits share memory: what one reader's answer becomes is no matter to another's.
func TestHitIsItsOwn(t *testing.T) {
	p := newPipe(t, nil, func(_ context.Context, c *mcp.Call, _ int) (*mcp.Result, error) {
		return pipeAnswered(c, pipePrivate, "kept"), nil
	})
	p.ask(t.Context(), pipeList("A", "1"))
	want := p.ask(t.Context(), pipeList("A", "1")).body
	for range 100 {
		res, err := p.stage.Call(t.Context(), pipeList("A", "1"))
		if err != nil {
			t.Fatal(err)
		}
		if !hitSameButTTL(string(res.Body), want) {
			t.Fatalf("%s\nwant %s", res.Body, want)
		}
		clear(res.Body[:cap(res.Body)])
		clear(res.Header)
		if err := res.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// hitSameButTTL compares two answers up to what is left of their time.
func hitSameButTTL(a, b string) bool {
	cut := func(s string) string {
		before, rest, _ := strings.Cut(s, `"ttlMs":`)
		return before + strings.TrimLeft(rest, "0123456789")
	}
	return cut(a) == cut(b)
}
