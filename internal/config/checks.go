package config

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"fluentd-perf/internal/mcp"
)

// check is one row whose whole table is read: d is who read it, base the key that the table stands under.
type check struct {
	*row
	d    *decoder
	base key
}

func (c check) at() key                          { return c.d.at(c.base, strings.Split(c.name, ".")...) }
func (c check) fault(format string, args ...any) { c.d.fault(c.at(), format, args...) }
func (c check) given() bool                      { return c.has(c.name) }
func (c check) has(name string) bool             { return c.d.given(c.base, strings.Split(name, ".")...) }

// sound reports whether none of the keys has a fault.
func (c check) sound(names ...string) bool {
	return !slices.ContainsFunc(names, func(name string) bool { return !c.d.sound(c.base, strings.Split(name, ".")...) })
}

// notAbove holds a key to another one: a default gives way to it, and a value above it is a fault.
func notAbove[T cmp.Ordered](name string, most *T) func(check) {
	return func(c check) {
		s := c.value.(setting[T]) // the table is wrong where it is not
		switch {
		case !c.given():
			*s.into = min(*s.into, *most)
		case c.sound(name, c.name) && *s.into > *most:
			c.fault("must not be above %s (%s)", lastPart(name), textOf(*most))
		}
	}
}

// notBelow is notAbove the other way round.
func notBelow[T cmp.Ordered](name string, least *T) func(check) {
	return func(c check) {
		s := c.value.(setting[T])
		switch {
		case !c.given():
			*s.into = max(*s.into, *least)
		case c.sound(name, c.name) && *s.into < *least:
			c.fault("must not be less than %s (%s)", lastPart(name), textOf(*least))
		}
	}
}

// follows makes another key's value the default.
func follows[T any](other *T) func(check) {
	return func(c check) {
		if !c.given() {
			*c.value.(setting[T]).into = *other
		}
	}
}

func (c check) run() {
	for _, no := range c.refusals {
		if c.given() && c.sound(no.by) && no.when() {
			c.fault("%s", no.why)
		}
	}
	for _, check := range c.checks {
		check(c)
	}
}

// checkMemory keeps one entry from pushing many out. The default gives way to a small size.
func (c check) checkMemory(m *Memory, sizeKey string) {
	switch {
	case !c.given():
		m.MaxEntry = min(m.MaxEntry, m.Size/16)
	case c.sound(sizeKey, c.name) && m.MaxEntry > m.Size/8:
		c.fault("must not be above an eighth of size (%s)", formatSize(m.Size/8))
	}
}

// checkTTLs holds every time of the row to the key that bounds them.
func (c check) checkTTLs(name string, most time.Duration) {
	ttls := *c.value.(setting[map[string]time.Duration]).into
	for _, of := range sortedKeys(ttls) {
		if at := c.d.at(c.at(), of); ttls[of] > most && c.sound(name) && c.d.sound(at) {
			c.d.fault(at, "must not be above %s (%s)", lastPart(name), formatDuration(most))
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
		c.d.accepts(c.d.at(c.at(), method), wrongMethod(method, u.Protocol))
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
