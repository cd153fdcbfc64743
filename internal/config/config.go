// Package config reads the daemon's configuration: a YAML file, the servers files of agents and the command line.
//
// It promises that a Config it hands out is complete and sound: every default filled in, every key known, every value in
// its range, every combination possible. What is wrong is reported all at once, each fault with file, line and full key
// (Faults). A secret, which is whatever a header, a token or `${...}` says, is in no fault, no log line and no table.
//
// Files are taken for hostile: they are bounded in size, depth and number of values, aliases counted. The package reads
// files and the environment and nothing else. What a setting does is said at the stage that has it; cmd carries the
// values there.
package config

import (
	"net/http"
	"net/url"
	"time"
)

// Config is a whole and valid configuration. Nobody changes it after Load.
type Config struct {
	Listen    []Listen // at least one
	Upstreams []Upstream
	Auth      Auth
	Hosts     []string // lower case, no port, no brackets; in addition to the door's own
	Origins   []string // as browsers send them: lower case, scheme://host[:port] without the scheme's own port
	Metrics   Metrics
	Errors    ErrorShape
	Drain     time.Duration // how long SIGTERM waits for calls in flight, 0 for not at all; default 30 s
	Limits    Limits
	RPC       RPC
	Cache     Cache
	Admin     Admin
}

// Listen is one TCP address that the daemon listens on.
type Listen struct {
	Address  string // host:port; an empty host is every address, port 0 a free port
	Optional bool   // no fault where the machine has no such address
}

// Auth says how agents prove themselves to the daemon: not at all where both fields are zero, which Load allows on
// loopback only.
type Auth struct {
	Token    string // visible ASCII without spaces; a secret
	Generate bool   // make a token at start and print it; Token is empty then
}

// Metrics says where /metrics is.
type Metrics struct {
	Listen string // host:port, or "" for the addresses of Config.Listen
}

// ErrorShape says how the daemon's own errors look on the wire.
type ErrorShape string

// The shapes of errors: HTTP 200 with a JSON-RPC error, which is what MCP clients understand, or the HTTP status.
const (
	ErrorsJSONRPC ErrorShape = "jsonrpc"
	ErrorsHTTP    ErrorShape = "http"
)

// Limits bound what one agent or server can make the daemon hold. Sizes are bytes, 1 KiB to 1 GiB.
type Limits struct {
	Body       int64 // a request; default 16 MiB
	CheckBody  int64 // a JSON answer that is read whole and checked before it is passed on; default 4 MiB
	Event      int64 // one SSE event; default 16 MiB
	Buffered   int64 // request bodies and held answers together, Body to 64 GiB; default 256 MiB, or Body where that is more
	InFlight   int   // calls under way over all upstreams, 1 to 1,000,000; default 4096
	MaxStreams int   // open GET and listen streams, 1 to 1,000,000; default 10,000
}

// Upstream is one MCP server.
type Upstream struct {
	Name           string     // 1 to 64 of letters, digits, '.', '_' and '-', not with '.' first
	URL            *url.URL   // the first of URLs
	URLs           []*url.URL // equal replicas, 1 to 64, none twice
	Protocol       Protocol
	Transport      Transport
	Headers        http.Header // canonical names; replace the agent's of the same name. Secrets
	OAuth          OAuth
	ForwardCookies bool
	Streams        Streams
	Pool           Pool
	Timeouts       Timeouts
	Limits         UpstreamLimits
	Breaker        Breaker
	Retry          Retry
	Sessions       Sessions
	Batch          Batch
	Cache          UpstreamCache
	Coalesce       Coalesce

	shown string // the URLs for people, without what `${...}` stands for and without its query
}

// Transport is how an upstream speaks MCP over HTTP.
type Transport string

// The transports: Streamable HTTP (2025-03-26 and later), and the HTTP+SSE of 2024-11-05.
const (
	TransportHTTP Transport = "http"
	TransportSSE  Transport = "sse"
)

// OAuth says what becomes of an upstream's OAuth metadata.
type OAuth string

// Rewrite puts the daemon's own URL for `resource_metadata` and `resource`, as clients insist (RFC 9728 section 3.3);
// passthrough changes nothing.
const (
	OAuthRewrite     OAuth = "rewrite"
	OAuthPassthrough OAuth = "passthrough"
)

// Streams is about the GET streams of one upstream.
type Streams struct {
	Reopen time.Duration // how long a broken stream is re-opened before its agent's side ends, 0 for not at all; default 2 min
}

// Pool is the pool of connections to one upstream. Long streams are not in it.
type Pool struct {
	MaxConnections int           // 1 to 65,535; default 256
	MaxIdle        int           // 1 to MaxConnections; default MaxConnections
	IdleTimeout    time.Duration // above 0; default 90 s
	MaxAge         time.Duration // of a connection that is used for another call, above 0; default 5 min
	WaitTimeout    time.Duration // how long a call waits for a connection, above 0; default 5 s
}

// Timeouts of one upstream, all above 0. None of the others is above Call: one that is not given is at most Call.
type Timeouts struct {
	Connect   time.Duration // resolve, dial and TLS; default 5 s
	Handshake time.Duration // to the first byte of the answer to initialize, server/discover and ping; default 55 s
	FirstByte time.Duration // to that of other answers; default 55 s
	Call      time.Duration // the same for methods that work, and for one whole body or event; default 30 min
	Idle      time.Duration // between reads of an answer; default 5 min
}

// Default returns the configuration of an empty file. It has no upstream, so Load would refuse it.
func Default() *Config {
	return &Config{
		Listen: []Listen{{Address: "127.0.0.1:7300"}, {Address: "[::1]:7300", Optional: true}},
		Errors: ErrorsJSONRPC,
		Drain:  30 * time.Second,
		Limits: Limits{Body: 16 << 20, CheckBody: 4 << 20, Event: 16 << 20, Buffered: 256 << 20, InFlight: 4096, MaxStreams: 10_000},
		RPC:    RPC{Concurrency: 32, Timeout: 10 * time.Minute, Answers: 64 << 20},
		Cache:  defaultCache(),
	}
}

func defaultUpstream(name string) Upstream {
	return Upstream{
		Name:      name,
		Protocol:  ProtocolMCP,
		Transport: TransportHTTP,
		OAuth:     OAuthRewrite,
		Headers:   http.Header{},
		Streams:   Streams{Reopen: 2 * time.Minute},
		Pool:      Pool{MaxConnections: 256, MaxIdle: 256, IdleTimeout: 90 * time.Second, MaxAge: 5 * time.Minute, WaitTimeout: 5 * time.Second},
		Limits:    UpstreamLimits{MaxInFlight: 256, Queue: 1024, QueueWait: 2 * time.Second},
		Breaker:   Breaker{Window: 10 * time.Second, MinRequests: 20, FailureRatio: 0.5, InARow: 3},
		Retry:     Retry{Max: 2, Budget: 0.2},
		Sessions:  Sessions{Heal: HealReads},
		Cache:     defaultUpstreamCache(),
		Timeouts: Timeouts{
			Connect: 5 * time.Second, Handshake: 55 * time.Second, FirstByte: 55 * time.Second, Call: 30 * time.Minute, Idle: 5 * time.Minute,
		},
	}
}
