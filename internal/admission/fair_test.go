package admission_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/admission"
	"fluentd-perf/internal/mcp"
)

// modern is a call of 2026-07-28 by an agent of that name.
func modern(name string) *mcp.Call {
	body := `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"_meta":{` +
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28",` +
		`"io.modelcontextprotocol/clientInfo":{"version":"1","name":` + strconv.Quote(name) + `},` +
		`"io.modelcontextprotocol/clientCapabilities":{}}}}`
	c := request("")
	c.Body = []byte(body)
	if err := mcp.Scan(c.Body, &c.Message); err != nil {
		panic(err)
	}
	return c
}

// TestWhoIsAnAgent tells by the order of three calls, two of one and one of another, whether those are one agent.
func TestWhoIsAnAgent(t *testing.T) {
	with := func(c *mcp.Call, conn string, header ...string) *mcp.Call {
		c.Conn = conn
		for i := 0; i < len(header); i += 2 {
			c.Header.Set(header[i], header[i+1])
		}
		return c
	}
	endpoint := func(id, conn string) *mcp.Call {
		return &mcp.Call{Lane: mcp.LaneMessage, Endpoint: id, Conn: conn, Message: mcp.Message{Kind: mcp.KindRequest}}
	}
	unnamed := modern("x")
	unnamed.Message.ClientInfo = mcp.Span{}
	cases := []struct {
		name string
		a, b *mcp.Call
		same bool
	}{
		{"a connection", request("1"), request("1"), true},
		{"two connections", request("1"), request("2"), false},
		{"the daemon's own", request(""), request(""), true},
		{"a session over two connections", with(request("1"), "1", "Mcp-Session-Id", "s"), with(request("2"), "2", "Mcp-Session-Id", "s"), true},
		{"two sessions over one connection", with(request("1"), "1", "Mcp-Session-Id", "s"), with(request("1"), "1", "Mcp-Session-Id", "t"), false},
		{"a session and the connection of its name", with(request("1"), "1", "Mcp-Session-Id", "s"), request("s"), false},
		{"a name over two connections", with(modern("n"), "1"), with(modern("n"), "2"), true},
		{"two names over one connection", with(modern("n"), "1"), with(modern("m"), "1"), false},
		{"a name, two credentials", with(modern("n"), "1", "Authorization", "a"), with(modern("n"), "1", "Authorization", "b"), false},
		{"no name: the connection", with(unnamed, "1"), with(unnamed, "1"), true},
		{"streams of HTTP+SSE", endpoint("e", "1"), endpoint("f", "1"), false},
		{"a stream of HTTP+SSE", endpoint("e", "1"), endpoint("e", "2"), true},
	}
	partition := func(c *mcp.Call) (p [32]byte) {
		copy(p[:], c.Header.Get("Authorization"))
		return p
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate(t, admission.Options{Partition: partition})
				all := []*caller{g.ask("busy", request("0")), g.ask("a1", c.a), g.ask("a2", c.a), g.ask("b", c.b)}
				want := []string{"busy", "a1", "b", "a2"}
				if c.same {
					want = []string{"busy", "a1", "a2", "b"}
				}
				g.order(all, want...)
			})
		})
	}
}

// TestOnlyWhoWaitsIsAsked: whose a call is, is not worked out as long as there are slots.
func TestOnlyWhoWaitsIsAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked int
		g := newGate(t, admission.Options{MaxInFlight: 5, Partition: func(*mcp.Call) [32]byte { asked++; return [32]byte{} }})
		var all []*caller
		for range 5 {
			all = append(all, g.ask("it", modern("n")))
		}
		if asked != 0 {
			t.Errorf("asked %d times without a queue", asked)
		}
		all = append(all, g.ask("it", modern("n")))
		if asked != 1 {
			t.Errorf("asked %d times by one that waits", asked)
		}
		g.order(all, slices.Repeat([]string{"it"}, 6)...)
	})
}

// TestShares: among agents that always wait, one with ten times the calls gets no more than others, within one call at any
// moment; where calls cost more, within what one costs.
func TestShares(t *testing.T) {
	cases := []struct {
		name   string
		depth  []int // calls that each agent has waiting
		size   []int // of a body, in KiB
		within int   // costs, at most between two agents
	}{
		{"ten to one", []int{100, 10, 10}, []int{0, 0, 0}, 1},
		{"one by one against a flood", []int{200, 1, 1, 1}, []int{0, 0, 0, 0}, 1},
		{"many", slices.Repeat([]int{3}, 50), slices.Repeat([]int{1}, 50), 1},
		{"large calls of a flood", []int{100, 10}, []int{48, 0}, 4},
		{"large calls of one", []int{100, 3}, []int{0, 160}, 11},
		{"below the first 16 KiB", []int{50, 5}, []int{15, 0}, 1},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate(t, admission.Options{Queue: 1000, QueueWait: time.Hour})
				spent := make([]int, len(c.depth))
				current := -1
				var slot func()
				ask := func(agent int) {
					call := request(fmt.Sprint(agent))
					call.Body = make([]byte, c.size[agent]<<10)
					go func() {
						if k, _, f := g.Enter(t.Context(), call); f == nil {
							current, slot = agent, k
						}
					}()
					synctest.Wait()
				}
				busy, _, _ := g.Enter(t.Context(), request("busy"))
				for agent, n := range c.depth {
					for range n {
						ask(agent)
					}
				}
				busy()
				for range 600 {
					synctest.Wait()
					spent[current] += 1 + c.size[current]/16
					if d := slices.Max(spent) - slices.Min(spent); d > c.within {
						t.Fatalf("%v: %d apart", spent, d)
					}
					done := slot
					ask(current) // it always has as many waiting
					done()
				}
				g.drainAll(&slot)
			})
		})
	}
}

// drainAll lets everybody through whose slot comes to stand in slot.
func (g *gate) drainAll(slot *func()) {
	for {
		synctest.Wait()
		if n, _ := g.Stats(); n == 0 {
			return
		}
		(*slot)()
	}
}

// TestNoCreditForLeaving: an agent that asks much, waits and takes it back has one turn for it, not a turn for each round.
func TestNoCreditForLeaving(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, admission.Options{Queue: 100, QueueWait: time.Hour})
		all := []*caller{g.ask("busy", request("busy"))}
		large := request("sly")
		large.Body = make([]byte, 1<<20)
		big := g.ask("large", large)
		for range 10 {
			all = append(all, g.ask("s", request("sly")), g.ask("h", request("honest")))
		}
		for i := range 6 { // five rounds in which only the honest one is served
			all[max(0, 2*i)].leave()
		}
		big.cancel(nil)
		synctest.Wait()
		g.order(all, strings.Split("busy h h h h h h s h s h s h s h s s s s s s", " ")...)
	})
}

// TestManyAgents: ten thousand have queues of their own, all others one together, and each call gets its turn.
func TestManyAgents(t *testing.T) {
	const agents = 10_050
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, admission.Options{Queue: agents + 10, QueueWait: time.Hour})
		busy, _, _ := g.Enter(t.Context(), request("busy"))
		var order []int
		ask := func(i int, agent string) {
			go func() {
				if slot, _, f := g.Enter(t.Context(), request(agent)); f == nil {
					order = append(order, i)
					slot()
				}
			}()
		}
		for i := range agents {
			ask(i, fmt.Sprint(i))
			if i >= 9_999 || i%1000 == 0 {
				synctest.Wait()
			}
		}
		ask(-1, "0") // a second one of an agent with a queue of its own
		synctest.Wait()
		g.stats(1, agents+1)
		busy()
		synctest.Wait()
		g.stats(0, 0)
		want := append([]int{10_000, -1}, sequence(10_001, agents)...) // one in a round
		if len(order) != agents+1 || !slices.Equal(order[10_000:], want) {
			t.Errorf("%d came, at last %v", len(order), order[min(len(order), 10_000):])
		}
	})
}

func sequence(from, to int) (all []int) {
	for i := from; i < to; i++ {
		all = append(all, i)
	}
	return all
}
