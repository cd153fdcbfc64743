package daemon

import (
	"path"
	"slices"

	"fluentd-perf/internal/config"
	"fluentd-perf/internal/mcp"
)

// mayRepeat reports what may be sent again though nobody knows whether it ran: what the protocol says, and the operator's tools and
// methods.
func (p *pipeline) mayRepeat(c *mcp.Call) bool {
	switch m := &c.Message; {
	case c.Again:
		return true
	case p.entry.Protocol == config.ProtocolJSONRPC:
		return c.Regular() && isAny(p.entry.Retry.Methods, m.MethodName.Of(c.Body))
	case c.Repeatable():
		return true
	default:
		return c.Method() == mcp.MethodToolsCall && c.Regular() && isAny(p.entry.Retry.Tools, m.Name.Of(c.Body))
	}
}

// isAny reports whether a JSON string matches one of the patterns.
func isAny(patterns []string, token []byte) bool {
	if len(patterns) == 0 {
		return false
	}
	name, ok := mcp.Text(token)
	if !ok {
		return false
	}
	return slices.ContainsFunc(patterns, func(p string) bool {
		match, err := path.Match(p, name)
		return match && err == nil
	})
}
