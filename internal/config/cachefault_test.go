package config_test

import (
	"testing"

	"fluentd-perf/internal/config"
)

const (
	aDuration = `a duration with a unit, such as 500ms, 30s, 5m or 1h30m`
	sixThings = `prompts/list, resources/list, resources/read, resources/templates/list, server/discover, tools/list`
	noPattern = `is not a pattern: * and ? stand for any signs and for one, [a-z] for one of a range, \ takes a meaning away`
	noExpand  = `cannot hold ${...}: only url, urls, headers, command, env, env_file, cwd, auth.token and cache.partition_key can`
)

// One fault each, below upstreams.docs on line 4.
func TestFaultsOfAnUpstreamsCache(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`cache: 5m`, `cache: must be a mapping, not a string`},
		{`cache: {tll: {}}`, `cache.tll: is not a known key; did you mean ttl?`},
		{`cache: {size: 1MiB}`, `cache.size: is not a known key; known here: flush_on_call, listen, max_ttl, min_ttl, scope, stale_after, stale_if_error, stale_while_revalidate, tools, ttl`},
		{`cache: {ttl: 5m}`, `cache.ttl: must be a mapping, not a string`},
		{`cache: {ttl: {tools/list: 5}}`, `cache.ttl.tools/list: must be ` + aDuration + `: "5" has none`},
		{`cache: {ttl: {tools/list: -5m}}`, `cache.ttl.tools/list: must not be negative`},
		{`cache: {ttl: {tools/list: 25h}}`, `cache.ttl.tools/list: must not be more than 24h`},
		{`cache: {ttl: {tools/list: [5m]}}`, `cache.ttl.tools/list: must be ` + aDuration + `, not a list`},
		{`cache: {ttl: {tools/list: 5m, "tools/list": 6m}}`, `cache.ttl.tools/list: is given twice, first on line 4`},
		{`cache: {ttl: {tools/call: 5m}}`, `cache.ttl.tools/call: has no ttl of its own: name the tools in cache.tools`},
		{`cache: {ttl: {prompts/get: 5m}}`, `cache.ttl.prompts/get: is a method whose answers are never cached; known here: ` + sixThings},
		{`cache: {ttl: {notifications/progress: 0s}}`, `cache.ttl.notifications/progress: is a method whose answers are never cached; known here: ` + sixThings},
		{`cache: {ttl: {tool/list: 5m}}`, `cache.ttl.tool/list: is not a method whose answers are cached; did you mean tools/list?`},
		{`cache: {ttl: {Tools/List: 5m}}`, `cache.ttl.Tools/List: is not a method whose answers are cached; did you mean tools/list?`},
		{`cache: {ttl: {getBlock: 5m}}`, `cache.ttl.getBlock: is not a method whose answers are cached; known here: ` + sixThings},
		{`cache: {ttl: {"": 5m}}`, `cache.ttl."": is not a method whose answers are cached; known here: ` + sixThings},
		{`cache: {tools: ["search_*"]}`, `cache.tools: must be a mapping, not a list`},
		{`cache: {tools: {"search_*": 0s}}`, `cache.tools."search_*": must be above 0`},
		{`cache: {tools: {"search_*": 24h1s}}`, `cache.tools."search_*": must not be more than 24h`},
		{`cache: {tools: {"search_*": 10}}`, `cache.tools."search_*": must be ` + aDuration + `: "10" has none`},
		{`cache: {tools: {"": 10m}}`, `cache.tools."": must be a name or a pattern, such as search_*`},
		{`cache: {tools: {"a[": 10m}}`, `cache.tools."a[": ` + noPattern},
		{`cache: {tools: {"[z-]": 10m}}`, `cache.tools."[z-]": ` + noPattern},
		{`cache: {tools: {'a\': 10m}}`, `cache.tools."a\\": ` + noPattern},
		{`cache: {tools: {"${env:SECRET}": 10m}}`, `cache.tools."${env:SECRET}": ` + noExpand},
		{`cache: {min_ttl: 25h}`, `cache.min_ttl: must not be more than 24h`},
		{`cache: {min_ttl: -1s}`, `cache.min_ttl: must not be negative`},
		{`cache: {max_ttl: 0s}`, `cache.max_ttl: must be above 0`},
		{`cache: {max_ttl: 25h}`, `cache.max_ttl: must not be more than 24h`},
		{`cache: {min_ttl: 2m, max_ttl: 1m}`, `cache.min_ttl: must not be above max_ttl (1m)`},
		{`cache: {ttl: {tools/list: 2m}, max_ttl: 1m}`, `cache.ttl.tools/list: must not be above max_ttl (1m)`},
		{`cache: {tools: {get: 2m}, max_ttl: 1m}`, `cache.tools.get: must not be above max_ttl (1m)`},
		{`cache: {min_ttl: 2m, max_ttl: 1}`, `cache.max_ttl: must be ` + aDuration + `: "1" has none`},
		{`cache: {min_ttl: 25h, max_ttl: 1m}`, `cache.min_ttl: must not be more than 24h`},
		{`cache: {stale_if_error: 25h}`, `cache.stale_if_error: must not be more than 24h`},
		{`cache: {stale_if_error: true}`, `cache.stale_if_error: must be ` + aDuration + `, not a boolean`},
		{`cache: {stale_after: 0s}`, `cache.stale_after: must be above 0`},
		{`cache: {stale_while_revalidate: -1s}`, `cache.stale_while_revalidate: must not be negative`},
		{`cache: {stale_while_revalidate: 25h}`, `cache.stale_while_revalidate: must not be more than 24h`},
		{`cache: {flush_on_call: on}`, `cache.flush_on_call: must be true or false, not a string`},
		{`cache: {listen: yes}`, `cache.listen: must be on or off, not "yes"`},
		{`cache: {listen: 1}`, `cache.listen: must be on or off, not a number`},
		{`cache: {listen:}`, `cache.listen: has no value, must be on or off`},
		{`coalesce: [get]`, `coalesce: must be a mapping, not a list`},
		{`coalesce: {methods: []}`, `coalesce.methods: is not a known key; known here: tools`},
		{`coalesce: {tools: get}`, `coalesce.tools: must be a list, not a string`},
		{`coalesce: {tools: [5]}`, `coalesce.tools[0]: must be a string (put it in quotes), not a number`},
		{`coalesce: {tools: [a, ""]}`, `coalesce.tools[1]: must be a name or a pattern, such as search_*`},
		{`coalesce: {tools: ["[]"]}`, `coalesce.tools[0]: ` + noPattern},
		{`coalesce: {tools: ["a*", b, "a*"]}`, `coalesce.tools[2]: is given twice`},
		{`coalesce: {tools: ["${env:SECRET}"]}`, `coalesce.tools[0]: ` + noExpand},
		{`<<: {transport: sse, cache: {listen: on}}`, `cache: means nothing with transport sse, which is only relayed`},
		{`<<: {transport: sse, coalesce: {}}`, `coalesce: means nothing with transport sse, which is only relayed`},
	} {
		wantFaults(t, "upstreams:\n  docs:\n    url: https://h/mcp\n    "+c.text+"\n", "f.yaml:4: upstreams.docs."+c.want)
	}
}

// One fault each, on line 2.
func TestFaultsOfTheCache(t *testing.T) {
	const (
		noSuchHeader = `is not a name that a header can have`
		noFile       = `means nothing beside cache.redis: the embedded file is for a daemon that shares nothing`
		credential   = `cannot be inert: it is a credential, and answers never cross credentials`
		withOff      = `means nothing with url off`
	)
	for _, c := range []struct{ text, want string }{
		{`cache: on`, `cache: must be a mapping, not a string`},
		{`cache: {memroy: {}}`, `cache.memroy: is not a known key; did you mean memory?`},
		{`cache: {postgres: {}}`, `cache.postgres: is not a known key; known here: database, inert_headers, memory, partition_key, redis`},
		{`cache: {memory: 1GiB}`, `cache.memory: must be a mapping, not a string`},
		{`cache: {memory: {size: 1023KiB}}`, `cache.memory.size: must not be less than 1MiB`},
		{`cache: {memory: {size: 65GiB}}`, `cache.memory.size: must not be more than 64GiB`},
		{`cache: {memory: {size: 128M}}`, `cache.memory.size: must be a whole number of bytes, or one with a unit (B, kB, MB, GB, KiB, MiB, GiB)`},
		{`cache: {memory: {max_entry: 1023}}`, `cache.memory.max_entry: must not be less than 1KiB`},
		{`cache: {memory: {size: 1GiB, max_entry: 65MiB}}`, `cache.memory.max_entry: must not be more than 64MiB`},
		{`cache: {memory: {max_entry: 17MiB}}`, `cache.memory.max_entry: must not be above an eighth of size (16MiB)`},
		{`cache: {memory: {size: 1MiB, max_entry: 129KiB}}`, `cache.memory.max_entry: must not be above an eighth of size (128KiB)`},
		{`cache: {memory: {size: 1, max_entry: 1MiB}}`, `cache.memory.size: must not be less than 1MiB`},
		{`cache: {redis: "redis://:${env:SECRET}@h"}`, `cache.redis: must be a mapping, not a string`},
		{`cache: {redis: {timeout: 50ms}}`, `cache.redis.timeout: means nothing without url`},
		{`cache: {redis: {url: "", pool: 16}}`, `cache.redis.pool: means nothing without url`},
		{`cache: {redis: {url: redis://h, timeout: 0s}}`, `cache.redis.timeout: must be above 0`},
		{`cache: {redis: {url: redis://h, timeout: 11s}}`, `cache.redis.timeout: must not be more than 10s`},
		{`cache: {redis: {url: redis://h, pool: 0}}`, `cache.redis.pool: must not be less than 1`},
		{`cache: {redis: {url: redis://h, pool: 1025}}`, `cache.redis.pool: must not be more than 1024`},
		{`cache: {redis: {url: redis://h, pool: {max: 4}}}`, `cache.redis.pool: must be a whole number, not a mapping`},
		{`cache: {redis: {url: redis://h}, database: {url: sqlite:cache.db}}`, `cache.database.url: ` + noFile + `; leave it out, or name a Postgres server`},
		{`cache: {database: {url: "sqlite:/var/x.db"}, redis: {url: unix:///r}}`, `cache.database.url: ` + noFile + `; leave it out, or name a Postgres server`},
		{`cache: {redis: {url: redis://h}, database: {timeout: 1s}}`, `cache.database.timeout: ` + noFile},
		{`cache: {redis: {url: redis://h}, database: {private_reads: true}}`, `cache.database.private_reads: ` + noFile},
		{`cache: {database: sqlite:cache.db}`, `cache.database: must be a mapping, not a string`},
		{`cache: {database: {timeout: 0}}`, `cache.database.timeout: must be above 0`},
		{`cache: {database: {timeout: 1m}}`, `cache.database.timeout: must not be more than 10s`},
		{`cache: {database: {size: 3MiB}}`, `cache.database.size: must not be less than 4MiB`},
		{`cache: {database: {size: 1025GiB}}`, `cache.database.size: must not be more than 1024GiB`},
		{`cache: {database: {private_reads: 1}}`, `cache.database.private_reads: must be true or false, not a number`},
		{`cache: {database: {pool: {max: 4}}}`, `cache.database.pool: means nothing with SQLite: a file has no pool of connections`},
		{`cache: {database: {pool: {lifetime: 1h}, url: sqlite:a}}`, `cache.database.pool: means nothing with SQLite: a file has no pool of connections`},
		{`cache: {database: {url: postgres://h/x, size: 1GiB}}`, `cache.database.size: means nothing with Postgres: it bounds the file of SQLite`},
		{`cache: {database: {url: postgres://h/x, pool: 4}}`, `cache.database.pool: must be a mapping, not a number`},
		{`cache: {database: {url: postgres://h/x, pool: {max: 0}}}`, `cache.database.pool.max: must not be less than 1`},
		{`cache: {database: {url: postgres://h/x, pool: {max: 1001}}}`, `cache.database.pool.max: must not be more than 1000`},
		{`cache: {database: {url: postgres://h/x, pool: {lifetime: 0s}}}`, `cache.database.pool.lifetime: must be above 0`},
		{`cache: {database: {url: postgres://h/x, pool: {lifetime: 1ms}}}`, `cache.database.pool.lifetime: must not be less than 1s`},
		{`cache: {database: {url: postgres://h/x, pool: {lifetime: 8761h}}}`, `cache.database.pool.lifetime: must not be more than 8760h`},
		{`cache: {database: {url: postgres://h/x, pool: {min: 1}}}`, `cache.database.pool.min: is not a known key; known here: lifetime, max`},
		{`cache: {database: {url: off, timeout: 150ms}}`, `cache.database.timeout: ` + withOff},
		{`cache: {database: {url: off, size: 1GiB}}`, `cache.database.size: ` + withOff},
		{`cache: {database: {url: off, private_reads: false}}`, `cache.database.private_reads: ` + withOff},
		{`cache: {database: {url: off, pool: {}}}`, `cache.database.pool: ` + withOff},
		{`cache: {partition_key: 5}`, `cache.partition_key: must be a string (put it in quotes), not a number`},
		{`cache: {partition_key: "1234567890123456789012345678901"}`, `cache.partition_key: must have at least 32 bytes`},
		{`cache: {partition_key: "${env:SECRET}"}`, `cache.partition_key: must have at least 32 bytes`},
		{`cache: {partition_key: "${env:NONE}"}`, `cache.partition_key: the environment variable NONE is not set`},
		{`cache: {partition_key: "${file:/none}"}`, `cache.partition_key: the file /none cannot be read: no such file or directory`},
		{`cache: {partition_key: "${file:/empty}"}`, `cache.partition_key: the file /empty is empty`},
		{`cache: {inert_headers: X-Trace}`, `cache.inert_headers: must be a list, not a string`},
		{`cache: {inert_headers: [5]}`, `cache.inert_headers[0]: must be a string (put it in quotes), not a number`},
		{`cache: {inert_headers: [""]}`, `cache.inert_headers[0]: ` + noSuchHeader},
		{`cache: {inert_headers: ["X Trace"]}`, `cache.inert_headers[0]: ` + noSuchHeader},
		{`cache: {inert_headers: ["X-Trace:"]}`, `cache.inert_headers[0]: ` + noSuchHeader},
		{`cache: {inert_headers: ["${env:SECRET}"]}`, `cache.inert_headers[0]: ` + noExpand},
		{`cache: {inert_headers: [X-Trace, x-TRACE]}`, `cache.inert_headers[1]: is given twice: names of headers know no upper and lower case`},
		{`cache: {inert_headers: [authorization]}`, `cache.inert_headers[0]: ` + credential},
		{`cache: {inert_headers: [Proxy-Authorization]}`, `cache.inert_headers[0]: ` + credential},
		{`cache: {inert_headers: [cookie]}`, `cache.inert_headers[0]: ` + credential},
		{`cache: {inert_headers: [fluentd-perf-token]}`, `cache.inert_headers[0]: ` + credential},
		{`cache: {inert_headers: [X-API-Key]}`, `cache.inert_headers[0]: ` + credential},
		{`cache: {inert_headers: [MCP-Param-Region]}`, `cache.inert_headers[0]: cannot be inert: it is a part of what is asked for`},
		{`admin: mcp`, `admin: must be a mapping, not a string`},
		{`admin: {socket: x}`, `admin.socket: is not a known key; known here: group`},
		{`admin: {group: 1000}`, `admin.group: must be a string (put it in quotes), not a number`},
		{`admin: {group: "a:b"}`, `admin.group: must be the name or the number of a group, not "a:b"`},
		{`admin: {group: " a"}`, `admin.group: must be the name or the number of a group, not " a"`},
		{`admin: {group: "-a"}`, `admin.group: must be the name or the number of a group, not "-a"`},
		{`admin: {group: "a\nb"}`, `admin.group: must be the name or the number of a group, not "a\nb"`},
		{`admin: {group: "${env:SECRET}"}`, `admin.group: ` + noExpand},
	} {
		wantFaults(t, "upstreams: {docs: {url: https://h/mcp}}\n"+c.text+"\n", "f.yaml:2: "+c.want)
	}
}

// What is wrong with the URL of a tier, told without a part of the URL.
func TestFaultsOfATiersURL(t *testing.T) {
	const (
		redisForms    = `must be redis://user:password@host:6379/0, rediss:// for TLS, or unix:///path; of parameters there are db, and skip_verify with rediss`
		databaseForms = `must be sqlite:PATH, postgres://user:password@host:5432/database, or off`
		signs         = `has an @ in a wrong place; write @ / ? # of a user or a password as %40 %2F %3F %23`
		parameters    = `must have parameters as name=value, with & between them`
		oneFile       = `must name a file, as sqlite:cache.db does`
		inState       = `must stay in the state directory; write an absolute path for a file elsewhere`
		oneDatabase   = `must name a database behind the host, at most 63 bytes: postgres://host/database`
		hasHost       = `must have a host, or a host= with the directory of a socket`
		port          = `must have a port from 1 to 65535`
		pooler        = `: behind a pooler such as PgBouncer write default_query_exec_mode=exec`
	)
	for _, c := range []struct{ key, url, want string }{
		{"redis", `5`, `must be a string (put it in quotes), not a number`},
		{"redis", ``, `has no value, must be a string`},
		{"redis", `h:6379`, redisForms},
		{"redis", `http://h:6379`, redisForms},
		{"redis", `sentinel://h`, redisForms},
		{"redis", `"redis:h"`, redisForms},
		{"redis", `"redis://h:x"`, redisForms},
		{"redis", `"redis://:%zz@h"`, redisForms},
		{"redis", `"redis://h\x01"`, redisForms},
		{"redis", `"rediss://h?skip_verify=maybe"`, redisForms},
		{"redis", `"redis://"`, redisForms},
		{"redis", `"redis://:6379/0"`, redisForms},
		{"redis", `"redis://a,b/0"`, redisForms},
		{"redis", `"redis://h:0"`, port},
		{"redis", `"redis://h:65536/0"`, port},
		{"redis", `"redis://h/x"`, redisForms},
		{"redis", `"redis://h/-1"`, redisForms},
		{"redis", `"redis://h/0/1"`, redisForms},
		{"redis", `"redis://h?db=x"`, redisForms},
		{"redis", `"redis://h?protocol=3"`, redisForms},
		{"redis", `"redis://h?skip_verify=true"`, redisForms},
		{"redis", `"redis://h?a;b"`, parameters},
		{"redis", `"redis://h#0"`, `must not have a fragment (#)`},
		{"redis", `"redis://:a@b@h"`, signs},
		{"redis", `"redis://:a/b@h"`, signs},
		{"redis", `"redis://:1?b@h"`, signs},
		{"redis", `"redis://:1#b@h"`, signs},
		{"redis", `unix://run/redis.sock`, redisForms},
		{"redis", `"unix://"`, redisForms},
		{"redis", `"redis://${env:NONE}@h"`, `the environment variable NONE is not set`},
		{"redis", `"redis://:${SECRET}@h"`, `has an unknown form ${SECRET}; there are ${env:NAME} and ${file:PATH}`},
		{"database", `false`, `must be a string (put it in quotes), not a boolean`},
		{"database", `""`, databaseForms},
		{"database", `none`, databaseForms},
		{"database", `cache.db`, databaseForms},
		{"database", `mysql://h/x`, databaseForms},
		{"database", `redis://h/0`, databaseForms},
		{"database", `"postgres:h/x"`, databaseForms},
		{"database", `POSTGRES://h/x`, databaseForms},
		{"database", `"postgres://h:x/x"`, databaseForms},
		{"database", `"postgres://a:5432,b:5432/x"`, `must have one host`},
		{"database", `"postgres://u:%zz@h/x"`, databaseForms},
		{"database", `"postgres://%2Frun%2Fpostgresql/x"`, databaseForms},
		{"database", `"sqlite:"`, oneFile},
		{"database", `sqlite:.`, oneFile},
		{"database", `sqlite:/`, oneFile},
		{"database", `sqlite:dir/`, oneFile},
		{"database", `sqlite:a/..`, oneFile},
		{"database", `sqlite://cache.db`, `must have no // behind sqlite: an absolute path begins with one slash`},
		{"database", `sqlite:///var/cache.db`, `must have no // behind sqlite: an absolute path begins with one slash`},
		{"database", `sqlite:../cache.db`, inState},
		{"database", `sqlite:a/../../cache.db`, inState},
		{"database", `"sqlite::memory:"`, oneFile},
		{"database", `"sqlite:a\0b"`, oneFile},
		{"database", `"postgres:///x"`, hasHost},
		{"database", `"postgres://u:p@/x?host="`, hasHost},
		{"database", `"postgres://a,b/x"`, `must have one host`},
		{"database", `"postgres://a_%20b/x"`, databaseForms},
		{"database", `"postgres://h:0/x"`, port},
		{"database", `"postgres://h"`, oneDatabase},
		{"database", `"postgres://h/"`, oneDatabase},
		{"database", `"postgres://h/a/b"`, oneDatabase},
		{"database", `"postgres://h/a%00"`, oneDatabase},
		{"database", `"postgres://h/a?dbname="`, oneDatabase},
		{"database", `postgres://h/a234567890123456789012345678901234567890123456789012345678901234`, oneDatabase},
		{"database", `"postgres://h/x#y"`, `must not have a fragment (#)`},
		{"database", `"postgres://u:a@b@h/x"`, signs},
		{"database", `"postgres://u:a/b@h/x"`, signs},
		{"database", `"postgres://u:1?b@h/x"`, signs},
		{"database", `"postgres://h/x?password=a@b"`, signs},
		{"database", `"postgres://h/x?sslmode"`, `takes as sslmode only disable, allow, prefer, require, verify-ca, verify-full`},
		{"database", `"postgres://h/x?=1"`, parameters},
		{"database", `"postgres://h/x?a=b=c"`, parameters},
		{"database", `"postgres://h/x?a=%zz"`, parameters},
		{"database", `"postgres://h/x?sslmode=on"`, `takes as sslmode only disable, allow, prefer, require, verify-ca, verify-full`},
		{"database", `"postgres://h/x?pool_max_conns=4"`, `takes no pool_ parameters: cache.database.pool says it`},
		{"database", `"postgres://h/x?statement_cache_capacity=0"`, `takes no statement_cache_capacity` + pooler},
		{"database", `"postgres://h/x?statement_cache_capacity=512&sslmode=disable"`, `takes no statement_cache_capacity` + pooler},
		{"database", `"postgres://h/x?default_query_exec_mode=exec&description_cache_capacity=0"`, `takes no description_cache_capacity` + pooler},
		{"database", `"postgres://h/x?statement_cache_mode=describe"`, `takes no statement_cache_mode` + pooler},
		{"database", `"postgres://h:6543/x?pgbouncer=true"`, `takes no pgbouncer` + pooler},
		{"database", `"postgres://h/x?default_query_exec_mode=off"`, `takes as default_query_exec_mode only cache_statement, cache_describe, describe_exec, exec, simple_protocol`},
		{"database", `"postgres://h/x?connect_timeout=4"`, `takes no connect_timeout: cache.database.timeout says it`},
		{"database", `"postgres://h/${env:NONE}"`, `the environment variable NONE is not set`},
	} {
		text := "upstreams: {docs: {url: https://h/mcp}}\ncache:\n  " + c.key + ":\n    url: " + c.url + "\n"
		wantFaults(t, text, "f.yaml:4: cache."+c.key+".url: "+c.want)
	}
}

// A URL that cannot be read says nothing of what stands beside it.
func TestOneFaultForABadURL(t *testing.T) {
	f := files{"f.yaml": `
upstreams: {docs: {url: https://h/mcp}}
cache:
  redis: {url: bad, timeout: 1s, pool: 1}
  database: {url: bad, size: 1GiB, pool: {max: 1}}
`}
	_, _, err := f.load(config.Sources{File: "f.yaml"})
	want := `f.yaml:4: cache.redis.url: must be redis://user:password@host:6379/0, rediss:// for TLS, or unix:///path; of parameters there are db, and skip_verify with rediss
f.yaml:5: cache.database.url: must be sqlite:PATH, postgres://user:password@host:5432/database, or off`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

// The way to use a pooler passes, with a word on what one of them does not carry.
func TestPoolerWarning(t *testing.T) {
	const word = "f.yaml:2: cache.database.url: a pooler in transaction mode carries no notifications, by which daemons tell each other of changes: " +
		"let it pool by session, or name the server itself"
	for query, want := range map[string][]string{
		"":                              nil,
		"?sslmode=disable":              nil,
		"?default_query_exec_mode=exec": {word},
		"?a=b&default_query_exec_mode=simple_protocol": {word},
	} {
		f := files{"f.yaml": "upstreams: {docs: {url: https://h/mcp}}\ncache: {database: {url: 'postgres://u:s3cret@h/x" + query + "'}}\n"}
		_, warnings, err := f.load(config.Sources{File: "f.yaml"})
		if err != nil {
			t.Errorf("%s: %v", query, err)
		}
		wantWarnings(t, warnings, want...)
	}
}
