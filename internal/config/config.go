// Package config reads the daemon's configuration: a YAML file, the servers files of agents and the command line.
//
// It promises that a Config it hands out is complete and sound: every default filled in, every key known, every value in
// its range, every combination possible. What is wrong is reported all at once, each fault with file, line and full key
// (Faults). A secret, which is whatever a header, a token or `${...}` says, is in no fault, no log line and no table.
//
// Every key is a row of the table in keys.go: its name, where its value goes, its kind and range, its default, what it is
// for, and what it must agree with. Decoding, defaults, faults, the summary of `check`, the JSON schema, the example and
// docs/configuration.md come from the rows. A new key is a new row, and the field of Config that it fills.
//
// Files are taken for hostile: they are bounded in size, depth and number of values, aliases counted. The package reads
// files, the environment and the list of users, and nothing else. What a setting does is said at the stage that has it; cmd carries the
// values there.
package config

import (
	"cmp"
	"fmt"
	"io"
	"time"
)

// Config is a whole and valid configuration. Nobody changes it after Load. It holds values only, so two of them, or two
// upstreams, are equal by reflect.DeepEqual where they say the same. Ranges, defaults and what each key is for are in
// keys.go.
type Config struct {
	Listen    []Listen // at least one
	Upstreams []Upstream
	Auth      Auth
	Hosts     []string // lower case, no port, no brackets; in addition to the handler's own
	Origins   []string // as browsers send them: lower case, scheme://host[:port] without the scheme's own port
	Metrics   struct {
		Listen string // host:port of /metrics, or "" for the addresses of Config.Listen
	}
	Errors ErrorShape
	HTTP   HTTPEngine
	Drain  time.Duration
	Limits Limits
	RPC    RPC
	Cache  Cache
	Admin  struct {
		Group string // name or number of the group that may use the control socket, too; "" for nobody but the daemon's user
	}
	Processes AllProcesses // of all stdio servers together
}

// Listen is one TCP address or Unix socket that the daemon listens on.
type Listen struct {
	Address  string // host:port; an empty host is every address, port 0 a free port; "" with Unix
	Optional bool   // no fault where the machine has no such address
	Unix     string // absolute path of a socket, or ""
}

// String returns the address, and whether it may be missing.
func (l Listen) String() string {
	if l.Unix != "" {
		return unixPrefix + l.Unix
	}
	if l.Optional {
		return l.Address + " (where it exists)"
	}
	return l.Address
}

// Auth says how agents prove themselves to the daemon: not at all where both fields are zero, which Load allows on
// loopback only.
type Auth struct {
	Token    Secret // visible ASCII without spaces
	Generate bool   // make a token at start and print it; Token is empty then
}

// String says whether there is a token.
func (a Auth) String() string {
	if a.Generate {
		return "made at start"
	}
	return a.Token.String()
}

// Secret is a text that may hold a password. Whatever prints, logs or encodes it shows only what people may see of it.
type Secret struct {
	Value string // "" for none
	shown string // what is in the file, without passwords; "" where nothing of it may be seen
}

// String returns what people may see: "none", "set", or where the secret is a URL, the rest of it.
func (s Secret) String() string {
	if s.Value == "" {
		return "none"
	}
	return cmp.Or(s.shown, "set")
}

// Format writes String, whatever the verb is.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.String()) }

// MarshalText is String, for encoding/json and log/slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// ErrorShape says how the daemon's own errors look on the wire.
type ErrorShape string

// The shapes of errors: HTTP 200 with a JSON-RPC error, which is what MCP clients understand, or the HTTP status.
const (
	ErrorsJSONRPC ErrorShape = "jsonrpc"
	ErrorsHTTP    ErrorShape = "http"
)

// HTTPEngine says what speaks HTTP/1.1, with agents and with servers.
type HTTPEngine string

// The engines: the daemon's own where there is one, which is on Linux, or net/http.
const (
	HTTPAuto   HTTPEngine = "auto"
	HTTPCompat HTTPEngine = "compat"
)

// Limits bound what one agent or server can make the daemon hold. Sizes are bytes.
type Limits struct {
	Body        int64 // a request
	CheckBody   int64 // a JSON answer that is read whole and checked before it is passed on
	Event       int64 // one SSE event
	Buffered    int64 // request bodies and held answers together, never less than Body
	InFlight    int   // calls under way over all upstreams
	MaxStreams  int   // open GET and listen streams
	Connections int   // of agents, open at once
}

// RPC bounds the arrays of calls on /rpc/<name>.
type RPC struct {
	Concurrency int           // elements of one array under way at once, times Batch.Max where the upstream takes arrays
	Timeout     time.Duration // of one array
	Answers     int64         // bytes of its answers together
}

// Cache says where answers are kept and for whom. The tiers are asked in the order of the fields.
type Cache struct {
	Memory       Memory
	Redis        Redis
	Database     Database
	PartitionKey Secret   // shared between daemons; empty for the one in the state directory
	InertHeaders []string // canonical names, in addition to the cache's own: they say nothing of who asks
}

// Memory is the tier in the daemon itself. There is always one.
type Memory struct {
	Size     int64 // bytes
	MaxEntry int64 // bytes of one entry in any tier, an eighth of Size at most
}

// Redis is the tier that daemons share.
type Redis struct {
	URL     Secret        // redis://, rediss:// or unix://; empty for no such tier
	Timeout time.Duration // of one call with everything in it
	Pool    int           // connections
}

// Database is the tier that outlives a restart: a file of this daemon's own, which is the default where there is no Redis and
// is never beside one, or Postgres. What a kind does not have is zero.
type Database struct {
	Kind         DatabaseKind
	Path         Secret        // of the SQLite file: absolute, or below the state directory
	URL          Secret        // postgres:// or postgresql://
	Timeout      time.Duration // of one call with everything in it
	Size         int64         // bytes of the SQLite file, of which an entry may take an eighth
	PrivateReads bool          // keep answers to resources/read that are not public, too
	PoolMax      int           // connections to Postgres
	PoolLifetime time.Duration // of a connection to Postgres
}

// DatabaseKind is what a Database is.
type DatabaseKind string

// The kinds: an embedded file, a server, and no such tier.
const (
	DatabaseSQLite   DatabaseKind = "sqlite"
	DatabasePostgres DatabaseKind = "postgres"
	DatabaseOff      DatabaseKind = "off"
)
