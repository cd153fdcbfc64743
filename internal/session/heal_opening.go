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

// facts are what a server says of itself in the answer to initialize. With other facts a session would be another one to
// its agent, which was told of these.
type facts struct {
	version      string // protocolVersion
	name         string // serverInfo.name
	capabilities [sha256.Size]byte
}

// factsOf reads the answer to initialize, JSON that was scanned. It returns false for an error, or for what is not as the
// protocol says.
func factsOf(body []byte, m *mcp.Message) (facts, bool) {
	if m.Kind != mcp.KindResult {
		return facts{}, false
	}
	answer := m.Result.Of(body)
	version, ok := textMember(answer, "protocolVersion")
	if !ok {
		return facts{}, false
	}
	f := facts{version: version}
	if info, err := mcp.Member(answer, "serverInfo"); err == nil && info.Present() {
		f.name, _ = textMember(info.Of(answer), "name")
	}
	capabilities, err := mcp.Member(answer, "capabilities")
	if err != nil {
		return facts{}, false
	}
	f.capabilities, ok = digest(capabilities.Of(answer))
	return f, ok
}

func textMember(object []byte, name string) (string, bool) {
	span, err := mcp.Member(object, name)
	if err != nil {
		return "", false
	}
	return mcp.Text(span.Of(object))
}

// digest is the same for two values that differ in spelling alone: servers may write members in any order.
func digest(value []byte) ([sha256.Size]byte, bool) {
	if value == nil {
		return [sha256.Size]byte{}, true
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(value))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return [sha256.Size]byte{}, false
	}
	canonical, err := json.Marshal(v)
	if err != nil {
		return [sha256.Size]byte{}, false
	}
	return sha256.Sum256(canonical), true
}

// initialize relays an agent's initialize. If the answer carries a session id, the session is remembered, with what it
// takes to open it anew. One of before under that id has ended: the server counts its ids from the start again.
func (s *Stage) initialize(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	res, err := s.opts.Next.Call(ctx, c)
	if err != nil || !isGood(res.Status) {
		return res, err
	}
	id := sessionID(res.Header)
	if old := s.sessions.replaced(id); old != nil {
		old.end()
	}
	switch {
	case !s.heals() || id == "" || len(c.Body) > maxInitialize || c.Message.Loose: // what is loose is never sent again
	case res.Events != nil:
		res.Events = &openingEvents{Events: res.Events, stage: s, call: c, id: id}
	default:
		s.opened(c, id, res.Said(), &res.Message)
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
	s.sessions.take(e, id)
}

// openingEvents is an answer to initialize that comes as events.
type openingEvents struct {
	mcp.Events
	stage *Stage
	call  *mcp.Call
	id    string
}

// Next returns the next event.
func (o *openingEvents) Next() (mcp.Event, error) {
	ev, err := o.Events.Next()
	if err == nil && ev.Answer {
		o.stage.opened(o.call, o.id, ev.Data, &ev.Message)
	}
	return ev, err
}
