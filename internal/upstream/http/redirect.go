package http

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"fluentd-perf/internal/mcp"
)

const (
	maxRedirects = 3
	maxDiscard   = 4 << 10 // bytes of a redirect's body that are read so that its connection can be used again
)

// follow sends the call, and again to where 307 and 308 point within the same origin. Verb, body and header are kept
// (RFC 9110, 15.4.8 and 15.4.9). A target elsewhere would get the agent's credentials.
func (x *exchange) follow() (head, *mcp.Failure) {
	target, f := x.target()
	lasting := true // only permanent redirects so far
	for hops := 0; f == nil; hops++ {
		h, err := x.send(target)
		if err != nil {
			return head{}, x.fail(err)
		}
		location := redirection(&h)
		if location == "" {
			x.arrived(h.status)
			return h, nil
		}
		lasting = lasting && h.status == http.StatusPermanentRedirect
		target, f = x.next(target, location, hops)
		if lasting && f == nil {
			x.lasting = target
		}
	}
	return head{}, f
}

// target is where the call goes first: to its own target, else to where redirects led before, else to the endpoint.
func (x *exchange) target() (*url.URL, *mcp.Failure) {
	u := x.u
	if t := x.call.Target; t != nil {
		if !mcp.SameOrigin(t, u.opts.URL) || t.User != nil {
			return nil, x.refuse(mcp.ReasonRedirect, "the target lies outside the server", fmt.Errorf("target %q", place(t)))
		}
		return t, nil
	}
	t := u.opts.URL
	if moved := u.moved.Load(); moved != nil {
		t = moved
	}
	return withQuery(t, x.call.Query), nil
}

// withQuery returns the URL with the agent's query behind its own.
func withQuery(u *url.URL, query string) *url.URL {
	if query == "" {
		return u
	}
	if u.RawQuery != "" {
		query = u.RawQuery + "&" + query
	}
	out := *u
	out.RawQuery = query
	return &out
}

// arrived remembers where permanent redirects from the endpoint led, until what lies there is gone. A temporary one may be
// for this caller alone (RFC 9110, 15.4.8), and so may one in which the caller's query stands.
func (x *exchange) arrived(status int) {
	switch {
	case x.call.Target != nil:
	case status == http.StatusNotFound || status == http.StatusGone:
		x.u.moved.Store(nil)
	case x.lasting != nil && x.call.Query == "":
		x.u.moved.Store(x.lasting)
	}
}

// redirection returns the Location of an answer that is a redirect to follow, else "".
func redirection(h *head) string {
	if h.status != http.StatusTemporaryRedirect && h.status != http.StatusPermanentRedirect {
		return ""
	}
	return h.header.Get("Location")
}

// next lets go of a redirect's answer and returns where it points.
func (x *exchange) next(from *url.URL, location string, hops int) (*url.URL, *mcp.Failure) {
	to, err := from.Parse(location)
	switch {
	case err != nil:
		return nil, x.refuse(mcp.ReasonRedirect, "the server redirects to nowhere", errors.New("unreadable Location"))
	case !mcp.SameOrigin(to, x.u.opts.URL):
		return nil, x.refuse(mcp.ReasonRedirect, "the server redirects to another origin", fmt.Errorf("to %q", place(to)))
	case hops == maxRedirects:
		return nil, x.refuse(mcp.ReasonRedirect, "the server redirects too often", fmt.Errorf("at last to %q", place(to)))
	}
	to.User, to.Fragment, to.RawFragment = nil, "", ""
	_, _ = io.CopyN(io.Discard, x, maxDiscard) // a body that fails or is longer costs the connection, no more
	_ = x.body.Close()
	x.body = nil
	return to, nil
}

// place is a URL for the log: without user and query, which may hold a secret of the agent's.
func place(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
}
