package config

import (
	"net/http"
	"net/url"
	"time"
)

// Upstream is one MCP server.
type Upstream struct {
	Name           string     // 1 to 64 of letters, digits, '.', '_' and '-', not with '.' first
	Stdio          *Stdio     // of a server that is a command, nil for one that is reached by HTTP
	URL            *url.URL   // the first of URLs; nil with Stdio
	URLs           []*url.URL // equal replicas, none twice; at least one without Stdio
	Protocol       Protocol
	Transport      Transport
	Headers        http.Header // canonical names; replace the agent's of the same name. Secrets
	OAuth          OAuth
	ForwardCookies bool
	Streams        struct {
		Reopen time.Duration // how long a broken GET stream is re-opened before its agent's side ends, 0 for not at all
	}
	Pool     Pool
	Timeouts Timeouts
	Limits   UpstreamLimits
	Breaker  Breaker
	Retry    Retry
	Sessions struct { // legacy ones
		Mode SessionMode // of a server that is a command
		Heal Heal
	}
	Batch    Batch
	Cache    UpstreamCache
	Coalesce struct { // what shares one call to the upstream beyond what the protocol lets share
		Tools []string // patterns of path.Match: equal calls of such tools at the same time go upstream once
	}

	shown string // the URLs or the command for people, without what `${...}` stands for and without queries
	// shownCwd is the directory of a command as it is written, where `${...}` stands for a part of it; else "".
	shownCwd string
	// envFile is a command's file of variables as it is written, "" for none; envPath is what that stands for.
	envFile, envPath string

	unused []unused // keys that are given and may mean nothing; Load has none left
	stdio  Stdio    // what the keys set; what Stdio points to once the upstream is whole
}

// Protocol is what an upstream speaks.
type Protocol string

// The protocols: MCP, and any JSON-RPC 2.0 over HTTP, of which the daemon knows no method.
const (
	ProtocolMCP     Protocol = "mcp"
	ProtocolJSONRPC Protocol = "jsonrpc"
)

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

// Pool is the pool of connections to one upstream. Long streams are not in it.
type Pool struct {
	MaxConnections int
	MaxIdle        int // MaxConnections at most
	IdleTimeout    time.Duration
	MaxAge         time.Duration // of a connection that is used for another call
	WaitTimeout    time.Duration // how long a call waits for a connection
}

// Timeouts of one upstream, all above 0, and none of the others above Call.
type Timeouts struct {
	Connect   time.Duration // resolve, dial and TLS
	Handshake time.Duration // to the first byte of the answer to initialize, server/discover and ping
	FirstByte time.Duration // to that of other answers
	Call      time.Duration // the same for methods that work, and for one whole body or event
	Idle      time.Duration // between reads of an answer
}

// UpstreamLimits bound how many calls of one upstream are under way and wait.
type UpstreamLimits struct {
	MaxInFlight int           // calls under way
	Queue       int           // calls that wait
	QueueWait   time.Duration // how long one waits
}

// Breaker says when an endpoint is not called for a while.
type Breaker struct {
	Off          bool          // it is always called
	Window       time.Duration // of the ratio
	MinRequests  int           // in the window, for the ratio to count
	FailureRatio float64       // above 0 to 1
	InARow       int           // failures without a success between
	SlowCall     time.Duration // a call that takes longer counts as failed; 0 for none
}

// Retry says what is sent again.
type Retry struct {
	Max     int      // how often one call is
	Budget  float64  // the share of recent requests that may be sent again, hedges included
	Hedge   bool     // ask a second endpoint where the first takes long
	Tools   []string // patterns of path.Match: tools that may be called again though they may have run
	Methods []string // with ProtocolJSONRPC: patterns of path.Match, methods for which that holds
}

// SessionMode says which process of a command a session has.
type SessionMode string

// SessionsPerAgent gives each session a process of its own. SessionsShared is the operator's word that all sessions of a version of the
// protocol may have one: the server keeps nothing that is one session's alone.
const (
	SessionsPerAgent SessionMode = "per-agent"
	SessionsShared   SessionMode = "shared"
)

// Heal says what becomes of a session that the server has lost.
type Heal string

// HealReads opens it again, and says once that its state is gone before anything but a read goes on; HealAll is the
// operator's word that there is no state; HealOff passes the loss on.
const (
	HealReads Heal = "reads"
	HealAll   Heal = "all"
	HealOff   Heal = "off"
)

// Batch says how calls are sent together as one array. The zero Batch: they are not.
type Batch struct {
	Max    int           // calls in one array
	Window time.Duration // how long the first one waits for others
}

// UpstreamCache says how the answers of one upstream are cached. An upstream with TransportSSE is only relayed: this has
// its defaults there, and no effect.
type UpstreamCache struct {
	// TTL is the operator's word in place of the server's, by method: server/discover, tools/list, prompts/list,
	// resources/list, resources/templates/list and resources/read, nothing else. 0 is never cached. None is above MaxTTL.
	TTL map[string]time.Duration
	// Tools are the tools whose answers are cached, with their TTL, by patterns of path.Match. All above 0, none above MaxTTL.
	Tools map[string]time.Duration

	MinTTL               time.Duration // raises what a server says where that is above 0; at most MaxTTL
	MaxTTL               time.Duration // lowers what a server says, above 0
	StaleIfError         time.Duration // how long an expired answer may be served instead of a failing server's, 0 for never
	StaleAfter           time.Duration // how long a call waits where such an answer is at hand, above 0
	StaleWhileRevalidate time.Duration // how long an expired answer is given while another is fetched, 0 for never
	Scope                CacheScope    // who shares the lists that a legacy server gives its sessions
	FlushOnCall          bool          // a call of a tool outside Tools ends the operator-TTL answers of its caller
	Listen               bool          // receive changes from the server by a stream of the daemon's own
}

// CacheScope says who shares the lists that a legacy server gives its sessions.
type CacheScope string

// The scopes of lists.
const (
	CacheScopeAuto       CacheScope = "auto"       // all sessions of a credential, once they were seen to be given the same
	CacheScopeSession    CacheScope = "session"    // nobody
	CacheScopeCredential CacheScope = "credential" // all sessions of a credential
)
