package daemon

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fluentd-perf/internal/config"
	"fluentd-perf/internal/mcptest"
)

// losing is a legacy server that has lost its first session: the first answer to anything in it is 404, and the second
// initialize waits for heal.
type losing struct {
	begun      *mcptest.Gate // the second initialize has come
	heal       *mcptest.Gate
	getsOfLost *mcptest.Gate // a GET of the lost session has come: it is not answered

	mu       sync.Mutex // guards the following
	sessions int
}

func newLosing() *losing {
	return &losing{begun: mcptest.NewGate(), heal: mcptest.NewGate(), getsOfLost: mcptest.NewGate()}
}

func (l *losing) script(x *mcptest.Exchange) {
	lost := x.Get("Mcp-Session-Id") == "s1"
	switch {
	case x.Method() == "initialize":
		l.initialize(x)
	case x.Verb == http.MethodGet && lost:
		l.getsOfLost.Open()
		x.Hang()
	case x.Verb == http.MethodGet:
		x.Stream().Event(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"here"}}`)
		x.Hang()
	case lost && x.ID() != "":
		x.Say(http.StatusNotFound, "text/plain", "session not found")
	case x.ID() == "":
		x.Accept()
	default:
		x.Result(`{"tools":[]}`)
	}
}

func (l *losing) initialize(x *mcptest.Exchange) {
	l.mu.Lock()
	l.sessions++
	n := l.sessions
	l.mu.Unlock()
	if n > 1 {
		l.begun.Open()
		x.Wait(l.heal.Opened())
	}
	x.Result(`{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}`, fmt.Sprintf("Mcp-Session-Id: s%d", n))
}

// losingAgent speaks to the daemon in the session that the server has lost.
type losingAgent struct {
	t    *testing.T
	base string
}

func (a losingAgent) do(verb, session, body string) *http.Response {
	return a.to(verb, "/mcp/docs", session, body)
}

func (a losingAgent) to(verb, path, session, body string) *http.Response {
	r, err := http.NewRequestWithContext(a.t.Context(), verb, a.base+path, strings.NewReader(body))
	if err != nil {
		a.t.Error(err)
		return nil
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	if session != "" {
		r.Header.Set("Mcp-Session-Id", session)
	}
	r.Close = true // on a connection that was used before, Go's client sends a GET again that is aborted
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		a.t.Errorf("%s: %v", verb, err)
		return nil
	}
	return resp
}

// post sends a request and returns the status and the body of its answer.
func (a losingAgent) post(session, body string) string {
	resp := a.do(http.MethodPost, session, body)
	if resp == nil {
		return ""
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Error(err)
	}
	return fmt.Sprint(resp.StatusCode, " ", string(text))
}

// streamed opens the GET stream, and returns its status and first event.
func (a losingAgent) streamed() string {
	resp := a.do(http.MethodGet, "s1", "")
	if resp == nil {
		return ""
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			return fmt.Sprint(resp.StatusCode, " ", data)
		}
	}
	return fmt.Sprint(resp.StatusCode)
}

// runningDaemon runs a daemon in front of a server until the test ends, with more settings of the upstream.
func runningDaemon(t *testing.T, url string, settings ...string) *daemon {
	t.Helper()
	file := filepath.Join(t.TempDir(), "f.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, "listen: 127.0.0.1:0\nupstreams: {docs: {%s}}\n", strings.Join(append(settings, fmt.Sprintf("url: %q", url)), ", ")), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, _, err := config.Load(config.Sources{File: file, Env: os.LookupEnv, ReadFile: os.ReadFile})
	if err != nil {
		t.Fatal(err)
	}
	d, err := assemble(t.Context(), Options{Config: cfg, Paths: Paths{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	d.start()
	t.Cleanup(func() {
		http.DefaultClient.CloseIdleConnections()
		if err := d.drain(time.Second); err != nil {
			t.Error(err)
		}
	})
	return d
}

// TestGETMeetsAHealing: a GET that comes while its session is opened anew, or is on its way to where that lived before, is
// not aborted: the whole daemon answers it from where the session lives then.
func TestGETMeetsAHealing(t *testing.T) {
	for name, early := range map[string]bool{"comes": false, "on its way": true} {
		t.Run(name, func(t *testing.T) {
			l := newLosing()
			d := runningDaemon(t, mcptest.NewServer(t, l.script).URL())
			a := losingAgent{t, "http://" + d.addresses()[0]}
			a.post("", `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}`)
			stream, list := make(chan string, 1), make(chan string, 1)
			get := func() { stream <- a.streamed() }
			if early {
				go get()
				<-l.getsOfLost.Opened()
			}
			go func() { list <- a.post("s1", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`) }()
			<-l.begun.Opened()
			if !early {
				go get()
				for d.handler.InFlight() < 2 { // the list, and the GET
					runtime.Gosched()
				}
			}
			l.heal.Open()
			if got := <-list; !strings.HasPrefix(got, "200 ") || !strings.Contains(got, `"tools":[]`) {
				t.Errorf("the list got %s", got)
			}
			if got := <-stream; !strings.HasPrefix(got, "200 ") || !strings.Contains(got, `"here"`) {
				t.Errorf("the GET got %q", got)
			}
			select {
			case <-l.getsOfLost.Opened():
				if !early {
					t.Error("the GET went to the lost session while that was opened anew")
				}
			default:
			}
		})
	}
}

// TestHealedServerIsAnother: what was cached of a server is not given any more once a session of its was lost, though it says that
// it is the same.
func TestHealedServerIsAnother(t *testing.T) {
	var deployed, lists atomic.Int32
	server := mcptest.NewServer(t, func(x *mcptest.Exchange) {
		now := fmt.Sprint("s", deployed.Load())
		switch {
		case x.Method() == "initialize":
			x.Result(`{"protocolVersion":"2025-03-26","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}`, "Mcp-Session-Id: "+now)
		case x.Get("Mcp-Session-Id") != now:
			x.Say(http.StatusNotFound, "text/plain", "session not found")
		case x.Method() == "tools/list":
			lists.Add(1)
			x.Result(fmt.Sprintf(`{"tools":[{"name":%q,"inputSchema":{}}]}`, now))
		default:
			x.Result(`{}`)
		}
	})
	d := runningDaemon(t, server.URL(), "cache: {scope: credential}")
	a := losingAgent{t, "http://" + d.addresses()[0]}
	a.post("", `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-03-26","capabilities":{},"clientInfo":{"name":"a","version":"1"}}}`)
	list := func(want string, asked int32) {
		t.Helper()
		got := a.post("s0", `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`)
		if !strings.Contains(got, `"`+want+`"`) || lists.Load() != asked {
			t.Errorf("the list is %s, the server was asked for it %d times; want %s, %d times", got, lists.Load(), want, asked)
		}
	}
	list("s0", 1)
	list("s0", 1) // from memory
	deployed.Add(1)
	if got := a.post("s0", `{"jsonrpc":"2.0","id":2,"method":"ping"}`); !strings.HasPrefix(got, "200 ") {
		t.Errorf("the ping got %s", got)
	}
	list("s1", 2)
}
