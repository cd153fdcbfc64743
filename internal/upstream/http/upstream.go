// Package http calls one MCP server over HTTP. Whoever imports it beside net/http names it upstreamhttp.
//
// An Upstream is a mcp.Caller. It sends a call over pooled connections and hands back what the server answered: a whole
// body, a stream of events, or bytes that pass as they come. A whole answer in JSON, and each event of a stream that answers
// a request, has been scanned once; what it finds is noted, and nothing is refused for it.
//
// It promises:
//   - at most Pool.MaxConnections connections for calls, and no call without one of Connections;
//   - streams without end (GET, subscriptions/listen) have connections of their own and take none that calls need;
//   - a request is sent once, but that another connection is taken where one turns out dead before a byte was
//     written, and that redirects are followed; every Failure says truthfully whether the server may have seen the request;
//   - every wait is bounded by Timeouts, those of streams without end excepted, a timeout's Failure says whether the server
//     was silent to everybody (Silent), that of a caller who leaves also for how long (Waited), and a cancelled call closes the server's side at once.
//
// It leaves to others: who may call and how often, retries, what a stream that ends without the
// answer means to the agent, and which header fields go on (Call.Header is sent as it is, see Call).
package http

import (
	"cmp"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// PoolOptions bounds the connections of one upstream. All are required. What Connections lets go beside those for calls has
// connections of its own, and so have streams without end, which are not bounded.
type PoolOptions struct {
	MaxConnections int           // connections for calls
	MaxIdle        int           // of those kept while nobody uses them, MaxConnections at most: fewer dial anew in every burst above them
	IdleTimeout    time.Duration // how long an unused connection is kept
	MaxAge         time.Duration // from which on a connection is used for no other call; what is under way on it stays
}

// Timeouts bounds the waits of one call. All are required. See limitsOf for which holds when.
type Timeouts struct {
	Connect   time.Duration // to a connection: resolve, TCP, TLS
	Handshake time.Duration // from there to the head of the answer of initialize, server/discover and ping
	FirstByte time.Duration // the same of other methods
	Call      time.Duration // a whole body or one event; all waits of a call that takes its time
	Idle      time.Duration // between two reads of a body or stream
}

// Options says which server, and how it is called. The configuration has checked them, and has the defaults.
type Options struct {
	Name     string   // the upstream's configured name: a label of metrics
	URL      *url.URL // the endpoint, http or https, without user and fragment
	Pool     PoolOptions
	Timeouts Timeouts

	Connections Connections

	CheckBody  int64 // largest answer that is held and checked, in bytes; at most 1 GiB, as is EventLimit
	EventLimit int64 // largest event, in bytes

	// What follows is not required.
	Buffered *mcp.Budget      // of bodies and held answers together; nil: no limit
	Buffers  *mcp.BufferPool  // nil: one of its own
	Metrics  *Metrics         // nil: not observed
	Times    *mcp.RecentTimes // gets how long answers take; nil: nobody wants to know
	Log      *slog.Logger     // nil: silent

	PoolLabel string // of the metrics of its connections, where Name is not to be that
	Compat    bool   // over http.Transport and not over internal/http1: see newClient

	changed func(t *http.Transport, long bool) transport // of tests with Compat: what carries the requests; nil: t
	dials   func(dial dialFunc, long bool) dialFunc      // of tests: what opens connections; nil: dial
	tls     *tls.Config                                  // of tests; nil: the defaults
}

type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// Upstream is one server. It is safe for concurrent use.
type Upstream struct {
	opts Options

	pool     *pool
	meters   meters
	progress atomic.Uint64 // how often bytes of an answer have come, of whichever call or stream

	moved   atomic.Pointer[url.URL] // where redirects from the endpoint led, nil where there were none
	cancels cancels
	waiting waiting
}

// New returns an Upstream. It connects to nothing yet. It panics if a required option is missing.
func New(o Options) *Upstream {
	if o.Name == "" || o.URL == nil || o.Connections == nil || o.Pool == (PoolOptions{}) || o.Timeouts == (Timeouts{}) ||
		o.CheckBody == 0 || o.EventLimit == 0 {
		panic("upstream/http: an option is missing (this is a bug)")
	}
	o.Buffers = cmp.Or(o.Buffers, new(mcp.BufferPool))
	o.Metrics = cmp.Or(o.Metrics, NewMetrics(nil))
	o.Times = cmp.Or(o.Times, new(mcp.RecentTimes))
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	u := &Upstream{
		opts:    o,
		pool:    &pool{client: newClient(&o)},
		cancels: cancels{places: make(chan struct{}, maxCancels)},
	}
	o.Metrics.attach(o.Name, cmp.Or(o.PoolLabel, o.Name), u.pool, &u.meters)
	return u
}

// Call sends the call and returns the server's answer, whatever its status, or a *mcp.Failure and no other error.
//
// The call's header goes out as it is, with Accept-Encoding: identity. Where Compat is set, net/http may still read Body and
// Header when Call has returned (see mcp.Call).
//
// A ctx that is cancelled with a *mcp.Failure as its cause fails the call with that failure, Sent made true to the facts;
// any other end of ctx is ReasonCanceled, with code 0.
func (u *Upstream) Call(ctx context.Context, c *mcp.Call) (*mcp.Result, error) {
	x := newExchange(ctx, u, c)
	if f := x.enter(); f != nil {
		return nil, f
	}
	h, f := x.follow()
	if f != nil {
		return nil, f
	}
	res, f := x.answer(&h)
	if f != nil {
		return nil, f
	}
	return res, nil
}

// Status says where the server is: its host, because all else of a URL may be a secret.
func (u *Upstream) Status() string { return u.opts.URL.Host }

// Identity is the URL of the endpoint, secrets included.
func (u *Upstream) Identity() string { return u.opts.URL.String() }

// Close closes the connections that nobody uses, and every other as it is let go, and waits for what runs in the
// background: five seconds at most. It ends no call: the caller's contexts do. A call after Close is still answered.
func (u *Upstream) Close() {
	u.cancels.stop()
	u.pool.client.close()
	u.opts.Metrics.detach(u.pool)
}
