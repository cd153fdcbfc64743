package streamable_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"fluentd-perf/internal/mcp"
)

// crossings is an agent that looks for what is not its own. The server says its number with everything, and each call has a
// text that no other has.
type crossings struct {
	*agent
	name   string
	rand   *rand.Rand
	server float64 // its process, once known
	script *scripted
	shared bool // with the others: it is sent no log messages, and the server may ask nothing

	mu    sync.Mutex
	texts map[string]bool // of its own calls
}

// seen checks one message.
func (x *crossings) seen(data []byte, id, token string) {
	var m struct {
		Method string
		ID     json.RawMessage
		Params struct {
			From          float64
			Text          string
			ProgressToken json.RawMessage
		}
		Result struct {
			From   float64
			Text   string
			Answer json.RawMessage
		}
	}
	if err := json.Unmarshal(data, &m); err != nil {
		x.t.Errorf("%s: %s: %v", x.name, data, err)
		return
	}
	from, text := m.Params.From+m.Result.From, m.Params.Text+m.Result.Text
	x.mu.Lock()
	own := x.texts[text]
	x.mu.Unlock()
	switch {
	case from != x.server:
		x.t.Errorf("%s of process %v got a message of %v: %s", x.name, x.server, from, data)
	case text != "<nil>" && !own:
		x.t.Errorf("%s got another's: %s", x.name, data)
	case x.shared && (m.Method == "notifications/message" || m.Method == "roots/list"):
		x.t.Errorf("%s got %s", x.name, data)
	case m.Method == "" && string(m.ID) != id:
		x.t.Errorf("%s asked with %s: %s", x.name, id, data)
	case m.Method == "notifications/progress" && string(m.Params.ProgressToken) != token:
		x.t.Errorf("%s has token %s: %s", x.name, token, data)
	case m.Result.Answer != nil && !strings.Contains(string(m.Result.Answer), map[bool]string{false: x.name + "/", true: "-32601"}[x.shared]):
		x.t.Errorf("%s: another answered: %s", x.name, data)
	case m.Method == "roots/list":
		x.read(x.do(x.t.Context(), 0, fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"roots":[%q]}}`, m.ID, x.name+"/root")))
	}
}

// one makes one call: ids and tokens are those of all others.
func (x *crossings) one(n int) {
	text := fmt.Sprintf("%s/%d", x.name, n)
	x.mu.Lock()
	x.texts[text] = true
	id := fmt.Sprint(x.rand.IntN(20))
	token := []string{`"t"`, "1", `"é\n"`}[x.rand.IntN(3)]
	tool := []string{"echo", "progress", "log", "ask", "count", "update"}[x.rand.IntN(6)]
	if x.rand.IntN(4) == 0 {
		id = `"` + id + `"`
	}
	x.mu.Unlock()
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":%q,"arguments":{"text":%q},"_meta":{"progressToken":%s}}}`, id, tool, text, token)
	res, f := x.do(x.t.Context(), mcp.LaneRequest, body)
	if f != nil {
		x.t.Errorf("%s: %s: %v", x.name, body, f)
		return
	}
	defer closeResult(x.t, res)
	if res.Events == nil {
		x.seen(res.Body, id, token)
		return
	}
	for {
		ev, err := res.Events.Next()
		if err == io.EOF {
			return
		}
		if err != nil || ev.Failure != nil {
			x.t.Errorf("%s: %v, %v", x.name, err, ev.Failure)
			return
		}
		tokenOf := token
		if !strings.Contains(string(ev.Data), text) {
			tokenOf = "" // a log message or a request of another call of this session
		}
		x.seen(ev.Data, id, tokenOf)
	}
}

// TestIsolatedCalls has ten agents make 10,000 mixed calls, 2,000 under the race detector, several at once, with the same ids and tokens, and looks for anything
// that crosses: answers, progress, log messages, updates, requests of the servers and the answers to them.
func TestIsolatedCalls(t *testing.T) {
	const agents = 10
	x := &scripted{version: mcp.Version20251125}
	isolation(t, x, newRig(t, options{start: x.start}), agents, false)
	if n := x.started(); n != agents {
		t.Errorf("%d processes", n)
	}
}

// TestIsolatedCallsOfShared is the same with agents that share two processes.
func TestIsolatedCallsOfShared(t *testing.T) {
	x := &scripted{version: mcp.Version20251125}
	isolation(t, x, newRig(t, options{start: x.start, replicas: 2}), 10, true)
	if n := x.started(); n != 2 {
		t.Errorf("%d processes", n)
	}
	for text := range x.cancelled {
		if !strings.HasSuffix(text, " cancelled") {
			t.Errorf("a call was cancelled that nobody cancelled: %s", text)
		}
	}
	if n := len(x.cancelled); n != 10*4*5 {
		t.Errorf("%d calls were cancelled, want %d", n, 10*4*5)
	}
}

// isolation has agents make their calls.
func isolation(t *testing.T, x *scripted, r *rig, agents int, shared bool) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	var every []*crossings
	for i := range agents {
		a := &crossings{
			agent: newAgent(t, r.up), name: fmt.Sprintf("agent%d", i), rand: rand.New(rand.NewPCG(seed, uint64(i))), texts: map[string]bool{},
			shared: shared, script: x,
		}
		a.open(mcp.Version20251125)
		a.call(`{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"` + a.name + `"}}`)
		var first struct{ Result struct{ From float64 } }
		if err := json.Unmarshal([]byte(a.call(list).body), &first); err != nil {
			t.Fatal(err)
		}
		a.server = first.Result.From
		every = append(every, a)
	}
	var all sync.WaitGroup
	for i, a := range every {
		ctx, leave := context.WithCancel(t.Context())
		if i%2 == 0 {
			events, _ := a.get(ctx, "")
			all.Go(func() {
				for ev := range events {
					if ev.Data != nil {
						a.seen(ev.Data, "", "")
					}
				}
			})
		}
		all.Go(func() {
			a.work()
			leave()
		})
	}
	all.Wait()
}

// work makes the agent's calls, several at once.
func (x *crossings) work() {
	const atOnce, calls = 4, isolatedCalls / 4
	var all sync.WaitGroup
	for worker := range atOnce {
		all.Go(func() {
			for n := range calls {
				if x.one(worker*calls + n); x.shared && n%(calls/5) == 0 {
					x.cancels(worker*calls + n)
				}
			}
		})
	}
	all.Wait()
}

// cancels begins a call that is not answered, and cancels it when the server has it: before that it would never be sent.
func (x *crossings) cancels(n int) {
	text, id := fmt.Sprintf("%s/%d cancelled", x.name, n), fmt.Sprintf(`"cancelled %d"`, n)
	x.mu.Lock()
	x.texts[text] = true
	x.mu.Unlock()
	ctx, leave := context.WithCancel(x.t.Context())
	var call sync.WaitGroup
	call.Go(func() {
		body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":"hang","arguments":{"text":%q}}}`, id, text)
		if res, _ := x.do(ctx, mcp.LaneRequest, body); res != nil { // something of another call came on its stream
			closeResult(x.t, res)
		}
	})
	eventually(x.t, "the call to be cancelled", func() bool { return x.script.has(text) })
	x.read(x.do(x.t.Context(), 0, fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":%s}}`, id)))
	eventually(x.t, "its cancellation", func() bool { return x.script.wasCancelled(text) })
	leave()
	call.Wait()
}
