package config

import (
	"cmp"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// servers reads one servers file of an agent. Other programs wrote it: once it is read at all, what cannot be used is left
// out with a warning that names it and says why. Only `fluentd-perf` in an entry is ours, and as strict as the YAML.
type servers struct {
	*loader
	// How many entries are switched off by a person, and are left out for a reason that a warning says.
	disabled, unusable int

	suffixes map[string]int // the last one tried, by name

	upstream *Upstream // of the entry that is read
	keys     table     // those that set it
}

// readServers adds the servers of a servers file, in which agents differ: the entries are below `mcpServers` (Claude,
// Cursor and most others) or `servers` (VS Code). What else listens and is named must be known before.
func (l *loader) readServers(file string) {
	s := servers{loader: l, suffixes: map[string]int{}}
	s.upstream, s.keys = newUpstream("")
	d, before := l.decoder(file), len(l.names)
	root := d.open(parseJSON)
	if root == nil || !d.root(root.Line).is(root, isMapping, isMapping) {
		l.unknown = true
		return
	}
	at := d.root(root.Line)
	if !s.lists(at, root) {
		at.fault("has neither mcpServers nor servers")
		l.unknown = true
	}
	if len(l.names) == before {
		l.empty = append(l.empty, at.said("has no server left: %d disabled, %d not usable", s.disabled, s.unusable))
	}
}

// lists reads the entries, and reports whether there is a place for any.
func (s *servers) lists(at key, root *yaml.Node) (found bool) {
	var unknown []string
	for name, n := range pairs(root) {
		switch name.Value {
		case "mcpServers", "servers":
			found = true
			s.entries(at.child(name.Value, name.Line), n)
		case "inputs", "$schema":
		default:
			unknown = append(unknown, name.Value)
		}
	}
	at.warnUnknown("unknown keys, left out", unknown)
	return found
}

func (s *servers) entries(at key, n *yaml.Node) {
	if faults := s.report.leniently(func() { at.is(n, isMapping, isMapping) }); len(faults) > 0 {
		s.report.leaveOut("left out", faults)
		return
	}
	for name, n := range pairs(n) {
		at.by = at.by.anew() // a name may come twice
		s.entry(name.Value, at.child(name.Value, name.Line), n)
	}
}

// leniently calls read and returns the faults that it finds.
func (r *report) leniently(read func()) Faults {
	before := len(r.faults)
	read()
	found := r.faults[before:]
	r.faults = r.faults[:before:before]
	return found
}

// leaveOut makes warnings of faults.
func (r *report) leaveOut(what string, faults Faults) {
	for _, f := range faults {
		f.Text = what + ": " + f.Text
		r.warnings = append(r.warnings, Warning(f))
	}
}

const serverLeftOut = "server left out"

// entry is what an agent's entry says, beside what is in the upstream.
type entry struct {
	*servers
	disabled, enabled bool     // most agents say the one, others the other
	stdio             bool     // it has a command and no URL
	unknown           []string // keys
}

func (s *servers) entry(name string, at key, n *yaml.Node) {
	n = withoutNulls(n)
	u, keys := s.upstream, s.keys
	u.reset(name, keys)
	e := entry{servers: s, enabled: true, stdio: isStdio(n) && addressKey(n) == ""}
	warned := s.report.warnings
	faults := s.report.leniently(func() { e.read(at, n) })
	switch {
	case e.disabled || !e.enabled:
		s.disabled++
		s.report.warnings = warned
	case len(faults) > 0:
		s.unusable++
		s.report.leaveOut(serverLeftOut, faults)
	default:
		at.warnUnknown("keys that mean nothing here, left out", e.unknown)
		if !e.stdio {
			e.inferTransport(at, n)
		}
		before := len(s.report.faults)
		u.Name = s.claimUsable(name, at)
		s.settings(at, n, keys)
		s.add(nil, u, before)
	}
}

// withoutNulls returns an entry without what is null in it and in its mappings: agents write that for what is not there. Our own part
// stays as it is.
func withoutNulls(n *yaml.Node) *yaml.Node {
	if n.Kind != yaml.MappingNode {
		return n
	}
	kept := *n
	kept.Content = nil
	for name, value := range pairs(n) {
		switch {
		case name.Value == "fluentd-perf":
			kept.Content = append(kept.Content, name, value)
		case shapeOf(value) != isNull:
			kept.Content = append(kept.Content, name, withoutNulls(value))
		}
	}
	return &kept
}

// isStdio reports whether an entry starts a process. Without a type, what it has decides.
func isStdio(n *yaml.Node) bool {
	typ := find(n, "type")
	return typ != nil && typ.Value == "stdio" || find(n, "command") != nil
}

// addressKey is the key of an entry that has its URL, or "". Of two, `httpUrl` is the newer beside `url` (Gemini CLI), and
// only Windsurf and its kin know `serverUrl`.
func addressKey(n *yaml.Node) string {
	for _, name := range []string{"httpUrl", "url", "serverUrl"} {
		if find(n, name) != nil {
			return name
		}
	}
	return ""
}

// entryKeys read the keys of an entry, by their names.
type entryKeys map[string]func(at key, n *yaml.Node)

// readLater reads nothing yet.
func readLater(key, *yaml.Node) {}

// read reads what agents know of an entry.
func (e *entry) read(at key, n *yaml.Node) {
	address := addressKey(n)
	keys := entryKeys{address: e.url, "headers": e.headers, "type": e.transport}
	if e.stdio {
		keys = e.commandKeys()
	}
	keys["disabled"] = func(at key, n *yaml.Node) { boolean.read(at, n, &e.disabled) }
	keys["enabled"] = func(at key, n *yaml.Node) { boolean.read(at, n, &e.enabled) }
	keys["fluentd-perf"] = readLater
	at.each(n, func(name string, at key, n *yaml.Node) {
		if read, ok := keys[name]; ok {
			read(at, n)
		} else {
			e.unknown = append(e.unknown, name)
		}
	})
	switch {
	case shapeOf(n) != isMapping:
	case e.stdio:
		e.completeCommand(at, n)
	case address == "":
		at.fault("has neither url nor command")
	case isStdio(n):
		at.fault("has both a url and a command: take one of them out")
	}
}

// inferTransport takes an address without a type for the old HTTP+SSE where its path says so: Cursor and others try both
// transports, and Gemini CLI means it by every `url`.
func (e *entry) inferTransport(at key, n *yaml.Node) {
	if find(n, "type") == nil && addressKey(n) != "httpUrl" && strings.HasSuffix(e.upstream.URL.Path, "/sse") {
		e.upstream.Transport = TransportSSE
		at.warn("has no type and is taken for sse, as its path ends")
	}
}

// settings reads our own part of an entry. A person wrote it for the daemon, so a slip in it is a fault.
func (s *servers) settings(at key, n *yaml.Node, keys table) {
	own := at.named("fluentd-perf")
	if settings := find(n, "fluentd-perf"); settings != nil {
		keys.read(own, settings, "")
	}
	if said := own.below(transportKey); said.given() && at.named("type").given() {
		said.fault("type says that already")
	}
	keys.check(own)
}

// headers reads the headers of an entry, but for those that are not its to set. Agents set Accept themselves, whatever the
// entry says.
func (e *entry) headers(at key, n *yaml.Node) {
	leftOut := func(at key, why string) { at.warn("left out: %s", why) }
	at.headers(n, e.upstream.Headers, key.expandJSON, leftOut)
	if e.upstream.Headers.Get("Accept") != "" {
		e.upstream.Headers.Del("Accept")
		leftOut(at.named("Accept"), ofProtocol)
	}
}

// transports are the values of type, in small letters and without '-' and '_'.
var transports = map[string]Transport{
	"http":           TransportHTTP,
	"streamablehttp": TransportHTTP,
	"sse":            TransportSSE,
}

func (e *entry) transport(at key, n *yaml.Node) {
	const wanted = "http, streamable-http, streamableHttp, sse or stdio"
	transport, ok := transports[strings.ToLower(strings.NewReplacer("-", "", "_", "").Replace(n.Value))]
	switch {
	case !at.is(n, wanted, isText):
	case ok:
		e.upstream.Transport = transport
	case n.Value != "stdio": // which isStdio looks at
		at.fault("must be %s, not %s", wanted, shown(n.Value))
	}
}

func (e *entry) url(at key, n *yaml.Node) {
	text, ok := at.expandJSON(n)
	if !ok || !at.accepts(e.upstream.add(text, strings.TrimSpace(n.Value))) {
		return
	}
	if own := e.ownAddress(e.upstream.URL); own != "" {
		at.fault("is the daemon's own address (%s)", own) // its agent was pointed here
	}
}

// expandJSON reads a string as agents do: `${VAR}`, `${VAR:-default}`, `${env:VAR}` and `${workspaceFolder}`. A dollar sign
// elsewhere is itself. Space around a URL or a header's value is dropped, as by fetch: variables often end with a newline.
func (at key) expandJSON(n *yaml.Node) (string, bool) {
	text, ok := at.expand(n, forms, at.by.formJSON)
	return strings.Trim(text, " \t\r\n"), ok
}

func (d *decoder) formJSON(form string) (string, error) {
	name, fallback, hasFallback := strings.Cut(strings.TrimPrefix(form, "env:"), ":-")
	switch {
	case form == "workspaceFolder":
		return d.workspaceFolder()
	case strings.HasPrefix(form, "input:"):
		return "", fmt.Errorf("${%s} asks a person, which a daemon cannot; use ${env:NAME}", bareShown(form))
	case !variable.MatchString(name) || strings.Contains(fallback, "${"):
		if hasFallback { // which may be a secret
			form = strings.TrimSuffix(form, fallback) + "…"
		}
		return "", fmt.Errorf("has an unknown form ${%s}; there are ${NAME}, ${NAME:-default}, ${env:NAME} and ${workspaceFolder}", bareShown(form))
	}
	v, err := d.variable(name)
	if v == "" && hasFallback {
		return fallback, nil
	}
	return v, err
}

// workspaceFolder is the directory of the file, or the one above where an editor keeps the file in a folder of its own.
func (d *decoder) workspaceFolder() (string, error) {
	file, err := filepath.Abs(d.file)
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
func (at key) warnUnknown(warning string, names []string) {
	if len(names) > 0 {
		at.warn("%s: %s", warning, strings.Join(slices.Compact(slices.Sorted(slices.Values(texts(names, quoteName)))), ", "))
	}
}

// claimUsable takes the name of an entry, or the nearest one that can be a name here and is free.
func (s *servers) claimUsable(name string, at key) string {
	usable, why := usableName(name), "a name may have only a-z, A-Z, 0-9, '.', '_' and '-', 64 of them, not '.' first"
	free := usable
	if where, taken := s.names[usable]; taken {
		free, why = s.numbered(usable), fmt.Sprintf("%s is the one at %s", usable, where)
	}
	if free != name {
		at.warn("is served as %s: %s", free, why)
	}
	s.names[free] = at.place()
	return free
}

// numbered returns the first of name-2, name-3 and so on that is free.
func (s *servers) numbered(name string) string {
	for n := max(2, s.suffixes[name]); ; n++ {
		suffix := "-" + strconv.Itoa(n)
		free := name[:min(len(name), maxName-len(suffix))] + suffix
		if _, taken := s.names[free]; !taken {
			s.suffixes[name] = n
			return free
		}
	}
}

var notInName = regexp.MustCompile(`[^a-zA-Z0-9._-]+`)

// usableName returns a name that an upstream can have: name itself, or what is left when each run of other characters is
// a '-'.
func usableName(name string) string {
	if upstreamName.MatchString(name) {
		return name
	}
	usable := strings.TrimLeft(strings.Trim(notInName.ReplaceAllString(name, "-"), "-"), ".-")
	return cmp.Or(usable[:min(len(usable), maxName)], "server")
}
