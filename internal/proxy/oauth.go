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

	"fluentd-perf/internal/http1/header"
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
	for i := range res.Header {
		if f := &res.Header[i]; header.EqualNames(f.Name, "Www-Authenticate") {
			f.Value = q.ownMetadata(f.Value)
		}
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
		out.WriteString(v[done:start] + `"` + q.agentsURL(metadataPath) + `"`)
		done = end
	}
	return out.String() + v[done:]
}

// agentsURL returns the URL of a path under which the agent reaches the daemon, with what names the upstream as the agent wrote
// it: nothing where it uses the alias, a trailing slash where it has one. It has no query, which may be a secret.
func (q *request) agentsURL(path string) string {
	u := ownOrigin(q.in) + path
	if !isAlias(q.in) {
		u += "/" + q.upstream.Name
	}
	if strings.HasSuffix(q.in.URL.Path, "/") {
		u += "/"
	}
	return u
}

// resource is the URL under which the agent reaches the server, as a JSON string.
func (q *request) resource() string { return strconv.Quote(q.agentsURL(endpointPath)) }

// metadata answers with the upstream's protected resource metadata, `resource` replaced, or with a document of the daemon's own
// for a server that asks for signing in and has none.
func (q *request) metadata() {
	q.call.Query, q.call.Whole = "", true // the query is for the endpoint
	if !q.decodeHead(mcp.LaneFetch) {
		return
	}
	res, found, err := q.fetchMetadata(q.in.Context())
	if err != nil {
		q.fail(mcp.AsFailure(err))
		return
	}
	defer res.Close()
	switch rewrite := q.upstream.RewriteOAuth; {
	case rewrite && found == isDocument:
		q.replaceResource(res)
	case rewrite && found == isAbsent && q.upstream.oauth.unauthorized.Load():
		// Its own authorization server (2025-03-26, basic/authorization). Clients would look for that at the daemon.
		q.answer(&mcp.Result{
			Status: http.StatusOK, Header: header.List{{Name: "Content-Type", Value: jsonType[0]}, {Name: "Cache-Control", Value: "no-store"}},
			Body: fmt.Appendf(nil, `{"resource":%s,"authorization_servers":[%q]}`, q.resource(), q.upstream.origin),
		})
		return
	}
	q.answer(res)
}

// fetchMetadata asks for the document at its URLs in turn, and returns the first one there is, or what the last one answered.
// A server's failure ends the search.
func (q *request) fetchMetadata(ctx context.Context) (res *mcp.Result, found presence, err error) {
	for _, target := range q.metadataURLs() {
		if res != nil {
			_ = res.Close() // nobody gets it
		}
		// Each try is a call of its own; the request's stays as decoded.
		c := q.call
		c.Target = target
		if res, err = q.upstream.Caller.Call(ctx, &c); err != nil {
			return nil, 0, err
		}
		if found, err = readDocument(res); err != nil {
			_ = res.Close()
			return nil, 0, err
		}
		if found != isAbsent {
			break
		}
	}
	return res, found, nil
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

// presence says what a server's answer is that was asked for its metadata.
type presence int

const (
	isUnknown  presence = iota // it passes as it is
	isDocument                 // protected resource metadata, in Body
	isAbsent                   // it has none
)

// readDocument finds out what an answer is, and reads a document that came as a stream of bytes, because of its type say, up to the
// size that a document has. Clients take every 4xx for none, and a page, which some servers have at each path. The error is a
// *mcp.Failure.
func readDocument(res *mcp.Result) (presence, error) {
	const limit = 256 << 10
	switch {
	case res.Status >= 400 && res.Status < 500 && res.Status != http.StatusTooManyRequests:
		return isAbsent, nil
	case res.Status != http.StatusOK || res.Events != nil || mcp.IsEncoded(res.Header):
		return isUnknown, nil
	}
	if raw := res.Raw; raw != nil {
		body, err := io.ReadAll(io.LimitReader(raw, limit+1))
		if err != nil {
			return isUnknown, err
		}
		if len(body) > limit {
			res.Raw = struct {
				io.Reader
				io.Closer
			}{io.MultiReader(bytes.NewReader(body), raw), raw}
			return isUnknown, nil
		}
		res.Raw, res.Body = nil, body
		_ = raw.Close() // all of it has been read
	}
	// `resource` is all that has to be there (RFC 9728, 2).
	var document struct{ Resource *string }
	if json.Unmarshal(bytes.TrimPrefix(res.Body, byteOrderMark), &document) != nil || document.Resource == nil {
		return isAbsent, nil
	}
	return isDocument, nil
}

// byteOrderMark is not seen by clients (WHATWG, "json()").
var byteOrderMark = []byte("\ufeff")

// replaceResource puts the URL under which the agent reaches the server into the server's document, in place of the
// server's own; all else stays as received. Another's stays too: clients refuse it (RFC 9728, 3.3), and have to.
func (q *request) replaceResource(res *mcp.Result) {
	document := bytes.TrimPrefix(res.Body, byteOrderMark)
	span, err := mcp.Member(document, "resource")
	if err != nil || !q.upstream.ownsResource(span.Of(document)) {
		return
	}
	res.Body = slices.Concat(document[:span.Start], []byte(q.resource()), document[span.End:])
	res.Header.Del("Content-Length")
	res.Header.Del("Etag")
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
