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
	"time"
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

func (c *Config) lines() []line {
	lines := []line{
		{"listen", c.listenText()},
		{"token", c.Auth.String()},
		{"errors", string(c.Errors)},
		{"drain", formatDuration(c.Drain)},
		{"limits", c.Limits.text()},
		{"rpc", fmt.Sprintf("concurrency %d, timeout %s, answers %s",
			c.RPC.Concurrency, formatDuration(c.RPC.Timeout), formatSize(c.RPC.Answers))},
	}
	lines = append(lines, c.Cache.lines()...)
	if c.Metrics.Listen != "" {
		lines = append(lines, line{"metrics", c.Metrics.Listen})
	}
	if len(c.Hosts) > 0 {
		lines = append(lines, line{"hosts", strings.Join(c.Hosts, ", ")})
	}
	if len(c.Origins) > 0 {
		lines = append(lines, line{"origins", strings.Join(c.Origins, ", ")})
	}
	if c.Admin.Group != "" {
		lines = append(lines, line{"admin.group", c.Admin.Group})
	}
	return lines
}

func (c *Config) listenText() string {
	addresses := make([]string, len(c.Listen))
	for i, l := range c.Listen {
		addresses[i] = l.Address
		if l.Optional {
			addresses[i] += " (where it exists)"
		}
	}
	return strings.Join(addresses, ", ")
}

func (l Limits) text() string {
	return fmt.Sprintf("body %s, check_body %s, event %s, buffered %s, in_flight %d, max_streams %d",
		formatSize(l.Body), formatSize(l.CheckBody), formatSize(l.Event), formatSize(l.Buffered), l.InFlight, l.MaxStreams)
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
	var set []string
	differs := func(name, value, usual string) {
		if value != usual {
			set = append(set, name+" "+value)
		}
	}
	is := defaultUpstream(u.Name)
	if len(u.Headers) > 0 {
		set = append(set, "headers "+strings.Join(slices.Sorted(maps.Keys(u.Headers)), ", "))
	}
	differs("oauth", string(u.OAuth), string(is.OAuth))
	differs("forward_cookies", fmt.Sprint(u.ForwardCookies), fmt.Sprint(is.ForwardCookies))
	times := func(name string, value, usual time.Duration) {
		differs(name, formatDuration(value), formatDuration(usual))
	}
	times("streams.reopen", u.Streams.Reopen, is.Streams.Reopen)
	differs("pool.max_connections", fmt.Sprint(u.Pool.MaxConnections), fmt.Sprint(is.Pool.MaxConnections))
	differs("pool.max_idle", fmt.Sprint(u.Pool.MaxIdle), fmt.Sprint(is.Pool.MaxIdle))
	times("pool.idle_timeout", u.Pool.IdleTimeout, is.Pool.IdleTimeout)
	times("pool.max_age", u.Pool.MaxAge, is.Pool.MaxAge)
	times("pool.wait_timeout", u.Pool.WaitTimeout, is.Pool.WaitTimeout)
	times("timeouts.connect", u.Timeouts.Connect, is.Timeouts.Connect)
	times("timeouts.handshake", u.Timeouts.Handshake, is.Timeouts.Handshake)
	times("timeouts.first_byte", u.Timeouts.FirstByte, is.Timeouts.FirstByte)
	times("timeouts.call", u.Timeouts.Call, is.Timeouts.Call)
	times("timeouts.idle", u.Timeouts.Idle, is.Timeouts.Idle)
	u.resilienceDiffers(is, differs)
	u.Cache.differs(is.Cache, differs)
	differs("coalesce.tools", patternsText(u.Coalesce.Tools), patternsText(is.Coalesce.Tools))
	if len(set) == 0 {
		return "-"
	}
	return strings.Join(set, "; ")
}

// The methods below keep secrets out of fmt, log/slog and encoding/json, also where a value is part of another.

// String says whether there is a token.
func (a Auth) String() string {
	switch {
	case a.Generate:
		return "made at start"
	case a.Token != "":
		return "set"
	}
	return "none"
}

// GoString is String, for %#v.
func (a Auth) GoString() string { return a.String() }

// MarshalText is String, for encoding/json.
func (a Auth) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// LogValue is String, for log/slog.
func (a Auth) LogValue() slog.Value { return slog.StringValue(a.String()) }

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
	m := map[string]any{"upstreams": c.Upstreams}
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
		attrs = append(attrs, slog.Any("upstreams."+u.Name, u))
	}
	return slog.GroupValue(attrs...)
}
