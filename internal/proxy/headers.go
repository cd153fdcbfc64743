package proxy

import (
	"net/http"
	"strings"

	"fluentd-perf/internal/mcp"
)

// outHeader builds what goes to the server of the agent's headers: all but hop-by-hop fields, what belongs to this hop
// alone, and the daemon's own token; then the configured ones in place of the agent's. Values are shared with the agent's
// header, which stays as it is. What a call is, is read from the header that this returns: a field that Connection names
// ends here (RFC 9110, 7.6.1) and says nothing of a message that the server gets without it.
func (x *exchange) outHeader() http.Header {
	u, in := x.up, x.r.Header
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
	if x.door.guard.token != "" && x.door.guard.isBearer(header(in, "Authorization")) {
		delete(out, "Authorization") // the daemon's own, meant for no server
	}
	if !u.ForwardCookies {
		delete(out, "Cookie")
	}
	if origins := out["Origin"]; len(origins) == 1 && isOwnOrigin(origins[0], x.r) {
		out["Origin"] = u.origin
	}
	for name, values := range u.Headers {
		out[name] = values
	}
	out["Accept-Encoding"] = identityEncoding
	if _, named := out["User-Agent"]; !named {
		out["User-Agent"] = nil // else net/http puts its own there
	}
	return out
}

// dropLegacy takes off what was removed from the protocol in 2026-07-28 (SEP-2567): it is to be ignored, so it is not even
// passed on. The header is the call's own, which is not complete before.
func dropLegacy(c *mcp.Call) {
	if c.Era == mcp.EraModern && !c.Mismatch {
		delete(c.Header, "Mcp-Session-Id")
		delete(c.Header, "Last-Event-Id")
	}
}

// identityEncoding asks for answers that can be read and passed on byte for byte.
var identityEncoding = []string{"identity"}

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

// copyAnswerHeader puts the server's fields on the answer. With cors, the server's own CORS fields give way to the
// door's.
func copyAnswerHeader(dst, src http.Header, cors bool) {
	for name, values := range src {
		if cors && strings.HasPrefix(name, "Access-Control-") {
			continue
		}
		if own := dst[name]; len(own) > 0 {
			dst[name] = append(own[:len(own):len(own)], values...)
			continue
		}
		dst[name] = values
	}
}
