package cache_test

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/batch/flight"
	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// rulesAll are options that let as much be kept as an operator can allow.
func rulesAll() cache.StageOptions {
	o := cache.StageOptions{TTL: make(map[string]time.Duration), Tools: map[string]time.Duration{"*": 9 * time.Second}}
	for method := range rulesSix {
		o.TTL[method] = 9 * time.Second
	}
	return o
}

// TestAnswersNeverKept gives answers that may not be kept, whatever an operator says.
func TestAnswersNeverKept(t *testing.T) {
	for what, give := range map[string]func(c *mcp.Call) *mcp.Result{
		"an error":           func(c *mcp.Call) *mcp.Result { return rulesError(c, 200, -32601) },
		"isError":            rulesResult(`"isError":true`),
		"isError, oddly":     rulesResult(`"isError":1`),
		"input_required":     rulesResult(`"resultType":"input_required"`),
		"a task":             rulesResult(`"resultType":"task"`),
		"an odd resultType":  rulesResult(`"resultType":null`),
		"another resultType": rulesResult(`"resultType":"Complete"`),
		"ttlMs twice":        rulesResult(`"ttlMs":1`),
		"cacheScope twice":   rulesResult(`"cacheScope":"private","cacheScope":"private"`),
		"resultType twice":   rulesResult(`"resultType":"complete","resultType":"complete"`),
		"a name of JSON-RPC's": func(c *mcp.Call) *mcp.Result {
			return rulesWhole(200, `{"jsonrpc":"2.0","id":1,"Result":{},"result":{"ttlMs":9000}}`)
		},
		"status 201":        func(c *mcp.Call) *mcp.Result { return rulesWhole(201, rulesAnswer(0, c, `"ttlMs":9000`)) },
		"status 404":        func(c *mcp.Call) *mcp.Result { return rulesWhole(404, rulesAnswer(0, c, `"ttlMs":9000`)) },
		"status 500":        func(c *mcp.Call) *mcp.Result { return rulesWhole(500, rulesAnswer(0, c, `"ttlMs":9000`)) },
		"gzip":              rulesEncoded("gzip"),
		"identity and gzip": rulesEncoded("identity", "gzip"),
		"unchecked": func(c *mcp.Call) *mcp.Result {
			res := rulesWhole(200, rulesAnswer(0, c, `"ttlMs":9000`))
			res.Checked = false
			return res
		},
		"half a character": rulesResult(`"x":"\ud83d"`),
		"not UTF-8":        rulesResult("\"x\":\"\xff\""),
		"an error of null": func(c *mcp.Call) *mcp.Result {
			return rulesWhole(200, strings.TrimSuffix(rulesAnswer(0, c, `"ttlMs":9000`), "}")+`,"error":null}`)
		},
		"a byte order mark": func(c *mcp.Call) *mcp.Result { return rulesWhole(200, "\ufeff"+rulesAnswer(0, c, `"ttlMs":9000`)) },
		"an array":          func(c *mcp.Call) *mcp.Result { return rulesWhole(200, "["+rulesAnswer(0, c, `"ttlMs":9000`)+"]") },
		"a loose event": func(c *mcp.Call) *mcp.Result {
			return rulesStream(c, rulesData(rulesAnswer(0, c, `"ttlMs":9000,"x":"\ud83d"`)))
		},
		"an event of another id": func(c *mcp.Call) *mcp.Result {
			return rulesStream(c, rulesData(`{"jsonrpc":"2.0","id":"1","result":{"ttlMs":9000}}`))
		},
		"an event with an array": func(c *mcp.Call) *mcp.Result {
			return rulesStream(c, rulesData("["+rulesAnswer(0, c, `"ttlMs":9000`)+"]"))
		},
		"accepted": func(c *mcp.Call) *mcp.Result { return rulesWhole(202, "") },
		"too large to hold": func(c *mcp.Call) *mcp.Result {
			body := rulesAnswer(0, c, `"ttlMs":9000`)
			return &mcp.Result{Status: 200, Header: header.List{}, Raw: io.NopCloser(bytes.NewReader([]byte(body)))}
		},
		"too large to keep": rulesResult(`"x":"` + strings.Repeat("x", 64<<10) + `"`),
		"an encoded stream": func(c *mcp.Call) *mcp.Result {
			res := rulesStream(c, rulesData(rulesAnswer(0, c, `"ttlMs":9000`)))
			res.Header.Set("Content-Encoding", "br")
			return res
		},
	} {
		for _, a := range []rulesAsk{rulesModern("tools/list"), rulesRead("file:///a"), rulesTool("t")} {
			rulesTestTiers(t, 1, rulesAll(), func(r *rulesRig) {
				r.gives(give)
				r.asks(what+", "+a.method, a)
				if p := r.asks(what+", "+a.method, a); !strings.HasPrefix(p.status(), "fwd=miss") || strings.Contains(p.status(), "stored") {
					t.Errorf("%s, %s: %s", what, a.method, p.status())
				}
				r.says(`"ttlMs":9000,"resultType":"complete","isError":false`) // the request was a good one
				good := r.asks(what+", "+a.method, a)
				r.hits(what+", "+a.method, good.n, a)
			})
		}
	}
	rulesTest(t, rulesAll(), func(r *rulesRig) {
		r.gives(rulesEncoded("identity", ""))
		r.asks("identity", rulesModern("tools/list"))
		r.hits("identity", 0, rulesModern("tools/list"))
	})
}

func rulesError(c *mcp.Call, status, code int) *mcp.Result {
	return rulesWhole(status, `{"jsonrpc":"2.0","id":`+string(c.ID())+`,"error":{"code":`+strconv.Itoa(code)+`,"message":"no"}}`)
}

func rulesResult(members string) func(c *mcp.Call) *mcp.Result {
	return func(c *mcp.Call) *mcp.Result { return rulesWhole(200, rulesAnswer(0, c, `"ttlMs":9000,`+members)) }
}

func rulesEncoded(codings ...string) func(c *mcp.Call) *mcp.Result {
	return func(c *mcp.Call) *mcp.Result {
		res := rulesWhole(200, rulesAnswer(0, c, `"ttlMs":9000`))
		for _, coding := range codings {
			res.Header.Add("Content-Encoding", coding)
		}
		return res
	}
}

// TestRequestsNeverKept makes requests that have to go upstream untouched, past cache and flights.
func TestRequestsNeverKept(t *testing.T) {
	const known = `"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}`
	body := func(method, params string) string {
		return `{"jsonrpc":"2.0","id":1,"method":"` + method + `","params":` + params + `}`
	}
	for _, base := range []rulesAsk{rulesModern("tools/list"), rulesRead("file:///a"), rulesTool("t"), rulesModern("prompts/get").with(`"name":"p"`)} {
		for what, a := range map[string]rulesAsk{
			"inputResponses":        base.with(rulesJoin(base.params, `"inputResponses":{}`)),
			"inputResponses, null":  base.with(rulesJoin(base.params, `"inputResponses":null`)),
			"requestState":          base.with(rulesJoin(base.params, `"requestState":"x"`)),
			"task":                  base.with(rulesJoin(base.params, `"task":{"ttl":1}`)),
			"task, escaped":         base.with(rulesJoin(base.params, `"\u0074ask":{}`)),
			"progressToken":         base.also(`"progressToken":1`),
			"logLevel":              base.also(`"io.modelcontextprotocol/logLevel":"info"`),
			"a newer version":       base.speaking("2027-01-01"),
			"a mismatch":            {era: mcp.EraModern, method: base.method, params: base.params, differs: true},
			"_meta twice":           base.with(rulesJoin(base.params, `"_meta":{}`)),
			"cursor twice":          base.with(rulesJoin(base.params, `"cursor":"a","cursor":"a"`)),
			"a name twice inside":   base.with(rulesJoin(base.params, `"arguments":{"a":1,"b":{"c":1,"c":2}}`)),
			"a name twice, hidden":  base.with(rulesJoin(base.params, `"arguments":{"a":1,"\u0061":1}`)),
			"in unknown _meta":      base.also(`"x":{"y":1,"y":2}`),
			"in capabilities":       base.can(`{"a":1,"a":2}`),
			"capabilities, null":    base.can(`null`),
			"capabilities, array":   base.can(`[]`),
			"no capabilities":       base.saying(body(base.method, `{`+rulesJoin(base.params, `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}`)+`}`)),
			"no _meta":              base.saying(body(base.method, `{`+base.params+`}`)),
			"params in an array":    base.saying(body(base.method, `[1]`)),
			"no params":             base.saying(`{"jsonrpc":"2.0","id":1,"method":"` + base.method + `"}`),
			"half a character":      base.with(rulesJoin(base.params, `"x":"\ud83d"`)),
			"not UTF-8":             base.with(rulesJoin(base.params, "\"x\":\"\xff\"")),
			"a byte order mark":     base.saying("\ufeff" + base.bytes()),
			"null params":           base.saying(`{"jsonrpc":"2.0","id":1,"method":"` + base.method + `","params":null}`),
			"unknown member":        base.saying(`{"jsonrpc":"2.0","id":1,"Params":{},"method":"` + base.method + `","params":{` + rulesJoin(base.params, `"_meta":{`+known+`}`) + `}}`),
			"two session ids":       base.field("Mcp-Session-Id", "a", "b"),
			"two versions":          base.field("Mcp-Protocol-Version", "2026-07-28", "2025-06-18"),
			"an agent without JSON": base.field("Accept", "text/event-stream"),
			"large params":          base.with(rulesJoin(base.params, `"x":"`+strings.Repeat("x", 64<<10)+`"`)),
			"another lane":          base.on(mcp.LaneMessage),
		} {
			rulesTest(t, rulesAll(), func(r *rulesRig) {
				r.asks(what, base) // the same request, but for that
				for range 2 {
					p := r.asks(base.method+", "+what, a)
					if want := "fwd=bypass"; a.lane == mcp.LaneRequest && p.status() != want {
						t.Errorf("%s, %s: %s", base.method, what, p.status())
					}
					if sent := r.server.calls[len(r.server.calls)-1]; r.flown.Key != (flight.Key{}) || string(sent.Body) != a.bytes() {
						t.Errorf("%s, %s: it shares a flight, or was changed", base.method, what)
					}
				}
			})
		}
	}
}

// TestBadParamsAreTheServers holds that params of the wrong type are the server's to refuse.
func TestBadParamsAreTheServers(t *testing.T) {
	for _, a := range []rulesAsk{
		rulesModern("tools/list").with(`"cursor":1`), rulesModern("tools/list").with(`"cursor":null`),
		rulesModern("resources/read").with(`"uri":1`), rulesModern("resources/read").with(`"uri":null`), rulesModern("resources/read"),
		rulesModern("tools/call").with(`"name":["t"]`), rulesModern("tools/call"), rulesModern("prompts/get").with(`"name":{}`),
	} {
		rulesTest(t, rulesAll(), func(r *rulesRig) {
			r.asks(a.params, rulesModern("tools/list"))
			for range 2 {
				if p := r.asks(a.params, a); p.status() != "fwd=bypass" || r.flown.Key != (flight.Key{}) {
					t.Errorf("%s %s: %s, or it shares a flight", a.method, a.params, p.status())
				}
			}
		})
	}
}

// TestInertMembers holds what in `_meta` makes no other request, and that everything else does.
func TestInertMembers(t *testing.T) {
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
		a := rulesModern("tools/list")
		first := r.asks("first", a)
		for _, meta := range []string{
			`"traceparent":"00-1"`, `"tracestate":"x"`, `"baggage":"y"`, `"io.modelcontextprotocol/clientInfo":{"name":"x","version":"2"}`,
			`"\u0074raceparent":"00-2"`,
		} {
			r.hits(meta, first.n, a.also(meta))
		}
		for _, b := range []rulesAsk{
			a.also(`"x":1`), a.also(`"x":2`), a.also(`"Traceparent":"00-1"`), a.also(`"clientInfo":{}`), a.also(`"x":{"traceparent":"1"}`),
			a.with(`"traceparent":"1"`), a.with(`"x":{"_meta":{"traceparent":"1"}}`), a.with(`"x":{"_meta":{"traceparent":"2"}}`),
			a.can(`{"roots":{}}`), a.can(`{"elicitation":{}}`), a.can(`{"elicitation":{"form":{}}}`),
		} {
			own := r.asks(b.bytes(), b)
			r.hits(b.bytes(), own.n, b)
		}
		r.hits("capabilities, spelled differently", r.ask(a.can(`{"a":{},"b":{}}`)).n, a.can(` { "b" : {} , "\u0061":{}}`))
	})
}
