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

// remember puts the name of a session's agent in place of the one that was known.
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
	name, ok := a.now[session]
	if !ok {
		if name, ok = a.before[session]; ok {
			a.putLocked(session, name)
		}
	}
	return name
}

// sessionHash is what stands for the call's session in the log: it tells sessions apart and opens none. `initialize` has the
// session that its answer begins.
func (q *request) sessionHash() string {
	id := q.call.Header.Get(sessionHeader)
	if id == "" && q.call.Method() == mcp.MethodInitialize {
		id = q.w.Header().Get(sessionHeader)
	}
	if id == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(q.upstream.Name + "\x00" + id))
	return hex.EncodeToString(sum[:6])
}

// agent is what the agent calls itself: in the call, or at the beginning of its session.
func (q *request) agent(session string) string {
	if name := clientName(&q.call); name != "" || session == "" {
		return name
	}
	return q.handler.agents.of(session)
}

// rememberAgent remembers who began a session.
func (q *request) rememberAgent() {
	if q.call.Method() != mcp.MethodInitialize {
		return
	}
	if session := q.sessionHash(); session != "" {
		q.handler.agents.remember(session, clientName(&q.call)) // a name of nothing too: an id may have been another's
	}
}

// clientName returns `clientInfo.name`, from `_meta` (2026-07-28) or from the params of `initialize`; "" where there is none.
func clientName(c *mcp.Call) string {
	info := c.Message.ClientInfo.Of(c.Body)
	if info == nil && c.Method() == mcp.MethodInitialize {
		info = mcp.MemberOf(c.Message.Params.Of(c.Body), "clientInfo")
	}
	name, _ := mcp.Text(mcp.MemberOf(info, "name"))
	return strings.Clone(name[:min(len(name), maxAgentName)])
}

// toolName returns the name of the tool that is called, "" where none is.
func toolName(c *mcp.Call) string {
	if c.Method() != mcp.MethodToolsCall {
		return ""
	}
	name, _ := mcp.Text(c.Message.Name.Of(c.Body))
	return clip(name)
}
