package daemon

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
)

// TestOnceInvalidated holds that nobody who asks after a change joins a call that was made before it.
func TestOnceInvalidated(t *testing.T) {
	changes := map[string]func(p *pipe){
		"purge": func(p *pipe) {
			if _, _, err := p.d.store.Purge(context.Background(), "s", "tools/list"); err != nil {
				p.t.Fatal(err)
			}
		},
		"list_changed on a stream": func(p *pipe) {
			p.ask(context.Background(), pipeCall("Z", "1", "tools/call", `"name":"noisy",`))
		},
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testInvalidated(t, change) })
		})
	}
}

func testInvalidated(t *testing.T, change func(p *pipe)) {
	p := newPipe(t, nil, func(ctx context.Context, c *mcp.Call, n int) (*mcp.Result, error) {
		if c.Method() == mcp.MethodToolsCall {
			return pipeStreamed(pipeAnswered(c, pipeOnce, "called"), `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`), nil
		}
		return pipeSlowly(pipePrivate)(ctx, c, n)
	})
	before := make(chan pipeReply, 10)
	for i := range 10 {
		go func() { before <- p.ask(t.Context(), pipeList("A", pipeID(i))) }()
	}
	pipeWait(time.Second / 2)
	change(p)
	after := p.wave(pipeEqual(10, "A")...)
	for range 10 {
		if r := <-before; pipeText(r) != "A:1" {
			t.Errorf("asked before the change: %s", r.body)
		}
	}
	for _, r := range after {
		if text := pipeText(r); text == "A:1" || r.at != time.Second {
			t.Errorf("asked after the change: %s after %v", r.body, r.at)
		}
	}
	later := p.ask(t.Context(), pipeList("A", "1"))
	if pipeText(later) != pipeText(after[0]) {
		t.Errorf("what is kept is %s, want %s", later.body, after[0].body)
	}
}

// TestOnceReadYourWrites holds that a request made after a tools/call was sent, or answered, joins no flight of before
// it: what the tool did has to show.
func TestOnceReadYourWrites(t *testing.T) {
	for _, whose := range []string{"A", "B"} { // B's flights are another matter, as long as nothing is public
		t.Run(whose, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testReadYourWrites(t, whose) })
		})
	}
}

func testReadYourWrites(t *testing.T, caller string) {
	p := newPipe(t, nil, pipeSlowly(pipeOnce))
	go p.ask(t.Context(), pipeList("A", "1"))
	pipeWait(time.Second / 4)
	called := make(chan pipeReply)
	go func() { called <- p.ask(t.Context(), pipeCall(caller, "2", "tools/call", `"name":"write",`)) }()
	synctest.Wait()
	sent := make(chan pipeReply)
	go func() { sent <- p.ask(t.Context(), pipeList("A", "3")) }()
	<-called // at 1.25 s: the second list call is still under way if it is one of its own
	done := p.ask(t.Context(), pipeList("A", "4"))
	during := <-sent
	// Calls: 1 list, 2 tool, and then as many lists as were not shared.
	if caller == "A" {
		if pipeText(during) != "A:3" || pipeText(done) != "A:4" {
			t.Errorf("after the tool was called: %s; after it answered: %s", during.body, done.body)
		}
		return
	}
	if pipeText(during) != "A:1" || during.at != 3*time.Second/4 {
		t.Errorf("another credential's call: %s after %v", during.body, during.at)
	}
}

// TestOnceReadYourWritesPublic is the same for a list that all share: any tools/call ends the joining.
func TestOnceReadYourWritesPublic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPipe(t, nil, pipeSlowly(pipePublic))
		p.wave(pipeList("A", "1"), pipeList("B", "1"), pipeList("C", "1"))
		pipeWait(2 * time.Minute)
		p.server.seen()
		early := make(chan pipeReply, 2)
		for _, whose := range []string{"A", "B"} {
			go func() { early <- p.ask(t.Context(), pipeList(whose, "2")) }()
		}
		pipeWait(time.Second / 4)
		p.wantCalls(1)
		called := make(chan pipeReply, 1)
		go func() { called <- p.ask(t.Context(), pipeCall("C", "3", "tools/call", `"name":"write",`)) }()
		synctest.Wait()
		late := p.wave(pipeList("A", "4"), pipeList("C", "4"))
		p.wantCalls(2) // the tool, and one list for both
		first := pipeText(<-early)
		if first != pipeText(<-early) || pipeText(late[0]) != pipeText(late[1]) || first == pipeText(late[0]) {
			t.Errorf("before the tool was called %s, after it %s and %s", first, late[0].body, late[1].body)
		}
		<-called
	})
}
