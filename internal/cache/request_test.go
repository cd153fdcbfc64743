package cache_test

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// rulesAsk is a request that an agent makes. The zero one is a modern tools/list of the agent "a".
type rulesAsk struct {
	era        mcp.Era
	lane       mcp.Lane
	method     string // "" is tools/list
	version    string // "" is 2026-07-28, or 2025-06-18
	id         string // raw JSON; "" is 1
	params     string // members beside `_meta`; of a plain one all of it, "" is none
	meta       string // more members of `_meta`
	caps       string // raw JSON; "" is {}
	sessionID  string
	credential string // "" is a
	body       string // in place of all that
	header     header.List
	without    []string // names of fields that it does not have
	differs    bool     // Call.Mismatch
}

func (a rulesAsk) by(credential string) rulesAsk    { a.credential = credential; return a }
func (a rulesAsk) with(params string) rulesAsk      { a.params = params; return a }
func (a rulesAsk) under(id string) rulesAsk         { a.id = id; return a }
func (a rulesAsk) in(sessionID string) rulesAsk     { a.sessionID = sessionID; return a }
func (a rulesAsk) also(meta string) rulesAsk        { a.meta = meta; return a }
func (a rulesAsk) can(caps string) rulesAsk         { a.caps = caps; return a }
func (a rulesAsk) speaking(version string) rulesAsk { a.version = version; return a }
func (a rulesAsk) on(lane mcp.Lane) rulesAsk        { a.lane = lane; return a }
func (a rulesAsk) saying(body string) rulesAsk      { a.body = body; return a }

func (a rulesAsk) field(name string, values ...string) rulesAsk {
	if len(values) == 0 {
		a.without = append(slices.Clip(a.without), name)
	}
	a.header = a.header.Clone()
	a.header.Del(name)
	for _, value := range values {
		a.header.Add(name, value)
	}
	return a
}

func rulesModern(method string) rulesAsk { return rulesAsk{era: mcp.EraModern, method: method} }
func rulesLegacy(method string) rulesAsk { return rulesAsk{era: mcp.EraLegacy, method: method} }

// rulesPlain is a request to a server that speaks no MCP. Its method may be written in any way.
func rulesPlain(method string) rulesAsk { return rulesAsk{era: mcp.EraPlain, method: method} }

func rulesRead(uri string) rulesAsk {
	return rulesModern("resources/read").with(`"uri":` + strconv.Quote(uri))
}
func rulesTool(name string) rulesAsk {
	return rulesModern("tools/call").with(`"name":` + strconv.Quote(name))
}

func rulesOr(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// bytes is the request's body.
func (a rulesAsk) bytes() string {
	method, id := rulesOr(a.method, "tools/list"), rulesOr(a.id, "1")
	head := `{"jsonrpc":"2.0","id":` + id + `,"method":"` + method + `"`
	switch {
	case a.body != "":
		return a.body
	case a.lane == mcp.LaneStream || a.lane == mcp.LaneEnd:
		return ""
	case a.era == mcp.EraPlain && a.params == "":
		return head + `}`
	case a.era == mcp.EraPlain:
		return head + `,"params":` + a.params + `}`
	case a.era == mcp.EraLegacy && a.meta != "":
		return head + `,"params":{` + rulesJoin(a.params, `"_meta":{`+a.meta+`}`) + `}}`
	case a.era == mcp.EraLegacy && a.params == "":
		return head + `}`
	case a.era == mcp.EraLegacy:
		return head + `,"params":{` + a.params + `}}`
	}
	meta := rulesJoin(`"io.modelcontextprotocol/protocolVersion":"`+rulesOr(a.version, mcp.Version20260728)+`"`,
		`"io.modelcontextprotocol/clientCapabilities":`+rulesOr(a.caps, "{}"), a.meta)
	return head + `,"params":{` + rulesJoin(a.params, `"_meta":{`+meta+`}`) + `}}`
}

func rulesJoin(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), ",")
}

// call is the request as the handler would hand it on.
func (a rulesAsk) call(tb testing.TB) *mcp.Call {
	tb.Helper()
	version := rulesOr(a.version, mcp.Version20260728)
	if a.era == mcp.EraLegacy {
		version = rulesOr(a.version, mcp.Version20250618)
	}
	c := &mcp.Call{
		Upstream: "docs", Lane: a.lane, Era: a.era, Version: version, Mismatch: a.differs, Body: []byte(a.bytes()),
		Header: header.Of(http.Header{
			"Authorization": {"Bearer " + rulesOr(a.credential, "a")}, "Accept": {"application/json, text/event-stream"},
			"Mcp-Protocol-Version": {version},
		}),
		Start: time.Now(),
	}
	if a.era == mcp.EraPlain {
		c.Version = a.version
		if c.Header.Del("Mcp-Protocol-Version"); a.version != "" {
			c.Header.Set("Mcp-Protocol-Version", a.version)
		}
	}
	if a.sessionID != "" {
		c.Header.Set("Mcp-Session-Id", a.sessionID)
	}
	for _, f := range a.header {
		c.Header.Del(f.Name)
	}
	c.Header = append(c.Header, a.header...)
	for _, name := range a.without {
		c.Header.Del(name)
	}
	if len(c.Body) > 0 {
		err := mcp.Scan(c.Body, &c.Message)
		if a.lane == mcp.LaneOpaque {
			c.Message = mcp.Message{Kind: c.Message.Kind, Method: mcp.MethodOther}
		} else if err != nil {
			tb.Fatalf("%s: %v", c.Body, err)
		}
	}
	if a.era == mcp.EraPlain && c.Message.Method != mcp.MethodNone {
		c.Message.Method = mcp.MethodOther
	}
	return c
}
