package multiplex_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"fluentd-perf/internal/mcptest"
)

// model is what a shared server and its sessions should be like, and a server that says what it is like.
type model struct {
	t      *testing.T
	w      *world
	rand   *rand.Rand
	agents []*modelled
	parted time.Time // when one went

	mu      sync.Mutex // guards the following
	answers *rand.Rand // of the server
	refuses bool       // it refuses half of what it is asked
	uris    map[string]bool
	level   int  // of the server; -1: none was set
	unsure  bool // it has refused the last one
}

// modelled is a session and what it should have.
type modelled struct {
	*agent
	level int // -1: none
	uris  map[string]bool
	want  []string
}

var (
	modelLevels = []string{"debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"}
	modelURIs   = []string{"x:1", "x:2", "x:3", "y:1"}
)

// serve answers as servers do that hold themselves to the protocol.
func (k *model) serve(s *mcptest.Stdio, r mcptest.StdioRequest) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch r.Method {
	case "initialize":
		k.uris, k.level, k.unsure = map[string]bool{}, -1, false
		return false
	case "resources/subscribe", "resources/unsubscribe", "logging/setLevel":
		if k.refuses && k.answers.IntN(2) == 0 {
			s.Write(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32000,"message":"no"}}`+"\n", r.ID)
			k.unsure = k.unsure || r.Method == "logging/setLevel"
			return true
		}
	}
	switch r.Method {
	case "resources/subscribe":
		k.uris[r.Params.URI] = true
	case "resources/unsubscribe":
		delete(k.uris, r.Params.URI)
	case "logging/setLevel":
		k.unsure = false
		for i, level := range modelLevels {
			if strings.Contains(r.Line, `"`+level+`"`) {
				k.level = i
			}
		}
	}
	return false
}

// step does one thing, or several at the same time.
func (k *model) step() {
	k.mu.Lock()
	k.refuses = k.rand.IntN(4) == 0
	k.mu.Unlock()
	switch k.rand.IntN(12) {
	case 0:
		if len(k.agents) < 6 {
			k.agents = append(k.agents, &modelled{agent: k.w.open("2025-11-25"), level: -1, uris: map[string]bool{}})
		}
	case 1:
		k.leaves()
	case 2:
		time.Sleep(time.Duration(k.rand.IntN(40)) * time.Second)
	case 3:
		if k.rand.IntN(10) == 0 {
			k.dies()
		}
	case 4, 5, 6, 7:
		var asked sync.WaitGroup
		for i := range k.agents { // each of them at most once: what comes of two at the same time is the server's matter
			a := k.agents[i]
			if k.rand.IntN(3) > 0 {
				continue
			}
			method, uri, level := k.rand.IntN(5), modelURIs[k.rand.IntN(len(modelURIs))], k.rand.IntN(len(modelLevels))
			asked.Go(func() { a.asks(method, uri, level) })
		}
		asked.Wait()
	default:
		k.says()
	}
	synctest.Wait()
}

// leaves has a session end. The server does not refuse what the daemon says by itself.
func (k *model) leaves() {
	if len(k.agents) == 0 {
		return
	}
	k.mu.Lock()
	k.refuses = false
	k.mu.Unlock()
	i := k.rand.IntN(len(k.agents))
	k.agents[i].Release()
	k.agents = slices.Delete(k.agents, i, i+1)
	k.parted = time.Now()
}

// dies has the process end: its sessions do, too.
func (k *model) dies() {
	if k.w.started() == 0 {
		return
	}
	k.w.last().End("signal: killed")
	for _, a := range k.agents {
		<-a.Ended()
	}
	k.agents, k.parted = nil, time.Time{}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.uris, k.level = map[string]bool{}, -1
}

// asks makes one request.
func (a *modelled) asks(method int, uri string, level int) {
	switch method {
	case 0:
		if a.ask("logging/setLevel", `{"level":"`+modelLevels[level]+`"}`) == ok {
			a.level = level
		}
	case 1:
		if a.ask("resources/unsubscribe", `{"uri":"`+uri+`"}`) == ok {
			delete(a.uris, uri)
		}
	default:
		if a.ask("resources/subscribe", `{"uri":"`+uri+`"}`) == ok {
			a.uris[uri] = true
		}
	}
}

// says has the server say something, and notes who is to get it.
func (k *model) says() {
	if len(k.agents) == 0 {
		return
	}
	only := len(k.agents) == 1 && (k.parted.IsZero() || time.Since(k.parted) >= 30*time.Second)
	var line string
	is := func(*modelled) bool { return false }
	switch k.rand.IntN(5) {
	case 0:
		line = `{"jsonrpc":"2.0","method":"notifications/resources/list_changed"}`
		is = func(*modelled) bool { return true }
	case 1:
		uri := modelURIs[k.rand.IntN(len(modelURIs))]
		line = updateOf(uri)
		nobody := !slices.ContainsFunc(k.agents, func(a *modelled) bool { return a.uris[uri] })
		is = func(a *modelled) bool { return a.uris[uri] || nobody && only && len(a.uris) > 0 }
	case 2:
		level := k.rand.IntN(len(modelLevels))
		line = logLine(modelLevels[level], fmt.Sprint(k.rand.Uint32()))
		is = func(a *modelled) bool { return only && level >= a.level }
	case 3:
		line = `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}`
	case 4:
		line = `{"jsonrpc":"2.0","id":1,"method":"roots/list"}`
	}
	for _, a := range k.agents {
		if is(a) {
			a.want = append(a.want, line)
		}
	}
	k.w.writes("%s", line)
}

// check compares.
func (k *model) check(n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	uris, most := map[string]bool{}, len(modelLevels)
	for i, a := range k.agents {
		a.gets(fmt.Sprintf("step %d, session %d of %d", n, i, len(k.agents)), strings.Join(a.want, " "))
		a.want = nil
		maps.Copy(uris, a.uris)
		if a.level >= 0 {
			most = min(most, a.level)
		}
	}
	if !maps.Equal(uris, k.uris) {
		k.t.Errorf("step %d: the server has the subscriptions %v, the sessions %v", n, k.uris, uris)
	}
	if most < len(modelLevels) && k.level != most && !k.unsure {
		k.t.Errorf("step %d: the server has the level %d, the sessions %d", n, k.level, most)
	}
}

// TestModel does things at random and compares what the server and each session have with what they should have.
func TestModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	k := &model{rand: rand.New(rand.NewPCG(seed, 0)), answers: rand.New(rand.NewPCG(seed, 1)), uris: map[string]bool{}, level: -1}
	run(t, options{on: k.serve}, func(t *testing.T, w *world) {
		k.t, k.w = t, w
		for n := range 5000 {
			if k.step(); t.Failed() {
				return
			}
			if k.check(n); t.Failed() {
				return
			}
			w.got()
		}
	})
}
