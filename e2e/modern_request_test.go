package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
)

// modernRequest is a complete 2026-07-28 request: its body, and the header fields that belong to it. Params are members
// of the object, without braces and without `_meta`, as in `"uri":"item://1"`.
func modernRequest(id, method, params string) (body string, fields []string) {
	if params != "" {
		params += ","
	}
	body = fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":{%s"_meta":{`+
		`"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}}}`, id, method, params)
	fields = []string{"MCP-Protocol-Version: 2026-07-28", "Mcp-Method: " + method}
	var named struct{ Params struct{ Name, URI string } }
	_ = json.Unmarshal([]byte(body), &named) // a test may send what is not JSON
	switch method {
	case "tools/call", "prompts/get":
		fields = append(fields, "Mcp-Name: "+named.Params.Name)
	case "resources/read":
		fields = append(fields, "Mcp-Name: "+named.Params.URI)
	}
	return body, fields
}

// answered is an answer of a modernServer, whatever way it came.
type answered struct {
	reply
	id     string
	fault  *rpcError // nil where there is a result
	ttl    int       // ttlMs; -1 where there is none
	scope  string
	asker  string   // who had asked for it
	serial int      // which answer of the server's it is: the same one twice means that it came from a cache
	tools  []string // names
	text   string   // of what was read, or of a call
}

// ask sends a 2026-07-28 request with an id of its own and returns the answer. The id that comes back is checked.
func (a *agent) ask(path, method, params string, fields ...string) answered {
	a.t.Helper()
	got, err := a.tryAsk(path, method, params, fields...)
	if err != nil {
		a.t.Fatalf("%s: %v", method, err)
	}
	return got
}

// tryAsk is ask for goroutines other than the test's.
func (a *agent) tryAsk(path, method, params string, fields ...string) (answered, error) {
	id := fmt.Sprint(rand.IntN(1 << 30))
	body, own := modernRequest(id, method, params)
	r, err := a.send(http.MethodPost, path, body, append(own, fields...)...)
	if err != nil {
		return answered{reply: r}, err
	}
	got, err := decodeAnswer(r)
	if err == nil && got.status == http.StatusOK && got.id != id {
		err = fmt.Errorf("the answer's id is %s, the request's was %s", got.id, id)
	}
	return got, err
}

// as is the header field of a credential.
func as(token string) string { return "Authorization: Bearer " + token }

// tier is the tier that the answer came from, or "stale-error" and the like; "" if it was no hit (RFC 9211).
func (a answered) tier() string {
	for member := range strings.SplitSeq(a.header.Get("Cache-Status"), ",") {
		if strings.HasPrefix(strings.TrimSpace(member), "fluentd-perf; hit;") {
			_, detail, _ := strings.Cut(member, "detail=")
			return detail
		}
	}
	return ""
}

// decodeAnswer reads an answer. One that is not JSON-RPC has its status and body alone.
func decodeAnswer(r reply) (answered, error) {
	got := answered{reply: r, ttl: -1}
	text := r.body
	if strings.HasPrefix(r.header.Get("Content-Type"), "text/event-stream") {
		for line := range strings.Lines(r.body) {
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				text = data // of the last event; no server here writes data of more than one line
			}
		}
	}
	if r.status != http.StatusOK && !json.Valid([]byte(text)) {
		return got, nil
	}
	var message rpcAnswer
	if err := json.Unmarshal([]byte(text), &message); err != nil {
		return got, fmt.Errorf("%d, not a JSON-RPC answer: %q (%w)", r.status, r.body, err)
	}
	got.id, got.fault = string(message.ID), message.Error
	if message.Result == nil {
		return got, nil
	}
	var result struct {
		TTLMs      *int
		CacheScope string
		Meta       map[string]any `json:"_meta"`
		Tools      []struct{ Name string }
		Contents   []struct{ Text string }
		Content    []struct{ Text string }
	}
	if err := json.Unmarshal(message.Result, &result); err != nil {
		return got, fmt.Errorf("%s: %w", message.Result, err)
	}
	if result.TTLMs != nil {
		got.ttl = *result.TTLMs
	}
	got.scope = result.CacheScope
	got.asker, _ = result.Meta[metaAsker].(string)
	serial, _ := result.Meta[metaAnswer].(float64)
	got.serial = int(serial)
	for _, tool := range result.Tools {
		got.tools = append(got.tools, tool.Name)
	}
	for _, content := range append(result.Contents, result.Content...) {
		got.text += content.Text
	}
	return got, nil
}
