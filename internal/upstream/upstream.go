// Package upstream calls one MCP server over HTTP.
//
// An Upstream is a mcp.Caller. It sends a call over pooled connections and hands back what the server answered: a whole
// body, a stream of events, or bytes that pass as they come. A whole answer in JSON, and each event of a stream that answers
// a request, has been scanned once; what it finds is noted, and nothing is refused for it.
//
// It promises:
//   - at most Pool.MaxConnections connections for calls, and no call without one of Connections;
//   - streams without end (GET, subscriptions/listen) have connections of their own and take none that calls need;
//   - a request is sent once, but that net/http takes another connection where one turns out dead before a byte was
//     written, and that redirects are followed; every Failure says truthfully whether the server may have seen the request;
//   - every wait is bounded by Timeouts, those of streams without end excepted, a timeout's Failure says whether the server
//     was silent to everybody (Silent), that of a caller who leaves also for how long (Waited), and a cancelled call closes the server's side at once.
//
// It leaves to others: who may call and how often, retries, what a stream that ends without the
// answer means to the agent, and which header fields go on (Call.Header is sent as it is, see Call).
package upstream

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-retryablehttp"

	"fluentd-perf/internal/mcp"
)

// PoolOptions bounds the connections of one upstream. A zero field stands for its default. What Connections lets go beside
// those for calls has connections of its own, and so have streams without end, which are not bounded.
type PoolOptions struct {
	MaxConnections int           // connections for calls, 256
	MaxIdle        int           // of those kept while nobody uses them, MaxConnections
	IdleTimeout    time.Duration // how long an unused connection is kept, 90 s
	MaxAge         time.Duration // from which on a connection is used for no other call, 5 min; what is under way on it stays
}

// Timeouts bounds the waits of one call. A zero field stands for its default. See limitsOf for which holds when.
type Timeouts struct {
	Connect   time.Duration // to a connection: resolve, TCP, TLS; 5 s
	Handshake time.Duration // from there to the head of the answer of initialize, server/discover and ping, 55 s
	FirstByte time.Duration // the same of other methods, 55 s
	Call      time.Duration // a whole body or one event; all waits of a call that takes its time; 30 min
	Idle      time.Duration // between two reads of a body or stream, 5 min
}

// Options says which server, and how it is called. Name and URL are required.
type Options struct {
	Name     string   // the upstream's configured name: a label of metrics
	URL      *url.URL // the endpoint, http or https, without user and fragment
	Pool     PoolOptions
	Timeouts Timeouts

	Connections Connections // nil: calls beyond Pool.MaxConnections wait in connecting

	CheckBody  int64            // largest answer that is held and checked, in bytes; 0: 4 MiB
	EventLimit int64            // largest event, in bytes; 0: 16 MiB
	Buffered   *mcp.Budget      // of bodies and held answers together; nil: no limit
	Buffers    *mcp.BufferPool  // nil: one of its own
	Metrics    *Metrics         // nil: not observed
	Times      *mcp.RecentTimes // gets how long answers take; nil: nobody wants to know
	Log        *slog.Logger     // nil: silent

	// RoundTripper makes what carries the requests, once for calls and once for streams without end; nil: NewTransport.
	// See TransportOptions for what it has to do.
	RoundTripper func(TransportOptions) http.RoundTripper
}

// Upstream is one server. It is safe for concurrent use.
type Upstream struct {
	opts    Options
	buffers *mcp.BufferPool
	log     *slog.Logger

	client *retryablehttp.Client
	calls  http.RoundTripper
	long   http.RoundTripper
	pool   *pool
	meters meters
	heard  atomic.Uint64 // how often bytes of an answer have come, of whichever call or stream

	moved   atomic.Pointer[url.URL] // where redirects from the endpoint led, nil where there were none
	cancels cancels
	waiting waiting
}

// New returns an Upstream. It connects to nothing yet. The error names the option that cannot be.
func New(o Options) (*Upstream, error) {
	if err := o.complete(); err != nil {
		return nil, fmt.Errorf("upstream %q: %w", o.Name, err)
	}
	u := &Upstream{
		opts:    o,
		buffers: o.Buffers,
		log:     o.Log,
		pool:    newPool(&o.Pool),
	}
	u.client = newClient()
	u.calls = o.RoundTripper(u.transportOptions(false))
	u.long = o.RoundTripper(u.transportOptions(true))
	u.meters = o.Metrics.attach(o.Name, u.pool)
	return u, nil
}

// Call sends the call and returns the server's answer, whatever its status, or a *mcp.Failure and no other error.
//
// The call's header goes out as it is, with Accept-Encoding: identity. It is not copied if it already says so, has a
// User-Agent key (nil for none: net/http would else put in its own) and no Expect or Idempotency-Key. The transport may
// read Body and Header until the answer has ended: whoever made the call must not use their memory again.
//
// A ctx that is cancelled with a *mcp.Failure as its cause fails the call with that failure, Sent made true to the facts;
// any other end of ctx is ReasonCanceled, with code 0.
func (u *Upstream) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	x := newExchange(ctx, u, c)
	if f := x.enter(); f != nil {
		return nil, f
	}
	resp, f := x.follow()
	if f != nil {
		return nil, f
	}
	res, f := x.answer(resp)
	if f != nil {
		return nil, f
	}
	return res, nil
}

// Close closes the connections that nobody uses, and every other as it is let go, and waits for what runs in the
// background: five seconds at most. It ends no call: the caller's contexts do. A call after Close is still answered.
func (u *Upstream) Close() {
	u.cancels.stop()
	for _, rt := range []http.RoundTripper{u.calls, u.long} {
		if c, ok := rt.(interface{ CloseIdleConnections() }); ok {
			c.CloseIdleConnections()
		}
	}
	u.opts.Metrics.detach(u.pool)
}
