// The agents: what they ask, and how they read what comes back.

package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"fluentd-perf/e2e/harness"
)

// chaosAgent is one agent: connections, sessions and a credential of its own. It is used from one goroutine, but for what
// it starts and waits for itself.
type chaosAgent struct {
	run   *chaosRun
	name  string
	who   string // the credential
	rand  *rand.Rand
	http  *http.Client
	ids   int
	opens map[string]string // upstream -> session; "" for one without sessions that was initialised
}

// ids that all agents use: they collide all the time.
func (a *chaosAgent) id() string {
	a.ids++
	if a.ids%3 == 0 {
		return fmt.Sprintf(`"%d"`, a.ids)
	}
	return fmt.Sprint(a.ids)
}

func (a *chaosAgent) token(u *chaosUpstream) string {
	a.ids++
	return fmt.Sprintf("%s/%s/%d", u.name, a.name, a.ids)
}

// agentRequest is one request before it is sent.
type agentRequest struct {
	u            *chaosUpstream
	id           string // "" for a notification
	method       string
	params       string // members of the object
	right        func(json.RawMessage) error
	mayBeEmpty   bool // a cancellation of it is sent: it may end with a 202
	neverRestart bool // a read is never told that the session began anew
	loose        bool // it is relayed, and neither shared, kept nor sent again
}

func (a *chaosAgent) asks(u *chaosUpstream, method, params string, right func(json.RawMessage) error) agentRequest {
	return agentRequest{u: u, id: a.id(), method: method, params: params, right: right, neverRestart: method != "tools/call"}
}

// request is the request on the wire.
func (a *chaosAgent) request(q agentRequest) (body string, fields []string) {
	if q.u.modern() {
		body, fields = harness.ModernRequest(q.id, q.method, q.params)
	} else {
		body = fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":{%s}}`, q.id, q.method, q.params)
		fields = a.legacyFields(q.u, q.method)
	}
	return body, append(fields, harness.Bearer(a.who))
}

func (a *chaosAgent) legacyFields(u *chaosUpstream, method string) (fields []string) {
	if method == "initialize" {
		return nil
	}
	fields = []string{"MCP-Protocol-Version: 2025-11-25"}
	if session := a.opens[u.name]; session != "" {
		fields = append(fields, "Mcp-Session-Id: "+session)
	}
	return fields
}

// ask makes a request and judges its end. It ends within chaosDeadline, or that is a fault.
func (a *chaosAgent) ask(ctx context.Context, q agentRequest) (callResult, http.Header) {
	body, fields := a.request(q)
	begun := time.Now()
	status, header, text, err := a.exchange(ctx, http.MethodPost, "/mcp/"+q.u.name, body, fields)
	took := time.Since(begun)
	v := a.judge(ctx, q, status, header, text, err)
	if q.loose && harness.AnsweredByCache.MatchString(header.Get("Cache-Status")) {
		v = faulted("a loose request was answered from %s", header.Get("Cache-Status"))
	}
	a.run.note(q.u, fmt.Sprintf("%s %s after %v", q.method, a.name, took.Round(time.Millisecond)), v, took)
	if v.label == "HTTP 404" {
		delete(a.opens, q.u.name)
	}
	return v, header
}

func (a *chaosAgent) judge(ctx context.Context, q agentRequest, status int, header http.Header, text string, err error) callResult {
	switch {
	case err != nil && ctx.Err() != nil:
		return callResult{label: "left"}
	case errors.Is(err, context.DeadlineExceeded):
		return faulted("no end within %v", chaosDeadline)
	case err != nil && status == http.StatusOK && q.method == "tools/call" && header.Get("Content-Type") == harness.JSONType:
		return callResult{label: "aborted"} // an answer that took more than a second leaves as it comes
	case err != nil:
		return faulted("no answer: %w (HTTP %d, %.200q)", err, status, text)
	case status == http.StatusAccepted && text == "" && q.mayBeEmpty:
		return callResult{label: "cancelled"}
	case status != http.StatusOK:
		return q.u.judgeStatus(status, text)
	}
	v := callResult{}
	if strings.HasPrefix(header.Get("Content-Type"), "text/event-stream") {
		v = q.u.judgeStream(text, q.id, a.who, q.right)
	} else {
		v = q.u.judgeAnswer([]byte(text), q.id, a.who, q.right)
	}
	return q.restarted(v)
}

// restarted faults a 1410 for a request that never gets one: a read, and where the operator says that there is no state.
func (q *agentRequest) restarted(v callResult) callResult {
	if v.code == 1410 && !q.loose && (q.neverRestart || q.u.name != "sessions") {
		return faulted("%s was told that the session began anew", q.method)
	}
	return v
}

// exchange sends a request and reads the whole answer, within chaosDeadline.
func (a *chaosAgent) exchange(ctx context.Context, verb, path, body string, fields []string) (status int, header http.Header, text string, err error) {
	ctx, cancel := context.WithTimeout(ctx, chaosDeadline)
	defer cancel()
	res, err := a.open(ctx, verb, path, body, fields)
	if err != nil {
		return 0, nil, "", err
	}
	defer func() { _ = res.Body.Close() }()
	whole, err := io.ReadAll(res.Body)
	return res.StatusCode, res.Header, string(whole), err
}

func (a *chaosAgent) open(ctx context.Context, verb, path, body string, fields []string) (*http.Response, error) {
	req, err := harness.NewRequest(ctx, verb, a.run.origin+path, body, fields...)
	if err != nil {
		return nil, err
	}
	return a.http.Do(req)
}

// ready has the agent initialise where it must and has not. It reports whether it can go on.
func (a *chaosAgent) ready(ctx context.Context, u *chaosUpstream) bool {
	if _, open := a.opens[u.name]; open || u.modern() {
		return true
	}
	q := a.asks(u, "initialize", fmt.Sprintf(`"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":%q,"version":"1"}`, a.name),
		u.rightInitialize(a.who))
	v, header := a.ask(ctx, q)
	if !v.ok() {
		return false
	}
	session := header.Get("Mcp-Session-Id")
	if (session != "") != (u.kind == "sessions") {
		a.run.ledger.fault("%s: initialize gave the session %q", u.name, session)
	}
	a.opens[u.name] = session
	return a.notify(ctx, u, `{"jsonrpc":"2.0","method":"notifications/initialized"}`, a.legacyFields(u, ""))
}

// notify sends a notification, and reports whether it was taken.
func (a *chaosAgent) notify(ctx context.Context, u *chaosUpstream, body string, fields []string) bool {
	return a.sendOneWay(ctx, u, "a notification of "+a.name, http.MethodPost, body, fields) == http.StatusAccepted
}

// sendOneWay sends what has no answer but a status, notes how it ended, and returns the status, or 0 where there is none.
func (a *chaosAgent) sendOneWay(ctx context.Context, u *chaosUpstream, what, verb, body string, fields []string) (status int) {
	begun := time.Now()
	status, _, text, err := a.exchange(ctx, verb, "/mcp/"+u.name, body, append(fields, harness.Bearer(a.who)))
	v := callResult{label: fmt.Sprint("HTTP ", status)}
	switch {
	case err != nil && ctx.Err() != nil:
		v.label = "left"
	case err != nil:
		v = faulted("no answer: %w", err)
	case !fitsNotification(status) && (verb != http.MethodDelete || status != http.StatusNoContent):
		v = faulted("HTTP %d: %.300q", status, text)
	}
	a.run.note(u, what, v, time.Since(begun))
	if err != nil || v.fault != nil {
		return 0
	}
	return status
}

// fitsNotification reports whether a status may be the end of what has no answer: taken, on a session that is lost, or the
// daemon's own errors, which have their status then.
func fitsNotification(status int) bool {
	return slices.Contains([]int{202, 404, 429, 502, 503, 504}, status)
}

// workFor is a call with a side effect, which the ledger knows of.
func (a *chaosAgent) workFor(u *chaosUpstream, lasts time.Duration) (token string, q agentRequest) {
	token = a.token(u)
	a.run.ledger.begin(token)
	return token, a.asks(u, "tools/call", fmt.Sprintf(`"name":"work","arguments":{"token":%q,"ms":%d}`, token, lasts.Milliseconds()), u.rightWork(token, a.who))
}

// work makes a call with a side effect, which takes the server as long as that. quit, if not nil, is run beside it.
func (a *chaosAgent) work(ctx context.Context, u *chaosUpstream, lasts time.Duration, quit func(id string)) callResult {
	token, q := a.workFor(u, lasts)
	var beside sync.WaitGroup
	if quit != nil {
		q.mayBeEmpty = !u.modern()
		beside.Go(func() { quit(q.id) })
	}
	begun := time.Now()
	v, _ := a.ask(ctx, q)
	if u.name == "steady" && v.ok() {
		a.run.ledger.countSteady(time.Since(begun) - lasts)
	}
	beside.Wait()
	a.run.ledger.claim(token, v.claim())
	return v
}

func (a *chaosAgent) list(ctx context.Context, u *chaosUpstream) callResult {
	v, _ := a.ask(ctx, a.asks(u, "tools/list", "", u.rightList(a.who)))
	return v
}

// read reads something that is the same for everybody, or the agent's own.
func (a *chaosAgent) read(ctx context.Context, u *chaosUpstream) callResult {
	uri := fmt.Sprintf("%s:%d", []string{"item", "own"}[a.rand.IntN(2)], a.rand.IntN(20))
	v, _ := a.ask(ctx, a.asks(u, "resources/read", fmt.Sprintf(`"uri":%q`, uri), u.rightRead(uri, a.who)))
	return v
}
