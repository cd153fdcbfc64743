package config_test

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/user"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/config"
)

// files is a file system and an environment for Load.
type files map[string]string

func (f files) read(path string) ([]byte, error) {
	text, ok := f[path]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: path, Err: errors.New("no such file or directory")}
	}
	return []byte(text), nil
}

func (f files) env(name string) (string, bool) {
	v, ok := f["$"+name]
	return v, ok
}

func (f files) exists(path string) bool {
	_, ok := f[path]
	return ok
}

// lookupUser knows the users that have a number at @name.
func (f files) lookupUser(name string) (uint32, error) {
	uid, ok := f["@"+name]
	if !ok {
		return 0, user.UnknownUserError(name)
	}
	n, err := strconv.ParseUint(uid, 10, 32)
	return uint32(n), err
}

func (f files) load(s config.Sources) (*config.Config, []config.Warning, error) {
	s.ReadFile, s.Env, s.Exists, s.LookupUser = f.read, f.env, f.exists, f.lookupUser
	return config.Load(s)
}

func mustLoad(t *testing.T, f files, s config.Sources, wanted ...string) *config.Config {
	t.Helper()
	c, warnings, err := f.load(s)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	wantWarnings(t, warnings, wanted...)
	if s.File != "" {
		if err := config.SchemaError(f[s.File]); err != nil {
			t.Errorf("Load takes what the schema does not: %v\n%s", err, f[s.File])
		}
	}
	return c
}

// The defaults, written out, are what an upstream with a URL and nothing else has.
const defaultsYAML = `
listen: [127.0.0.1:7300]
upstreams:
  docs:
    url: https://docs.example.com/mcp
    transport: http
    headers: {}
    oauth: rewrite
    forward_cookies: false
    streams: {reopen: 2m}
    pool: {max_connections: 256, max_idle: 256, idle_timeout: 90s, max_age: 5m, wait_timeout: 5s}
    timeouts: {connect: 5s, handshake: 55s, first_byte: 55s, call: 30m, idle: 5m}
    limits: {max_in_flight: 256, queue: 1024, queue_wait: 2s}
    cache:
      ttl: {}
      tools: {}
      min_ttl: 0s
      max_ttl: 24h
      stale_if_error: 1h
      stale_after: 2s
      stale_while_revalidate: 0s
      flush_on_call: true
      listen: on
    coalesce: {tools: []}
auth: {token: ""}
hosts: []
origins: []
metrics: {listen: ""}
errors: jsonrpc
drain: 30s
limits: {body: 16MiB, check_body: 4MiB, event: 16MiB, max_streams: 10000}
cache:
  memory: {size: 128MiB, max_entry: 1MiB}
  redis: {url: ""}
  database: {url: sqlite:cache.db, timeout: 150ms, size: 1GiB, private_reads: false}
  partition_key: ""
  inert_headers: []
admin: {group: ""}
`

func TestDefaultsAreTheDocumentedOnes(t *testing.T) {
	short := mustLoad(t, files{}, config.Sources{Upstreams: []string{"docs=https://docs.example.com/mcp"}})
	long := mustLoad(t, files{"f.yaml": defaultsYAML}, config.Sources{File: "f.yaml"})
	want := []config.Listen{{Address: "127.0.0.1:7300"}, {Address: "[::1]:7300", Optional: true}}
	if !reflect.DeepEqual(short.Listen, want) {
		t.Errorf("Listen = %v, want %v", short.Listen, want)
	}
	long.Listen = want
	if !reflect.DeepEqual(short, long) {
		t.Errorf("defaults: %+v\ndocumented: %+v", short, long)
	}
	none := config.Default()
	none.Upstreams = long.Upstreams
	none.Processes.Total = long.Processes.Total // which is this machine's
	if !reflect.DeepEqual(none, long) {
		t.Errorf("Default(): %+v\ndocumented: %+v", none, long)
	}
}

func TestEverySettingArrives(t *testing.T) {
	c := mustLoad(t, files{
		"dir/f.yaml": `
listen: [0.0.0.0:7400, "[::1]:0"]
upstreams:
  b.2:
    url: http://LOCALHOST:9/mcp?a=${env:Q}&c=$$d$e
    transport: sse
    headers: {authorization: "Bearer ${file:tokens/b}", X-Both: "${env:Q}-${env:Q}"}
    oauth: passthrough
    forward_cookies: true
    pool: {max_connections: 10, max_idle: 5, idle_timeout: 1m30s, max_age: 1m, wait_timeout: 1ms}
    timeouts: {connect: 1s, handshake: 2500ms, first_byte: 2s, call: 3s, idle: 1500ms}
  a:
    url: https://h
    streams: {reopen: 0s}
auth: {token: "${file:/run/token}"}
hosts: [Proxy.Example.com, "[::1]", 10.0.0.1]
origins: ["HTTP://Localhost:6274", "https://inspector.example:443"]
metrics: {listen: 127.0.0.1:9100}
errors: http
drain: 0
limits: {body: 1MB, check_body: 2KiB, event: 1GiB, buffered: 3GiB, in_flight: 7, max_streams: 5, connections: 9}
`,
		"dir/tokens/b": "t0ken\r\n", "/run/token": "own\n", "$Q": "v",
	}, config.Sources{File: "dir/f.yaml"})

	b := c.Upstreams[1]
	if got := b.URL.String(); got != "http://LOCALHOST:9/mcp?a=v&c=$d$e" {
		t.Errorf("URL = %s", got)
	}
	b.URL = nil
	got := []any{
		c.Listen, c.Auth.Token.Value, c.Auth.Generate, c.Hosts, c.Origins, c.Metrics.Listen, c.Errors, c.Drain, c.Limits,
		b.Name, b.Transport, b.Headers, b.OAuth, b.ForwardCookies, b.Pool, b.Timeouts,
		c.Upstreams[0].Name, c.Upstreams[0].Streams.Reopen,
	}
	want := []any{
		[]config.Listen{{Address: "0.0.0.0:7400"}, {Address: "[::1]:0"}}, "own", false,
		[]string{"proxy.example.com", "::1", "10.0.0.1"},
		[]string{"http://localhost:6274", "https://inspector.example"},
		"127.0.0.1:9100", config.ErrorsHTTP, time.Duration(0),
		config.Limits{Body: 1_000_000, CheckBody: 2048, Event: 1 << 30, Buffered: 3 << 30, InFlight: 7, MaxStreams: 5, Connections: 9},
		"b.2", config.TransportSSE, http.Header{"Authorization": {"Bearer t0ken"}, "X-Both": {"v-v"}},
		config.OAuthPassthrough, true,
		config.Pool{MaxConnections: 10, MaxIdle: 5, IdleTimeout: 90 * time.Second, MaxAge: time.Minute, WaitTimeout: time.Millisecond},
		config.Timeouts{Connect: time.Second, Handshake: 2500 * time.Millisecond, FirstByte: 2 * time.Second, Call: 3 * time.Second, Idle: 1500 * time.Millisecond},
		"a", time.Duration(0),
	}
	for i := range want {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("%d: got %#v, want %#v", i, got[i], want[i])
		}
	}
}

// A default that is not written must not make a setting that is written impossible.
func TestDefaultsGiveWay(t *testing.T) {
	c := mustLoad(t, files{"f.yaml": "upstreams: {a: {url: http://h, pool: {max_connections: 4}, timeouts: {call: 2s}}}"},
		config.Sources{File: "f.yaml"})
	u := c.Upstreams[0]
	if u.Pool.MaxIdle != 4 {
		t.Errorf("MaxIdle = %d, want 4", u.Pool.MaxIdle)
	}
	if want := (config.Timeouts{Connect: 2 * time.Second, Handshake: 2 * time.Second, FirstByte: 2 * time.Second, Call: 2 * time.Second, Idle: 2 * time.Second}); u.Timeouts != want {
		t.Errorf("Timeouts = %+v, want %+v", u.Timeouts, want)
	}
}

func TestAliasesAndMerges(t *testing.T) {
	c := mustLoad(t, files{"f.yaml": `
upstreams:
  a: &a
    url: http://a
    timeouts: &t {call: 5s, idle: 4s}
  b:
    <<: *a
    url: http://b
  c:
    url: http://c
    timeouts: {<<: [*t, {idle: 1s, connect: 2s}], call: 6s}
`}, config.Sources{File: "f.yaml"})
	if got := c.Upstreams[1]; got.URL.Host != "b" || got.Timeouts.Call != 5*time.Second {
		t.Errorf("b = %v", got)
	}
	if got := c.Upstreams[2].Timeouts; got.Call != 6*time.Second || got.Idle != 4*time.Second || got.Connect != 2*time.Second {
		t.Errorf("c.timeouts = %+v", got)
	}
}

func TestSourcesCombine(t *testing.T) {
	c := mustLoad(t, files{
		"f.yaml": "upstreams: {one: {url: http://h/1}}\nlisten: 127.0.0.1:1",
		"m.json": `{"mcpServers": {"two": {"url": "http://h/2"}}}`,
	}, config.Sources{
		File: "f.yaml", MCPJSON: []string{"m.json"}, Upstreams: []string{"three=http://h/3?x=${y}&z=$"},
		Listen: []string{"127.0.0.1:2", "localhost:3"},
	})
	var names []string
	for _, u := range c.Upstreams {
		names = append(names, u.Name)
	}
	if got := strings.Join(names, " "); got != "one three two" {
		t.Errorf("upstreams = %s", got)
	}
	if got := c.Upstreams[1].URL.RawQuery; got != "x=${y}&z=$" {
		t.Errorf("a URL of the command line was changed: %s", got)
	}
	if want := []config.Listen{{Address: "127.0.0.1:2"}, {Address: "localhost:3"}}; !reflect.DeepEqual(c.Listen, want) {
		t.Errorf("Listen = %v, want %v", c.Listen, want)
	}
}

func TestGenerateToken(t *testing.T) {
	f := files{"f.yaml": "listen: ':7300'\nupstreams: {a: {url: http://h}}\nauth: {token: generate}"}
	c := mustLoad(t, f, config.Sources{File: "f.yaml"})
	if !c.Auth.Generate || c.Auth.Token.Value != "" {
		t.Errorf("Auth = %v", c.Auth)
	}
}

// Load without Env and ReadFile reads the process's environment and the file system.
func TestLoadFromTheSystem(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CONFIG_TEST_HOST", "h.example")
	write := func(name, text string) string {
		path := dir + "/" + name
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write("secret", "s3cret\n")
	file := write("f.yaml", "upstreams: {a: {url: 'http://${env:CONFIG_TEST_HOST}/', headers: {X: '${file:secret}'}}}")
	c, _, err := config.Load(config.Sources{File: file})
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Upstreams[0]; got.URL.Host != "h.example" || got.Headers.Get("X") != "s3cret" {
		t.Errorf("upstream = %s, %s", got.URL, got.Headers)
	}
	big := write("big.yaml", strings.Repeat("#\n", 1<<19)+"#")
	if _, _, err := config.Load(config.Sources{File: big}); err == nil || err.Error() != big+": is larger than 1MiB" {
		t.Errorf("a file that is too large: %v", err)
	}
	if _, _, err := config.Load(config.Sources{File: dir}); err == nil || err.Error() != dir+": cannot be read: is a directory" {
		t.Errorf("a directory: %v", err)
	}
}
