package config

import (
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

// maxEndpoints bounds the replicas of one upstream.
const maxEndpoints = 64

// endpoint is a URL of an upstream. places gets where it is written.
func endpoint(u *Upstream, places *[]key) kind[[]*url.URL] {
	return kind[[]*url.URL]{"URL, http or https", func(d *decoder, at key, n *node, _ *[]*url.URL) {
		if s, ok := d.expandYAML(at, n); ok {
			d.endpoint(at, s, n.text, u)
			*places = append(*places, at)
		}
	}, ofType("string")}
}

// replicas are the URLs of equal servers.
func replicas(one kind[[]*url.URL]) kind[[]*url.URL] {
	read := func(d *decoder, at key, n *node, into *[]*url.URL) {
		d.items(at, n, func(at key, n *node) {
			before := len(*into)
			if before == maxEndpoints {
				d.fault(at, "there must not be more than %d", maxEndpoints)
				return
			}
			one.read(d, at, n, into)
			if len(*into) > before && isOneOf((*into)[before], (*into)[:before]) {
				d.fault(at, "is given twice")
			}
		})
		if n.kind == kindList && len(n.items) == 0 {
			d.fault(at, "must not be empty")
		}
	}
	return kind[[]*url.URL]{"list of such URLs", read, func() *jsonschema.Schema {
		return &jsonschema.Schema{Type: "array", Items: one.schema(), MinItems: jsonschema.Ptr(1), MaxItems: jsonschema.Ptr(maxEndpoints)}
	}}
}

func isOneOf(u *url.URL, others []*url.URL) bool {
	for _, other := range others {
		if other.String() == u.String() {
			return true
		}
	}
	return false
}

// endpoint takes a URL of an upstream, which is shown as it is written. It may hold secrets, so no fault shows it.
func (d *decoder) endpoint(at key, s, written string, u *Upstream) {
	to, err := url.Parse(s)
	switch {
	case err != nil || to.Scheme != "http" && to.Scheme != "https" || to.Hostname() == "":
		d.fault(at, "must be an http:// or https:// URL with a host")
	case to.User != nil:
		d.fault(at, "must not hold a user or password; put them into headers")
	case strings.Contains(s, "#"):
		d.fault(at, "must not have a fragment (#)")
	case to.Port() != "" && !isPort(to.Port()):
		d.fault(at, "must have a port from 1 to 65535")
	default:
		u.URLs = append(u.URLs, to)
		u.URL = u.URLs[0]
		u.shown = strings.TrimPrefix(u.shown+" "+withoutQuery(written), " ")
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

// headerFields are the fields that replace the agent's.
var headerFields = kind[http.Header]{"text by name of the header", func(d *decoder, at key, n *node, into *http.Header) {
	d.headers(at, n, *into, d.expandYAML)
}, func() *jsonschema.Schema {
	return &jsonschema.Schema{Type: "object", AdditionalProperties: &jsonschema.Schema{Type: "string"}}
}}

// headers reads fields. expand reads one value.
func (d *decoder) headers(at key, n *node, into http.Header, expand func(key, *node) (string, bool)) {
	d.each(at, n, func(name string, at key, n *node) {
		canonical := http.CanonicalHeaderKey(name)
		value, ok := expand(at, n)
		switch _, twice := into[canonical]; {
		case !headerName.MatchString(name):
			d.fault(at, "is not a name that a header can have")
		case refusedHeaders[canonical] != "":
			d.fault(at, "cannot be set: %s", refusedHeaders[canonical])
		case twice:
			d.fault(at, "is given twice: names of headers know no upper and lower case")
		case ok && !isFieldValue(value):
			d.fault(at, "has a value that a header cannot have: control characters, or space at an end")
		case ok:
			into[canonical] = []string{value}
		}
	})
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

// headerName is a token (RFC 9110 section 5.6.2).
var headerName = regexp.MustCompile("^[a-zA-Z0-9!#$%&'*+.^_`|~-]+$")

// isFieldValue reports whether s is a field value (RFC 9110 section 5.5).
func isFieldValue(s string) bool {
	return strings.Trim(s, " \t") == s && !strings.ContainsFunc(s, func(r rune) bool { return isControl(r) && r != '\t' })
}
