package listener

import (
	"context"
	"encoding/json"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

func TestSubscribeAfterTheFirstStoredAnswer(t *testing.T) {
	listenerTest(t, &server{}, func(r *rig) {
		r.wantLog("")
		r.Stored(modernCall(""), partitionOf(1))
		r.wantLog("0s server/discover, 0s listen")
		r.wantOpen(1)
		for range 3 {
			r.at(time.Since(r.server.start) + time.Minute)
			r.Stored(modernCall(""), partitionOf(1))
		}
		r.wantLog("0s server/discover, 0s listen")
		r.Stored(modernCall(""), partitionOf(2))
		r.wantLog("0s server/discover, 0s listen, 3m0s server/discover, 3m0s listen")
		r.wantOpen(2)
	})
}

func TestRequests(t *testing.T) {
	server := &server{}
	server.discover = func(context.Context) (*mcp.Result, error) {
		<-time.After(time.Second) // the call that was stored is long over by then
		return jsonAnswer(200, `{"jsonrpc":"2.0","id":1,"result":`+server.discovered()+`}`), nil
	}
	listenerTest(t, server, func(r *rig) {
		c := modernCall("file:///a")
		before := c.Header.Clone()
		r.Stored(c, partitionOf(1))
		if !reflect.DeepEqual(c.Header, before) {
			t.Errorf("the agent's header is now %v, want %v", c.Header, before)
		}
		// Their memory may be used again after the call.
		clear(c.Body)
		c.Header.Set("Authorization", "Bearer another")
		c.Header.Del("X-Tenant")
		r.at(time.Second)
		for what, want := range map[string]struct {
			lane   mcp.Lane
			method string
			params string
		}{
			"server/discover": {mcp.LaneRequest, "server/discover", `{}`},
			"listen": {
				mcp.LaneListen, "subscriptions/listen", `{"notifications":{"toolsListChanged":true,"promptsListChanged":true,` +
					`"resourcesListChanged":true,"resourceSubscriptions":["file:///a"]}}`,
			},
		} {
			wantModernCall(t, r.server.lastCall(t, what), want.lane, want.method, want.params)
		}
		r.wantOpen(1)
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
	fields := header.Of(http.Header{
		"Authorization": {"Bearer one"}, "X-Tenant": {"a", "b"}, "Accept-Encoding": {"identity"},
		"Accept": {"application/json, text/event-stream"}, "Content-Type": {"application/json"},
		"Mcp-Protocol-Version": {"2026-07-28"}, "Mcp-Method": {method},
	})
	if sorted := slices.SortedStableFunc(slices.Values(c.Header), func(a, b header.Field) int { return strings.Compare(a.Name, b.Name) }); !slices.Equal(sorted, fields) {
		t.Errorf("the header of %s is %v, want %v", method, sorted, fields)
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

func TestSubscribeToWhatIsAnnounced(t *testing.T) {
	for capabilities, want := range map[string]string{
		`{}`:           ``,
		`{"tools":{}}`: ``,
		`{"tools":{"listChanged":false},"resources":{}}`:                  ``,
		`{"tools":{"listChanged":true}}`:                                  `{"toolsListChanged":true}`,
		`{"prompts":{"listChanged":true},"tools":{}}`:                     `{"promptsListChanged":true}`,
		`{"resources":{"listChanged":true}}`:                              `{"resourcesListChanged":true}`,
		`{"tools":{"listChanged":true},"resources":{"listChanged":true}}`: `{"toolsListChanged":true,"resourcesListChanged":true}`,
		`{"prompts":{"listChanged":true},"resources":{"subscribe":true}}`: `{"promptsListChanged":true,"resourceSubscriptions":["u"]}`,
		`{"resources":{"subscribe":true}}`:                                `{"resourceSubscriptions":["u"]}`,
	} {
		listenerTest(t, &server{capabilities: capabilities}, func(r *rig) {
			r.Stored(modernCall("u"), partitionOf(1))
			r.Touched(partitionOf(1))
			synctest.Wait()
			if want == "" {
				r.wantLog("0s server/discover")
				return
			}
			r.wantOpen(1)
			c := r.server.streams[0].call
			filter, err := mcp.Member(c.Message.Params.Of(c.Body), "notifications")
			if err != nil || !sameJSON(string(filter.Of(c.Message.Params.Of(c.Body))), want) {
				t.Errorf("%s: asked was %s, want %s (%v)", capabilities, c.Body, want, err)
			}
		})
	}
}

func TestDiscoverInAnyShape(t *testing.T) {
	answer := func(kind string) string { return `{"jsonrpc":"2.0","id":1,` + kind + `}` }
	good := `"result":{"capabilities":{"tools":{"listChanged":true}}}`
	for name, f := range map[string]struct {
		events string // "|" between them; or
		body   string
		status int
		open   int
	}{
		"JSON":                {body: answer(good), status: 200, open: 1},
		"an event":            {events: answer(good), open: 1},
		"after notifications": {events: toolsChanged + "||" + answer(good), open: 1},
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
			s := &server{}
			s.discover = func(ctx context.Context) (*mcp.Result, error) {
				if f.body != "" {
					return jsonAnswer(f.status, f.body), nil
				}
				st := &fakeStream{server: s, ctx: ctx, what: "discover", feed: make(chan mcp.Event, 8), over: make(chan error, 1)}
				for data := range strings.SplitSeq(f.events, "|") {
					ev := mcp.Event{Data: []byte(data)}
					bad := data != "" && mcp.Scan(ev.Data, &ev.Message) != nil
					ev.Exact = ev.Message.Kind == mcp.KindResult || ev.Message.Kind == mcp.KindError
					ev.Answer = ev.Exact || bad
					st.feed <- ev
				}
				return st.open(), nil
			}
			listenerTest(t, s, func(r *rig) {
				r.Stored(modernCall(""), partitionOf(1))
				r.wantOpen(f.open)
			})
		})
	}
}

func TestReceive(t *testing.T) {
	listenerTest(t, &server{}, func(r *rig) {
		r.Stored(modernCall("file:///a"), partitionOf(1))
		synctest.Wait()
		s := r.server.last(t, "listen")
		s.say(acknowledged)
		s.say(toolsChanged)
		s.say("") // a comment
		s.feed <- mcp.Event{Name: []byte("endpoint"), Data: []byte("/x")}
		scanned := mcp.Event{Name: []byte("message"), Data: []byte(toolsChanged)}
		if err := mcp.Scan(scanned.Data, &scanned.Message); err != nil {
			t.Fatal(err)
		}
		s.feed <- scanned
		synctest.Wait()
		s.say(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"file:\/\/\/a"}}`)
		s.say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"another"}}`)
		s.say(`{"jsonrpc":"2.0","id":3,"method":"ping"}`)
		r.wantReceived("notifications/subscriptions/acknowledged", "notifications/tools/list_changed",
			"notifications/tools/list_changed", "notifications/resources/updated file:///a", "notifications/cancelled")
		r.wantOpen(1)
	})
}

func TestAtMost32Partitions(t *testing.T) {
	listenerTest(t, &server{}, func(r *rig) {
		for i := range 100 {
			r.Stored(modernCall(""), partitionOf(i))
		}
		r.wantOpen(32)
		if n := len(r.server.times("server/discover")); n != 32 {
			t.Errorf("%d partitions asked what is announced, want 32", n)
		}
		r.at(time.Minute)
		for i := 1; i < 31; i++ {
			r.Touched(partitionOf(i))
		}
		r.at(5*time.Minute - 1)
		r.Stored(modernCall(""), partitionOf(50))
		r.wantOpen(32)
		r.at(5 * time.Minute) // two are idle
		r.wantOpen(30)
		for i := range 10 {
			r.Stored(modernCall(""), partitionOf(50+i))
		}
		r.wantOpen(32)
	})
}

func TestOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &server{}, true)
		r.Stored(modernCall("u"), partitionOf(1))
		r.Touched(partitionOf(1))
		r.wantLog("")
		r.Refused(partitionOf(1))
		r.wantLog("")
		r.end()
		r.Close()
	})
}

func TestStoredOfNoUse(t *testing.T) {
	modern := func(change func(c *mcp.Call)) *mcp.Call {
		c := modernCall("")
		change(c)
		if err := mcp.Scan(c.Body, &c.Message); err != nil {
			t.Fatal(err)
		}
		return c
	}
	replaced := func(old, with string) func(c *mcp.Call) {
		return func(c *mcp.Call) { c.Body = []byte(strings.Replace(string(c.Body), old, with, 1)) }
	}
	listenerTest(t, &server{}, func(r *rig) {
		r.Stored(legacyCall(), partitionOf(1))
		r.Stored(modern(func(c *mcp.Call) { c.Era = mcp.EraLegacy }), partitionOf(2))
		r.Stored(modern(replaced("tools/list", "tools/call")), partitionOf(3)) // no notification says that its answer is stale
		r.Stored(modern(replaced("io.modelcontextprotocol/clientCapabilities", "x")), partitionOf(4))
		r.Stored(modern(replaced(`{"elicitation":{}}`, `{"x":"`+strings.Repeat("x", 64<<10)+`"}`)), partitionOf(5))
		r.Touched(partitionOf(6))
		r.Refused(partitionOf(6))
		r.wantLog("")
	})
}
