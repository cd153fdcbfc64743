package daemon

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/config"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// onceUnshareable are answers that belong to the one who asked.
var onceUnshareable = map[string]func(c *mcp.Call, n int) *mcp.Result{
	"input_required": func(c *mcp.Call, n int) *mcp.Result { return pipeAnswered(c, pipeInput, pipeOwnText(c, n)) },
	"a notification before the answer": func(c *mcp.Call, n int) *mcp.Result {
		return pipeStreamed(pipeAnswered(c, pipePrivate, pipeOwnText(c, n)),
			`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"x"}}`)
	},
}

func pipeOwnText(c *mcp.Call, n int) string {
	return fmt.Sprintf("%s:%d", c.Header.Get("Authorization"), n)
}

// TestOnceUnshareable has the server give answers that are for one caller alone: everybody then goes by itself, all at the
// same time, and for a while after that nobody waits for anybody.
func TestOnceUnshareable(t *testing.T) {
	for name, answer := range onceUnshareable {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testUnshareable(t, answer) })
		})
	}
}

func testUnshareable(t *testing.T, answer func(c *mcp.Call, n int) *mcp.Result) {
	const size = 100
	p := newPipe(t, nil, func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
		if err := pipeAfter(ctx, time.Second); err != nil {
			return nil, err
		}
		return answer(c, n), nil
	})
	// Once the leader's answer is there, the others start together; in the waves after it all do.
	for wave, slowest := range []time.Duration{2 * time.Second, time.Second, time.Second} {
		calls := pipeEqual(size, "A")
		start := time.Now()
		replies := p.wave(calls...)
		if took := time.Since(start); took != slowest {
			t.Errorf("wave %d took %v of the server's seconds, want %v", wave, took, slowest)
		}
		p.wantOwn(calls, replies)
		p.wantCalls(size)
	}
}

// wantOwn checks that no two calls got the same answer, and each under its own id.
func (p *pipe) wantOwn(calls []*mcp.Call, replies []pipeReply) {
	p.t.Helper()
	p.wantIDs(calls, replies)
	texts := map[string]int{}
	for i, r := range replies {
		text := pipeText(r)
		if before, twice := texts[text]; twice || r.collapsed {
			p.t.Fatalf("calls %d and %d got one answer: %s", before, i, r.body)
		}
		if whose, _, _ := strings.Cut(text, ":"); whose != calls[i].Header.Get("Authorization") {
			p.t.Fatalf("call %d of %s got the answer of %s", i, calls[i].Header.Get("Authorization"), whose)
		}
		texts[text] = i
	}
}

// TestOncePublic follows one public list through the credentials that ask for it.
func TestOncePublic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		scope := pipePublic
		p := newPipe(t, func(c *config.Upstream) { c.Cache.StaleIfError = 0 },
			func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
				return pipeSlowly(scope)(ctx, c, n)
			})
		ask := func(whose ...string) (replies []pipeReply) {
			t.Helper()
			var calls []*mcp.Call
			for i, w := range whose {
				calls = append(calls, pipeList(w, pipeID(i)), pipeList(w, pipeID(i+50)))
			}
			replies = p.wave(calls...)
			p.wantIDs(calls, replies)
			return replies
		}
		want := func(step, whose string) {
			t.Helper()
			if got := p.server.whose(); got != whose {
				t.Fatalf("%s: calls of %q, want %q", step, got, whose)
			}
		}
		ask("A", "B")
		want("nobody knows yet that it is public", "A B")
		ask("A", "B")
		want("both have been accepted, and it is fresh", "")
		ask("C")
		want("the server has not seen this credential", "C")
		pipeWait(2 * time.Minute)
		replies := ask("A", "B", "C")
		if got := p.server.seen(); len(got) != 1 {
			t.Fatalf("it was public the last time: %d calls", len(got))
		}
		if pipeText(replies[0]) != pipeText(replies[5]) {
			t.Errorf("two answers: %s and %s", replies[0].body, replies[5].body)
		}
		pipeWait(2 * time.Minute)
		ask("A", "D")
		want("one of them was never accepted", "A D")

		// It becomes private: those who shared a flight go by themselves, each to its own answer, at once.
		scope = pipePrivate
		pipeWait(2 * time.Minute)
		start := time.Now()
		for i, r := range ask("A", "B", "C") {
			if whose := []string{"A", "B", "C"}[i/2]; !strings.HasPrefix(pipeText(r), whose+":") {
				t.Errorf("%s got %s", whose, r.body)
			}
		}
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("it took %v, want 2 s", took)
		}
		p.server.seen()
		pipeWait(2 * time.Minute)
		ask("A", "B", "C")
		want("it was private the last time", "A B C")
	})
}

// TestOncePublicRefused holds that a credential that the server refused shares with nobody.
func TestOncePublicRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refuse := false
		p := newPipe(t, nil, func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
			if err := pipeAfter(ctx, time.Second); err != nil {
				return nil, err
			}
			if refuse && c.Header.Get("Authorization") == "B" {
				return &mcp.Result{Status: http.StatusUnauthorized, Header: header.Of(http.Header{"Www-Authenticate": {"Bearer"}})}, nil
			}
			return pipeAnswered(c, pipePublic, pipeOwnText(c, n)), nil
		})
		p.wave(pipeList("A", "1"), pipeList("B", "1"))
		p.server.seen()
		refuse = true
		p.ask(t.Context(), pipeCall("B", "2", "ping", "")) // the server says 401
		if got := p.server.whose(); got != "B" {
			t.Fatalf("calls of %q", got)
		}
		p.wave(pipeList("A", "3"), pipeList("B", "3"))
		if got := p.server.whose(); got != "B" {
			t.Fatalf("a fresh public answer: calls of %q, want of B alone, which is to meet the server's 401", got)
		}
		pipeWait(2 * time.Minute)
		p.wave(pipeList("A", "4"), pipeList("B", "4"))
		if got := p.server.whose(); got != "A B" {
			t.Errorf("an old public answer: calls of %q, want of both, each by itself", got)
		}
	})
}
