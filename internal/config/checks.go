package config

import (
	"slices"
	"strings"
	"time"

	"fluentd-perf/internal/mcp"
)

// checkMemory keeps one entry from pushing many out. The default gives way to a small size.
func (c check) checkMemory(m *Memory, sizeKey string) {
	switch {
	case !c.given():
		m.MaxEntry = min(m.MaxEntry, m.Size/16)
	case c.comparable(sizeKey) && m.MaxEntry > m.Size/8:
		c.fault("must not be above an eighth of size (%s)", formatSize(m.Size/8))
	}
}

// checkTTLs holds every time of the row to the key that bounds them.
func (c check) checkTTLs(ttls map[string]time.Duration, name string, upper time.Duration) {
	for _, of := range sortedKeys(ttls) {
		if at := c.named(of); ttls[of] > upper && c.base.below(name).sound() && at.sound() {
			at.fault("must not be above %s (%s)", lastPart(name), formatDuration(upper))
		}
	}
}

// cacheable are the methods whose answers have a time to live (MCP 2026-07-28, caching), sorted.
var cacheable = []string{
	mcp.MethodPromptsList.String(),
	mcp.MethodResourcesList.String(),
	mcp.MethodResourcesRead.String(),
	mcp.MethodResourcesTemplatesList.String(),
	mcp.MethodServerDiscover.String(),
	mcp.MethodToolsList.String(),
}

// checkMethods says which methods have no time to live of their own. It depends on the protocol.
func (c check) checkMethods(u *Upstream) {
	for _, method := range sortedKeys(u.Cache.TTL) {
		c.named(method).accepts(wrongMethod(method, u.Protocol))
	}
}

func wrongMethod(method string, p Protocol) string {
	m := mcp.MethodOf([]byte(method))
	switch {
	case p == ProtocolJSONRPC && (method == "" || strings.ContainsAny(method, "*?[\\")):
		return "must be the exact name of a method"
	case p == ProtocolJSONRPC || slices.Contains(cacheable, method):
		return ""
	case m == mcp.MethodToolsCall:
		return "has no ttl of its own: name the tools in " + toolsKey
	case m != mcp.MethodOther:
		return "is a method whose answers are never cached; known here: " + strings.Join(cacheable, ", ")
	}
	return "is not a method whose answers are cached; " + suggestion(method, cacheable)
}
