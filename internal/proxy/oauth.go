package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"fluentd-perf/internal/mcp"
)

// OAuth stays between agent and server. Only the way to the server's protected resource metadata (RFC 9728) leads
// through the daemon, because clients insist that the document's `resource` is the URL that they use.

const wellKnown = "/.well-known/oauth-protected-resource"

// challenged takes in a 401 or 403, and points a resource_metadata parameter of the upstream's own origin at the daemon's
// copy. Everything else of the WWW-Authenticate fields stays byte for byte.
func (x *exchange) challenged(res *mcp.Result) {
	if !x.up.RewriteOAuth {
		return
	}
	if res.Status == http.StatusUnauthorized && x.call.Lane != mcp.LaneFetch {
		x.up.unauthorized.Store(true)
	}
	values := res.Header["Www-Authenticate"]
	for i, v := range values {
		if own, ok := x.ownMetadata(v); ok {
			values = append(append(values[:i:i], own), values[i+1:]...)
			res.Header["Www-Authenticate"] = values
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
		own := `"` + ownOrigin(x.r) + metadataPath + x.suffix() + `"`
		v = v[:start] + own + v[end:]
		from, changed = start+len(own), true
	}
}

// suffix is what names the upstream in a path, as the agent wrote it: nothing where it uses the alias, with a trailing slash
// where it has one.
func (x *exchange) suffix() string {
	var suffix string
	if !x.alias {
		suffix = "/" + x.up.Name
	}
	if strings.HasSuffix(x.r.URL.Path, "/") {
		suffix += "/"
	}
	return suffix
}

// resource is the URL under which the agent reaches the server, as a JSON string: without a query, which may be a secret.
func (x *exchange) resource() string {
	return strconv.Quote(ownOrigin(x.r) + endpointPath + x.suffix())
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
	u, ok := d.upstreams[strings.TrimSuffix(name, "/")]
	if !ok {
		d.notFound(w, r)
		return
	}
	d.metadata(w, r, u, false)
}

// metadata answers with the upstream's protected resource metadata, `resource` replaced, or with a document of the daemon's
// own for a server that asks for signing in and has none. Clients fetch this without the headers that they are configured
// with, so the token is not asked for, unless the operator's own credentials go along.
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
	x.call.Query, x.call.Whole = "", true // the query is for the endpoint
	if !x.headOnly(mcp.LaneFetch) {
		return
	}
	res, err := x.fetchMetadata(r.Context())
	if err != nil {
		x.fail(failureOf(err))
		return
	}
	defer res.Close()
	if !u.RewriteOAuth {
		x.answer(res)
		return
	}
	x.answer(x.ownDocument(res))
}

// fetchMetadata asks for the document at its places in turn, and returns the first one there is, or that which was said at
// the last place. A server's failure ends the search.
func (x *exchange) fetchMetadata(ctx context.Context) (*mcp.Result, error) {
	var res *mcp.Result
	for _, target := range x.metadataPlaces() {
		if res != nil {
			x.closeQuietly(res)
		}
		// Each try is a call of its own; the exchange's stays as decoded.
		c := x.call
		c.Target = target
		var err error
		if res, err = x.up.Caller.Call(ctx, &c); err != nil {
			return nil, err
		}
		if err = hold(res); err != nil {
			x.closeQuietly(res)
			return nil, err
		}
		if !isAbsent(res) {
			break
		}
	}
	return res, nil
}

// closeQuietly closes an answer that nobody gets.
func (x *exchange) closeQuietly(res *mcp.Result) {
	if err := res.Close(); err != nil {
		x.door.log.Debug("closing an answer", "upstream", x.up.Name, "error", err)
	}
}

// metadataPlaces returns where the document may lie: where the server last said, else at the well-known places with the
// endpoint's path and without it (RFC 9728, 3.1).
func (x *exchange) metadataPlaces() []*url.URL {
	root := *x.up.URL
	root.Path, root.RawPath, root.RawQuery = wellKnown, "", ""
	withPath := root
	withPath.Path += strings.TrimSuffix(x.up.URL.Path, "/")
	withPath.RawPath = wellKnown + strings.TrimSuffix(x.up.URL.EscapedPath(), "/")
	var places []*url.URL
	for _, place := range []*url.URL{x.up.metadata.Load(), &withPath, &root} {
		same := func(known *url.URL) bool { return known.String() == place.String() }
		if place != nil && !slices.ContainsFunc(places, same) {
			places = append(places, place)
		}
	}
	return places
}

// hold reads a document that came as a stream of bytes, because of its type say, up to the size that a document has. Its
// error is a *mcp.Failure.
func hold(res *mcp.Result) error {
	const most = 256 << 10
	if res.Raw == nil || res.Status != http.StatusOK || mcp.IsEncoded(res.Header) {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(res.Raw, most+1))
	switch {
	case err != nil:
		return err
	case len(body) > most:
		res.Raw = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(body), res.Raw), res.Raw}
		return nil
	}
	raw := res.Raw
	res.Raw, res.Body = nil, body
	return raw.Close()
}

// isAbsent reports whether a server says that it has no such document. Clients take every 4xx for that, and a page, which
// some servers have at each path.
func isAbsent(res *mcp.Result) bool {
	if isWhole(res) {
		return !isDocument(res.Body)
	}
	return res.Status >= 400 && res.Status < 500 && res.Status != http.StatusTooManyRequests
}

func isWhole(res *mcp.Result) bool {
	return res.Status == http.StatusOK && res.Raw == nil && res.Events == nil
}

const byteOrderMark = "\ufeff"

// isDocument reports whether a body is protected resource metadata as clients read it: `resource` is all that has to be
// there (RFC 9728, 2).
func isDocument(body []byte) bool {
	var document struct{ Resource *string }
	err := json.Unmarshal(bytes.TrimPrefix(body, []byte(byteOrderMark)), &document)
	return err == nil && document.Resource != nil
}

// ownDocument makes of what the server said of its metadata what an agent of the daemon needs. The server's answer stays
// the caller's to close.
func (x *exchange) ownDocument(res *mcp.Result) *mcp.Result {
	switch absent := isAbsent(res); {
	case absent && x.up.unauthorized.Load():
		// Its own authorization server (2025-03-26, basic/authorization). Clients would look for that at the daemon.
		return &mcp.Result{
			Status: http.StatusOK, Header: http.Header{"Content-Type": jsonType, "Cache-Control": {"no-store"}},
			Body: fmt.Appendf(nil, `{"resource":%s,"authorization_servers":[%q]}`, x.resource(), x.up.origin[0]),
		}
	case !absent && isWhole(res):
		x.replaceResource(res)
	}
	return res
}

// replaceResource puts the URL under which the agent reaches the server into the server's document, in place of the
// server's own; all else stays as received. Another's stays too: clients refuse it (RFC 9728, 3.3), and have to.
func (x *exchange) replaceResource(res *mcp.Result) {
	document := bytes.TrimPrefix(res.Body, []byte(byteOrderMark)) // clients do not see it (WHATWG, "json()")
	span, err := mcp.Member(document, "resource")
	if err != nil || !x.up.ownsResource(span.Of(document)) {
		return
	}
	res.Body = slices.Concat(document[:span.Start], []byte(x.resource()), document[span.End:])
	delete(res.Header, "Content-Length")
	delete(res.Header, "Etag")
}

// ownsResource reports whether a JSON string is the server's own URL, or a prefix of its path on its origin, which stands
// for it (clients of all kinds compare in that way).
func (u *upstream) ownsResource(token []byte) bool {
	text, ok := mcp.Text(token)
	if !ok {
		return false
	}
	resource, err := url.Parse(text)
	if err != nil || resource.User != nil || resource.Fragment != "" {
		return false
	}
	return slices.ContainsFunc(u.URLs, func(own *url.URL) bool {
		return mcp.SameOrigin(resource, own) && (resource.RawQuery == "" || resource.RawQuery == own.RawQuery) &&
			strings.HasPrefix(withSlash(own.EscapedPath()), withSlash(resource.EscapedPath()))
	})
}

func withSlash(path string) string { return strings.TrimSuffix(path, "/") + "/" }

// originOf returns a URL's origin as an Origin header has it (RFC 6454, 6.2).
func originOf(u *url.URL) string {
	host := strings.ToLower(u.Host)
	if port := u.Port(); u.Scheme == "http" && port == "80" || u.Scheme == "https" && port == "443" {
		host = strings.TrimSuffix(host, ":"+port)
	}
	return u.Scheme + "://" + host
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
