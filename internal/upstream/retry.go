package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/hashicorp/go-retryablehttp"
)

const (
	resends    = 2                     // at most, after the first try
	resendWait = 50 * time.Millisecond // at most before the first, twice as long before the next
)

// newClient returns go-retryablehttp with everything turned off that would send a request twice which may have been
// seen, log each try, follow redirects, or empty the pool whenever a call fails.
func newClient() *retryablehttp.Client {
	return &retryablehttp.Client{
		HTTPClient: &http.Client{
			Transport:     carrier{},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		RetryMax:     resends,
		RetryWaitMin: resendWait,
		CheckRetry:   checkRetry,
		Backoff:      backoff,
		// Without it a last failure is wrapped, with the URL in its text.
		ErrorHandler: retryablehttp.PassthroughErrorHandler,
	}
}

// checkRetry allows another try only if no connection was had: resolving, connecting or TLS failed. It stops at a
// certificate that does not verify, which the next try would see again, and at the end of ctx.
func checkRetry(ctx context.Context, _ *http.Response, err error) (bool, error) {
	if err == nil {
		return false, nil
	}
	x := ctx.(*exchange)
	x.watch.off()
	var bad *tls.CertificateVerificationError
	again := !x.facts.conn && !x.call.Lane.Long() && ctx.Err() == nil && !errors.As(err, &bad)
	return again, nil
}

// backoff is full jitter: anything up to a bound that doubles. go-retryablehttp ends the wait when the context ends.
func backoff(first, _ time.Duration, tries int, _ *http.Response) time.Duration {
	return rand.N(first << tries)
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
