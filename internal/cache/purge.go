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

// Purge invalidates answers: of one upstream, or of all where the name is empty; of one method, or of all. It returns, by
// upstream, the methods whose answers are stale, those that share a family with the one that was named as well, and the tiers that could not be told within ctx: they are not read for what was purged until they have been.
// The error says that there is no such upstream, or that answers of the method are never cached: by MCP, or by the
// `cache.ttl` of an upstream that speaks plain JSON-RPC.
func (s *Store) Purge(ctx context.Context, upstream, method string) (purged map[string][]string, pending []string, err error) {
	there := false
	purged = make(map[string][]string)
	_, upstreams := s.parts()
	for _, u := range upstreams {
		if upstream != "" && u.opts.Name != upstream {
			continue
		}
		there = true
		generations, methods := u.purgeable(method)
		if len(generations) == 0 {
			continue
		}
		u.bump(causePurge, generations...)
		s.log.Info("what was cached is stale: the operator has purged it", "upstream", u.opts.Name, "methods", methods)
		purged[u.opts.Name] = methods
	}
	switch {
	case len(purged) == 0 && method != "" && (there && upstream != "" || !isCached(mcp.MethodOf([]byte(method)))):
		return nil, nil, fmt.Errorf("answers of %q are never cached", method)
	case upstream != "" && !there:
		return nil, nil, fmt.Errorf("there is no upstream %q", upstream)
	}
	return purged, s.pending(ctx), nil
}

// purgeable returns what guards the answers to a method, or to all where the name is empty, and to which methods. Both are
// empty where this upstream's answers to the method are never cached.
func (u *Stage) purgeable(method string) (guards []tier.Generation, methods []string) {
	if u.opts.Plain {
		return u.purgeablePlain(method)
	}
	only := mcp.MethodOf([]byte(method))
	if method != "" && !isCached(only) {
		return nil, nil
	}
	for f := familyTools; f < familyCount; f++ {
		if method == "" || methodRules[only].family == f {
			guards = append(guards, u.families[f])
			methods = append(methods, methodsOf(f)...)
		}
	}
	return guards, methods
}

// purgeablePlain is purgeable where the methods are the server's own.
func (u *Stage) purgeablePlain(method string) ([]tier.Generation, []string) {
	if method == "" {
		return []tier.Generation{u.families[familyOther]}, slices.Sorted(maps.Keys(u.opts.TTL))
	}
	if _, named := u.opts.TTL[method]; !named {
		return nil, nil
	}
	return []tier.Generation{u.guard(guardMethod, method)}, []string{method}
}

// methodsOf are the methods whose answers one family invalidates.
func methodsOf(f family) (names []string) {
	for i, rule := range methodRules {
		if m := mcp.Method(i); rule.family == f && isCached(m) {
			names = append(names, m.String())
		}
	}
	return names
}

// pending waits until the tiers have been told all pending invalidations, as long as ctx lasts, and returns the names of those
// that were not.
func (s *Store) pending(ctx context.Context) (names []string) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for _, t := range s.slowTiers {
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
