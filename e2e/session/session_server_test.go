// A scripted server that loses its sessions when it is told to.

package session

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"fluentd-perf/internal/mcptest"
)

// sessionServer is a scripted legacy server with sessions, which it forgets when the test says so. It counts by a token which
// calls it ran, keeps what each session was told, and can come back as another server.
type sessionServer struct {
	*mcptest.Server
	t *testing.T

	mu       sync.Mutex
	identity identity
	minted   int
	sessions map[string]*keptSession
	ran      map[string]int    // token of a tools/call -> how often it was run
	log      []string          // what was received, as "session method"; "-" is no session
	bodies   map[string][]byte // the last body of a method
	inCall   mcptest.Script    // answers a tools/call; nil: by its result

	lastEventIDs map[string]string // by session: what its last GET asked for
}

// identity is what the server says of itself, and how it says that a session is not there.
type identity struct {
	version, name, capabilities string
	lost                        mcptest.Script
	tokens                      []string // bearer tokens that are let in; nil: everybody is
}

// keptSession is what the server remembers of a session.
type keptSession struct {
	level      string
	subscribed map[string]bool
	events     chan string // to its GET stream
}

// The losses, as servers say them: the Go SDK, the TypeScript SDK, npm's server-everything.
var losses = map[string]mcptest.Script{
	"404 text":   mcptest.Saying(http.StatusNotFound, "text/plain", "session not found\n"),
	"404 -32001": mcptest.Saying(http.StatusNotFound, "application/json", `{"jsonrpc":"2.0","error":{"code":-32001,"message":"Session not found"},"id":null}`),
	"400 -32000": mcptest.Saying(http.StatusBadRequest, "application/json", `{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: No valid session ID provided"}}`),
	"400 -32001": mcptest.Saying(http.StatusBadRequest, "application/json", `{"jsonrpc":"2.0","error":{"code":-32001,"message":"Unknown session"},"id":null}`),
	"404 empty":  mcptest.Saying(http.StatusNotFound, "", ""),
}

func ordinaryIdentity() identity {
	return identity{version: "2025-11-25", name: "forgetful", capabilities: `{"tools":{},"resources":{"subscribe":true},"logging":{}}`, lost: losses["404 text"]}
}

func startSessionServer(t *testing.T) *sessionServer {
	f := &sessionServer{t: t, identity: ordinaryIdentity(), sessions: map[string]*keptSession{}, ran: map[string]int{},
		bodies: map[string][]byte{}, lastEventIDs: map[string]string{}}
	f.Server = mcptest.NewServer(t, f.answer)
	return f
}

// become makes the server another one, from the next request on.
func (f *sessionServer) become(change func(*identity)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.identity)
}

// forget loses all sessions; connections and streams stay.
func (f *sessionServer) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sessions = map[string]*keptSession{}
}

// restart is a kill and a new start: connections are reset, connecting is refused for a moment, sessions are gone.
func (f *sessionServer) restart() {
	f.die()
	f.Up()
}

// die is a kill: connections are reset, connecting is refused until Up, sessions are gone.
func (f *sessionServer) die() {
	// A child that another test starts just now has the listening socket until it runs its own program, and the port
	// could not be held.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	f.Down()
	f.forget()
}

// onCall sets what answers a tools/call.
func (f *sessionServer) onCall(script mcptest.Script) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inCall = script
}

// hold has requests of a method wait until the gate is open. Each says so when it arrives.
func (f *sessionServer) hold(method string) (gate *mcptest.Gate, arrived <-chan struct{}) {
	gate, calls := mcptest.NewGate(), make(chan struct{}, 100)
	f.Script(func(x *mcptest.Exchange) {
		if x.Method() == method {
			calls <- struct{}{}
			x.Wait(gate.Opened())
		}
		f.answer(x)
	})
	return gate, calls
}

// runs returns how often the call with that token was run.
func (f *sessionServer) runs(token string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ran[token]
}

// received returns what came, in order, GET streams left out.
func (f *sessionServer) received() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.log), func(s string) bool { return strings.HasSuffix(s, " GET") })
}

// saw returns how many requests of a kind came, as "session method"; without a session it counts those of all.
func (f *sessionServer) saw(what string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, entry := range f.log {
		if _, method, _ := strings.Cut(entry, " "); entry == what || method == what {
			n++
		}
	}
	return n
}

// kept returns what a session was told, or nil.
func (f *sessionServer) kept(session string) *keptSession {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sessions[session]
}

// last returns the body of the last request of a method.
func (f *sessionServer) last(method string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return string(f.bodies[method])
}

// update tells each session that subscribed to the resource.
func (f *sessionServer) update(uri string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sessions {
		if s.subscribed[uri] {
			s.events <- fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":%q}}`, uri)
		}
	}
}

// asked is what the server reads of a request.
type asked struct {
	Params struct {
		URI, Level string
		Arguments  struct{ Token string }
	}
}

func (f *sessionServer) answer(x *mcptest.Exchange) {
	var a asked
	_ = json.Unmarshal(x.Body, &a) // what is no request has nothing in it
	s, who := f.record(x)
	switch {
	case !who.admits(x):
		x.Say(http.StatusUnauthorized, "text/plain", "who are you?")
	case x.Method() == "initialize":
		x.Result(who.introduction(), "Mcp-Session-Id: "+f.mint())
	case s == nil:
		who.lost(x)
	case x.Verb == http.MethodGet:
		s.stream(x)
	case x.Verb == http.MethodDelete:
		f.end(x)
	case x.ID() == "" || x.Method() == "":
		x.Accept()
	case x.Method() == "tools/call":
		f.call(x, a.Params.Arguments.Token)
	default:
		f.answerRead(x, s, a)
	}
}

// record writes the request down and returns its session and who the server is now.
func (f *sessionServer) record(x *mcptest.Exchange) (*keptSession, identity) {
	f.mu.Lock()
	defer f.mu.Unlock()
	id, what := x.Get("Mcp-Session-Id"), x.Method()
	if what == "" {
		what = map[string]string{http.MethodPost: "response"}[x.Verb] + strings.TrimPrefix(x.Verb, http.MethodPost)
	}
	f.bodies[what] = x.Body
	s := f.sessions[id]
	if x.Verb == http.MethodGet {
		f.lastEventIDs[id] = x.Get("Last-Event-ID")
	}
	if id == "" {
		id = "-"
	}
	f.log = append(f.log, id+" "+what)
	return s, f.identity
}

func (p identity) admits(x *mcptest.Exchange) bool {
	return p.tokens == nil || slices.Contains(p.tokens, strings.TrimPrefix(x.Get("Authorization"), "Bearer "))
}

func (p identity) introduction() string {
	return fmt.Sprintf(`{"protocolVersion":%q,"capabilities":%s,"serverInfo":{"name":%q,"version":"1"}}`, p.version, p.capabilities, p.name)
}

func (f *sessionServer) mint() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.minted++
	id := fmt.Sprint("s", f.minted)
	f.sessions[id] = &keptSession{subscribed: map[string]bool{}, events: make(chan string, 16)}
	return id
}

func (f *sessionServer) end(x *mcptest.Exchange) {
	f.mu.Lock()
	delete(f.sessions, x.Get("Mcp-Session-Id"))
	f.mu.Unlock()
	x.Say(http.StatusOK, "", "")
}

// stream sends the session's events until the peer leaves.
func (s *keptSession) stream(x *mcptest.Exchange) {
	st := x.Stream()
	st.Event(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"hello"}}`, "id: hello")
	for {
		select {
		case e := <-s.events:
			st.Event(e)
		case <-x.Gone():
			x.Hang()
			return
		}
	}
}

func (f *sessionServer) call(x *mcptest.Exchange, token string) {
	f.mu.Lock()
	script := f.inCall
	f.mu.Unlock()
	if script == nil {
		f.run(token)
		x.Result(mcptest.ToolResult)
		return
	}
	script(x)
}

// run does the work of a call.
func (f *sessionServer) run(token string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ran[token]++
}

// answerRead answers what only reads, and remembers what a session is told.
func (f *sessionServer) answerRead(x *mcptest.Exchange, s *keptSession, a asked) {
	f.mu.Lock()
	switch x.Method() {
	case "logging/setLevel":
		s.level = a.Params.Level
	case "resources/subscribe":
		s.subscribed[a.Params.URI] = true
	case "resources/unsubscribe":
		delete(s.subscribed, a.Params.URI)
	}
	f.mu.Unlock()
	id := x.Get("Mcp-Session-Id")
	x.Result(fmt.Sprintf(`{"tools":[],"prompts":[],"contents":[],"from":%q}`, id), "Mcp-Session-Id: "+id)
}
