package cache_test

import (
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/batch/flight"
	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/cache/worker"
	"fluentd-perf/internal/mcp"
)

const toolsChanged = `{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}`

// leaves makes a request whose answer nobody reads.
func (r *rulesRig) leaves(a rulesAsk) {
	r.Helper()
	res, err := r.caller.Call(r.Context(), a.call(r))
	if err == nil {
		err = res.Close()
	}
	if err != nil {
		r.Fatal(err)
	}
}

// TestUnreadNotifications: what has changed is stale also where the stream that said so is closed before anybody reads it.
func TestUnreadNotifications(t *testing.T) {
	o := cache.StageOptions{Tools: map[string]time.Duration{"get_*": 9 * time.Second}, CoalesceTools: []string{"*"}}
	for what, a := range map[string]rulesAsk{
		"a list":          rulesModern("prompts/list"),
		"a kept tool":     rulesTool("get_x"),
		"a coalesced one": rulesTool("x"),
		"no list":         rulesModern("prompts/get").with(`"name":"p"`),
		"legacy":          rulesLegacy("prompts/list").in("s"),
		"a page":          rulesModern("resources/list").with(`"cursor":"c"`),
	} {
		for frame, text := range map[string]string{
			"alone": rulesData(toolsChanged), "named": "event: message\n" + rulesData(toolsChanged),
			"primed": ": a\n\nid: 1\n\nretry: 5\n\n" + rulesData(toolsChanged), "an array": rulesData("[" + rulesProgress + "," + toolsChanged + "]"),
		} {
			rulesTest(t, o, func(r *rulesRig) {
				r.initialize("s", "{}", "{}")
				time.Sleep(2 * time.Second) // before that it would be about this session alone
				list := rulesModern("tools/list")
				kept := r.asks("kept", list)
				r.hits("kept", kept.n, list)
				r.gives(func(c *mcp.Call) *mcp.Result { return rulesStream(c, text+rulesData(rulesAnswer(0, c, ""))) })
				r.leaves(a)
				r.says(`"ttlMs":9000`)
				r.asks(what+", "+frame, list)
			})
		}
	}
}

// TestUnreadWithoutChange: a stream that nobody reads and that says nothing of the kind invalidates nothing.
func TestUnreadWithoutChange(t *testing.T) {
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
		kept := r.asks("kept", rulesModern("tools/list"))
		r.gives(func(c *mcp.Call) *mcp.Result { return rulesStream(c, rulesData(rulesProgress)) })
		r.leaves(rulesModern("prompts/list"))
		r.hits("kept", kept.n, rulesModern("tools/list"))
	})
}

// TestNotificationsInArrays: a server of 2025-03-26 may answer with an array of messages, as a body or in an event; the
// notifications among them count.
func TestNotificationsInArrays(t *testing.T) {
	old := rulesAsk{era: mcp.EraLegacy}.speaking(mcp.Version20250326).in("s")
	batch := old.on(mcp.LaneBatch).saying(`[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,"method":"ping"}]`)
	get, list := old, old
	get.method, list.method = "prompts/get", "prompts/list"
	ping := old
	ping.method = "ping"
	note := old.on(mcp.LaneNotification).saying(`{"jsonrpc":"2.0","method":"notifications/initialized"}`)
	for what, a := range map[string]rulesAsk{
		"an array": batch, "a request": ping, "a question": get.with(`"name":"p"`), "a list": list, "a notification": note,
	} {
		for said, changes := range map[string]bool{
			"[" + toolsChanged + `,{"jsonrpc":"2.0","id":1,"result":{}}]`:            true,
			" \r\n\t[ " + rulesProgress + " , " + toolsChanged + " ] ":               true,
			"[" + rulesProgress + `,{"jsonrpc":"2.0","id":1,"result":{}}]`:           false,
			`[{"jsonrpc":"2.0","id":1,"method":"notifications/tools/list_changed"}]`: false, // a request
			`["notifications/tools/list_changed",{"result":[` + toolsChanged + `]}]`: false,
			`[]`: false,
		} {
			for frame, give := range map[string]func(c *mcp.Call) *mcp.Result{
				"a body": func(*mcp.Call) *mcp.Result { return rulesWhole(200, said) },
				"an unchecked body": func(*mcp.Call) *mcp.Result {
					res := rulesWhole(200, said)
					res.Checked, res.Message = false, mcp.Message{}
					return res
				},
				"an event": func(c *mcp.Call) *mcp.Result { return rulesStream(c, rulesData(said)) },
				"a later event": func(c *mcp.Call) *mcp.Result {
					return rulesStream(c, rulesData(rulesProgress)+rulesData(said)+rulesData(`{"jsonrpc":"2.0","id":9,"result":{}}`))
				},
			} {
				if strings.Contains(frame, "event") && (said == `[]` || strings.Contains(said, `["notif`)) {
					continue // an array that is none of messages ends a POST stream
				}
				rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
					r.initializeAs(rulesLegacy("initialize").with(`"protocolVersion":"2025-03-26","capabilities":{}`), "s",
						`"protocolVersion":"2025-03-26","capabilities":{}`)
					time.Sleep(2 * time.Second) // before that it would be about this session alone
					kept := r.asks("kept", rulesModern("tools/list"))
					r.gives(give)
					r.reads(a)
					r.says(`"ttlMs":9000`)
					if changes {
						r.asks(what+", "+frame+", "+said, rulesModern("tools/list"))
					} else {
						r.hits(what+", "+frame+", "+said, kept.n, rulesModern("tools/list"))
					}
				})
			}
		}
	}
}

// reads makes a request and reads what comes, to whatever end.
func (r *rulesRig) reads(a rulesAsk) {
	r.Helper()
	res, err := r.caller.Call(r.Context(), a.call(r))
	if err != nil {
		r.Fatal(err)
	}
	for res.Events != nil {
		if _, err := res.Events.Next(); err != nil {
			break
		}
	}
	if err := res.Close(); err != nil {
		r.Error(err)
	}
}

// TestArraysOfModernServers: a modern server sends no arrays, and what looks like one is only passed on.
func TestArraysOfModernServers(t *testing.T) {
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
		kept := r.asks("kept", rulesModern("tools/list"))
		r.gives(func(*mcp.Call) *mcp.Result { return rulesWhole(200, "["+toolsChanged+"]") })
		r.reads(rulesModern("ping"))
		r.hits("after an array", kept.n, rulesModern("tools/list"))
	})
}

// TestLongURI: an update of a resource whose uri is too long to keep anything of, or has more parts than are told apart,
// invalidates all that was read, and costs no more than that: one generation, however many parts the uri has.
func TestLongURI(t *testing.T) {
	const most = 64 << 10 // with its quotes
	for _, test := range []struct {
		size, parts int
		all         bool
	}{{most - 2, 8, false}, {most - 1, 8, true}, {most, 64, true}, {1 << 19, 64, true}, {200, 8, false}, {200, 64, true}} {
		size, all := test.size, test.all
		tier := newRigTier("redis", newRigDisk())
		withRig(t, cache.StoreOptions{}, cache.StageOptions{}, []worker.Options{slow(tier)}, func(r *rulesRig) {
			r.initialize("", "{}", "{}") // a legacy server may name parts of resources
			kept, list := r.asks("kept", rulesRead("file:///a")), r.asks("a list", rulesModern("tools/list"))
			uri := strings.Repeat("x", size-test.parts) + strings.Repeat("/", test.parts)
			r.gives(func(c *mcp.Call) *mcp.Result {
				return rulesStream(c, rulesData(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"`+uri+`"}}`))
			})
			r.reads(rulesModern("ping"))
			r.says(`"ttlMs":9000`)
			r.after(0)
			told := 0
			for _, op := range tier.did("bump") {
				told += len(op.generations)
			}
			if all {
				r.asks("after a long uri", rulesRead("file:///a"))
			} else {
				r.hits("after another uri", kept.n, rulesRead("file:///a"))
			}
			if all && told != 1 || !all && told < 2 {
				t.Errorf("a uri of %d bytes: the tier was told of %d generations", size, told)
			}
			r.hits("a list", list.n, rulesModern("tools/list"))
		})
	}
}

// TestLargeCapabilities: a session whose client says more of itself than may be kept is relayed only.
func TestLargeCapabilities(t *testing.T) {
	const most = 64 << 10
	caps := func(size int) string {
		return `{"experimental":{"x":{"y":"` + strings.Repeat("z", size-len(`{"experimental":{"x":{"y":""}}}`)) + `"}}}`
	}
	for size, kept := range map[int]bool{most: true, most + 1: false, 4 * most: false} {
		rulesTest(t, rulesAll(), func(r *rulesRig) {
			r.initialize("s", "{}", "{}") // what was settled before is forgotten
			r.initialize("s", caps(size), "{}")
			first := r.asks("first", rulesLegacy("tools/list").in("s"))
			if kept {
				r.hits("again", first.n, rulesLegacy("tools/list").in("s"))
				return
			}
			again := r.asks("again", rulesLegacy("tools/list").in("s"))
			if again.status() != "fwd=bypass" || r.flown.Key != (flight.Key{}) {
				t.Errorf("capabilities of %d bytes: %s, may share: %v", size, again.status(), r.flown.Key != (flight.Key{}))
			}
		})
	}
}
