package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/cache"
)

func cacheStatsCommand() *cobra.Command {
	var params api.CacheStatsParams
	c := &cobra.Command{
		Use: "cache-stats", Short: "Show what a running daemon has cached, and how often that was used",
		Long: "Shows every tier and every upstream, counted since the daemon's start; \"-\" is what is not known.\n" +
			"HIT% of a tier is of the requests that it was asked for. HIT% of an upstream is of the requests that are for the cache:\n" +
			"hits, stale answers, collapsed ones (another caller's answer) and misses; BYPASS are the requests that are not.\n" +
			"PENDING are invalidations that a tier could not be told of yet: it is not read for them until it has been.\n" +
			"LISTS OF SESSIONS are those of servers with sessions: how many were compared between sessions, how many of these are\n" +
			"shared within one credential by now, and what that saved; a credential is never given another's.\n" +
			"Exit code 0: done; 1: no daemon answers, or it refuses.",
	}
	c.Flags().BoolVar(&params.Detailed, "detailed", false, "with each tier's hits by upstream, and the most used keys by method")
	asking(c, api.CallCacheStats, &params, func(w io.Writer, stats cache.Stats) error {
		return statsTables(w, stats, params.Detailed)
	})
	return c
}

// statsTables writes the statistics for people.
func statsTables(w io.Writer, stats cache.Stats, detailed bool) error {
	t := newTable(w)
	tierTable(t, stats.Tiers)
	upstreamTable(t, stats.Upstreams)
	scopeTable(t, stats.Upstreams)
	if detailed {
		hitTable(t, stats)
		keyTable(t, stats.Upstreams)
	}
	return t.Flush()
}

func tierTable(w io.Writer, tiers []cache.TierReport) {
	row(w, "TIER", "ENTRIES", "SIZE", "EVICTED", "HITS", "HIT%", "MISSES", "ERRORS", "SKIPPED", "WRITTEN", "QUEUE", "DROPPED", "PENDING", "BREAKER")
	for _, r := range tiers {
		row(w, r.Tier, known(r.Entries), size(r.Bytes), known(r.Evictions), r.Hits, percent(r.Hits, r.Misses), r.Misses,
			r.Errors, r.Skipped, r.Written, r.Queue, r.Dropped, r.Pending, cmp.Or(r.Breaker, "-"))
	}
	for _, r := range tiers {
		if r.Error != "" {
			fmt.Fprintf(w, "%s, last error: %s\n", printable(r.Tier), printable(r.Error))
		}
	}
}

func upstreamTable(w io.Writer, upstreams []cache.UpstreamReport) {
	fmt.Fprintln(w)
	row(w, "UPSTREAM", "HITS", "HIT%", "STALE", "COLLAPSED", "MISSES", "BYPASS", "STORED", "LISTENING")
	for _, r := range upstreams {
		hits := totalHits(r)
		row(w, r.Upstream, hits, percent(hits, r.Stale+r.Collapsed+r.Misses), r.Stale, r.Collapsed, r.Misses, r.Bypass, r.Stored, r.Listening)
	}
}

// scopeTable writes what was learned of legacy sessions' lists, where any were compared.
func scopeTable(w io.Writer, upstreams []cache.UpstreamReport) {
	if !slices.ContainsFunc(upstreams, func(r cache.UpstreamReport) bool { return r.Scope != nil }) {
		return
	}
	fmt.Fprintln(w)
	row(w, "LISTS OF SESSIONS", "COMPARED", "SHARED", "DIFFERENCES", "HITS", "SHARED AGAIN")
	for _, r := range upstreams {
		if s := r.Scope; s != nil {
			row(w, r.Upstream, s.Views, s.Learned, s.Differences, s.Hits, cmp.Or(s.EndedUntil, "-"))
		}
	}
}

// hitTable writes what each tier answered for each upstream.
func hitTable(w io.Writer, stats cache.Stats) {
	fmt.Fprintln(w)
	cells := []any{"HITS BY TIER"}
	for _, r := range stats.Tiers {
		cells = append(cells, strings.ToUpper(r.Tier))
	}
	row(w, cells...)
	for _, u := range stats.Upstreams {
		cells := []any{u.Upstream}
		for _, r := range stats.Tiers {
			cells = append(cells, u.Hits[r.Tier])
		}
		row(w, cells...)
	}
}

// keyTable writes the most used keys, for each upstream the most used first, where there are any.
func keyTable(w io.Writer, upstreams []cache.UpstreamReport) {
	if !slices.ContainsFunc(upstreams, func(u cache.UpstreamReport) bool { return len(u.Keys) > 0 }) {
		return
	}
	fmt.Fprintln(w)
	row(w, "KEYS OF", "METHOD", "KEY", "HITS", "SIZE")
	for _, u := range upstreams {
		keys := slices.SortedStableFunc(slices.Values(u.Keys), func(a, b cache.KeyReport) int { return cmp.Compare(b.Hits, a.Hits) })
		for _, k := range keys {
			row(w, u.Upstream, k.Method, k.Key, k.Hits, size(int64(k.Bytes)))
		}
	}
}

func totalHits(r cache.UpstreamReport) (sum uint64) {
	for _, n := range r.Hits {
		sum += n
	}
	return sum
}
