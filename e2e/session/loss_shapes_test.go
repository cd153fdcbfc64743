// The ways in which servers say that a session is lost, and what only sounds like it.

package session

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// lossShape is a way in which a server says that it does not know a session, or something that sounds like it. ID stands for
// the request's id.
type lossShape struct {
	name   string
	status int
	kind   string
	body   string
	fields []string
	sure   bool // no ping is needed
}

func lossShapes() []lossShape {
	rpc := func(code int, id, message string) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"error":{"code":%d,"message":%q}}`, id, code, message)
	}
	event := func(data string) string { return "event: message\ndata: " + data + "\n\n" }
	return []lossShape{
		{name: "Go", status: 404, kind: "text/plain", body: "session not found\n", sure: true},
		{name: "TypeScript", status: 404, kind: harness.JSONType, body: rpc(-32001, "null", "Session not found"), sure: true},
		{name: "Python", status: 404, kind: harness.JSONType, body: rpc(-32600, `"server-error"`, "Session not found"), sure: true},
		{name: "a page", status: 404, kind: "text/html", body: "<h1>Not Found</h1>", sure: true},
		{name: "404 as an event", status: 404, kind: harness.SSEType, body: event(rpc(-32001, "null", "Session not found")), sure: true},
		{name: "404 naming the session", status: 404, kind: harness.JSONType, body: rpc(-32000, "null", "No session s1"), sure: true},
		{name: "gone", status: 410, kind: "text/plain", body: "gone", sure: true},
		{name: "old Python", status: 400, kind: "text/plain", body: "Bad Request: No valid session ID provided", sure: true},
		{name: "old Python, no type", status: 400, body: "Bad Request: No valid session ID provided", sure: true},
		{name: "TypeScript, one transport", status: 400, kind: harness.JSONType, body: rpc(-32000, "null", "Bad Request: Server not initialized"), sure: true},
		{name: "TypeScript, one transport, an event", status: 400, kind: harness.SSEType, body: event(rpc(-32000, "null", "Bad Request: Server not initialized")), sure: true},
		{name: "TypeScript's examples", status: 400, kind: harness.JSONType, body: rpc(-32000, "null", "Bad Request: No valid session ID provided"), sure: true},
		{name: "hand-made, own id", status: 404, kind: harness.JSONType, body: rpc(-32000, "ID", "Session s1 not found or expired")},
		{name: "hand-made, 400", status: 400, kind: harness.JSONType, body: rpc(-32001, "null", "Unknown session")},
		{name: "hand-made, 400, own id", status: 400, kind: harness.JSONType, body: rpc(-32600, "ID", "Invalid or expired session")},
		{name: "old mcp-go", status: 400, kind: "text/plain", body: "Invalid session ID", sure: true},
		{name: "not initialized", status: 400, kind: harness.JSONType, body: rpc(-32002, "null", "Client not initialized")},
		{name: "old rmcp", status: 401, kind: "text/plain", body: "Unauthorized: Session not found"},
		{name: "a balancer", status: 503, kind: "text/plain", body: "no such session on this node"},
	}
}

// says is the body of the answer to a request of that id.
func (l lossShape) says(id string) string { return strings.Replace(l.body, `"id":ID`, `"id":`+id, 1) }

func (l lossShape) script(x *mcptest.Exchange) {
	x.Say(l.status, l.kind, l.says(x.ID()), l.fields...)
}

// TestLostSessionsAreKnown: every way in which servers say so is known for a loss, of a list and of a call: the list is
// answered, the call is told.
func TestLostSessionsAreKnown(t *testing.T) {
	t.Parallel()
	for _, l := range lossShapes() {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			f, d := runHealing(t, "")
			f.become(func(p *identity) { p.lost = l.script })
			k := beginSession(t, d)
			k.right(k.call("before"))
			f.forget()
			k.right(k.list())
			k.told(k.call("refused"))
			k.right(k.call("after"))
			f.forget()
			k.told(k.call("refused, too"))
			k.right(k.list())
			k.right(k.call("in the end"))
			for token, want := range map[string]int{"before": 1, "refused": 0, "after": 1, "refused, too": 0, "in the end": 1} {
				if n := f.runs(token); n != want {
					t.Errorf("the call %q ran %d times, want %d", token, n, want)
				}
			}
			if n := f.saw("initialize"); n != 3 {
				t.Errorf("%d initialize for one beginning and two losses", n)
			}
			if n := f.saw("ping"); l.sure && n > 0 || !l.sure && n == 0 {
				t.Errorf("%d pings", n)
			}
			if n := d.BreakerState("s"); n != 0 {
				t.Errorf("the breaker's state is %v", n)
			}
		})
	}
}

// TestLivingSessionsAreLeftAlone: where the session lives on, what sounds like a loss passes as it came.
func TestLivingSessionsAreLeftAlone(t *testing.T) {
	t.Parallel()
	const own = `{"jsonrpc":"2.0","id":ID,"error":{"code":-32602,"message":"session not found"}}`
	shapes := []lossShape{
		{name: "401 that asks for signing in", status: 401, kind: "text/plain", body: "Unauthorized: Session not found", fields: []string{"WWW-Authenticate: Bearer"}},
		{name: "200", status: 200, kind: harness.JSONType, body: own},
		{name: "200, an event", status: 200, kind: harness.SSEType, body: "data: " + own + "\n\n"},
		{name: "403", status: 403, kind: "text/plain", body: "session not found"},
		{name: "500", status: 500, kind: "text/plain", body: "session not found"},
		{name: "a method that is not there", status: 404, kind: harness.JSONType, body: `{"jsonrpc":"2.0","id":ID,"error":{"code":-32601,"message":"Method not found"}}`},
		{name: "a bad request", status: 400, kind: harness.JSONType, body: `{"jsonrpc":"2.0","id":ID,"error":{"code":-32602,"message":"bad argument"}}`},
		{name: "a resource that is not there", status: 404, kind: harness.JSONType, body: own},
	}
	for _, l := range lossShapes() {
		if !l.sure {
			shapes = append(shapes, l)
		}
	}
	for _, l := range shapes {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			f, d := runHealing(t, "")
			k := beginSession(t, d)
			for round := range 3 {
				for _, method := range []string{"tools/call", "resources/read"} {
					if l.status == 503 && method == "resources/read" {
						continue // it is sent again
					}
					f.Once(l.script)
					r := k.ask(method, `{"name":"work","uri":"a://1"}`)
					want := l.says(fmt.Sprint(k.asks))
					if r.Status != l.status || r.Body != want || !harness.SameType(r, l.kind) {
						t.Errorf("round %d, %s: got %d %q, want %d %q", round, method, r.Status, r.Body, l.status, want)
					}
				}
				k.right(k.call(fmt.Sprint("round ", round)))
			}
			if n := f.saw("initialize"); n != 1 {
				t.Errorf("%d initialize: a living session was opened again", n)
			}
		})
	}
	t.Run("a tool with sessions of its own", func(t *testing.T) {
		t.Parallel()
		f, d := runHealing(t, "")
		k := beginSession(t, d)
		for _, words := range []string{"Bad Request: No valid session ID provided", "Bad Request: Server not initialized", "Session not found"} {
			f.Once(func(x *mcptest.Exchange) {
				x.Say(400, harness.JSONType, `{"jsonrpc":"2.0","id":`+x.ID()+`,"error":{"code":-32000,"message":"`+words+`"}}`)
			})
			if r := k.call("x"); r.Status != 400 || !strings.Contains(r.Body, words) {
				t.Errorf("%s: got %d %s", words, r.Status, r.Body)
			}
		}
		if n := f.saw("initialize"); n != 1 {
			t.Errorf("%d initialize", n)
		}
	})
}

// TestOnePingForAll: many who wait to know are told by one ping.
func TestOnePingForAll(t *testing.T) {
	t.Parallel()
	f, d := runHealing(t, "")
	f.become(func(p *identity) { p.lost = mcptest.Saying(400, "text/plain", "Unknown session") })
	k := beginSession(t, d)
	gate, arrived := f.hold("ping")
	f.forget()
	const waiting = 20
	var wg sync.WaitGroup
	for i := range waiting {
		own := k.as()
		own.asks = i
		wg.Go(func() { own.right(own.list()) })
	}
	<-arrived
	timer := time.AfterFunc(joined, gate.Open)
	defer timer.Stop()
	wg.Wait()
	if pings, opened := f.saw("ping"), f.saw("initialize"); pings > 3 || opened != 2 { // who came later asks once more
		t.Errorf("%d pings and %d initialize for %d who waited", pings, opened, waiting)
	}
}

// TestGETWaitsForTheHealing: a GET that meets a healing in progress gets its stream when that is done.
func TestGETWaitsForTheHealing(t *testing.T) {
	t.Parallel()
	f, d := runHealing(t, "")
	k := beginSession(t, d)
	gate, arrived := f.hold("initialize")
	f.forget()
	var wg sync.WaitGroup
	wg.Go(func() { k.right(k.list()) })
	<-arrived
	timer := time.AfterFunc(2*joined, gate.Open)
	defer timer.Stop()
	own := k.as()
	if e := own.GetStream(own.with()...).Next(); !isTagged(e.ID, "hello") {
		t.Errorf("the stream began with %+v", e)
	}
	wg.Wait()
	if n := f.saw("s2 GET"); n != 1 {
		t.Errorf("the new session got %d GETs: %q", n, f.log)
	}
}

// TestSessionIDMintedAgain: a server that counts its sessions, and begins anew, mints an id that another agent still has.
// That agent's stream ends with its session; nothing of the new one reaches it.
func TestSessionIDMintedAgain(t *testing.T) {
	t.Parallel()
	f, d := runHealing(t, "")
	ada := beginSession(t, d, harness.Bearer("ada"))
	l := ada.GetStream(ada.with()...)
	if e := l.Next(); e.ID != "hello" {
		t.Fatalf("the stream began with %+v", e)
	}
	f.mu.Lock()
	f.minted, f.sessions = 0, map[string]*keptSession{}
	f.mu.Unlock()
	bob := beginSession(t, d, harness.Bearer("bob"))
	if bob.id != ada.id {
		t.Fatalf("the id %q is not minted again", bob.id)
	}
	bob.right(bob.ask("resources/subscribe", `{"uri":"a://bob's"}`))
	f.update("a://bob's")
	l.CleanEnd(5 * time.Second)
	bob.right(bob.call("bob's"))
}
