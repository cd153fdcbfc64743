package cache_test

import (
	"io"
	"testing"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/mcp"
)

// TestNotificationsCountOnce: what was fetched after a change stays when the agent reads of that change on its stream, and
// when the stream is closed; a second change on the stream counts by itself.
func TestNotificationsCountOnce(t *testing.T) {
	o := cache.StageOptions{Tools: map[string]time.Duration{"get_*": 9 * time.Second}, CoalesceTools: []string{"*"}}
	const second = `{"jsonrpc":"2.0","method":"notifications/prompts/list_changed"}`
	for what, a := range map[string]rulesAsk{
		"a list":          rulesModern("resources/list"),
		"a kept tool":     rulesTool("get_x"),
		"a coalesced one": rulesTool("x"),
		"no list":         rulesModern("prompts/get").with(`"name":"p"`),
		"legacy":          rulesLegacy("resources/list").in("s"),
	} {
		for frame, first := range map[string]string{
			"alone": rulesData(toolsChanged), "primed": ": a\n\nid: 1\n\n" + rulesData(toolsChanged),
			"an array": rulesData("[" + rulesProgress + "," + toolsChanged + "]"),
		} {
			rulesTest(t, o, func(r *rulesRig) {
				r.initialize("s", "{}", "{}")
				time.Sleep(2 * time.Second) // before that it would be about this session alone
				r.gives(func(c *mcp.Call) *mcp.Result {
					return rulesStream(c, first+rulesData(second)+rulesData(rulesAnswer(0, c, "")))
				})
				res, err := r.caller.Call(r.Context(), a.call(r))
				if err != nil {
					t.Fatal(err)
				}
				r.says(`"ttlMs":9000`)
				tools, prompts := rulesModern("tools/list"), rulesModern("prompts/list")
				n := r.asks(what+", "+frame, tools).n
				r.asks(what+", "+frame, prompts)
				for err == nil {
					_, err = res.Events.Next()
				}
				if err != io.EOF {
					t.Error(err)
				}
				if err := res.Close(); err != nil {
					t.Error(err)
				}
				r.hits(what+", "+frame+", read", n, tools)
				r.asks(what+", "+frame+", the second change", prompts)
			})
		}
	}
}

// TestArraysOverBeforeTheEnd: an array of calls that is answered on a stream is over for the caller's own reads as soon as
// its answers are there, in one event or in several, and not when the server ends the stream.
func TestArraysOverBeforeTheEnd(t *testing.T) {
	o := cache.StageOptions{TTL: map[string]time.Duration{"resources/read": 9 * time.Second}, FlushOnCall: true}
	read := rulesRead("file:///a")
	const answer = `{"jsonrpc":"2.0","id":1,"result":{}}`
	for what, tt := range map[string]struct {
		call, text string
		events     int
	}{
		"one array":           {`[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}]`, rulesData("[" + answer + "]"), 1},
		"an array with more":  {`[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}]`, rulesData("[" + rulesProgress + "," + answer + "]"), 1},
		"an event each":       {`[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x"}}]`, rulesData(rulesProgress) + rulesData(answer), 2},
		"an array, then more": {`[{"jsonrpc":"2.0","id":1,"method":"ping"}]`, rulesData("["+rulesProgress+"]") + rulesData("["+answer+"]"), 2},
	} {
		rulesTest(t, o, func(r *rulesRig) {
			r.gives(func(c *mcp.Call) *mcp.Result { return rulesStream(c, tt.text) })
			res, err := r.caller.Call(r.Context(), rulesLegacy("").on(mcp.LaneOpaque).saying(tt.call).call(r))
			if err != nil {
				t.Fatal(err)
			}
			r.says("")
			kept := r.asks(what, read)
			for range tt.events {
				r.hits(what+", before its answer", kept.n, read)
				if _, err := res.Events.Next(); err != nil {
					t.Fatal(err)
				}
			}
			r.asks(what+", after its answer", read)
			if err := res.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
