package cache

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/mcp"
)

// Purged is what a purge made old of one upstream.
type Purged struct {
	Upstream string
	Methods  []string // whose answers are old: those that share a family with the one that was named as well
}

// Purge makes answers old: of one upstream, or of all where the name is empty; of one method, or of all. It returns what
// is old, and the tiers that could not be told within ctx: they are not read for what was purged until they have been.
// The error says that there is no such upstream, or that answers of the method are never cached: by MCP, or by the
// `cache.ttl` of an upstream that speaks plain JSON-RPC.
func (s *Store) Purge(ctx context.Context, upstream, method string) (purged []Purged, pending []string, err error) {
	there := false
	for _, u := range s.upstreams {
		if upstream != "" && u.opts.Name != upstream {
			continue
		}
		there = true
		generations, methods := u.purgeable(method)
		if len(generations) == 0 {
			continue
		}
		u.bump(causePurge, generations...)
		s.log.Info("what was cached is old: the operator said so", "upstream", u.opts.Name, "methods", methods)
		purged = append(purged, Purged{Upstream: u.opts.Name, Methods: methods})
	}
	switch {
	case len(purged) == 0 && method != "" && (there && upstream != "" || !isCached(method)):
		return nil, nil, fmt.Errorf("answers of %q are never cached", method)
	case upstream != "" && !there:
		return nil, nil, fmt.Errorf("there is no upstream %q", upstream)
	}
	return purged, s.pending(ctx), nil
}

// isCached reports whether answers to a method of MCP's are ever cached.
func isCached(method string) bool {
	m := mcp.MethodOf([]byte(method))
	return mayCache(m) || m == mcp.MethodToolsCall
}

// purgeable returns what guards the answers to a method, or to all where the name is empty, and to which methods. Both are
// empty where this upstream's answers to the method are never cached.
func (u *Upstream) purgeable(method string) (guards []tier.Generation, methods []string) {
	if u.opts.Plain {
		return u.purgeableNamed(method)
	}
	families := []Family{FamilyTools, FamilyPrompts, FamilyResources, FamilyRead, FamilyDiscover, FamilyCalls}
	if method != "" {
		if !isCached(method) {
			return nil, nil
		}
		families = []Family{familyOf(mcp.MethodOf([]byte(method)))}
	}
	for _, f := range families {
		guards = append(guards, u.family(f))
		methods = append(methods, methodsOf(f)...)
	}
	return guards, methods
}

// purgeableNamed is purgeable where the methods are the server's own.
func (u *Upstream) purgeableNamed(method string) ([]tier.Generation, []string) {
	if method == "" {
		return []tier.Generation{u.family(FamilyOther)}, slices.Sorted(maps.Keys(u.opts.TTL))
	}
	if _, named := u.opts.TTL[method]; !named {
		return nil, nil
	}
	return []tier.Generation{u.methodOf(method)}, []string{method}
}

// methodsOf are the methods whose answers one family makes old.
func methodsOf(f Family) (names []string) {
	for m := range mcp.MethodCount {
		if m := mcp.Method(m); (mayCache(m) || m == mcp.MethodToolsCall) && familyOf(m) == f {
			names = append(names, m.String())
		}
	}
	return names
}

// pending waits for the tiers to be told what is owed, as long as ctx lasts, and returns the names of those that were not.
func (s *Store) pending(ctx context.Context) (names []string) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for _, t := range s.slow {
		for t.Report().Pending > 0 && ctx.Err() == nil {
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
		if t.Report().Pending > 0 {
			names = append(names, t.Tier.Name())
		}
	}
	return names
}
