package cache_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/mcp"
)

// rulesIDs are ids of every kind, some of them equal to others by value but not as written.
var rulesIDs = []string{
	`1`, `0`, `-1`, `-0`, `1.0`, `1e0`, `10E-1`, `9007199254740992`, `9007199254740993`, `-9223372036854775809`,
	`123456789012345678901234567890`, `1.5`, `""`, `"1"`, `"a"`, `"\u0061"`, `"\"\\\/"`, `"\ud83d\ude00"`, `"😀"`, `"ttlMs"`,
	`"\"id\":7"`, `"` + strings.Repeat("x", 500) + `"`,
}

// rulesBodies are answers in which <ID> and <TTL> stand for what each reader gets of its own.
var rulesBodies = map[string]string{
	"id first":      `{"jsonrpc":"2.0","id":<ID>,"result":{"ttlMs":<TTL>,"cacheScope":"private","tools":[]}}`,
	"id last":       `{"result":{"ttlMs":<TTL>,"tools":[]},"id":<ID>,"jsonrpc":"2.0"}`,
	"ttlMs last":    `{"jsonrpc":"2.0","id":<ID>,"result":{"tools":[],"ttlMs":<TTL>}}`,
	"white space":   " \n{ \"jsonrpc\" : \"2.0\" ,\t\"id\" : <ID> ,\r\n \"result\" : { \"ttlMs\" : <TTL> } } \n",
	"escaped names": `{"\u006asonrpc":"2.0","\u0069d":<ID>,"\u0072esult":{"\u0074tl\u004ds":<TTL>}}`,
	"deeper ones": `{"jsonrpc":"2.0","id":<ID>,"result":{"_meta":{"ttlMs":1,"id":2},"tools":[{"ttlMs":3,"id":"4","result":{"ttlMs":5}}],` +
		`"ttlMs":<TTL>,"after":{"ttlMs":6}}}`,
	"in strings":   `{"jsonrpc":"2.0","id":<ID>,"result":{"a":"\"ttlMs\":1,\"id\":2","\"ttlMs\":3":"}","b\\":{"\\\"ttlMs":4},"ttlMs":<TTL>}}`,
	"other case":   `{"jsonrpc":"2.0","id":<ID>,"result":{"TTLMS":1,"ttlms":2,"ttlMs":<TTL>,"ttlMs ":3}}`,
	"as an answer": `{"jsonrpc":"2.0","id":<ID>,"result":{"contents":[{"uri":"a","text":"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"ttlMs\":9}}"}],"ttlMs":<TTL>}}`,
	"odd numbers":  `{"jsonrpc":"2.0","id":<ID>,"result":{"n":[1.0,1e400,-0,9007199254740993,0.10],"ttlMs":<TTL>}}`,
	"odd text":     `{"jsonrpc":"2.0","id":<ID>,"result":{"s":"\u00e9é\u2028 😀\ud83d\ude00\/","ttlMs":<TTL>}}`,
	"no ttlMs":     `{"jsonrpc":"2.0","id":<ID>,"result":{"_meta":{"ttlMs":1},"a":"ttlMs"}}`,
}

// rulesFill puts values into one of rulesBodies.
func rulesFill(body, id, ttl string) string {
	return strings.NewReplacer("<ID>", id, "<TTL>", ttl).Replace(body)
}

// TestSplice holds that an answer is the server's byte for byte, but for the reader's id and the time that is left.
func TestSplice(t *testing.T) {
	o := cache.StageOptions{TTL: map[string]time.Duration{"resources/read": 9 * time.Second}}
	for what, body := range rulesBodies {
		rulesTest(t, o, func(r *rulesRig) {
			for i, serverID := range rulesIDs {
				a := rulesRead("file:///" + what).also(`"n":` + string(rune('0'+i%10)) + `,"of":` + serverID).under(serverID)
				r.gives(func(c *mcp.Call) *mcp.Result { return rulesWhole(200, rulesFill(body, string(c.ID()), "8000")) })
				if first := r.asks(what, a); first.body != rulesFill(body, serverID, "8000") {
					t.Fatalf("%s: the first is\n%s, want\n%s", what, first.body, rulesFill(body, serverID, "8000"))
				}
				r.gives(func(c *mcp.Call) *mcp.Result { return rulesWhole(500, "") })
				r.after(1500 * time.Millisecond)
				for _, id := range rulesIDs {
					want := rulesFill(body, id, "6500")
					if hit := r.ask(a.under(id)); hit.body != want || !json.Valid([]byte(hit.body)) {
						t.Fatalf("%s: a hit is\n%s, want\n%s", what, hit.body, want)
					}
				}
			}
		})
	}
}

// TestNullIsNoID holds that a request which the protocol does not know is the server's to judge.
func TestNullIsNoID(t *testing.T) {
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
		r.asks("first", rulesModern("tools/list"))
		if p := r.asks("null", rulesModern("tools/list").under("null")); p.status() != "fwd=bypass" {
			t.Error(p.status())
		}
	})
}

// TestServersSpellingOfAnID holds that a server which writes an id its own way does not confuse the splice.
func TestServersSpellingOfAnID(t *testing.T) {
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
		r.gives(func(c *mcp.Call) *mcp.Result {
			return rulesWhole(200, `{"jsonrpc":"2.0","id":"\u0061\u0062c","result":{"ttlMs":9000}}`)
		})
		r.asks("first", rulesModern("tools/list").under(`"abc"`))
		if hit := r.hits("hit", 0, rulesModern("tools/list").under(`"x"`)); hit.body != `{"jsonrpc":"2.0","id":"x","result":{"ttlMs":9000}}` {
			t.Error(hit.body)
		}
	})
}

// TestHitIsJSON looks at the head of a hit: nothing of the first reader's is in it.
func TestHitIsJSON(t *testing.T) {
	rulesTest(t, cache.StageOptions{}, func(r *rulesRig) {
		r.script(func(n int, c *mcp.Call) (*mcp.Result, error) {
			res := rulesWhole(200, rulesAnswer(n, c, `"ttlMs":9000`))
			res.Header.Set("Set-Cookie", "a=b")
			res.Header.Set("X-Trace", "1")
			res.Header.Set("Cache-Status", "edge; hit")
			return res, nil
		})
		first := r.asks("first", rulesModern("tools/list"))
		if got := slices.Collect(first.header.Values("Cache-Status")); len(got) != 2 || got[0] != "edge; hit" || got[1] != "fluentd-perf; fwd=miss; stored" {
			t.Errorf("the first one's Cache-Status is %q", got)
		}
		hit := r.hits("hit", first.n, rulesModern("tools/list"))
		if len(hit.header) != 2 || hit.header.Get("Content-Type") != "application/json" || hit.header.Get("Cache-Status") == "" || hit.code != 200 {
			t.Errorf("a hit has the head %d %v", hit.code, hit.header)
		}
	})
}
