package api

import (
	"time"

	"fluentd-perf/internal/dispatch"
	"fluentd-perf/internal/proxy"
	"fluentd-perf/internal/session"
)

// The names of the calls.
const (
	CallStatus     = "status"      // StatusParams, Status
	CallCacheStats = "cache-stats" // CacheStatsParams, cache.Stats
	CallCachePurge = "cache-purge" // CachePurgeParams, CachePurge
)

// StatusParams say how much is wanted.
type StatusParams struct {
	Calls bool `json:"calls,omitempty"` // every call under way, and not the oldest alone
}

// Status is what a daemon does now.
type Status struct {
	Version   string     `json:"version"`
	Started   time.Time  `json:"started"`
	Now       time.Time  `json:"now"` // by the daemon's clock
	Addresses []string   `json:"addresses"`
	Draining  bool       `json:"draining"`
	InFlight  int        `json:"inFlight"` // calls that hold a slot, over all upstreams
	Upstreams []Upstream `json:"upstreams"`
	Tiers     []Tier     `json:"tiers"`
}

// Upstream is one upstream: its admission, its endpoints and its sessions.
type Upstream struct {
	Upstream string             `json:"upstream"`
	Hosts    []string           `json:"hosts"`              // of the endpoints, in their order
	Sessions *session.Status    `json:"sessions,omitempty"` // null where there are none
	CallsNow int                `json:"callsNow"`           // calls of agents under way, those that wait for a slot or an answer of another's included
	Calls    []proxy.CallStatus `json:"calls,omitempty"`    // the oldest of them; with Calls up to 1,000 in the order of their age
	dispatch.Status
}

// Tier is one tier of the cache.
type Tier struct {
	Tier    string `json:"tier"`
	Entries int64  `json:"entries"` // -1 where it is not known
	Bytes   int64  `json:"bytes"`   // -1 where it is not known
	Queue   int    `json:"queue"`   // entries that wait to be written
	Owed    int    `json:"owed"`    // pending invalidations: what it could not be told of yet
	Breaker string `json:"breaker"` // "" for memory
	Error   string `json:"error"`   // the last one
}

// CacheStatsParams say how much is wanted.
type CacheStatsParams struct {
	Detailed bool `json:"detailed"` // with the most used keys
}

// CachePurgeParams say what is to go; "" is all.
type CachePurgeParams struct {
	Upstream string `json:"upstream,omitempty"` // the configured name
	Method   string `json:"method,omitempty"`   // tools/list
}

// CachePurge says what went.
type CachePurge struct {
	Purged  []Purged `json:"purged"`
	Pending []string `json:"pending"` // tiers that could not be told yet; they are not read until they have been
}

// Purged is what went of one upstream.
type Purged struct {
	Upstream string   `json:"upstream"`
	Methods  []string `json:"methods"` // whose answers went: methods may share a generation, so more may than were named
}
