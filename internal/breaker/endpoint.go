package breaker

import (
	"cmp"
	"log/slog"
	"time"
)

// When an endpoint's breaker opens for want of a listener, and when it is tried again.
const (
	refusedInARow = 2 // connections, without a success between
	firstProbe    = time.Second
	longestWait   = 30 * time.Second // between probes
)

// EndpointOptions are those of an endpoint's breaker. Upstream and Endpoint are required; any other zero stands for its
// default.
type EndpointOptions struct {
	Upstream string // the upstream's configured name, a label of metrics
	Endpoint string // which of its URLs, "0" for the first, a label of metrics

	Window       time.Duration // for FailureRatio, 10 s
	MinRequests  int           // that ended within Window, for FailureRatio to count, 20
	FailureRatio float64       // of the requests that ended within Window, from which on it opens, 0.5
	InARow       int           // failures without a success between, however old, from which on it opens, 3

	ProbeTimeout time.Duration // how long probes may go without a report before the breaker waits again, 10 s
	Metrics      *Metrics      // nil: not shown
	Log          *slog.Logger  // nil: silent
}

// NewEndpoint returns the closed breaker of one endpoint of an upstream. It panics without names, or with an option below
// zero or a ratio above 1.
//
// It opens on too large a part of failures, on too many in a row, and on two refused connections in a row. Open, it lets
// one call at a time through, first after a second; each that fails, or is not over within ProbeTimeout, doubles the wait for
// the next, up to 30 s, but for early calls. One that succeeds closes it, however late, unless one that was let through after
// it has failed.
func NewEndpoint(o EndpointOptions) *Breaker {
	if o.Upstream == "" || o.Endpoint == "" || min(o.Window, o.ProbeTimeout) < 0 || min(o.MinRequests, o.InARow) < 0 ||
		!(o.FailureRatio >= 0 && o.FailureRatio <= 1) {
		panic("breaker: an endpoint without a name, or with an option that cannot be (this is a bug)")
	}
	gauge := cmp.Or(o.Metrics, newMetrics()).endpoints.WithLabelValues(o.Upstream, o.Endpoint)
	log := cmp.Or(o.Log, silent).With(slog.String("upstream", o.Upstream), slog.String("endpoint", o.Endpoint))
	return newBreaker(rules{
		window: cmp.Or(o.Window, window), minReports: cmp.Or(o.MinRequests, minReports),
		ratio: cmp.Or(o.FailureRatio, failureRatio), inARow: cmp.Or(o.InARow, inARow), refused: refusedInARow,
		first: firstProbe, longest: longestWait, probe: cmp.Or(o.ProbeTimeout, 10*time.Second),
	}, announcer(gauge, log, words{
		works: "a server works again",
		fails: "a server fails and is left alone; it is tried again from time to time",
		tried: "a server is tried again",
	}))
}
