package config

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
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
	fmt.Fprintf(t, "\nUPSTREAM\tTRANSPORT\tADDRESS\tSET\n")
	for _, u := range c.Upstreams {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", u.Name, u.transport(), u.address(), u.set())
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
		if inMapping {
			text = lastPart(r.name) + " " + text
		}
		if last := len(lines) - 1; last >= 0 && inMapping && lines[last].name == mapping {
			lines[last].value += ", " + text
			continue
		}
		lines = append(lines, line{mapping, text})
	}
	return lines
}

// transport says how the server is reached.
func (u Upstream) transport() string {
	if u.Stdio != nil {
		return "stdio"
	}
	return string(u.Transport)
}

// address returns the URLs or the command for people.
func (u Upstream) address() string {
	switch {
	case u.shown == "" && u.Stdio != nil:
		return u.Stdio.String()
	case u.shown == "" && u.URL != nil:
		return withoutQuery(u.URL.Redacted())
	}
	return u.shown
}

// set lists what differs from the defaults.
func (u Upstream) set() string {
	if u.Stdio != nil {
		u.stdio = *u.Stdio
		u.stdio.Cwd = cmp.Or(u.shownCwd, u.stdio.Cwd)
	}
	plain, defaults := newUpstream(u.Name)
	defaults.check(newLoader(Sources{}).flags.root(0))
	keys, defaults := append(u.addressKeys(nil), u.keys()...), append(plain.addressKeys(nil), defaults...)
	var set []string
	for i, r := range keys {
		if r.text() != defaults[i].text() && !keys.meansNothing(r) {
			set = append(set, r.name+" "+r.text())
		}
	}
	return cmp.Or(strings.Join(set, "; "), "-")
}

// The methods below keep secrets out of fmt, log/slog and encoding/json, also where a value is part of another.

// String returns name, transport, address and what is set, in one line without secrets.
func (u Upstream) String() string {
	return strings.Join([]string{u.Name, u.transport(), u.address(), u.set()}, " ")
}

// Format writes String, whatever the verb is.
func (u Upstream) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, u.String()) }

// MarshalText is String, for encoding/json and log/slog.
func (u Upstream) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// Format writes the summary, whatever the verb is.
func (c Config) Format(f fmt.State, _ rune) { _ = c.Summary(f) } // what f cannot take, fmt says

// MarshalJSON returns the lines of the summary by name.
func (c Config) MarshalJSON() ([]byte, error) {
	m := map[string]any{upstreamsKey: c.Upstreams}
	for _, l := range c.lines() {
		m[l.name] = l.value
	}
	return json.Marshal(m)
}
