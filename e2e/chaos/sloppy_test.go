// The agents' messages that the standard has otherwise, and how their answers are read.

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"fluentd-perf/e2e/harness"
)

// looseMember is a member of params that makes a message loose: half of a surrogate pair, a byte that is not UTF-8.
func (a *chaosAgent) looseMember() string {
	return []string{`,"x":"\ud83d"`, `,"x":"` + "\xe9" + `"`}[a.rand.IntN(2)]
}

// loose asks something in a loose message: it is answered like any other, each time by the server, and a call runs once.
func (a *chaosAgent) loose(ctx context.Context, u *chaosUpstream) callResult {
	if a.rand.IntN(2) == 0 {
		uri := fmt.Sprintf("item:%d", a.rand.IntN(20))
		q := a.asks(u, "resources/read", fmt.Sprintf(`"uri":%q`, uri)+a.looseMember(), u.rightRead(uri, a.who))
		q.loose = true
		v, _ := a.ask(ctx, q)
		return v
	}
	token, q := a.workFor(u, time.Millisecond)
	q.params, q.loose = q.params+a.looseMember(), true
	v, _ := a.ask(ctx, q)
	a.run.ledger.claim(token, v.claim())
	return v
}

// opaque posts a call to /mcp as an array of one, which the daemon relays as bytes.
func (a *chaosAgent) opaque(ctx context.Context, u *chaosUpstream) callResult {
	token, q := a.workFor(u, time.Millisecond)
	body, fields := a.request(q)
	begun := time.Now()
	status, header, text, err := a.exchange(ctx, http.MethodPost, "/mcp/"+u.name, "["+body+"]", fields)
	v := a.judgeOpaque(ctx, q, status, header, text, err)
	a.run.note(u, "an array of "+a.name, v, time.Since(begun))
	a.run.ledger.claim(token, v.claim())
	if v.label == "HTTP 404" {
		delete(a.opens, u.name)
	}
	return v
}

// judgeOpaque judges the answer to an array of one. The daemon's own errors come by HTTP status, and have no id.
func (a *chaosAgent) judgeOpaque(ctx context.Context, q agentRequest, status int, header http.Header, text string, err error) callResult {
	var failure harness.RPCAnswer
	switch {
	case err != nil && ctx.Err() != nil:
		return callResult{label: "left"}
	case errors.Is(err, context.DeadlineExceeded):
		return faulted("no end within %v", chaosDeadline)
	case err != nil && status == http.StatusOK:
		return callResult{label: "aborted"}
	case err != nil:
		return faulted("no answer: %w (HTTP %d, %.200q)", err, status, text)
	case harness.AnsweredByCache.MatchString(header.Get("Cache-Status")):
		return faulted("an array was answered from %s", header.Get("Cache-Status"))
	case status == http.StatusOK:
		return q.judgeArrayOfOne(text, a.who)
	case json.Unmarshal([]byte(text), &failure) != nil || failure.Error == nil || failure.Error.Data == nil:
		return q.u.judgeStatus(status, text)
	}
	e, data := failure.Error, failure.Error.Data
	if data.Source != "fluentd-perf" || data.Upstream != q.u.name || e.Code != status+1000 || failure.ID != nil ||
		!slices.Contains([]int{1410, 1429, 1502, 1503, 1504}, e.Code) || data.Reason == "" || e.Code == 1410 && data.Sent != "no" {
		return faulted("an error that cannot be: HTTP %d %.300s", status, text)
	}
	return callResult{label: fmt.Sprintf("%d %s, sent %s", e.Code, data.Reason, data.Sent), code: e.Code, unsent: data.Sent == "no"}
}

func (q *agentRequest) judgeArrayOfOne(text, who string) callResult {
	var answers []json.RawMessage
	if err := json.Unmarshal([]byte(text), &answers); err != nil || len(answers) != 1 {
		return faulted("not an array of one: %.300q", text)
	}
	return q.u.judgeAnswer(answers[0], q.id, who, q.right)
}

// TestChaosOpaqueResults holds the agents to take what is right for an array, and to find what is not.
func TestChaosOpaqueResults(t *testing.T) {
	t.Parallel()
	u := &chaosUpstream{name: "sessions", kind: "sessions", key: "k"}
	a := &chaosAgent{who: "ada", name: "agent"}
	q := agentRequest{u: u, id: "7", method: "tools/call", right: u.rightWork("u/1", "ada")}
	answer := func(who string) string {
		return fmt.Sprintf(`[{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":%q}]}}]`, u.seal("work", "u/1", who))
	}
	failure := func(id string, code int, upstream string) string {
		return fmt.Sprintf(`{"jsonrpc":"2.0"%s,"error":{"code":%d,"message":"m","data":{"source":"fluentd-perf","upstream":%q,"reason":"r","sent":"no"}}}`, id, code, upstream)
	}
	for _, c := range []struct {
		name   string
		status int
		cached string
		body   string
		want   string // the label; "" for a fault
	}{
		{"right", 200, "", answer("ada"), "ok"},
		{"for somebody else", 200, "", answer("bob"), ""},
		{"kept", 200, "fluentd-perf; hit; ttl=4; detail=memory", answer("ada"), ""},
		{"shared", 200, "fluentd-perf; fwd=miss; collapsed", answer("ada"), ""},
		{"taken apart", 200, "", answer("ada")[1 : len(answer("ada"))-1], ""},
		{"twice", 200, "", "[" + answer("ada")[1:len(answer("ada"))-1] + "," + answer("ada")[1:], ""},
		{"restarted", 410, "", failure("", 1410, "sessions"), "1410 r, sent no"},
		{"broken off", 502, "", failure("", 1502, "sessions"), "1502 r, sent no"},
		{"with an id", 502, "", failure(`,"id":7`, 1502, "sessions"), ""},
		{"of another upstream", 502, "", failure("", 1502, "modern"), ""},
		{"by another status", 503, "", failure("", 1502, "sessions"), ""},
		{"in a 200", 200, "", failure("", 1502, "sessions"), ""},
		{"lost", 404, "", "session not found", "HTTP 404"},
		{"busy", 503, "", "busy " + u.seal("busy"), "HTTP 503"},
		{"a gateway's 503", 503, "", "busy", ""},
	} {
		v := a.judgeOpaque(t.Context(), q, c.status, http.Header{"Cache-Status": {c.cached}}, c.body, nil)
		if v.label != c.want || (v.fault != nil) != (c.want == "") {
			t.Errorf("%s: %+v, want %q", c.name, v, c.want)
		}
	}
}
