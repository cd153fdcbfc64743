package proxy

import (
	"net/url"
	"strings"
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
