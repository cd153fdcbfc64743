package api

import (
	"time"

	"fluentd-perf/internal/cache"
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
	Calls     bool `json:"calls,omitempty"`     // every call under way, and not the oldest alone
	Processes bool `json:"processes,omitempty"` // every process of stdio servers, and what it takes
	Memory    bool `json:"memory,omitempty"`    // where the daemon's own memory is
}

// Status is what a daemon does now.
type Status struct {
	Version   string             `json:"version"`
	PID       int                `json:"pid"` // of the daemon
	Started   time.Time          `json:"started"`
	Now       time.Time          `json:"now"` // by the daemon's clock
	Addresses []string           `json:"addresses"`
	Draining  bool               `json:"draining"`
	InFlight  int                `json:"inFlight"` // calls that hold a slot, over all upstreams
	Upstreams []UpstreamStatus   `json:"upstreams"`
	Tiers     []cache.TierReport `json:"tiers"`
	Packages  *Packages          `json:"packages,omitempty"` // null where none is installed
	Memory    *Memory            `json:"memory,omitempty"`   // null where it was not asked for
}

// Packages are the installed packages of npx commands.
type Packages struct {
	Installs int   `json:"installs"` // old versions included
	InUse    int   `json:"inUse"`    // from which processes of this daemon run
	Bytes    int64 `json:"bytes"`
}

// UpstreamStatus is one upstream: its admission, its endpoints and its sessions.
type UpstreamStatus struct {
	Upstream string             `json:"upstream"`
	Hosts    []string           `json:"hosts"`              // where the endpoints are, in their order
	Sessions *session.Status    `json:"sessions,omitempty"` // null where there are none
	CallsNow int                `json:"callsNow"`           // calls of agents under way, those that wait for a slot or an answer of another's included
	Calls    []proxy.CallStatus `json:"calls,omitempty"`    // the oldest of them; with Calls up to 1,000 in the order of their age
	dispatch.Status

	CommandHosts []string  `json:"commandHosts,omitempty"` // of a stdio server: the hosts of the URLs among its words, as it may be a bridge to servers there
	Package      string    `json:"package,omitempty"`      // of an npx command, as name@version: what its next start runs; "" where that is npx itself
	ProcessesNow int       `json:"processesNow,omitempty"` // of a stdio server
	MaxProcesses int       `json:"maxProcesses,omitempty"` // that a stdio server may have; left out where it is no stdio server
	Processes    []Process `json:"processes,omitempty"`    // the same, the oldest first; only where they were asked for
	Ready        *Ready    `json:"ready,omitempty"`        // what a stdio server has ready ahead of its sessions; only where processes were asked for
}

// Ready says what a stdio server has ready ahead of its sessions.
type Ready struct {
	Spare         int    `json:"spare"`                   // processes that nobody has yet
	Used          int    `json:"used"`                    // processes that sessions have
	Remembered    int    `json:"remembered"`              // sessions that have needed no process so far
	WithoutSpares string `json:"withoutSpares,omitempty"` // why no process is started ahead, though processes.warm says so
}

// Process is one process of a stdio server, with all that it has started.
type Process struct {
	PID       int    `json:"pid"` // 0: it does not run yet
	AgeMs     int64  `json:"ageMs"`
	State     string `json:"state"`            // starting, spare, busy, idle or ending
	Shared    bool   `json:"shared"`           // all agents of 2026-07-28 have it and no session, or sessions share it
	Sessions  int    `json:"sessions"`         // that it has
	Processes int    `json:"processes"`        // itself, and those that it has started
	RSS       int64  `json:"rss"`              // bytes of all of them; pages that several share count in each
	PSS       int64  `json:"pss"`              // bytes of all of them; 0: it cannot be read
	CPUMs     int64  `json:"cpuMs"`            // user and system time of all of them
	BusyMs    int64  `json:"busyMs,omitempty"` // for how long they have used more than 90 % of a core without a call; only from processes.idle_timeout on
	Stderr    string `json:"stderr,omitempty"` // the last line
}

// CacheStatsParams say how much is wanted.
type CacheStatsParams struct {
	Detailed bool `json:"detailed"` // with the most used keys
}

// CachePurgeParams say what is to go; "" is all.
type CachePurgeParams struct {
	Upstream string `json:"upstream,omitempty"` // the configured name
	Method   string `json:"method,omitempty"`   // tools/list
	Packages bool   `json:"packages,omitempty"` // installed packages of npx commands, and no answers
}

// CachePurge says what went.
type CachePurge struct {
	Purged  []Purged `json:"purged"`
	Pending []string `json:"pending"` // tiers that could not be told yet; they are not read until they have been

	Packages *PurgedPackages `json:"packages,omitempty"` // null where they were not asked for
}

// PurgedPackages are installs of packages.
type PurgedPackages struct {
	Removed int   `json:"removed"`
	Bytes   int64 `json:"bytes"` // of those
	Left    int   `json:"left"`  // from which processes run
}

// Purged is what a purge invalidated of one upstream.
type Purged struct {
	Upstream string   `json:"upstream"`
	Methods  []string `json:"methods"` // whose answers are stale: those that share a family with the one that was named as well
}
