package config_test

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/config"
)

const stdioYAML = `
listen: [127.0.0.1:7300, "unix:/run/user/7/fluentd-perf//mcp.sock"]
upstreams:
  files:
    command: [npx, -y, "@modelcontextprotocol/server-filesystem", "${env:HOME}/data", --api-key, s3cr3t-v4lue]
    env: {TOKEN: "${file:token}", MODE: s3cr3t-v4lue}
    cwd: work/files
    inherit_env: [KUBECONFIG, "AWS_*"]
    allow_users: [ann, 1001]
    resolve: false
    processes: {max: 4, warm: 3, replicas: 2, idle_timeout: 1m, memory: 2GiB, tasks: 256, refresh: 1h}
    timeouts: {first_byte: 10s}
    sessions: shared
  plain:
    command: [server]
processes: {total: 40, start_concurrency: 3, start_timeout: 1m, path: [/usr/local/bin, /usr/bin/]}
`

// stdioWarnings are of keys that mean nothing beside others of that file.
var stdioWarnings = []string{
	"/etc/f.yaml:11: upstreams.files.processes.warm: means nothing where sessions share a process: there is one, which is ready",
	"/etc/f.yaml:11: upstreams.files.processes.refresh: means nothing with resolve: false",
}

func TestStdioSettingsArrive(t *testing.T) {
	c := mustLoad(t, files{"/etc/f.yaml": stdioYAML, "/etc/token": "t0ken\n", "$HOME": "/home/me", "@ann": "1000"}, config.Sources{File: "/etc/f.yaml"}, stdioWarnings...)
	if want := []config.Listen{{Address: "127.0.0.1:7300"}, {Unix: "/run/user/7/fluentd-perf/mcp.sock"}}; !reflect.DeepEqual(c.Listen, want) {
		t.Errorf("Listen = %v", c.Listen)
	}
	if want := (config.AllProcesses{Total: 40, StartConcurrency: 3, StartTimeout: time.Minute, Path: config.SearchPath{Source: config.PathList, Directories: []string{"/usr/local/bin", "/usr/bin"}}}); !reflect.DeepEqual(c.Processes, want) {
		t.Errorf("Processes = %+v", c.Processes)
	}
	s, plain := c.Upstreams[0].Stdio, c.Upstreams[1].Stdio
	if got, want := strings.Join(s.Command, " "), "npx -y @modelcontextprotocol/server-filesystem /home/me/data --api-key s3cr3t-v4lue"; got != want {
		t.Errorf("Command = %s", got)
	}
	if s.Env["TOKEN"].Value != "t0ken" || s.Env["MODE"].Value != secret || s.Cwd != "/home/me/work/files" {
		t.Errorf("Env = %v, Cwd = %s", s.Env, s.Cwd)
	}
	if want := []config.User{{Name: "ann", UID: 1000}, {Name: "1001", UID: 1001}}; !reflect.DeepEqual(s.AllowUsers, want) {
		t.Errorf("AllowUsers = %+v", s.AllowUsers)
	}
	if want := (config.Processes{Max: 4, Warm: 3, Lazy: true, Replicas: 2, IdleTimeout: time.Minute, Memory: 2 << 30, Tasks: 256, Refresh: time.Hour}); s.Processes != want {
		t.Errorf("Processes = %+v", s.Processes)
	}
	if want := (config.Processes{Max: 16, Warm: 1, Lazy: true, Replicas: 1, IdleTimeout: 10 * time.Minute, Refresh: 24 * time.Hour}); plain.Processes != want || !plain.Resolve || s.Resolve || plain.Cwd != "/home/me" {
		t.Errorf("plain = %+v in %s", plain.Processes, plain.Cwd)
	}
	if c.Upstreams[0].Sessions.Mode != config.SessionsShared || c.Upstreams[1].Sessions.Mode != config.SessionsPerAgent {
		t.Errorf("sessions are %s and %s", c.Upstreams[0].Sessions.Mode, c.Upstreams[1].Sessions.Mode)
	}
	if c.Upstreams[0].Timeouts.FirstByte != 10*time.Second || c.Upstreams[0].URL != nil {
		t.Errorf("files = %v", c.Upstreams[0])
	}
}

// A file of variables is read as that of an agent's entry, from the directory of the configuration. Where it has a fault, the key is
// named.
func TestEnvFile(t *testing.T) {
	const yaml = "upstreams:\n  a:\n    env_file: ${env:DIR}/.env\n    command: [x]\n    env: {B: own}\n"
	f := files{"/etc/fp/f.yaml": yaml, "/etc/fp/conf/.env": "# a comment\nexport A='x y'\nB=theirs\nC=" + secret + "\nodd\n", "$DIR": "conf", "$HOME": "/h"}
	c, warnings, err := f.load(config.Sources{File: "/etc/fp/f.yaml"})
	if err != nil {
		t.Fatal(err)
	}
	env := c.Upstreams[0].Stdio.Env
	if len(env) != 3 || env["A"].Value != "x y" || env["B"].Value != "own" || env["C"].Value != secret {
		t.Errorf("got %v: A %q, B %q", env, env["A"].Value, env["B"].Value)
	}
	wantWarnings(t, warnings, "/etc/fp/f.yaml:3: upstreams.a.env_file: line 5 of ${env:DIR}/.env left out: it is not NAME=value")
	if got, want := c.Upstreams[0].String(), "a stdio x env A, B, C; env_file ${env:DIR}/.env; cwd /h"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	delete(f, "/etc/fp/conf/.env")
	_, _, err = f.load(config.Sources{File: "/etc/fp/f.yaml"})
	if want := "/etc/fp/f.yaml:3: upstreams.a.env_file: the file ${env:DIR}/.env cannot be read: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

// In the system's unit every command is a fault of its own, unless that is allowed; those of agents' files are left out.
func TestCommandsInTheSystemsUnit(t *testing.T) {
	const why = "is refused in the system's unit, where it would run as the service's user and in its sandbox: use the user unit (systemctl --user), or set processes.allow_system: true"
	f := files{
		"f.yaml": "upstreams:\n  a: {url: http://h}\n  b:\n    env: {A: b}\n    command: [x]\n",
		"m.json": "{\"mcpServers\": {\n\"c\": {\"command\": \"y\"},\n\"d\": {\"url\": \"http://i\"},\n\"e\": {\"command\": \"z\", \"disabled\": true}}}",
		"$HOME":  "/h",
	}
	s := config.Sources{File: "f.yaml", Stdio: []string{"g=x"}, MCPJSON: []string{"m.json"}, SystemUnit: true}
	_, warnings, err := f.load(s)
	if want := "f.yaml:5: upstreams.b.command: " + why + "\n--stdio g: " + why; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	wantWarnings(t, warnings, "m.json:2: mcpServers.c.command: server left out: "+why)
	for what, allowed := range map[string]config.Sources{
		"allowed":           {File: "allowed.yaml", Stdio: s.Stdio, MCPJSON: s.MCPJSON, SystemUnit: true},
		"in another unit":   {File: "f.yaml", Stdio: s.Stdio, MCPJSON: s.MCPJSON},
		"without a command": {Upstreams: []string{"a=http://h"}, SystemUnit: true},
	} {
		f["allowed.yaml"] = f["f.yaml"] + "processes: {allow_system: true}\n"
		c, warnings, err := f.load(allowed)
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s: %v, %v", what, warnings, err)
		} else if said := fmt.Sprintf("%v", *c); strings.Contains(said, "allow_system true") != (what == "allowed") {
			t.Errorf("%s: the summary is\n%s", what, said)
		}
	}
}

// What the summary says of commands, and what it does not say.
func TestSummaryOfCommands(t *testing.T) {
	f := files{"/etc/f.yaml": stdioYAML, "/etc/token": secret, "$HOME": "/home/me", "@ann": "1000"}
	c := mustLoad(t, f, config.Sources{File: "/etc/f.yaml"}, stdioWarnings...)
	text := fmt.Sprintf("%v", *c)
	for _, want := range []string{
		"processes       total 40, start_concurrency 3, start_timeout 1m, path /usr/local/bin, /usr/bin\n",
		`files     stdio      npx -y @modelcontextprotocol/server-filesystem ${env:HOME}/data --api-key …  env MODE, TOKEN; cwd /home/me/work/files; inherit_env KUBECONFIG, AWS_*; allow_users ann, 1001; resolve false; processes.max 4; processes.warm 3; processes.replicas 2; processes.idle_timeout 1m; processes.memory 2GiB; processes.tasks 256; processes.refresh 1h; timeouts.first_byte 10s; sessions.mode shared`,
		"plain     stdio      server  ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("got\n%s\nwithout\n%s", text, want)
		}
	}
	for _, of := range []any{c, c.Upstreams[0], c.Upstreams[0].Stdio, *c.Upstreams[0].Stdio, c.Upstreams[0].Stdio.Env} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			if text := fmt.Sprintf(verb, of); strings.Contains(text, secret) {
				t.Errorf("%s of %T shows a secret: %s", verb, of, text)
			}
		}
	}
}

// A command for people has no secret that can be told from its surroundings.
func TestCommandsForPeople(t *testing.T) {
	for command, want := range map[string]string{
		`[npx, -y, pkg@1.2, "a b"]`:                       `npx -y pkg@1.2 "a b"`,
		`[x, --token, s3cr3t-v4lue, --port, "80"]`:        `x --token … --port 80`,
		`[x, --api-key=s3cr3t-v4lue]`:                     `x --api-key=…`,
		`[x, --no-auth, --port, "80"]`:                    `x --no-auth --port 80`,
		`[x, --token, "${env:S}"]`:                        `x --token ${env:S}`,
		`[docker, run, -e, GH_TOKEN=s3cr3t-v4lue, img]`:   `docker run -e GH_TOKEN=… img`,
		`[x, --header, "Authorization: s3cr3t-v4lue"]`:    `x --header …`,
		`[pg, "postgresql://u:s3cr3t-v4lue@h/db"]`:        `pg postgresql://…@h/db`,
		`[pg, "--url=http://h/mcp?key=s3cr3t-v4lue&b"]`:   `pg --url=http://h/mcp?…`,
		`["${env:S}", "${env:S}"]`:                        `${env:S} ${env:S}`,
		`[x, "postgresql://u:${env:S}-s3cr3t-v4lue@h/d"]`: `x postgresql://…@h/d`,
	} {
		f := files{"f.yaml": "upstreams: {a: {command: " + command + "}}", "$S": secret, "$HOME": "/h"}
		if got := mustLoad(t, f, config.Sources{File: "f.yaml"}).Upstreams[0].String(); got != "a stdio "+want+" cwd /h" {
			t.Errorf("%s: %s, want %s", command, got, want)
		}
	}
}

func TestFaultsOfCommands(t *testing.T) {
	const piped = ": means nothing with command, which is reached by a pipe"
	for _, c := range []struct{ in, want string }{
		{`command: npx -y x`, `.command: must be a list of the program and its arguments, as [npx, -y, package]`},
		{`command: []`, `.command: must name a program`},
		{`command: ["", a]`, `.command: must name a program`},
		{`command: [x, 80]`, `.command[1]: must be a string (put it in quotes), not a number`},
		{`command: [x, "${env:NONE}"]`, `.command[1]: the environment variable NONE is not set`},
		{`command: [x, "a\0b"]`, `.command[1]: must not hold a NUL byte`},
		{`{url: http://h, command: [x]}`, `.command: is given beside url: a server is either a command or behind a URL`},
		{`{urls: [http://h], command: [x]}`, `.command: is given beside url: a server is either a command or behind a URL`},
		{`{command: [x], pool: {max_idle: 1}}`, `.pool` + piped},
		{`{command: [x], headers: {X: a}}`, `.headers` + piped},
		{`{command: [x], oauth: rewrite}`, `.oauth` + piped},
		{`{command: [x], transport: http}`, `.transport` + piped},
		{`{command: [x], protocol: mcp}`, `.protocol` + piped},
		{`{command: [x], forward_cookies: true}`, `.forward_cookies` + piped},
		{`{command: [x], streams: {reopen: 1s}}`, `.streams` + piped},
		{`{command: [x], batch: {max: 5}}`, `.batch` + piped},
		{`{command: [x], timeouts: {connect: 1s}}`, `.timeouts.connect` + piped},
		{`{command: [x], retry: {hedge: false}}`, `.retry.hedge` + piped},
		{`{url: http://h, env: {A: b}}`, `.env: means nothing without command`},
		{`{url: http://h, env_file: /none}`, `.env_file: means nothing without command`},
		{`{command: [x], env_file: /none}`, `.env_file: the file /none cannot be read: no such file or directory`},
		{`{command: [x], env_file: "${env:NONE}/x"}`, `.env_file: the environment variable NONE is not set`},
		{`{command: [x], env_file: [a]}`, `.env_file: must be a string, not a list`},
		{`{command: [x], env_file: "a\0b"}`, `.env_file: must not hold a NUL byte`},
		{`{url: http://h, cwd: /x}`, `.cwd: means nothing without command`},
		{`{url: http://h, inherit_env: [A]}`, `.inherit_env: means nothing without command`},
		{`{url: http://h, allow_users: [ann]}`, `.allow_users: means nothing without command`},
		{`{url: http://h, resolve: true}`, `.resolve: means nothing without command`},
		{`{url: http://h, processes: {max: 1}}`, `.processes: means nothing without command`},
		{`{url: http://h, sessions: shared}`, `.sessions.mode: means nothing without command`},
		{`{url: http://h, sessions: {heal: all, mode: per-agent}}`, `.sessions.mode: means nothing without command`},
		{`{command: [x], sessions: share}`, `.sessions.mode: must be per-agent or shared, not "share"`},
		{`{command: [x], sessions: {mode: off}}`, `.sessions.mode: must be per-agent or shared, not "off"`},
		{`{command: [x], sessions: 3}`, `.sessions: must be a mapping, not a number`},
		{`{command: [x], env: {"A=B": c}}`, `.env."A=B": is not a name that a variable can have`},
		{`{command: [x], env: {A: 1}}`, `.env.A: must be a string (put it in quotes), not a number`},
		{`{command: [x], env: [A]}`, `.env: must be a mapping, not a list`},
		{`{command: [x], inherit_env: ["[a"]}`, `.inherit_env[0]: is not a pattern: * and ? stand for any signs and for one, [a-z] for one of a range, \ takes a meaning away`},
		{`{command: [x], allow_users: [bob]}`, `.allow_users[0]: is no user of this machine: "bob"`},
		{`{command: [x], allow_users: [ann, 1000]}`, `.allow_users[1]: is given twice`},
		{`{command: [x], allow_users: ann}`, `.allow_users: must be a list, not a string`},
		{`{command: [x], processes: {max: 0}}`, `.processes.max: must not be less than 1`},
		{`{command: [x], processes: {max: 5000}}`, `.processes.max: must not be more than 4096`},
		{`{command: [x], processes: {max: 2, replicas: 3}}`, `.processes.replicas: must not be above max (2)`},
		{`{command: [x], processes: {idle_timeout: 5ms}}`, `.processes.idle_timeout: must not be less than 1s`},
		{`{command: [x], processes: {memory: 5}}`, `.processes.memory: must not be less than 1MiB`},
		{`{command: [x], processes: {tasks: -1}}`, `.processes.tasks: must not be less than 0`},
		{`{command: [x], processes: {refresh: 1ms}}`, `.processes.refresh: must not be less than 1s`},
		{`{command: [x], processes: {cold: 1}}`, `.processes.cold: is not a known key; known here: idle_timeout, lazy, max, memory, refresh, replicas, tasks, warm`},
	} {
		if !strings.HasPrefix(c.in, "{") {
			c.in = "{" + c.in + "}"
		}
		_, _, err := files{"f.yaml": "upstreams: {a: " + c.in + "}", "@ann": "1000"}.load(config.Sources{File: "f.yaml"})
		if want := "f.yaml:1: upstreams.a" + c.want; err == nil || err.Error() != want {
			t.Errorf("%s\ngot  %v\nwant %s", c.in, err, want)
		}
	}
}

func TestFaultsOfProcessesAndSockets(t *testing.T) {
	const socket = "must be unix: and the absolute path of a socket, not "
	long := "/" + strings.Repeat("n", 103)
	for _, c := range []struct{ in, want string }{
		{`processes: {total: 0}`, `processes.total: must not be less than 1`},
		{`processes: {start_concurrency: 257}`, `processes.start_concurrency: must not be more than 256`},
		{`processes: {start_timeout: 0s}`, `processes.start_timeout: must be above 0`},
		{`processes: {start_timeout: 2h}`, `processes.start_timeout: must not be more than 1h`},
		{`processes: {path: shell}`, `processes.path: must be login, inherit or a list of absolute directories, not "shell"`},
		{`processes: {path: list}`, `processes.path: must be login, inherit or a list of absolute directories, not "list"`},
		{`processes: {path: []}`, `processes.path: must not be empty`},
		{`processes: {path: [bin]}`, `processes.path[0]: must be an absolute directory, not "bin"`},
		{`processes: {path: ["/a:/b"]}`, `processes.path[0]: must be an absolute directory, not "/a:/b"`},
		{`listen: unix:mcp.sock`, `listen: ` + socket + `"unix:mcp.sock"`},
		{`listen: "unix:"`, `listen: ` + socket + `"unix:"`},
		{`listen: [unix:/a/]`, `listen[0]: ` + socket + `"unix:/a/"`},
		{`listen: unix:` + long, `listen: must have a path of 103 bytes at most`},
		{`listen: [unix:/a, unix:/b/../a]`, `listen[1]: unix:/a is listened on already`},
	} {
		_, _, err := files{"f.yaml": "upstreams: {a: {command: [x]}}\n" + c.in}.load(config.Sources{File: "f.yaml"})
		if want := "f.yaml:2: " + c.want; err == nil || err.Error() != want {
			t.Errorf("%s\ngot  %v\nwant %s", c.in, err, want)
		}
	}
}

// Where commands are looked for is a word, a list, or left to the daemon.
func TestSearchPath(t *testing.T) {
	for in, want := range map[string]config.SearchPath{
		"{}":                    {},
		"{path: login}":         {Source: config.PathLogin},
		"{path: inherit}":       {Source: config.PathInherit},
		"{path: [/b, /a/../c]}": {Source: config.PathList, Directories: []string{"/b", "/c"}},
	} {
		c := mustLoad(t, files{"f.yaml": "upstreams: {a: {command: [x]}}\nprocesses: " + in}, config.Sources{File: "f.yaml"})
		if got := c.Processes.Path; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", in, got, want)
		}
		if shown := strings.Contains(fmt.Sprintf("%v", *c), "path "+want.String()); shown != (want.Source != "") {
			t.Errorf("%s: the summary is\n%v", in, *c)
		}
	}
}

// How many processes there may be follows from the memory, where nobody says it.
func TestTotalByMemory(t *testing.T) {
	for _, c := range []struct {
		meminfo, cgroup string
		want            int
	}{
		{"", "", 64},
		{"MemTotal:       16384000 kB\nMemFree: 1 kB\n", "", 125},
		{"MemTotal:       16384000 kB\n", "max\n", 125},
		{"MemTotal:       16384000 kB\n", "4294967296\n", 32},
		{"MemTotal:        1000000 kB\n", "", 16},
		{"MemTotal:      999000000 kB\n", "", 256},
	} {
		f := files{"/proc/meminfo": c.meminfo, "/sys/fs/cgroup/memory.max": c.cgroup}
		if got := mustLoad(t, f, config.Sources{Upstreams: []string{"a=http://h"}}).Processes; got.Total != c.want || got.StartConcurrency < 2 {
			t.Errorf("%q %q: %+v, want %d", c.meminfo, c.cgroup, got, c.want)
		}
	}
}

// The words are those of a shell, and nothing is expanded.
func TestStdioFlag(t *testing.T) {
	const refused = "must be a program and its arguments; no shell reads them, so put what is not meant as it stands into quotes, or write sh -c '...'"
	for _, c := range []struct{ in, want string }{
		{`npx -y @scope/server /data`, `["npx" "-y" "@scope/server" "/data"]`},
		{`a 'b c' "d \"e\" \x" f\ g ""`, `["a" "b c" "d \"e\" \\x" "f g" ""]`},
		{`sh -c 'exec x | y > $Z'`, `["sh" "-c" "exec x | y > $Z"]`},
		{`a *.go ~/b c#d {1,2} '#'`, `["a" "*.go" "~/b" "c#d" "{1,2}" "#"]`},
		{"a b\\\nc", `["a" "bc"]`},
		{``, refused}, {`   `, refused}, {`''`, refused}, {`a 'b`, refused}, {`a | b`, refused}, {`a > b`, refused}, {`a &`, refused}, {`a; b`, refused},
		{`a $HOME`, refused}, {`a "$HOME"`, refused}, {"a `b`", refused}, {`A=b c`, refused}, {`a # b`, refused}, {`(a)`, refused}, {`! a`, refused}, {"a\nb", refused},
	} {
		loaded, _, err := files{"$HOME": "/h"}.load(config.Sources{Stdio: []string{"x=" + c.in}})
		if c.want == refused {
			if err == nil || err.Error() != "--stdio x: "+refused {
				t.Errorf("%q: %v, %v", c.in, loaded, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%q: %v", c.in, err)
			continue
		}
		if s := loaded.Upstreams[0].Stdio; fmt.Sprintf("%q", s.Command) != c.want || s.Cwd != "/h" || s.Processes.Max != 16 {
			t.Errorf("%q: %q in %s, want %s", c.in, s.Command, s.Cwd, c.want)
		}
	}
	if _, _, err := (files{}).load(config.Sources{Stdio: []string{"x"}}); err == nil || err.Error() != "--stdio: must be name=command" {
		t.Errorf("without a name: %v", err)
	}
}

// Commands of a servers file start where an agent would start them.
func TestDirectoriesOfEntries(t *testing.T) {
	for _, c := range []struct{ file, cwd, want string }{
		{"/w/.mcp.json", "", "/w"},
		{"/w/.mcp.json", "sub", "/w/sub"},
		{"/w/.mcp.json", "/abs/./x", "/abs/x"},
		{"/w/.mcp.json", "${workspaceFolder}/y", "/w/y"},
		{"/w/.vscode/mcp.json", "", "/w"},
		{"/w/.cursor/mcp.json", "..", "/"},
		{"/home/me/.cursor/mcp.json", "", "/home/me"},
		{"/home/me/.config/agent/servers.json", "sub", "/home/me/sub"},
		{"/home/me/repo/conf/servers.json", "", "/home/me/repo/conf"},
		{"/srv/servers.json", "", "/home/me"},
	} {
		entry := `{"command": "x", "cwd": "` + c.cwd + `"}`
		f := files{c.file: `{"servers": {"a": ` + entry + `}}`, "$HOME": "/home/me", "/home/me/repo/.git": "", "/home/me/.git": ""}
		loaded := mustLoad(t, f, config.Sources{MCPJSON: []string{c.file}})
		if got := loaded.Upstreams[0].Stdio.Cwd; got != c.want {
			t.Errorf("%s, %q: %s, want %s", c.file, c.cwd, got, c.want)
		}
	}
}

// The variables of an entry win over those of its file.
func TestVariablesOfEntries(t *testing.T) {
	f := files{
		"/w/.mcp.json": `{"mcpServers": {"a": {"command": "${BIN:-srv}", "args": ["--x", " ${env:A} "], "type": "stdio",
			"env": {"B": "own ${A}", "PORT": 8080, "ON": true}, "envFile": "conf/.env",
			"fluentd-perf": {"processes": {"max": 2}, "resolve": false, "inherit_env": ["X_*"]}}}}`,
		"/w/conf/.env": "\uFEFF# a comment\n\nB=file\r\nexport C = \"c c\" \nD='$A'\nE=\n=x\nF=a=b#c\n",
		"$A":           "v",
	}
	c, warnings, err := f.load(config.Sources{MCPJSON: []string{"/w/.mcp.json"}})
	if err != nil {
		t.Fatal(err)
	}
	s := c.Upstreams[0].Stdio
	got := map[string]string{}
	for name, value := range s.Env {
		got[name] = value.Value
	}
	want := map[string]string{"B": "own v", "PORT": "8080", "ON": "true", "C": "c c", "D": "$A", "E": "", "F": "a=b#c"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if !reflect.DeepEqual(s.Command, []string{"srv", "--x", " v "}) || s.Processes.Max != 2 || s.Resolve || len(s.InheritEnv) != 1 {
		t.Errorf("got %q, %+v", s.Command, s)
	}
	wantWarnings(t, warnings, "/w/.mcp.json:2: mcpServers.a.envFile: line 7 of conf/.env left out: it is not NAME=value",
		"/w/.mcp.json:3: mcpServers.a.fluentd-perf.resolve: means nothing with a command that is not npx")
}

// Two entries that are read one after the other share nothing.
func TestCommandsAreKeptApart(t *testing.T) {
	f := files{"m.json": `{"servers": {"a": {"command": "x", "args": ["1"], "env": {"A": "1"}}, "b": {"command": "y", "env": {"B": "2"}}, "c": {"url": "http://h"}}}`}
	c := mustLoad(t, f, config.Sources{MCPJSON: []string{"m.json"}})
	a, b := c.Upstreams[0].Stdio, c.Upstreams[1].Stdio
	if len(a.Command) != 2 || len(b.Command) != 1 || len(a.Env) != 1 || len(b.Env) != 1 || c.Upstreams[2].Stdio != nil {
		t.Errorf("%v %v %v", a, b, c.Upstreams[2])
	}
}
