package proxy

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"fluentd-perf/internal/mcp"
)

// outHeader builds what goes to the server of the agent's headers: all but hop-by-hop fields, what belongs to this hop
// alone, and the daemon's own token; then the configured ones in place of the agent's. Values are shared with the agent's
// header, which stays as it is. What a call is, is read from the header that this returns: a field that Connection names
// ends here (RFC 9110, 7.6.1) and says nothing of a message that the server gets without it.
func (q *request) outHeader() http.Header {
	u, in := q.upstream, q.in.Header
	n := len(u.Headers) + 2 // Accept-Encoding and User-Agent. A map of up to 8 is half as many allocations
	for name := range in {
		if !staysHere(name) && name != "User-Agent" {
			n++
		}
	}
	out := make(http.Header, n)
	for name, values := range in {
		if !staysHere(name) {
			out[name] = values
		}
	}
	mcp.DropConnectionNamed(out, in["Connection"])
	delete(out, TokenHeader)
	if g := q.handler.guard; g.token != "" && slices.ContainsFunc(in["Authorization"], g.isBearer) {
		delete(out, "Authorization") // the daemon's own, meant for no server
	}
	if !u.ForwardCookies {
		delete(out, "Cookie")
	}
	if origins := out["Origin"]; len(origins) == 1 && isOwnOrigin(origins[0], q.in) {
		out["Origin"] = u.origin
	}
	maps.Copy(out, u.Headers)
	out["Accept-Encoding"] = identityEncoding
	if _, named := out["User-Agent"]; !named {
		out["User-Agent"] = nil // else net/http puts its own there
	}
	return out
}

// staysHere reports whether a field of a request ends at this hop, or is made anew for the next. What else about header fields stands
// elsewhere: batch/rpc and session know which belong to one call alone, upstream/http which would have net/http do something.
func staysHere(canonical string) bool {
	switch canonical {
	case "Content-Length", "Accept-Encoding", "Expect", "Host":
		return true
	}
	return mcp.IsHopByHop(canonical)
}

const sessionHeader = "Mcp-Session-Id"

// Header values that never change, shared by all.
var (
	identityEncoding = []string{"identity"} // asks for answers that can be read and passed on byte for byte
	connectionClose  = []string{"close"}
	jsonType         = []string{"application/json"}
)

// queryOf returns what of an agent's query goes on to the server: all of it, byte for byte and in order, but the parameters
// that a configured URL has itself. Those are the operator's, as `headers` are. What is no name=value passes too.
func (u *upstream) queryOf(raw string) string {
	if raw == "" || len(u.fixed) == 0 {
		return raw
	}
	var kept []string
	for part := range strings.SplitSeq(raw, "&") {
		if !u.fixes(part) {
			kept = append(kept, part)
		}
	}
	return strings.Join(kept, "&")
}

// fixes reports whether a part between two ampersands sets a parameter that is the operator's. Some servers take a semicolon for
// an ampersand (HTML 4.01, appendix B.2.2).
func (u *upstream) fixes(part string) bool {
	for parameter := range strings.SplitSeq(part, ";") {
		if parameter != "" && u.fixed[parameterName(parameter)] {
			return true
		}
	}
	return false
}

// parameterNames returns the names of the parameters in the URLs' queries.
func parameterNames(urls []*url.URL) map[string]bool {
	names := map[string]bool{}
	for _, u := range urls {
		for parameter := range strings.FieldsFuncSeq(u.RawQuery, func(r rune) bool { return r == '&' || r == ';' }) {
			names[parameterName(parameter)] = true
		}
	}
	return names
}

// parameterName returns the name in name=value, decoded; as it stands where it cannot be decoded.
func parameterName(parameter string) string {
	raw, _, _ := strings.Cut(parameter, "=")
	if name, err := url.QueryUnescape(raw); err == nil {
		return name
	}
	return raw
}
