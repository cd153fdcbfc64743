// An array of everything: each element gets its own answer, and what is no array is refused.

package rpc

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// element is one of an array, and what is to come back.
type element struct {
	id, method, key string
	code            int // of the error; 0 for a result
	text            string
}

// TestArrayOfEverything: one array of 1,000 with what is in the cache, what is not, what fails, what is no request at all,
// notifications, and ids that many have in common. The answers come in the order asked, each under its own id's bytes.
func TestArrayOfEverything(t *testing.T) {
	t.Parallel()
	for name, keys := range map[string]string{
		"one by one": "",
		"in arrays":  "batch: {max: 100, window: 50ms}, ",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startRPC(t)
			d := harness.Start(t, rpcConf(s, keys+"cache: {ttl: {get: 1h}}"))
			a := d.Agent(t)
			old := map[string]int{}
			for _, key := range keysOf("hit", 20) {
				old[key] = valueOf(postArray(a, rpcRequest("1", "get", key)).RPC(t)).Run
			}
			s.seen()
			elements := mixture()
			r := postArray(a, arrayText(elements))
			s.judgeMixture(t, elements, r.Answers(t), old)
		})
	}
}

// mixture is 1,000 elements of all sorts, turn about.
func mixture() []element {
	all := make([]element, 1000)
	for i := range all {
		id := []string{"7", `"seven"`, `"\u0037"`, "7.0", fmt.Sprint(i)}[i/10%5]
		switch i % 10 {
		case 0, 5:
			all[i] = element{id: id, method: "get", key: fmt.Sprintf("hit-%d", i%20)}
		case 1, 6:
			all[i] = element{id: id, method: "get", key: fmt.Sprintf("miss-%d", i)}
		case 2:
			all[i] = element{id: id, method: "put", key: fmt.Sprintf("put-%d", i)}
		case 3:
			all[i] = element{id: id, method: "fail", key: fmt.Sprintf("fail-%d", i), code: 7}
		case 4:
			all[i] = element{method: "put", key: fmt.Sprintf("note-%d", i)}
		case 7:
			all[i] = element{id: id, method: "get", key: fmt.Sprintf("shared-%d", i%3)}
		case 8:
			all[i] = element{text: `{"jsonrpc":"1.0","id":` + id + `,"method":"get"}`, id: id, code: -32600}
		case 9:
			all[i] = element{text: fmt.Sprint(i), code: -32600}
		}
	}
	return all
}

func arrayText(elements []element) string {
	texts := make([]string, len(elements))
	for i, e := range elements {
		if texts[i] = e.text; e.text == "" {
			texts[i] = rpcRequest(e.id, e.method, e.key)
		}
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

// judgeMixture checks the answers one by one. Old are the numbers of the answers that are in the cache.
func (s *rpcServer) judgeMixture(t *testing.T, elements []element, answers []harness.RPCAnswer, old map[string]int) {
	t.Helper()
	for i, e := range elements {
		if e.id == "" && e.text == "" {
			if s.noted(e.key) != 1 || s.runs(e.key) != 0 {
				t.Errorf("%d: the notification came %d times", i, s.noted(e.key))
			}
			continue
		}
		if len(answers) == 0 {
			t.Fatalf("no answer to element %d and those after it", i)
		}
		got := answers[0]
		answers = answers[1:]
		if e.code != 0 {
			if got.Error == nil || got.Error.Code != e.code {
				t.Errorf("%d: %s, error %+v, want %d", i, got.Result, got.Error, e.code)
			}
		} else if v := valueOf(got); v.Key != e.key {
			t.Errorf("%d: asked for %s, got %s, error %+v", i, e.key, got.Result, got.Error)
		} else if run, hit := old[e.key]; hit && v.Run != run {
			t.Errorf("%d: %s is answer %d, and %d is in the cache", i, e.key, v.Run, run)
		}
		if e.key != "" && string(got.ID) != e.id {
			t.Errorf("%d: id %s, want %s", i, got.ID, e.id)
		}
		if e.key != "" && s.runs(e.key) != 1 {
			t.Errorf("%d: %s was worked on %d times", i, e.key, s.runs(e.key))
		}
	}
	if len(answers) > 0 {
		t.Errorf("%d answers too many, first %s", len(answers), answers[0].ID)
	}
}

// TestArraysThatAreNone: what is refused as a whole, and what has no answer.
func TestArraysThatAreNone(t *testing.T) {
	t.Parallel()
	s := startRPC(t)
	d := harness.Start(t, rpcConf(s, "batch: {max: 10, window: 10ms}"))
	a := d.Agent(t)
	many := strings.TrimSuffix(strings.Repeat("1,", 1001), ",")
	for _, c := range []struct {
		name, body string
		status     int
		code       int
	}{
		{"not JSON", `[{"jsonrpc"`, http.StatusBadRequest, -32700},
		{"empty", `[]`, http.StatusBadRequest, -32600},
		{"1,001 elements", "[" + many + "]", http.StatusBadRequest, -32600},
		{"a number", `7`, http.StatusBadRequest, -32600},
		{"an answer", `{"jsonrpc":"2.0","id":1,"result":{}}`, http.StatusBadRequest, -32600},
		{"a notification", rpcRequest("", "put", "x"), http.StatusAccepted, 0},
		{"notifications", "[" + rpcRequest("", "put", "y") + "," + rpcRequest("", "put", "z") + "]", http.StatusAccepted, 0},
	} {
		r := postArray(a, c.body)
		if r.Status != c.status || c.code == 0 && r.Body != "" {
			t.Errorf("%s: %d %s", c.name, r.Status, r.Body)
			continue
		}
		if c.code == 0 {
			continue
		}
		if got := r.RPC(t); got.Error == nil || got.Error.Code != c.code {
			t.Errorf("%s: %s", c.name, r.Body)
		}
	}
	for _, key := range []string{"x", "y", "z"} {
		if n := s.noted(key); n != 1 {
			t.Errorf("notification %s came %d times", key, n)
		}
	}
}

// TestArrayToADeadServer: each request gets an error of its own under its own id, in order, and nobody waits for anything.
// What is under way at once (rpc.concurrency, times batch.max) may meet the dead server, since it may all be sent before the
// first refused connection is reported; what begins after two were reported meets an open breaker.
func TestArrayToADeadServer(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		keys   string
		atOnce int
	}{"one by one": {"", 32}, "in arrays": {", batch: {max: 10, window: 10ms}", 32 * 10}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := harness.Start(t, harness.OneUpstream("http://"+mcptest.Refused(t)+"/", "protocol: jsonrpc"+x.keys)).Agent(t)
			elements := make([]element, 1000)
			for i := range elements {
				elements[i] = element{id: fmt.Sprint(i), method: "put", key: "x"}
			}
			connects := 0
			for i, got := range postArray(a, arrayText(elements)).Answers(t) {
				if got.Error == nil || got.Error.Data == nil {
					t.Fatalf("%d: %s", i, got.Result)
				}
				code, reason := 1503, "breaker_open"
				if got.Error.Code == 1502 {
					code, reason = 1502, "connect"
					connects++
				}
				harness.CheckFailure(t, got, fmt.Sprint(i), "s", code, reason, "no")
			}
			// One call or array more may begin between the two reports. The rest is for probes of the breaker, one a second at
			// most, on a machine that is busy with other things.
			if connects == 0 || connects > x.atOnce*3/2 {
				t.Errorf("%d calls met the dead server, want as many as are under way at once at most: %d", connects, x.atOnce)
			}
		})
	}
}
