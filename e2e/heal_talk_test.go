package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// talk is an agent's session with an upstream. It never begins another one by itself.
type talk struct {
	*agent
	id     string // of the session, as the agent knows it
	fields []string
	asks   int
}

// hello is the `initialize` of a talk: with a member that nobody knows and a blank where most have none, so that bytes
// that were written anew are found.
const hello = `{"jsonrpc":"2.0", "id":"hello","method":"initialize","params":{"protocolVersion":"2025-11-25",` +
	`"capabilities":{"roots":{"listChanged":true}},"clientInfo":{"name":"talk","version":"1"},"x":[1.0,"\u0041"]}}`

// begin opens a session through the daemon. Fields go with every request of it.
func (d *sidecar) begin(t *testing.T, fields ...string) *talk {
	t.Helper()
	k := &talk{agent: d.agent(t), fields: fields}
	r := k.agent.post(hello, fields...)
	if k.id = r.header.Get("Mcp-Session-Id"); r.status != http.StatusOK || k.id == "" {
		t.Fatalf("initialize: %d, session %q: %s", r.status, k.id, r.body)
	}
	if r := k.say(notification("notifications/initialized")); r.status != http.StatusAccepted {
		t.Fatalf("notifications/initialized: %d %s", r.status, r.body)
	}
	return k
}

// as is the same session with other fields, by an agent of its own.
func (k *talk) as(fields ...string) *talk {
	return &talk{agent: newAgent(k.t, k.base), id: k.id, fields: fields, asks: 1000}
}

// say posts a message on the session.
func (k *talk) say(body string) reply {
	k.t.Helper()
	return k.agent.post(body, k.with()...)
}

// with are the fields of a request on the session, and more.
func (k *talk) with(more ...string) []string {
	own := append([]string{"Mcp-Session-Id: " + k.id, "MCP-Protocol-Version: 2025-11-25"}, k.fields...)
	return append(own, more...)
}

// ask posts a request; params are JSON.
func (k *talk) ask(method, params string) reply {
	k.t.Helper()
	k.asks++
	return k.say(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, k.asks, method, params))
}

// list asks for the tools.
func (k *talk) list() reply {
	k.t.Helper()
	return k.ask("tools/list", "{}")
}

// call calls a tool that does something, once for each token.
func (k *talk) call(token string) reply {
	k.t.Helper()
	return k.ask("tools/call", fmt.Sprintf(`{"name":"work","arguments":{"token":%q}}`, token))
}

// right fails the test unless the server has answered.
func (k *talk) right(r reply) {
	k.t.Helper()
	if r.status != http.StatusOK || r.rpc(k.t).Result == nil {
		k.t.Errorf("got %d %s, want a result", r.status, r.body)
	}
	if got := r.header.Get("Mcp-Session-Id"); got != "" && got != k.id {
		k.t.Errorf("the answer names the session %q, the agent knows %q", got, k.id)
	}
}

// told fails the test unless the call was refused with the word that the session was opened anew.
func (k *talk) told(r reply) {
	k.t.Helper()
	if r.status != http.StatusOK {
		k.t.Errorf("HTTP status %d, want 200: %s", r.status, r.body)
	}
	checkFailure(k.t, r.rpc(k.t), fmt.Sprint(k.asks), "s", 1410, "session_restarted", "no")
}

// passedOn fails the test unless the loss came through as clients understand it.
func passedOn(t *testing.T, r reply) {
	t.Helper()
	if ct := r.header.Get("Content-Type"); r.status != http.StatusNotFound || !strings.HasPrefix(ct, "text/plain") {
		t.Errorf("got %d %s %q, want 404 text/plain", r.status, ct, r.body)
	}
}

// heals is how many healings came to a result.
func (d *sidecar) heals(result string) int {
	d.t.Helper()
	return int(d.scrape().sum("fluentd_perf_session_heals_total", `upstream="s"`, fmt.Sprintf("result=%q", result)))
}
