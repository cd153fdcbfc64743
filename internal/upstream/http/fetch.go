package http

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"fluentd-perf/internal/mcp"
)

// Documents beside an endpoint are carried by go-retryablehttp, which asks for them again where that may help. Each sending goes as any
// call does, over the client that newClient has chosen; no agent's call of a method comes by here. The daemon's own probes do not either:
// dispatch sends those again, with its budget and its breakers, and a ping is to be one.
const (
	maxRefetches = 2
	refetchAfter = 100 * time.Millisecond // the first time, then ever later
	refetchMost  = time.Second
)

var fetches = &retryablehttp.Client{
	HTTPClient: &http.Client{
		Transport:     fetcher{},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	},
	RetryMax: maxRefetches, RetryWaitMin: refetchAfter, RetryWaitMax: refetchMost,
	CheckRetry: fetchAgain,
	Backoff: func(least, most time.Duration, tries int, _ *http.Response) time.Duration {
		return min(least<<tries, most) // whatever a Retry-After says: somebody waits
	},
	ErrorHandler: retryablehttp.PassthroughErrorHandler, // without it a failure is wrapped, with the URL in its text
}

// fetched reports whether a call is for a document.
func fetched(c *mcp.Call) bool { return c.Lane == mcp.LaneFetch }

// fetchAgain reports whether something is fetched once more. A timeout has taken long enough, and a certificate will be no better.
func fetchAgain(ctx context.Context, resp *http.Response, err error) (bool, error) {
	x := ctx.(*exchange)
	switch {
	case x.Err() != nil || timedOut(err):
		return false, nil
	case err != nil:
		_, expired := errors.AsType[*expired](err)
		_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
		return !expired && !untrusted, nil
	}
	switch resp.StatusCode {
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true, nil
	}
	return false, nil
}

// fetch sends a call of the daemon's own until that has come to something, and returns the head of the last answer.
func (x *exchange) fetch(target *url.URL) (head, error) {
	f := &fetching{target: target}
	x.fetching = f
	r := &http.Request{Method: x.call.Lane.Verb(), URL: target, Header: http.Header{}}
	if _, err := fetches.Do(&retryablehttp.Request{Request: r.WithContext(x)}); err != nil {
		if client, ok := errors.AsType[*url.Error](err); ok {
			err = client.Err // without the URL: its query may hold a secret
		}
		return head{}, err
	}
	return f.head, nil // whose body is the exchange's
}

// fetching is what an exchange has more while something is fetched.
type fetching struct {
	target *url.URL
	head   head // of the last answer
}

// fetcher is the RoundTripper that go-retryablehttp sees. It has no CloseIdleConnections, which that calls after each failure: one
// document that is not there would cost all calls their connections.
type fetcher struct{}

// RoundTrip implements http.RoundTripper. It hides redirects: http.Client fails on a Location that it cannot read, even where it is told
// not to follow it.
func (fetcher) RoundTrip(r *http.Request) (*http.Response, error) {
	x := r.Context().(*exchange)
	h, err := x.sendOnce(x.fetching.target)
	if err != nil {
		return nil, err
	}
	x.fetching.head = h
	resp := &http.Response{StatusCode: h.status, Header: http.Header{}, Body: fetchedBody{x}, Request: r}
	if h.status >= 300 && h.status < 400 {
		resp.StatusCode = http.StatusOK
	}
	return resp, nil
}

// fetchedBody is what is read of an answer that is thrown away.
type fetchedBody struct{ x *exchange }

func (b fetchedBody) Read(p []byte) (int, error) { return b.x.Read(p) }
func (b fetchedBody) Close() error               { return b.x.body.Close() }
