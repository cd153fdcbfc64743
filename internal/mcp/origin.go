package mcp

import (
	"net/url"
	"strings"
)

// Origin returns an absolute URL's origin as an Origin header has it (RFC 6454, 6.2): without its scheme's default port.
func Origin(u *url.URL) string {
	host := strings.ToLower(u.Host)
	if port := u.Port(); port == "" || u.Scheme == "http" && port == "80" || u.Scheme == "https" && port == "443" {
		host = strings.TrimSuffix(host, ":"+port)
	}
	return u.Scheme + "://" + host
}

// SameOrigin reports whether two absolute URLs have the same scheme, host and port (RFC 6454, 5).
func SameOrigin(a, b *url.URL) bool { return Origin(a) == Origin(b) }
