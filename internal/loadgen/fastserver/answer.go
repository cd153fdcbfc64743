package fastserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"fluentd-perf/internal/mcp"
)

// ready is an answer of a tool in pieces: the id goes in front of mid, the key behind it.
type ready struct {
	tool       *tool
	body, rest []byte // what stands between id and key, and behind the key
}

func newReady(t *tool) *ready {
	return &ready{tool: t, body: []byte(middle + resultOpen), rest: []byte(t.fill() + resultShut + "}")}
}

// size returns the length of the answer's JSON.
func (r *ready) size(id, key []byte) int {
	return len(open) + len(id) + len(r.body) + len(key) + len(r.rest)
}

func (r *ready) append(out, id, key []byte) []byte {
	out = append(append(out, open...), id...)
	out = append(append(out, r.body...), key...)
	return append(out, r.rest...)
}

// answer answers one request.
func (x *exchange) answer(r request) error {
	switch r.verb {
	case "POST":
		return x.post(r)
	case "GET":
		if r.path == CountsPath {
			return x.counts()
		}
		return x.stream()
	case "DELETE":
		return x.write(head(200, 0))
	}
	return x.write(head(405, 0))
}

// head is the head of an answer without a body.
func head(status, length int) []byte {
	return fmt.Appendf(nil, "HTTP/1.1 %d OK\r\nContent-Length: %d\r\n\r\n", status, length)
}

func (x *exchange) write(b []byte) error {
	_, err := x.conn.Write(b)
	return err
}

func (x *exchange) counts() error {
	body, err := json.Marshal(x.server.Counts())
	if err != nil {
		return err
	}
	return x.write(append(fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", len(body)), body...))
}

// stream is a GET stream on which nothing comes, until the client leaves.
func (x *exchange) stream() error {
	x.server.streams.Add(1)
	defer x.server.streams.Add(-1)
	if err := x.write([]byte(streamHead)); err != nil {
		return err
	}
	var one [1]byte // there may be ten thousand of them
	for {
		if _, err := x.conn.Read(one[:]); err != nil {
			return err
		}
	}
}

const (
	streamHead = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache, no-transform\r\nTransfer-Encoding: chunked\r\n\r\n"
	jsonHead   = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
)

// post answers a message, or an array of them.
func (x *exchange) post(r request) error {
	x.server.posts.Add(1)
	var m mcp.Message
	if err := mcp.Scan(x.body, &m); err != nil {
		return x.write(head(400, 0))
	}
	switch m.Kind {
	case mcp.KindBatch:
		return x.array()
	case mcp.KindRequest:
		x.server.calls.Add(1)
		return x.request(r, &m)
	}
	return x.write(head(202, 0))
}

// request answers one request.
func (x *exchange) request(r request, m *mcp.Message) error {
	name := toolIn(x.body, m)
	if tool := x.server.ready[name]; tool != nil {
		return x.callTool(tool, m)
	}
	if extra := &x.server.extra; extra.Run != nil && r.path == extra.Path {
		switch {
		case extra.has(name):
			x.out = x.server.appendExtra(x.out[:0], name, m.ID.Of(x.body))
			return x.sendJSON("")
		case m.Method == mcp.MethodToolsList:
			x.out = extra.appendList(x.out[:0], m.ID.Of(x.body))
			return x.sendJSON("")
		}
	}
	fields := ""
	if m.Method == mcp.MethodInitialize && r.path == Sessions {
		fields = fmt.Sprintf("Mcp-Session-Id: benchmark-%d\r\n", x.server.sessions.Add(1))
	}
	x.out = x.appendResult(x.out[:0], x.body, m)
	return x.sendJSON(fields)
}

// sendJSON sends what is in out as the answer's body.
func (x *exchange) sendJSON(fields string) error {
	whole := make([]byte, 0, len(jsonHead)+len(fields)+len(x.out)+32)
	whole = strconv.AppendInt(append(whole, jsonHead...), int64(len(x.out)), 10)
	whole = append(append(append(append(whole, "\r\n"...), fields...), "\r\n"...), x.out...)
	return x.write(whole)
}

// callTool answers a call of a tool, in one write or, as a stream, in two.
func (x *exchange) callTool(r *ready, m *mcp.Message) error {
	id, key := m.ID.Of(x.body), keyIn(x.body)
	if r.tool.waits {
		time.Sleep(waitIn(x.body))
	}
	size := int64(r.size(id, key))
	out := x.out[:0]
	if r.tool.stream {
		event := append(append([]byte("data: "), progressOf(x.body, m)...), "\n\n"...)
		if err := x.write(append(fmt.Appendf([]byte(streamHead), "%x\r\n", len(event)), append(event, "\r\n"...)...)); err != nil {
			return err
		}
		out = append(strconv.AppendInt(out, size+int64(len("data: \n\n")), 16), "\r\ndata: "...)
		out = append(r.append(out, id, key), "\n\n\r\n0\r\n\r\n"...)
	} else {
		out = append(strconv.AppendInt(append(out, jsonHead...), size, 10), "\r\n\r\n"...)
		out = r.append(out, id, key)
	}
	x.out = out
	return x.write(out)
}

// progressOf is the notification that a call of a tool with progress has.
func progressOf(body []byte, m *mcp.Message) []byte {
	return append(append([]byte(progressEvent), m.ProgressToken.Of(body)...), `,"progress":1}}`...)
}

// appendResult appends the answer to any request but a call of a tool.
func (x *exchange) appendResult(out, body []byte, m *mcp.Message) []byte {
	out = append(append(out, open...), m.ID.Of(body)...)
	result := ""
	switch {
	case m.Method == mcp.MethodInitialize:
		result = initializeResult
	case m.Method == mcp.MethodServerDiscover:
		result = discoverResult
	case m.Method == mcp.MethodToolsList:
		result = listed
	case m.Method == mcp.MethodPing:
		result = "{}"
	case string(unquoted(m.MethodName.Of(body))) == Small: // plain JSON-RPC
		result = resultOpen + string(keyIn(body)) + smallFill + resultShut
	default:
		return append(out, `,"error":{"code":-32601,"message":"method not found"}}`...)
	}
	return append(append(append(out, middle...), result...), '}')
}

var (
	listed    = ListResult(listTTL)
	smallFill = tools[0].fill()
)

// array answers the calls of an array in an array (JSON-RPC 2.0, section 6).
func (x *exchange) array() error {
	elements, err := mcp.Elements(nil, x.body, mcp.MaxElements)
	if err != nil {
		return x.write(head(400, 0))
	}
	n := int64(len(elements))
	x.server.calls.Add(n)
	for most := x.server.maxBatch.Load(); n > most && !x.server.maxBatch.CompareAndSwap(most, n); most = x.server.maxBatch.Load() {
	}
	out := append(x.out[:0], '[')
	for i, span := range elements {
		element := span.Of(x.body)
		var m mcp.Message
		if err := mcp.Scan(element, &m); err != nil || m.Kind != mcp.KindRequest {
			return x.write(head(400, 0))
		}
		if i > 0 {
			out = append(out, ',')
		}
		out = x.appendResult(out, element, &m)
	}
	x.out = append(out, ']')
	return x.sendJSON("")
}

// keyIn returns the key in the arguments; nothing where there is none.
func keyIn(body []byte) []byte {
	const name = `"key":"`
	at := bytes.Index(body, []byte(name))
	if at < 0 || at+len(name)+KeyWidth > len(body) {
		return nil
	}
	at += len(name)
	return body[at : at+KeyWidth]
}

// waitIn returns how long an answer is to take.
func waitIn(body []byte) time.Duration {
	_, rest, _ := bytes.Cut(body, []byte(`"ms":`))
	ms := 0
	for _, c := range rest {
		if c < '0' || c > '9' || ms > maxWaitMs {
			break
		}
		ms = 10*ms + int(c-'0')
	}
	return time.Duration(min(ms, maxWaitMs)) * time.Millisecond
}

// unquoted returns what is between the quotes of a string without escapes.
func unquoted(token []byte) []byte {
	if len(token) < 2 {
		return nil
	}
	return token[1 : len(token)-1]
}
