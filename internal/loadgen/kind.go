package loadgen

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"fluentd-perf/internal/mcp"
)

// Kind is one sort of call that a load is made of.
type Kind struct {
	Name     string // in reports
	Method   string // of JSON-RPC
	Tool     string // for Mcp-Name (2026-07-28), the name of the tool of tools/call; "" for none
	Params   string // members of params as JSON, without braces and `_meta`; KeyMark in it becomes the call's key
	Progress bool   // asks for progress, so that the answer is a stream with an event before it
	Result   string // what the result has to be, to the byte, with KeyMark and TTLMark; "" is any result that is not the tool's error
	Error    bool   // the right answer is a JSON-RPC error
	Array    int    // above 0: so many calls in one array, of plain JSON-RPC
	Session  bool   // no call, but the life of a session: connect, open, list the tools, leave. The rest is not looked at but for Name
}

// Work says what each call of a load is.
type Work struct {
	Kinds []Kind
	// Pick returns the kind of the nth call, an index of Kinds, and its key, of which the last 9 digits count. It is called from
	// several goroutines.
	Pick func(n int64) (kind int, key int64)
}

// Only is the work that has one kind of call, each with a key of its own, which no other Work of this program has.
func Only(k Kind) *Work {
	first := NewKeys()
	return &Work{Kinds: []Kind{k}, Pick: func(n int64) (int, int64) { return 0, first + n }}
}

// ToolCall is a call of a tool with these arguments, as JSON.
func ToolCall(tool, arguments string) Kind {
	name, _ := json.Marshal(tool) // a string is never refused
	return Kind{Name: tool, Method: "tools/call", Tool: tool, Params: fmt.Sprintf(`"name":%s,"arguments":%s`, name, arguments)}
}

// List is a call of tools/list.
func List() Kind { return Kind{Name: "tools/list", Method: "tools/list"} }

// message is a request for one target in one session, ready but for its ids and keys.
type message struct {
	kind      *Kind
	text      []byte
	ids, keys []int // where they go in text
	answer    *pattern
	result    *pattern
}

// newMessage makes the request of a kind.
func newMessage(t *Target, k *Kind, session string) *message {
	m := &message{kind: k}
	body := t.body(k)
	if k.Array > 0 {
		body = "[" + strings.TrimSuffix(strings.Repeat(body+",", k.Array), ",") + "]"
	}
	m.text = t.request(session, k, body)
	m.ids, m.keys = marksIn(m.text, idMark), marksIn(m.text, KeyMark)
	if k.Result != "" {
		m.result = newPattern(k.Result)
		m.answer = newPattern(`{"jsonrpc":"2.0","id":` + idMark + `,"result":` + k.Result + "}")
	}
	return m
}

// marksIn returns where a mark stands.
func marksIn(text []byte, mark string) (at []int) {
	for i := 0; ; {
		next := strings.Index(string(text[i:]), mark)
		if next < 0 {
			return at
		}
		i += next
		at = append(at, i)
		i += width
	}
}

// fill puts the id and the key of a call into the text. Calls of an array have ids that follow each other, and one key.
func (m *message) fill(id, key int64) {
	perCall := max(1, len(m.ids)/max(1, m.kind.Array))
	for i, at := range m.ids {
		putNumber(m.text[at:], id+int64(i/perCall))
	}
	for _, at := range m.keys {
		putNumber(m.text[at:], key)
	}
}

// id and key return the bytes that fill has put there; nil where there are none.
func (m *message) id() []byte { return m.at(m.ids) }

func (m *message) key() []byte { return m.at(m.keys) }

func (m *message) at(places []int) []byte {
	if len(places) == 0 {
		return nil
	}
	return m.text[places[0] : places[0]+width]
}

// body returns the JSON of one call, with its marks.
func (t *Target) body(k *Kind) string {
	params := k.Params
	if meta := t.meta(k); meta != "" {
		if params != "" {
			params += ","
		}
		params += `"_meta":{` + meta + "}"
	}
	if params != "" || t.Era != mcp.EraPlain {
		params = `,"params":{` + params + "}"
	}
	return `{"jsonrpc":"2.0","id":` + idMark + `,"method":` + strconv.Quote(k.Method) + params + "}"
}

// meta returns the members of `_meta`.
func (t *Target) meta(k *Kind) string {
	var members []string
	if t.Era == mcp.EraModern {
		members = append(members, `"io.modelcontextprotocol/protocolVersion":"`+mcp.Version20260728+`"`,
			`"io.modelcontextprotocol/clientInfo":`+t.clientInfo(), `"io.modelcontextprotocol/clientCapabilities":{}`)
	}
	if k.Progress {
		members = append(members, `"progressToken":`+idMark)
	}
	return strings.Join(members, ",")
}

// clientInfo is what the generator calls itself.
func (t *Target) clientInfo() string {
	return `{"name":"fluentd-perf-benchmark","version":"` + cmp.Or(t.Version, "1") + `"}`
}
