package config_test

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"fluentd-perf/internal/config"
)

const secret = "s3cr3t-v4lue"

const secretsYAML = `
listen: 10.0.0.1:7300
upstreams:
  docs:
    url: https://docs.example.com/${env:S}/mcp?key=s3cr3t-v4lue
    headers: {Authorization: "Bearer ${env:S}", X-Api-Key: s3cr3t-v4lue, X-File: "${file:/s}"}
    pool: {max_connections: 10}
    timeouts: {call: 1h}
    cache: {ttl: {tools/list: 5m, resources/read: 0s}, tools: {"search_*": 10m, "a, b": 1s}, stale_after: 1s, flush_on_call: false, listen: off}
    coalesce: {tools: ["search_*", get]}
  old:
    url: http://old.example/sse
    transport: sse
    oauth: passthrough
    forward_cookies: true
auth: {token: "${env:S}"}
hosts: [proxy.example]
origins: ["http://localhost:6274"]
metrics: {listen: 127.0.0.1:9100}
cache:
  memory: {size: 8MiB}
  redis: {url: "rediss://u:${env:S}@cache.example:6380/1?skip_verify=true"}
  database: {url: "postgres://u:s3cr3t-v4lue@db.example/x?application_name=${env:S}", private_reads: true}
  partition_key: "${env:S}-and-enough-of-it-for-a-key"
  inert_headers: [x-trace, X-Team]
admin: {group: mcp}
`

func loadSecrets(t *testing.T) *config.Config {
	return mustLoad(t, files{"f.yaml": secretsYAML, "$S": secret, "/s": secret}, config.Sources{File: "f.yaml"})
}

func TestSummary(t *testing.T) {
	var b bytes.Buffer
	if err := loadSecrets(t).Summary(&b); err != nil {
		t.Fatal(err)
	}
	want := `listen               10.0.0.1:7300
cache.memory         size 8MiB, max_entry 512KiB
cache.redis          url rediss://cache.example:6380/1?…, timeout 50ms, pool 16
cache.database       url postgres://db.example/x?…, timeout 150ms, private_reads true
cache.database.pool  max 4, lifetime 1h
cache                partition_key set, inert_headers X-Trace, X-Team
auth                 token set
hosts                proxy.example
origins              http://localhost:6274
admin                group mcp
metrics              listen 127.0.0.1:9100
errors               jsonrpc
http                 auto
drain                30s
limits               body 16MiB, check_body 4MiB, event 16MiB, buffered 256MiB, in_flight 4096, max_streams 10000, connections 12000
rpc                  concurrency 32, timeout 10m, answers 64MiB

UPSTREAM  TRANSPORT  ADDRESS                                  SET
docs      http       https://docs.example.com/${env:S}/mcp?…  headers Authorization, X-Api-Key, X-File; pool.max_connections 10; pool.max_idle 10; timeouts.call 1h; cache.ttl resources/read never, tools/list 5m; cache.tools "a, b" 1s, search_* 10m; cache.stale_after 1s; cache.flush_on_call false; cache.listen false; coalesce.tools search_*, get
old       sse        http://old.example/sse                   oauth passthrough; forward_cookies true
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

func TestSummaryOfDefaults(t *testing.T) {
	c := mustLoad(t, files{}, config.Sources{Upstreams: []string{"a=http://h/mcp"}})
	var b bytes.Buffer
	if err := c.Summary(&b); err != nil {
		t.Fatal(err)
	}
	want := `listen          127.0.0.1:7300, [::1]:7300 (where it exists)
cache.memory    size 128MiB, max_entry 1MiB
cache.redis     url none
cache.database  url sqlite:cache.db, timeout 150ms, size 1GiB, private_reads false
cache           partition_key none
auth            token none
errors          jsonrpc
http            auto
drain           30s
limits          body 16MiB, check_body 4MiB, event 16MiB, buffered 256MiB, in_flight 4096, max_streams 10000, connections 12000
rpc             concurrency 32, timeout 10m, answers 64MiB

UPSTREAM  TRANSPORT  ADDRESS       SET
a         http       http://h/mcp  -
`
	if b.String() != want {
		t.Errorf("got\n%s\nwant\n%s", b.String(), want)
	}
}

// However a configuration or a part of it is printed, logged or encoded, no secret is in it.
func TestSecretsAreNeverPrinted(t *testing.T) {
	c := loadSecrets(t)
	if c.Auth.Token.Value != secret || c.Upstreams[0].Headers.Get("X-File") != secret || !strings.Contains(c.Upstreams[0].URL.Path, secret) {
		t.Fatal("the secrets are not there to be found")
	}
	var out bytes.Buffer
	text := slog.New(slog.NewTextHandler(&out, nil))
	lines := slog.New(slog.NewJSONHandler(&out, nil))
	for _, v := range []any{c, *c, c.Upstreams, c.Upstreams[0], &c.Upstreams[0], c.Auth, &c.Auth, c.Cache, &c.Cache, c.Cache.Redis, &c.Cache.Redis, c.Cache.Database, &c.Cache.Database, struct{ C *config.Config }{c}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		encoded, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(encoded)
		text.Info("x", "config", v)
		lines.Info("x", "config", v)
	}
	if i := strings.Index(out.String(), secret); i >= 0 {
		t.Errorf("a secret is printed: …%s", out.String()[max(0, i-200):i])
	}
	if !strings.Contains(out.String(), "docs.example.com") {
		t.Error("nothing is printed at all")
	}
}

// No fault shows what a header, a token, a URL or a variable holds.
func TestSecretsAreInNoFault(t *testing.T) {
	f := files{"$S": secret, "$LINES": secret + "\n" + secret, "/lines": secret + "\n\n" + secret}
	for _, text := range []string{
		"auth: {token: \"a ${env:S}\"}",
		"auth: {token: s3cr3t-v4lue s3cr3t-v4lue}",
		"auth: {token: [s3cr3t-v4lue]}",
		"auth: s3cr3t-v4lue",
		"auth: {token:s3cr3t-v4lue}",
		"auth: {token: *s3cr3t-v4lue}",
		"auth: {token: !s3cr3t-v4lue x}",
		"auth: {token: s3cr3t-v4lue",
		"auth:\n  token: s3cr3t-v4lue: x",
		"auth:\n  token: \"s3cr3t-v4lue",
		"auth:\n  token: \"s3cr3t-v4lue\\q\"",
		"auth:\n\ttoken: s3cr3t-v4lue",
		"auth:\n  token: s3cr3t-v4lue\n x: y",
		"auth: {token: \"${env:S\"}",
		"upstreams: {a: {url: \"ftp://h/${env:S}\"}}",
		"upstreams: {a: {url: \"http://u:${env:S}@h\"}}",
		"upstreams: {a: {url: \"http://h/%zz${env:S}\"}}",
		"upstreams: {a: {url: \"http://127.0.0.1:7300/${env:S}\"}}",
		"upstreams: {a: {url: http://h, headers: {X: \"${env:LINES}\"}}}",
		"upstreams: {a: {url: http://h, headers: {X: \"${file:/lines}\"}}}",
		"upstreams: {a: {url: http://h, headers: {Host: \"${env:S}\"}}}",
		"upstreams: {a: {url: http://h, headers: s3cr3t-v4lue}}",
		"upstreams: {a: http://h/s3cr3t-v4lue}",
		"cache: {partition_key: s3cr3t-v4lue}",
		"cache: {partition_key: \"${env:S}\"}",
		"cache: {redis: {url: s3cr3t-v4lue}}",
		"cache: {redis: {url: \"${env:S}://h\"}}",
		"cache: {redis: {url: \"redis://:${env:S}/@h/0\"}}",
		"cache: {redis: {url: \"redis://:1/${env:S}@h\"}}",
		"cache: {redis: {url: \"redis://:a?${env:S}@h\"}}",
		"cache: {redis: {url: \"redis://h/${env:S}\"}}",
		"cache: {redis: {url: \"redis://h/a/${env:S}\"}}",
		"cache: {redis: {url: \"redis://h:${env:S}/0\"}}",
		"cache: {redis: {url: \"redis://h?${env:S}=1\"}}",
		"cache: {redis: {url: \"rediss://h?skip_verify=${env:S}\"}}",
		"cache: {redis: {url: \"redis://h?db=${env:S}\"}}",
		"cache: {redis: {url: \"redis://:%zz${env:S}@h\"}}",
		"cache: {redis: {url: \"redis://:${env:LINES}@h\"}}",
		"cache: {database: {url: s3cr3t-v4lue}}",
		"cache: {database: {url: \"postgres://u:${env:S}@@h/x\"}}",
		"cache: {database: {url: \"postgres://u:${env:S}#@h/x\"}}",
		"cache: {database: {url: \"postgres://u:12#${env:S}@h/x\"}}",
		"cache: {database: {url: \"postgres://h/x#${env:S}\"}}",
		"cache: {database: {url: \"postgres://${env:LINES}@h/x\"}}",
		"cache: {database: {url: \"postgres://u:${env:S}@/x\"}}",
		"cache: {database: {url: \"postgres://u:${env:S}@h\"}}",
		"cache: {database: {url: \"postgres://u:${env:S}@h,i/x\"}}",
		"cache: {database: {url: \"postgres://h/x?${env:S}\"}}",
		"cache: {database: {url: \"postgres://h/x?sslmode=${env:S}\"}}",
		"cache: {database: {url: \"postgres://h/x?pool_${env:S}=1\"}}",
		"cache: {database: {url: \"postgres://h/x?default_query_exec_mode=${env:S}\"}}",
		"cache: {database: {url: \"sqlite:../${env:S}\"}}",
		"cache: {database: {url: \"sqlite://${env:S}\"}}",
	} {
		f["f.yaml"] = text
		wantNoSecret(t, text, f, config.Sources{File: "f.yaml"})
	}
	for _, text := range []string{
		`{"servers": {"a": {"url": "http://h", "headers": {"X": "${LINES}"}}}}`,
		`{"servers": {"a": {"url": "${S}"}}}`,
		`{"servers": {"a": {"url": "http://h", "headers": {"X": "${A B:-s3cr3t-v4lue}"}}}}`,
		`{"servers": {"a": {"url": "http://h", "headers": {"X": "s3cr3t-v4lue}}}}`,
		`{"servers": {"a": {"url": "http://h", "headers": {"X": "s3cr3t-v4lue\x"}}}}`,
		`{"servers": {"a": {"url": "http://h", "headers": {"X": s3cr3t-v4lue}}}}`,
	} {
		f["m.json"] = text
		wantNoSecret(t, text, f, config.Sources{MCPJSON: []string{"m.json"}})
	}
	wantNoSecret(t, "flags", f, config.Sources{Upstreams: []string{"http://s3cr3t-v4lue", "a=s3cr3t-v4lue", "b=http://u:s3cr3t-v4lue@h"}})
}

func wantNoSecret(t *testing.T, text string, f files, s config.Sources) {
	t.Helper()
	_, warnings, err := f.load(s)
	if err == nil {
		t.Errorf("%s\nno fault", text)
	} else if said := fmt.Sprint(err, warnings); strings.Contains(said, secret) {
		t.Errorf("%s\nshows it: %s", text, said)
	}
}
