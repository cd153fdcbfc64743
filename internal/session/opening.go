package session

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"strings"

	"fluentd-perf/internal/mcp"
)

// opening is how an agent opened its session, and what the server said of itself.
type opening struct {
	body    []byte // the agent's initialize
	version string // its MCP-Protocol-Version header; most have none
	server  facts
}

// facts stand for what a server says of itself in the answer to initialize: its protocol version, name and capabilities. With
// other facts a session would be another one to its agent, which was told of these.
type facts [sha256.Size]byte

// factsOf reads the answer to initialize. It returns false for an error, or for what is not as the protocol says.
func factsOf(body []byte, m *mcp.Message) (facts, bool) {
	if m.Kind != mcp.KindResult {
		return facts{}, false
	}
	var result map[string]any
	d := json.NewDecoder(bytes.NewReader(m.Result.Of(body)))
	d.UseNumber()
	if d.Decode(&result) != nil {
		return facts{}, false
	}
	version, ok := result["protocolVersion"].(string)
	server, _ := result["serverInfo"].(map[string]any)
	// Encoded again, what differs in spelling alone is the same: servers may write members in any order.
	text, err := json.Marshal([]any{version, server["name"], result["capabilities"]})
	return sha256.Sum256(text), ok && err == nil
}

// initialize relays an agent's initialize. If the answer carries a session id, the session is remembered, with what it
// takes to open it again. One of before under that id has ended: the server counts its ids from the start again.
func (s *Stage) initialize(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	res, err := s.opts.Next.Call(ctx, c)
	if err != nil || !isGood(res.Status) {
		return res, err
	}
	id := sessionID(res.Header)
	s.sessions.replace(id)
	switch {
	case !s.heals() || id == "" || len(c.Body) > maxInitialize || c.Message.Loose: // what is loose is never sent again
	case res.Events != nil:
		res.Events = &watched{res.Events, func(ev *mcp.Event) {
			if ev.Answer {
				s.opened(c, id, ev.Data, &ev.Message)
			}
		}}
	default:
		s.opened(c, id, res.Scanned(), &res.Message)
	}
	return res, nil
}

// opened remembers a session whose initialize the server has answered, be the answer loose, if it can be read.
func (s *Stage) opened(c *mcp.Call, id string, body []byte, m *mcp.Message) {
	server, ok := factsOf(body, m)
	if !ok {
		return
	}
	e := newSession(id, &opening{body: bytes.Clone(c.Body), version: strings.Clone(c.Header.Get("Mcp-Protocol-Version")), server: server})
	e.trust(s.opts.Credential(c))
	s.sessions.add(e)
	s.sessions.takeID(e, e.name)
}
