package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"fluentd-perf/internal/mcptest"
)

// manner is a way in which agents talk: without a session, in one, in the new era.
type manner struct {
	name    string
	fields  func(method string) []string
	request func(id, method string) string
}

var manners = []manner{
	{"without a session", func(string) []string { return nil }, request},
	{"in a session", func(string) []string { return []string{session, version} }, request},
	{"2025-03-26", func(string) []string { return []string{"MCP-Protocol-Version: 2025-03-26"} }, request},
	{"modern", func(method string) []string { _, fields := modern("1", method); return fields }, func(id, method string) string {
		body, _ := modern(id, method)
		return body
	}},
}

// TestSloppyRequestsPass: what the server gets is what the agent sent, and what the server says of it is what the agent
// gets, as often as it is sent, whatever the server makes of it.
func TestSloppyRequestsPass(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := runSidecar(t, faultConf(t, s, ""))
	a := d.agent(t)
	answers := []sloppyAnswer{
		{status: 202},
		{status: 200, kind: jsonType, body: `{"jsonrpc":"2.0","id":7,"result":{"a":"b"}}`},
		{status: 200, kind: sseType, body: mcptest.EventText(progress) + mcptest.EventText(`[{"jsonrpc":"2.0","id":7,"result":{}}]`)},
		{status: 400, kind: "text/plain", body: "what do you mean?"},
		{status: 400, kind: jsonType, body: `{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"Parse error"}}`},
	}
	for i, c := range sloppyRequests() {
		for j, m := range manners {
			answer := answers[(i+j)%len(answers)]
			t.Run(c.name+"/"+m.name, func(t *testing.T) {
				for range 2 {
					asked := s.Received()
					s.Script(answer.script)
					r := a.post(c.body, append(m.fields("tools/call"), c.fields...)...)
					if r.status != answer.status || r.body != answer.body || r.header.Get("Content-Type") != answer.kind {
						t.Fatalf("got %d %q %.200q, want %d %q", r.status, r.header.Get("Content-Type"), r.body, answer.status, answer.body)
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
	a.works()
}

// TestSloppyAnswersPass: what the agent gets is what the server sent, whatever is wrong with it; it is asked once, and once
// more for the next request.
func TestSloppyAnswersPass(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := runSidecar(t, faultConf(t, s, ""))
	a := d.agent(t)
	methods := []string{"tools/call", "tools/list", "prompts/get", "no/such"}
	for i, c := range sloppyAnswers() {
		for j, m := range manners {
			method := methods[(i+j)%len(methods)]
			id := []string{"7", `"7"`, `"a\u0062"`}[i%3]
			t.Run(c.name+"/"+m.name, func(t *testing.T) {
				asked, body := s.Received(), m.request(id, method)
				s.Script(c.script)
				r := a.post(body, m.fields(method)...)
				s.Script(mcptest.Minimal)
				if r.status != c.status || !sameType(r, c.kind) || r.body != c.said(id) {
					t.Fatalf("%s got %d %q %.300q, want %d %q %.300q", method, r.status, r.header.Get("Content-Type"), r.body, c.status, c.kind, c.said(id))
				}
				for _, field := range c.fields {
					if name, value, _ := strings.Cut(field, ": "); r.header.Get(name) != value {
						t.Errorf("%s arrived as %q", field, r.header.Get(name))
					}
				}
				if got := s.AwaitRequest(asked + 1); string(got.Body) != body || s.Received() != asked+1 {
					t.Errorf("the server got %d requests, the last %q, want %q", s.Received()-asked, got.Body, body)
				}
				if again := a.post(body, m.fields(method)...); string(again.rpc(t).Result) != mcptest.ToolResult || s.Received() != asked+2 {
					t.Errorf("the next one got %d %s, and the server %d in all", again.status, again.body, s.Received()-asked)
				}
			})
		}
	}
}

// sameType reports whether the content type arrived. One that the server did not name must not be made up.
func sameType(r reply, kind string) bool {
	got, has := r.header["Content-Type"]
	return !has && kind == "" || len(got) == 1 && got[0] == kind
}

// TestSloppyAnswersToOthers: to a notification, an answer to the server's request and DELETE, too, the server says what it
// likes.
func TestSloppyAnswersToOthers(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := runSidecar(t, faultConf(t, s, ""))
	a := d.agent(t)
	for _, c := range sloppyAnswers() {
		for verb, body := range map[string]string{
			"POST": notification("notifications/initialized"), "POST an answer": `{"jsonrpc":"2.0","id":7,"result":{}}`, "DELETE": "",
		} {
			verb, _, _ := strings.Cut(verb, " ")
			if c.kind == sseType { // the events of a stream are told apart by the request that they belong to
				continue
			}
			s.Once(c.script)
			asked := s.Received()
			r := a.must(verb, "/mcp/s", body, session, version)
			want := strings.ReplaceAll(c.body, "ID", idIn(body))
			if r.status != c.status || r.body != want || !sameType(r, c.kind) || s.Received() != asked+1 {
				t.Errorf("%s to %s %.40q: got %d %q %.200q, %d requests", c.name, verb, body, r.status, r.header.Get("Content-Type"), r.body, s.Received()-asked)
			}
		}
	}
	a.works()
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
	c := faultConf(t, s, "")
	d := runSidecar(t, c)
	a := d.agent(t)
	for _, q := range sloppyRequests() {
		t.Run(q.name, func(t *testing.T) {
			got := a.must(http.MethodPost, "/mcp/refused", q.body, q.fields...)
			q.failed(t, got, 1502, "refused", "connect", "no")
			for executions, script := range []mcptest.Script{mcptest.ResetBeforeHead, mcptest.Executing(mcptest.CutLength)} {
				ran, asked := s.Executions(), s.Received()
				s.Once(script)
				q.failed(t, a.post(q.body, q.fields...), 1502, "s", "broke_off", "unknown yes")
				if s.Executions()-ran != executions || s.Received()-asked != 1 {
					t.Errorf("%d requests, %d executions", s.Received()-asked, s.Executions()-ran)
				}
			}
		})
	}
	t.Run("hung", func(t *testing.T) {
		s.Once(mcptest.Hang)
		opaque := sloppyRequest{opaque: true}
		got := a.post("[" + request("1", "tools/list") + "]")
		opaque.failed(t, got, 1504, "s", "call_timeout", "unknown")
		if got.took < callTimeout || got.took > callTimeout+soon {
			t.Errorf("took %v, want timeouts.call, %v", got.took, callTimeout)
		}
	})
	a.works()
}

// failed checks an error of the daemon's for the request.
func (q *sloppyRequest) failed(t *testing.T, r reply, code int, upstream, reason, sent string) {
	t.Helper()
	status := http.StatusOK
	if q.id == "" {
		status = code - 1000
	}
	if r.status != status || r.header.Get("Content-Type") != jsonType {
		t.Errorf("got %d %s %s, want %d", r.status, r.header.Get("Content-Type"), r.body, status)
	}
	checkFailure(t, r.rpc(t), q.id, upstream, code, reason, sent)
	if q.id == "" && strings.Contains(r.body, `"id":`) {
		t.Errorf("an id out of nowhere: %s", r.body)
	}
}

// TestSloppyRequestsAreNeitherSharedNorSentAgain: two at once are two, and after a break-off the agent is told.
func TestSloppyRequestsAreNeitherSharedNorSentAgain(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	d := runSidecar(t, one(s.URL(), "breaker: off, cache: {ttl: {tools/list: 1m, resources/read: 1m}}"))
	a := d.agent(t)
	legacyInitialize(a, s)
	read := `{"jsonrpc":"2.0","id":7,"method":"resources/read","params":{"uri":"a://caf` + "\xe9" + `"}}`
	for name, body := range map[string]string{
		"Latin-1":    read,
		"a mark":     "\ufeff" + request("7", "tools/list"),
		"null":       `{"jsonrpc":"2.0","id":7,"method":"tools/list","params":null}`,
		"an array":   "[" + request("7", "tools/list") + "]",
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
				own := d.agent(t)
				wg.Go(func() {
					if r, err := own.send(http.MethodPost, "/mcp/s", body, version); err != nil || r.status != 200 {
						t.Errorf("%d %s, %v", r.status, r.body, err)
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
				if r := a.post(body, version); !strings.Contains(r.body, "broke_off") || s.Received() != asked+1 {
					t.Errorf("form %d: %d %s, sent %d times", form, r.status, r.body, s.Received()-asked)
				}
			}
		})
	}
}

// legacyInitialize opens an upstream without session ids, so that the daemon knows what it is.
func legacyInitialize(a *agent, s *mcptest.Server) {
	a.t.Helper()
	s.Once(func(x *mcptest.Exchange) {
		x.Result(`{"protocolVersion":"2025-11-25","capabilities":{"tools":{},"prompts":{},"resources":{}},"serverInfo":{"name":"s","version":"1"}}`)
	})
	if r := a.post(initialize); r.status != http.StatusOK {
		a.t.Fatalf("initialize: %d %s", r.status, r.body)
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
			d := runSidecar(t, one(s.URL(), "breaker: off, cache: {ttl: {tools/list: 1m}}"))
			legacyInitialize(d.agent(t), s)
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
				a := d.agent(t)
				wg.Go(func() {
					id := fmt.Sprint(i + 7)
					r, err := a.send(http.MethodPost, "/mcp/s", request(id, "tools/list"), version)
					if err != nil || r.status != 200 || r.body != c.said(id) {
						t.Errorf("request %s: %d %.200q, %v", id, r.status, r.body, err)
					}
				})
			}
			<-arrived
			open.Open()
			wg.Wait()
			d.agent(t).post(request("9", "tools/list"), version)
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
	m := startModern(t, modernOptions{json: true})
	d := runSidecar(t, one(m.url, "cache: {ttl: {resources/read: 10m}}"))
	a := d.agent(t)
	read := func() int {
		t.Helper()
		got := a.ask("/mcp/s", "resources/read", `"uri":"item://1"`, as("ada"))
		if got.serial == 0 {
			t.Fatalf("%d %s", got.status, got.body)
		}
		return got.serial
	}
	body, fields := modernRequest("7", "tools/call", `"name":"echo","arguments":{"a":"`+"\xe9"+`"}`)
	for name, write := range map[string]string{
		"an array": "[" + request("1", "tools/call") + "]", "rubbish": "{", "a name twice": `{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}`, "a loose call": body,
	} {
		first := read()
		if again := read(); again != first {
			t.Errorf("%s: asked twice before it: answer %d, then %d", name, first, again)
		}
		own := []string{as("ada")}
		if name == "a loose call" {
			own = append(fields, own...)
		}
		a.post(write, own...)
		if after := read(); after == first {
			t.Errorf("%s: a read after it is answered with what was kept", name)
		}
	}
}

// TestRestartNoticeForSloppyRequests: what may do anything is told that its session began anew, and not sent; once.
func TestRestartNoticeForSloppyRequests(t *testing.T) {
	t.Parallel()
	for _, q := range []sloppyRequest{
		{name: "an array", body: "[" + request("1", "tools/list") + "]", opaque: true},
		{name: "rubbish", body: "{", opaque: true},
		{name: "a loose call", body: `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"work","arguments":{"token":"\ud800"}}}`, id: "7"},
		{name: "a call behind a mark", body: "\ufeff" + `{"jsonrpc":"2.0","id":"seven","method":"tools/call","params":{"name":"work"}}`, id: `"seven"`},
	} {
		t.Run(q.name, func(t *testing.T) {
			t.Parallel()
			f, d := runHealing(t, "")
			k := d.begin(t)
			f.restart()
			k.right(k.list())
			asked := f.Received()
			r := k.say(q.body)
			checkFailure(t, r.rpc(t), q.id, "s", 1410, "session_restarted", "no")
			if status := map[bool]int{true: 410, false: 200}[q.opaque]; r.status != status {
				t.Errorf("HTTP %d, want %d", r.status, status)
			}
			if n := f.Received(); n != asked {
				t.Errorf("the server got %d of it", n-asked)
			}
			k.say(q.body)
			if got := f.AwaitRequest(asked + 1); string(got.Body) != q.body || got.Get("Mcp-Session-Id") != "s2" {
				t.Errorf("the next one arrived as %q in %q", got.Body, got.Get("Mcp-Session-Id"))
			}
			k.right(k.call("after"))
		})
	}
}

// TestBodiesThatAreNotBegun: an answer with a length of nothing, or none at all, ends at once.
func TestBodiesThatAreNotBegun(t *testing.T) {
	t.Parallel()
	s := mcptest.NewServer(t, mcptest.Minimal)
	a := runSidecar(t, faultConf(t, s, "")).agent(t)
	for name, head := range map[string]string{
		"204 without a length": mcptest.Head(204, ""),
		"202 with a type":      mcptest.Head(202, jsonType, "Content-Length: 0"),
		"200 in no chunks":     mcptest.Head(200, jsonType, "Transfer-Encoding: chunked") + "0\r\n\r\n",
		"a stream of nothing":  mcptest.Head(202, sseType, "Content-Length: 0"),
	} {
		s.Once(func(x *mcptest.Exchange) {
			x.Write(head)
			x.Whole()
		})
		want := strings.Fields(head)[1]
		r := a.post(request("7", "tools/call"))
		if fmt.Sprint(r.status) != want || r.body != "" || r.took > 500*time.Millisecond {
			t.Errorf("%s: got %d %q after %v", name, r.status, r.body, r.took)
		}
	}
	a.works()
}
