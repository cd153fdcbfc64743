package breaker

import (
	"log/slog"
	"time"
)

// When an endpoint's breaker opens for want of a listener, and when it is tried again.
const (
	refusedInARow = 2 // connections, without a success between
	firstProbe    = time.Second
	longestWait   = 30 * time.Second // between probes
	probeTimeout  = 10 * time.Second // how long a probe may go without a report before the breaker waits again
)

// EndpointOptions are those of an endpoint's breaker. All but Metrics and Log are required.
type EndpointOptions struct {
	Upstream string // the upstream's configured name, a label of metrics
	Endpoint string // which of its URLs, "0" for the first, a label of metrics

	Window       time.Duration // for FailureRatio
	MinRequests  int           // that ended within Window, for FailureRatio to count
	FailureRatio float64       // of the requests that ended within Window, from which on it opens, at most 1
	InARow       int           // failures without a success between, however old, from which on it opens

	Metrics *Metrics     // nil: not shown
	Log     *slog.Logger // nil: silent; it is written to under the breaker's lock, and must not block
}

// NewEndpoint returns the closed breaker of one endpoint of an upstream. It panics without a required option, or with one that
// cannot be.
//
// It opens on too large a part of failures, on too many in a row, and on two refused connections in a row. Open, it lets
// one call at a time through, first after a second; each that fails, or is not over within ten seconds, doubles the wait for
// the next, up to 30 s, but for early calls. One that succeeds closes it, however late, unless one that was let through after
// it has failed.
func NewEndpoint(o EndpointOptions) *Breaker {
	if o.Upstream == "" || o.Endpoint == "" || o.Window <= 0 || o.MinRequests <= 0 || o.InARow <= 0 ||
		!(o.FailureRatio > 0 && o.FailureRatio <= 1) {
		panic("breaker: an endpoint without a name, or with an option that cannot be (this is a bug)")
	}
	return newBreaker(endpoints, rules{
		window: o.Window, minReports: o.MinRequests, ratio: o.FailureRatio, inARow: o.InARow, refused: refusedInARow,
		first: firstProbe, longest: longestWait,
	}, o.Metrics, o.Log, o.Upstream, o.Endpoint)
}
