package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

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
		begin  mcptest.Script               // the list of the leader, when it may be answered
		befall func(a *agent, leave func()) // what becomes of the leader
	}{
		{"leaves", goodList, func(_ *agent, leave func()) { leave() }},
		{"is cancelled", goodList, func(a *agent, _ func()) { a.post(cancel("100"), version) }},
		{"is cancelled and leaves", goodList, func(a *agent, leave func()) { a.post(cancel("100"), version); leave() }},
		{"sends DELETE", goodList, func(a *agent, _ func()) { a.must(http.MethodDelete, "/mcp/s", "", version) }},
		{"gets a stream that can be resumed", func(x *mcptest.Exchange) {
			st := x.Stream()
			st.Raw("id: e1\nretry: 50\ndata:\n\n")
			st.End()
		}, func(*agent, func()) {}},
		{"gets what is loose", func(x *mcptest.Exchange) {
			x.JSON(`{"jsonrpc":"2.0","id":` + x.ID() + `,"result":{"tools":[]},"error":null}`)
		}, func(*agent, func()) {}},
		{"gets an array", func(x *mcptest.Exchange) { x.JSON(`[` + x.Answer(`{"tools":[]}`) + `]`) }, func(*agent, func()) {}},
		{"gets another's id", func(x *mcptest.Exchange) { x.JSON(`{"jsonrpc":"2.0","id":"x","result":{"tools":[]}}`) }, func(*agent, func()) {}},
		{"gets a notification first", func(x *mcptest.Exchange) {
			st := x.Stream()
			st.Event(progress)
			st.Answer(`{"tools":[]}`)
			st.End()
		}, func(*agent, func()) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			gate, arrived := mcptest.NewGate(), make(chan string, 100)
			s := mcptest.NewServer(t, mcptest.Minimal)
			d := runSidecar(t, one(s.URL(), "breaker: off"))
			legacyInitialize(d.agent(t), s)
			s.Script(heldLists(gate, arrived, c.begin, goodList))
			leader := d.agent(t)
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			var wg sync.WaitGroup
			wg.Go(func() {
				if res, err := leader.open(ctx, http.MethodPost, "/mcp/s", request("100", "tools/list"), version); err == nil {
					_ = res.Body.Close()
				}
			})
			if id := <-arrived; id != "100" {
				t.Errorf("the leader's request went up as %s, want its own id", id)
			}
			const followers = 3
			for i := range followers {
				a := d.agent(t)
				wg.Go(func() {
					id := fmt.Sprint(i)
					r, err := a.send(http.MethodPost, "/mcp/s", request(id, "tools/list"), version)
					if err != nil || r.status != 200 || string(r.rpc(t).Result) != `{"tools":[]}` || string(r.rpc(t).ID) != id {
						t.Errorf("a follower got %d %s, %v", r.status, r.body, err)
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
	ada, bob := d.begin(t), d.begin(t)
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
			var got [together]reply
			for i, k := range []*talk{ada, bob} {
				wg.Go(func() {
					body := fmt.Sprintf(`{"jsonrpc":"2.0","id":"%s's","method":%q,"params":{"uri":"a://1"}}`, k.id, method)
					got[i], _ = k.send(http.MethodPost, "/mcp/s", body, k.with()...)
				})
			}
			wg.Wait()
			if n := f.Received() - asked; n != together {
				t.Errorf("the server got %d requests for %d", n, together)
			}
			if a := got[0].rpc(t); a.Error == nil || string(a.ID) != `"s1's"` {
				t.Errorf("ada got %s", got[0].body)
			}
			if b := got[1].rpc(t); string(b.Result) != `{"from":"s2"}` || string(b.ID) != `"s2's"` {
				t.Errorf("bob got %s", got[1].body)
			}
		})
	}
}

// TestOneSessionSharesNothing: an agent that asks the same twice at once in one session, of which the daemon saw the
// beginning, has asked twice.
func TestOneSessionSharesNothing(t *testing.T) {
	t.Parallel()
	f, d := runHealing(t, "")
	k := d.begin(t)
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
					body := strings.Replace(request(id, method), `"name"`, `"uri":"a://1","name"`, 1)
					r, err := own.send(http.MethodPost, "/mcp/s", body, own.with()...)
					if err != nil || string(r.rpc(t).Result) != `{"of":`+id+`}` || string(r.rpc(t).ID) != id {
						t.Errorf("request %s got %d %s, %v", id, r.status, r.body, err)
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

// TestEndsOfOneSession: in the middle of the same question one session is deleted, lost, cancelled, or its agent leaves;
// the other's answer comes.
func TestEndsOfOneSession(t *testing.T) {
	t.Parallel()
	for name, befall := range map[string]func(f *forgetful, k *talk, leave func()){
		"leaves":  func(_ *forgetful, _ *talk, leave func()) { leave() },
		"DELETE":  func(_ *forgetful, k *talk, _ func()) { k.must(http.MethodDelete, "/mcp/s", "", k.with()...) },
		"is lost": func(f *forgetful, k *talk, _ func()) { f.end1(k.id) },
		"cancels": func(_ *forgetful, k *talk, _ func()) {
			k.say(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, d := runHealing(t, "")
			ada, bob := d.begin(t), d.begin(t)
			gate, arrived := mcptest.NewGate(), make(chan struct{}, 10)
			f.Script(func(x *mcptest.Exchange) {
				if x.Method() == "tools/list" {
					arrived <- struct{}{}
					x.Wait(gate.Opened())
				}
				f.answer(x)
			})
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			body := request("7", "tools/list")
			var wg sync.WaitGroup
			wg.Go(func() {
				if res, err := ada.open(ctx, http.MethodPost, "/mcp/s", body, ada.with()...); err == nil {
					_ = res.Body.Close()
				}
			})
			<-arrived
			var got reply
			wg.Go(func() { got = bob.say(body) })
			<-arrived
			befall(f, ada, leave)
			gate.Open()
			wg.Wait()
			bob.right(got)
			if !strings.Contains(got.body, `"from":"s2"`) {
				t.Errorf("bob got %s", got.body)
			}
		})
	}
}

// end1 forgets one session.
func (f *forgetful) end1(session string) {
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
			x.Say(400, jsonType, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"id must be an integer"}}`)
		case x.Method() == "initialize":
			x.Result(`{"protocolVersion":"2025-03-26","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"s","version":"1"}}`)
		default:
			mcptest.Minimal(x)
		}
	})
	c := one(s.URL(), "breaker: off")
	c.upstreams["window"] = fmt.Sprintf("{url: %q, protocol: jsonrpc, batch: {max: 10, window: 20ms}, breaker: off}", s.URL())
	d := runSidecar(t, c)
	a := d.agent(t)
	a.post(strings.Replace(initialize, `"first"`, "0", 1))
	for i, method := range []string{"tools/list", "prompts/get", "tools/call", "resources/read"} {
		if r := a.post(request(fmt.Sprint(i), method)); r.rpc(t).Result == nil {
			t.Errorf("%s: %d %s", method, r.status, r.body)
		}
	}
	array := "[" + request("1", "tools/list") + "," + request("2", "resources/read") + "]"
	for _, path := range []string{"/rpc/s", "/rpc/window"} {
		if r := a.must(http.MethodPost, path, array); r.status != 200 || strings.Contains(r.body, "error") {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			if r, err := a.send(http.MethodPost, "/rpc/window", request(fmt.Sprint(i), "get")); err != nil || r.rpc(t).Result == nil {
				t.Errorf("in a window: %d %s, %v", r.status, r.body, err)
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
				d := runSidecar(t, one(s.URL(), "breaker: off"))
				legacyInitialize(d.agent(t), s)
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
				fields := []string{version}
				if inside {
					fields = append(fields, session)
				}
				asked := s.Received()
				timer := time.AfterFunc(100*time.Millisecond, both.Open)
				defer timer.Stop()
				var wg sync.WaitGroup
				for i := range together {
					a := d.agent(t)
					wg.Go(func() {
						id := fmt.Sprint(i + 7)
						r, err := a.send(http.MethodPost, "/mcp/s", request(id, method), fields...)
						if want := "id: e" + id + "\nretry: 50\ndata: \n\n"; err != nil || r.body != want {
							t.Errorf("request %s got %d %q, want %q, %v", id, r.status, r.body, want, err)
						}
					})
				}
				wg.Wait()
				if n := s.Received() - asked; n != together {
					t.Errorf("the server was asked %d times for %d", n, together)
				}
				l := d.agent(t).get(append([]string{"Last-Event-ID: e7"}, fields...)...)
				if e := l.next(); e.data != `{"jsonrpc":"2.0","id":7,"result":{}}` {
					t.Errorf("resumed: %+v", e)
				}
			})
		}
	}
}
