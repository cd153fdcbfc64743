package api

import (
	"time"

	"fluentd-perf/internal/proxy"
)

// The calls of whoever watches a daemon.
const (
	CallSample  = "sample"  // SampleParams, Sample
	CallRequest = "request" // RequestParams, Request: a call under way, to be made again
)

// RequestParams name a call under way.
type RequestParams struct {
	Upstream string `json:"upstream"`
	Request  string `json:"request"` // its id, as in a Sample
}

// SampleParams say how much is wanted. A Sample costs the daemon about what a scrape of /metrics does.
type SampleParams struct {
	Calls     int    `json:"calls,omitempty"`     // how many of each upstream's calls under way are told of, the oldest first; at most 1,000
	Upstream  string `json:"upstream,omitempty"`  // of this one up to 1,000
	Processes bool   `json:"processes,omitempty"` // with the processes of stdio servers: that reads the process table
}

// Sample is what a daemon's counters say at a moment. They count since its start: what happens is the difference of two. Those of
// histograms may begin again while it runs (Prometheus' reset of a native histogram).
type Sample struct {
	At        time.Time `json:"at" jsonschema:"by the daemon's clock"`
	Started   time.Time `json:"started" jsonschema:"when the daemon was started: another time is another daemon, whose counters begin at zero"`
	UpMs      int64     `json:"upMs" jsonschema:"since the start of the daemon, by a clock that nobody sets"`
	PID       int       `json:"pid" jsonschema:"of the daemon"`
	Version   string    `json:"version" jsonschema:"of the daemon"`
	Addresses []string  `json:"addresses" jsonschema:"where the daemon listens"`
	Draining  bool      `json:"draining,omitempty" jsonschema:"the daemon is stopping"`
	Memory    int64     `json:"memory" jsonschema:"bytes that the daemon has from the system and has not given back: fluentd_perf_memory_usage_bytes"`
	CPUMs     int64     `json:"cpuMs" jsonschema:"user and system time of the daemon since its start"`

	Goroutines  int `json:"goroutines" jsonschema:"of the daemon"`
	Descriptors int `json:"descriptors,omitempty" jsonschema:"files and connections that the daemon has open, where the process table was read"`

	Upstreams []UpstreamSample `json:"upstreams" jsonschema:"in the order of the configuration"`
	Tiers     []TierSample     `json:"tiers" jsonschema:"of the cache"`
}

// UpstreamSample is one upstream: counters since the start of the daemon, and what there is now.
type UpstreamSample struct {
	Upstream  string                       `json:"upstream" jsonschema:"the configured name"`
	Requests  map[string]uint64            `json:"requests,omitempty" jsonschema:"by outcome: fluentd_perf_requests_total"`
	Methods   map[string]uint64            `json:"methods,omitempty" jsonschema:"the same by method"`
	Durations map[string]Histogram         `json:"durations,omitempty" jsonschema:"by kind: fluentd_perf_request_duration_seconds"`
	Server    map[string]Histogram         `json:"server,omitempty" jsonschema:"by kind: fluentd_perf_upstream_duration_seconds"`
	Cache     map[string]map[string]uint64 `json:"cache,omitempty" jsonschema:"by tier and outcome: fluentd_perf_cache_requests_total; without zeros"`

	SavedCalls   uint64  `json:"savedCalls,omitempty" jsonschema:"fluentd_perf_saved_calls_total"`
	SavedSeconds float64 `json:"savedSeconds,omitempty" jsonschema:"fluentd_perf_saved_seconds_total"`
	Coalesced    uint64  `json:"coalesced,omitempty" jsonschema:"fluentd_perf_coalesced_total"`
	Shed         uint64  `json:"shed,omitempty" jsonschema:"requests refused because a limit was reached: fluentd_perf_shed_total"`
	Retries      uint64  `json:"retries,omitempty" jsonschema:"calls that were sent again"`

	InFlight  int              `json:"inFlight" jsonschema:"calls that hold a slot now"`
	Queued    int              `json:"queued" jsonschema:"calls that wait for one now"`
	CallsNow  int              `json:"callsNow" jsonschema:"calls of agents under way now, those that wait included"`
	Sessions  int              `json:"sessions,omitempty" jsonschema:"that the daemon knows of"`
	Endpoints []EndpointSample `json:"endpoints" jsonschema:"in their order"`
	Calls     []CallSampled    `json:"calls,omitempty" jsonschema:"the oldest of those under way"`

	Subscriptions int `json:"subscriptions,omitempty" jsonschema:"credentials for which the cache subscribes to changes now: fluentd_perf_cache_subscriptions"`
	Listening     int `json:"listening,omitempty" jsonschema:"streams that it has open for that: fluentd_perf_cache_listening"`

	ProcessesNow int              `json:"processesNow,omitempty" jsonschema:"of a stdio server"`
	Processes    []ProcessSampled `json:"processes,omitempty" jsonschema:"the same, the oldest first, where the process table was read"`
}

// EndpointSample is what is known of one endpoint.
type EndpointSample struct {
	Host     string `json:"host,omitempty" jsonschema:"where it is; of a stdio server its program"`
	Breaker  string `json:"breaker" jsonschema:"closed, half-open, open or off"`
	InFlight int    `json:"inFlight" jsonschema:"calls under way there"`
	RetryMs  int64  `json:"retryMs,omitempty" jsonschema:"until it is tried again"`
	Failures int    `json:"failures,omitempty" jsonschema:"since it last worked"`
	Trouble  string `json:"trouble,omitempty" jsonschema:"what the last failure was"`
}

// TierSample is one tier of the cache.
type TierSample struct {
	Tier    string `json:"tier" jsonschema:"memory, redis or database"`
	Entries int64  `json:"entries" jsonschema:"-1 where it is not known"`
	Bytes   int64  `json:"bytes" jsonschema:"-1 where it is not known"`
	Queue   int    `json:"queue,omitempty" jsonschema:"entries that wait to be written"`
	Breaker string `json:"breaker,omitempty" jsonschema:"closed, half-open or open; left out for memory"`
}

// CallSampled is a call under way.
type CallSampled = proxy.CallStatus

// ProcessSampled is a process of a stdio server, with all that it has started.
type ProcessSampled struct {
	PID       int    `json:"pid" jsonschema:"0: it does not run yet"`
	AgeMs     int64  `json:"ageMs"`
	State     string `json:"state" jsonschema:"starting, spare, busy, idle or ending"`
	Sessions  int    `json:"sessions" jsonschema:"that it has"`
	Processes int    `json:"processes" jsonschema:"itself, and those that it has started"`
	RSS       int64  `json:"rss" jsonschema:"bytes of all of them; pages that several share count in each"`
	CPUMs     int64  `json:"cpuMs" jsonschema:"user and system time of all of them"`
}

// Histogram are durations in seconds, in the buckets of a native histogram of Prometheus: bucket i of schema s holds what is above
// 2^((i-1)/2^s) and at most 2^(i/2^s).
type Histogram struct {
	Count   uint64     `json:"count"`
	Sum     float64    `json:"sum" jsonschema:"seconds"`
	Schema  int32      `json:"schema" jsonschema:"2^schema buckets to each power of two; it becomes smaller when there are too many"`
	Zero    uint64     `json:"zero,omitempty" jsonschema:"how many took no time"`
	Buckets [][2]int64 `json:"buckets,omitempty" jsonschema:"index and count of each bucket that has any, ascending"`
}

// Request is the request of a call under way, without what it shows its server who it is.
type Request = proxy.CallRequest
