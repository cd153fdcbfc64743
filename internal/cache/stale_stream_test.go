package cache_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/mcp"
)

// TestStreamEndsWithItsAgent: an answer that comes as a stream ends when its agent leaves, also where it was fetched while
// an expired one was at hand; and reading it to its end is not the only way to end it.
func TestStreamEndsWithItsAgent(t *testing.T) {
	for what, stale := range map[string]bool{"nothing at hand": false, "an expired answer at hand": true} {
		for _, by := range []string{"leaving", "closing"} {
			rulesTest(t, cache.StageOptions{StaleIfError: time.Hour}, func(r *rulesRig) {
				if stale {
					r.asks("kept", rulesModern("tools/list"))
					r.after(20 * time.Second)
				}
				var stream *hangingStream
				server := r.server
				r.script(func(n int, c *mcp.Call) (*mcp.Result, error) {
					var res *mcp.Result
					res, stream = hangs(server.ctxOf(n), c, rulesData(rulesProgress))
					return res, nil
				})
				ctx, leave := context.WithCancel(context.Background())
				defer leave()
				res, err := r.caller.Call(ctx, rulesModern("tools/list").call(r))
				if err != nil {
					t.Fatal(err)
				}
				testEndsWithItsAgent(t, res, leave, by == "leaving")
				if stream.left != (by == "leaving") || stream.closed != 1 {
					t.Errorf("%s, %s: the reader met the end: %v; closed %d times", what, by, stream.left, stream.closed)
				}
				if (stale || by == "leaving") && stream.ctx.Err() == nil {
					t.Errorf("%s, %s: the server still works for nobody", what, by)
				}
			})
		}
	}
}

func testEndsWithItsAgent(t *testing.T, res *mcp.Result, leave func(), leaves bool) {
	t.Helper()
	if ev, err := res.Events.Next(); err != nil || string(ev.Data) != rulesProgress {
		t.Fatalf("the first event is %q, %v", ev.Data, err)
	}
	if leaves {
		ended := make(chan error, 1)
		go func() {
			_, err := res.Events.Next()
			ended <- err
		}()
		synctest.Wait()
		leave()
		select {
		case err := <-ended:
			if err == nil {
				t.Error("one more event came")
			}
		case <-time.After(time.Minute):
			t.Fatal("a minute after its agent has left the stream still stands")
		}
	}
	if err := res.Close(); err != nil {
		t.Error(err)
	}
	synctest.Wait()
}

// TestStaleForABrokenStream: a framed answer that breaks off with nothing in it is a failure, where an expired
// answer is served instead; one that a legacy agent could resume is passed on.
func TestStaleForABrokenStream(t *testing.T) {
	for what, tt := range map[string]struct {
		era  mcp.Era
		text string
		want bool
	}{
		"nothing": {mcp.EraModern, "", true}, "a comment": {mcp.EraModern, ": ping\n\n", true}, "an id": {mcp.EraModern, "id: 1\n\n", true},
		"retry": {mcp.EraModern, "retry: 1\n\n", true}, "many comments": {mcp.EraModern, strings.Repeat(": ping\n\n", 100), true},
		"rubbish": {mcp.EraModern, "data: rubbish\n\n", true}, "legacy": {mcp.EraLegacy, "", true}, "legacy, retry": {mcp.EraLegacy, "retry: 1\n\n", true},
		"legacy, an empty id": {mcp.EraLegacy, "id:\n\n", true}, "legacy, an id": {mcp.EraLegacy, "id: 1\n\n", false},
		"something": {mcp.EraModern, rulesData(rulesProgress), false}, "legacy, something": {mcp.EraLegacy, rulesData(rulesProgress), false},
	} {
		o := cache.StageOptions{TTL: map[string]time.Duration{"tools/list": 9 * time.Second}, StaleIfError: time.Hour}
		rulesTest(t, o, func(r *rulesRig) {
			a := rulesModern("tools/list")
			if tt.era == mcp.EraLegacy {
				a = rulesLegacy("tools/list").in("s")
			}
			r.initialize("s", "{}", "{}")
			kept := r.asks("kept", a)
			r.after(20 * time.Second)
			r.gives(func(c *mcp.Call) *mcp.Result { return rulesStream(c, tt.text) })
			res, err := r.caller.Call(r.Context(), a.call(r))
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if !tt.want {
				if res.Events == nil {
					t.Errorf("%s: it is not passed on: %s", what, slices.Collect(res.Header.Values("Cache-Status")))
				}
				if err := res.Close(); err != nil {
					t.Error(err)
				}
				return
			}
			if p := r.read(res); p.n != kept.n || !strings.HasSuffix(p.status(), "detail=stale-error") {
				t.Errorf("%s: number %d of %d, %s", what, p.n, kept.n, p.status())
			}
		})
	}
}

// TestBrokenStreamsOfTools: a tools/call whose stream breaks off is a failure as well, and may have run.
func TestBrokenStreamsOfTools(t *testing.T) {
	rulesTest(t, writeOptions(), func(r *rulesRig) {
		for _, tool := range []string{"join_x", "get_x"} {
			r.gives(func(c *mcp.Call) *mcp.Result { return rulesStream(c, ": ping\n\n") })
			_, err := r.caller.Call(r.Context(), rulesTool(tool).call(r))
			if f, ok := err.(*mcp.Failure); !ok || f.Reason != mcp.ReasonBrokeOff || f.Sent != mcp.SentYes || f.Code != mcp.CodeBadGateway {
				t.Errorf("%s: %v", tool, err)
			}
		}
	})
}

// TestOutageIsTold: the log has one warning when expired answers begin to stand in for a failing server, however many do,
// and one line when it answers again.
func TestOutageIsTold(t *testing.T) {
	log := new(readableLog)
	withRig(t, cache.StoreOptions{Log: log.logger()}, cache.StageOptions{StaleIfError: time.Hour}, nil, func(r *rulesRig) {
		want := func(when string, warned, informed int) {
			t.Helper()
			w, i := log.count("level=WARN", "are served instead", "upstream=docs"), log.count("level=INFO", "answers again", "upstream=docs")
			if w != warned || i != informed {
				t.Errorf("%s: %d warnings, %d times it answers again; want %d and %d", when, w, i, warned, informed)
			}
		}
		asks := []rulesAsk{rulesModern("tools/list"), rulesModern("prompts/list"), rulesModern("tools/list").by("b")}
		all := func() (from []string) {
			for _, a := range asks {
				from = append(from, r.ask(a).status())
			}
			r.after(10 * time.Second)
			return from
		}
		all()
		for outage := range 3 {
			want(fmt.Sprint("before the outage ", outage), outage, outage)
			r.fails()
			for range 3 {
				if from := fmt.Sprint(all()); strings.Count(from, "stale-error") != len(asks) {
					t.Fatalf("the answers are from %s", from)
				}
				want("while it fails", outage+1, outage)
			}
			r.ask(rulesModern("resources/list")) // for which there is no expired answer
			want("an error that is passed on", outage+1, outage)
			r.says(`"ttlMs":9000`)
			all()
			want("when it works", outage+1, outage+1)
			all()
		}
		want("at the end", 3, 3)
	})
	withRig(t, cache.StoreOptions{Log: log.logger()}, cache.StageOptions{}, nil, func(r *rulesRig) {
		before := log.count("level=")
		r.ask(rulesModern("tools/list"))
		r.after(10 * time.Second)
		r.fails()
		r.ask(rulesModern("tools/list"))
		r.says("")
		r.ask(rulesModern("tools/list"))
		if n := log.count("level="); n != before {
			t.Errorf("%d lines where nothing stood in", n-before)
		}
	})
}
