package config

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
)

// lines say what is cached where.
func (c Cache) lines() []line {
	key := "of the state directory"
	if c.PartitionKey != "" {
		key = "set"
	}
	lines := []line{
		{"cache.memory", fmt.Sprintf("%s, entries up to %s", formatSize(c.Memory.Size), formatSize(c.Memory.MaxEntry))},
		{"cache.redis", c.Redis.String()},
		{"cache.database", c.Database.String()},
		{"cache.partition_key", key},
	}
	if len(c.InertHeaders) > 0 {
		lines = append(lines, line{"cache.inert_headers", strings.Join(c.InertHeaders, ", ")})
	}
	return lines
}

// differs says by differs what of the upstream's cache is not as in is.
func (c UpstreamCache) differs(is UpstreamCache, differs func(name, value, usual string)) {
	differs("cache.ttl", timesText(c.TTL), timesText(is.TTL))
	differs("cache.tools", timesText(c.Tools), timesText(is.Tools))
	times := func(name string, value, usual time.Duration) {
		differs(name, formatDuration(value), formatDuration(usual))
	}
	times("cache.min_ttl", c.MinTTL, is.MinTTL)
	times("cache.max_ttl", c.MaxTTL, is.MaxTTL)
	times("cache.stale_if_error", c.StaleIfError, is.StaleIfError)
	times("cache.stale_after", c.StaleAfter, is.StaleAfter)
	times("cache.stale_while_revalidate", c.StaleWhileRevalidate, is.StaleWhileRevalidate)
	differs("cache.flush_on_call", fmt.Sprint(c.FlushOnCall), fmt.Sprint(is.FlushOnCall))
	differs("cache.scope", string(c.Scope), string(is.Scope))
	differs("cache.listen", onOffText(c.Listen), onOffText(is.Listen))
}

// timesText writes times by name, "tools/list 5m, resources/read never".
func timesText(times map[string]time.Duration) string {
	texts := make([]string, 0, len(times))
	for _, name := range slices.Sorted(maps.Keys(times)) {
		text := "never"
		if times[name] > 0 {
			text = formatDuration(times[name])
		}
		texts = append(texts, quoteMeta(name)+" "+text)
	}
	return strings.Join(texts, ", ")
}

// quoteMeta quotes a pattern that could not be told from its surroundings.
func quoteMeta(s string) string {
	if strings.ContainsAny(s, " ,;\"\\") || strings.ContainsFunc(s, isControl) {
		return fmt.Sprintf("%q", s)
	}
	return s
}

func patternsText(patterns []string) string {
	texts := make([]string, len(patterns))
	for i, p := range patterns {
		texts[i] = quoteMeta(p)
	}
	return strings.Join(texts, ", ")
}

func onOffText(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// The methods below keep secrets out of fmt, log/slog and encoding/json, also where a value is part of another.

// String returns the tiers in one line without secrets.
func (c Cache) String() string {
	var texts []string
	for _, l := range c.lines() {
		texts = append(texts, l.name+" "+l.value)
	}
	return strings.Join(texts, "; ")
}

// GoString is String, for %#v.
func (c Cache) GoString() string { return c.String() }

// MarshalText is String, for encoding/json.
func (c Cache) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// LogValue is String, for log/slog.
func (c Cache) LogValue() slog.Value { return slog.StringValue(c.String()) }

// String says where Redis is, without user, password and query, and what is set of it; "none" where there is none.
func (r Redis) String() string {
	if r.URL == "" {
		return "none"
	}
	return fmt.Sprintf("%s, timeout %s, pool %d", shownOr(r.shown, "set"), formatDuration(r.Timeout), r.Pool)
}

// GoString is String, for %#v.
func (r Redis) GoString() string { return r.String() }

// MarshalText is String, for encoding/json.
func (r Redis) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// LogValue is String, for log/slog.
func (r Redis) LogValue() slog.Value { return slog.StringValue(r.String()) }

// String says where the database is, without user, password and query, and what is set of it; "none" where there is none.
func (d Database) String() string {
	reads := "resources/read if public"
	if d.PrivateReads {
		reads = "resources/read"
	}
	switch d.Kind {
	case DatabaseSQLite:
		return fmt.Sprintf("%s, timeout %s, size %s, %s",
			shownOr(d.shown, "sqlite:"+d.Path), formatDuration(d.Timeout), formatSize(d.Size), reads)
	case DatabasePostgres:
		return fmt.Sprintf("%s, timeout %s, pool.max %d, pool.lifetime %s, %s",
			shownOr(d.shown, "set"), formatDuration(d.Timeout), d.PoolMax, formatDuration(d.PoolLifetime), reads)
	}
	return "none"
}

// GoString is String, for %#v.
func (d Database) GoString() string { return d.String() }

// MarshalText is String, for encoding/json.
func (d Database) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// LogValue is String, for log/slog.
func (d Database) LogValue() slog.Value { return slog.StringValue(d.String()) }

func shownOr(shown, otherwise string) string {
	if shown != "" {
		return shown
	}
	return otherwise
}
