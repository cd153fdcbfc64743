package cache

// Stats is what the stage holds and has done since the start, for people: all upstreams and tiers at one moment, each
// number by itself exact.
type Stats struct {
	Tiers     []TierReport     `json:"tiers"`     // in the order in which they are asked
	Upstreams []UpstreamReport `json:"upstreams"` // by name
}

// TierReport is one tier.
type TierReport struct {
	Tier      string `json:"tier"`      // memory, redis or database
	Entries   int64  `json:"entries"`   // of Redis and Postgres: what this daemon has written since its start; -1 where it is not known
	Bytes     int64  `json:"bytes"`     // likewise
	Evictions int64  `json:"evictions"` // entries that went for want of room; -1 where it is not known
	Hits      uint64 `json:"hits"`      // answers that it gave
	Misses    uint64 `json:"misses"`    // questions that it had no answer to
	Errors    uint64 `json:"errors"`    // reads that failed or took too long
	Skipped   uint64 `json:"skipped"`   // reads that were not made: the breaker was open, or a bump was owed
	Written   uint64 `json:"written"`   // entries
	Queue     int    `json:"queue"`     // entries that wait to be written behind
	Dropped   uint64 `json:"dropped"`   // entries that were not written: the queue was full, or the tier failed
	Owed      int    `json:"owed"`      // generations that the tier could not be told of yet
	Breaker   string `json:"breaker"`   // closed, half-open or open; "" for memory
	Error     string `json:"error"`     // the last one, without secrets, or that other daemons are not heard; "" where there is none
}

// UpstreamReport is one upstream.
type UpstreamReport struct {
	Upstream  string            `json:"upstream"`
	Hits      map[string]uint64 `json:"hits"` // by tier
	Misses    uint64            `json:"misses"`
	Stale     uint64            `json:"stale"`           // expired answers given for want of a fresh one
	Collapsed uint64            `json:"collapsed"`       // answers of another caller's flight
	Bypass    uint64            `json:"bypass"`          // requests that are not for the cache
	Stored    uint64            `json:"stored"`          // answers kept
	Listening int               `json:"listening"`       // streams of the daemon's own on which changes would come
	Scope     *ScopeReport      `json:"scope,omitempty"` // of lists that legacy sessions may share; nil where none do
	Keys      []KeyReport       `json:"keys,omitempty"`
}

// KeyReport is one question: how often memory answered it, and by which method. What it is of is nobody's business.
type KeyReport struct {
	Method string `json:"method"`
	Key    string `json:"key"` // the first eight bytes, in hex
	Hits   uint64 `json:"hits"`
	Bytes  int    `json:"bytes"`
}
