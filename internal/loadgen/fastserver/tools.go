package fastserver

import (
	"fmt"
	"strconv"
	"strings"
)

// The tools. Each gives back the key of its arguments, filled up to its size.
const (
	Small         = "small"          // an answer of 200 B
	Large         = "large"          // of 10 KB
	Huge          = "huge"           // of 1 MB
	Progress      = "progress"       // an event of progress, then an answer of 200 B, as a stream
	HugeInStream  = "huge_in_stream" // the same with 1 MB
	Wait          = "wait"           // 200 B, after `ms` milliseconds
	Sessions      = "/session"       // the path under which initialize gives a session id
	KeyWidth      = 10               // of the key in the arguments, in bytes
	idWidth       = 10               // of the ids for which sizes are exact
	maxWaitMs     = 60_000
	listTTLMs     = 300_000
	progressEvent = `{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":`
)

// tool is one of them.
type tool struct {
	name   string
	size   int // of the answer's JSON, in bytes
	stream bool
	waits  bool
}

var tools = []tool{
	{name: Small, size: 200}, {name: Large, size: 10 << 10}, {name: Huge, size: 1 << 20},
	{name: Progress, size: 200, stream: true}, {name: HugeInStream, size: 1 << 20, stream: true}, {name: Wait, size: 200, waits: true},
}

// Arguments returns the arguments for a tool with a key of KeyWidth bytes.
func Arguments(key string) string { return `{"key":"` + key + `"}` }

// WaitArguments returns those for Wait.
func WaitArguments(key string, ms int) string { return fmt.Sprintf(`{"key":"%s","ms":%d}`, key, ms) }

const (
	open       = `{"jsonrpc":"2.0","id":`
	middle     = `,"result":`
	resultOpen = `{"resultType":"complete","content":[{"type":"text","text":"`
	resultShut = `"}]}`
)

// Result returns the result of a tool for a key; "" for a tool that there is not.
func Result(name, key string) string {
	for _, t := range tools {
		if t.name == name {
			return resultOpen + key + t.fill() + resultShut
		}
	}
	return ""
}

// fill is what the text has behind the key.
func (t *tool) fill() string {
	return strings.Repeat("x", max(0, t.size-len(open)-idWidth-len(middle)-len(resultOpen)-KeyWidth-len(resultShut)-len("}")))
}

// ListResult returns the result of tools/list with a `ttlMs` as given.
func ListResult(ttl string) string {
	var b strings.Builder
	b.WriteString(`{"resultType":"complete","tools":[`)
	for i, t := range tools {
		if i > 0 {
			b.WriteByte(',')
		}
		properties := `"key":{"type":"string","description":"ten characters that are given back"}`
		if t.waits {
			properties += `,"ms":{"type":"integer","description":"how long the answer takes, in milliseconds"}`
		}
		fmt.Fprintf(&b, `{"name":"%s","description":"Gives the key back in an answer of %d bytes.","inputSchema":{"type":"object","properties":{%s},"required":["key"]},"annotations":{"readOnlyHint":true}}`,
			t.name, t.size, properties)
	}
	b.WriteString(`],"ttlMs":` + ttl + `,"cacheScope":"public"}`)
	return b.String()
}

const (
	serverInfo     = `{"name":"fluentd-perf-benchmark-server","version":"1"}`
	discoverResult = `{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}},"serverInfo":` + serverInfo + `,"ttlMs":300000,"cacheScope":"public"}`
	// initializeResult is for any version that a client names: the latest of the legacy ones.
	initializeResult = `{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":` + serverInfo + "}"
)

var listTTL = strconv.Itoa(listTTLMs)
