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
		got = append(got, u.Name+" "+reached(u))
	}
	want := []string{
		"docs http https://docs.example.com/mcp?dir=/w",
		"more http https://more.example",
		"old sse http://old.example/sse",
		"typed stdio x",
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
		`/w/.vscode/mcp.json:14: servers.files.env.K: server left out: ${input:token} asks a person, which a daemon cannot; use ${env:NAME}`,
		`/w/.vscode/mcp.json:15: servers.typed: keys that mean nothing here, left out: autoApprove`,
		`/w/.vscode/mcp.json:17: servers.more: keys that mean nothing here, left out: autoApprove, env, timeout`,
		`/w/.vscode/mcp.json:2: unknown keys, left out: mcp`,
	)
}

// reached writes how an upstream is reached.
func reached(u config.Upstream) string {
	if u.Stdio != nil {
		return "stdio " + strings.Join(u.Stdio.Command, " ")
	}
	return string(u.Transport) + " " + u.URL.String()
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

// What cannot be used is left out with one warning, and the rest is served. The entry stands alone in line 2.
func TestEntriesThatAreLeftOut(t *testing.T) {
	const (
		forms = "; there are ${NAME}, ${NAME:-default}, ${env:NAME} and ${workspaceFolder}"
		types = "must be http, streamable-http, streamableHttp, sse or stdio"
		out   = ": server left out: "
	)
	for _, c := range []struct{ entry, want string }{
		{`"a": 5`, `.a` + out + `must be a mapping, not a number`},
		{`"a": null`, `.a` + out + `has no value, must be a mapping`},
		{`"a": {}`, `.a` + out + `has neither url nor command`},
		{`"a": {"uri": "http://h", "autoApprove": []}`, `.a` + out + `has neither url nor command`},
		{`"a": {"url": "http://h", "url": "http://i"}`, `.a.url` + out + `is given twice, first on line 2`},
		{`"a": {"command": "x", "args": ["${NONE}"]}`, `.a.args[0]` + out + `the environment variable NONE is not set`},
		{`"a": {"command": "x", "args": ["-p", 80]}`, `.a.args[1]` + out + `must be a string (put it in quotes), not a number`},
		{`"a": {"command": "x", "args": "-y"}`, `.a.args` + out + `must be a list, not a string`},
		{`"a": {"command": "x", "env": {"K": "${input:k}"}}`, `.a.env.K` + out + `${input:k} asks a person, which a daemon cannot; use ${env:NAME}`},
		{`"a": {"command": "x", "args": [null]}`, `.a.args[0]` + out + `has no value, must be a string`},
		{`"a": {"command": "x", "env": {"K=V": "s"}}`, `.a.env."K=V"` + out + `is not a name that a variable can have`},
		{`"a": {"command": "x", "env": ["K=V"]}`, `.a.env` + out + `must be a mapping, not a list`},
		{`"a": {"command": "x", "env": {"K": "a\u0000b"}}`, `.a.env.K` + out + `must not hold a NUL byte`},
		{`"a": {"command": "x", "cwd": 5}`, `.a.cwd` + out + `must be a string (put it in quotes), not a number`},
		{`"a": {"command": "x", "cwd": "${NONE}/y"}`, `.a.cwd` + out + `the environment variable NONE is not set`},
		{`"a": {"command": "x", "envFile": "/none"}`, `.a.envFile` + out + `the file /none cannot be read: no such file or directory`},
		{`"a": {"command": ""}`, `.a.command` + out + `is empty`},
		{`"a": {"command": " "}`, `.a.command` + out + `is empty`},
		{`"a": {"command": ["x"]}`, `.a.command` + out + `must be a string, not a list`},
		{`"a": {"command": "x", "type": "http"}`, `.a.type` + out + `must be stdio beside a command, not "http"`},
		{`"a": {"type": "stdio"}`, `.a` + out + `is of type stdio and has no command`},
		{`"a": {"url": "http://h", "command": "x"}`, `.a` + out + `has both a url and a command: take one of them out`},
		{`"a": {"serverUrl": "http://h", "type": "stdio"}`, `.a` + out + `has both a url and a command: take one of them out`},
		{`"a": {"url": "http://h", "type": "ws"}`, `.a.type` + out + types + `, not "ws"`},
		{`"a": {"url": "http://h", "type": "STDIO"}`, `.a.type` + out + types + `, not "STDIO"`},
		{`"a": {"url": "http://h", "type": "remote"}`, `.a.type` + out + types + `, not "remote"`},
		{`"a": {"url": "http://h", "type": ""}`, `.a.type` + out + types + `, not ""`},
		{`"a": {"url": "http://h", "disabled": "yes"}`, `.a.disabled` + out + `must be true or false, not a string`},
		{`"a": {"url": "http://h", "enabled": 1}`, `.a.enabled` + out + `must be true or false, not a number`},
		{`"a": {"url": 5}`, `.a.url` + out + `must be a string (put it in quotes), not a number`},
		{`"a": {"httpUrl": null}`, `.a` + out + `has neither url nor command`},
		{`"a": {"command": null, "args": ["x"]}`, `.a` + out + `has neither url nor command`},
		{`"a": {"url": "h"}`, `.a.url` + out + `must be an http:// or https:// URL with a host`},
		{`"a": {"url": "ws://h/sse"}`, `.a.url` + out + `must be an http:// or https:// URL with a host`},
		{`"a": {"url": "http://${NONE}"}`, `.a.url` + out + `the environment variable NONE is not set`},
		{`"a": {"serverUrl": "http://h/${env:NONE}"}`, `.a.serverUrl` + out + `the environment variable NONE is not set`},
		{`"a": {"url": "http://127.0.0.1:7300/mcp/a"}`, `.a.url` + out + `is the daemon's own address (127.0.0.1:7300)`},
		{`"a": {"httpUrl": "http://localhost:7300/mcp/a"}`, `.a.httpUrl` + out + `is the daemon's own address (127.0.0.1:7300)`},
		{`"a": {"url": "http://[::1]:7300/mcp", "type": "http"}`, `.a.url` + out + `is the daemon's own address ([::1]:7300)`},
		{`"a": {"url": "http://h", "headers": {"X": "${env:NONE}"}}`, `.a.headers.X` + out + `the environment variable NONE is not set`},
		{`"a": {"url": "http://h", "headers": {"X": "${input:token}"}}`, `.a.headers.X` + out + `${input:token} asks a person, which a daemon cannot; use ${env:NAME}`},
		{`"a": {"url": "http://${input:host}/mcp"}`, `.a.url` + out + `${input:host} asks a person, which a daemon cannot; use ${env:NAME}`},
		{`"a": {"url": "http://h", "headers": {"X": "${file:/x}"}}`, `.a.headers.X` + out + `has an unknown form ${file:/x}` + forms},
		{`"a": {"url": "http://h", "headers": {"X": "${A:-${B}}"}}`, `.a.headers.X` + out + `has an unknown form ${A:-…}` + forms},
		{`"a": {"url": "http://h", "headers": {"X": "${}"}}`, `.a.headers.X` + out + `has an unknown form ${}` + forms},
		{`"a": {"url": "http://h", "headers": {"X": "${A"}}`, `.a.headers.X` + out + `has a ${ without a closing brace`},
		{`"a": {"url": "http://h", "headers": {"X": ["a"]}}`, `.a.headers.X` + out + `must be a string, not a list`},
		{`"a": {"url": "http://h", "headers": "X: a"}`, `.a.headers` + out + `must be a mapping, not a string`},
		{`"a b": {"url": "h"}`, `."a b".url` + out + `must be an http:// or https:// URL with a host`},
	} {
		text := "{\"mcpServers\": {\n" + c.entry + ",\n\"good\": {\"url\": \"http://good\"}}}"
		loaded, warnings, err := files{"m.json": text, "$A": "v"}.load(config.Sources{MCPJSON: []string{"m.json"}})
		if err != nil || len(loaded.Upstreams) != 1 || loaded.Upstreams[0].Name != "good" {
			t.Errorf("%s: %v, %v", c.entry, loaded, err)
		}
		wantWarnings(t, warnings, "m.json:2: mcpServers"+c.want)
	}
}

// What is null is not there, but in our own part, where it is a slip.
func TestNullsOfEntries(t *testing.T) {
	for _, c := range []struct{ entry, want string }{
		{`"command": "x", "args": null, "env": null, "cwd": null, "envFile": null, "type": null, "url": null, "headers": null`, "stdio x in /h"},
		{`"command": "x", "env": {"A": "1", "B": null}, "disabled": null, "enabled": null, "timeout": null`, "stdio x in /h A"},
		{`"url": "http://h/", "headers": null, "type": null, "command": null, "env": null, "httpUrl": null`, "http http://h/"},
		{`"url": "http://h/", "headers": {"X-A": null, "X-B": "1"}`, "http http://h/ X-B"},
	} {
		f := files{"m.json": `{"mcpServers": {"a": {` + c.entry + `}}}`, "$HOME": "/h"}
		loaded, warnings, err := f.load(config.Sources{MCPJSON: []string{"m.json"}})
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s: %v, %v", c.entry, warnings, err)
			continue
		}
		u := loaded.Upstreams[0]
		got := reached(u)
		if u.Stdio != nil {
			got += " in " + u.Stdio.Cwd
			for name := range u.Stdio.Env {
				got += " " + name
			}
		}
		for name := range u.Headers {
			got += " " + name
		}
		if got != c.want {
			t.Errorf("%s: got %s, want %s", c.entry, got, c.want)
		}
	}
	_, _, err := files{"m.json": `{"servers": {"a": {"command": "x", "fluentd-perf": {"processes": null}}}}`}.load(config.Sources{MCPJSON: []string{"m.json"}})
	if want := "m.json:1: servers.a.fluentd-perf.processes: has no value, must be a mapping"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// An entry with two faults says both, and where nothing is left, the warnings come with the error.
func TestNoServerLeft(t *testing.T) {
	text := "{\"servers\": {\"a\": {\"url\": \"${NONE}\",\n\"headers\": {\"X\": \"${input:x}\"}, \"env\": {}},\n\"me\": {\"url\": \"http://127.0.0.1:7300/mcp/a\"}}}"
	_, warnings, err := files{"m.json": text}.load(config.Sources{MCPJSON: []string{"m.json"}})
	if want := "m.json:1: has no server left: 0 disabled, 2 not usable"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	wantWarnings(t, warnings,
		"m.json:1: servers.a.url: server left out: the environment variable NONE is not set",
		"m.json:2: servers.a.headers.X: server left out: ${input:x} asks a person, which a daemon cannot; use ${env:NAME}",
		"m.json:3: servers.me.url: server left out: is the daemon's own address (127.0.0.1:7300)")
}

// The daemon's own addresses are those of all sources.
func TestOwnAddressOfAServersFile(t *testing.T) {
	f := files{
		"f.yaml": "listen: 127.0.0.1:7400\nupstreams: {x: {url: http://x}}",
		"m.json": `{"mcpServers": {"a": {"url": "http://127.0.0.1:7400/mcp/a"}, "b": {"url": "http://127.0.0.1:7500/mcp/b"}}}`,
	}
	for _, c := range []struct {
		listen []string
		want   string
	}{
		{nil, "b x"},
		{[]string{"127.0.0.1:7500"}, "a x"},
	} {
		loaded, warnings, err := f.load(config.Sources{File: "f.yaml", MCPJSON: []string{"m.json"}, Listen: c.listen})
		if err != nil || names(loaded) != c.want || len(warnings) != 1 {
			t.Errorf("%v: %v, %v, %v", c.listen, loaded, warnings, err)
		}
	}
}

func names(c *config.Config) string {
	if c == nil {
		return ""
	}
	var names []string
	for _, u := range c.Upstreams {
		names = append(names, u.Name)
	}
	return strings.Join(names, " ")
}

// Names become usable ones, each said once. Every line has the entries of the file, in its order.
func TestNamesOfEntries(t *testing.T) {
	const (
		odd  = ": a name may have only a-z, A-Z, 0-9, '.', '_' and '-', 64 of them, not '.' first"
		same = " is the one at m.json:1"
	)
	long := strings.Repeat("n", 64)
	for _, c := range []struct {
		in       []string
		want     string
		warnings []string
	}{
		{[]string{"a", "A.b_c-1"}, "A.b_c-1 a", nil},
		{[]string{"my server"}, "my-server", []string{`."my server": is served as my-server` + odd}},
		{[]string{"my server", "my-server"}, "my-server my-server-2", []string{
			`."my server": is served as my-server` + odd, `.my-server: is served as my-server-2: my-server` + same}},
		{[]string{"a", "a", "a"}, "a a-2 a-3", []string{`.a: is served as a-2: a` + same, `.a: is served as a-3: a` + same}},
		{[]string{"a", "a-2", "a"}, "a a-2 a-3", []string{`.a: is served as a-3: a` + same}},
		{[]string{"@scope/server"}, "scope-server", []string{`."@scope/server": is served as scope-server` + odd}},
		{[]string{"github.com/x/y (z)"}, "github.com-x-y-z", []string{`."github.com/x/y (z)": is served as github.com-x-y-z` + odd}},
		{[]string{".hidden", "日本", ""}, "hidden server server-2", []string{
			`.".hidden": is served as hidden` + odd, `."日本": is served as server` + odd, `."": is served as server-2: server` + same}},
		{[]string{long + "n", long}, long[:62] + "-2 " + long, []string{
			`."` + long + `…": is served as ` + long + odd, `.` + long + `: is served as ` + long[:62] + `-2: ` + long + same}},
	} {
		var entries []string
		for _, name := range c.in {
			entries = append(entries, `"`+name+`": {"url": "http://h"}`)
		}
		text := `{"servers": {` + strings.Join(entries, ", ") + `}}`
		loaded, warnings, err := files{"m.json": text}.load(config.Sources{MCPJSON: []string{"m.json"}})
		if err != nil || names(loaded) != c.want {
			t.Errorf("%q: %q, want %q, %v", c.in, names(loaded), c.want, err)
		}
		var want []string
		for _, w := range c.warnings {
			want = append(want, "m.json:1: servers"+w)
		}
		wantWarnings(t, warnings, want...)
	}
}

// Where the address stands, and which transport it is.
func TestAddressesOfEntries(t *testing.T) {
	for _, c := range []struct{ entry, want string }{
		{`"url": "http://h/mcp"`, "http http://h/mcp"},
		{`"httpUrl": "http://h/mcp"`, "http http://h/mcp"},
		{`"serverUrl": "http://h/mcp"`, "http http://h/mcp"},
		{`"url": "http://h/sse"`, "sse http://h/sse m.json:1: servers.a: has no type and is taken for sse, as its path ends"},
		{`"serverUrl": "http://h/sse?k=1"`, "sse http://h/sse?k=1 m.json:1: servers.a: has no type and is taken for sse, as its path ends"},
		{`"httpUrl": "http://h/sse"`, "http http://h/sse"},
		{`"type": "http", "url": "http://h/sse"`, "http http://h/sse"},
		{`"type": "sse", "url": "http://h/mcp"`, "sse http://h/mcp"},
		{`"type": "sse", "serverUrl": "http://h/mcp"`, "sse http://h/mcp"},
		{`"type": "streamable-http", "url": "http://h/mcp"`, "http http://h/mcp"},
		{`"type": "streamableHttp", "url": "http://h/mcp"`, "http http://h/mcp"},
		{`"type": "streamable_http", "url": "http://h/mcp"`, "http http://h/mcp"},
		{`"type": "HTTP", "url": "http://h/mcp"`, "http http://h/mcp"},
		{`"url": "http://h/sse", "httpUrl": "http://h/mcp"`, "http http://h/mcp m.json:1: servers.a: keys that mean nothing here, left out: url"},
		{`"url": "http://h/1", "serverUrl": "http://h/2"`, "http http://h/1 m.json:1: servers.a: keys that mean nothing here, left out: serverUrl"},
		{`"url": "http://h", "headers": {"content-type": "a"}`, `http http://h m.json:1: servers.a.headers.content-type: left out: it describes the body, which the agent writes`},
		{`"url": "http://h", "headers": {"Accept": "a"}`, `http http://h m.json:1: servers.a.headers.Accept: left out: it belongs to the protocol, the agent sets it`},
		{`"url": "http://h", "headers": {"Host": "a"}`, `http http://h m.json:1: servers.a.headers.Host: left out: it follows from url`},
	} {
		text := `{"servers": {"a": {` + c.entry + `}}}`
		loaded, warnings, err := files{"m.json": text}.load(config.Sources{MCPJSON: []string{"m.json"}})
		if err != nil {
			t.Errorf("%s: %v", c.entry, err)
			continue
		}
		u := loaded.Upstreams[0]
		got := string(u.Transport) + " " + u.URL.String()
		for _, w := range warnings {
			got += " " + w.String()
		}
		if got != c.want || len(u.Headers) > 0 {
			t.Errorf("%s\ngot  %s, %v\nwant %s", c.entry, got, u.Headers, c.want)
		}
	}
}

// Of two entries with one name each is read by itself.
func TestEqualEntriesAreKeptApart(t *testing.T) {
	f := files{"m.json": `{"servers": {
		"a": {"url": "http://h/1", "type": "sse", "fluentd-perf": {"pool": {"max_idle": 200}}},
		"a": {"url": "http://h/2", "fluentd-perf": {"transport": "sse", "pool": {"max_connections": 100}}}}}`}
	c, warnings, err := f.load(config.Sources{MCPJSON: []string{"m.json"}})
	if err != nil {
		t.Fatal(err)
	}
	if u := c.Upstreams[1]; names(c) != "a a-2" || u.URL.Path != "/2" || u.Transport != config.TransportSSE || u.Pool.MaxIdle != 100 {
		t.Errorf("%v", c)
	}
	wantWarnings(t, warnings, "m.json:3: servers.a: is served as a-2: a is the one at m.json:2")
}

// Files as the agents' users have them.
func TestFilesOfAgents(t *testing.T) {
	for _, c := range []struct {
		file, text string
		want       string
		warnings   []string
	}{
		{"/w/.mcp.json", claudeJSON, "api=https://api.example.com/mcp browser=stdio npx -y browser-mcp@latest events=https://events.example.com/sse", []string{
			`/w/.mcp.json:8: mcpServers.private.headers.Authorization: server left out: the environment variable PRIVATE_TOKEN is not set`,
			`/w/.mcp.json:11: mcpServers.api.headers.Accept: left out: it belongs to the protocol, the agent sets it`,
		}},
		{"/w/.cursor/mcp.json", cursorJSON, "design-files=http://127.0.0.1:3845/sse issues=https://issues.example.com/mcp", []string{
			`/w/.cursor/mcp.json:3: mcpServers."Design Files": has no type and is taken for sse, as its path ends`,
			`/w/.cursor/mcp.json:3: mcpServers."Design Files": is served as Design-Files: a name may have only a-z, A-Z, 0-9, '.', '_' and '-', 64 of them, not '.' first`,
			`/w/.cursor/mcp.json:5: mcpServers.docs.url: server left out: is the daemon's own address (127.0.0.1:7300)`,
		}},
		{"/w/.vscode/mcp.json", vscodeInputsJSON, "context=https://context.example.com/mcp", []string{
			`/w/.vscode/mcp.json:5: servers.github.headers.Authorization: server left out: ${input:pat} asks a person, which a daemon cannot; use ${env:NAME}`,
			`/w/.vscode/mcp.json:9: servers.local.env.T: server left out: ${input:pat} asks a person, which a daemon cannot; use ${env:NAME}`,
		}},
		{"/h/.codeium/windsurf/mcp_config.json", windsurfJSON, "figma=https://figma.example.com/mcp", []string{
			`/h/.codeium/windsurf/mcp_config.json:3: mcpServers.figma: keys that mean nothing here, left out: disabledTools`,
			`/h/.codeium/windsurf/mcp_config.json:4: mcpServers.payload: server left out: has both a url and a command: take one of them out`,
		}},
		{"/h/.gemini/settings.json", geminiJSON, `cep=http://127.0.0.1:3000/mcp liferay=http://127.0.0.1:8080/o/mcp/sse tools=stdio bash -lc exec "$(git rev-parse --show-toplevel)/launch.sh"`, []string{
			`/h/.gemini/settings.json:5: mcpServers.cep: keys that mean nothing here, left out: includeTools, oauth, timeout, trust, url`,
			`/h/.gemini/settings.json:7: mcpServers.liferay: has no type and is taken for sse, as its path ends`,
			`/h/.gemini/settings.json:8: mcpServers.tools: keys that mean nothing here, left out: trust`,
			`/h/.gemini/settings.json:1: unknown keys, left out: context, theme`,
		}},
	} {
		f := files{c.file: c.text, "$API_KEY": "k"}
		loaded, warnings, err := f.load(config.Sources{MCPJSON: []string{c.file}})
		if err != nil {
			t.Errorf("%s: %v", c.file, err)
			continue
		}
		var got []string
		for _, u := range loaded.Upstreams {
			got = append(got, strings.ToLower(u.Name)+"="+strings.TrimPrefix(strings.TrimPrefix(reached(u), "http "), "sse "))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q, want %s", c.file, got, c.want)
		}
		wantWarnings(t, warnings, c.warnings...)
	}
}

const claudeJSON = `{
  "mcpServers": {
    "events": {"type": "sse", "url": "https://events.example.com/sse"},
    "private": {
      "type": "http",
      "url": "${PRIVATE_URL:-https://private.example.com}/mcp",
      "headers": {
        "Authorization": "Bearer ${PRIVATE_TOKEN}"}
    },
    "browser": {"command": "npx", "args": ["-y", "browser-mcp@latest"], "env": {}},
    "api": {"type": "http", "url": "${API_URL:-https://api.example.com}/mcp", "headers": {"X-Api-Key": "${API_KEY}", "Accept": "application/json"}}
  }
}`

const cursorJSON = `{
	"mcpServers": {
		"Design Files": {"url": "http://127.0.0.1:3845/sse"},
		"issues": {"url": "https://issues.example.com/mcp", "headers": {"Authorization": "Bearer ${env:API_KEY}"}},
		"docs": {"url": "http://127.0.0.1:7300/mcp/docs"},
	}
}`

const vscodeInputsJSON = `{
	// asked for once, kept by the editor
	"inputs": [{"type": "promptString", "id": "pat", "password": true}],
	"servers": {
		"github": {"type": "http", "url": "https://github.example.com/mcp/", "headers": {"Authorization": "Bearer ${input:pat}"}},
		"context": {
			"url": "https://context.example.com/mcp",
		},
		"local": {"type": "stdio", "command": "npx", "args": ["x", "${workspaceFolder}"], "env": {"T": "${input:pat}"}},
	},
}`

const windsurfJSON = `{
  "mcpServers": {
    "figma": {"serverUrl": "https://figma.example.com/mcp", "headers": {"X-Key": "${API_KEY}"}, "disabled": false, "disabledTools": []},
    "payload": {"command": "payload-mcp", "args": ["--port", "8080"], "url": "http://127.0.0.1:8080"},
    "off": {"serverUrl": "https://off.example.com/${NONE}", "disabled": true}
  }
}`

const geminiJSON = `{
  "theme": "Dracula",
  "context": {"fileName": ["AGENTS.md"]},
  "mcpServers": {
    "cep": {"httpUrl": "http://127.0.0.1:3000/mcp", "url": "http://127.0.0.1:3000/sse", "timeout": 15000, "trust": false,
      "oauth": {"enabled": true}, "includeTools": ["a"]},
    "liferay": {"url": "http://127.0.0.1:8080/o/mcp/sse"},
    "tools": {"command": "bash", "args": ["-lc", "exec \"$(git rev-parse --show-toplevel)/launch.sh\""], "trust": true}
  }
}`

// One fault each: what a person wrote for the daemon is as strict as the YAML. The entry stands alone in line 2.
func TestFaultsOfOurPartOfAnEntry(t *testing.T) {
	for _, c := range []struct{ entry, want string }{
		{`"a": {"url": "http://h", "fluentd-perf": {"headers": {}}}`, `.a.fluentd-perf.headers: is not a known key; known here: allow_users, batch, breaker, cache, coalesce, forward_cookies, inherit_env, limits, oauth, pool, processes, protocol, resolve, retry, sessions, streams, timeouts, transport`},
		{`"a": {"url": "http://h", "fluentd-perf": {"pol": {}}}`, `.a.fluentd-perf.pol: is not a known key; did you mean pool?`},
		{`"a": {"url": "http://h", "fluentd-perf": {"pool": {"max_idle": 300}}}`, `.a.fluentd-perf.pool.max_idle: must not be above max_connections (256)`},
		{`"a": {"url": "http://h", "type": "sse", "fluentd-perf": {"transport": "sse"}}`, `.a.fluentd-perf.transport: type says that already`},
		{`"a": {"url": "http://h", "type": "sse", "fluentd-perf": {"streams": {"reopen": "1m"}}}`, `.a.fluentd-perf.streams.reopen: means nothing with transport sse, whose sessions end with their stream`},
		{`"a": {"url": "http://h", "type": "sse", "fluentd-perf": {"cache": {}}}`, `.a.fluentd-perf.cache: means nothing with transport sse, which is only relayed`},
		{`"a": {"url": "http://h", "fluentd-perf": {"cache": {"ttl": {"tools/call": "1m"}}}}`, `.a.fluentd-perf.cache.ttl.tools/call: has no ttl of its own: name the tools in cache.tools`},
		{`"a": {"url": "http://h", "fluentd-perf": {"cache": {"max_ttl": "1m", "min_ttl": "2m"}}}`, `.a.fluentd-perf.cache.min_ttl: must not be above max_ttl (1m)`},
		{`"a": {"url": "http://h", "fluentd-perf": {"processes": {"max": 4}}}`, `.a.fluentd-perf.processes: means nothing without command`},
		{`"a": {"url": "http://h", "fluentd-perf": {"inherit_env": ["A"]}}`, `.a.fluentd-perf.inherit_env: means nothing without command`},
		{`"a": {"command": "x", "fluentd-perf": {"pool": {"max_idle": 4}}}`, `.a.fluentd-perf.pool: means nothing with command, which is reached by a pipe`},
		{`"a": {"command": "x", "fluentd-perf": {"processes": {"max": 2, "replicas": 3}}}`, `.a.fluentd-perf.processes.replicas: must not be above max (2)`},
		{`"a": {"url": "http://h", "fluentd-perf": {"coalesce": {"tools": "x"}}}`, `.a.fluentd-perf.coalesce.tools: must be a list, not a string`},
	} {
		wantServersFault(t, "{\"mcpServers\": {\n"+c.entry+"}}", "m.json:2: mcpServers"+c.want)
	}
}

func TestFaultsOfAServersFile(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{``, `m.json:1: is not valid JSON: unexpected EOF`},
		{"{\n\"servers\": {}", `m.json:2: is not valid JSON: unexpected EOF`},
		{"{\n'servers': {}}", `m.json:2: is not valid JSON: invalid character '\'' at start of value`},
		{"servers: {}", `m.json:1: is not valid JSON: invalid character 's' at start of value`},
		{`{"servers": {}} {}`, `m.json:1: is not valid JSON: there is something after its end`},
		{"{\n/* {}", `m.json:2: is not valid JSON: invalid character '/' at start of value`},
		{`{"servers": {,}}`, `m.json:1: is not valid JSON: invalid character ',' at start of value`},
		{`{"servers": {"a":,}}`, `m.json:1: is not valid JSON: missing value after object name`},
		{`{"inputs": [1,,]}`, `m.json:1: is not valid JSON: invalid character ',' at start of value`},
		{`[,]`, `m.json:1: is not valid JSON: invalid character ',' at start of value`},
		{`{"servers": {}} /`, `m.json:1: is not valid JSON: invalid character '/' at start of value`},
		{strings.Repeat("[", 20_000), `m.json:1: is not valid JSON: exceeded max depth`},
		{`{"x":[` + strings.Repeat("0,", 100_000) + `]}`, `m.json:1: has neither mcpServers nor servers`},
		{`[]`, `m.json:1: must be a mapping, not a list`},
		{`{}`, `m.json:1: has neither mcpServers nor servers`},
		{`{"context_servers": {"a": {"url": "http://h"}}}`, `m.json:1: has neither mcpServers nor servers`},
		{`{"servers": []}`, `m.json:1: has no server left: 0 disabled, 0 not usable`},
		{`{"servers": {}}`, `m.json:1: has no server left: 0 disabled, 0 not usable`},
		{`{"servers": {"a": {"command": ""}, "b": {"command": "x", "disabled": true}, "c": {"type": "stdio"}}}`, `m.json:1: has no server left: 1 disabled, 2 not usable`},
		{`{"mcpServers": {"a": {"url": "http://h", "enabled": false}, "b": {"url": "http://h", "enabled": true, "disabled": true}}}`, `m.json:1: has no server left: 2 disabled, 0 not usable`},
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
	f := files{"m.json": `{"mcpServers": {"a": {"command": ""}}}`}
	c, warnings, err := f.load(config.Sources{MCPJSON: []string{"m.json"}, Upstreams: []string{"a=http://h"}})
	if err != nil || len(c.Upstreams) != 1 {
		t.Fatalf("%v, %v", c, err)
	}
	wantWarnings(t, warnings, "m.json:1: mcpServers.a.command: server left out: is empty")
}

// Two files, and the command line, which has its name whatever stands in a file.
func TestTwoServersFiles(t *testing.T) {
	f := files{
		"b.json": `{"servers": {"a": {"url": "http://h"}}}`,
		"a.json": "{\"mcpServers\": {}, \"servers\": {\n\"b\": {\"url\": \"x\"},\n\"a\": {\"url\": \"http://h\"}}}",
	}
	s := config.Sources{MCPJSON: []string{"b.json", "a.json"}, Upstreams: []string{"a=http://h"}}
	c, warnings, err := f.load(s)
	if err != nil || names(c) != "a a-2 a-3" {
		t.Errorf("%v, %v", c, err)
	}
	wantWarnings(t, warnings,
		"b.json:1: servers.a: is served as a-2: a is the one at --upstream a",
		"a.json:2: servers.b.url: server left out: must be an http:// or https:// URL with a host",
		"a.json:3: servers.a: is served as a-3: a is the one at --upstream a")

	s.MCPJSON = append(s.MCPJSON, "c.json")
	if _, _, err = f.load(s); err == nil || err.Error() != "c.json: cannot be read: no such file or directory" {
		t.Errorf("a file that is not there: %v", err)
	}
}

// TestEntriesAsAgentsReadThem: what is around a URL is no part of it, and an entry that says that it is enabled is served
// without a word.
func TestEntriesAsAgentsReadThem(t *testing.T) {
	for entry, want := range map[string]string{
		`{"url": "  http://h/mcp "}`:                                              "http://h/mcp",
		`{"serverUrl": "http://h/mcp\n"}`:                                         "http://h/mcp",
		`{"httpUrl": "${FROM_A_FILE}"}`:                                           "http://v/mcp",
		`{"url": "http://h", "enabled": true}`:                                    "http://h",
		`{"url": "http://h/a%20b/mcp", "disabled": false}`:                        "http://h/a%20b/mcp",
		`{"url": "http://h", "type": "http", "enabled": true, "disabled": false}`: "http://h",
	} {
		f := files{"m.json": `{"mcpServers": {"a": ` + entry + `}}`, "$FROM_A_FILE": "http://v/mcp\r\n"}
		c, warnings, err := f.load(config.Sources{MCPJSON: []string{"m.json"}})
		if err != nil || len(c.Upstreams) != 1 || c.Upstreams[0].URL.String() != want || len(warnings) > 0 {
			t.Errorf("%s: %+v, %v, %v; want %s", entry, c, warnings, err, want)
		}
	}
}

// TestHeadersAsAgentsReadThem: a token that was read from a file is one without the end of its line. What is within a value
// is not touched.
func TestHeadersAsAgentsReadThem(t *testing.T) {
	for value, want := range map[string]string{
		`Bearer ${TOKEN}`:          "Bearer v",
		` \tBearer  x\r\n`:         "Bearer  x",
		`${env:NONE:-Bearer x }\n`: "Bearer x",
	} {
		f := files{"m.json": `{"mcpServers": {"a": {"url": "http://h", "headers": {"Authorization": "` + value + `"}}}}`, "$TOKEN": "v\n"}
		c, warnings, err := f.load(config.Sources{MCPJSON: []string{"m.json"}})
		if err != nil || len(warnings) > 0 || c.Upstreams[0].Headers.Get("Authorization") != want {
			t.Errorf("%q: %+v, %v, %v; want %q", value, c, warnings, err, want)
		}
	}
	const within = `{"mcpServers": {"a": {"url": "http://h", "headers": {"X": "a\nb"}}, "b": {"url": "http://h"}}}`
	_, warnings, err := files{"m.json": within}.load(config.Sources{MCPJSON: []string{"m.json"}})
	if err != nil {
		t.Error(err)
	}
	wantWarnings(t, warnings, "m.json:1: mcpServers.a.headers.X: server left out: has a value that a header cannot have: control characters, or space at an end")
}
