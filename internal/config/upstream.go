package config

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

const maxName = 64 // bytes of an upstream's name

// isUpstreamName reports whether a name is fit to be an element of a path and a metric label.
func isUpstreamName(name string) bool {
	odd := strings.ContainsFunc(name, func(r rune) bool { return !inUpstreamName(r) })
	return name != "" && len(name) <= maxName && name[0] != '.' && !odd
}

func inUpstreamName(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-'
}

func (d *decoder) url(u *Upstream) reader {
	return func(at key, n *node) {
		if s, ok := d.expandYAML(at, n); ok {
			d.endpoint(at, s, u)
			u.shown = withoutQuery(n.text)
		}
	}
}

// urls reads the endpoints of equal replicas.
func (d *decoder) urls(u *Upstream) reader {
	var shown []string
	one := func(at key, n *node) {
		s, ok := d.expandYAML(at, n)
		switch before := len(u.URLs); {
		case !ok:
		case before == mostEndpoints:
			d.fault(at, "there must not be more than %d", mostEndpoints)
		default:
			d.endpoint(at, s, u)
			shown = append(shown, withoutQuery(n.text))
			d.checkTwice(at, u.URLs, before)
		}
	}
	read := d.list(one)
	return func(at key, n *node) {
		read(at, n)
		if n.kind == kindList && len(n.items) == 0 {
			d.fault(at, "must not be empty")
		}
		u.shown = strings.Join(shown, " ")
	}
}

// checkTwice says so if the endpoint behind the first before ones is one of them.
func (d *decoder) checkTwice(at key, urls []*url.URL, before int) {
	if len(urls) == before {
		return
	}
	for _, other := range urls[:before] {
		if other.String() == urls[before].String() {
			d.fault(at, "is given twice")
			return
		}
	}
}

// addressKeys returns the keys of the upstream's endpoints, in their order.
func (d *decoder) addressKeys(at key, u *Upstream) []key {
	if !d.given(at, "urls") {
		return []key{d.at(at, "url")}
	}
	list := d.at(at, "urls")
	keys := make([]key, len(u.URLs))
	for i := range keys {
		item := list.item(i, list.line)
		if line, ok := d.lines[item.path]; ok {
			item.line = line
		}
		keys[i] = item
	}
	return keys
}

// endpoint parses a URL of an upstream. It may hold secrets, so no fault shows it.
func (d *decoder) endpoint(at key, s string, u *Upstream) {
	parsed, err := url.Parse(s)
	port := ""
	if err == nil {
		port = parsed.Port()
	}
	switch {
	case err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" || parsed.Hostname() == "":
		d.fault(at, "must be an http:// or https:// URL with a host")
	case parsed.User != nil:
		d.fault(at, "must not hold a user or password; put them into headers")
	case strings.Contains(s, "#"):
		d.fault(at, "must not have a fragment (#)")
	case port != "" && !isPort(port):
		d.fault(at, "must have a port from 1 to 65535")
	default:
		u.URLs = append(u.URLs, parsed)
		u.URL = u.URLs[0]
	}
}

func isPort(s string) bool {
	v, err := strconv.ParseUint(s, 10, 16)
	return err == nil && v > 0
}

func withoutQuery(s string) string {
	if path, _, ok := strings.Cut(s, "?"); ok {
		return path + "?…"
	}
	return s
}

// headers reads the fields that replace the agent's. expand reads one value.
func (d *decoder) headers(u *Upstream, expand func(key, *node) (string, bool)) reader {
	return func(at key, n *node) {
		d.each(at, n, func(name string, at key, n *node) {
			canonical := http.CanonicalHeaderKey(name)
			value, ok := expand(at, n)
			switch _, twice := u.Headers[canonical]; {
			case !isToken(name):
				d.fault(at, "is not a name that a header can have")
			case refusedHeaders[canonical] != "":
				d.fault(at, "cannot be set: %s", refusedHeaders[canonical])
			case twice:
				d.fault(at, "is given twice: names of headers know no upper and lower case")
			case ok && !isFieldValue(value):
				d.fault(at, "has a value that a header cannot have: control characters, or space at an end")
			case ok:
				u.Headers[canonical] = []string{value}
			}
		})
	}
}

const (
	hopByHop   = "it belongs to the connection"
	ownToken   = "it is the daemon's own token"
	ofBody     = "it describes the body, which the agent writes"
	ofProtocol = "it belongs to the protocol, the agent sets it"
)

// refusedHeaders are the fields that no configuration may replace (RFC 9110 section 7.6.1; MCP basic/transports).
var refusedHeaders = map[string]string{
	"Connection":           hopByHop,
	"Keep-Alive":           hopByHop,
	"Proxy-Connection":     hopByHop,
	"Proxy-Authenticate":   hopByHop,
	"Te":                   hopByHop,
	"Trailer":              hopByHop,
	"Transfer-Encoding":    hopByHop,
	"Upgrade":              hopByHop,
	"Expect":               hopByHop,
	"Proxy-Authorization":  ownToken,
	"Fluentd-Perf-Token":   ownToken,
	"Content-Length":       ofBody,
	"Content-Type":         ofBody,
	"Content-Encoding":     ofBody,
	"Host":                 "it follows from url",
	"Accept-Encoding":      "the daemon asks for identity",
	"Mcp-Session-Id":       ofProtocol,
	"Mcp-Protocol-Version": ofProtocol,
	"Mcp-Method":           ofProtocol,
	"Mcp-Name":             ofProtocol,
	"Last-Event-Id":        ofProtocol,
}

// isToken reports whether s is a token (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return s != ""
}

// isFieldValue reports whether s is a field value (RFC 9110 section 5.5).
func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7F {
			return false
		}
	}
	return strings.Trim(s, " \t") == s
}
