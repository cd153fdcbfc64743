package mcp

import (
	"net/http"
	"strings"
)

// IsHopByHop reports whether a header field, by its canonical name, ends at this hop (RFC 9110, 7.6.1), older kin included: in
// requests and answers alike. What is made anew for each hop (Host, Content-Length and the like) is beside it, in package proxy.
func IsHopByHop(canonical string) bool {
	switch canonical {
	case "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Authorization", "Proxy-Connection",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// DropConnectionNamed takes off the fields that a Connection header names.
func DropConnectionNamed(h http.Header, connection []string) {
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
