package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"
)

// message is what the server reads of a message.
type message struct {
	ID     json.RawMessage
	Method string
	Params struct {
		URI       string
		Arguments struct {
			Token string
			Ms    int // how long the work takes, in milliseconds
		}
		Key, As, Token string                     // of a plain server
		Meta           map[string]json.RawMessage `json:"_meta"`
	}
}

const versionKey = "io.modelcontextprotocol/protocolVersion"

// answerMCP answers a POST of MCP's.
func (f *faulty) answerMCP(r *http.Request, m *message) answer {
	who := tokenOf(r)
	if a, refused := f.refuse(r, m, who); refused {
		return a
	}
	if m.ID == nil {
		return answer{status: http.StatusAccepted}
	}
	if m.Method == "initialize" {
		return f.initialize(m, who)
	}
	result, found := f.result(m, who)
	if !found {
		return f.framed(m, who, fmt.Sprintf(`"error":{"code":-32601,"message":"no such method","data":{"seal":%q}}`, f.seal("error", who)))
	}
	return f.framed(m, who, `"result":`+result)
}

// arrayOfOne returns the message of an array that has no other.
func arrayOfOne(body []byte) (*message, bool) {
	var array []message
	if json.Unmarshal(body, &array) != nil || len(array) != 1 {
		return nil, false
	}
	return &array[0], true
}

// answerArray answers an array of one by an array of one, as JSON.
func (f *faulty) answerArray(r *http.Request, m *message) answer {
	who := tokenOf(r)
	if a, refused := f.refuse(r, m, who); refused {
		return a
	}
	outcome := fmt.Sprintf(`"error":{"code":-32601,"message":"no such method","data":{"seal":%q}}`, f.seal("error", who))
	if result, found := f.result(m, who); found {
		outcome = `"result":` + result
	}
	return jsonAnswer(fmt.Sprintf(`[{"jsonrpc":"2.0","id":%s,%s}]`, m.ID, outcome))
}

// refuse turns down what does not fit the kind of server: no agent of the chaos run does such a thing, so that the daemon
// did, unless the session is lost.
func (f *faulty) refuse(r *http.Request, m *message, who string) (answer, bool) {
	if f.kind == "modern" {
		if _, ok := m.Params.Meta[versionKey]; !ok {
			f.note("! %s without a version for %s", m.Method, who)
			return text(http.StatusBadRequest, "no version"), true
		}
		return answer{}, false
	}
	if f.kind != "sessions" || m.Method == "initialize" {
		return answer{}, false
	}
	switch owner, ok := f.sessions.owner(r.Header.Get(sessionHeader)); {
	case !ok:
		return text(http.StatusNotFound, "session not found "+f.seal("lost")), true
	case owner != who:
		f.note("! %s for %s in a session of %s", m.Method, who, owner)
	}
	return answer{}, false
}

func (f *faulty) initialize(m *message, who string) answer {
	a := answer{status: http.StatusOK, content: "application/json"}
	if f.kind == "sessions" {
		a.header = map[string]string{sessionHeader: f.sessions.open(who)}
	}
	a.body = fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-11-25",`+
		`"capabilities":{"tools":{},"resources":{},"logging":{}},"serverInfo":{"name":"faulty","version":"1"},"instructions":%q}}`,
		m.ID, f.seal("initialize", who))
	return a
}

// result does what is asked and returns the result.
func (f *faulty) result(m *message, who string) (string, bool) {
	switch m.Method {
	case "server/discover":
		if f.kind != "modern" {
			return "", false
		}
		return f.hinted("private", fmt.Sprintf(`"supportedVersions":["2026-07-28"],"capabilities":{"tools":{"listChanged":%t},"resources":{}},"instructions":%q`,
			f.changes, f.seal("discover", who))), true
	case "ping", "logging/setLevel":
		return `{}`, true
	case "tools/list":
		return f.hinted("private", fmt.Sprintf(`"tools":[{"name":"work","inputSchema":{"type":"object"}},{"name":"of-%s-%s","inputSchema":{"type":"object"}}]`,
			who, f.seal("list", who))), true
	case "resources/read":
		return f.read(m.Params.URI, who), true
	case "tools/call":
		return f.work(m.Params.Arguments.Token, m.Params.Arguments.Ms, who), true
	}
	return "", false
}

// read gives `item:` to everybody alike and all else to each his own.
func (f *faulty) read(uri, who string) string {
	scope, seal := "private", f.seal("read", uri, who)
	if strings.HasPrefix(uri, "item:") {
		scope, seal = "public", f.seal("read", uri)
	}
	return f.hinted(scope, fmt.Sprintf(`"contents":[{"uri":%q,"text":%q}]`, uri, seal))
}

// work is the call with a side effect.
func (f *faulty) work(token string, ms int, who string) string {
	pause(time.Duration(ms) * time.Millisecond)
	f.note("%s", token)
	return fmt.Sprintf(`{"resultType":"complete","content":[{"type":"text","text":%q}]}`, f.seal("work", token, who))
}

// hinted is a result that may be kept for a second.
func (f *faulty) hinted(scope, members string) string {
	if f.kind != "modern" {
		return "{" + members + "}"
	}
	return fmt.Sprintf(`{"resultType":"complete","ttlMs":1000,"cacheScope":%q,%s}`, scope, members)
}

// framed makes an answer of it: JSON, or a stream in which a notification may come first.
func (f *faulty) framed(m *message, who, outcome string) answer {
	body := fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,%s}`, m.ID, outcome)
	if rand.IntN(2) == 0 {
		return answer{status: http.StatusOK, content: "application/json", body: body}
	}
	events := "event: message\ndata: " + body + "\n\n"
	if m.Method == "tools/call" && f.kind != "modern" {
		events = "data: " + f.notice(who) + "\n\n" + events
	}
	return answer{status: http.StatusOK, content: "text/event-stream", body: events}
}

// notice is a notification for one principal alone.
func (f *faulty) notice(who string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":%q}}`, f.seal("notice", who))
}
