package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"fluentd-perf/internal/mcp"
)

// OAuth stays between agent and server. Only the way to the server's protected resource metadata (RFC 9728) leads
// through the daemon, because clients insist that the document's `resource` is the URL that they use.

const (
	wellKnown    = "/.well-known/oauth-protected-resource"
	metadataPath = wellKnown + endpointPath
)

// rewriteChallenge takes in a 401 or 403, and points a resource_metadata parameter of the upstream's own origin at the
// daemon's copy. Everything else of the WWW-Authenticate fields stays byte for byte.
func (q *request) rewriteChallenge(res *mcp.Result) {
	if !q.upstream.RewriteOAuth {
		return
	}
	if res.Status == http.StatusUnauthorized && q.call.Lane != mcp.LaneFetch {
		q.upstream.oauth.unauthorized.Store(true)
	}
	if values := slices.Clone(res.Header["Www-Authenticate"]); values != nil {
		for i, v := range values {
			values[i] = q.ownMetadata(v)
		}
		res.Header["Www-Authenticate"] = values
	}
}

// metadataParameter finds the auth-param resource_metadata in a challenge (RFC 9110, 11.2): its value is the group, quotes
// included. White space may stand around the equals sign. Names inside quoted strings do not count, so that these match too.
var metadataParameter = regexp.MustCompile(`(?is)` + quoted + `|(?:^|[, \t])resource_metadata[ \t]*=[ \t]*(` + quoted + `|[^, \t]*)`)

// quoted is a quoted string, or one that does not end.
const quoted = `"(?:[^"\\]|\\.)*(?:"|\\?$)`

// ownMetadata replaces every resource_metadata of the upstream's origin in one field, which may hold several challenges.
func (q *request) ownMetadata(v string) string {
	var out strings.Builder
	done := 0
	for _, m := range metadataParameter.FindAllStringSubmatchIndex(v, -1) {
		start, end := m[2], m[3]
		if start < 0 {
			continue
		}
		target, err := q.upstream.URL.Parse(strings.Trim(v[start:end], `"`))
		if err != nil || !mcp.SameOrigin(target, q.upstream.URL) {
			continue
		}
		q.upstream.oauth.metadata.Store(target)
		out.WriteString(v[done:start] + `"` + ownOrigin(q.in) + metadataPath + q.suffix() + `"`)
		done = end
	}
	return out.String() + v[done:]
}

// suffix is what names the upstream in a path, as the agent wrote it: nothing where it uses the alias, with a trailing slash
// where it has one.
func (q *request) suffix() string {
	var suffix string
	if !q.alias {
		suffix = "/" + q.upstream.Name
	}
	if strings.HasSuffix(q.in.URL.Path, "/") {
		suffix += "/"
	}
	return suffix
}

// resource is the URL under which the agent reaches the server, as a JSON string: without a query, which may be a secret.
func (q *request) resource() string {
	return strconv.Quote(ownOrigin(q.in) + endpointPath + q.suffix())
}

// serveMetadata answers with the upstream's protected resource metadata, `resource` replaced, or with a document of the
// daemon's own for a server that asks for signing in and has none. Clients fetch this without the headers that they are
// configured with, so the token is not asked for, unless the operator's own credentials go along.
func (h *Handler) serveMetadata(w http.ResponseWriter, r *http.Request, u *upstream, alias bool) {
	if !h.takes(w, r, http.MethodGet) || u.replacesAuthorization && !h.authorized(w, r, true) {
		return
	}
	q := h.begin(w, r, u)
	defer q.finish()
	q.alias = alias
	q.call.Query, q.call.Whole = "", true // the query is for the endpoint
	if !q.decodeHead(mcp.LaneFetch) {
		return
	}
	res, err := q.fetchMetadata(r.Context())
	if err != nil {
		q.fail(failureOf(err))
		return
	}
	defer res.Close()
	if u.RewriteOAuth {
		q.answer(q.ownDocument(res))
		return
	}
	q.answer(res)
}

// fetchMetadata asks for the document at its URLs in turn, and returns the first one there is, or what the last one answered.
// A server's failure ends the search.
func (q *request) fetchMetadata(ctx context.Context) (*mcp.Result, error) {
	var res *mcp.Result
	for _, target := range q.metadataURLs() {
		if res != nil {
			q.closeQuietly(res)
		}
		// Each try is a call of its own; the request's stays as decoded.
		c := q.call
		c.Target = target
		var err error
		if res, err = q.upstream.Caller.Call(ctx, &c); err != nil {
			return nil, err
		}
		if err = readDocument(res); err != nil {
			q.closeQuietly(res)
			return nil, err
		}
		if !isAbsent(res) {
			break
		}
	}
	return res, nil
}

// closeQuietly closes an answer that nobody gets.
func (q *request) closeQuietly(res *mcp.Result) {
	if err := res.Close(); err != nil {
		q.handler.log.Debug("closing an answer", "upstream", q.upstream.Name, "error", err)
	}
}

// metadataURLs returns where the document may lie: where the server last said, else at the well-known places with the
// endpoint's path and without it (RFC 9728, 3.1).
func (q *request) metadataURLs() []*url.URL {
	root := *q.upstream.URL
	root.Path, root.RawPath, root.RawQuery = wellKnown, "", ""
	withPath := root
	withPath.Path += strings.TrimSuffix(q.upstream.URL.Path, "/")
	withPath.RawPath = wellKnown + strings.TrimSuffix(q.upstream.URL.EscapedPath(), "/")
	var urls []*url.URL
	for _, u := range []*url.URL{q.upstream.oauth.metadata.Load(), &withPath, &root} {
		same := func(known *url.URL) bool { return known.String() == u.String() }
		if u != nil && !slices.ContainsFunc(urls, same) {
			urls = append(urls, u)
		}
	}
	return urls
}

// readDocument reads a document that came as a stream of bytes, because of its type say, up to the size that a document has.
// Its error is a *mcp.Failure.
func readDocument(res *mcp.Result) error {
	const most = 256 << 10
	raw := res.Raw
	if raw == nil || res.Status != http.StatusOK || mcp.IsEncoded(res.Header) {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(raw, most+1))
	if err != nil {
		return err
	}
	if len(body) > most {
		res.Raw = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(body), raw), raw}
		return nil
	}
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
func (q *request) ownDocument(res *mcp.Result) *mcp.Result {
	switch absent := isAbsent(res); {
	case absent && q.upstream.oauth.unauthorized.Load():
		// Its own authorization server (2025-03-26, basic/authorization). Clients would look for that at the daemon.
		return &mcp.Result{
			Status: http.StatusOK, Header: http.Header{"Content-Type": jsonType, "Cache-Control": {"no-store"}},
			Body: fmt.Appendf(nil, `{"resource":%s,"authorization_servers":[%q]}`, q.resource(), q.upstream.origin[0]),
		}
	case !absent && isWhole(res):
		q.replaceResource(res)
	}
	return res
}

// replaceResource puts the URL under which the agent reaches the server into the server's document, in place of the
// server's own; all else stays as received. Another's stays too: clients refuse it (RFC 9728, 3.3), and have to.
func (q *request) replaceResource(res *mcp.Result) {
	document := bytes.TrimPrefix(res.Body, []byte(byteOrderMark)) // clients do not see it (WHATWG, "json()")
	span, err := mcp.Member(document, "resource")
	if err != nil || !q.upstream.ownsResource(span.Of(document)) {
		return
	}
	res.Body = slices.Concat(document[:span.Start], []byte(q.resource()), document[span.End:])
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
