package config

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// host reads a name that the Host header may have.
func (d *decoder) host(into *[]string) reader {
	return func(at key, n *node) {
		s, ok := d.text(at, n)
		if !ok {
			return
		}
		name := strings.ToLower(s)
		if inner, bracketed := strings.CutPrefix(name, "["); bracketed {
			name = strings.TrimSuffix(inner, "]")
		}
		if ip, err := netip.ParseAddr(name); err == nil {
			name = ip.String()
		}
		switch {
		case !isHost(name):
			d.fault(at, "must be a host name or an IP address, without scheme, port or path: any port is taken")
		case slices.Contains(*into, name):
			d.fault(at, "is given twice")
		default:
			*into = append(*into, name)
		}
	}
}

// origin reads what the Origin header may be (RFC 6454 section 6.1).
func (d *decoder) origin(into *[]string) reader {
	return func(at key, n *node) {
		s, ok := d.text(at, n)
		if !ok {
			return
		}
		origin, ok := serializeOrigin(s)
		switch {
		case !ok:
			d.fault(at, "must be an origin, scheme://host or scheme://host:port, with nothing behind it")
		case slices.Contains(*into, origin):
			d.fault(at, "is given twice")
		default:
			*into = append(*into, origin)
		}
	}
}

func serializeOrigin(s string) (string, bool) {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || !isHost(u.Hostname()) || u.Scheme+"://"+u.Host != lowerScheme(s) {
		return "", false
	}
	if u.Port() != "" && !isPort(u.Port()) || strings.HasSuffix(s, ":") {
		return "", false
	}
	host := strings.ToLower(u.Host)
	switch {
	case u.Scheme == "http":
		host = strings.TrimSuffix(host, ":80")
	case u.Scheme == "https":
		host = strings.TrimSuffix(host, ":443")
	}
	return u.Scheme + "://" + host, true
}

// lowerScheme lowers what url.Parse lowers.
func lowerScheme(s string) string {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return s
	}
	return strings.ToLower(scheme) + "://" + rest
}

// token reads auth.token. A token of nothing means none only where nothing is written.
func (l *loader) token(d *decoder) reader {
	return func(at key, n *node) {
		if n.kind == kindText && n.text == "" {
			return
		}
		l.tokenAsk = true
		s, ok := d.expandYAML(at, n)
		switch {
		case !ok:
		case s == "generate":
			l.config.Auth.Generate = true
		case !isBearer(s):
			d.fault(at, "must be visible ASCII without spaces, so that a header can carry it")
		default:
			l.config.Auth.Token = s
		}
	}
}

func isBearer(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7F {
			return false
		}
	}
	return s != ""
}
