package proxy

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"sync"

	"fluentd-perf/internal/mcp"
)

// agents remembers by session what agents call themselves: in legacy only `initialize` says it. At most twice maxAgents are
// kept, those that were seen lately.
type agents struct {
	mu          sync.Mutex // guards the following
	now, before map[string]string
}

const (
	maxAgents    = 5000
	maxAgentName = 100 // bytes
)

func (a *agents) remember(session, name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.putLocked(session, name)
}

func (a *agents) putLocked(session, name string) {
	if a.now == nil || len(a.now) >= maxAgents {
		a.now, a.before = make(map[string]string), a.now
	}
	a.now[session] = name
}

// of returns the name of a session's agent, "" where it is not known.
func (a *agents) of(session string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if name, ok := a.now[session]; ok {
		return name
	}
	name, ok := a.before[session]
	if ok {
		a.putLocked(session, name)
	}
	return name
}

// session is what stands for the call's session in the log: a hash of its id, that tells sessions apart and opens none.
// `initialize` has the session that its answer begins.
func (x *exchange) session() string {
	id := header(x.call.Header, sessionHeader)
	if id == "" && x.call.Method() == mcp.MethodInitialize {
		id = header(x.w.Header(), sessionHeader)
	}
	if id == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(x.up.Name + "\x00" + id))
	return hex.EncodeToString(sum[:6])
}

const sessionHeader = "Mcp-Session-Id"

// agent is what the agent calls itself: in the call, or at the beginning of its session.
func (x *exchange) agent(session string) string {
	if name := clientName(&x.call); name != "" || session == "" {
		return name
	}
	return x.door.agents.of(session)
}

// noteAgent remembers who began a session.
func (x *exchange) noteAgent() {
	if x.call.Method() != mcp.MethodInitialize {
		return
	}
	if session := x.session(); session != "" {
		x.door.agents.remember(session, clientName(&x.call)) // a name of nothing too: an id may have been another's
	}
}

// clientName returns `clientInfo.name`, from `_meta` (2026-07-28) or from the params of `initialize`; "" where there is none.
func clientName(c *mcp.Call) string {
	info := c.Message.ClientInfo.Of(c.Body)
	if info == nil && c.Method() == mcp.MethodInitialize {
		info = member(c.Message.Params.Of(c.Body), "clientInfo")
	}
	name, _ := mcp.Text(member(info, "name"))
	if len(name) > maxAgentName {
		name = name[:maxAgentName]
	}
	return strings.Clone(name)
}

// toolName returns the name of the tool that is called, "" where none is.
func toolName(c *mcp.Call) string {
	if c.Method() != mcp.MethodToolsCall {
		return ""
	}
	name, _ := mcp.Text(c.Message.Name.Of(c.Body))
	return clip(name)
}

func member(doc []byte, name string) []byte {
	if doc == nil {
		return nil
	}
	at, err := mcp.Member(doc, name)
	if err != nil {
		return nil
	}
	return at.Of(doc)
}

// toolResult is what the result of a tools/call says of itself.
type toolResult uint8

const (
	toolUnknown toolResult = iota // it was not looked into, or it is none
	toolDone
	toolFailed // isError
)

// resultOf looks into an answer of which m is the scan.
func resultOf(c *mcp.Call, b []byte, m *mcp.Message) toolResult {
	switch {
	case c.Method() != mcp.MethodToolsCall || m.Kind != mcp.KindResult:
		return toolUnknown
	case string(m.IsError.Of(b)) == "true":
		return toolFailed
	}
	return toolDone
}

// noteResult keeps what a result says of itself. A tool that failed is an outcome of its own: the relay worked.
func (x *exchange) noteResult(b []byte, m *mcp.Message) {
	x.tool = resultOf(&x.call, b, m)
	if x.tool == toolFailed && x.outcome == outcomeOK {
		x.outcome = outcomeToolError
	}
}
