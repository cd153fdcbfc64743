package config

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"
)

// What texts of the configuration name, each with its parser: hosts, origins, groups, headers, tools; and secrets.

// hostName takes a name that the Host header may have.
func hostName(s string) (name, why string) {
	name = strings.ToLower(s)
	if inner, bracketed := strings.CutPrefix(name, "["); bracketed {
		name = strings.TrimSuffix(inner, "]")
	}
	if ip, err := netip.ParseAddr(name); err == nil {
		name = ip.String()
	}
	if !isHost(name) {
		return "", "must be a host name or an IP address, without scheme, port or path: any port is taken"
	}
	return name, ""
}

// origin takes what the Origin header may be (RFC 6454 section 6.1).
func origin(s string) (serialized, why string) {
	u, err := url.Parse(s)
	bare := err == nil && u.Host != "" && u.User == nil && isHost(u.Hostname()) && u.Scheme+"://"+u.Host == lowerScheme(s)
	if !bare || u.Port() != "" && !isPort(u.Port()) || strings.HasSuffix(s, ":") {
		return "", "must be an origin, scheme://host or scheme://host:port, with nothing behind it"
	}
	host := strings.ToLower(u.Host)
	switch u.Scheme {
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	}
	return u.Scheme + "://" + host, ""
}

// lowerScheme lowers what url.Parse lowers.
func lowerScheme(s string) string {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return s
	}
	return strings.ToLower(scheme) + "://" + rest
}

// group takes a name or a number that a group can have. Directories give names with spaces, dots and backslashes.
func group(s string) (name, why string) {
	bad := func(r rune) bool { return r < ' ' || r == 0x7F || strings.ContainsRune(":,/", r) }
	if len(s) > 256 || s[0] == '-' || strings.TrimSpace(s) != s || strings.ContainsFunc(s, bad) {
		return "", "must be the name or the number of a group, not " + shown(s)
	}
	return s, ""
}

// inertHeader takes the name of a header that says nothing of who asks.
func inertHeader(s string) (canonical, why string) {
	canonical = http.CanonicalHeaderKey(s)
	switch {
	case !headerName.MatchString(s):
		return "", "is not a name that a header can have"
	case credentials[canonical]:
		return "", "cannot be inert: it is a credential, and answers never cross credentials"
	case strings.HasPrefix(canonical, "Mcp-Param-"):
		return "", "cannot be inert: it is a part of what is asked for"
	}
	return canonical, ""
}

// credentials are headers that say who asks, whatever else they say.
var credentials = map[string]bool{
	"Authorization":       true,
	"Proxy-Authorization": true,
	"Cookie":              true,
	"Fluentd-Perf-Token":  true,
	"Api-Key":             true,
	"X-Api-Key":           true,
	"X-Auth-Token":        true,
	"X-Access-Token":      true,
}

// pattern takes what path.Match takes.
func pattern(s string) (same, why string) {
	_, err := path.Match(s, "")
	switch {
	case s == "":
		return "", "must be a name or a pattern, such as search_*"
	case strings.Contains(s, "${"):
		return "", notExpanded
	case err != nil:
		return "", `is not a pattern: * and ? stand for any signs and for one, [a-z] for one of a range, \ takes a meaning away`
	}
	return s, ""
}

func anyName(s string) (same, why string) { return s, "" }

// bearer takes what agents must show; nothing means none.
func bearer(value, _ string, into *Auth) (why string) {
	outside := func(r rune) bool { return r <= ' ' || r >= 0x7F }
	switch {
	case value == "generate":
		into.Generate = true
	case strings.ContainsFunc(value, outside):
		return "must be visible ASCII without spaces, so that a header can carry it"
	default:
		into.Token.Value = value
	}
	return ""
}

// partitionKey takes a key that cannot be guessed, or nothing.
func partitionKey(value, _ string, into *Secret) (why string) {
	const least = 32 // bytes
	if value != "" && len(value) < least {
		return fmt.Sprintf("must have at least %d bytes", least)
	}
	into.Value = value
	return ""
}
