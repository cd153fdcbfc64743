package mcp

import (
	"net/url"
	"strings"
)

// SameOrigin reports whether two absolute URLs have the same scheme, host and port (RFC 6454, 5), a scheme's default
// port being the same as none.
func SameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && portOf(a) == portOf(b)
}

func portOf(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	if u.Scheme == "https" {
		return "443"
	}
	return "80"
}
