package config_test

import (
	_ "embed"
	"net/http"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/config"
)

//go:embed testdata/vscode.json
var vscodeJSON string

func TestServersFile(t *testing.T) {
	f := files{"/w/.vscode/mcp.json": vscodeJSON, "$DOCS_TOKEN": "t0ken", "$TEAM": ""}
	c, warnings, err := f.load(config.Sources{MCPJSON: []string{"/w/.vscode/mcp.json"}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, u := range c.Upstreams {
		got = append(got, u.Name+" "+string(u.Transport)+" "+u.URL.String())
	}
	want := []string{
		"docs http https://docs.example.com/mcp?dir=/w",
		"more http https://more.example",
		"old sse http://old.example/sse",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	docs := c.Upstreams[0]
	if want := (http.Header{"Authorization": {"Bearer t0ken"}, "X-Team": {"none-$1"}}); !reflect.DeepEqual(docs.Headers, want) {
		t.Errorf("headers = %v, want %v", docs.Headers, want)
	}
	if docs.Timeouts.Call != 10*time.Minute || docs.Streams.Reopen != 0 || docs.Timeouts.Idle != 5*time.Minute {
		t.Errorf("docs = %+v %+v", docs.Timeouts, docs.Streams)
	}
	wantWarnings(t, warnings,
		`/w/.vscode/mcp.json:14: servers.files: needs stdio, which is not served yet: left out`,
		`/w/.vscode/mcp.json:15: servers.typed: needs stdio, which is not served yet: left out`,
		`/w/.vscode/mcp.json:17: servers.more: keys that mean nothing here, left out: autoApprove, env, timeout`,
		`/w/.vscode/mcp.json:2: unknown keys, left out: mcp`,
	)
}

func wantWarnings(t *testing.T, warnings []config.Warning, want ...string) {
	t.Helper()
	var got []string
	for _, w := range warnings {
		got = append(got, w.String())
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("warnings:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestWorkspaceFolder(t *testing.T) {
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"/w/.mcp.json":        "/w",
		"/w/.cursor/mcp.json": "/w",
		"/w/conf/mcp.json":    "/w/conf",
		"mcp.json":            here,
	} {
		c := mustLoad(t, files{file: `{"servers": {"a": {"url": "http://h?${workspaceFolder}"}}}`}, config.Sources{MCPJSON: []string{file}})
		if got := c.Upstreams[0].URL.RawQuery; got != want {
			t.Errorf("%s: %s, want %s", file, got, want)
		}
	}
}

// One fault each. The entry stands alone in line 2.
func TestFaultsOfAnEntry(t *testing.T) {
	const forms = "; there are ${NAME}, ${NAME:-default}, ${env:NAME} and ${workspaceFolder}"
	for _, c := range []struct{ entry, want string }{
		{`"a": 5`, `.a: must be a mapping, not a number`},
		{`"a": {}`, `.a: has neither url nor command`},
		{`"a": {"serverUrl": "http://h"}`, `.a: has neither url nor command`},
		{`"a b": {"url": "http://h"}`, `."a b": the name must be 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-', not '.' first`},
		{`"a": {"url": "http://h"}, "a": {"url": "http://h"}`, `.a: is given twice, first on line 2`},
		{`"a": {"url": "http://h", "command": "x"}`, `.a: has a url and is a stdio server: take one of them out`},
		{`"a": {"url": "http://h", "type": "stdio"}`, `.a: has a url and is a stdio server: take one of them out`},
		{`"a": {"url": "http://h", "type": "ws"}`, `.a.type: must be http, streamable-http, streamableHttp, sse or stdio, not "ws"`},
		{`"a": {"url": "http://h", "type": null}`, `.a.type: has no value, must be http, streamable-http, streamableHttp, sse or stdio`},
		{`"a": {"url": "http://h", "disabled": "yes"}`, `.a.disabled: must be true or false, not a string`},
		{`"a": {"url": 5}`, `.a.url: must be a string (put it in quotes), not a number`},
		{`"a": {"url": "h"}`, `.a.url: must be an http:// or https:// URL with a host`},
		{`"a": {"url": "http://${NONE}"}`, `.a.url: the environment variable NONE is not set`},
		{`"a": {"url": "http://127.0.0.1:7300/mcp/a"}`, `.a.url: is the daemon's own address (127.0.0.1:7300); name the server itself`},
		{`"a": {"url": "http://h", "headers": {"X": "${env:NONE}"}}`, `.a.headers.X: the environment variable NONE is not set`},
		{`"a": {"url": "http://h", "headers": {"X": "${input:token}"}}`, `.a.headers.X: ${input:token} asks a person, which a daemon cannot; use ${env:NAME}`},
		{`"a": {"url": "http://h", "headers": {"X": "${file:/x}"}}`, `.a.headers.X: has an unknown form ${file:/x}` + forms},
		{`"a": {"url": "http://h", "headers": {"X": "${A:-${B}}"}}`, `.a.headers.X: has an unknown form ${A:-…}` + forms},
		{`"a": {"url": "http://h", "headers": {"X": "${}"}}`, `.a.headers.X: has an unknown form ${}` + forms},
		{`"a": {"url": "http://h", "headers": {"X": "${A"}}`, `.a.headers.X: has a ${ without a closing brace`},
		{`"a": {"url": "http://h", "headers": {"X": ["a"]}}`, `.a.headers.X: must be a string, not a list`},
		{`"a": {"url": "http://h", "headers": {"Host": "a"}}`, `.a.headers.Host: cannot be set: it follows from url`},
		{`"a": {"url": "http://h", "fluentd-perf": {"headers": {}}}`, `.a.fluentd-perf.headers: is not a known key; known here: batch, breaker, cache, coalesce, forward_cookies, limits, oauth, pool, protocol, retry, sessions, streams, timeouts, transport`},
		{`"a": {"url": "http://h", "fluentd-perf": {"pol": {}}}`, `.a.fluentd-perf.pol: is not a known key; did you mean pool?`},
		{`"a": {"url": "http://h", "fluentd-perf": {"pool": {"max_idle": 300}}}`, `.a.fluentd-perf.pool.max_idle: must not be above max_connections (256)`},
		{`"a": {"url": "http://h", "type": "sse", "fluentd-perf": {"transport": "sse"}}`, `.a.fluentd-perf.transport: type says that already`},
		{`"a": {"url": "http://h", "type": "sse", "fluentd-perf": {"streams": {"reopen": "1m"}}}`, `.a.fluentd-perf.streams.reopen: means nothing with transport sse, whose sessions end with their stream`},
		{`"a": {"url": "http://h", "type": "sse", "fluentd-perf": {"cache": {}}}`, `.a.fluentd-perf.cache: means nothing with transport sse, which is only relayed`},
		{`"a": {"url": "http://h", "fluentd-perf": {"cache": {"ttl": {"tools/call": "1m"}}}}`, `.a.fluentd-perf.cache.ttl.tools/call: has no ttl of its own: name the tools in cache.tools`},
		{`"a": {"url": "http://h", "fluentd-perf": {"cache": {"max_ttl": "1m", "min_ttl": "2m"}}}`, `.a.fluentd-perf.cache.min_ttl: must not be above max_ttl (1m)`},
		{`"a": {"url": "http://h", "fluentd-perf": {"coalesce": {"tools": "x"}}}`, `.a.fluentd-perf.coalesce.tools: must be a list, not a string`},
	} {
		wantServersFault(t, "{\"mcpServers\": {\n"+c.entry+"}}", "m.json:2: mcpServers"+c.want)
	}
}

func TestFaultsOfAServersFile(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{``, `m.json:1: is not valid JSON: unexpected end of JSON input`},
		{"{\n\"servers\": {}", `m.json:2: is not valid JSON: unexpected end of JSON input`},
		{"{\n'servers': {}}", `m.json:2: is not valid JSON: invalid character '\'' looking for beginning of object key string`},
		{"servers: {}", `m.json:1: is not valid JSON: invalid character 's' looking for beginning of value`},
		{`{"servers": {}} {}`, `m.json:1: is not valid JSON: invalid character '{' after top-level value`},
		{"{\n/* {}", `m.json:2: is not valid JSON: a comment without an end`},
		{`{"servers": {,}}`, `m.json:1: is not valid JSON: invalid character ',' looking for beginning of object key string`},
		{`{"servers": {"a":,}}`, `m.json:1: is not valid JSON: invalid character '}' looking for beginning of value`},
		{`{"inputs": [1,,]}`, `m.json:1: is not valid JSON: invalid character ',' looking for beginning of value`},
		{`[,]`, `m.json:1: is not valid JSON: invalid character ',' looking for beginning of value`},
		{`{"servers": {}} /`, `m.json:1: is not valid JSON: invalid character '/' after top-level value`},
		{strings.Repeat("[", 70) + strings.Repeat("]", 70), `m.json:1: is nested too deep`},
		{`{"x":[` + strings.Repeat("0,", 100_000) + `]}`, `m.json: is too long: more than 100000 values`},
		{`[]`, `m.json:1: must be a mapping, not a list`},
		{`{}`, `m.json:1: has neither mcpServers nor servers`},
		{`{"servers": []}`, `m.json:1: servers: must be a mapping, not a list`},
		{`{"servers": {}}`, `m.json:1: has no server left: 0 need stdio, 0 are disabled`},
		{`{"servers": {"a": {"command": "x"}, "b": {"disabled": true}, "c": {"type": "stdio"}}}`, `m.json:1: has no server left: 2 need stdio, 1 are disabled`},
		{`{"servers": {"a": {"url": "http://h"}}, "mcpServers": {"a": {"url": "http://h"}}}`, `m.json:1: mcpServers.a: the name is taken: it is given at m.json:1`},
	} {
		wantServersFault(t, c.text, c.want)
	}
}

func wantServersFault(t *testing.T, text, want string) {
	t.Helper()
	_, _, err := files{"m.json": text, "$A": "v"}.load(config.Sources{MCPJSON: []string{"m.json"}})
	if len(text) > 200 {
		text = text[:200] + "…"
	}
	if err == nil || err.Error() != want {
		t.Errorf("%s\ngot  %v\nwant %s", text, err, want)
	}
}

// A servers file with nothing for us does no harm beside another source.
func TestEmptyServersFileBesideAnother(t *testing.T) {
	f := files{"m.json": `{"mcpServers": {"a": {"command": "x"}}}`}
	c, warnings, err := f.load(config.Sources{MCPJSON: []string{"m.json"}, Upstreams: []string{"a=http://h"}})
	if err != nil || len(c.Upstreams) != 1 {
		t.Fatalf("%v, %v", c, err)
	}
	wantWarnings(t, warnings, "m.json:1: mcpServers.a: needs stdio, which is not served yet: left out")
}

func TestFaultsOfTwoServersFiles(t *testing.T) {
	f := files{
		"b.json": `{"servers": {"a": {"url": "http://h"}}}`,
		"a.json": "{\"servers\": {\n\"b\": {\"url\": \"x\"},\n\"a\": {\"url\": \"http://h\"}}}",
	}
	_, _, err := f.load(config.Sources{MCPJSON: []string{"b.json", "a.json", "c.json"}, Upstreams: []string{"a=http://h"}})
	want := `a.json:2: servers.b.url: must be an http:// or https:// URL with a host
a.json:3: servers.a: the name is taken: it is given at b.json:1
c.json: cannot be read: no such file or directory
--upstream a: the name is taken: it is given at b.json:1`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}
