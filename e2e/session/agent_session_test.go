// An agent's session, from the agent's side.

package session

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"fluentd-perf/e2e/harness"
)

// agentSession is an agent's session with an upstream. It never begins another one by itself.
type agentSession struct {
	*harness.Agent
	id     string // of the session, as the agent knows it
	fields []string
	asks   int
}

// hello is the `initialize` of an agentSession: with a member that nobody knows and a blank where most have none, so that bytes
// that were written anew are found.
const hello = `{"jsonrpc":"2.0", "id":"hello","method":"initialize","params":{"protocolVersion":"2025-11-25",` +
	`"capabilities":{"roots":{"listChanged":true}},"clientInfo":{"name":"talk","version":"1"},"x":[1.0,"\u0041"]}}`

// beginSession opens a session through the daemon. Fields go with every request of it.
func beginSession(t *testing.T, d *harness.Daemon, fields ...string) *agentSession {
	t.Helper()
	k := &agentSession{Agent: d.Agent(t), fields: fields}
	r := k.Agent.Post(hello, fields...)
	if k.id = r.Header.Get("Mcp-Session-Id"); r.Status != http.StatusOK || k.id == "" {
		t.Fatalf("initialize: %d, session %q: %s", r.Status, k.id, r.Body)
	}
	if r := k.say(harness.Notification("notifications/initialized")); r.Status != http.StatusAccepted {
		t.Fatalf("notifications/initialized: %d %s", r.Status, r.Body)
	}
	return k
}

// Bearer is the same session with other fields, by an agent of its own.
func (k *agentSession) as(fields ...string) *agentSession {
	return &agentSession{Agent: harness.NewAgent(k.T, k.Base), id: k.id, fields: fields, asks: 1000}
}

// say posts a message on the session.
func (k *agentSession) say(body string) harness.Reply {
	k.T.Helper()
	return k.Agent.Post(body, k.with()...)
}

// with are the fields of a request on the session, and more.
func (k *agentSession) with(more ...string) []string {
	own := append([]string{"Mcp-Session-Id: " + k.id, "MCP-Protocol-Version: 2025-11-25"}, k.fields...)
	return append(own, more...)
}

// ask posts a request; params are JSON.
func (k *agentSession) ask(method, params string) harness.Reply {
	k.T.Helper()
	k.asks++
	return k.say(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, k.asks, method, params))
}

// list asks for the tools.
func (k *agentSession) list() harness.Reply {
	k.T.Helper()
	return k.ask("tools/list", "{}")
}

// call calls a tool that does something, once for each token.
func (k *agentSession) call(token string) harness.Reply {
	k.T.Helper()
	return k.ask("tools/call", fmt.Sprintf(`{"name":"work","arguments":{"token":%q}}`, token))
}

// right fails the test unless the server has answered.
func (k *agentSession) right(r harness.Reply) {
	k.T.Helper()
	if r.Status != http.StatusOK || r.RPC(k.T).Result == nil {
		k.T.Errorf("got %d %s, want a result", r.Status, r.Body)
	}
	if got := r.Header.Get("Mcp-Session-Id"); got != "" && got != k.id {
		k.T.Errorf("the answer names the session %q, the agent knows %q", got, k.id)
	}
}

// told fails the test unless the call was refused with the word that the session was opened anew.
func (k *agentSession) told(r harness.Reply) {
	k.T.Helper()
	if r.Status != http.StatusOK {
		k.T.Errorf("HTTP status %d, want 200: %s", r.Status, r.Body)
	}
	harness.CheckFailure(k.T, r.RPC(k.T), fmt.Sprint(k.asks), "s", 1410, "session_restarted", "no")
}

// passedOn fails the test unless the loss came through as clients understand it.
func passedOn(t *testing.T, r harness.Reply) {
	t.Helper()
	if ct := r.Header.Get("Content-Type"); r.Status != http.StatusNotFound || !strings.HasPrefix(ct, "text/plain") {
		t.Errorf("got %d %s %q, want 404 text/plain", r.Status, ct, r.Body)
	}
}

// heals is how many healings came to a result.
func heals(d *harness.Daemon, result string) int {
	d.T.Helper()
	return int(d.Scrape().Sum("fluentd_perf_session_heals_total", `upstream="s"`, fmt.Sprintf("result=%q", result)))
}
