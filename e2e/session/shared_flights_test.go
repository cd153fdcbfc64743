// Equal requests at the same time: what agents share, and what sessions never do.

package session

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// heldLists answers lists when the gate is open, by the number of the list; all else at once.
func heldLists(gate *mcptest.Gate, arrived chan<- string, answers ...mcptest.Script) mcptest.Script {
	var mu sync.Mutex
	lists := 0
	return func(x *mcptest.Exchange) {
		if x.Method() != "tools/list" {
			mcptest.Minimal(x)
			return
		}
		mu.Lock()
		answer := answers[min(lists, len(answers)-1)]
		lists++
		mu.Unlock()
		arrived <- x.ID()
		x.Wait(gate.Opened())
		answer(x)
	}
}

// joined is what followers get to reach the daemon and to join.
const joined = 200 * time.Millisecond

// meet waits for the others, for a moment: those of a shared flight never come.
func meet(x *mcptest.Exchange, all <-chan struct{}) {
	select {
	case <-all:
	case <-x.Gone():
	case <-time.After(2 * time.Second):
	}
}

var goodList = func(x *mcptest.Exchange) { x.Result(`{"tools":[]}`) }

// TestLeaderHarmsNoFollower: agents without sessions wait for one list. Whatever becomes of the one whose request went up,
// the others get theirs.
func TestLeaderHarmsNoFollower(t *testing.T) {
	t.Parallel()
	cancel := func(id string) string {
		return `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":` + id + `}}`
	}
	for _, c := range []struct {
		name   string
		begin  mcptest.Script                       // the list of the leader, when it may be answered
		befall func(a *harness.Agent, leave func()) // what becomes of the leader
	}{
		{"leaves", goodList, func(_ *harness.Agent, leave func()) { leave() }},
		{"is cancelled", goodList, func(a *harness.Agent, _ func()) { a.Post(cancel("100"), harness.LegacyVersionField) }},
		{"is cancelled and leaves", goodList, func(a *harness.Agent, leave func()) { a.Post(cancel("100"), harness.LegacyVersionField); leave() }},
		{"sends DELETE", goodList, func(a *harness.Agent, _ func()) { a.Must(http.MethodDelete, "/mcp/s", "", harness.LegacyVersionField) }},
		{"gets a stream that can be resumed", func(x *mcptest.Exchange) {
			st := x.Stream()
			st.Raw("id: e1\nretry: 50\ndata:\n\n")
			st.End()
		}, func(*harness.Agent, func()) {}},
		{"gets what is loose", func(x *mcptest.Exchange) {
			x.JSON(`{"jsonrpc":"2.0","id":` + x.ID() + `,"result":{"tools":[]},"error":null}`)
		}, func(*harness.Agent, func()) {}},
		{"gets an array", func(x *mcptest.Exchange) { x.JSON(`[` + x.Answer(`{"tools":[]}`) + `]`) }, func(*harness.Agent, func()) {}},
		{"gets another's id", func(x *mcptest.Exchange) { x.JSON(`{"jsonrpc":"2.0","id":"x","result":{"tools":[]}}`) }, func(*harness.Agent, func()) {}},
		{"gets a notification first", func(x *mcptest.Exchange) {
			st := x.Stream()
			st.Event(harness.ProgressMessage)
			st.Answer(`{"tools":[]}`)
			st.End()
		}, func(*harness.Agent, func()) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			gate, arrived := mcptest.NewGate(), make(chan string, 100)
			s := mcptest.NewServer(t, mcptest.Minimal)
			d := harness.Start(t, harness.OneUpstream(s.URL(), "breaker: off"))
			harness.LegacyInitialize(d.Agent(t), s)
			s.Script(heldLists(gate, arrived, c.begin, goodList))
			leader := d.Agent(t)
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			var wg sync.WaitGroup
			wg.Go(func() {
				if res, err := leader.Open(ctx, http.MethodPost, "/mcp/s", harness.Request("100", "tools/list"), harness.LegacyVersionField); err == nil {
					_ = res.Body.Close()
				}
			})
			if id := <-arrived; id != "100" {
				t.Errorf("the leader's request went up as %s, want its own id", id)
			}
			const followers = 3
			for i := range followers {
				a := d.Agent(t)
				wg.Go(func() {
					id := fmt.Sprint(i)
					r, err := a.Send(http.MethodPost, "/mcp/s", harness.Request(id, "tools/list"), harness.LegacyVersionField)
					if err != nil || r.Status != 200 || string(r.RPC(t).Result) != `{"tools":[]}` || string(r.RPC(t).ID) != id {
						t.Errorf("a follower got %d %s, %v", r.Status, r.Body, err)
					}
				})
			}
			<-time.After(joined)
			c.befall(leader, leave)
			gate.Open()
			wg.Wait()
		})
	}
}

// TestSessionsShareNothing: two agents in sessions of one credential ask the same at the same time. Each request goes up in
// its own session with its own id, and what the server says to one never reaches the other.
func TestSessionsShareNothing(t *testing.T) {
	t.Parallel()
	f, d := runHealing(t, "")
	ada, bob := beginSession(t, d), beginSession(t, d)
	const together = 2
	for _, method := range []string{"tools/list", "prompts/list", "prompts/get", "resources/read", "completion/complete", "resources/templates/list"} {
		t.Run(method, func(t *testing.T) {
			both := mcptest.NewBarrier(together)
			f.Script(func(x *mcptest.Exchange) {
				meet(x, both.Arrive())
				if x.Get("Mcp-Session-Id") == ada.id {
					x.JSON(`{"jsonrpc":"2.0","id":` + x.ID() + `,"error":{"code":-32603,"message":"for ada alone"}}`)
					return
				}
				x.Result(`{"from":"` + x.Get("Mcp-Session-Id") + `"}`)
			})
			asked := f.Received()
			var wg sync.WaitGroup
			var got [together]harness.Reply
			for i, k := range []*agentSession{ada, bob} {
				wg.Go(func() {
					body := fmt.Sprintf(`{"jsonrpc":"2.0","id":"%s's","method":%q,"params":{"uri":"a://1"}}`, k.id, method)
					got[i], _ = k.Send(http.MethodPost, "/mcp/s", body, k.with()...)
				})
			}
			wg.Wait()
			if n := f.Received() - asked; n != together {
				t.Errorf("the server got %d requests for %d", n, together)
			}
			if a := got[0].RPC(t); a.Error == nil || string(a.ID) != `"s1's"` {
				t.Errorf("ada got %s", got[0].Body)
			}
			if b := got[1].RPC(t); string(b.Result) != `{"from":"s2"}` || string(b.ID) != `"s2's"` {
				t.Errorf("bob got %s", got[1].Body)
			}
		})
	}
}

// TestOneSessionSharesNothing: an agent that asks the same twice at once in one session, of which the daemon saw the
// beginning, has asked twice.
func TestOneSessionSharesNothing(t *testing.T) {
	t.Parallel()
	f, d := runHealing(t, "")
	k := beginSession(t, d)
	for _, method := range []string{"tools/list", "prompts/get", "resources/read", "completion/complete"} {
		t.Run(method, func(t *testing.T) {
			both, asked := mcptest.NewBarrier(2), f.Received()
			f.Script(func(x *mcptest.Exchange) {
				meet(x, both.Arrive())
				x.Result(`{"of":` + x.ID() + `}`)
			})
			var wg sync.WaitGroup
			for _, id := range []string{`1`, `"1"`} {
				own := k.as()
				wg.Go(func() {
					body := strings.Replace(harness.Request(id, method), `"name"`, `"uri":"a://1","name"`, 1)
					r, err := own.Send(http.MethodPost, "/mcp/s", body, own.with()...)
					if err != nil || string(r.RPC(t).Result) != `{"of":`+id+`}` || string(r.RPC(t).ID) != id {
						t.Errorf("request %s got %d %s, %v", id, r.Status, r.Body, err)
					}
				})
			}
			wg.Wait()
			if n := f.Received() - asked; n != 2 {
				t.Errorf("the server got %d requests for 2", n)
			}
		})
	}
}

// TestEndsOfOneSession: in the middle of the same request one session is deleted, lost, cancelled, or its agent leaves;
// the other's answer comes.
func TestEndsOfOneSession(t *testing.T) {
	t.Parallel()
	for name, befall := range map[string]func(f *sessionServer, k *agentSession, leave func()){
		"leaves": func(_ *sessionServer, _ *agentSession, leave func()) { leave() },
		"DELETE": func(_ *sessionServer, k *agentSession, _ func()) {
			k.Must(http.MethodDelete, "/mcp/s", "", k.with()...)
		},
		"is lost": func(f *sessionServer, k *agentSession, _ func()) { f.end1(k.id) },
		"cancels": func(_ *sessionServer, k *agentSession, _ func()) {
			k.say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, d := runHealing(t, "")
			ada, bob := beginSession(t, d), beginSession(t, d)
			gate, arrived := f.hold("tools/list")
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			body := harness.Request("7", "tools/list")
			var wg sync.WaitGroup
			wg.Go(func() {
				if res, err := ada.Open(ctx, http.MethodPost, "/mcp/s", body, ada.with()...); err == nil {
					_ = res.Body.Close()
				}
			})
			<-arrived
			var got harness.Reply
			wg.Go(func() { got = bob.say(body) })
			<-arrived
			befall(f, ada, leave)
			gate.Open()
			wg.Wait()
			bob.right(got)
			if !strings.Contains(got.Body, `"from":"s2"`) {
				t.Errorf("bob got %s", got.Body)
			}
		})
	}
}

// end1 forgets one session.
func (f *sessionServer) end1(session string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.sessions, session)
}

// TestIDsAreIntegers: a server that takes integers only works behind the daemon: agents' own ids go up, and those of the
// daemon's are integers, on /rpc, in windows and in what it asks by itself.
func TestIDsAreIntegers(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	s.Script(func(x *mcptest.Exchange) {
		var array []struct{ ID json.Number }
		switch {
		case json.Unmarshal(x.Body, &array) == nil:
			answers := make([]string, len(array))
			for i, e := range array {
				answers[i] = `{"jsonrpc":"2.0","id":` + string(e.ID) + `,"result":{"tools":[]}}`
			}
			x.JSON("[" + strings.Join(answers, ",") + "]")
		case strings.HasPrefix(x.ID(), `"`):
			x.Say(400, harness.JSONType, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"id must be an integer"}}`)
		case x.Method() == "initialize":
			x.Result(`{"protocolVersion":"2025-03-26","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"s","version":"1"}}`)
		default:
			mcptest.Minimal(x)
		}
	})
	c := harness.OneUpstream(s.URL(), "breaker: off")
	c.Upstreams["window"] = fmt.Sprintf("{url: %q, protocol: jsonrpc, batch: {max: 10, window: 20ms}, breaker: off}", s.URL())
	d := harness.Start(t, c)
	a := d.Agent(t)
	a.Post(strings.Replace(harness.InitializeRequest, `"first"`, "0", 1))
	for i, method := range []string{"tools/list", "prompts/get", "tools/call", "resources/read"} {
		if r := a.Post(harness.Request(fmt.Sprint(i), method)); r.RPC(t).Result == nil {
			t.Errorf("%s: %d %s", method, r.Status, r.Body)
		}
	}
	array := "[" + harness.Request("1", "tools/list") + "," + harness.Request("2", "resources/read") + "]"
	for _, path := range []string{"/rpc/s", "/rpc/window"} {
		if r := a.Must(http.MethodPost, path, array); r.Status != 200 || strings.Contains(r.Body, "error") {
			t.Errorf("%s: %d %s", path, r.Status, r.Body)
		}
	}
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			if r, err := a.Send(http.MethodPost, "/rpc/window", harness.Request(fmt.Sprint(i), "get")); err != nil || r.RPC(t).Result == nil {
				t.Errorf("in a window: %d %s, %v", r.Status, r.Body, err)
			}
		})
	}
	wg.Wait()
	for _, r := range s.Requests() {
		if strings.Contains(string(r.Body), `"id":"`) {
			t.Errorf("the server got %s", r.Body)
		}
	}
}

// TestStreamsThatAreResumedAreTheirAgents: a server that answers every call by an id, a time and an end (SEP-1699) is polled
// by its agents, each by its own id.
func TestStreamsThatAreResumedAreTheirAgents(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"prompts/get", "resources/read", "completion/complete", "tools/list", "resources/templates/list", "tools/call"} {
		for _, inside := range []bool{true, false} {
			t.Run(fmt.Sprint(method, "/", inside), func(t *testing.T) {
				t.Parallel()
				s := mcptest.NewServer(t, mcptest.Minimal)
				d := harness.Start(t, harness.OneUpstream(s.URL(), "breaker: off"))
				harness.LegacyInitialize(d.Agent(t), s)
				const together = 2
				both := mcptest.NewGate()
				polling := func(x *mcptest.Exchange) {
					x.Wait(both.Opened())
					st := x.Stream()
					st.Raw("id: e" + x.ID() + "\nretry: 50\ndata: \n\n")
					st.End()
				}
				s.Script(func(x *mcptest.Exchange) {
					if x.Verb == http.MethodGet {
						x.Stream().Event(`{"jsonrpc":"2.0","id":`+strings.TrimPrefix(x.Get("Last-Event-ID"), "e")+`,"result":{}}`, "id: f")
						x.Hang()
						return
					}
					polling(x)
				})
				fields := []string{harness.LegacyVersionField}
				if inside {
					fields = append(fields, harness.SessionField)
				}
				asked := s.Received()
				timer := time.AfterFunc(100*time.Millisecond, both.Open)
				defer timer.Stop()
				var wg sync.WaitGroup
				for i := range together {
					a := d.Agent(t)
					wg.Go(func() {
						id := fmt.Sprint(i + 7)
						r, err := a.Send(http.MethodPost, "/mcp/s", harness.Request(id, method), fields...)
						if want := "id: e" + id + "\nretry: 50\ndata: \n\n"; err != nil || r.Body != want {
							t.Errorf("request %s got %d %q, want %q, %v", id, r.Status, r.Body, want, err)
						}
					})
				}
				wg.Wait()
				if n := s.Received() - asked; n != together {
					t.Errorf("the server was asked %d times for %d", n, together)
				}
				l := d.Agent(t).GetStream(append([]string{"Last-Event-ID: e7"}, fields...)...)
				if e := l.Next(); e.Data != `{"jsonrpc":"2.0","id":7,"result":{}}` {
					t.Errorf("resumed: %+v", e)
				}
			})
		}
	}
}
