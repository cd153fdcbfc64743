// The agents find what is wrong: without this, TestChaos could not fail.

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"fluentd-perf/e2e/harness"
)

// TestChaosResults holds the agents of the chaos run to take what is right, and to find what is not.
func TestChaosResults(t *testing.T) {
	t.Parallel()
	u := &chaosUpstream{name: "u", kind: "sessions", key: "k"}
	a := &chaosAgent{who: "ada", name: "agent"}
	q := agentRequest{u: u, id: "7", method: "tools/call", right: u.rightWork("u/1", "ada")}
	text := func(seal string) string { return fmt.Sprintf(`{"content":[{"type":"text","text":%q}]}`, seal) }
	result := func(id, result string) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":%s}`, id, result)
	}
	failure := func(code int, upstream, reason, sent string) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","id":7,"error":{"code":%d,"message":"m","data":{"source":"fluentd-perf","upstream":%q,"reason":%q,"sent":%q,"requestId":"r"}}}`,
			code, upstream, reason, sent)
	}
	notice := func(who string) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/message","params":{"data":%q}}`, u.seal("notice", who))
	}
	stream := func(events ...string) string { return "data: " + strings.Join(events, "\n\ndata: ") + "\n\n" }
	right := result("7", text(u.seal("work", "u/1", "ada")))
	events := http.Header{"Content-Type": {"text/event-stream"}}
	for _, c := range []struct {
		name   string
		q      agentRequest
		status int
		header http.Header
		body   string
		want   string // the label; "" for a fault
	}{
		{"right", q, 200, nil, right, "ok"},
		{"right, in a stream", q, 200, events, stream(notice("ada"), right), "ok"},
		{"of the daemon", q, 200, nil, failure(1503, "u", "breaker_open", "no"), "1503 breaker_open, sent no"},
		{"restarted", agentRequest{u: &chaosUpstream{name: "sessions", key: "k"}, id: "7"}, 200, nil, failure(1410, "sessions", "session_restarted", "no"), "1410 session_restarted, sent no"},
		{"busy", q, 503, nil, "busy " + u.seal("busy"), "HTTP 503"},
		{"lost", q, 404, nil, "session not found", "HTTP 404"},
		{"cancelled", agentRequest{u: u, id: "7", mayBeEmpty: true}, 202, nil, "", "cancelled"},
		{"another id", q, 200, nil, result(`"7"`, text(u.seal("work", "u/1", "ada"))), ""},
		{"for somebody else", q, 200, nil, result("7", text(u.seal("work", "u/1", "bob"))), ""},
		{"of another call", q, 200, nil, result("7", text(u.seal("work", "u/2", "ada"))), ""},
		{"made up", q, 200, nil, result("7", text("done")), ""},
		{"nothing in it", q, 200, nil, `{"jsonrpc":"2.0","id":7}`, ""},
		{"empty", q, 200, nil, "", ""},
		{"an error of nobody's", q, 200, nil, `{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"m"}}`, ""},
		{"another upstream's error", q, 200, nil, failure(1503, "v", "breaker_open", "no"), ""},
		{"an unknown code", q, 200, nil, failure(1500, "u", "x", "no"), ""},
		{"sent perhaps", q, 200, nil, failure(1502, "u", "broke_off", "perhaps"), ""},
		{"restarted and sent", agentRequest{u: &chaosUpstream{name: "sessions", key: "k"}, id: "7"}, 200, nil, failure(1410, "sessions", "session_restarted", "yes"), ""},
		{"a read restarted", agentRequest{u: &chaosUpstream{name: "sessions", key: "k"}, id: "7", neverRestart: true}, 200, nil, failure(1410, "sessions", "session_restarted", "no"), ""},
		{"restarted without a state", q, 200, nil, failure(1410, "u", "session_restarted", "no"), ""},
		{"another's notice", q, 200, events, stream(notice("bob"), right), ""},
		{"no answer in a stream", q, 200, events, stream(notice("ada")), ""},
		{"two answers", q, 200, events, stream(right, right), ""},
		{"accepted", q, 202, nil, "", ""},
		{"a gateway's 503", q, 503, nil, "busy", ""},
		{"a lost session without sessions", agentRequest{u: &chaosUpstream{name: "m", kind: "modern"}, id: "7"}, 404, nil, "", ""},
	} {
		v := a.judge(t.Context(), c.q, c.status, c.header, c.body, nil)
		if v.label != c.want || (v.fault != nil) != (c.want == "") {
			t.Errorf("%s: %+v, want %q", c.name, v, c.want)
		}
	}
	cut := errors.New("unexpected EOF")
	if v := a.judge(t.Context(), q, 200, http.Header{"Content-Type": {harness.JSONType}}, "{", cut); v.label != "aborted" {
		t.Errorf("a call's answer that was aborted: %+v", v)
	}
	if v := a.judge(t.Context(), agentRequest{u: u, id: "7", method: "tools/list"}, 200, http.Header{"Content-Type": {harness.JSONType}}, "{", cut); v.fault == nil {
		t.Errorf("a list that was aborted: %+v", v)
	}
	if v := a.judge(t.Context(), q, 0, nil, "", cut); v.fault == nil {
		t.Errorf("a broken connection: %+v", v)
	}
	if v := a.judge(t.Context(), q, 0, nil, "", context.DeadlineExceeded); v.fault == nil {
		t.Errorf("no end: %+v", v)
	}
	two := []agentRequest{q, {u: u, id: ""}, {u: u, id: "8"}}
	for body, faults := range map[string]bool{
		"[" + right + "," + result("8", "{}") + "]": false,
		"[" + result("8", "{}") + "," + right + "]": true,
		"[" + right + "]": true,
		"[" + right + "," + result("8", "{}") + "," + result("8", "{}") + "]": true,
		right: true,
	} {
		found := false
		for _, v := range a.judgeArray(t.Context(), two, 200, body, nil) {
			found = found || v.fault != nil
		}
		if found != faults {
			t.Errorf("%s: a fault: %v, want %v", body, found, faults)
		}
	}
	for name, event := range map[string]string{
		"for bob":      fmt.Sprintf(`{"params":{"_meta":{"io.modelcontextprotocol/subscriptionId":7,"seal":%q}}}`, u.seal("notice", "bob")),
		"of another":   fmt.Sprintf(`{"params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"7","seal":%q}}}`, u.seal("notice", "ada")),
		"cut":          `{"params":`,
		"without meta": `{"params":{}}`,
	} {
		if u.misdelivered(json.RawMessage(event), "7", "ada") == "" {
			t.Errorf("an event %s passes", name)
		}
	}
}
