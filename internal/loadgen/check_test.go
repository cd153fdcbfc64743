package loadgen_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/fastserver"
	"fluentd-perf/internal/mcp"
)

const accepted = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"

// answerWith is a whole answer with a result; ID in it becomes the request's id.
func answerWith(result string, fields ...string) string {
	return jsonWith(`{"jsonrpc":"2.0","id":ID,"result":`+result+`}`, fields...)
}

func jsonWith(body string, fields ...string) string {
	head := "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
	for _, f := range fields {
		head += f + "\r\n"
	}
	return head + fmt.Sprintf("Content-Length: %d\r\n\r\n", len(strings.ReplaceAll(body, "ID", "1234567890"))) + body
}

func eventsWith(text string) string {
	text = strings.ReplaceAll(text, "ID", "1234567890")
	return strings.ReplaceAll(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(text), text), "1234567890", "ID")
}

// scriptedTarget answers requests with these texts in their order, over connections in memory, and hangs up after the last one.
func scriptedTarget(t *testing.T, answers []string) *loadgen.Target {
	t.Helper()
	next := make(chan string, len(answers))
	for _, a := range answers {
		next <- a
	}
	close(next)
	return &loadgen.Target{Host: "scripted", Path: "/mcp", Era: mcp.EraModern, Dial: func(context.Context) (net.Conn, error) {
		client, server := net.Pipe()
		go serveScript(server, next)
		return client, nil
	}}
}

func serveScript(conn net.Conn, next <-chan string) {
	defer func() { _ = conn.Close() }()
	br := bufio.NewReader(conn)
	for {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		body, err := io.ReadAll(r.Body)
		answer, ok := <-next
		if err != nil || !ok {
			return
		}
		_, id, _ := strings.Cut(string(body), `"id":`)
		id, _, _ = strings.Cut(id, ",")
		_, key, _ := strings.Cut(string(body), `"key":"`)
		key, _, _ = strings.Cut(key, `"`)
		if _, err := io.WriteString(conn, strings.NewReplacer("ID", id, "KEYKEYKEYK", key).Replace(answer)); err != nil {
			return
		}
		if strings.HasSuffix(answer, cut) {
			return
		}
	}
}

// cut ends a script's answer that is not whole.
const cut = "\x00"

var (
	small           = fastserver.Result(fastserver.Small, "KEYKEYKEYK")
	known, unknown  = toolCall(fastserver.Small), loadgen.ToolCall("x", `{"key":"`+loadgen.KeyMark+`"}`)
	progress, fails = progressCall(fastserver.Small), failing(unknown)
)

// failing is a call of which the right answer is an error.
func failing(k loadgen.Kind) loadgen.Kind {
	k.Error = true
	return k
}

const notification = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":1,\"progress\":1}}\n\n"

// answers are answers to a call, and what is wrong with each.
var answers = map[string]struct {
	kind   loadgen.Kind
	answer string
	fault  string // "": none
}{
	"right":                   {known, answerWith(small), ""},
	"right, written its way":  {known, jsonWith(`{"result":` + small + `, "id":ID, "jsonrpc":"2.0"}`), ""},
	"right, after 103":        {known, "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + answerWith(small), ""},
	"right, as an event":      {known, eventsWith("data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":" + small + "}\n\n"), ""},
	"right, with progress":    {progress, eventsWith(notification + "id: 1\ndata: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":" + small + "}\n\n"), ""},
	"right, lines by CRLF":    {known, eventsWith("event: message\r\ndata: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":" + small + "}\r\n\r\n"), ""},
	"unknown and right":       {unknown, answerWith(`{"content":[]}`), ""},
	"no progress":             {progress, answerWith(small), loadgen.FaultBody},
	"no progress in a stream": {progress, eventsWith("data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":" + small + "}\n\n"), loadgen.FaultBody},
	"another's answer":        {known, answerWith(fastserver.Result(fastserver.Small, "0123456789")), loadgen.FaultBody},
	"another body":            {known, answerWith(strings.Replace(small, "x", "y", 1)), loadgen.FaultBody},
	"a longer body":           {known, answerWith(small[:len(small)-1] + `,"a":1}`), loadgen.FaultBody},
	"another id":              {known, jsonWith(`{"jsonrpc":"2.0","id":7,"result":` + small + `}`), loadgen.FaultMalformed},
	"the id as text":          {unknown, jsonWith(`{"jsonrpc":"2.0","id":"ID","result":{}}`), loadgen.FaultMalformed},
	"an error":                {known, jsonWith(`{"jsonrpc":"2.0","id":ID,"error":{"code":1,"message":"x"}}`), loadgen.FaultError},
	"an error, as wanted":     {fails, jsonWith(`{"jsonrpc":"2.0","id":ID,"error":{"code":1,"message":"x"}}`), ""},
	"no error, as wanted":     {fails, answerWith(`{}`), loadgen.FaultBody},
	"another's error":         {fails, jsonWith(`{"jsonrpc":"2.0","id":7,"error":{"code":1,"message":"x"}}`), loadgen.FaultError},
	"a tool's error":          {unknown, answerWith(`{"content":[],"isError":true}`), loadgen.FaultTool},
	"a request":               {unknown, jsonWith(`{"jsonrpc":"2.0","id":ID,"method":"ping"}`), loadgen.FaultMalformed},
	"no JSON":                 {unknown, jsonWith(`{"jsonrpc":"2.0","id":ID,"result":{}`), loadgen.FaultMalformed},
	"nothing":                 {unknown, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", loadgen.FaultMalformed},
	"a stream without it":     {unknown, eventsWith(notification), loadgen.FaultMalformed},
	"the answer twice":        {known, eventsWith(strings.Repeat("data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":"+small+"}\n\n", 2)), loadgen.FaultMalformed},
	"an unknown one twice":    {unknown, eventsWith(strings.Repeat("data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}}\n\n", 2)), loadgen.FaultMalformed},
	"an error in a stream":    {unknown, eventsWith("data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"error\":{\"code\":1,\"message\":\"x\"}}\n\n"), loadgen.FaultError},
	"status 202":              {unknown, accepted, loadgen.FaultStatus},
	"status 500":              {unknown, "HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\nno", loadgen.FaultStatus},
	"status 204":              {unknown, "HTTP/1.1 204 No Content\r\n\r\n", loadgen.FaultStatus},
	"not HTTP":                {unknown, "hello\r\n\r\n", loadgen.FaultMalformed},
	"HTTP/1.0":                {unknown, "HTTP/1.0 200 OK\r\n\r\n{}", loadgen.FaultMalformed},
	"a bad length":            {unknown, "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}", loadgen.FaultMalformed},
	"a bad chunk":             {unknown, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", loadgen.FaultMalformed},
	"a huge length":           {unknown, "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n{}", loadgen.FaultMalformed},
	"a long line":             {unknown, "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 1<<16) + "\r\n\r\n{}", loadgen.FaultMalformed},
	"cut in the head":         {unknown, "HTTP/1.1 200 OK\r\nContent-" + cut, loadgen.FaultBroke},
	"cut in the body":         {unknown, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{" + cut, loadgen.FaultBroke},
	"cut in a chunk":          {unknown, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{" + cut, loadgen.FaultBroke},
	"cut between chunks":      {unknown, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n" + cut, loadgen.FaultBroke},
}

// TestWrongAnswers has a server answer wrongly in each way, and wants each to be told.
func TestWrongAnswers(t *testing.T) {
	for name, c := range answers {
		t.Run(name, func(t *testing.T) {
			// The second answer is right: the first one must not be in its way.
			target := scriptedTarget(t, []string{c.answer, answerWith(small)})
			second := c.kind
			if second.Progress || second.Error {
				second = known
			}
			work := &loadgen.Work{Kinds: []loadgen.Kind{c.kind, second}, Pick: func(n int64) (int, int64) { return int(n), n }}
			tally, err := clientsOf(t, target).Run(t.Context(), loadgen.Load{Loop: loadgen.Closed, Concurrency: 1, Requests: 2}, work, nil)
			if err != nil {
				t.Fatal(err)
			}
			r := tally.Round()
			switch {
			case c.fault == "" && r.Succeeded != 2:
				t.Errorf("%d succeeded: %s", r.Succeeded, r.FirstFault)
			case c.fault != "" && (r.Succeeded != 1 || r.Faults[c.fault] != 1):
				t.Errorf("%d succeeded, %v, want one %s: %s", r.Succeeded, r.Faults, c.fault, r.FirstFault)
			case r.Service.Count != r.Succeeded:
				t.Errorf("%d times for %d calls that succeeded", r.Service.Count, r.Succeeded)
			}
		})
	}
}

// TestWrongArrays is the same for arrays of calls.
func TestWrongArrays(t *testing.T) {
	one := `{"jsonrpc":"2.0","id":ID,"result":` + small + `}`
	for name, c := range map[string]struct{ body, fault string }{
		"one is missing": {"[" + one + "]", loadgen.FaultMalformed},
		"one twice":      {"[" + one + "," + one + "]", loadgen.FaultMalformed},
		"no array":       {one, loadgen.FaultMalformed},
		"an error":       {"[" + one + `,{"jsonrpc":"2.0","id":ID,"error":{"code":1,"message":"x"}}]`, loadgen.FaultError},
		"another body":   {"[" + strings.Replace(one, "x", "y", 1) + "," + one + "]", loadgen.FaultBody},
	} {
		target := scriptedTarget(t, []string{jsonWith(c.body)})
		target.Era = mcp.EraPlain
		// The lengths of the ids in one are the same, however many there are.
		tally, _ := clientsOf(t, target).Run(t.Context(), loadgen.Load{Loop: loadgen.Closed, Concurrency: 1, Requests: 1}, loadgen.Only(plainCall(2)), nil)
		if r := tally.Round(); r.Faults[c.fault] != 1 {
			t.Errorf("%s: %v, want %s: %s", name, r.Faults, c.fault, r.FirstFault)
		}
	}
}

// TestCacheStatus counts answers by the last member of Cache-Status, which is this daemon's.
func TestCacheStatus(t *testing.T) {
	answers := []string{
		answerWith(`{}`, "Cache-Status: fluentd-perf; hit; ttl=3; detail=memory"),
		answerWith(`{}`, "cache-status: other; fwd=miss, fluentd-perf; hit; ttl=-1"),
		answerWith(`{}`, "Cache-Status: fluentd-perf; fwd=miss; collapsed"),
		answerWith(`{}`, "Cache-Status: fluentd-perf; fwd=bypass"),
		answerWith(`{}`, "Cache-Status: other; hit"),
		answerWith(`{}`),
	}
	tally, err := clientsOf(t, scriptedTarget(t, answers)).Run(t.Context(), loadgen.Load{Loop: loadgen.Closed, Concurrency: 1, Requests: 6}, loadgen.Only(loadgen.List()), nil)
	if err != nil {
		t.Fatal(err)
	}
	r := tally.Round()
	if want := (loadgen.CacheCounts{Hits: 2, Collapsed: 1, Misses: 1, None: 2}); r.Cache != want || r.Cache.HitShare() != 0.5 {
		t.Errorf("%+v, want %+v", r.Cache, want)
	}
	if r.Hits.Count != 3 || r.Misses.Count != 3 {
		t.Errorf("%d times of hits, %d of misses", r.Hits.Count, r.Misses.Count)
	}
}
