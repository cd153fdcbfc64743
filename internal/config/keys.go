package config

import (
	"math"
	"net/http"
	"runtime"
	"slices"
	"time"
)

// This file is the table of all keys; nothing else in the package names one. A row says the key, the field, the kind with its
// range, the default and what it is for; then, where there is any, what it must agree with. `go test ./internal/config -update`
// writes the files that are made from it.

// Keys that are spoken of elsewhere.
const (
	upstreamsKey       = "upstreams"
	tokenKey           = "auth.token"
	databasePoolKey    = "cache.database.pool"
	databaseTimeoutKey = "cache.database.timeout"
	transportKey       = "transport"
	toolsKey           = "cache.tools"
	urlKey             = "url"
	commandKey         = "command"
	allowSystemKey     = "processes.allow_system"

	// expandedKeys are the keys that may hold `${...}`.
	expandedKeys = "url, urls, headers, command, env, env_file, cwd, auth.token and cache.partition_key"
)

// Bounds that several keys have.
const (
	maxCalls       = 1_000_000
	maxProcesses   = 4096
	maxBatch       = 1000
	maxTTL         = 24 * time.Hour
	maxTierTimeout = 10 * time.Second
	minSize        = 1 << 10
	maxSize        = 1 << 30 // offsets into a message are 32 bits wide
)

// keys are the keys of the file.
func (l *loader) keys() table {
	cfg := l.config
	exposed := func(c check) bool { // whoever reaches the daemon uses its servers
		return c.base.below("auth").sound() && c.base.below(tokenKey).sound() && cfg.Auth == (Auth{})
	}
	return slices.Concat(table{
		newRow("listen", &cfg.Listen, l.addresses(), defaultListen(),
			"where agents connect; left out, this and, where the machine has IPv6, [::1]:7300; unix:PATH is a Unix socket of the daemon's user alone").
			shows("127.0.0.1:7300").checked(func(c check) { l.checkListen(c, exposed(c)) }),
		newRow(upstreamsKey, &cfg.Upstreams, l.upstreams(), nil, "the servers by name: agents use http://127.0.0.1:7300/mcp/NAME, or /rpc/NAME"),
	}, l.tierKeys(), table{
		section("auth", "how agents prove themselves to the daemon"),
		newRow(tokenKey, &cfg.Auth, expanded("text, or generate", bearer), Auth{},
			`"${env:NAME}", "${file:PATH}", or generate: made at start and printed; needed where listen is not loopback alone`),
		newRow("hosts", &cfg.Hosts, list("host names or IP addresses", hostName, ""), nil,
			"names beside localhost and the loopback addresses that agents may use in the URL"),
		newRow("origins", &cfg.Origins, list("origins", origin, ""), nil, "web pages that may connect, as http://localhost:6274 for the MCP Inspector"),
		section("admin", "the control socket"),
		newRow("admin.group", &cfg.Admin.Group, plain("name or number of a group", group), "", "the group that may use it beside the daemon's own user"),
		section("metrics", "where /metrics is"),
		newRow("metrics.listen", &cfg.Metrics.Listen, plain("host:port", hostPort), "", "an address of its own, as 127.0.0.1:9400; left out, those of listen").
			checked(func(c check) { l.checkMetrics(c, exposed(c)) }),
		newRow("errors", &cfg.Errors, oneOf(ErrorsJSONRPC, ErrorsHTTP), ErrorsJSONRPC, "the daemon's own errors: jsonrpc inside a 200, or http with their status"),
		newRow("http", &cfg.HTTP, oneOf(HTTPAuto, HTTPCompat), HTTPAuto,
			"what speaks HTTP/1.1 with agents and servers: auto is the daemon's own, which costs less (on Linux), compat Go's library"),
		newRow("drain", &cfg.Drain, duration(0, longest), 30*time.Second, "how long a stop waits for calls under way"),
		section("limits", "what agents and servers can make the daemon hold"),
		newRow("limits.body", &cfg.Limits.Body, size(minSize, maxSize), 16<<20, "a request"),
		newRow("limits.check_body", &cfg.Limits.CheckBody, size(minSize, maxSize), 4<<20,
			"a JSON answer that is read whole and checked; a larger one is passed on as it comes"),
		newRow("limits.event", &cfg.Limits.Event, size(minSize, maxSize), 16<<20, "one SSE event"),
		newRow("limits.buffered", &cfg.Limits.Buffered, size(minSize, 64<<30), 256<<20, "requests and held answers together; body at least").
			checked(notBelow(&cfg.Limits.Buffered, "limits.body", &cfg.Limits.Body)),
		newRow("limits.in_flight", &cfg.Limits.InFlight, count(1, maxCalls), 4096, "calls under way over all servers"),
		newRow("limits.max_streams", &cfg.Limits.MaxStreams, count(1, 1_000_000), 10_000, "open GET and listen streams"),
		newRow("limits.connections", &cfg.Limits.Connections, count(1, 1_000_000), 12_000,
			"open connections of agents: at the limit the one that has been idle for longest is closed"),
	}, l.processKeys(), table{
		section("rpc", "arrays of calls on /rpc/NAME"),
		newRow("rpc.concurrency", &cfg.RPC.Concurrency, count(1, maxBatch), 32, "calls of one array under way at once, times batch.max where the server takes arrays"),
		newRow("rpc.timeout", &cfg.RPC.Timeout, duration(aboveZero, longest), 10*time.Minute, "for one array"),
		newRow("rpc.answers", &cfg.RPC.Answers, size(minSize, maxSize), 64<<20, "the answers of one array together"),
	})
}

// tierKeys say where answers are kept.
func (l *loader) tierKeys() table {
	cfg, redis, db := &l.config.Cache, &l.config.Cache.Redis, &l.config.Cache.Database
	noRedis := refusal{"cache.redis.url", func() bool { return redis.URL.Value == "" }, "means nothing without url"}
	beside := refusal{"cache.database.url", func() bool { return redis.URL.Value != "" && db.Kind == DatabaseSQLite },
		"means nothing beside cache.redis: the embedded file is for a daemon that shares nothing"}
	with := func(kind DatabaseKind, why string) refusal {
		return refusal{beside.by, func() bool { return db.Kind == kind }, "means nothing with " + why}
	}
	off := with(DatabaseOff, "url off")
	return table{
		section("cache", "where answers are kept"),
		section("cache.memory", "in the daemon itself, always"),
		newRow("cache.memory.size", &cfg.Memory.Size, size(1<<20, 64<<30), 128<<20, "all entries together"),
		newRow("cache.memory.max_entry", &cfg.Memory.MaxEntry, size(1<<10, 64<<20), 1<<20,
			"one entry in any tier, an eighth of size at most; what is larger than limits.check_body is never kept").
			checked(func(c check) { c.checkMemory(&cfg.Memory, "cache.memory.size") }),
		section("cache.redis", "a Redis that daemons share"),
		newRow("cache.redis.url", &redis.URL, expanded("redis://, rediss:// or unix:///path", redisURL), Secret{},
			`where it is, as "redis://:${env:REDIS_PASSWORD}@127.0.0.1:6379/0"`),
		newRow("cache.redis.timeout", &redis.Timeout, duration(aboveZero, maxTierTimeout), 50*time.Millisecond, "for one call").refused(noRedis),
		newRow("cache.redis.pool", &redis.Pool, count(1, 1024), 16, "connections").refused(noRedis),
		section("cache.database", "what outlives a restart: a file in the state directory, never beside redis; or Postgres; or off").
			checked(func(check) { db.dropInapplicable(redis.URL.Value != "") }),
		newRow("cache.database.url", db, expanded("sqlite:PATH, postgres://... or off", databaseURL), Database{Kind: DatabaseSQLite, Path: sqlitePath("cache.db")},
			`where it is, or "postgres://user:${env:PGPASSWORD}@host/database"`).
			refused(refusal{beside.by, beside.when, beside.why + "; leave it out, or name a Postgres server"}).checked(func(c check) { c.warnPooler(db) }),
		newRow(databaseTimeoutKey, &db.Timeout, duration(aboveZero, maxTierTimeout), 150*time.Millisecond, "for one call").refused(beside, off),
		newRow("cache.database.size", &db.Size, size(4<<20, 1<<40), 1<<30, "the file; an entry may take an eighth").
			refused(beside, with(DatabasePostgres, "Postgres: it bounds the file of SQLite"), off),
		newRow("cache.database.private_reads", &db.PrivateReads, boolean, false, "keep private answers to resources/read there, too").refused(beside, off),
		section(databasePoolKey, "connections to Postgres").refused(with(DatabaseSQLite, "SQLite: a file has no pool of connections"), off),
		newRow("cache.database.pool.max", &db.PoolMax, count(1, 1000), 4, "how many"),
		newRow("cache.database.pool.lifetime", &db.PoolLifetime, duration(time.Second, longest), time.Hour, "how long one is used"),
		newRow("cache.partition_key", &cfg.PartitionKey, expanded("32 bytes or more", partitionKey), Secret{},
			`"${file:PATH}", the same in daemons that share Redis or Postgres; left out, the one in the state directory`),
		newRow("cache.inert_headers", &cfg.InertHeaders, list("names of headers", inertHeader, ": names of headers know no upper and lower case"), nil,
			"headers of agents that say nothing of who asks"),
	}
}

// processKeys bound the processes of all servers that are commands. The summary has them where there is such a server.
func (l *loader) processKeys() table {
	cfg := &l.config.Processes
	unused := func() bool {
		return !slices.ContainsFunc(l.config.Upstreams, func(u Upstream) bool { return u.Stdio != nil })
	}
	return table{
		section("processes", "those of all servers that are commands"),
		newRow("processes.total", &cfg.Total, count(1, maxProcesses), 0, "how many; left out, one for each 128 MiB of the machine's memory, from 16 to 256").
			shows("64").leftOut().unshown(unused).checked(otherwise(&cfg.Total, func(c check) int { return defaultTotal(c.by.sources) })),
		newRow("processes.start_concurrency", &cfg.StartConcurrency, count(1, 256), 0, "how many start at once; left out, one for each core, at least 2").
			shows("2").leftOut().unshown(unused).checked(otherwise(&cfg.StartConcurrency, func(check) int { return max(2, runtime.NumCPU()) })),
		newRow("processes.start_timeout", &cfg.StartTimeout, duration(time.Second, time.Hour), 5*time.Minute,
			"how long a start may take, an installation included; agents wait for handshake at most").unshown(unused),
		newRow(allowSystemKey, &cfg.allowSystem, boolean, false,
			"in a service of the system, too, commands are started, as its user and in its sandbox; else they are refused there").
			unshown(func() bool { return unused() || !cfg.allowSystem }).checked(l.refuseCommands),
		newRow("processes.path", &cfg.Path, searchPath, SearchPath{},
			"where commands are looked for: login, which is the environment of your login shell; inherit, the daemon's own; or absolute directories "+
				"in their order; left out, login under a service manager or a desktop, else inherit, and login for what is not found").
			shows("login").leftOut().unshown(unused),
	}
}

// whyRefused is said of a command that the daemon may not start: see AllProcesses.
const whyRefused = "is refused in the system's unit, where it would run as the service's user and in its sandbox: use the user unit (systemctl --user), or set " +
	allowSystemKey + ": true"

// addressKeys are the keys of an upstream that say where it is. A servers file has others for that. at gets the places where
// the URLs are written.
func (u *Upstream) addressKeys(at *[]key) table {
	return table{
		newRow("url", &u.URLs, endpoint(u, at), nil, "the server").shows("https://docs.example.com/mcp").
			checked(func(c check) {
				if c.base.sound() && !c.given() && !c.has("urls") && !c.has(commandKey) {
					c.base.fault("has neither url nor command")
				}
			}),
		newRow("urls", &u.URLs, replicas(endpoint(u, at)), nil, "in place of url: equal servers, of which each call goes to the least busy one").
			shows("[https://a.example.com/mcp, https://b.example.com/mcp]").leftOut().refused(u.relayed()).
			checked(func(c check) {
				if c.given() && c.has("url") {
					c.fault("is given beside url: put all into urls")
				}
			}),
		newRow("headers", &u.Headers, headerFields, http.Header{}, "set on every request to the server, in place of the agent's own of that name").
			shows(`{Authorization: "Bearer ${env:DOCS_TOKEN}"}`).refused(u.piped()),
		newRow(commandKey, &u.stdio.Command, words(u), nil, "in place of url: a server over stdin and stdout, its program and arguments; no shell reads them").
			shows(`[npx, -y, "@modelcontextprotocol/server-filesystem", /data]`).leftOut().inColumn().
			checked(func(c check) {
				if c.given() && (c.has("url") || c.has("urls")) {
					c.fault("is given beside url: a server is either a command or behind a URL")
				}
			}),
		newRow("env", &u.stdio.Env, variables, map[string]Secret{}, "variables of the process, over what it gets of the daemon's environment").
			shows(`{GITHUB_TOKEN: "${env:GITHUB_TOKEN}"}`).refused(u.unpiped()),
		newRow("env_file", &u.envFile, expanded("path", u.variablesOf), "", "a file of more variables, NAME=value lines, over which env wins; a relative one begins where this file is").
			shows(".env").leftOut().refused(u.unpiped()).checked(u.readEnvFile),
		newRow("cwd", &u.stdio.Cwd, expanded("path", u.startIn), "", "the directory it starts in; left out, HOME, where a relative one begins").
			shows("/data").refused(u.unpiped()).checked(func(c check) { u.stdio.Cwd = absolute(c.by.home(), u.stdio.Cwd) }),
	}
}

// piped is said of what means nothing with an upstream that is a command.
func (u *Upstream) piped() refusal {
	return refusal{commandKey, func() bool { return len(u.stdio.Command) > 0 }, "means nothing with command, which is reached by a pipe"}
}

// unpiped is said of what means nothing with an upstream that is none.
func (u *Upstream) unpiped() refusal {
	return refusal{commandKey, func() bool { return len(u.stdio.Command) == 0 }, "means nothing without command"}
}

// relayed is said of what means nothing with an upstream of the old transport.
func (u *Upstream) relayed() refusal {
	return refusal{transportKey, func() bool { return u.Transport == TransportSSE }, "means nothing with transport sse, which is only relayed"}
}

// plain is said of what means nothing with an upstream that does not speak MCP.
func (u *Upstream) plain() refusal {
	return refusal{"protocol", func() bool { return u.Protocol == ProtocolJSONRPC }, "means nothing with protocol jsonrpc, which has no MCP in it"}
}

// keys are the keys of an upstream that an entry of a servers file may have, too.
func (u *Upstream) keys() table {
	return slices.Concat(u.stdioKeys(), u.protocolKeys(), u.connectionKeys(), u.failureKeys(), u.cacheKeys())
}

func (u *Upstream) stdioKeys() table {
	stdio, none := &u.stdio, u.unpiped()
	processes := &stdio.Processes
	return table{
		newRow("inherit_env", &stdio.InheritEnv, list("names or patterns", pattern, ""), nil,
			`variables that it gets of the daemon's environment besides the usual ones, as [KUBECONFIG, "AWS_*"]`).refused(none),
		newRow("allow_users", &stdio.AllowUsers, users, nil, "who of this machine may use it besides the daemon's own user and root").refused(none),
		newRow("resolve", &stdio.Resolve, boolean, true, "npx: install the package once and run it without npx, where that runs the same; false runs the command as it is written").
			refused(none).checked(u.unusedWhen((*Upstream).isNotNPX, notNPX)),
		section("processes", "those of a command").refused(none),
		newRow("processes.max", &processes.Max, count(1, maxProcesses), 16, "how many; a server with sessions has one for each, if they do not share"),
		newRow("processes.warm", &processes.Warm, count(0, 64), 1,
			"how many are started ahead of sessions, for each of the four initializes used last; 0 is none, as for a server that you work on").
			checked(u.unusedWhen((*Upstream).isShared, whenShared)),
		newRow("processes.lazy", &processes.Lazy, boolean, true,
			"a session whose initialize and lists are remembered has none until its first call; false: one is started behind at once").
			checked(u.unusedWhen((*Upstream).isShared, whenShared)),
		newRow("processes.replicas", &processes.Replicas, count(1, 64), 1, "how many serve the agents of a server without sessions, or each version of one whose sessions share; max at most").
			checked(notAbove(&processes.Replicas, "processes.max", &processes.Max)),
		newRow("processes.idle_timeout", &processes.IdleTimeout, duration(time.Second, longest), 10*time.Minute, "how long one stays that nobody uses"),
		newRow("processes.memory", &processes.Memory, orNone(size(1<<20, 1<<40)), 0, `for one and all that it starts, as 2GiB; "" is no limit; it needs a cgroup (docs/stdio.md)`),
		newRow("processes.tasks", &processes.Tasks, count(0, 1<<22), 0, "processes and threads of one and all that it starts; 0 is no limit; it needs a cgroup, too"),
		newRow("processes.refresh", &processes.Refresh, duration(time.Second, longest), 24*time.Hour, "npx: how old a version may be that is not an exact one, before it is looked up again").
			checked(u.unusedWhen((*Upstream).isNotNPX, notNPX), u.unusedWhen((*Upstream).isUnresolved, "means nothing with resolve: false")),
	}
}

func (u *Upstream) protocolKeys() table {
	endless := refusal{transportKey, u.relayed().when, "means nothing with transport sse, whose sessions end with their stream"}
	return table{
		newRow("protocol", &u.Protocol, oneOf(ProtocolMCP, ProtocolJSONRPC), ProtocolMCP, "mcp, or jsonrpc for any JSON-RPC 2.0 server over HTTP").refused(u.piped()),
		newRow(transportKey, &u.Transport, oneOf(TransportHTTP, TransportSSE), TransportHTTP, "http, or sse for a server of the old HTTP+SSE transport (2024-11-05)").
			inColumn().refused(u.plain(), u.piped()),
		newRow("oauth", &u.OAuth, oneOf(OAuthRewrite, OAuthPassthrough), OAuthRewrite,
			"rewrite: the server's OAuth documents name the daemon's URL in place of the server's, as clients insist; or passthrough").refused(u.plain(), u.piped()),
		newRow("forward_cookies", &u.ForwardCookies, boolean, false, "pass the agent's Cookie header on").refused(u.piped()),
		section("streams", "GET streams").refused(u.plain(), u.piped()),
		newRow("streams.reopen", &u.Streams.Reopen, duration(0, longest), 2*time.Minute,
			"how long a broken one is opened again without its agent noticing; 0s is not at all").refused(endless),
	}
}

func (u *Upstream) connectionKeys() table {
	pool, timeouts, above0 := &u.Pool, &u.Timeouts, duration(aboveZero, longest)
	withinCall := func(v *time.Duration) func(check) { return notAbove(v, "timeouts.call", &timeouts.Call) }
	return table{
		section("pool", "connections to the server").refused(u.piped()),
		newRow("pool.max_connections", &pool.MaxConnections, count(1, math.MaxUint16), 256, "how many"),
		newRow("pool.max_idle", &pool.MaxIdle, count(1, math.MaxUint16), 256, "how many stay open while no call uses them; left out, max_connections").
			checked(otherwise(&pool.MaxIdle, func(check) int { return pool.MaxConnections }), notAbove(&pool.MaxIdle, "pool.max_connections", &pool.MaxConnections)),
		newRow("pool.idle_timeout", &pool.IdleTimeout, above0, 90*time.Second, "how long such a one stays open"),
		newRow("pool.max_age", &pool.MaxAge, above0, 5*time.Minute, "an older one carries no other call: the server's name is looked up again"),
		newRow("pool.wait_timeout", &pool.WaitTimeout, above0, 5*time.Second, "how long a call waits for one"),
		section("timeouts", "none of the others is above call"),
		newRow("timeouts.connect", &timeouts.Connect, above0, 5*time.Second, "name lookup, TCP and TLS").refused(u.piped()).checked(withinCall(&timeouts.Connect)),
		newRow("timeouts.handshake", &timeouts.Handshake, above0, 55*time.Second, "to the head of the answer to initialize, server/discover and ping").checked(withinCall(&timeouts.Handshake)),
		newRow("timeouts.first_byte", &timeouts.FirstByte, above0, 55*time.Second,
			"the same to every other method, except tools/call, tasks/result and unknown ones, which have call").checked(withinCall(&timeouts.FirstByte)),
		newRow("timeouts.call", &timeouts.Call, above0, 30*time.Minute, "one whole JSON answer or one event, from its first byte to its last"),
		newRow("timeouts.idle", &timeouts.Idle, above0, 5*time.Minute, "the silence within an answer, with the same exceptions").checked(withinCall(&timeouts.Idle)),
		section("limits", "calls under way and calls that wait"),
		newRow("limits.max_in_flight", &u.Limits.MaxInFlight, count(1, math.MaxUint16), 256, "calls under way"),
		newRow("limits.queue", &u.Limits.Queue, count(0, maxCalls), 1024, "calls that wait"),
		newRow("limits.queue_wait", &u.Limits.QueueWait, above0, 2*time.Second, "how long one waits"),
	}
}

func (u *Upstream) failureKeys() table {
	breaker, patterns := &u.Breaker, list("names or patterns", pattern, "")
	never := refusal{"breaker", func() bool { return breaker.Off }, "means nothing with breaker off"}
	byMethod := refusal{"protocol", func() bool { return u.Protocol == ProtocolMCP },
		"means nothing with protocol mcp: what may be sent again goes by the method, and by tools"}
	return table{
		section("breaker", "when the server is not called for a while; or off").orOff(&breaker.Off),
		newRow("breaker.window", &breaker.Window, duration(time.Second, time.Hour), 10*time.Second, "the time over which failure_ratio counts").refused(never),
		newRow("breaker.min_requests", &breaker.MinRequests, count(1, maxCalls), 20, "fewer requests in it count for nothing").refused(never),
		newRow("breaker.failure_ratio", &breaker.FailureRatio, share(false), 0.5, "the share of them that fails").refused(never),
		newRow("breaker.in_a_row", &breaker.InARow, count(1, maxCalls), 3, "failures without a success between").refused(never),
		newRow("breaker.slow_call", &breaker.SlowCall, duration(0, longest), 0, "a call that takes longer counts as failed; 0s is none").refused(never),
		section("retry", "what is sent again after a failure: reads, and what surely was not sent"),
		newRow("retry.max", &u.Retry.Max, count(0, 10), 2, "how often one call is"),
		newRow("retry.budget", &u.Retry.Budget, share(true), 0.2, "the share of recent calls that may be, hedges included"),
		newRow("retry.hedge", &u.Retry.Hedge, boolean, false, "with several urls: ask a second one where the first takes long").refused(u.relayed(), u.piped()).
			checked(func(c check) {
				if u.Retry.Hedge && len(u.URLs) == 1 && c.base.below("url").sound() && c.base.below("urls").sound() {
					c.fault("needs several urls: the second call goes to another server")
				}
			}),
		newRow("retry.tools", &u.Retry.Tools, patterns, nil, `tools that may be called twice, as ["search_*"]; only you can know`).refused(u.plain(), u.relayed()),
		newRow("retry.methods", &u.Retry.Methods, patterns, nil, "methods that may be called twice, as [getBlock]").refused(byMethod),
		section("sessions", "sessions of MCP before 2026-07-28; or the word for mode").orWord("sessions.mode").refused(u.plain(), u.relayed()),
		newRow("sessions.mode", &u.Sessions.Mode, oneOf(SessionsPerAgent, SessionsShared), SessionsPerAgent,
			"per-agent: a process for each session; shared: one, or replicas, for all of a version: your word that the server keeps nothing for one client").
			refused(u.unpiped()),
		newRow("sessions.heal", &u.Sessions.Heal, oneOf(HealReads, HealAll, HealOff), HealReads,
			"one that the server has lost is opened again; all: the server keeps no state; off: the loss is passed on"),
		section("batch", "the server takes arrays, and calls are sent together; left out, they are not").leftOut().refused(u.relayed(), u.piped()).
			checked(otherwise(&u.Batch, func(check) Batch { return Batch{} })),
		newRow("batch.max", &u.Batch.Max, count(2, maxBatch), 100, "calls in one array"),
		newRow("batch.window", &u.Batch.Window, duration(aboveZero, time.Minute), 2*time.Millisecond, "how long the first one waits for others"),
	}
}

func (u *Upstream) cacheKeys() table {
	cache, plain := &u.Cache, u.plain()
	withinMaxTTL := func(ttls *map[string]time.Duration) func(check) {
		return func(c check) { c.checkTTLs(*ttls, "cache.max_ttl", cache.MaxTTL) }
	}
	return table{
		section("cache", "answers are kept as long as the server says; these keys go beyond that").refused(u.relayed()),
		newRow("cache.ttl", &cache.TTL, times("the methods", anyName, duration(0, maxTTL)), map[string]time.Duration{},
			"by method in place of the server's, as tools/list: 5m; 0s is never").checked(func(c check) { c.checkMethods(u) }, withinMaxTTL(&cache.TTL)),
		newRow(toolsKey, &cache.Tools, times("the tools or patterns", pattern, duration(aboveZero, maxTTL)), map[string]time.Duration{},
			`calls of tools are cached only if named here, as "search_*": 10m`).refused(plain).checked(withinMaxTTL(&cache.Tools)),
		newRow("cache.min_ttl", &cache.MinTTL, duration(0, maxTTL), 0, "raises what the server says, where it says anything").
			checked(notAbove(&cache.MinTTL, "cache.max_ttl", &cache.MaxTTL)),
		newRow("cache.max_ttl", &cache.MaxTTL, duration(aboveZero, maxTTL), maxTTL, "lowers what the server says"),
		newRow("cache.stale_if_error", &cache.StaleIfError, duration(0, maxTTL), time.Hour,
			"how long an expired answer is served instead of a failing server's; 0s is never"),
		newRow("cache.stale_after", &cache.StaleAfter, duration(aboveZero, longest), 2*time.Second,
			"how long a call waits for the server where such an answer is at hand"),
		newRow("cache.stale_while_revalidate", &cache.StaleWhileRevalidate, duration(0, maxTTL), 0,
			"how long an expired answer is given while a new one is fetched; 0s is never"),
		newRow("cache.scope", &cache.Scope, oneOf(CacheScopeAuto, CacheScopeSession, CacheScopeCredential), CacheScopeAuto,
			"who shares the lists of servers with sessions: auto, a credential whose sessions were seen to be given the same; session, nobody; credential, each").
			refused(plain),
		newRow("cache.flush_on_call", &cache.FlushOnCall, boolean, true,
			"a call of any other tool ends what its caller has by tools, and by a ttl for resources/read").refused(plain),
		newRow("cache.listen", &cache.Listen, onOff, true, "receive changes from the server by a stream of the daemon's own").shows("on").refused(plain),
		section("coalesce", "calls that share one with equal ones").refused(plain, u.relayed()),
		newRow("coalesce.tools", &u.Coalesce.Tools, list("names or patterns", pattern, ""), nil,
			`tools whose equal calls at the same time go to the server once, as ["search_*"]`),
	}
}
