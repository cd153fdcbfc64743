package proxy

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"fluentd-perf/internal/mcp"
)

// OAuth stays between agent and server. Only the way to the server's protected resource metadata (RFC 9728) leads
// through the daemon, because clients insist that the document's `resource` is the URL that they use.

const wellKnown = "/.well-known/oauth-protected-resource"

// rewriteChallenge points a resource_metadata parameter of the upstream's own origin at the daemon's copy. Everything
// else of the WWW-Authenticate fields stays byte for byte.
func (x *exchange) rewriteChallenge(h http.Header) {
	if !x.up.RewriteOAuth {
		return
	}
	values := h["Www-Authenticate"]
	for i, v := range values {
		if own, ok := x.ownMetadata(v); ok {
			values = append(append(values[:i:i], own), values[i+1:]...)
			h["Www-Authenticate"] = values
		}
	}
}

// ownMetadata replaces every resource_metadata of the upstream's origin in one field, which may hold several challenges.
func (x *exchange) ownMetadata(v string) (string, bool) {
	changed := false
	for from := 0; ; {
		start, end, ok := parameter(v, "resource_metadata", from)
		if !ok {
			return v, changed
		}
		from = end
		target, err := x.up.URL.Parse(strings.Trim(v[start:end], `"`))
		if err != nil || !mcp.SameOrigin(target, x.up.URL) {
			continue
		}
		x.up.metadata.Store(target)
		own := `"` + x.base() + metadataPath + x.suffix() + `"`
		v = v[:start] + own + v[end:]
		from, changed = start+len(own), true
	}
}

// base is the origin under which the agent reached the daemon. The guard has checked Host.
func (x *exchange) base() string {
	scheme := "http://"
	if x.r.TLS != nil {
		scheme = "https://"
	}
	return scheme + x.r.Host
}

// suffix names the upstream in a path, or is empty where the agent uses the alias.
func (x *exchange) suffix() string {
	if x.alias {
		return ""
	}
	return "/" + x.up.Name
}

// parameter finds an auth-param in a challenge from an offset on (RFC 9110, 11.2) and returns the place of its value,
// quotes included. Names inside quoted strings do not count; white space may stand around the equals sign.
func parameter(challenge, name string, from int) (start, end int, ok bool) {
	for i := from; i < len(challenge); {
		switch {
		case challenge[i] == '"':
			i = endOfQuoted(challenge, i)
		case isNameStart(challenge, i) && hasFold(challenge[i:], name) && afterEquals(challenge, i+len(name)) > 0:
			start = afterEquals(challenge, i+len(name))
			if start < len(challenge) && challenge[start] == '"' {
				return start, endOfQuoted(challenge, start), true
			}
			end = start
			for end < len(challenge) && !strings.ContainsRune(", \t", rune(challenge[end])) {
				end++
			}
			return start, end, true
		default:
			i++
		}
	}
	return 0, 0, false
}

// afterEquals returns the offset behind an equals sign and the white space around it, 0 if there is none at i.
func afterEquals(s string, i int) int {
	rest := strings.TrimLeft(s[i:], " \t")
	if !strings.HasPrefix(rest, "=") {
		return 0
	}
	return len(s) - len(strings.TrimLeft(rest[1:], " \t"))
}

func isNameStart(s string, i int) bool {
	return i == 0 || strings.ContainsRune(", \t", rune(s[i-1]))
}

func hasFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// endOfQuoted returns the offset behind the quoted string that starts at i.
func endOfQuoted(s string, i int) int {
	for i++; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(s)
}

func (d *Door) serveAliasMetadata(w http.ResponseWriter, r *http.Request) {
	if d.only == nil {
		d.notFound(w, r)
		return
	}
	d.metadata(w, r, d.only, true)
}

func (d *Door) serveMetadata(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, metadataPath+"/")
	u, ok := d.upstreams[name]
	if !ok {
		d.notFound(w, r)
		return
	}
	d.metadata(w, r, u, false)
}

// metadata answers with the upstream's protected resource metadata, `resource` replaced. It asks where the server last
// said that the document lies, else at the well-known places (RFC 9728, 3.1). Clients fetch this without the headers that
// they are configured with, so the token is not asked for, unless the operator's own credentials go along.
func (d *Door) metadata(w http.ResponseWriter, r *http.Request, u *upstream, alias bool) {
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", "GET")
		plain(w, http.StatusMethodNotAllowed, "only GET here")
		return
	}
	if u.replacesAuthorization() && !d.authorized(w, r, u) {
		return
	}
	x := d.begin(w, r, u)
	x.alias = alias
	defer x.finish()
	if !x.headOnly(mcp.LaneFetch) {
		return
	}
	res, err := x.fetchMetadata(r.Context())
	if err != nil {
		x.fail(failureOf(err))
		return
	}
	defer res.Close()
	if res.Status == http.StatusOK && res.Raw == nil && res.Events == nil && u.RewriteOAuth {
		x.replaceResource(res)
	}
	x.answer(res)
}

func (x *exchange) fetchMetadata(ctx context.Context) (*mcp.Result, error) {
	var res *mcp.Result
	for _, target := range x.metadataPlaces() {
		if res != nil {
			if res.Status < 400 || res.Status >= 500 {
				return res, nil
			}
			if err := res.Close(); err != nil {
				x.door.log.Debug("closing an answer", "upstream", x.up.Name, "error", err)
			}
		}
		// Each try is a call of its own; the exchange's stays as decoded.
		c := x.call
		c.Target = target
		var err error
		if res, err = x.up.Caller.Call(ctx, &c); err != nil {
			return nil, err
		}
	}
	return res, nil
}

func (x *exchange) metadataPlaces() []*url.URL {
	if seen := x.up.metadata.Load(); seen != nil {
		return []*url.URL{seen}
	}
	root := *x.up.URL
	root.Path, root.RawPath, root.RawQuery = wellKnown, "", ""
	if path := strings.TrimSuffix(x.up.URL.Path, "/"); path != "" {
		withPath := root
		withPath.Path += path
		return []*url.URL{&withPath, &root}
	}
	return []*url.URL{&root}
}

// replaceResource puts the URL under which the agent reaches the daemon into the document; all else stays as received.
// A document that is no JSON object passes as it is.
func (x *exchange) replaceResource(res *mcp.Result) {
	span, err := mcp.Member(res.Body, "resource")
	if err != nil || !span.Present() {
		return
	}
	own := strconv.Quote(x.base() + endpointPath + x.suffix())
	body := make([]byte, 0, len(res.Body)+len(own))
	body = append(body, res.Body[:span.Start]...)
	body = append(body, own...)
	res.Body = append(body, res.Body[span.End:]...)
	delete(res.Header, "Content-Length")
	delete(res.Header, "Etag")
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
