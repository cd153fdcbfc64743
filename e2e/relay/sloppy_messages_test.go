// Requests and answers that bend the standard.

package relay

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"maps"
	"slices"
	"strings"

	"fluentd-perf/e2e/harness"
	"fluentd-perf/internal/mcptest"
)

// sloppyRequest is a body that agents of the field post though the standard has it otherwise. What a daemon need not
// understand passes as it came (docs/design.md, "What need not be understood passes").
type sloppyRequest struct {
	name   string
	body   string
	opaque bool     // nobody knows what it is: it has no id for an error of the daemon's
	id     string   // of a loose request, as written; "" for what is no request
	fields []string // beside those of every POST
}

// sloppyRequests are all kinds, a few of each.
func sloppyRequests() []sloppyRequest {
	call := func(argument string) string {
		return `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":{"a":"` + argument + `"}}}`
	}
	const ping = `{"jsonrpc":"2.0","id":7,"method":"ping"}`
	deep := strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)
	return append(looseRequests(call, ping),
		sloppyRequest{name: "not JSON", body: "hello", opaque: true},
		sloppyRequest{name: "a blank", body: " ", opaque: true},
		sloppyRequest{name: "cut", body: call("x")[:40], opaque: true},
		sloppyRequest{name: "two messages", body: ping + "\n" + ping, opaque: true},
		sloppyRequest{name: "something behind the end", body: ping + "\x00", opaque: true},
		sloppyRequest{name: "an array", body: " [" + ping + ",\n" + harness.Notification("x") + "] ", opaque: true},
		sloppyRequest{name: "an array of one", body: "[" + call("x") + "]", opaque: true},
		sloppyRequest{name: "an array of answers", body: `[{"jsonrpc":"2.0","id":7,"result":{}}]`, opaque: true},
		sloppyRequest{name: "an empty array", body: "[]", opaque: true},
		sloppyRequest{name: "an array of rubbish", body: `[1,"a",null]`, opaque: true},
		sloppyRequest{name: "a scalar", body: "42", opaque: true},
		sloppyRequest{name: "null", body: "null", opaque: true},
		sloppyRequest{name: "two ids", body: `{"jsonrpc":"2.0","id":7,"id":8,"method":"ping"}`, opaque: true},
		sloppyRequest{name: "two methods", body: `{"jsonrpc":"2.0","id":7,"method":"ping","\u006dethod":"tools/call"}`, opaque: true},
		sloppyRequest{name: "two params", body: `{"jsonrpc":"2.0","id":7,"method":"ping","params":{},"params":{"a":1}}`, opaque: true},
		sloppyRequest{name: "no version", body: `{"id":7,"method":"ping"}`, opaque: true},
		sloppyRequest{name: "version 1.0", body: `{"jsonrpc":"1.0","id":7,"method":"ping"}`, opaque: true},
		sloppyRequest{name: "a method that is a number", body: `{"jsonrpc":"2.0","id":7,"method":5}`, opaque: true},
		sloppyRequest{name: "an id that is an object", body: `{"jsonrpc":"2.0","id":{},"method":"ping"}`, opaque: true},
		sloppyRequest{name: "params that are text", body: `{"jsonrpc":"2.0","id":7,"method":"ping","params":"a"}`, opaque: true},
		sloppyRequest{name: "10,000 deep", body: `{"jsonrpc":"2.0","id":7,"method":"ping","params":{"a":` + deep + `}}`, opaque: true},
		sloppyRequest{name: "a raw newline in a string", body: call("a\nb"), opaque: true},
		sloppyRequest{name: "NaN", body: `{"jsonrpc":"2.0","id":7,"method":"ping","params":{"a":NaN}}`, opaque: true},
		sloppyRequest{name: "UTF-16", body: utf16(ping), opaque: true},
		sloppyRequest{name: "gzip", body: gzipped(ping), opaque: true, fields: []string{"Content-Encoding: gzip"}},
		sloppyRequest{name: "not gzip", body: ping, opaque: true, fields: []string{"Content-Encoding: gzip"}},
	)
}

func looseRequests(call func(argument string) string, ping string) []sloppyRequest {
	return []sloppyRequest{
		{name: "half of a surrogate pair", body: call(`cut \ud83d`), id: "7"},
		{name: "the other half", body: call(`\ude00 cut`), id: "7"},
		{name: "a pair the wrong way round", body: call(`\ude00\ud83d`), id: "7"},
		{name: "a lone surrogate in a name", body: strings.Replace(call("x"), `"a":`, `"\ud800":`, 1), id: "7"},
		{name: "Latin-1", body: call("caf\xe9"), id: "7"},
		{name: "an overlong slash", body: call("\xc0\xaf"), id: "7"},
		{name: "a character cut in two", body: call("\xf0\x9f\x98"), id: "7"},
		{name: "a byte order mark", body: "\ufeff" + ping, id: "7"},
		{name: "params that are null", body: `{"jsonrpc":"2.0","id":7,"method":"tools/list","params":null}`, id: "7"},
		{name: "a notification with params that are null", body: `{"jsonrpc":"2.0","method":"notifications/initialized","params":null}`},
		{name: "an id alone", body: `{"jsonrpc":"2.0","id":1}`},
		{name: "an id alone, text", body: `{"id":"a","jsonrpc":"2.0"}`},
		{name: "an answer with an error that is null", body: `{"jsonrpc":"2.0","id":1,"result":{},"error":null}`},
		{name: "an answer with a result that is null", body: `{"jsonrpc":"2.0","id":1,"result":null,"error":{"code":1,"message":"m"}}`},
		{name: "an answer in Latin-1", body: "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"a\":\"\xe9\"}}"},
	}
}

// sloppyAnswer is what servers of the field answer a request with. ID stands for the request's own id.
type sloppyAnswer struct {
	name   string
	status int
	kind   string // the content type
	body   string
	fields []string
	chunks string // if not "": the body goes in chunks, with these trailer fields behind it
}

// script answers with it.
func (s sloppyAnswer) script(x *mcptest.Exchange) {
	body := strings.ReplaceAll(s.body, "ID", x.ID())
	switch {
	case s.chunks != "":
		half := len(body) / 2
		x.Write(mcptest.Head(s.status, s.kind, append(s.fields, "Transfer-Encoding: chunked", "Trailer: X-Sum")...) +
			chunk(body[:half]) + chunk(body[half:]) + "0\r\n" + s.chunks + "\r\n\r\n")
		x.Whole()
	case s.kind == harness.SSEType && s.status == 200:
		st := x.Stream(s.fields...)
		st.Raw(body)
		st.End()
	default:
		x.Say(s.status, s.kind, body, s.fields...)
	}
}

// said is the body that answers a request of that id.
func (s sloppyAnswer) said(id string) string { return strings.ReplaceAll(s.body, "ID", id) }

// sloppyBodies are answers whose bodies are not what they should be, whatever frames them.
func sloppyBodies() map[string]string {
	result := func(text string) string {
		return `{"jsonrpc":"2.0","id":ID,"result":{"content":[{"type":"text","text":"` + text + `"}]}}`
	}
	const tools = `{"jsonrpc":"2.0","id":ID,"result":{"tools":[]}`
	return map[string]string{
		"half of a surrogate pair":      result(`cut \ud83d`),
		"the other half":                result(`\udc00`),
		"a lone surrogate in a name":    `{"jsonrpc":"2.0","id":ID,"result":{"\ud800":1}}`,
		"Latin-1":                       result("caf\xe9"),
		"a character cut in two":        result("\xe2\x82"),
		"an error that is null":         tools + `,"error":null}`,
		"a result that is null":         `{"jsonrpc":"2.0","id":ID,"result":null,"error":{"code":-32603,"message":"m"}}`,
		"both":                          tools + `,"error":{"code":1,"message":"m"}}`,
		"neither":                       `{"jsonrpc":"2.0","id":ID}`,
		"an array of one":               "[" + tools + "}]",
		"an array with a notification":  "[" + harness.Notification("notifications/message") + "," + tools + "}]",
		"an empty array":                "[]",
		"an id as text":                 strings.Replace(tools, "ID", `"7"`, 1) + "}",
		"an id as a number":             strings.Replace(tools, "ID", `7`, 1) + "}",
		"an id as a fraction":           strings.Replace(tools, "ID", `7.0`, 1) + "}",
		"an id of nobody's":             strings.Replace(tools, "ID", `"nobody"`, 1) + "}",
		"an id that is null":            strings.Replace(tools, "ID", `null`, 1) + "}",
		"no id":                         `{"jsonrpc":"2.0","result":{"tools":[]}}`,
		"an error of an id of nobody's": `{"jsonrpc":"2.0","id":99,"error":{"code":-32603,"message":"m"}}`,
		"an error that is text":         `{"jsonrpc":"2.0","id":ID,"error":"broken"}`,
		"no version":                    `{"id":ID,"result":{"tools":[]}}`,
		"version 1.0":                   `{"jsonrpc":"1.0","id":ID,"result":{"tools":[]}}`,
		"JSON, not JSON-RPC":            `{"ok":true}`,
		"not JSON":                      "<html>no</html>",
		"cut":                           tools,
		"two messages":                  tools + "} " + tools + "}",
		"two results":                   tools + `,"result":{}}`,
		"NaN":                           `{"jsonrpc":"2.0","id":ID,"result":{"a":NaN}}`,
		"a tab in a string":             result("a\tb"),
		"10,000 deep":                   `{"jsonrpc":"2.0","id":ID,"result":{"a":` + strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000) + `}}`,
	}
}

// sloppyAnswers are answers with status 200 or another one that says that all is well: the bodies as JSON and as events, and
// what is sloppy in the framing.
func sloppyAnswers() (all []sloppyAnswer) {
	add := func(name string, status int, kind, body string, fields ...string) {
		all = append(all, sloppyAnswer{name: name, status: status, kind: kind, body: body, fields: fields})
	}
	bodies := sloppyBodies()
	for _, name := range slices.Sorted(maps.Keys(bodies)) {
		add(name, 200, harness.JSONType, bodies[name])
		add(name+", an event", 200, harness.SSEType, mcptest.EventText(bodies[name]))
	}
	const good = `{"jsonrpc":"2.0","id":ID,"result":{"tools":[]}}`
	add("a byte order mark", 200, harness.JSONType, "\ufeff"+good)
	add("a byte order mark in an event", 200, harness.SSEType, mcptest.EventText("\ufeff"+good))
	add("a byte order mark before a stream", 200, harness.SSEType, "\ufeff"+mcptest.EventText(good))
	add("UTF-16", 200, harness.JSONType+"; charset=utf-16", utf16(good))
	add("text/plain", 200, "text/plain", good)
	add("text/html", 200, "text/html; charset=latin-1", "<h1>caf\xe9</h1>")
	add("octets", 200, "application/octet-stream", "\x00\xff")
	add("another JSON", 200, "application/problem+json", good)
	add("a content type that is none", 200, "a;;=", good)
	add("no content type", 200, "", good)
	add("upper case", 200, "Application/JSON; Charset=UTF-8", good)
	add("an empty body", 200, harness.JSONType, "")
	add("an empty body of nothing", 200, "", "")
	add("an empty stream's blank", 200, "text/plain", "\n")
	add("no content", 204, "", "")
	add("accepted", 202, "", "")
	add("accepted, with a body", 202, harness.JSONType, `{"ok":true}`)
	add("accepted, in text", 202, "text/plain", "Accepted")
	add("created", 201, harness.JSONType, good)
	add("gzip", 200, harness.JSONType, gzipped(good), "Content-Encoding: gzip")
	add("an encoded stream", 200, harness.SSEType, gzipped(mcptest.EventText(good)), "Content-Encoding: gzip")
	add("an encoding of nobody's", 200, harness.JSONType, good, "Content-Encoding: x-none")
	all = append(all, sloppyAnswer{name: "trailers", status: 200, kind: harness.JSONType, body: good, chunks: "X-Sum: 1"})
	return append(all, sloppyStreams(good)...)
}

// sloppyStreams are event streams in which more than the one answer stands.
func sloppyStreams(good string) (all []sloppyAnswer) {
	event := mcptest.EventText(good)
	bodies := map[string]string{
		"rubbish before the answer":        mcptest.EventText("rubbish") + event,
		"rubbish behind the answer":        event + mcptest.EventText("rubbish"),
		"the answer twice":                 event + event,
		"another's answer first":           mcptest.EventText(`{"jsonrpc":"2.0","id":99,"result":{}}`) + event,
		"a notification in Latin-1":        mcptest.EventText("{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"params\":{\"a\":\"\xe9\"}}") + event,
		"lines that end with CR":           "event: message\rdata: " + good + "\r\r",
		"lines that end with CRLF":         ": hello\r\n\r\nid: 1\r\ndata: " + good + "\r\n\r\n",
		"no blank behind the colon":        "data:" + good + "\n\n",
		"fields of nobody's":               "foo: bar\ndata: " + good + "\n\n",
		"data in two lines":                "data: {\"jsonrpc\":\"2.0\",\"id\":ID,\ndata: \"result\":{}}\n\n",
		"an event without data":            "event: ping\n\n" + event,
		"an event with empty data":         "data:\n\n" + event,
		"a ping as an event of its own":    "event: ping\ndata: {}\n\n" + event,
		"the mark that others end with":    event + "data: [DONE]\n\n",
		"an id with a blank and a retry":   "retry: x\nid:  a b \n" + event,
		"a request of the server's before": mcptest.EventText(`{"jsonrpc":"2.0","id":1,"method":"roots/list"}`) + event,
	}
	for _, name := range slices.Sorted(maps.Keys(bodies)) {
		all = append(all, sloppyAnswer{name: name, status: 200, kind: harness.SSEType, body: bodies[name]})
	}
	return all
}

func chunk(text string) string {
	return fmt.Sprintf("%x\r\n%s\r\n", len(text), text)
}

func gzipped(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(text)) // a buffer takes everything
	_ = w.Close()
	return b.String()
}

// utf16 is ASCII text in UTF-16, with a byte order mark.
func utf16(text string) string {
	var b strings.Builder
	b.WriteString("\xff\xfe")
	for i := range len(text) {
		b.WriteString(text[i:i+1] + "\x00")
	}
	return b.String()
}
