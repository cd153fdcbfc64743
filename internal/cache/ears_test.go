package cache

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcp"
)

func TestEarsListenAfterTheFirstStoredAnswer(t *testing.T) {
	earTest(t, &earServer{}, func(r *earRig) {
		r.wantLog("")
		r.stored(earCall(""), earAsker(1))
		r.wantLog("0s server/discover, 0s lists")
		r.wantStanding(1)
		for range 3 {
			r.at(time.Since(r.server.start) + time.Minute)
			r.stored(earCall(""), earAsker(1))
		}
		r.wantLog("0s server/discover, 0s lists")
		r.stored(earCall(""), earAsker(2))
		r.wantLog("0s server/discover, 0s lists, 3m0s server/discover, 3m0s lists")
		r.wantStanding(2)
	})
}

func TestEarsSendCorrectModernRequests(t *testing.T) {
	earTest(t, &earServer{}, func(r *earRig) {
		c := earCall("file:///a")
		before := c.Header.Clone()
		r.stored(c, earAsker(1))
		if !reflect.DeepEqual(c.Header, before) {
			t.Errorf("the agent's header is now %v, want %v", c.Header, before)
		}
		// Their memory may be used again after the call.
		clear(c.Body)
		c.Header["Authorization"][0] = "Bearer another"
		delete(c.Header, "X-Tenant")
		synctest.Wait()
		for what, want := range map[string]struct {
			lane   mcp.Lane
			method string
			params string
		}{
			"server/discover": {mcp.LaneRequest, "server/discover", `{}`},
			"lists": {
				mcp.LaneListen, "subscriptions/listen",
				`{"notifications":{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true}}`,
			},
			"uris": {mcp.LaneListen, "subscriptions/listen", `{"notifications":{"resourceSubscriptions":["file:///a"]}}`},
		} {
			wantModernCall(t, r.server.lastCall(t, what), want.lane, want.method, want.params)
		}
		r.wantStanding(2)
	})
}

// wantModernCall checks all of a call; params are those without `_meta`.
func wantModernCall(t *testing.T, c *mcp.Call, lane mcp.Lane, method, params string) {
	t.Helper()
	var body struct {
		JSONRPC string `json:"jsonrpc"`
		ID      uint64 `json:"id"`
		Method  string `json:"method"`
		Params  map[string]any
	}
	if err := json.Unmarshal(c.Body, &body); err != nil {
		t.Fatalf("%v in %s", err, c.Body)
	}
	meta := body.Params["_meta"]
	delete(body.Params, "_meta")
	rest, _ := json.Marshal(body.Params)
	if body.JSONRPC != "2.0" || body.ID < 1<<52 || body.ID >= 1<<53 || body.Method != method || !sameJSON(string(rest), params) {
		t.Errorf("the body of %s is %s", method, c.Body)
	}
	raw, _ := json.Marshal(meta)
	if want := `{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"a","version":"1"},` +
		`"io.modelcontextprotocol/clientCapabilities":{"elicitation":{}}}`; !sameJSON(string(raw), want) {
		t.Errorf("the _meta of %s is %s, want %s", method, raw, want)
	}
	header := http.Header{
		"Authorization": {"Bearer one"}, "X-Tenant": {"a", "b"}, "User-Agent": nil, "Accept-Encoding": {"identity"},
		"Accept": {"application/json, text/event-stream"}, "Content-Type": {"application/json"},
		"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {method},
	}
	if !reflect.DeepEqual(c.Header, header) {
		t.Errorf("the header of %s is %v, want %v", method, c.Header, header)
	}
	var m mcp.Message
	if err := mcp.Scan(c.Body, &m); err != nil || m != c.Message || m.Ambiguous || m.Kind != mcp.KindRequest {
		t.Errorf("the message of %s is %+v, want %+v (%v)", method, c.Message, m, err)
	}
	if c.Lane != lane || c.Era != mcp.EraModern || c.Version != "2026-07-28" || c.Upstream != "docs" || c.Start.IsZero() || c.Mismatch {
		t.Errorf("the call of %s is %+v", method, c)
	}
}

func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}

func TestEarsListenForWhatDiscoverAllows(t *testing.T) {
	for capabilities, want := range map[string]string{
		`{}`:           ``,
		`{"tools":{}}`: ``,
		`{"tools":{"listChanged":false},"resources":{}}`:                  ``,
		`{"tools":{"listChanged":true}}`:                                  `{"toolsListChanged":true}`,
		`{"prompts":{"listChanged":true},"tools":{}}`:                     `{"promptsListChanged":true}`,
		`{"resources":{"listChanged":true}}`:                              `{"resourcesListChanged":true}`,
		`{"tools":{"listChanged":true},"resources":{"listChanged":true}}`: `{"toolsListChanged":true,"resourcesListChanged":true}`,
		`{"resources":{"subscribe":true}}`:                                `{"resourceSubscriptions":["u"]}`,
	} {
		earTest(t, &earServer{capabilities: capabilities}, func(r *earRig) {
			r.stored(earCall("u"), earAsker(1))
			r.touched(earAsker(1))
			synctest.Wait()
			if want == "" {
				r.wantLog("0s server/discover")
				return
			}
			r.wantStanding(1)
			c := r.server.streams[0].call
			filter, err := mcp.Member(c.Message.Params.Of(c.Body), "notifications")
			if err != nil || !sameJSON(string(filter.Of(c.Message.Params.Of(c.Body))), want) {
				t.Errorf("%s: asked was %s, want %s (%v)", capabilities, c.Body, want, err)
			}
		})
	}
}

func TestEarsReadADiscoverInAnyShape(t *testing.T) {
	answer := func(kind string) string { return `{"jsonrpc":"2.0","id":1,` + kind + `}` }
	good := `"result":{"capabilities":{"tools":{"listChanged":true}}}`
	for name, f := range map[string]struct {
		events string // "|" between them; or
		body   string
		status int
		stands int
	}{
		"JSON":                {body: answer(good), status: 200, stands: 1},
		"an event":            {events: answer(good), stands: 1},
		"after notifications": {events: toolsChanged + "||" + answer(good), stands: 1},
		"rubbish, then it":    {events: `{|` + answer(good)},
		"an error event":      {events: answer(`"error":{"code":-32601,"message":"no"}`)},
		"an error":            {body: answer(`"error":{"code":-32601,"message":"no"}`), status: 200},
		"404":                 {body: answer(`"error":{"code":-32601,"message":"no"}`), status: 404},
		"input_required":      {body: answer(`"result":{"resultType":"input_required","capabilities":{"tools":{"listChanged":true}}}`), status: 200},
		"odd capabilities":    {body: answer(`"result":{"capabilities":{"tools":true}}`), status: 200},
		"odd result":          {body: answer(`"result":[]`), status: 200},
		"HTML":                {body: `<p>`, status: 200},
	} {
		t.Run(name, func(t *testing.T) {
			s := &earServer{}
			s.discover = func(ctx context.Context) (*mcp.Result, error) {
				if f.body != "" {
					return earJSON(f.status, f.body), nil
				}
				st := &earStream{server: s, ctx: ctx, what: "discover", feed: make(chan mcp.Event, 8), over: make(chan error, 1)}
				for data := range strings.SplitSeq(f.events, "|") {
					ev := mcp.Event{Data: []byte(data)}
					bad := data != "" && mcp.Scan(ev.Data, &ev.Message) != nil
					ev.Exact = ev.Message.Kind == mcp.KindResult || ev.Message.Kind == mcp.KindError
					ev.Answer = ev.Exact || bad
					st.feed <- ev
				}
				return st.open(), nil
			}
			earTest(t, s, func(r *earRig) {
				r.stored(earCall(""), earAsker(1))
				r.wantStanding(f.stands)
			})
		})
	}
}

func TestEarsPassOnWhatTheyHear(t *testing.T) {
	earTest(t, &earServer{}, func(r *earRig) {
		r.stored(earCall("file:///a"), earAsker(1))
		synctest.Wait()
		lists, uris := r.server.last(t, "lists"), r.server.last(t, "uris")
		lists.say(acknowledged)
		lists.say(toolsChanged)
		lists.say("") // a comment
		lists.feed <- mcp.Event{Name: []byte("endpoint"), Data: []byte("/x")}
		scanned := mcp.Event{Name: []byte("message"), Data: []byte(toolsChanged)}
		if err := mcp.Scan(scanned.Data, &scanned.Message); err != nil {
			t.Fatal(err)
		}
		lists.feed <- scanned
		synctest.Wait()
		uris.say(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:\/\/\/a"}}`)
		lists.say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"another"}}`)
		lists.say(`{"jsonrpc":"2.0","id":3,"method":"ping"}`)
		r.wantHeard("notifications/subscriptions/acknowledged", "notifications/tools/list_changed",
			"notifications/tools/list_changed", "notifications/resources/updated file:///a", "notifications/cancelled")
		r.wantStanding(2)
	})
}

func TestEarsHaveAtMost32Partitions(t *testing.T) {
	earTest(t, &earServer{}, func(r *earRig) {
		for i := range 100 {
			r.stored(earCall(""), earAsker(i))
		}
		r.wantStanding(32)
		if n := len(r.server.times("server/discover")); n != 32 {
			t.Errorf("%d partitions asked what is allowed, want 32", n)
		}
		r.at(time.Minute)
		for i := 1; i < 31; i++ {
			r.touched(earAsker(i))
		}
		r.at(5*time.Minute - 1)
		r.stored(earCall(""), earAsker(50))
		r.wantStanding(32)
		r.at(5 * time.Minute) // two are idle
		r.wantStanding(30)
		for i := range 10 {
			r.stored(earCall(""), earAsker(50+i))
		}
		r.wantStanding(32)
	})
}

func TestEarsOffDoNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newEarRig(t, &earServer{}, true)
		r.stored(earCall("u"), earAsker(1))
		r.touched(earAsker(1))
		r.refused(earAsker(1))
		r.wantLog("")
		r.stop()
		r.wait()
	})
}

func TestEarsIgnoreWhatTellsNothing(t *testing.T) {
	modern := func(change func(c *mcp.Call)) *mcp.Call {
		c := earCall("")
		change(c)
		if err := mcp.Scan(c.Body, &c.Message); err != nil {
			t.Fatal(err)
		}
		return c
	}
	replaced := func(old, with string) func(c *mcp.Call) {
		return func(c *mcp.Call) { c.Body = []byte(strings.Replace(string(c.Body), old, with, 1)) }
	}
	earTest(t, &earServer{}, func(r *earRig) {
		r.stored(earLegacyCall(), earAsker(1))
		r.stored(modern(replaced("tools/list", "tools/call")), earAsker(3)) // nothing tells that its answer is old
		r.stored(modern(replaced("io.modelcontextprotocol/clientCapabilities", "x")), earAsker(4))
		r.stored(modern(replaced(`{"elicitation":{}}`, `{"x":"`+strings.Repeat("x", 64<<10)+`"}`)), earAsker(5))
		r.touched(earAsker(6))
		r.refused(earAsker(6))
		r.wantLog("")
	})
}
