package listener

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

const (
	maxClient = 64 << 10 // what a client says of itself, in bytes: with more it is not subscribed for
	maxURI    = 2 << 10  // a uri, in bytes: a longer one is not subscribed to
)

// client is what the listener's own requests take over from an agent's. It is never changed.
type client struct {
	upstream, query string
	header          header.List // but what is of one call
	meta            meta
}

// meta is the `_meta` of a request (2026-07-28, basic/index).
type meta struct {
	Version      string          `json:"io.modelcontextprotocol/protocolVersion"`
	Info         json.RawMessage `json:"io.modelcontextprotocol/clientInfo,omitempty"`
	Capabilities json.RawMessage `json:"io.modelcontextprotocol/clientCapabilities"`
}

// newClient copies what it needs of a call; nil if that is more than may be kept, or less than a server needs.
func newClient(c *mcp.Call) *client {
	capabilities, info := c.Message.ClientCapabilities.Of(c.Body), c.Message.ClientInfo.Of(c.Body)
	if len(capabilities) == 0 || len(capabilities)+len(info) > maxClient {
		return nil
	}
	own := c.Header.Clone()
	own.Drop(ofOneCall)
	return &client{c.Upstream, c.Query, own, meta{c.Version, bytes.Clone(info), bytes.Clone(capabilities)}}
}

// ofOneCall reports whether a header field belongs to one call and not to the agent.
func ofOneCall(f header.Field) bool {
	return mcp.IsParamHeader(f.Name) || fieldsOfOneCall.Has(f.Name)
}

var fieldsOfOneCall = header.Names{
	"Mcp-Method", "Mcp-Name", "Mcp-Session-Id", "Last-Event-Id", "Traceparent", "Tracestate", "Baggage", "X-Request-Id",
	"X-Correlation-Id", "Idempotency-Key", "X-Idempotency-Key", "Accept", "Content-Type", "Content-Length",
}

// request returns a POST of a request under an id of its own (2026-07-28, basic/transports/streamable-http).
func (cl *client) request(lane mcp.Lane, m mcp.Method, f *filter) *mcp.Call {
	params, err := json.Marshal(struct {
		Filter *filter `json:"notifications,omitempty"`
		Meta   meta    `json:"_meta"`
	}{f, cl.meta})
	id := 1<<52 + rand.Uint64N(1<<52) // every double holds it: some servers take nothing else
	c := &mcp.Call{
		Upstream: cl.upstream, Lane: lane, Era: mcp.EraModern, Version: cl.meta.Version, Header: cl.header.Clone(),
		Query: cl.query, Whole: true, Start: time.Now(),
		Body: fmt.Appendf(nil, `{"jsonrpc":"2.0","id":%d,"method":%q,"params":%s}`, id, m.String(), params),
	}
	if err := errors.Join(err, mcp.Scan(c.Body, &c.Message)); err != nil {
		panic("bug: the listener made a request that is none: " + err.Error())
	}
	c.Header.Set("Mcp-Protocol-Version", cl.meta.Version)
	c.Header.Set("Mcp-Method", m.String())
	c.Header.Set("Accept", "application/json, text/event-stream")
	c.Header.Set("Content-Type", "application/json")
	return c
}

// uriOf returns the uri that a resources/read reads; "" for any other call, and for one that is too long.
func uriOf(c *mcp.Call) (uri string) {
	if token := c.Message.URI.Of(c.Body); c.Method() == mcp.MethodResourcesRead && len(token) <= maxURI {
		uri, _ = mcp.Text(token)
	}
	return uri
}
