package config

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// fileKeys returns the table of the file with its defaults, and that of an upstream.
func fileKeys() (file, upstream table) {
	l := newLoader(Sources{})
	l.table.check(l.main.root(0))
	u, keys := newUpstream("docs")
	keys = append(u.addressKeys(new([]key)), keys...)
	return l.table, keys
}

// candidates are values of all kinds. Each key takes some of them, and refuses others.
var candidates = []string{
	`""`, "false", "true", "on", "off", "3", "4", "255", "0.25", "0.3", "7s", "8s", "5MiB", "6MiB", "257MiB", "258MiB", "[x-a]", "['http://h.example']", "['http://h.example/c']", "[]", "{}", "{x-a: b}",
	"{tools/list: 5m}", "{getBlock: 1s}", "127.0.0.1:1", "127.0.0.1:2", "http://h.example/b", "http://h.example/c", "redis://h", "postgres://h/x", "x2345678901234567890123456789012",
	"[/x]", "[/y]", "[root]", "unix:/x", "inherit",
	"mcp", "jsonrpc", "http", "sse", "shared", "per-agent", "rewrite", "passthrough", "all", "auto", "compat", "session", "nonsense",
}

// surroundings are what a key needs beside it to mean something: other keys of the same table.
var surroundings = map[string]string{
	"cache.redis.timeout":          "cache: {redis: {url: redis://h, timeout: %s}}",
	"cache.redis.pool":             "cache: {redis: {url: redis://h, pool: %s}}",
	"cache.database.pool.max":      "cache: {database: {url: postgres://h/x, pool: {max: %s}}}",
	"cache.database.pool.lifetime": "cache: {database: {url: postgres://h/x, pool: {lifetime: %s}}}",
	"retry.hedge":                  "{urls: [http://h/1, http://h/2], retry: {hedge: %s}}",
	"retry.methods":                "{url: http://h, protocol: jsonrpc, retry: {methods: %s}}",
	"command":                      "{command: %s}",
	"env":                          "{command: [x], env: %s}",
	"env_file":                     "{command: [x], env_file: %s}",
	"cwd":                          "{command: [x], cwd: %s}",
	"inherit_env":                  "{command: [x], inherit_env: %s}",
	"resolve":                      "{command: [x], resolve: %s}",
	"allow_users":                  "{command: [x], allow_users: %s}",
	"sessions.mode":                "{command: [x], sessions: %s}",
	"processes.max":                "{command: [x], processes: {max: %s}}",
	"processes.replicas":           "{command: [x], processes: {replicas: %s}}",
	"processes.lazy":               "{command: [x], processes: {lazy: %s}}",
	"processes.warm":               "{command: [x], processes: {warm: %s}}",
	"processes.idle_timeout":       "{command: [x], processes: {idle_timeout: %s}}",
	"processes.memory":             "{command: [x], processes: {memory: %s}}",
	"processes.tasks":              "{command: [x], processes: {tasks: %s}}",
	"processes.refresh":            "{command: [x], processes: {refresh: %s}}",
	"url":                          "{url: %s}",
	"urls":                         "{urls: %s}",
}

// document writes a file in which nothing is set but one key.
func document(r *row, inUpstream bool, value string) string {
	text, ok := surroundings[r.name]
	if !ok {
		parts := strings.Split(r.name, ".")
		text = strings.Join(parts, ": {") + ": %s" + strings.Repeat("}", len(parts)-1)
		if inUpstream {
			text = "{url: http://h, " + text + "}"
		}
	}
	if text = fmt.Sprintf(text, value); inUpstream {
		return "upstreams: {a: " + text + "}\n"
	}
	return "upstreams: {a: {url: http://h}}\n" + text + "\n"
}

func load(text string) (*Config, error) {
	c, _, err := Load(Sources{
		File: "f.yaml", Env: func(string) (string, bool) { return "http://v.example", true },
		ReadFile: func(string) ([]byte, error) { return []byte(text), nil },
		LookupUser: func(name string) (uint32, error) {
			if name != "root" {
				return 0, errors.New("unknown")
			}
			return 0, nil
		},
	})
	return c, err
}

// eachKey calls a test for every key that is no mapping.
func eachKey(test func(r *row, inUpstream bool)) {
	file, upstream := fileKeys()
	for _, r := range file {
		if r.into != nil && r.name != "upstreams" {
			test(r, false)
		}
	}
	for _, r := range upstream {
		if r.into != nil {
			test(r, true)
		}
	}
}

// TestEveryKey sets every key alone. Some value arrives: it changes the configuration, so that a reload sees it, and the
// summary shows it. Some other is refused, with the full key and its line. A new row needs no new test.
func TestEveryKey(t *testing.T) {
	eachKey(func(r *row, inUpstream bool) {
		var taken []*Config
		changes, refused, plain := false, 0, ""
		for _, value := range candidates {
			c, err := load(document(r, inUpstream, value))
			if err == nil {
				checkShown(t, r, c, inUpstream)
				if err := SchemaError(document(r, inUpstream, value)); err != nil {
					t.Errorf("%s: the schema does not take %s: %v", r.name, value, err)
				}
				taken = append(taken, c)
				changes = changes || !reflect.DeepEqual(c, taken[0])
				plain = value
			} else if f := err.(Faults)[0]; f.Line > 0 && strings.Contains(f.Key, r.name) {
				refused++
			}
		}
		again, err := load(document(r, inUpstream, plain))
		if len(taken) > 0 && (err != nil || !reflect.DeepEqual(again, taken[len(taken)-1])) {
			t.Errorf("%s: %s gives another configuration the second time: %v", r.name, plain, err)
		}
		if !changes || refused == 0 {
			t.Errorf("%s takes %d candidates, which make a difference: %v; it refuses %d: add to candidates or surroundings", r.name, len(taken), changes, refused)
		}
	})
}

// checkShown looks for a key in the summary.
func checkShown(t *testing.T, r *row, c *Config, inUpstream bool) {
	t.Helper()
	keys, said := (&loader{config: c}).keys(), fmt.Sprint(c.lines())
	if inUpstream {
		u := &c.Upstreams[0]
		if u.Stdio != nil {
			u.stdio = *u.Stdio
			defer func() { u.stdio = Stdio{} }()
		}
		keys, said = append(u.addressKeys(nil), u.keys()...), u.set()
	}
	value := keys.find(r.name).text()
	isDefault := r.text() == value
	if value != "" && !isDefault && !strings.Contains(said, lastPart(r.name)+" "+value) {
		t.Errorf("%s is %q, and the summary does not say so: %s", r.name, value, said)
	}
}

// TestSlipsOfEveryKey: a key that is written wrong is named, with the one that was meant.
func TestSlipsOfEveryKey(t *testing.T) {
	eachKey(func(r *row, inUpstream bool) {
		if len(lastPart(r.name)) < 4 {
			return // too short for a guess
		}
		slip := *r
		slip.name = r.name + "x"
		_, err := load(document(&slip, inUpstream, "1"))
		if want := slip.name + ": is not a known key; did you mean " + lastPart(r.name) + "?"; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
		if SchemaError(document(&slip, inUpstream, "1")) == nil {
			t.Errorf("the schema takes %s", slip.name)
		}
	})
}

// TestExpandedKeys holds what is said of `${...}` to what takes it.
func TestExpandedKeys(t *testing.T) {
	const refused = "cannot hold ${...}"
	named := strings.FieldsFunc(expandedKeys, func(r rune) bool { return r == ',' || r == ' ' })
	eachKey(func(r *row, inUpstream bool) {
		for _, value := range []string{`"${env:X}"`, `["${env:X}"]`, `{x-a: "${env:X}"}`} {
			c, err := load(document(r, inUpstream, value))
			wants := slices.Contains(named, r.name) || slices.Contains(named, lastPart(r.name))
			if err == nil && !wants {
				t.Errorf("%s takes %s and is not named: %v", r.name, value, c)
			}
			if wants && err != nil && strings.Contains(err.Error(), refused) {
				t.Errorf("%s is named and does not take %s: %v", r.name, value, err)
			}
		}
	})
}

// otherFormats are names that other formats share with our keys, by the file that reads the format: the agents' files, URLs.
var otherFormats = map[string][]string{
	"mcpjson.go": {"url", "headers", "command"}, "mcpcommand.go": {"command", "env", "cwd"}, "tierurl.go": {"redis", "database"}, "expand.go": {"env"},
}

// TestKeysStandInTheTableAlone: no other file of the package names a key. So a key is added, renamed and described in one
// place.
func TestKeysStandInTheTableAlone(t *testing.T) {
	file, upstream := fileKeys()
	paths, parts := map[string]bool{}, map[string]bool{}
	for _, r := range append(file, upstream...) {
		paths[r.name] = strings.ContainsAny(r.name, "._")
		parts[lastPart(r.name)] = true
	}
	delete(parts, "http") // is a scheme, a transport and a shape of errors besides
	sources, err := filepath.Glob("*.go")
	if err != nil || len(sources) < 10 {
		t.Fatalf("%q, %v", sources, err)
	}
	for _, source := range sources {
		if source == "keys.go" || strings.HasSuffix(source, "_test.go") {
			continue
		}
		for _, text := range stringsOf(t, source) {
			otherFormat := slices.Contains(otherFormats[source], text)
			for _, word := range append(regexp.MustCompile(`[a-z_]+(\.[a-z_]+)*`).FindAllString(text, -1), text) {
				if paths[word] || parts[word] && (word == text || strings.Contains(word, "_")) && !otherFormat {
					t.Errorf("%s names the key %s in %q", source, word, text)
				}
			}
		}
	}
}

// stringsOf returns the strings in a source file, without those of imports and struct tags.
func stringsOf(t *testing.T, source string) (texts []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), source, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.ImportSpec, *ast.StructType:
			return false
		case *ast.BasicLit:
			if n.Kind == token.STRING {
				text, err := strconv.Unquote(n.Value)
				if err != nil {
					t.Fatal(err)
				}
				texts = append(texts, text)
			}
		}
		return true
	})
	return texts
}

// TestEveryFieldHasAKey: everything in a configuration can be set, but for what follows from something else.
func TestEveryFieldHasAKey(t *testing.T) {
	l := newLoader(Sources{})
	u, keys := newUpstream("")
	keys = append(u.addressKeys(nil), keys...)
	into := map[uintptr]reflect.Type{}
	for _, r := range append(l.table, keys...) {
		if r.into != nil {
			field := reflect.ValueOf(r.into)
			into[field.Pointer()] = field.Type().Elem()
		}
	}
	names := append(unset(into, reflect.ValueOf(l.config).Elem(), ""), unset(into, reflect.ValueOf(u).Elem(), "")...)
	for _, name := range append(names, unset(into, reflect.ValueOf(&u.stdio).Elem(), ".Stdio")...) {
		if !slices.Contains([]string{".Name", ".URL", ".Stdio", ".Breaker.Off"}, name) {
			t.Errorf("no key sets %s", name)
		}
	}
}

// unset returns the fields of a struct that are not in into, whole or in part.
func unset(into map[uintptr]reflect.Type, v reflect.Value, path string) (names []string) {
	for i := range v.NumField() {
		field := v.Type().Field(i)
		at := v.Field(i)
		switch {
		case !field.IsExported() || into[at.Addr().Pointer()] == at.Type():
		case at.Kind() == reflect.Struct:
			names = append(names, unset(into, at, path+"."+field.Name)...)
		default:
			names = append(names, path+"."+field.Name)
		}
	}
	return names
}
