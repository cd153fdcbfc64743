package config

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// emptyServers is a servers file that gave no upstream.
type emptyServers struct {
	by  *decoder
	at  key
	why string
}

// servers reads one servers file of an agent.
type servers struct {
	*loader
	d        *decoder
	stdio    int // entries that need a process
	disabled int
}

// readServers adds the HTTP servers of a servers file, in which agents differ: the entries are below `mcpServers` (Claude,
// Cursor and most others) or `servers` (VS Code).
func (l *loader) readServers(file string) {
	s := servers{loader: l, d: l.decoder(file)}
	root := s.d.open(parseJSON)
	if root == nil {
		l.unknown = true
		return
	}
	before := len(l.names)
	at := key{line: root.line}
	known := keys{"mcpServers": s.entries, "servers": s.entries, "inputs": ignore, "$schema": ignore}
	s.d.loosely(at, root, known, "unknown keys, left out")
	if root.kind != kindMapping {
		l.unknown = true
		return
	}
	if root.find("mcpServers") == nil && root.find("servers") == nil {
		s.d.fault(at, "has neither mcpServers nor servers")
		l.unknown = true
	}
	if len(l.names) == before {
		l.empty = append(l.empty, emptyServers{s.d, at, s.why()})
	}
}

func ignore(key, *node) {}

func (s *servers) why() string {
	return fmt.Sprintf("%d need stdio, %d are disabled", s.stdio, s.disabled)
}

func (s *servers) entries(at key, n *node) {
	s.unknown = s.unknown || n.kind != kindMapping
	s.d.each(at, n, s.entry)
}

func (s *servers) entry(name string, at key, n *node) {
	if !s.d.is(at, n, kindMapping, kindNames[kindMapping]) {
		s.unknown = true
		return
	}
	switch disabled, stdio := s.isDisabled(at, n), isStdio(n); {
	case disabled:
		s.disabled++
	case stdio && n.find("url") != nil:
		s.d.fault(at, "has a url and is a stdio server: take one of them out")
		s.unknown = true
	case stdio:
		s.stdio++
		s.d.warn(at, "needs stdio, which is not served yet: left out")
	default:
		s.http(name, at, n)
	}
}

func (s *servers) isDisabled(at key, n *node) bool {
	off := n.find("disabled")
	if off == nil {
		return false
	}
	var disabled bool
	s.d.boolean(&disabled)(at.child("disabled", off.line), off)
	return disabled
}

// isStdio reports whether an entry starts a process. Without a type, what it has decides.
func isStdio(n *node) bool {
	if typ := n.find("type"); typ != nil && typ.text == "stdio" {
		return true
	}
	return n.find("command") != nil
}

// http reads an entry with a url.
func (s *servers) http(name string, at key, n *node) {
	before := len(s.d.faults)
	s.claim(s.d, at, name)
	u := defaultUpstream(name)
	known := keys{
		"url":          s.url(&u),
		"headers":      s.d.headers(&u, s.expand),
		"type":         s.transport(&u),
		"disabled":     ignore, // read already
		"fluentd-perf": s.d.mapping(s.d.settings(&u)),
	}
	s.d.loosely(at, n, known, "keys that mean nothing here, left out")
	if n.find("url") == nil {
		s.d.fault(at, "has neither url nor command")
	}
	own := s.d.at(at, "fluentd-perf")
	if s.d.given(at, "type") && s.d.given(own, "transport") {
		s.d.fault(s.d.at(own, "transport"), "type says that already")
	}
	s.d.checkUpstream(own, &u)
	s.add(s.d, []key{s.d.at(at, "url")}, u, before)
}

// transports are the values of type.
var transports = map[string]Transport{
	"http":            TransportHTTP,
	"streamable-http": TransportHTTP,
	"streamableHttp":  TransportHTTP,
	"sse":             TransportSSE,
}

func (s *servers) transport(u *Upstream) reader {
	return func(at key, n *node) {
		const wanted = "http, streamable-http, streamableHttp, sse or stdio"
		if !s.d.is(at, n, kindText, wanted) {
			return
		}
		transport, ok := transports[n.text]
		if !ok {
			s.d.fault(at, "must be %s, not %s", wanted, shown(n.text))
			return
		}
		u.Transport = transport
	}
}

func (s *servers) url(u *Upstream) reader {
	return func(at key, n *node) {
		if text, ok := s.expand(at, n); ok {
			s.d.endpoint(at, text, u)
			u.shown = withoutQuery(n.text)
		}
	}
}

// expand reads a string as agents do: `${VAR}`, `${VAR:-default}`, `${env:VAR}` and `${workspaceFolder}`. A dollar sign
// elsewhere is itself.
func (s *servers) expand(at key, n *node) (string, bool) {
	text, ok := s.d.rawText(at, n)
	if !ok {
		return "", false
	}
	return s.d.expand(at, text, false, s.form)
}

func (s *servers) form(form string) (string, error) {
	if form == "workspaceFolder" {
		return s.workspaceFolder()
	}
	if strings.HasPrefix(form, "input:") {
		return "", fmt.Errorf("${%s} asks a person, which a daemon cannot; use ${env:NAME}", bareShown(form))
	}
	name, fallback, hasFallback := strings.Cut(strings.TrimPrefix(form, "env:"), ":-")
	if !isVariable(name) || strings.Contains(fallback, "${") {
		return "", fmt.Errorf("has an unknown form ${%s}; there are ${NAME}, ${NAME:-default}, ${env:NAME} and ${workspaceFolder}",
			bareShown(beforeDefault(form)))
	}
	v, ok := s.d.sources.Env(name)
	switch {
	case hasFallback && v == "":
		return fallback, nil
	case !ok:
		return "", fmt.Errorf("the environment variable %s is not set", name)
	}
	return v, nil
}

// beforeDefault takes off a default, which may be a secret.
func beforeDefault(form string) string {
	if name, _, ok := strings.Cut(form, ":-"); ok {
		return name + ":-…"
	}
	return form
}

// workspaceFolder is the directory of the file, or the one above where an editor keeps the file in a folder of its own.
func (s *servers) workspaceFolder() (string, error) {
	file, err := filepath.Abs(s.d.file)
	if err != nil {
		return "", fmt.Errorf("the workspace folder is not known: %w", err)
	}
	dir := filepath.Dir(file)
	if base := filepath.Base(dir); base == ".vscode" || base == ".cursor" {
		dir = filepath.Dir(dir)
	}
	return dir, nil
}

// loosely reads a mapping of which other programs know keys too: what is not known here is named in one warning.
func (d *decoder) loosely(at key, n *node, known keys, warning string) {
	unknown := map[string]bool{}
	d.each(at, n, func(name string, at key, n *node) {
		if read, ok := known[name]; ok {
			read(at, n)
			return
		}
		unknown[quoteName(name)] = true
	})
	if len(unknown) > 0 {
		d.warn(at, "%s: %s", warning, strings.Join(slices.Sorted(maps.Keys(unknown)), ", "))
	}
}
