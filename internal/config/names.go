package config

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"slices"
	"strings"

	"fluentd-perf/internal/proxy"
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
	if err != nil || !isHost(u.Hostname()) || !strings.EqualFold(s, u.Scheme+"://"+u.Host) || strings.HasSuffix(s, ":") || u.Port() != "" && !isPort(u.Port()) {
		return "", "must be an origin, scheme://host or scheme://host:port, with nothing behind it"
	}
	standard := map[string]string{"http": ":80", "https": ":443"}[u.Scheme]
	return u.Scheme + "://" + strings.TrimSuffix(strings.ToLower(u.Host), standard), ""
}

// group takes a name or a number that a group can have. Directories give names with spaces, dots and backslashes.
func group(s string) (name, why string) {
	bad := func(r rune) bool { return isControl(r) || strings.ContainsRune(":,/", r) }
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
	case slices.Contains(credentials, canonical):
		return "", "cannot be inert: it is a credential, and answers never cross credentials"
	case strings.HasPrefix(canonical, "Mcp-Param-"):
		return "", "cannot be inert: it is a part of what is asked for"
	}
	return canonical, ""
}

// credentials are headers that say who asks, whatever else they say.
var credentials = []string{
	"Authorization", "Proxy-Authorization", "Cookie", proxy.TokenHeader, "Api-Key", "X-Api-Key", "X-Auth-Token", "X-Access-Token",
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
	switch into.Generate = value == "generate"; {
	case into.Generate:
		return ""
	case strings.ContainsFunc(value, outside):
		return "must be visible ASCII without spaces, so that a header can carry it"
	}
	into.Token.Value = value
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
