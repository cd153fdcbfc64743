// The agents' arrays.

package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"fluentd-perf/e2e/harness"
)

// array sends an array of calls to /rpc, or one call, and returns how the last one ended.
func (a *chaosAgent) array(ctx context.Context, u *chaosUpstream) (last callResult) {
	batch := make([]agentRequest, 1+a.rand.IntN(8))
	texts := make([]string, len(batch))
	for i := range batch {
		batch[i] = a.element(u)
		texts[i] = batch[i].element()
	}
	body := "[" + strings.Join(texts, ",") + "]"
	if len(batch) == 1 {
		body = texts[0]
	}
	var fields []string
	if !u.modern() && u.kind != "plain" && a.rand.IntN(2) == 0 {
		fields = a.legacyFields(u, "") // else the daemon has a session of its own
	}
	begun := time.Now()
	status, _, text, err := a.exchange(ctx, http.MethodPost, "/rpc/"+u.name, body, append(fields, harness.Bearer(a.who)))
	results := a.judgeArray(ctx, batch, status, text, err)
	for i, v := range results {
		a.run.note(u, fmt.Sprintf("%s in an array of %d of %s", batch[i].method, len(batch), a.name), v, time.Since(begun))
		if token, ok := tokenOf(batch[i]); ok {
			a.run.ledger.claim(token, v.claim())
		}
		last = v
	}
	return last
}

// element is the request as one of an array.
func (q *agentRequest) element() string {
	id := ""
	if q.id != "" {
		id = `"id":` + q.id + ","
	}
	return fmt.Sprintf(`{"jsonrpc":"2.0",%s"method":%q,"params":{%s}}`, id, q.method, q.params)
}

// element is one call of an array, or a notification that has a side effect. Ids may be equal: they are kept apart by
// their place.
func (a *chaosAgent) element(u *chaosUpstream) agentRequest {
	plain := u.kind == "plain"
	var q agentRequest
	switch n := a.rand.IntN(4); {
	case n == 0 && plain:
		q = a.asks(u, "nothing", fmt.Sprintf(`"as":%q`, a.who), nil)
	case n <= 2 && plain:
		key := fmt.Sprint(a.rand.IntN(20))
		q = a.asks(u, "get", fmt.Sprintf(`"key":%q,"as":%q`, key, a.who), u.rightPlain("get", key, a.who))
	case plain:
		token := a.token(u)
		a.run.ledger.begin(token)
		q = a.asks(u, "work", fmt.Sprintf(`"token":%q,"as":%q`, token, a.who), u.rightPlain("work", token, a.who))
	case n == 0:
		q = a.asks(u, "tools/list", "", u.rightList(a.who))
	case n <= 2:
		uri := fmt.Sprintf("%s:%d", []string{"item", "own"}[a.rand.IntN(2)], a.rand.IntN(20))
		q = a.asks(u, "resources/read", fmt.Sprintf(`"uri":%q`, uri), u.rightRead(uri, a.who))
	default:
		token := a.token(u)
		a.run.ledger.begin(token)
		q = a.asks(u, "tools/call", fmt.Sprintf(`"name":"work","arguments":{"token":%q,"ms":1}`, token), u.rightWork(token, a.who))
	}
	switch n := a.rand.IntN(8); {
	case n < 2:
		q.id = "7"
	case n == 2 && plain:
		q.id = ""
	}
	return q
}

// tokenOf returns the token of a call with a side effect.
func tokenOf(q agentRequest) (string, bool) {
	var p struct {
		Token     string
		Arguments struct{ Token string }
	}
	_ = json.Unmarshal([]byte("{"+q.params+"}"), &p)
	return p.Token + p.Arguments.Token, p.Token != "" || p.Arguments.Token != ""
}

// judgeArray judges the answer to an array: an answer to each, in the order asked.
func (a *chaosAgent) judgeArray(ctx context.Context, batch []agentRequest, status int, text string, err error) []callResult {
	all := func(v callResult) []callResult { return slices.Repeat([]callResult{v}, len(batch)) }
	switch {
	case err != nil && ctx.Err() != nil:
		return all(callResult{label: "left"})
	case err != nil:
		return all(faulted("an array without an end: %w", err))
	}
	due := 0
	for _, q := range batch {
		due += min(len(q.id), 1)
	}
	var answers []json.RawMessage
	switch {
	case due == 0 && (status == http.StatusAccepted && text == "" || fitsNotification(status)): // the latter where none was taken
		return all(callResult{label: fmt.Sprint("no answer due, HTTP ", status)})
	case status != http.StatusOK:
		return all(faulted("an array with HTTP %d: %.300q", status, text))
	case len(batch) == 1:
		answers = []json.RawMessage{json.RawMessage(text)}
	default:
		if err := json.Unmarshal([]byte(text), &answers); err != nil {
			return all(faulted("not an array: %.300q", text))
		}
	}
	if len(answers) != due {
		return all(faulted("%d answers to %d requests: %.500q", len(answers), due, text))
	}
	return a.judgeElements(batch, answers)
}

func (a *chaosAgent) judgeElements(batch []agentRequest, answers []json.RawMessage) []callResult {
	results := make([]callResult, len(batch))
	for i, q := range batch {
		if q.id == "" {
			results[i] = callResult{label: "no answer due, HTTP 200"}
			continue
		}
		results[i] = q.restarted(q.u.judgeAnswer(answers[0], q.id, a.who, q.right))
		answers = answers[1:]
	}
	return results
}
