package cache

import (
	"context"
	"path"
	"slices"
	"time"

	"fluentd-perf/internal/mcp"
)

// StageOptions say how the answers of one upstream are cached.
type StageOptions struct {
	Name     string // the configured name: a label
	Identity string // what makes it another server: endpoint and configured headers; nothing else, so that a changed timeout does not empty the cache

	// Plain: the server speaks JSON-RPC 2.0 and no MCP. Of its methods those that TTL names, by exact name and with more
	// than 0, are cached for that long and share flights; nothing else is. No answer is everybody's, and of what follows
	// only MaxTTL and the Stale times mean anything.
	Plain bool

	Scope Scope // who shares the lists of legacy sessions
	// Impersonal: nothing of an agent's headers reaches the server, which is a command. It cannot tell credentials apart, so that
	// Scope is over the sessions of all of them: the server's identity stands in the place of the credential.
	Impersonal bool

	TTL   map[string]time.Duration // `cache.ttl` by method: the operator's word, in place of the server's
	Tools map[string]time.Duration // `cache.tools` by pattern of the tool's name (path.Match): only these tools/call are cached

	MinTTL time.Duration // raises a server's ttlMs that is above 0
	MaxTTL time.Duration // lowers any; 0: 24 h, which is the most

	StaleIfError         time.Duration // how long an expired answer may be served where the server fails; 0: never
	StaleAfter           time.Duration // how long a call waits where such an answer is at hand; 0: 2 s
	StaleWhileRevalidate time.Duration // how long an expired answer is served while one call fetches another; 0: never

	Listen        bool     // the daemon opens streams of its own on which the server says what has changed
	CoalesceTools []string // `coalesce.tools`: patterns of tools whose equal calls share a flight
	// Base's end ends all flights and what goes on behind the calls, with its cause; nil: no end. MaxAge is how long a flight takes callers, and how long they wait
	// for it; 0: 30 s. Hold is how long calls of a request are not shared after an answer that may not be shared; 0: 30 s.
	Base         context.Context
	MaxAge, Hold time.Duration

	FlushOnCall bool // a tools/call outside Tools invalidates the credential's operator-TTL answers
}

func (o *StageOptions) complete() {
	if o.MaxTTL <= 0 || o.MaxTTL > dayTTL {
		o.MaxTTL = dayTTL
	}
	if o.Base == nil {
		o.Base = context.Background()
	}
	if o.StaleAfter <= 0 {
		o.StaleAfter = 2 * time.Second
	}
}

// keepsOnTools reports whether some answer may be kept that a tools/call invalidates.
func (o *StageOptions) keepsOnTools() bool {
	_, reads := o.TTL[mcp.MethodResourcesRead.String()]
	return reads || len(o.Tools) > 0
}

func (o *StageOptions) coalesces(tool string) bool {
	return slices.ContainsFunc(o.CoalesceTools, func(p string) bool {
		ok, err := path.Match(p, tool)
		return err == nil && ok
	})
}
