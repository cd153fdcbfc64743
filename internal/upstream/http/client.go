package http

import (
	"context"
	"net/http"

	"github.com/hashicorp/go-retryablehttp"
)

// newClient returns go-retryablehttp with everything turned off that would send a request twice, log each try, follow
// redirects, or empty the pool whenever a call fails. What may be sent again is decided by whoever calls an Upstream: the
// budget for it is shared by all endpoints, and the next try may go to another.
func newClient() *retryablehttp.Client {
	return &retryablehttp.Client{
		HTTPClient: &http.Client{
			Transport:     carrier{},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		RetryMax:   0,
		CheckRetry: func(context.Context, *http.Response, error) (bool, error) { return false, nil },
		// Without it a failure is wrapped, with the URL in its text.
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
}

// carrier is the RoundTripper that http.Client sees. It has no CloseIdleConnections: go-retryablehttp calls that after
// each failure, and one agent that leaves would cost all others their connections.
type carrier struct{}

// RoundTrip puts the real header into the request, which is ours although a RoundTripper must not write to others', and
// hides redirects: http.Client fails on a Location that it cannot read, even where it is told not to follow it.
func (carrier) RoundTrip(r *http.Request) (*http.Response, error) {
	x := r.Context().(*exchange)
	r.Header = x.header
	resp, err := x.rt.RoundTrip(r)
	if err == nil && resp.StatusCode >= 300 && resp.StatusCode < 400 {
		x.status = resp.StatusCode
		resp.StatusCode = http.StatusOK
	}
	return resp, err
}
