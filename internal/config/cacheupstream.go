package config

import (
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"fluentd-perf/internal/mcp"
)

// cacheable are the methods whose answers have a time to live (MCP 2026-07-28, caching), sorted.
var cacheable = []string{
	mcp.MethodPromptsList.String(),
	mcp.MethodResourcesList.String(),
	mcp.MethodResourcesRead.String(),
	mcp.MethodResourcesTemplatesList.String(),
	mcp.MethodServerDiscover.String(),
	mcp.MethodToolsList.String(),
}

// upstreamCache reads `cache` of one upstream.
func (d *decoder) upstreamCache(c *UpstreamCache) reader {
	return d.mapping(keys{
		"ttl":                    d.ttls(c.TTL),
		"tools":                  d.toolTTLs(c.Tools),
		"min_ttl":                d.durationIn(&c.MinTTL, 0, mostTTL),
		"max_ttl":                d.durationIn(&c.MaxTTL, aboveZero, mostTTL),
		"stale_if_error":         d.durationIn(&c.StaleIfError, 0, mostTTL),
		"stale_after":            d.duration(&c.StaleAfter),
		"stale_while_revalidate": d.durationIn(&c.StaleWhileRevalidate, 0, mostTTL),
		"flush_on_call":          d.boolean(&c.FlushOnCall),
		"scope":                  oneOf(d, &c.Scope, CacheScopeAuto, CacheScopeSession, CacheScopeCredential),
		"listen":                 d.onOff(&c.Listen),
	})
}

// ttls reads times by method. Which methods there are depends on the protocol, which may stand further down.
func (d *decoder) ttls(into map[string]time.Duration) reader {
	return func(at key, n *node) {
		d.each(at, n, func(method string, at key, n *node) { d.ttl(into, method, 0)(at, n) })
	}
}

// checkMethod says so if the answers to a method of MCP's are not cached.
func (d *decoder) checkMethod(at key, method string) {
	switch m := mcp.MethodOf([]byte(method)); {
	case slices.Contains(cacheable, method):
	case m == mcp.MethodToolsCall:
		d.fault(at, "has no ttl of its own: name the tools in cache.tools")
	case m != mcp.MethodOther:
		d.fault(at, "is a method whose answers are never cached; known here: %s", strings.Join(cacheable, ", "))
	default:
		d.fault(at, "is not a method whose answers are cached; %s", suggestion(method, cacheable))
	}
}

// toolTTLs reads times by pattern.
func (d *decoder) toolTTLs(into map[string]time.Duration) reader {
	return func(at key, n *node) {
		d.each(at, n, func(pattern string, at key, n *node) {
			if d.isPattern(at, pattern) {
				d.ttl(into, pattern, aboveZero)(at, n)
			}
		})
	}
}

func (d *decoder) ttl(into map[string]time.Duration, name string, least time.Duration) reader {
	return func(at key, n *node) {
		var ttl time.Duration
		if d.durationIn(&ttl, least, mostTTL)(at, n); d.sound(at) {
			into[name] = ttl
		}
	}
}

// pattern reads one pattern of tools.
func (d *decoder) pattern(into *[]string) reader {
	return func(at key, n *node) {
		s, ok := d.rawText(at, n)
		switch {
		case !ok || !d.isPattern(at, s):
		case slices.Contains(*into, s):
			d.fault(at, "is given twice")
		default:
			*into = append(*into, s)
		}
	}
}

// isPattern reports whether path.Match takes s, and says so if it does not.
func (d *decoder) isPattern(at key, s string) bool {
	_, err := path.Match(s, "")
	switch {
	case s == "":
		d.fault(at, "must be a name or a pattern, such as search_*")
	case strings.Contains(s, "${"):
		d.fault(at, "%s", notExpanded)
	case err != nil:
		d.fault(at, `is not a pattern: * and ? stand for any signs and for one, [a-z] for one of a range, \ takes a meaning away`)
	default:
		return true
	}
	return false
}

// checkUpstreamCache checks what is said below at together.
func (d *decoder) checkUpstreamCache(at key, u *Upstream) {
	c := &u.Cache
	for _, method := range slices.Sorted(maps.Keys(c.TTL)) {
		at := d.at(at, "ttl", method)
		if u.Protocol == ProtocolMCP {
			d.checkMethod(at, method)
		} else if method == "" || strings.ContainsAny(method, "*?[\\") {
			d.fault(at, "must be the exact name of a method")
		}
	}
	if !d.sound(at, "max_ttl") {
		return
	}
	most := func(v time.Duration, names ...string) {
		if v > c.MaxTTL && d.sound(at, names...) {
			d.fault(d.at(at, names...), "must not be above max_ttl (%s)", formatDuration(c.MaxTTL))
		}
	}
	for _, method := range slices.Sorted(maps.Keys(c.TTL)) {
		most(c.TTL[method], "ttl", method)
	}
	for _, pattern := range slices.Sorted(maps.Keys(c.Tools)) {
		most(c.Tools[pattern], "tools", pattern)
	}
	most(c.MinTTL, "min_ttl")
}
