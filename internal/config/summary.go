package config

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// Summary writes the configuration as a short table for people: the settings, and a line for each upstream with what
// differs from the defaults. It shows no token, no value of a header, no query and nothing that `${...}` stood for.
func (c *Config) Summary(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, line := range c.lines() {
		fmt.Fprintf(t, "%s\t%s\n", line.name, line.value)
	}
	fmt.Fprintf(t, "\nUPSTREAM\tTRANSPORT\tURL\tSET\n")
	for _, u := range c.Upstreams {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", u.Name, u.Transport, u.address(), u.set())
	}
	return t.Flush()
}

type line struct{ name, value string }

// lines say what is set: one for each key of the file's top, and one for each mapping of keys.
func (c *Config) lines() (lines []line) {
	keys := (&loader{config: c}).keys()
	for _, r := range keys {
		text := r.text()
		if text == "" || keys.meansNothing(r) {
			continue
		}
		mapping, inMapping := strings.CutSuffix(r.name, "."+lastPart(r.name))
		switch last := len(lines) - 1; {
		case !inMapping:
			lines = append(lines, line{r.name, text})
		case last >= 0 && lines[last].name == mapping:
			lines[last].value += ", " + lastPart(r.name) + " " + text
		default:
			lines = append(lines, line{mapping, lastPart(r.name) + " " + text})
		}
	}
	return lines
}

// address returns the URL for people.
func (u Upstream) address() string {
	switch {
	case u.shown != "":
		return u.shown
	case u.URL == nil:
		return ""
	}
	return withoutQuery(u.URL.Redacted())
}

// set lists what differs from the defaults.
func (u Upstream) set() string {
	plain, defaults := newUpstream(u.Name)
	defaults.check(newLoader(Sources{}).flags, key{})
	keys, defaults := append(u.addressKeys(nil), u.keys()...), append(plain.addressKeys(nil), defaults...)
	var set []string
	for i, r := range keys {
		differs := r.name != transportKey && r.text() != defaults[i].text() // the transport has a column of its own
		if differs && !keys.meansNothing(r) {
			set = append(set, r.name+" "+r.text())
		}
	}
	if len(set) == 0 {
		return "-"
	}
	return strings.Join(set, "; ")
}

// sortedKeys returns the keys of a map in their order.
func sortedKeys[M ~map[string]V, V any](m M) []string { return slices.Sorted(maps.Keys(m)) }

// The methods below keep secrets out of fmt, log/slog and encoding/json, also where a value is part of another.

// String returns name, transport, address and what is set, in one line without secrets.
func (u Upstream) String() string {
	return strings.Join([]string{u.Name, string(u.Transport), u.address(), u.set()}, " ")
}

// GoString is String, for %#v.
func (u Upstream) GoString() string { return u.String() }

// MarshalText is String, for encoding/json.
func (u Upstream) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// LogValue is String, for log/slog.
func (u Upstream) LogValue() slog.Value { return slog.StringValue(u.String()) }

// String returns the summary.
func (c Config) String() string {
	var b strings.Builder
	_ = c.Summary(&b) // a Builder takes everything
	return b.String()
}

// GoString is String, for %#v.
func (c Config) GoString() string { return c.String() }

// MarshalJSON returns the lines of the summary by name.
func (c Config) MarshalJSON() ([]byte, error) {
	m := map[string]any{upstreamsKey: c.Upstreams}
	for _, l := range c.lines() {
		m[l.name] = l.value
	}
	return json.Marshal(m)
}

// LogValue returns the lines of the summary as a group.
func (c Config) LogValue() slog.Value {
	var attrs []slog.Attr
	for _, l := range c.lines() {
		attrs = append(attrs, slog.String(l.name, l.value))
	}
	for _, u := range c.Upstreams {
		attrs = append(attrs, slog.Any(upstreamsKey+"."+u.Name, u))
	}
	return slog.GroupValue(attrs...)
}
