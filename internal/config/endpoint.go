package config

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
	"go.yaml.in/yaml/v4"

	"fluentd-perf/internal/proxy"
)

// maxEndpoints bounds the replicas of one upstream.
const maxEndpoints = 64

// endpoint is a URL of an upstream. places gets where it is written.
func endpoint(u *Upstream, places *[]key) kind[[]*url.URL] {
	return kind[[]*url.URL]{"URL, http or https", func(at key, n *yaml.Node, _ *[]*url.URL) {
		if s, ok := at.expandYAML(n); ok && at.accepts(u.add(s, n.Value)) {
			*places = append(*places, at)
		}
	}, ofType("string")}
}

// replicas are the URLs of equal servers.
func replicas(one kind[[]*url.URL]) kind[[]*url.URL] {
	return kind[[]*url.URL]{"list of such URLs", func(at key, n *yaml.Node, into *[]*url.URL) {
		at.items(n, func(at key, n *yaml.Node) {
			before := *into
			if len(before) == maxEndpoints {
				at.fault("there must not be more than %d", maxEndpoints)
				return
			}
			one.read(at, n, into)
			if added := (*into)[len(before):]; len(added) > 0 && slices.ContainsFunc(before, func(u *url.URL) bool { return *u == *added[0] }) {
				at.fault("is given twice")
			}
		})
		if shapeOf(n) == isList && len(n.Content) == 0 {
			at.fault("must not be empty")
		}
	}, func(s *jsonschema.Schema) {
		s.Type, s.Items, s.MinItems, s.MaxItems = "array", made(one.schema), jsonschema.Ptr(1), jsonschema.Ptr(maxEndpoints)
	}}
}

// add takes a URL of the upstream, which is shown as it is written, or says what is wrong. It may hold secrets, so no fault
// shows it.
func (u *Upstream) add(s, written string) (why string) {
	const wanted = "must be an http:// or https:// URL with a host"
	to, why := parseURL(s, wanted, "http", "https")
	switch {
	case why != "":
		return why
	case to.Hostname() == "":
		return wanted
	case to.User != nil:
		return "must not hold a user or password; put them into headers"
	}
	u.URLs = append(u.URLs, to)
	u.URL = u.URLs[0]
	u.shown = strings.TrimPrefix(u.shown+" "+withoutQuery(written), " ")
	return ""
}

// parseURL parses a URL of one of the schemes, or says what is wrong.
func parseURL(s, wanted string, schemes ...string) (u *url.URL, why string) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Opaque != "" || !slices.Contains(schemes, u.Scheme):
		return nil, wanted
	case strings.Contains(s, "#"):
		return nil, "must not have a fragment (#)"
	case u.Port() != "" && !isPort(u.Port()):
		return nil, "must have a port from 1 to 65535"
	}
	return u, ""
}

func withoutQuery(s string) string {
	if path, _, ok := strings.Cut(s, "?"); ok {
		return path + "?…"
	}
	return s
}

// headerFields are the fields that replace the agent's.
var headerFields = kind[http.Header]{"text by name of the header", func(at key, n *yaml.Node, into *http.Header) {
	at.headers(n, *into, key.expandYAML, func(at key, why string) { at.fault("cannot be set: %s", why) })
}, mappingOf(ofType("string"))}

// headers reads fields. expand reads one value; refused is told of fields that are not to be set, and why.
func (at key) headers(n *yaml.Node, into http.Header, expand func(key, *yaml.Node) (string, bool), refused func(at key, why string)) {
	at.each(n, func(name string, at key, n *yaml.Node) {
		canonical := http.CanonicalHeaderKey(name)
		if why := refusedHeader(canonical); why != "" {
			refused(at, why)
			return
		}
		value, ok := expand(at, n)
		switch {
		case !headerName.MatchString(name):
			at.fault("is not a name that a header can have")
		case into[canonical] != nil:
			at.fault("is given twice: names of headers know no upper and lower case")
		case ok && !isFieldValue(value):
			at.fault("has a value that a header cannot have: control characters, or space at an end")
		case ok:
			into[canonical] = []string{value}
		}
	})
}

const ofProtocol = "it belongs to the protocol, the agent sets it"

// refusedHeader says why no configuration may replace a field, or "" (RFC 9110 section 7.6.1; MCP basic/transports).
func refusedHeader(canonical string) (why string) {
	switch canonical {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect":
		return "it belongs to the connection"
	case "Proxy-Authorization", proxy.TokenHeader:
		return "it is the daemon's own token"
	case "Content-Length", "Content-Type", "Content-Encoding":
		return "it describes the body, which the agent writes"
	case "Host":
		return "it follows from url"
	case "Accept-Encoding":
		return "the daemon asks for identity"
	case "Mcp-Session-Id", "Mcp-Protocol-Version", "Mcp-Method", "Mcp-Name", "Last-Event-Id":
		return ofProtocol
	}
	return ""
}

// headerName is a token (RFC 9110 section 5.6.2).
var headerName = regexp.MustCompile("^[a-zA-Z0-9!#$%&'*+.^_`|~-]+$")

// isFieldValue reports whether s is a field value (RFC 9110 section 5.5).
func isFieldValue(s string) bool {
	return strings.Trim(s, " \t") == s && !strings.ContainsFunc(s, func(r rune) bool { return isControl(r) && r != '\t' })
}
