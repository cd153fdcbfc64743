package cache

import (
	"bytes"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"fluentd-perf/internal/mcp"
)

const (
	maxEarMeta = 64 << 10 // what a client says of itself, in bytes: with more it is not listened for
	maxEarURI  = 2 << 10  // a uri, in bytes: a longer one is not listened for
)

// earVoice is how an agent speaks to a server: what of its call the ears' own calls need. It is never changed.
type earVoice struct {
	upstream     string
	version      string
	header       http.Header // but what is said anew in each call
	query        string
	capabilities []byte // raw JSON
	info         []byte // raw JSON, nil where the agent gave none
}

// newEarVoice copies what it needs of a call; nil if that is more than may be kept, or less than a server needs.
func newEarVoice(c *mcp.Call) *earVoice {
	m := &c.Message
	v := &earVoice{
		upstream: c.Upstream, version: c.Version, query: strings.Clone(c.Query),
		capabilities: bytes.Clone(m.ClientCapabilities.Of(c.Body)), info: bytes.Clone(m.ClientInfo.Of(c.Body)),
	}
	if len(v.capabilities)+len(v.info) > maxEarMeta || c.Era == mcp.EraModern && v.capabilities == nil {
		return nil
	}
	v.header = make(http.Header, len(c.Header))
	for name, values := range c.Header {
		if !ofOneCall(name) {
			v.header[strings.Clone(name)] = cloneAll(values)
		}
	}
	return v
}

// cloneAll copies strings: one that is a part of a larger one would keep all of it.
func cloneAll(values []string) []string {
	if values == nil {
		return nil
	}
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = strings.Clone(v)
	}
	return out
}

// ofOneCall reports whether a header field belongs to one call and not to the agent.
func ofOneCall(canonical string) bool {
	switch canonical {
	case "Mcp-Method", "Mcp-Name", "Mcp-Session-Id", "Last-Event-Id", "Traceparent", "Tracestate", "Baggage",
		"X-Request-Id", "X-Correlation-Id", "Idempotency-Key", "X-Idempotency-Key", "Accept", "Content-Type", "Content-Length":
		return true
	}
	return strings.HasPrefix(canonical, "Mcp-Param-")
}

// request returns a POST of a modern request under an id of its own (2026-07-28, basic/transports/streamable-http).
// Params are the members of its params beside `_meta`, as raw JSON: nothing, or one or more and a comma behind each.
func (v *earVoice) request(lane mcp.Lane, m mcp.Method, params string) *mcp.Call {
	c := &mcp.Call{
		Upstream: v.upstream, Lane: lane, Era: mcp.EraModern, Version: v.version, Header: v.clone(), Query: v.query, Whole: true, Start: time.Now(),
		Body: v.body(m, params),
	}
	if err := mcp.Scan(c.Body, &c.Message); err != nil {
		panic("bug: the ears made a request that is none: " + err.Error())
	}
	c.Header["Mcp-Protocol-Version"] = []string{v.version}
	c.Header["Mcp-Method"] = []string{m.String()}
	c.Header["Accept"] = []string{"application/json, text/event-stream"}
	c.Header["Content-Type"] = []string{"application/json"}
	return c
}

func (v *earVoice) body(m mcp.Method, params string) []byte {
	b := make([]byte, 0, 320+len(params)+len(v.capabilities)+len(v.info))
	b = append(b, `{"jsonrpc":"2.0","id":`...)
	b = strconv.AppendUint(b, 1<<52+rand.Uint64N(1<<52), 10) // an integer that every double holds: some servers take nothing else
	b = append(b, `,"method":"`...)
	b = append(b, m.String()...)
	b = append(b, `","params":{`...)
	b = append(b, params...)
	b = append(b, `"_meta":{"io.modelcontextprotocol/protocolVersion":`...)
	b = appendText(b, v.version)
	if v.info != nil {
		b = append(b, `,"io.modelcontextprotocol/clientInfo":`...)
		b = append(b, v.info...)
	}
	b = append(b, `,"io.modelcontextprotocol/clientCapabilities":`...)
	b = append(b, v.capabilities...)
	return append(b, `}}}`...)
}

// clone copies the map. Values are shared, and nobody changes them.
func (v *earVoice) clone() http.Header {
	out := make(http.Header, len(v.header)+4)
	for name, values := range v.header {
		out[name] = values
	}
	return out
}

// earURI returns the uri that a resources/read reads; "" for any other call, and for one that is too long.
func earURI(c *mcp.Call) string {
	token := c.Message.URI.Of(c.Body)
	if c.Method() != mcp.MethodResourcesRead || len(token) > maxEarURI {
		return ""
	}
	uri, _ := mcp.Text(token)
	return uri
}

// appendText appends a string, which is valid UTF-8, as JSON.
func appendText(b []byte, s string) []byte {
	b, err := jsontext.AppendQuote(b, s)
	if err != nil {
		panic("bug: the ears quote what is no text: " + err.Error())
	}
	return b
}
