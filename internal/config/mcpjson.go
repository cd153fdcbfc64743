package config

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
)

// emptyServers is a servers file that gave no upstream.
type emptyServers struct {
	by  *decoder
	at  key
	why string
}

// servers reads one servers file of an agent. Other programs wrote it: once it is read at all, what cannot be used is left
// out with a warning that names it and says why. Only `fluentd-perf` in an entry is ours, and as strict as the YAML.
type servers struct {
	*loader
	d        *decoder
	stdio    int            // entries that need a process
	disabled int            // entries that a person switched off
	unusable int            // entries that are left out for a reason that a warning says
	suffixes map[string]int // the last one tried, by name
}

// readServers adds the HTTP servers of a servers file, in which agents differ: the entries are below `mcpServers` (Claude,
// Cursor and most others) or `servers` (VS Code). What else listens and is named must be known before.
func (l *loader) readServers(file string) {
	s := servers{loader: l, d: l.decoder(file), suffixes: map[string]int{}}
	root := s.d.open(parseJSON)
	if root == nil || !s.d.is(key{line: root.line}, root, kindNames[kindMapping], kindMapping) {
		l.unknown = true
		return
	}
	before := len(l.names)
	at := key{line: root.line}
	if !s.lists(at, root) {
		s.d.fault(at, "has neither mcpServers nor servers")
		l.unknown = true
	}
	if len(l.names) == before {
		why := fmt.Sprintf("%d stdio, %d disabled, %d not usable", s.stdio, s.disabled, s.unusable)
		l.empty = append(l.empty, emptyServers{s.d, at, why})
	}
}

// lists reads the entries, and reports whether there is a place for any.
func (s *servers) lists(at key, root *node) (found bool) {
	var unknown []string
	for _, f := range root.fields {
		switch f.name {
		case "mcpServers", "servers":
			found = true
			s.entries(at.child(f.name, f.line), f.value)
		case "inputs", "$schema":
		default:
			unknown = append(unknown, f.name)
		}
	}
	s.d.warnUnknown(at, "unknown keys, left out", unknown)
	return found
}

func (s *servers) entries(at key, n *node) {
	if !s.leniently("left out", func() { s.d.is(at, n, kindNames[kindMapping], kindMapping) }) {
		return
	}
	for _, f := range n.fields {
		s.d = s.d.anew() // a name may come twice
		s.entry(f.name, at.child(f.name, f.line), f.value)
	}
}

func (s *servers) entry(name string, at key, n *node) {
	var disabled bool
	readable := s.leniently(serverLeftOut, func() {
		if s.d.is(at, n, kindNames[kindMapping], kindMapping) {
			disabled = s.isDisabled(at, n)
		}
	})
	switch {
	case !readable:
		s.unusable++
	case disabled:
		s.disabled++
	case isStdio(n) && addressKey(n) == "":
		s.stdio++
		s.d.warn(at, "%s: stdio servers come with a later version", serverLeftOut)
	default:
		s.http(name, at, n)
	}
}

const serverLeftOut = "server left out"

// leniently calls read and makes warnings of the faults that it finds. It reports whether there was none.
func (s *servers) leniently(what string, read func()) bool {
	before := len(s.d.faults)
	read()
	for _, f := range s.d.faults[before:] {
		f.Text = what + ": " + f.Text
		s.d.warnings = append(s.d.warnings, Warning(f))
	}
	sound := len(s.d.faults) == before
	s.d.faults = s.d.faults[:before]
	return sound
}

// isDisabled reports whether a person switched the entry off: most agents say `disabled`, others `enabled`.
func (s *servers) isDisabled(at key, n *node) bool {
	disabled, enabled := false, true
	for name, into := range map[string]*bool{"disabled": &disabled, "enabled": &enabled} {
		if said := n.find(name); said != nil {
			boolean.read(s.d, at.child(name, said.line), said, into)
		}
	}
	return disabled || !enabled
}

// isStdio reports whether an entry starts a process. Without a type, what it has decides.
func isStdio(n *node) bool {
	if typ := n.find("type"); typ != nil && typ.text == "stdio" {
		return true
	}
	return n.find("command") != nil
}

// addressKey is the key of an entry that has its URL, or "". Of two, `httpUrl` is the newer beside `url` (Gemini CLI), and
// only Windsurf and its kin know `serverUrl`.
func addressKey(n *node) string {
	for _, name := range []string{"httpUrl", "url", "serverUrl"} {
		if n.find(name) != nil {
			return name
		}
	}
	return ""
}

// http reads an entry with a url.
func (s *servers) http(name string, at key, n *node) {
	u, keys := newUpstream(name)
	var unknown []string
	if !s.leniently(serverLeftOut, func() { unknown = s.read(at, n, u) }) {
		s.unusable++
		return
	}
	s.d.warnUnknown(at, "keys that mean nothing here, left out", unknown)
	s.inferTransport(at, n, u)
	before := len(s.d.faults)
	u.Name = s.claimUsable(name, at)
	s.settings(at, n, keys)
	s.add(s.d, []key{s.d.at(at, addressKey(n))}, u, before)
}

// read reads what agents know of an entry, and returns the keys that are not known here.
func (s *servers) read(at key, n *node, u *Upstream) (unknown []string) {
	if isStdio(n) {
		s.d.fault(at, "has both a url and a command: take one of them out")
		return nil
	}
	known := map[string]func(key, *node){
		"headers":      s.headers(u),
		"type":         s.transport(u),
		"disabled":     ignore, // read already
		"enabled":      ignore,
		"fluentd-perf": ignore, // read afterwards
	}
	address := addressKey(n)
	if address != "" {
		known[address] = s.url(u)
	}
	s.d.each(at, n, func(name string, at key, n *node) {
		if read, ok := known[name]; ok {
			read(at, n)
			return
		}
		unknown = append(unknown, name)
	})
	if address == "" {
		s.d.fault(at, "has neither url nor command")
	}
	if own, ok := s.ownAddress(u.URL); ok {
		s.d.fault(s.d.at(at, address), "is the daemon's own address (%s)", own) // its agent was pointed here
	}
	return unknown
}

func ignore(key, *node) {}

// inferTransport takes an address without a type for the old HTTP+SSE where its path says so: Cursor and others try both
// transports, and Gemini CLI means it by every `url`.
func (s *servers) inferTransport(at key, n *node, u *Upstream) {
	if n.find("type") == nil && addressKey(n) != "httpUrl" && strings.HasSuffix(u.URL.Path, "/sse") {
		u.Transport = TransportSSE
		s.d.warn(at, "has no type and is taken for sse, as its path ends")
	}
}

// settings reads our own part of an entry. A person wrote it for the daemon, so a slip in it is a fault.
func (s *servers) settings(at key, n *node, keys table) {
	own := s.d.at(at, "fluentd-perf")
	if settings := n.find("fluentd-perf"); settings != nil {
		keys.read(s.d, own, settings, "")
	}
	if s.d.given(at, "type") && s.d.given(own, transportKey) {
		s.d.fault(s.d.at(own, transportKey), "type says that already")
	}
	keys.check(s.d, own)
}

// headers reads the headers of an entry, but for those that are not its to set.
func (s *servers) headers(u *Upstream) func(key, *node) {
	return func(at key, n *node) {
		kept := *n
		kept.fields = nil
		for _, f := range n.fields {
			if why := foreignHeader(f.name); why != "" {
				s.d.warn(at.child(f.name, f.line), "left out: %s", why)
				continue
			}
			kept.fields = append(kept.fields, f)
		}
		s.d.headers(at, &kept, u.Headers, s.expand)
	}
}

// foreignHeader says why a header of an entry is left out, or "". Agents set Accept themselves, whatever the entry says.
func foreignHeader(name string) string {
	canonical := http.CanonicalHeaderKey(name)
	if canonical == "Accept" {
		return ofProtocol
	}
	return refusedHeaders[canonical]
}

// transports are the values of type, in small letters and without '-' and '_'.
var transports = map[string]Transport{
	"http":           TransportHTTP,
	"streamablehttp": TransportHTTP,
	"sse":            TransportSSE,
}

func (s *servers) transport(u *Upstream) func(key, *node) {
	return func(at key, n *node) {
		const wanted = "http, streamable-http, streamableHttp, sse or stdio"
		if !s.d.is(at, n, wanted, kindText) {
			return
		}
		transport, ok := transports[strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(n.text))]
		if !ok {
			s.d.fault(at, "must be %s, not %s", wanted, shown(n.text))
			return
		}
		u.Transport = transport
	}
}

func (s *servers) url(u *Upstream) func(key, *node) {
	return func(at key, n *node) {
		if text, ok := s.expand(at, n); ok {
			s.d.endpoint(at, text, strings.TrimSpace(n.text), u)
		}
	}
}

// expand reads a string as agents do: `${VAR}`, `${VAR:-default}`, `${env:VAR}` and `${workspaceFolder}`. A dollar sign
// elsewhere is itself. Space around a URL or a header's value is dropped, as by fetch: variables often end with a newline.
func (s *servers) expand(at key, n *node) (string, bool) {
	text, ok := s.d.rawText(at, n)
	if !ok {
		return "", false
	}
	text, ok = s.d.expand(at, text, forms, s.form)
	return strings.Trim(text, " \t\r\n"), ok
}

func (s *servers) form(form string) (string, error) {
	if form == "workspaceFolder" {
		return s.workspaceFolder()
	}
	if strings.HasPrefix(form, "input:") {
		return "", fmt.Errorf("${%s} asks a person, which a daemon cannot; use ${env:NAME}", bareShown(form))
	}
	name, fallback, hasFallback := strings.Cut(strings.TrimPrefix(form, "env:"), ":-")
	if !variable.MatchString(name) || strings.Contains(fallback, "${") {
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

// warnUnknown names keys of other programs in one warning.
func (d *decoder) warnUnknown(at key, warning string, names []string) {
	unknown := map[string]bool{}
	for _, name := range names {
		unknown[quoteName(name)] = true
	}
	if len(unknown) > 0 {
		d.warn(at, "%s: %s", warning, strings.Join(sortedKeys(unknown), ", "))
	}
}
