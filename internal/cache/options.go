package cache

import (
	"log/slog"
	"path"
	"slices"
	"time"

	"fluentd-perf/internal/mcp"
)

// UpstreamOptions say how the answers of one upstream are cached.
type UpstreamOptions struct {
	Name     string // the configured name: a label
	Identity string // what makes it another server: endpoint and configured headers; nothing else, so that a changed timeout does not empty the cache

	TTL   map[string]time.Duration // `cache.ttl` by method: the operator's word, in place of the server's
	Tools map[string]time.Duration // `cache.tools` by pattern of the tool's name (path.Match): only these tools/call are cached

	MinTTL time.Duration // raises a server's ttlMs that is above 0
	MaxTTL time.Duration // lowers any; 0: 24 h, which is the most

	StaleIfError         time.Duration // how long an expired answer may stand in for a failing server; 0: never
	StaleAfter           time.Duration // how long a call waits where such an answer is at hand; 0: 2 s
	StaleWhileRevalidate time.Duration // how long an expired answer is given while one call fetches another; 0: never

	CoalesceTools []string // `coalesce.tools`: patterns of tools whose equal calls share a flight
	FlushOnCall   bool     // a tools/call outside Tools makes the credential's operator-TTL answers old
}

// dayTTL is the longest that anything is fresh.
const dayTTL = 24 * time.Hour

func (o *UpstreamOptions) complete() {
	if o.MaxTTL <= 0 || o.MaxTTL > dayTTL {
		o.MaxTTL = dayTTL
	}
	if o.StaleAfter <= 0 {
		o.StaleAfter = 2 * time.Second
	}
}

// operatorTTL returns the operator's TTL for a method, or for a tool by name.
func (o *UpstreamOptions) operatorTTL(m mcp.Method, tool string) (time.Duration, bool) {
	if m != mcp.MethodToolsCall {
		ttl, ok := o.TTL[m.String()]
		return ttl, ok
	}
	patterns := make([]string, 0, len(o.Tools))
	for p := range o.Tools {
		if ok, err := path.Match(p, tool); err == nil && ok {
			patterns = append(patterns, p)
		}
	}
	if len(patterns) == 0 {
		return 0, false
	}
	// The longest pattern is the most particular one.
	longest := slices.MaxFunc(patterns, func(a, b string) int { return len(a) - len(b) })
	return o.Tools[longest], true
}

func (o *UpstreamOptions) coalesces(tool string) bool {
	return slices.ContainsFunc(o.CoalesceTools, func(p string) bool {
		ok, err := path.Match(p, tool)
		return err == nil && ok
	})
}

func logger(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}
