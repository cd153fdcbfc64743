package cache_test

import (
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/batch/flight"
	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// TestToolPatterns holds which tools' answers are kept, and that the longest pattern that matches says for how long.
func TestToolPatterns(t *testing.T) {
	o := cache.StageOptions{Tools: map[string]time.Duration{
		"*": time.Second, "get_*": 2 * time.Second, "get_now": 0, "get_now_?": 3 * time.Second, "get_[ab]": 4 * time.Second,
		"a/*": 5 * time.Second, "[": time.Hour, `x\*`: 6 * time.Second, "Tt": 7 * time.Second, "tt": 8 * time.Second,
	}}
	for tool, life := range map[string]time.Duration{
		"x": time.Second, "get_x": 2 * time.Second, "get_now": 0, "get_now_1": 3 * time.Second, "get_a": 4 * time.Second,
		"get_c": 2 * time.Second, "a/b": 5 * time.Second, "a/b/c": 0, "b/c": 0, "x*": 6 * time.Second, "Tt": 7 * time.Second,
		"tt": 8 * time.Second, "": time.Second, "\U0001f600": time.Second,
	} {
		rulesTest(t, o, func(r *rulesRig) {
			r.says(`"ttlMs":9000,"content":[]`)
			r.rulesLives(tool, rulesTool(tool), life)
			r.after(10 * time.Second)
			r.initialize("s", "{}", "{}")
			r.rulesLives("legacy "+tool, rulesLegacy("tools/call").with(rulesTool(tool).params).in("s"), life)
		})
	}
	rulesTest(t, cache.StageOptions{TTL: map[string]time.Duration{"tools/call": time.Hour}}, func(r *rulesRig) {
		r.rulesLives("no patterns", rulesTool("x"), 0)
	})
}

// TestToolRequests holds that arguments, names as they are spelled, and principals make other requests.
func TestToolRequests(t *testing.T) {
	rulesTest(t, rulesAll(), func(r *rulesRig) {
		r.says(rulesPublic)
		a := rulesTool("t").with(`"name":"t","arguments":{"a":1,"b":[1,2]}`)
		first := r.asks("first", a)
		r.hits("the same in other words", first.n, a.with(` "arguments":{"b":[1, 2],"\u0061":1} , "n\u0061me":"\u0074"`))
		for _, b := range []rulesAsk{
			a.by("b"), a.with(`"name":"t"`), a.with(`"name":"t","arguments":{}`), a.with(`"name":"t","arguments":null`),
			a.with(`"name":"t","arguments":{"a":1,"b":[2,1]}`), a.with(`"name":"t","arguments":{"a":1.0,"b":[1,2]}`),
			a.with(`"name":"T","arguments":{"a":1,"b":[1,2]}`), a.with(`"name":"t","Arguments":{"a":1,"b":[1,2]}`),
			a.with(`"name":"t","arguments":{"a":"1","b":[1,2]}`), a.can(`{"roots":{}}`),
		} {
			r.hits(b.bytes(), r.asks(b.bytes(), b).n, b)
		}
	})
}

// TestToolsCoalesce holds that keeping answers and sharing calls under way are two things (docs/cache.md).
func TestToolsCoalesce(t *testing.T) {
	o := cache.StageOptions{
		Tools:         map[string]time.Duration{"get_*": time.Second, "get_not": 0, "get_both": time.Second},
		CoalesceTools: []string{"join_*", "get_both"},
	}
	for tool, want := range map[string]struct {
		flies  bool
		status string
	}{
		"get_x": {false, "fwd=miss; stored"}, "get_both": {true, "fwd=miss; stored"}, "join_x": {true, "fwd=bypass"},
		"get_not": {false, "fwd=bypass"}, "x": {false, "fwd=bypass"},
	} {
		rulesTest(t, o, func(r *rulesRig) {
			p := r.asks(tool, rulesTool(tool))
			if flies := r.flown.Key != (flight.Key{}); flies != want.flies || p.status() != want.status {
				t.Errorf("%s flies: %v, %s", tool, flies, p.status())
			}
			if again := r.up.FlightKey(rulesTool(tool).call(r)); want.flies && again != r.flown.Key {
				t.Errorf("%s ends the joining of those who call the same", tool)
			}
		})
	}
}

// rulesWrites are the ways in which something may be changed by an agent.
var rulesWrites = map[string]func(r *rulesRig, credential string){
	"a tool": func(r *rulesRig, credential string) { r.ask(rulesTool("write").by(credential)) },
	"a tool that answers on a stream": func(r *rulesRig, credential string) {
		r.stream(rulesProgress, rulesTool("write").by(credential))
	},
	"a tool that fails": func(r *rulesRig, credential string) {
		r.script(func(int, *mcp.Call) (*mcp.Result, error) {
			return nil, &mcp.Failure{Reason: mcp.ReasonBrokeOff, Sent: mcp.SentUnknown}
		})
		_, err := r.caller.Call(r.Context(), rulesTool("write").by(credential).call(r))
		if f := new(mcp.Failure); !errors.As(err, &f) || f.Reason != mcp.ReasonBrokeOff {
			r.Errorf("the failure is %v", err)
		}
		r.says("")
	},
	"a listed tool of 0 s": func(r *rulesRig, credential string) { r.ask(rulesTool("get_not").by(credential)) },
	"a joined tool":        func(r *rulesRig, credential string) { r.ask(rulesTool("join_x").by(credential)) },
	"a joined tool on a stream": func(r *rulesRig, credential string) {
		r.stream(rulesProgress, rulesTool("join_x").by(credential))
	},
	"an odd tool": func(r *rulesRig, credential string) { r.ask(rulesTool("t").with(`"name":["t"]`).by(credential)) },
	"a tool, legacy": func(r *rulesRig, credential string) {
		r.ask(rulesLegacy("tools/call").with(`"name":"write"`).in("unknown").by(credential))
	},
	"a tool, loosely": func(r *rulesRig, credential string) {
		r.ask(rulesTool("write").with(`"name":"write","arguments":{"x":"\ud83d"}`).by(credential))
	},
	"a joined tool, loosely": func(r *rulesRig, credential string) {
		r.ask(rulesTool("join_x").with(`"name":"join_x","arguments":{"x":"\ud83d"}`).by(credential))
	},
	"what nobody understands": func(r *rulesRig, credential string) {
		r.ask(rulesModern("").on(mcp.LaneOpaque).saying("\x1f\x8b").by(credential))
	},
	"an array": func(r *rulesRig, credential string) {
		r.ask(rulesLegacy("").on(mcp.LaneOpaque).saying(`[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"write"}}]`).by(credential))
	},
}

// TestReadYourWrites holds that a tools/call outside the operator's list makes that credential's answers old that are
// kept by the operator's word, unless flush_on_call is off, and lets nobody join what is under way.
func TestReadYourWrites(t *testing.T) {
	for what, write := range rulesWrites {
		for _, flush := range []bool{true, false} {
			o := cache.StageOptions{
				TTL:   map[string]time.Duration{"resources/read": 9 * time.Second, "tools/list": 9 * time.Second},
				Tools: map[string]time.Duration{"get_*": 9 * time.Second, "get_not": 0}, CoalesceTools: []string{"join_*"}, FlushOnCall: flush,
			}
			rulesTest(t, o, func(r *rulesRig) {
				read, tool, list := rulesRead("file:///a"), rulesTool("get_x"), rulesModern("tools/list")
				asks := []rulesAsk{read, tool, list, rulesModern("prompts/list"), read.by("b"), tool.by("b")}
				flushed := map[int]bool{0: flush, 1: flush}
				var first []int
				for _, a := range asks {
					first = append(first, r.asks(what, a).n)
				}
				r.asks("a listed tool", rulesTool("get_y"))
				r.asks("a listed tool, not shared for another reason", rulesTool("get_y").also(`"progressToken":1`))
				r.hits(what+": a listed tool changes nothing", first[0], read)
				before := r.up.FlightKey(rulesModern("prompts/list").call(r))
				write(r, "a")
				if after := r.up.FlightKey(rulesModern("prompts/list").call(r)); after == before {
					t.Errorf("%s: whoever comes after it joins a flight of before", what)
				}
				for i, a := range asks {
					if flushed[i] {
						r.asks(what+": "+a.bytes(), a)
					} else {
						r.hits(what+": "+a.bytes(), first[i], a)
					}
				}
			})
		}
	}
}

// TestReadYourWritesUnderWay holds that what was read while a tools/call was under way is stale when that has been answered,
// has failed or was given up, and that what was asked for before is not kept.
func TestReadYourWritesUnderWay(t *testing.T) {
	o := cache.StageOptions{
		TTL: map[string]time.Duration{"resources/read": 9 * time.Second}, Tools: map[string]time.Duration{"get_*": time.Second, "get_not": 0},
		CoalesceTools: []string{"join_*"}, FlushOnCall: true,
	}
	read := rulesRead("file:///a")
	for what, write := range rulesWrites {
		rulesTest(t, o, func(r *rulesRig) {
			r.asks(what+", before it", read)
			r.server.during = func() {
				before := r.server.script
				r.says("")
				sent := r.asks(what+", as soon as it is sent", read)
				r.hits(what+", while it runs", sent.n, read)
				r.script(before)
			}
			write(r, "a")
			if r.server.during != nil {
				t.Fatalf("%s: the server was not asked", what)
			}
			r.says("")
			r.asks(what+", after it", read)

			r.after(9 * time.Second)
			r.script(func(n int, c *mcp.Call) (*mcp.Result, error) {
				r.says("")
				write(r, "a")
				r.says("")
				return rulesWhole(200, rulesAnswer(n, c, "")), nil
			})
			if p := r.ask(read); strings.Contains(p.status(), "stored") {
				t.Errorf("%s: an answer from before is stored", what)
			}
			r.asks(what+", after it again", read)
		})
	}
}

// TestWritesOnStreams holds at which moment a tools/call on a stream is over: when its answer is there, before the agent
// has it, or when the stream ends without.
func TestWritesOnStreams(t *testing.T) {
	o := cache.StageOptions{TTL: map[string]time.Duration{"resources/read": 9 * time.Second}, CoalesceTools: []string{"join_*"}, FlushOnCall: true}
	read := rulesRead("file:///a")
	for _, tool := range []string{"write", "join_x"} {
		for what, tt := range map[string]struct {
			text  string
			reads int // events, after which it is over, or the agent leaves
		}{
			"an answer":        {rulesData(rulesProgress) + rulesData(`{"jsonrpc":"2.0","id":1,"result":{}}`), 2},
			"an error":         {rulesData(rulesProgress) + rulesData(`{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":""}}`), 2},
			"no answer":        {rulesData(rulesProgress), 2},
			"an agent leaving": {rulesData(rulesProgress) + rulesData(rulesProgress), 1},
		} {
			rulesTest(t, o, func(r *rulesRig) {
				r.gives(func(c *mcp.Call) *mcp.Result { return rulesStream(c, tt.text) })
				res, err := r.caller.Call(r.Context(), rulesTool(tool).call(t))
				if err != nil {
					t.Fatal(err)
				}
				r.says("")
				first := r.asks(what, read)
				for i := range tt.reads {
					r.hits(what, first.n, read)
					if _, err := res.Events.Next(); err != nil && i+1 < tt.reads {
						t.Fatal(err)
					}
				}
				if what == "an agent leaving" {
					if err := res.Close(); err != nil {
						t.Error(err)
					}
				}
				r.asks(tool+", "+what, read)
				if what != "an agent leaving" {
					if err := res.Close(); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
}

// TestWritesInPieces: what answers in a body that passes as it comes is over at the end of that, or when the agent leaves,
// and what answers several times is over with each.
func TestWritesInPieces(t *testing.T) {
	o := cache.StageOptions{TTL: map[string]time.Duration{"resources/read": 9 * time.Second}, CoalesceTools: []string{"join_*"}, FlushOnCall: true}
	read := rulesRead("file:///a")
	opaque := rulesModern("").on(mcp.LaneOpaque).saying("[")
	for what, a := range map[string]rulesAsk{"a tool": rulesTool("write"), "a joined tool": rulesTool("join_x"), "opaque": opaque} {
		for _, end := range []string{"end", "break", "close"} {
			rulesTest(t, o, func(r *rulesRig) {
				var tail error
				if end == "break" {
					tail = &mcp.Failure{Reason: mcp.ReasonBrokeOff, Sent: mcp.SentYes}
				}
				r.gives(func(*mcp.Call) *mcp.Result {
					return &mcp.Result{Status: 200, Header: header.List{}, Raw: &rulesPieces{n: 2, end: tail}}
				})
				res, err := r.caller.Call(r.Context(), a.call(t))
				if err != nil {
					t.Fatal(err)
				}
				r.says("")
				first := r.asks(what, read)
				for range 2 {
					if _, err := res.Raw.Read(make([]byte, 8)); err != nil {
						t.Fatal(err)
					}
					r.hits(what+", on its way", first.n, read)
				}
				if end == "close" {
					if err := res.Close(); err != nil {
						t.Error(err)
					}
				} else if _, err = res.Raw.Read(make([]byte, 8)); err == nil {
					t.Error("it goes on")
				}
				last := r.asks(what+", "+end, read)
				if end != "close" {
					_ = res.Close()
				}
				r.hits(what+", once", last.n, read)
			})
		}
	}
	rulesTest(t, o, func(r *rulesRig) {
		answer := rulesData(`{"jsonrpc":"2.0","id":1,"result":{}}`)
		r.gives(func(c *mcp.Call) *mcp.Result { return rulesStream(c, answer+answer) })
		res, err := r.caller.Call(r.Context(), opaque.call(t))
		if err != nil {
			t.Fatal(err)
		}
		r.says("")
		for range 2 {
			if _, err := res.Events.Next(); err != nil {
				t.Fatal(err)
			}
			r.asks("an answer of several", read)
		}
		if _, err := res.Events.Next(); err != io.EOF {
			t.Error(err)
		}
		r.asks("the end", read)
		_ = res.Close()
	})
}

// rulesPieces is a body in n pieces.
type rulesPieces struct {
	n   int
	end error // nil is a clean one
}

func (p *rulesPieces) Read(b []byte) (int, error) {
	if p.n--; p.n >= 0 {
		return copy(b, "x"), nil
	}
	if p.end != nil {
		return 0, p.end
	}
	return 0, io.EOF
}

func (*rulesPieces) Close() error { return nil }

// TestWritesLeaveTheServersWord holds that what lives by the server's ttlMs is not invalidated by a tools/call.
func TestWritesLeaveTheServersWord(t *testing.T) {
	rulesTest(t, cache.StageOptions{Tools: map[string]time.Duration{"get_*": time.Second}, FlushOnCall: true}, func(r *rulesRig) {
		first := r.asks("first", rulesRead("file:///a"))
		r.asks("a tool", rulesTool("write"))
		r.hits("after the tool", first.n, rulesRead("file:///a"))
	})
}

// TestJoiningEnds holds whose flights take no joiners when a tool is called: the credential's own, and everybody's.
func TestJoiningEnds(t *testing.T) {
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
		j := r.joining(rulesModern("tools/list"))
		r.script(func(n int, c *mcp.Call) (*mcp.Result, error) {
			j.want("before the call")
			return rulesWhole(200, rulesAnswer(n, c, "")), nil
		})
		r.asks("a tool", rulesTool("x"))
		j.want("after the call")
	})
}

// joining is which flights calls would join at some moment: the credential's own, everybody's, and those that a tools/call does
// not concern.
type joining struct {
	r     *rulesRig
	ended []rulesAsk
	stay  []rulesAsk
	keys  map[string]flight.Key
}

// joining notes that of own, of a list that is everybody's, and of those of another credential and of others.
func (r *rulesRig) joining(own rulesAsk, others ...rulesAsk) *joining {
	r.Helper()
	r.says(rulesPublic)
	r.ask(rulesModern("prompts/list"))
	r.after(10 * time.Second)
	j := &joining{r: r, ended: []rulesAsk{own, rulesModern("prompts/list")}, stay: append(others, own.by("b")), keys: make(map[string]flight.Key)}
	j.note()
	if len(j.keys) != len(j.ended)+len(j.stay) {
		r.Error("keys are the same")
	}
	return j
}

func (j *joining) note() {
	for _, a := range slices.Concat(j.ended, j.stay) {
		j.keys[a.credential+a.bytes()] = j.r.up.FlightKey(a.call(j.r))
	}
}

// want fails unless the joining of what is concerned has ended since the last time, and of nothing else.
func (j *joining) want(when string) {
	j.r.Helper()
	before := maps.Clone(j.keys)
	j.note()
	for i, a := range slices.Concat(j.ended, j.stay) {
		name := a.credential + a.bytes()
		if ended := j.keys[name] != before[name]; ended != (i < len(j.ended)) {
			j.r.Errorf("%s: the joining of %s ended: %v", when, name, ended)
		}
	}
}
