package proxy

import (
	"maps"
	"net/http"
	"strings"
)

// outHeader builds what goes to the server of the agent's headers: all but hop-by-hop fields, what belongs to this hop
// alone, and the daemon's own token; then the configured ones in place of the agent's. Values are shared with the agent's
// header, which stays as it is. What a call is, is read from the header that this returns: a field that Connection names
// ends here (RFC 9110, 7.6.1) and says nothing of a message that the server gets without it.
func (q *request) outHeader() http.Header {
	u, in := q.upstream, q.in.Header
	n := len(u.Headers) + 2 // Accept-Encoding and User-Agent. A map of up to 8 is half as many allocations
	for name := range in {
		if !hopByHop(name) && name != "User-Agent" {
			n++
		}
	}
	out := make(http.Header, n)
	for name, values := range in {
		if !hopByHop(name) {
			out[name] = values
		}
	}
	dropConnectionNamed(out, in["Connection"])
	delete(out, TokenHeader)
	if q.handler.guard.token != "" && q.handler.guard.isBearer(header(in, "Authorization")) {
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

// hopByHop reports whether a field of a request ends at this hop (RFC 9110, 7.6.1), or is made anew for the next.
func hopByHop(canonical string) bool {
	switch canonical {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade", "Content-Length", "Accept-Encoding", "Expect", "Host":
		return true
	}
	return false
}

// dropConnectionNamed takes off the fields that a Connection header names.
func dropConnectionNamed(h http.Header, connection []string) {
	for _, line := range connection {
		for name := range strings.SplitSeq(line, ",") {
			switch name = strings.TrimSpace(name); strings.ToLower(name) {
			case "", "keep-alive", "close": // names no field, or one that ends here anyway
			default:
				h.Del(name)
			}
		}
	}
}

const sessionHeader = "Mcp-Session-Id"

// Header values that never change, shared by all.
var (
	identityEncoding = []string{"identity"} // asks for answers that can be read and passed on byte for byte
	connectionClose  = []string{"close"}
	jsonType         = []string{"application/json"}
)

// header returns the first value under a canonical name, without canonicalising it again.
func header(h http.Header, canonical string) string {
	if v := h[canonical]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// containsToken reports whether a comma-separated field value has a token.
func containsToken(value, token string) bool {
	for part := range strings.SplitSeq(value, ",") {
		if strings.EqualFold(strings.TrimSpace(part), token) {
			return true
		}
	}
	return false
}
