package stdio

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"fluentd-perf/e2e/harness"
)

// isolated is an agent that looks for what is not its own: it knows what its server has counted, and all that is sent to it must have
// the text of its call.
type isolated struct {
	*rawSession
	name  string
	rand  *rand.Rand
	pid   int // of its process, once known
	calls int
}

// mixedReply is a message of the server.
type mixedReply struct {
	ID     json.RawMessage
	Method string
	Params struct {
		ProgressToken json.RawMessage
		Message       string
		Data          string
		Meta          struct{ Text string } `json:"_meta"`
	}
	Result struct {
		PID, Calls int
		Text       string
		Asked      *struct{ Roots []string }
	}
}

// one makes a call, with an id and a progress token that all other agents use too.
func (x *isolated) one(n int) {
	x.calls++
	text := fmt.Sprintf("%s/%d", x.name, n)
	tool := []string{"progress", "log", "ask", "count"}[x.rand.IntN(4)]
	id, token := fmt.Sprint(x.rand.IntN(20)), []string{`"t"`, "1"}[x.rand.IntN(2)]
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":"tools/call","params":{"name":%q,"arguments":{"text":%q},"_meta":{"progressToken":%s}}}`, id, tool, text, token)
	res, err := x.Open(x.T.Context(), http.MethodPost, x.path, body, "Mcp-Session-Id: "+x.session)
	if err != nil {
		x.T.Error(err)
		return
	}
	defer res.Body.Close()
	messages := 0
	for lines := bufio.NewScanner(res.Body); lines.Scan(); {
		line, isEvent := strings.CutPrefix(lines.Text(), "data: ")
		if !isEvent && !strings.HasPrefix(line, "{") {
			continue
		}
		var m mixedReply
		if err := json.Unmarshal([]byte(line), &m); err != nil || !x.own(&m, id, token, text) {
			x.T.Errorf("%s, process %d, call %d, id %s, token %s: %s, %v", text, x.pid, x.calls, id, token, line, err)
		}
		messages++
		if m.Method == "roots/list" {
			x.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"roots":[%q]}}`, m.ID, text))
		}
	}
	if want := map[string]int{"progress": 4, "log": 2, "ask": 2, "count": 1}[tool]; messages != want {
		x.T.Errorf("%s: %s has %d messages, want %d", text, tool, messages, want)
	}
}

// own reports whether a message is of this call.
func (x *isolated) own(m *mixedReply, id, token, text string) bool {
	switch m.Method {
	case "notifications/progress":
		return string(m.Params.ProgressToken) == token && m.Params.Message == text
	case "notifications/message":
		return m.Params.Data == text
	case "roots/list":
		return m.Params.Meta.Text == text
	}
	if x.pid == 0 {
		x.pid = m.Result.PID
	}
	asked := m.Result.Asked == nil || len(m.Result.Asked.Roots) == 1 && m.Result.Asked.Roots[0] == text
	return string(m.ID) == id && m.Result.PID == x.pid && m.Result.Calls == x.calls && m.Result.Text == text && asked
}

// TestIsolation: ten agents make 2,000 mixed calls at the same time, with E2E_FULL=1 10,000, and see their own server's state alone:
// ids, progress, log messages, requests of the servers and what they are answered never cross.
func TestIsolation(t *testing.T) {
	t.Parallel()
	const agents = 10
	calls := 200
	if os.Getenv("E2E_FULL") == "1" {
		calls = 1000
	}
	entry := fmt.Sprintf("{command: %s}", harness.RawJSON(serverCommand(t, "mixed")))
	d := harness.Start(t, harness.Config{Upstreams: map[string]string{"s": entry}, Top: "drain: 1s", Args: []string{"--log-level", "warn"}, Steady: true})
	var all sync.WaitGroup
	var pids sync.Map
	for n := range agents {
		x := &isolated{rawSession: begin(t, d.URL(""), "s"), name: fmt.Sprint("agent-", n), rand: rand.New(rand.NewPCG(uint64(n), 1))}
		all.Go(func() {
			for n := range calls {
				if x.one(n); t.Failed() {
					return
				}
			}
			if other, known := pids.LoadOrStore(x.pid, x.name); known {
				t.Errorf("%s and %s have one process", x.name, other)
			}
		})
	}
	all.Wait()
}
