package proxy

import (
	"net/url"
	"slices"
	"strings"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// outHeader builds what goes to the server of the agent's headers, in one pass: all but hop-by-hop fields, what belongs to this hop
// alone, and the daemon's own token; then the configured ones in place of the agent's. net/http's map has no order: the fields are
// in that of their names. What a call is, is read from the header that this returns: a field that Connection names
// ends here (RFC 9110, 7.6.1) and says nothing of a message that the server gets without it.
func (q *request) outHeader() header.List {
	u, in := q.upstream, q.in.Header
	var named header.Names
	for _, value := range in["Connection"] {
		named = mcp.AppendConnectionNamed(named, value)
	}
	out := header.List(q.fields[:0])
	for name, values := range in {
		if staysHere(name) || named.Has(name) || u.Headers.Has(name) || q.isOwn(name, values) {
			continue
		}
		for _, value := range values {
			out.Add(name, value)
		}
	}
	if origin, fields := out.Find("Origin"); fields == 1 && isOwnOrigin(origin, q.in) {
		if out.Del("Origin"); u.origin != "" {
			out.Add("Origin", u.origin)
		}
	}
	out = append(append(out, u.Headers...), acceptIdentity)
	slices.SortStableFunc(out, func(a, b header.Field) int { return strings.Compare(a.Name, b.Name) })
	return slices.Clip(out) // others' copies of the call share it
}

// isOwn reports whether a field is the daemon's own token, meant for no server, or a cookie that is to stay here.
func (q *request) isOwn(name string, values []string) bool {
	switch name {
	case TokenHeader:
		return true
	case "Authorization":
		g := q.handler.guard
		return g.token != "" && slices.ContainsFunc(values, g.isBearer)
	case "Cookie":
		return !q.upstream.ForwardCookies
	}
	return false
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

// acceptIdentity asks for answers that can be read and passed on byte for byte.
var acceptIdentity = header.Field{Name: "Accept-Encoding", Value: "identity"}

// Header values that never change, shared by all.
var (
	identityEncoding = []string{acceptIdentity.Value}
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
