package harness

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
)

// ModernRequest is a complete 2026-07-28 request: its body, and the header fields that belong to it. Params are members
// of the object, without braces and without `_meta`, as in `"uri":"item://1"`.
func ModernRequest(id, method, params string) (body string, fields []string) {
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

// Answered is an answer of a ModernServer, whatever way it came.
type Answered struct {
	Reply
	id        string
	Fault     *RPCError // nil where there is a result
	TTL       int       // ttlMs; -1 where there is none
	Scope     string
	Principal string   // who had asked for it
	Serial    int      // which answer of the server's it is: the same one twice means that it came from a cache
	Tools     []string // names
	Text      string   // of what was read, or of a call
}

// Ask sends a 2026-07-28 request with an id of its own and returns the answer. The id that comes back is checked.
func (a *Agent) Ask(path, method, params string, fields ...string) Answered {
	a.T.Helper()
	got, err := a.TryAsk(path, method, params, fields...)
	if err != nil {
		a.T.Fatalf("%s: %v", method, err)
	}
	return got
}

// TryAsk is ask for goroutines other than the test's.
func (a *Agent) TryAsk(path, method, params string, fields ...string) (Answered, error) {
	id := fmt.Sprint(rand.IntN(1 << 30))
	body, own := ModernRequest(id, method, params)
	r, err := a.Send(http.MethodPost, path, body, append(own, fields...)...)
	if err != nil {
		return Answered{Reply: r}, err
	}
	got, err := decodeAnswer(r)
	if err == nil && got.Status == http.StatusOK && got.id != id {
		err = fmt.Errorf("the answer's id is %s, the request's was %s", got.id, id)
	}
	return got, err
}

// decodeAnswer reads an answer. One that is not JSON-RPC has its status and body alone.
func decodeAnswer(r Reply) (Answered, error) {
	got := Answered{Reply: r, TTL: -1}
	text := r.Body
	if strings.HasPrefix(r.Header.Get("Content-Type"), "text/event-stream") {
		for line := range strings.Lines(r.Body) {
			if data, ok := strings.CutPrefix(line, "data: "); ok {
				text = data // of the last event; no server here writes data of more than one line
			}
		}
	}
	if r.Status != http.StatusOK && !json.Valid([]byte(text)) {
		return got, nil
	}
	var message RPCAnswer
	if err := json.Unmarshal([]byte(text), &message); err != nil {
		return got, fmt.Errorf("%d, not a JSON-RPC answer: %q (%w)", r.Status, r.Body, err)
	}
	got.id, got.Fault = string(message.ID), message.Error
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
		got.TTL = *result.TTLMs
	}
	got.Scope = result.CacheScope
	got.Principal, _ = result.Meta[metaPrincipal].(string)
	serial, _ := result.Meta[metaAnswer].(float64)
	got.Serial = int(serial)
	for _, tool := range result.Tools {
		got.Tools = append(got.Tools, tool.Name)
	}
	for _, content := range append(result.Contents, result.Content...) {
		got.Text += content.Text
	}
	return got, nil
}
