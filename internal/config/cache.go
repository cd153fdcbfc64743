package config

import "time"

// Cache says where answers are kept and for whom. The tiers are asked in the order of the fields.
type Cache struct {
	Memory       Memory
	Redis        Redis
	Database     Database
	PartitionKey string   // at least 32 bytes, shared between daemons; "" for the one in the state directory. A secret
	InertHeaders []string // canonical names, in addition to the cache's own: they say nothing of who asks
}

// Memory is the tier in the daemon itself. There is always one.
type Memory struct {
	Size     int64 // bytes, 1 MiB to 64 GiB; default 128 MiB
	MaxEntry int64 // bytes of one entry in any tier, 1 KiB to 64 MiB and an eighth of Size; default 1 MiB, or a sixteenth of Size where that is less
}

// Redis is the tier that daemons share. Its String is what people may see.
type Redis struct {
	URL     string        // redis://, rediss:// or unix://; "" for no such tier. May hold a password
	Timeout time.Duration // of one call with everything in it, above 0 to 10 s; default 50 ms
	Pool    int           // connections, 1 to 1024; default 16

	shown string // URL for people, where there is one
}

// Database is the tier that outlives a restart: a file of this daemon's own, which is the default where there is no Redis and
// is never beside one, or Postgres. Its String is what people may see.
type Database struct {
	Kind         DatabaseKind
	Path         string        // of the SQLite file: absolute, or below the state directory; default cache.db. "" with another kind
	URL          string        // postgres:// or postgresql://; "" with another kind. May hold a password
	Timeout      time.Duration // of one call with everything in it, above 0 to 10 s; default 150 ms, 0 with kind off
	Size         int64         // bytes of the SQLite file, 4 MiB to 1024 GiB; default 1 GiB, 0 with another kind. An entry may take an eighth
	PrivateReads bool          // keep answers to resources/read that are not public, too; default false
	PoolMax      int           // connections to Postgres, 1 to 1000; default 4, 0 with another kind
	PoolLifetime time.Duration // of a connection to Postgres, 1 s to 8760 h; default 1 h, 0 with another kind

	shown string // Path or URL for people, where `${...}` or a password may be in it
}

// DatabaseKind is what a Database is.
type DatabaseKind string

// The kinds: an embedded file, a server, and no such tier.
const (
	DatabaseSQLite   DatabaseKind = "sqlite"
	DatabasePostgres DatabaseKind = "postgres"
	DatabaseOff      DatabaseKind = "off"
)

// UpstreamCache says how the answers of one upstream are cached. None of its times is above 24 h but StaleAfter. An
// upstream with TransportSSE is only relayed: this has its defaults there, and no effect.
type UpstreamCache struct {
	// TTL is the operator's word in place of the server's, by method: server/discover, tools/list, prompts/list,
	// resources/list, resources/templates/list and resources/read, nothing else. 0 is never cached. None is above MaxTTL.
	TTL map[string]time.Duration
	// Tools are the tools whose answers are cached, with their TTL, by patterns of path.Match. All above 0, none above MaxTTL.
	Tools map[string]time.Duration

	MinTTL               time.Duration // raises what a server says where that is above 0; at most MaxTTL; default 0
	MaxTTL               time.Duration // lowers what a server says, above 0; default 24 h
	StaleIfError         time.Duration // how long an expired answer may stand in for a failing server, 0 for never; default 1 h
	StaleAfter           time.Duration // how long a call waits where such an answer is at hand, above 0; default 2 s
	StaleWhileRevalidate time.Duration // how long an expired answer is given while another is fetched, 0 for never; default 0
	Scope                CacheScope    // who shares the lists that a legacy server gives its sessions; default auto
	FlushOnCall          bool          // a call of a tool outside Tools ends the operator-TTL answers of its caller; default true
	Listen               bool          // hear of changes from the server by a stream of the daemon's own; default true
}

// CacheScope says who shares the lists that a legacy server gives its sessions.
type CacheScope string

// The scopes of lists.
const (
	CacheScopeAuto       CacheScope = "auto"       // all sessions of a credential, once they were seen to be given the same
	CacheScopeSession    CacheScope = "session"    // nobody
	CacheScopeCredential CacheScope = "credential" // all sessions of a credential
)

// Coalesce says what shares one call to the upstream beyond what the protocol lets share.
type Coalesce struct {
	Tools []string // patterns of path.Match: equal calls of such tools at the same time go upstream once; default none
}

// Admin is about the control socket.
type Admin struct {
	Group string // name or number of the group that may use the socket, too; "" for nobody but the daemon's user
}

// The ranges of what is said of the cache.
const (
	leastMemory   = 1 << 20
	mostMemory    = 64 << 30
	leastEntry    = 1 << 10
	mostEntry     = 64 << 20 // the Redis adapter's bound, so that one limit serves all tiers
	leastDatabase = 4 << 20
	mostDatabase  = 1 << 40
	leastKey      = 32 // bytes of a partition key

	mostTierTimeout  = 10 * time.Second
	leastLifetime    = time.Second
	mostRedisPool    = 1024
	mostPostgresPool = 1000
	mostTTL          = 24 * time.Hour
)

func defaultCache() Cache {
	return Cache{
		Memory:   Memory{Size: 128 << 20, MaxEntry: 1 << 20},
		Redis:    Redis{Timeout: 50 * time.Millisecond, Pool: 16},
		Database: Database{Kind: DatabaseSQLite, Path: "cache.db", Timeout: 150 * time.Millisecond, Size: 1 << 30},
	}
}

func defaultUpstreamCache() UpstreamCache {
	return UpstreamCache{
		TTL:    map[string]time.Duration{},
		Tools:  map[string]time.Duration{},
		MaxTTL: mostTTL,
		Scope:  CacheScopeAuto, StaleIfError: time.Hour,
		StaleAfter:  2 * time.Second,
		FlushOnCall: true,
		Listen:      true,
	}
}
