package rpc_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// eraServer is a server of one era, or of both, as far as an Array can tell.
type eraServer struct {
	modern, legacy bool
	mints          bool // it gives out session ids, and wants them
	modernRefusal  func(c *mcp.Call) *mcp.Result
	tools          string // what tools/list says, a page each, parted by newlines
	slow           time.Duration
	misses         bool // it says what it misses in a legacy request

	mu       sync.Mutex // guards the following
	sessions []string
	minted   int
	ran      []string // tools/call, by name
	inFlight map[string]bool
	fault    string // what is wrong with what was asked
}

func (s *eraServer) blame(format string, args ...any) {
	if s.fault == "" {
		s.fault = fmt.Sprintf(format, args...)
	}
}

func (s *eraServer) call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	if s.slow > 0 {
		if err := after(ctx, s.slow); err != nil {
			return nil, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Lane == mcp.LaneEnd {
		s.end(c.Header.Get("Mcp-Session-Id"))
		return whole(204, ""), nil
	}
	if c.Era == mcp.EraModern {
		return s.callModern(c)
	}
	return s.callLegacy(c)
}

func (s *eraServer) end(id string) {
	i := slices.Index(s.sessions, id)
	if i < 0 {
		s.blame("the session %q was ended and is none", id)
		return
	}
	s.sessions = slices.Delete(s.sessions, i, i+1)
}

func (s *eraServer) callModern(c *mcp.Call) (*mcp.Result, error) {
	m, h := &c.Message, c.Header
	if !s.modern {
		return s.modernRefusal(c), nil
	}
	if c.Lane == mcp.LaneNotification {
		return accept202()
	}
	switch {
	case !mcp.TextIs(m.ProtocolVersion.Of(c.Body), h.Get("Mcp-Protocol-Version")), c.Version != h.Get("Mcp-Protocol-Version"):
		s.blame("the version is %q and %s in %s", h.Get("Mcp-Protocol-Version"), m.ProtocolVersion.Of(c.Body), c.Body)
	case !m.ClientCapabilities.Present() || !m.ClientInfo.Present():
		s.blame("no capabilities or no clientInfo in %s", c.Body)
	case h.Get("Mcp-Method") != methodOf(c):
		s.blame("Mcp-Method is %q in %s", h.Get("Mcp-Method"), c.Body)
	case h.Has("Mcp-Session-Id") || h.Has("Last-Event-Id") || h.Has("Idempotency-Key"):
		s.blame("%v", h)
	}
	switch methodOf(c) {
	case "server/discover":
		return answerOK(c, `{"supportedVersions":["`+modernVer+`"],"resultType":"complete","ttlMs":0,"cacheScope":"private"}`)
	case "tools/list":
		return s.list(c)
	}
	return s.run(c)
}

// list gives the page that the cursor names.
func (s *eraServer) list(c *mcp.Call) (*mcp.Result, error) {
	pages, n := strings.Split(s.tools, "\n"), 0
	if cursor := textParam(c, "cursor"); cursor != "" {
		n = int(cursor[0] - '0')
	}
	next := ""
	if n+1 < len(pages) {
		next = fmt.Sprintf(`,"nextCursor":"%d"`, n+1)
	}
	return answerOK(c, `{"tools":[`+pages[n]+`]`+next+`}`)
}

func (s *eraServer) callLegacy(c *mcp.Call) (*mcp.Result, error) {
	h := c.Header
	switch method := methodOf(c); {
	case s.misses:
		return whole(400, errorBody(c, -32022, "unsupported protocol version")), nil
	case !s.legacy:
		return whole(404, errorBody(c, -32601, "unknown method")), nil
	case method == "initialize":
		if string(c.Message.Params.Of(c.Body)) != `{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"fluentd-perf","version":"1.2.3"}}` {
			s.blame("initialize with %s", c.Body)
		}
		res := whole(200, okBody(c, `{"protocolVersion":"2025-06-18","capabilities":{},"serverInfo":{"name":"s","version":"1"}}`))
		s.minted++
		if s.mints {
			id := fmt.Sprint("session-", s.minted)
			s.sessions = append(s.sessions, id)
			res.Header = header.Of(http.Header{"Mcp-Session-Id": {id}})
		}
		return res, nil
	case s.mints && h.Get("Mcp-Session-Id") == "":
		return whole(400, errorBody(c, -32000, "Bad Request: Mcp-Session-Id header is required")), nil
	case s.mints && !slices.Contains(s.sessions, h.Get("Mcp-Session-Id")):
		return whole(404, "session not found"), nil
	case c.Lane == mcp.LaneNotification:
		return accept202()
	case c.Version != h.Get("Mcp-Protocol-Version"):
		s.blame("the version is %q, and %q in the header", c.Version, h.Get("Mcp-Protocol-Version"))
	}
	return s.run(c)
}

func (s *eraServer) run(c *mcp.Call) (*mcp.Result, error) {
	if h := c.Header; h.Get("Accept") != "application/json, text/event-stream" || h.Get("Content-Type") != "application/json" {
		s.blame("the header is %v", h)
	}
	key := c.Header.Get("Mcp-Session-Id") + string(c.ID())
	if s.inFlight[key] {
		s.blame("the id %s twice on one session", c.ID())
	}
	if s.inFlight == nil {
		s.inFlight = map[string]bool{}
	}
	s.inFlight[key] = string(c.ID()) != "null"
	if c.Method() == mcp.MethodToolsCall {
		s.ran = append(s.ran, textParam(c, "name"))
	}
	return answerOK(c, fmt.Sprintf("%q", c.Header.Get("Mcp-Session-Id")+c.Version))
}

// legacyRefusals are what servers of the legacy era say to a modern request.
var legacyRefusals = map[string]func(c *mcp.Call) *mcp.Result{
	"text": func(*mcp.Call) *mcp.Result { return whole(404, "not found") },
	"405":  func(*mcp.Call) *mcp.Result { return whole(405, "") },
	"no session": func(c *mcp.Call) *mcp.Result {
		return whole(400, errorBody(c, -32000, "Bad Request: No valid session ID provided"))
	},
	"version": func(c *mcp.Call) *mcp.Result {
		return whole(400, `{"jsonrpc":"2.0","id":null,"error":{"code":-32022,"message":"no","data":{"supported":["2025-06-18"],"requested":"2026-07-28"}}}`)
	},
	"discover only": func(c *mcp.Call) *mcp.Result {
		if c.Method() == mcp.MethodServerDiscover {
			return whole(200, okBody(c, `{"supportedVersions":["2025-11-25","2025-06-18"]}`))
		}
		return whole(400, errorBody(c, -32022, "no"))
	},
	"unknown method": func(c *mcp.Call) *mcp.Result { return whole(200, errorBody(c, -32601, "unknown")) },
	"500":            func(c *mcp.Call) *mcp.Result { return whole(500, "oops") },
}
