// What bends the standard passes as it is, and is neither kept, shared nor sent again.

package relay

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// manner is a way in which agents talk: without a session, in one, in the new era.
type manner struct {
	name    string
	fields  func(method string) []string
	request func(id, method string) string
}

var manners = []manner{
	{"without a session", func(string) []string { return nil }, harness.Request},
	{"in a session", func(string) []string { return []string{harness.SessionField, harness.LegacyVersionField} }, harness.Request},
	{"2025-03-26", func(string) []string { return []string{"MCP-Protocol-Version: 2025-03-26"} }, harness.Request},
	{"modern", func(method string) []string { _, fields := harness.Modern("1", method); return fields }, func(id, method string) string {
		body, _ := harness.Modern(id, method)
		return body
	}},
}

// TestSloppyRequestsPass: what the server gets is what the agent sent, and what the server says of it is what the agent
// gets, as often as it is sent, whatever the server makes of it.
func TestSloppyRequestsPass(t *testing.T) {
	t.Parallel()
	s, d := harness.StartMinimal(t)
	a := d.Agent(t)
	answers := []sloppyAnswer{
		{status: 202},
		{status: 200, kind: harness.JSONType, body: `{"jsonrpc":"2.0","id":7,"result":{"a":"b"}}`},
		{status: 200, kind: harness.SSEType, body: mcptest.EventText(harness.ProgressMessage) + mcptest.EventText(`[{"jsonrpc":"2.0","id":7,"result":{}}]`)},
		{status: 400, kind: "text/plain", body: "what do you mean?"},
		{status: 400, kind: harness.JSONType, body: `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}`},
	}
	for i, c := range sloppyRequests() {
		for j, m := range manners {
			answer := answers[(i+j)%len(answers)]
			t.Run(c.name+"/"+m.name, func(t *testing.T) {
				for range 2 {
					asked := s.Received()
					s.Script(answer.script)
					r := a.Post(c.body, append(m.fields("tools/call"), c.fields...)...)
					if r.Status != answer.status || r.Body != answer.body || r.Header.Get("Content-Type") != answer.kind {
						t.Fatalf("got %d %q %.200q, want %d %q", r.Status, r.Header.Get("Content-Type"), r.Body, answer.status, answer.body)
					}
					got := s.AwaitRequest(asked + 1)
					if string(got.Body) != c.body || s.Received() != asked+1 {
						t.Fatalf("the server got %d requests, the last %.200q, want %.200q", s.Received()-asked, got.Body, c.body)
					}
					for _, field := range c.fields {
						if name, value, _ := strings.Cut(field, ": "); got.Get(name) != value {
							t.Errorf("%s arrived as %q", field, got.Get(name))
						}
					}
				}
			})
		}
	}
	s.Script(mcptest.Minimal)
	a.Works()
}

// TestSloppyAnswersPass: what the agent gets is what the server sent, whatever is wrong with it; it is asked once, and once
// more for the next request.
func TestSloppyAnswersPass(t *testing.T) {
	t.Parallel()
	s, d := harness.StartMinimal(t)
	a := d.Agent(t)
	methods := []string{"tools/call", "tools/list", "prompts/get", "no/such"}
	for i, c := range sloppyAnswers() {
		for j, m := range manners {
			method := methods[(i+j)%len(methods)]
			id := []string{"7", `"7"`, `"a\u0062"`}[i%3]
			t.Run(c.name+"/"+m.name, func(t *testing.T) {
				asked, body := s.Received(), m.request(id, method)
				s.Script(c.script)
				r := a.Post(body, m.fields(method)...)
				s.Script(mcptest.Minimal)
				if r.Status != c.status || !harness.SameType(r, c.kind) || r.Body != c.said(id) {
					t.Fatalf("%s got %d %q %.300q, want %d %q %.300q", method, r.Status, r.Header.Get("Content-Type"), r.Body, c.status, c.kind, c.said(id))
				}
				for _, field := range c.fields {
					if name, value, _ := strings.Cut(field, ": "); r.Header.Get(name) != value {
						t.Errorf("%s arrived as %q", field, r.Header.Get(name))
					}
				}
				if got := s.AwaitRequest(asked + 1); string(got.Body) != body || s.Received() != asked+1 {
					t.Errorf("the server got %d requests, the last %q, want %q", s.Received()-asked, got.Body, body)
				}
				if again := a.Post(body, m.fields(method)...); string(again.RPC(t).Result) != mcptest.ToolResult || s.Received() != asked+2 {
					t.Errorf("the next one got %d %s, and the server %d in all", again.Status, again.Body, s.Received()-asked)
				}
			})
		}
	}
}

// TestSloppyAnswersToOthers: to a notification, an answer to the server's request and DELETE, too, the server says what it
// likes.
func TestSloppyAnswersToOthers(t *testing.T) {
	t.Parallel()
	s, d := harness.StartMinimal(t)
	a := d.Agent(t)
	for _, c := range sloppyAnswers() {
		for verb, body := range map[string]string{
			"POST": harness.Notification("notifications/initialized"), "POST an answer": `{"jsonrpc":"2.0","id":7,"result":{}}`, "DELETE": "",
		} {
			verb, _, _ := strings.Cut(verb, " ")
			if c.kind == harness.SSEType { // the events of a stream are told apart by the request that they belong to
				continue
			}
			s.Once(c.script)
			asked := s.Received()
			r := a.Must(verb, "/mcp/s", body, harness.SessionField, harness.LegacyVersionField)
			want := strings.ReplaceAll(c.body, "ID", idIn(body))
			if r.Status != c.status || r.Body != want || !harness.SameType(r, c.kind) || s.Received() != asked+1 {
				t.Errorf("%s to %s %.40q: got %d %q %.200q, %d requests", c.name, verb, body, r.Status, r.Header.Get("Content-Type"), r.Body, s.Received()-asked)
			}
		}
	}
	a.Works()
}

// idIn is the id of a message, as written.
func idIn(body string) string {
	var m struct{ ID json.RawMessage }
	_ = json.Unmarshal([]byte(body), &m) // what is empty has none
	return string(m.ID)
}

// TestErrorsForSloppyRequests: an error of the daemon's own has the id of what it understood, and only the HTTP status for
// what it did not. In both forms: nothing was done; the work was done and the answer lost.
func TestErrorsForSloppyRequests(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	c := harness.FaultConfig(t, s, "")
	d := harness.Start(t, c)
	a := d.Agent(t)
	for _, q := range sloppyRequests() {
		t.Run(q.name, func(t *testing.T) {
			got := a.Must(http.MethodPost, "/mcp/refused", q.body, q.fields...)
			q.failed(t, got, 1502, "refused", "connect", "no")
			for executions, script := range []mcptest.Script{mcptest.ResetBeforeHead, mcptest.Executing(mcptest.CutLength)} {
				ran, asked := s.Executions(), s.Received()
				s.Once(script)
				q.failed(t, a.Post(q.body, q.fields...), 1502, "s", "broke_off", "unknown yes")
				if s.Executions()-ran != executions || s.Received()-asked != 1 {
					t.Errorf("%d requests, %d executions", s.Received()-asked, s.Executions()-ran)
				}
			}
		})
	}
	t.Run("hung", func(t *testing.T) {
		s.Once(mcptest.Hang)
		opaque := sloppyRequest{opaque: true}
		got := a.Post("[" + harness.Request("1", "tools/list") + "]")
		opaque.failed(t, got, 1504, "s", "call_timeout", "unknown")
		if got.Took < harness.CallTimeout || got.Took > harness.CallTimeout+harness.Soon {
			t.Errorf("took %v, want timeouts.call, %v", got.Took, harness.CallTimeout)
		}
	})
	a.Works()
}

// failed checks an error of the daemon's for the request.
func (q *sloppyRequest) failed(t *testing.T, r harness.Reply, code int, upstream, reason, sent string) {
	t.Helper()
	status := http.StatusOK
	if q.id == "" {
		status = code - 1000
	}
	if r.Status != status || r.Header.Get("Content-Type") != harness.JSONType {
		t.Errorf("got %d %s %s, want %d", r.Status, r.Header.Get("Content-Type"), r.Body, status)
	}
	harness.CheckFailure(t, r.RPC(t), q.id, upstream, code, reason, sent)
	if q.id == "" && strings.Contains(r.Body, `"id":`) {
		t.Errorf("an id out of nowhere: %s", r.Body)
	}
}

// TestSloppyRequestsAreNeitherSharedNorSentAgain: two at once are two, and after a break-off the agent is told.
func TestSloppyRequestsAreNeitherSharedNorSentAgain(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := harness.Start(t, harness.OneUpstream(s.URL(), "breaker: off, cache: {ttl: {tools/list: 1m, resources/read: 1m}}"))
	a := d.Agent(t)
	harness.LegacyInitialize(a, s)
	read := `{"jsonrpc":"2.0","id":7,"method":"resources/read","params":{"uri":"a://caf` + "\xe9" + `"}}`
	for name, body := range map[string]string{
		"Latin-1":    read,
		"a mark":     "\ufeff" + harness.Request("7", "tools/list"),
		"null":       `{"jsonrpc":"2.0","id":7,"method":"tools/list","params":null}`,
		"an array":   "[" + harness.Request("7", "tools/list") + "]",
		"no version": `{"id":7,"method":"tools/list","params":{}}`,
	} {
		t.Run(name, func(t *testing.T) {
			const together = 3
			all := mcptest.NewBarrier(together)
			s.Script(func(x *mcptest.Exchange) {
				x.Wait(all.Arrive())
				x.JSON(`{"jsonrpc":"2.0","id":7,"result":{"tools":[],"contents":[]}}`)
			})
			asked := s.Received()
			var wg sync.WaitGroup
			for range together {
				own := d.Agent(t)
				wg.Go(func() {
					if r, err := own.Send(http.MethodPost, "/mcp/s", body, harness.LegacyVersionField); err != nil || r.Status != 200 {
						t.Errorf("%d %s, %v", r.Status, r.Body, err)
					}
				})
			}
			wg.Wait()
			if n := s.Received() - asked; n != together {
				t.Errorf("the server got %d of %d", n, together)
			}
			s.Script(mcptest.Minimal)
			for form, script := range []mcptest.Script{mcptest.ResetBeforeHead, mcptest.Executing(mcptest.CutLength)} {
				asked := s.Received()
				s.Once(script)
				if r := a.Post(body, harness.LegacyVersionField); !strings.Contains(r.Body, "broke_off") || s.Received() != asked+1 {
					t.Errorf("form %d: %d %s, sent %d times", form, r.Status, r.Body, s.Received()-asked)
				}
			}
		})
	}
}

// TestSloppyAnswersAreNotKept: an answer that would be kept for a minute is asked for again if there is something loose
// about it, and agents who wait for one together each ask for themselves.
func TestSloppyAnswersAreNotKept(t *testing.T) {
	t.Parallel()
	for _, c := range sloppyAnswers() {
		if strings.Contains(c.name, "event") || c.status != 200 {
			continue // those that are one event are in the table as JSON, too
		}
		switch c.name {
		case "no blank behind the colon", "data in two lines", "lines that end with CRLF", "lines that end with CR", "an event with empty data",
			"fields of nobody's", "an id with a blank and a retry", "upper case", "another JSON", "trailers",
			"a byte order mark before a stream", "an id as a number", "an id as a fraction":
			continue // sound answers
		case "the mark that others end with", "the answer twice", "rubbish behind the answer":
			continue // the answer itself is sound
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := mcptest.NewServer(t, mcptest.Minimal)
			d := harness.Start(t, harness.OneUpstream(s.URL(), "breaker: off, cache: {ttl: {tools/list: 1m}}"))
			harness.LegacyInitialize(d.Agent(t), s)
			const together = 2
			arrived := make(chan struct{}, 16)
			open := mcptest.NewGate()
			s.Script(func(x *mcptest.Exchange) {
				arrived <- struct{}{}
				x.Wait(open.Opened())
				c.script(x)
			})
			asked := s.Received()
			var wg sync.WaitGroup
			for i := range together {
				a := d.Agent(t)
				wg.Go(func() {
					id := fmt.Sprint(i + 7)
					r, err := a.Send(http.MethodPost, "/mcp/s", harness.Request(id, "tools/list"), harness.LegacyVersionField)
					if err != nil || r.Status != 200 || r.Body != c.said(id) {
						t.Errorf("request %s: %d %.200q, %v", id, r.Status, r.Body, err)
					}
				})
			}
			<-arrived
			open.Open()
			wg.Wait()
			d.Agent(t).Post(harness.Request("9", "tools/list"), harness.LegacyVersionField)
			if n := s.Received() - asked; n != together+1 {
				t.Errorf("the server was asked %d times for %d", n, together+1)
			}
		})
	}
}

// TestOpaqueRequestsInvalidate: for all that is known an array is a write. What its credential was given to keep by the
// operator is asked for again, before the array is answered and after.
func TestOpaqueRequestsInvalidate(t *testing.T) {
	t.Parallel()
	m := harness.StartModern(t, harness.ModernOptions{JSON: true})
	d := harness.Start(t, harness.OneUpstream(m.URL, "cache: {ttl: {resources/read: 10m}}"))
	a := d.Agent(t)
	read := func() int {
		t.Helper()
		got := a.Ask("/mcp/s", "resources/read", `"uri":"item://1"`, harness.Bearer("ada"))
		if got.Serial == 0 {
			t.Fatalf("%d %s", got.Status, got.Body)
		}
		return got.Serial
	}
	body, fields := harness.ModernRequest("7", "tools/call", `"name":"echo","arguments":{"a":"`+"\xe9"+`"}`)
	for name, write := range map[string]string{
		"an array": "[" + harness.Request("1", "tools/call") + "]", "rubbish": "{", "a name twice": `{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}`, "a loose call": body,
	} {
		first := read()
		if again := read(); again != first {
			t.Errorf("%s: asked twice before it: answer %d, then %d", name, first, again)
		}
		own := []string{harness.Bearer("ada")}
		if name == "a loose call" {
			own = append(fields, own...)
		}
		a.Post(write, own...)
		if after := read(); after == first {
			t.Errorf("%s: a read after it is answered with what was kept", name)
		}
	}
}

// TestBodiesThatAreNotBegun: an answer with a length of nothing, or none at all, ends at once.
func TestBodiesThatAreNotBegun(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	a := harness.Start(t, harness.FaultConfig(t, s, "")).Agent(t)
	for name, head := range map[string]string{
		"204 without a length": mcptest.Head(204, ""),
		"202 with a type":      mcptest.Head(202, harness.JSONType, "Content-Length: 0"),
		"200 in no chunks":     mcptest.Head(200, harness.JSONType, "Transfer-Encoding: chunked") + "0\r\n\r\n",
		"a stream of nothing":  mcptest.Head(202, harness.SSEType, "Content-Length: 0"),
	} {
		s.Once(func(x *mcptest.Exchange) {
			x.Write(head)
			x.Whole()
		})
		want := strings.Fields(head)[1]
		r := a.Post(harness.Request("7", "tools/call"))
		if fmt.Sprint(r.Status) != want || r.Body != "" || r.Took > harness.Soon {
			t.Errorf("%s: got %d %q after %v", name, r.Status, r.Body, r.Took)
		}
	}
	a.Works()
}
