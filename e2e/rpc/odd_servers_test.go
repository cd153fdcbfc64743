// Servers that answer arrays in odd ways: nobody gets another's answer, nothing is done twice, and the oddity is
// remembered.

package rpc

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"fluentd-perf/e2e/harness"
)

// oddServer is a server that does something odd with arrays, and what comes of it for ten calls that may be sent again and
// for ten that may not. An outcome is "right", or code and reason and sent of the error; where the first of the calls
// gets another one than the rest, it stands before a comma.
type oddServer struct {
	name        string
	spoil       spoil
	again, once string
	counted     string // a reason of fluentd_perf_batch_dropped_total
	many        int    // how often, for ten calls
	single      bool   // it is remembered, and sent single calls from then on
	runsAgain   int    // how often each call that may be sent again was worked on, at most
	onceRuns    int    // how often each of the others was
}

const (
	rpcRight   = "right"
	rpcRubbish = "1502 bad_answer unknown"
)

// oddServers are those of docs/rpc.md. What breaks off, and what is busy, comes in both forms.
var oddServers = []oddServer{
	{name: "out of order", spoil: spoil{answer: answering(reversed)}, again: rpcRight, once: rpcRight, runsAgain: 1, onceRuns: 1},
	{name: "on a stream", spoil: spoil{answer: oneByOne}, again: rpcRight, once: rpcRight, runsAgain: 1, onceRuns: 1},
	{
		name: "twice", spoil: spoil{answer: answering(func(a []string) []string { return append(a, a...) })},
		again: rpcRight, once: rpcRight, counted: "duplicate", many: 10, runsAgain: 1, onceRuns: 1,
	},
	{
		name: "unknown ids", spoil: spoil{answer: answering(func(a []string) []string {
			return append([]string{`{"jsonrpc":"2.0","id":"nobody's","result":1}`, `{"jsonrpc":"2.0","id":0,"error":{"code":1,"message":"x"}}`}, a...)
		})},
		again: rpcRight, once: rpcRight, counted: "unknown", many: 2, runsAgain: 1, onceRuns: 1,
	},
	{
		name: "missing", spoil: spoil{answer: answering(func(a []string) []string { return a[:1] })},
		again: "right, 1502 bad_answer yes", once: "right, 1502 bad_answer yes", runsAgain: 1, onceRuns: 1,
	},
	{
		name: "one object", spoil: spoil{answer: func(w http.ResponseWriter, a []string) { sendJSON(w, a[0]) }},
		again: rpcRight, once: "right, " + rpcRubbish, single: true, runsAgain: 2, onceRuns: 1,
	},
	{
		name: "an empty array", spoil: spoil{answer: answering(func([]string) []string { return nil })},
		again: rpcRight, once: rpcRubbish, single: true, runsAgain: 2, onceRuns: 1,
	},
	{
		name: "not JSON-RPC", spoil: spoil{answer: func(w http.ResponseWriter, _ []string) { sendJSON(w, `{"ok":true}`) }},
		again: rpcRight, once: rpcRubbish, single: true, runsAgain: 2, onceRuns: 1,
	},
	{
		name: "not JSON", spoil: spoil{answer: func(w http.ResponseWriter, _ []string) { _, _ = fmt.Fprint(w, "<p>hello") }},
		again: rpcRight, once: rpcRubbish, single: true, runsAgain: 2, onceRuns: 1,
	},
	{
		name: "refused with 400", spoil: spoil{before: true, answer: saying(http.StatusBadRequest)},
		again: rpcRight, once: rpcRight, single: true, runsAgain: 1, onceRuns: 1,
	},
	{
		name: "refused with an error", spoil: spoil{before: true, answer: func(w http.ResponseWriter, _ []string) {
			sendJSON(w, `{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no arrays"}}`)
		}},
		again: rpcRight, once: rpcRight, single: true, runsAgain: 1, onceRuns: 1,
	},
	{
		name: "hangs", spoil: spoil{hang: true},
		again: "1504 call_timeout unknown", once: "1504 call_timeout unknown", runsAgain: 1, onceRuns: 1,
	},
	{
		name: "cut, nothing done", spoil: spoil{before: true, once: true, answer: cutting},
		again: rpcRight, once: "1502 broke_off unknown", runsAgain: 1,
	},
	{
		name: "cut, answer lost", spoil: spoil{once: true, answer: cutting},
		again: rpcRight, once: "1502 broke_off unknown", runsAgain: 2, onceRuns: 1,
	},
	{
		name: "busy, nothing done", spoil: spoil{before: true, once: true, answer: saying(http.StatusServiceUnavailable)},
		again: rpcRight, once: "1502 bad_answer yes", runsAgain: 1,
	},
	{
		name: "busy, answer lost", spoil: spoil{once: true, answer: saying(http.StatusServiceUnavailable)},
		again: rpcRight, once: "1502 bad_answer yes", runsAgain: 2, onceRuns: 1,
	},
}

func answering(change func([]string) []string) func(http.ResponseWriter, []string) {
	return func(w http.ResponseWriter, answers []string) { sendJSON(w, "["+strings.Join(change(answers), ",")+"]") }
}

func reversed(answers []string) []string {
	slices.Reverse(answers)
	return answers
}

// oneByOne sends each answer as an event of its own.
func oneByOne(w http.ResponseWriter, answers []string) {
	w.Header().Set("Content-Type", "text/event-stream")
	for _, answer := range answers {
		_, _ = fmt.Fprintf(w, "data: %s\n\n", answer)
	}
}

func saying(status int) func(http.ResponseWriter, []string) {
	return func(w http.ResponseWriter, _ []string) { w.WriteHeader(status) }
}

func cutting(http.ResponseWriter, []string) { panic(http.ErrAbortHandler) }

// TestOddServers: whatever a server does with an array, each call ends right, with its own answer or with an error that is
// true, and what may run once runs once.
func TestOddServers(t *testing.T) {
	t.Parallel()
	c := harness.Config{Upstreams: map[string]string{}, Top: "drain: 1s"}
	servers := map[string]*rpcServer{}
	for i, odd := range oddServers {
		for _, method := range []string{"get", "put"} {
			name := fmt.Sprint(method, i)
			servers[name] = startRPC(t)
			servers[name].spoil = odd.spoil
			c.Upstreams[name] = fmt.Sprintf("{url: %q, protocol: jsonrpc, batch: {max: 10, window: 30s}, "+
				"retry: {methods: [get]}, timeouts: {call: 2s}, breaker: off}", servers[name].url)
		}
	}
	d := harness.Start(t, c)
	for i, odd := range oddServers {
		for method, want := range map[string]string{"get": odd.again, "put": odd.once} {
			t.Run(odd.name+"/"+method, func(t *testing.T) {
				name := fmt.Sprint(method, i)
				s, a, keys := servers[name], d.Agent(t), keysOf(method, 10)
				odd.judge(t, s, method, keys, callAtOnce(t, a, name, method, keys), want)
				if n := droppedAs(d, name, odd.counted); n != odd.many {
					t.Errorf("%d are counted as %q, want %d", n, odd.counted, odd.many)
				}
				odd.isRemembered(t, s, a, name)
			})
		}
	}
}

// judge checks what each of ten calls got. Which of them was the first of its array is known by the server.
func (odd *oddServer) judge(t *testing.T, s *rpcServer, method string, keys []string, got map[string]harness.RPCAnswer, want string) {
	t.Helper()
	first, rest, two := strings.Cut(want, ", ")
	if !two {
		rest = first
	}
	led := s.leader(method)
	for _, key := range keys {
		expect := rest
		if key == led {
			expect = first
		}
		if g := gotten(got[key], key); g != expect {
			t.Errorf("%s: got %s, want %s", key, g, expect)
		}
		runs := s.runs(key)
		if method == "put" && runs != odd.onceRuns || method == "get" && (runs < 1 || runs > odd.runsAgain) {
			t.Errorf("%s was worked on %d times", key, runs)
		}
	}
}

// leader is the key of the first call of the first array of a method.
func (s *rpcServer) leader(method string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.posts {
		if p.array && p.calls[0].Method == method {
			return p.calls[0].Params.Key
		}
	}
	return ""
}

// gotten says in short what a call got.
func gotten(a harness.RPCAnswer, key string) string {
	switch {
	case a.Error == nil && valueOf(a).Key == key:
		return rpcRight
	case a.Error == nil:
		return string(a.Result)
	case a.Error.Data == nil:
		return fmt.Sprint(a.Error.Code)
	}
	return fmt.Sprintf("%d %s %s", a.Error.Code, a.Error.Data.Reason, a.Error.Data.Sent)
}

// droppedAs is how many messages in answers to arrays nobody got, for a reason.
func droppedAs(d *harness.Daemon, upstream, reason string) int {
	d.T.Helper()
	return int(d.Scrape().Sum("fluentd_perf_batch_dropped_total", fmt.Sprintf("upstream=%q", upstream), fmt.Sprintf("reason=%q", reason)))
}

// isRemembered checks whether the next ten calls come in an array.
func (odd *oddServer) isRemembered(t *testing.T, s *rpcServer, a *harness.Agent, name string) {
	t.Helper()
	s.seen()
	s.mu.Lock()
	s.spoil = spoil{} // it has come to its senses, which nobody tells the daemon
	s.mu.Unlock()
	keys := keysOf("later", 10)
	s.allRight(t, keys, callAtOnce(t, a, name, "put", keys), "")
	arrays, singles := s.seen()
	if odd.single && (len(arrays) != 0 || len(singles) != 10) || !odd.single && (len(arrays) != 1 || len(singles) != 0) {
		t.Errorf("later, arrays of %v and %d calls by themselves came", sizes(arrays), len(singles))
	}
}
