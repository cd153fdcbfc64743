package config_test

import (
	_ "embed"
	"errors"
	"strings"
	"testing"

	"fluentd-perf/internal/config"
)

// One fault each, with its exact text. The case of an upstream is put below upstreams.docs, from line 4 on; any other
// from line 2 on.
func TestFaultsOfAnUpstream(t *testing.T) {
	const (
		times = `a duration with a unit, such as 500ms, 30s, 5m or 1h30m`
		docs  = "upstreams.docs."
	)
	for _, c := range []struct{ text, want string }{
		{`pol: {}`, docs + `pol: is not a known key; did you mean pool?`},
		{`storage: {}`, docs + `storage: is not a known key; known here: allow_users, batch, breaker, cache, coalesce, command, cwd, env, env_file, forward_cookies, headers, inherit_env, limits, oauth, pool, processes, protocol, resolve, retry, sessions, streams, timeouts, transport, url, urls`},
		{`tiemouts: {}`, docs + `tiemouts: is not a known key; did you mean timeouts?`},
		{`url: http://x`, docs + `url: is given twice, first on line 3`},
		{`transport: tcp`, docs + `transport: must be http or sse, not "tcp"`},
		{`transport: [http]`, docs + `transport: must be http or sse, not a list`},
		{`oauth: on`, docs + `oauth: must be rewrite or passthrough, not "on"`},
		{`forward_cookies: "true"`, docs + `forward_cookies: must be true or false, not a string`},
		{`forward_cookies: yes`, docs + `forward_cookies: must be true or false, not a string`},
		{`streams: 2m`, docs + `streams: must be a mapping, not a string`},
		{`streams:`, docs + `streams: has no value, must be a mapping`},
		{`streams: {reopen: 2}`, docs + `streams.reopen: must be ` + times + `: "2" has none`},
		{`streams: {reopen: -2m}`, docs + `streams.reopen: must not be negative`},
		{`<<: {transport: sse, streams: {reopen: 1m}}`, docs + `streams.reopen: means nothing with transport sse, whose sessions end with their stream`},
		{`pool: {max_idle: 64.0}`, docs + `pool.max_idle: must be a whole number from 1 to 65535`},
		{`pool: {max_idle: "64"}`, docs + `pool.max_idle: must be a whole number, not a string`},
		{`pool: {max_idle: 010}`, docs + `pool.max_idle: must be a whole number from 1 to 65535`},
		{`pool: {max_idle: 0}`, docs + `pool.max_idle: must not be less than 1`},
		{`pool: {max_connections: -1}`, docs + `pool.max_connections: must not be less than 1`},
		{`pool: {max_connections: 65536}`, docs + `pool.max_connections: must not be more than 65535`},
		{`pool: {max_idle: 257}`, docs + `pool.max_idle: must not be above max_connections (256)`},
		{`pool: {max_connections: 8, max_idle: 9}`, docs + `pool.max_idle: must not be above max_connections (8)`},
		{`pool: {idle_timeout: 0s}`, docs + `pool.idle_timeout: must be above 0`},
		{`pool: {max_age: 0}`, docs + `pool.max_age: must be above 0`},
		{`pool: {wait_timeout: 0}`, docs + `pool.wait_timeout: must be above 0`},
		{`pool: {wait_timeout: soon}`, docs + `pool.wait_timeout: must be ` + times + `, not "soon"`},
		{`timeouts: {connect: 5}`, docs + `timeouts.connect: must be ` + times + `: "5" has none`},
		{`timeouts: {connect: "5"}`, docs + `timeouts.connect: must be ` + times + `: "5" has none`},
		{`timeouts: {connect: 5 s}`, docs + `timeouts.connect: must be ` + times + `, not "5 s"`},
		{`timeouts: {connect: 0}`, docs + `timeouts.connect: must be above 0`},
		{`timeouts: {connect: true}`, docs + `timeouts.connect: must be ` + times + `, not a boolean`},
		{`timeouts: {call: 9000h}`, docs + `timeouts.call: must not be more than 8760h`},
		{`timeouts: {connect: 31m}`, docs + `timeouts.connect: must not be above call (30m)`},
		{`timeouts: {first_byte: 2s, call: 1s}`, docs + `timeouts.first_byte: must not be above call (1s)`},
		{`timeouts: {handshake: 2s, call: 1s}`, docs + `timeouts.handshake: must not be above call (1s)`},
		{`timeouts: {idle: 31m}`, docs + `timeouts.idle: must not be above call (30m)`},
		{`headers: [a]`, docs + `headers: must be a mapping, not a list`},
		{`headers: {"X Y": a}`, docs + `headers."X Y": is not a name that a header can have`},
		{`headers: {"": a}`, docs + `headers."": is not a name that a header can have`},
		{`headers: {X: 5}`, docs + `headers.X: must be a string (put it in quotes), not a number`},
		{`headers: {X: true}`, docs + `headers.X: must be a string (put it in quotes), not a boolean`},
		{`headers: {X: "a\nb"}`, docs + `headers.X: has a value that a header cannot have: control characters, or space at an end`},
		{`headers: {X: " a"}`, docs + `headers.X: has a value that a header cannot have: control characters, or space at an end`},
		{`headers: {X: a, x: b}`, docs + `headers.x: is given twice: names of headers know no upper and lower case`},
		{`headers: {connection: close}`, docs + `headers.connection: cannot be set: it belongs to the connection`},
		{`headers: {TE: trailers}`, docs + `headers.TE: cannot be set: it belongs to the connection`},
		{`headers: {Host: a}`, docs + `headers.Host: cannot be set: it follows from url`},
		{`headers: {Content-Length: "1"}`, docs + `headers.Content-Length: cannot be set: it describes the body, which the agent writes`},
		{`headers: {Accept-Encoding: gzip}`, docs + `headers.Accept-Encoding: cannot be set: the daemon asks for identity`},
		{`headers: {Proxy-Authorization: a}`, docs + `headers.Proxy-Authorization: cannot be set: it is the daemon's own token`},
		{`headers: {fluentd-perf-token: a}`, docs + `headers.fluentd-perf-token: cannot be set: it is the daemon's own token`},
		{`headers: {Mcp-Session-Id: a}`, docs + `headers.Mcp-Session-Id: cannot be set: it belongs to the protocol, the agent sets it`},
		{`headers: {X: "${env:NONE}"}`, docs + `headers.X: the environment variable NONE is not set`},
		{`headers: {X: "${env:EMPTY}"}`, docs + `headers.X: the environment variable EMPTY is empty`},
		{`headers: {X: "${file:/none}"}`, docs + `headers.X: the file /none cannot be read: no such file or directory`},
		{`headers: {X: "${file:/empty}"}`, docs + `headers.X: the file /empty is empty`},
		{`headers: {X: "${file:/large}"}`, docs + `headers.X: the file /large is larger than 64KiB`},
		{`headers: {X: "${file:/lines}"}`, docs + `headers.X: has a value that a header cannot have: control characters, or space at an end`},
		{`headers: {X: "${SECRET}"}`, docs + `headers.X: has an unknown form ${SECRET}; there are ${env:NAME} and ${file:PATH}`},
		{`headers: {X: "${env:A-B}"}`, docs + `headers.X: has an unknown form ${env:A-B}; there are ${env:NAME} and ${file:PATH}`},
		{`headers: {X: "a ${env:SECRET"}`, docs + `headers.X: has a ${ without a closing brace`},
		{`transport: ${env:SECRET}`, docs + `transport: must be http or sse, not "${env:SECRET}"`},
		{`pool: &p [*p]`, docs + `pool: must be a mapping, not a list`},
		{`pool: *p`, `is not valid YAML: an alias has no anchor above it`},
		{`pool: !!map {}`, docs + `pool: has a tag, which means nothing here`},
		{`pool: {max_idle:5}`, docs + `pool: a space must stand behind the : of a key`},
		{`pool: {null: b}`, docs + `pool: a key must be plain text`},
		{`pool: {? [a] : b}`, docs + `pool: a key must be plain text`},
		{`pool: {<<: 5}`, docs + `pool: << must have an alias of a mapping`},
		{`pool: {max_connections: 300 000, max_idle: 300}`, docs + `pool.max_connections: must be a whole number, not a string`},
		{`timeouts: {call: 0s, idle: 31m}`, docs + `timeouts.call: must be above 0`},
		{`timeouts: {call: 1s, idle: 0s}`, docs + `timeouts.idle: must be above 0`},
	} {
		wantFaults(t, "upstreams:\n  docs:\n    url: https://h/mcp\n    "+c.text+"\n", "f.yaml:4: "+c.want)
	}
}

func TestFaultsOfAURL(t *testing.T) {
	for _, c := range []struct{ url, want string }{
		{`ftp://h/`, `must be an http:// or https:// URL with a host`},
		{`h/mcp`, `must be an http:// or https:// URL with a host`},
		{`"http:h"`, `must be an http:// or https:// URL with a host`},
		{`http://:80/`, `must be an http:// or https:// URL with a host`},
		{`"http://h:x/"`, `must be an http:// or https:// URL with a host`},
		{`""`, `must be an http:// or https:// URL with a host`},
		{`"http://h/\x01"`, `must be an http:// or https:// URL with a host`},
		{`http://u:secret@h/`, `must not hold a user or password; put them into headers`},
		{`"http://h/#secret"`, `must not have a fragment (#)`},
		{`http://h:65536/`, `must have a port from 1 to 65535`},
		{`http://h:0/`, `must have a port from 1 to 65535`},
		{`5`, `must be a string (put it in quotes), not a number`},
		{``, `has no value, must be a string`},
		{`http://${env:NONE}/`, `the environment variable NONE is not set`},
		{`http://127.0.0.1:7300/mcp/docs`, `is the daemon's own address (127.0.0.1:7300); name the server itself`},
		{`http://LocalHost:7300/mcp`, `is the daemon's own address (127.0.0.1:7300); name the server itself`},
		{`"http://[::1]:7300/mcp"`, `is the daemon's own address ([::1]:7300); name the server itself`},
	} {
		wantFaults(t, "upstreams:\n  docs:\n    url: "+c.url+"\n", "f.yaml:3: upstreams.docs.url: "+c.want)
	}
}

func TestFaultsOfTheRest(t *testing.T) {
	const (
		size = `must be a whole number of bytes, or one with a unit (B, kB, MB, GB, KiB, MiB, GiB)`
		host = `must be a host name or an IP address, without scheme, port or path: any port is taken`
		orig = `must be an origin, scheme://host or scheme://host:port, with nothing behind it`
	)
	for _, c := range []struct{ text, want string }{
		{`upstream: {}`, `upstream: is not a known key; did you mean upstreams?`},
		{`storage: {}`, `storage: is not a known key; known here: admin, auth, cache, drain, errors, hosts, http, limits, listen, metrics, origins, processes, rpc, upstreams`},
		{`"a.b": 1`, `"a.b": is not a known key; known here: admin, auth, cache, drain, errors, hosts, http, limits, listen, metrics, origins, processes, rpc, upstreams`},
		{`listen: 7300`, `listen: must be a string (put it in quotes), not a number`},
		{`listen: []`, `listen: must have an address`},
		{`listen: localhost`, `listen: must be host:port, such as 127.0.0.1:7300, not "localhost"`},
		{`listen: 127.0.0.1:http`, `listen: must have a port from 0 to 65535, not "http"`},
		{`listen: 127.0.0.1:65536`, `listen: must have a port from 0 to 65535, not "65536"`},
		{`listen: a/b:1`, `listen: must have an IP address or a host name, not "a/b"`},
		{`listen: "${env:SECRET}:1"`, `listen: cannot hold ${...}: only url, urls, headers, command, env, env_file, cwd, auth.token and cache.partition_key can`},
		{`listen: [127.0.0.1:1, 127.0.0.1:1]`, `listen[1]: 127.0.0.1:1 is listened on already`},
		{`listen: 0.0.0.0:7300`, `listen: 0.0.0.0:7300 is not a loopback address: set auth.token (generate makes one)`},
		{`listen: ":7300"`, `listen: :7300 is not a loopback address: set auth.token (generate makes one)`},
		{`listen: example.com:7300`, `listen: example.com:7300 is not a loopback address: set auth.token (generate makes one)`},
		{`listen: ["127.0.0.1:1", "[::]:2"]`, `listen[1]: [::]:2 is not a loopback address: set auth.token (generate makes one)`},
		{`metrics: {listen: 127.0.0.1:7300}`, `metrics.listen: must not be an address of listen (127.0.0.1:7300); leave it out and /metrics is there`},
		{`metrics: {listen: "[::1]:7300"}`, `metrics.listen: must not be an address of listen ([::1]:7300); leave it out and /metrics is there`},
		{`metrics: {listen: 10.0.0.1:9100}`, `metrics.listen: 10.0.0.1:9100 is not a loopback address: set auth.token (generate makes one)`},
		{`metrics: {listen: x}`, `metrics.listen: must be host:port, such as 127.0.0.1:7300, not "x"`},
		{`auth: secret`, `auth: must be a mapping, not a string`},
		{`auth: {tokens: secret}`, `auth.tokens: is not a known key; did you mean token?`},
		{`auth: {token: 5}`, `auth.token: must be a string (put it in quotes), not a number`},
		{`auth: {token: a secret}`, `auth.token: must be visible ASCII without spaces, so that a header can carry it`},
		{`auth: {token: sécret}`, `auth.token: must be visible ASCII without spaces, so that a header can carry it`},
		{`auth: {token: "${env:NONE}"}`, `auth.token: the environment variable NONE is not set`},
		{`auth: {token: "${env:EMPTY}"}`, `auth.token: the environment variable EMPTY is empty`},
		{`hosts: a`, `hosts: must be a list, not a string`},
		{`hosts: ["a:1"]`, `hosts[0]: ` + host},
		{`hosts: ["http://a"]`, `hosts[0]: ` + host},
		{`hosts: ["*.a"]`, `hosts[0]: ` + host},
		{`hosts: [""]`, `hosts[0]: ` + host},
		{`hosts: [[a]]`, `hosts[0]: must be a string, not a list`},
		{`hosts: ["::1", "[0:0::1]"]`, `hosts[1]: is given twice`},
		{`hosts: [a, A]`, `hosts[1]: is given twice`},
		{`origins: ["*"]`, `origins[0]: ` + orig},
		{`origins: ["http://a:"]`, `origins[0]: ` + orig},
		{`origins: ["http://u@a"]`, `origins[0]: ` + orig},
		{`origins: [5]`, `origins[0]: must be a string (put it in quotes), not a number`},
		{`origins: ["null"]`, `origins[0]: ` + orig},
		{`origins: ["http://a/"]`, `origins[0]: ` + orig},
		{`origins: ["http://a:0"]`, `origins[0]: ` + orig},
		{`origins: ["http://a", "http://a:80"]`, `origins[1]: is given twice`},
		{`http: own`, `http: must be auto or compat, not "own"`},
		{`errors: HTTP`, `errors: must be jsonrpc or http, not "HTTP"`},
		{`drain: 30`, `drain: must be a duration with a unit, such as 500ms, 30s, 5m or 1h30m: "30" has none`},
		{`drain: -1s`, `drain: must not be negative`},
		{`limits: {body: 0}`, `limits.body: must not be less than 1KiB`},
		{`limits: {body: -1}`, `limits.body: must not be less than 1KiB`},
		{`limits: {body: 2GiB}`, `limits.body: must not be more than 1GiB`},
		{`limits: {body: 99999999999999GiB}`, `limits.body: must not be more than 1GiB`},
		{`limits: {body: 99999999999999999999}`, `limits.body: must not be more than 1GiB`},
		{`limits: {body: -99999999999999GiB}`, `limits.body: must not be less than 1KiB`},
		{`limits: {check_body: 4M}`, `limits.check_body: ` + size},
		{`limits: {check_body: 4 MiB}`, `limits.check_body: ` + size},
		{`limits: {check_body: 1.5MiB}`, `limits.check_body: ` + size},
		{`limits: {check_body: 4mib}`, `limits.check_body: ` + size},
		{`limits: {event: 010}`, `limits.event: ` + size},
		{`limits: {event: [1]}`, `limits.event: must be a whole number of bytes, or one with a unit (B, kB, MB, GB, KiB, MiB, GiB), not a list`},
		{`limits: {buffered: 15MiB}`, `limits.buffered: must not be less than body (16MiB)`},
		{`limits: {buffered: 1023, body: 1KiB}`, `limits.buffered: must not be less than 1KiB`},
		{`limits: {buffered: 1KiB, body: 1025}`, `limits.buffered: must not be less than body (1025B)`},
		{`limits: {body: 512MiB, buffered: 256MiB}`, `limits.buffered: must not be less than body (512MiB)`},
		{`limits: {body: 2GiB, buffered: 1KiB}`, `limits.body: must not be more than 1GiB`},
		{`limits: {max_streams: 0}`, `limits.max_streams: must not be less than 1`},
		{`limits: {max_streams: 1000001}`, `limits.max_streams: must not be more than 1000000`},
		{`limits: {connections: 0}`, `limits.connections: must not be less than 1`},
	} {
		wantFaults(t, "upstreams: {docs: {url: https://h/mcp}}\n"+c.text+"\n", "f.yaml:2: "+c.want)
	}
}

func TestFaultsOfAFile(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"", "f.yaml: upstreams: there is none; name one here, by --upstream, --stdio or --mcp-json"},
		{"# only a comment\n", "f.yaml: upstreams: there is none; name one here, by --upstream, --stdio or --mcp-json"},
		{"drain: 1s\nupstreams: {}\n", "f.yaml:2: upstreams: there is none; name one here, by --upstream, --stdio or --mcp-json"},
		{"{\"mcpServers\": {\"a\": {\"url\": \"http://h\"}}, \"upstreams\": {\"a\": {\"url\": \"http://h\"}}}", "f.yaml:1: mcpServers: is not a known key; this is a file of an agent's: name it by --mcp-json"},
		{"upstreams:\n", "f.yaml:1: upstreams: has no value, must be a mapping"},
		{"- a\n", "f.yaml:1: must be a mapping, not a list"},
		{"a: b\n\tc: d\n", `f.yaml:2: is not valid YAML: found a tab character that violates indentation, while scanning a plain scalar from line 1 on`},
		{"auth:\n  token: \"secret\n", "f.yaml:3: is not valid YAML: found unexpected end of stream, while scanning a quoted scalar from line 2 on"},
		{"auth:\n  token: secret: x\n", "f.yaml:2: is not valid YAML: mapping values are not allowed in this context"},
		{"a: b\n---\nc: d\n", "f.yaml:2: has more than one document"},
		{"%YAML 1.2\n---\ndrain: 5\nupstreams: {a: {url: http://h}}\n", `f.yaml:3: drain: must be a duration with a unit, such as 500ms, 30s, 5m or 1h30m: "5" has none`},
		{"listen: ':1'\nauth: secret\nupstreams: {a: {url: http://h}}\n", "f.yaml:2: auth: must be a mapping, not a string"},
		{"listen: ':1'\nauth: {token: \"\"}\nupstreams: {a: {url: http://h}}\n", "f.yaml:1: listen: :1 is not a loopback address: set auth.token (generate makes one)"},
		{"a: \xff\n", "f.yaml: is not UTF-8"},
		{strings.Repeat("#\n", 1<<20), "f.yaml: is larger than 1MiB"},
		{"\na: " + strings.Repeat("[", 20_000), "f.yaml:2: is not valid YAML: exceeded max depth of 10000"},
		{"\n" + strings.Repeat("- ", 20_000), "f.yaml:2: is not valid YAML: exceeded max depth of 10000"},
		{"upstreams:\n  docs: {}\n", "f.yaml:2: upstreams.docs: has neither url nor command"},
		{"upstreams:\n  docs:\n", "f.yaml:2: upstreams.docs: has no value, must be a mapping"},
		{"upstreams:\n  .docs: {url: http://h}\n", `f.yaml:2: upstreams.".docs": the name must be 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-', not '.' first`},
		{"upstreams:\n  a b: {url: http://h}\n", `f.yaml:2: upstreams."a b": the name must be 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-', not '.' first`},
		{"upstreams:\n  \"\": {url: http://h}\n", `f.yaml:2: upstreams."": the name must be 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-', not '.' first`},
		{"upstreams:\n  " + strings.Repeat("a", 65) + ": {url: http://h}\n", "f.yaml:2: upstreams.\"" + strings.Repeat("a", 64) + "…\": the name must be 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-', not '.' first"},
		{"upstreams:\n  a: {url: http://h}\n  a: {url: http://h}\n", "f.yaml:3: upstreams.a: is given twice, first on line 2"},
		{"upstreams: {a: {url: http://h}}\nupstreams: {b: {url: http://h}}\n", "f.yaml:2: upstreams: is given twice, first on line 1"},
	} {
		wantFaults(t, c.text, c.want)
	}
}

func wantFaults(t *testing.T, text, want string) {
	t.Helper()
	f := files{
		"f.yaml": text, "$SECRET": "v", "$EMPTY": "", "/empty": "\n", "/lines": "a\nb\n", "/large": strings.Repeat("x", 64<<10+1),
	}
	_, _, err := f.load(config.Sources{File: "f.yaml"})
	if len(text) > 200 {
		text = text[:200] + "…"
	}
	if err == nil {
		t.Errorf("%s\nno fault, want\n%s", text, want)
	} else if got := err.Error(); got != want {
		t.Errorf("%s\ngot\n%s\nwant\n%s", text, got, want)
	}
}

func TestFaultsOfTheCommandLine(t *testing.T) {
	for _, c := range []struct {
		s    config.Sources
		want string
	}{
		{config.Sources{}, "upstreams: there is none; name one in a file for --config, by --upstream, --stdio or --mcp-json"},
		{config.Sources{File: "none.yaml"}, "none.yaml: cannot be read: no such file or directory"},
		{config.Sources{Upstreams: []string{"http://u:secret@h"}}, "--upstream: must be name=url"},
		{config.Sources{Upstreams: []string{"a b=http://h"}}, `--upstream "a b": the name must be 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-', not '.' first`},
		{config.Sources{Upstreams: []string{"a=secret"}}, "--upstream a: must be an http:// or https:// URL with a host"},
		{config.Sources{Upstreams: []string{"a=http://h", "a=http://h"}}, "--upstream a: the name is taken: it is given at --upstream a"},
		{config.Sources{File: "f.yaml", Upstreams: []string{"docs=http://h"}}, "--upstream docs: the name is taken: it is given at f.yaml:2"},
		{config.Sources{Upstreams: []string{"a=http://h"}, Listen: []string{"x"}}, `--listen: must be host:port, such as 127.0.0.1:7300, not "x"`},
		{config.Sources{Upstreams: []string{"a=http://h"}, Listen: []string{":80"}}, `--listen: :80 is not a loopback address: set auth.token (generate makes one)`},
		{config.Sources{Upstreams: []string{"a=http://h"}, Listen: []string{"localhost:80", "LOCALHOST:80"}}, `--listen: localhost:80 is listened on already`},
		{config.Sources{Upstreams: []string{"a=http://127.0.0.1/"}, Listen: []string{"127.0.0.1:80"}}, `--upstream a: is the daemon's own address (127.0.0.1:80); name the server itself`},
	} {
		_, _, err := files{"f.yaml": "upstreams:\n  docs: {url: http://h}\n"}.load(c.s)
		if err == nil || err.Error() != c.want {
			t.Errorf("%+v\ngot  %v\nwant %s", c.s, err, c.want)
		}
	}
}

//go:embed testdata/faults.yaml
var faultsYAML string

//go:embed testdata/faults.txt
var faultsText string

// A file with a fault of every sort gives all of them, in order, and each can be taken apart.
func TestAllFaultsAtOnce(t *testing.T) {
	_, _, err := files{"testdata/faults.yaml": faultsYAML}.load(config.Sources{
		File: "testdata/faults.yaml", Upstreams: []string{"docs=https://other.example"},
	})
	if err == nil {
		t.Fatal("no fault")
	}
	if got := err.Error() + "\n"; got != faultsText {
		t.Errorf("got\n%s\nwant\n%s", got, faultsText)
	}
	var faults config.Faults
	if !errors.As(err, &faults) || len(faults) != 23 {
		t.Errorf("%d faults, want 23", len(faults))
	}
	var first config.Fault
	if !errors.As(err, &first) || first.Line != 2 || first.Key != "listen" || first.File != "testdata/faults.yaml" {
		t.Errorf("the first fault is %+v", first)
	}
}
