package loadgen

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"

	"fluentd-perf/internal/mcp"
)

// dialTimeout is how long a connection may take, TLS included.
const dialTimeout = 10 * time.Second

// Target is an endpoint that is called. Its fields are not changed once it has clients.
type Target struct {
	Network string      // tcp or unix
	Address string      // host:port, or a path
	TLS     *tls.Config // nil without TLS
	Host    string      // of the Host header
	Path    string      // with the query
	Fields  []string    // of every request, "Name: value" each
	Era     mcp.Era
	Limit   *Limiter // nil: none
	Command *Command // in place of all of the above but Era and Limit: a server over stdin and stdout; nil: it is reached by HTTP
	Version string   // that clients say they have; "" is the usual one
	// Dial opens a connection in place of Network, Address and TLS; nil is those.
	Dial func(ctx context.Context) (net.Conn, error)
}

// NewTarget returns the target at an http or https URL. Where unix is not "", connections go to that socket, whatever the URL's host
// is. Fields are "Name: value" each.
func NewTarget(address, unix string, fields ...string) (*Target, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return nil, fmt.Errorf("%q is no http:// or https:// URL", address)
	case u.User != nil:
		return nil, errors.New("a URL with a user in it: give credentials as a header")
	}
	for _, f := range fields {
		if name, _, ok := strings.Cut(f, ":"); !ok || strings.TrimSpace(name) == "" || strings.ContainsAny(f, "\r\n") {
			return nil, fmt.Errorf("header %q: write it as 'Name: value'", name)
		}
	}
	t := &Target{Network: "tcp", Host: u.Host, Path: u.RequestURI(), Fields: fields, Era: mcp.EraModern}
	t.Address = net.JoinHostPort(u.Hostname(), portOf(u))
	if u.Scheme == "https" {
		t.TLS = &tls.Config{ServerName: u.Hostname(), NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12}
	}
	if unix != "" {
		t.Network, t.Address = "unix", unix
	}
	return t, nil
}

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

// Transport returns tcp, tls, unix or stdio.
func (t *Target) Transport() string {
	switch {
	case t.Command != nil:
		return "stdio"
	case t.TLS != nil:
		return "tls"
	}
	return t.Network
}

// With returns the same target in another era.
func (t *Target) With(era mcp.Era) *Target {
	other := *t
	other.Era = era
	return &other
}

func (t *Target) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	switch {
	case t.Command != nil:
		return startCommand(t.Command)
	case t.Dial != nil:
		return t.Dial(ctx)
	case t.TLS != nil:
		return (&tls.Dialer{Config: t.TLS}).DialContext(ctx, t.Network, t.Address)
	}
	var d net.Dialer
	return d.DialContext(ctx, t.Network, t.Address)
}

// request returns what is sent for a body: a line to a server that is a command, else a request of HTTP. k is nil for a message of no
// kind.
func (t *Target) request(session string, k *Kind, body string) []byte {
	if t.Command != nil {
		return []byte(lineBreaks.Replace(body) + "\n")
	}
	return []byte(t.head("POST", session, k, len(body)) + body)
}

// lineBreaks of JSON stand between its tokens only: none is within a string.
var lineBreaks = strings.NewReplacer("\r", " ", "\n", " ")

// head returns the head of a request. k is nil for one without a message.
func (t *Target) head(verb, session string, k *Kind, length int) string {
	var b strings.Builder
	line := func(name, value string) {
		if value != "" {
			b.WriteString(name + ": " + value + "\r\n")
		}
	}
	b.WriteString(verb + " " + t.Path + " HTTP/1.1\r\n")
	line("Host", t.Host)
	line("User-Agent", "fluentd-perf-benchmark")
	line("Accept", acceptFor(verb))
	switch {
	case t.Era == mcp.EraModern:
		line("MCP-Protocol-Version", mcp.Version20260728)
	case t.Era == mcp.EraLegacy && (k == nil || k.Method != "initialize"):
		line("MCP-Protocol-Version", mcp.Version20251125)
	}
	if k != nil && t.Era == mcp.EraModern {
		line("Mcp-Method", k.Method)
		line("Mcp-Name", mcp.HeaderValue(k.Tool))
	}
	line("Mcp-Session-Id", session)
	if verb == "POST" {
		line("Content-Type", "application/json")
		line("Content-Length", fmt.Sprint(length))
	}
	for _, f := range t.Fields {
		b.WriteString(f + "\r\n")
	}
	return b.String() + "\r\n"
}

func acceptFor(verb string) string {
	if verb == "GET" {
		return "text/event-stream"
	}
	return "application/json, text/event-stream"
}
