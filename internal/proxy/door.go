// Package proxy is the door: the HTTP side that agents see.
//
// It checks who may come in (Host, Origin, token, sizes), decodes each request once into an mcp.Call, hands it to the
// upstream's stages, and writes what comes back: a whole answer, a stream of events, or a failure in the shape that MCP
// clients understand. It promises that an agent cannot tell it from the server but for the headers it adds, that a
// failure is never a silent close, and that everything from outside is bounded.
//
// What to do with a call (sessions, connections, retries) is the business of the stages behind mcp.Caller.
package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"

	"fluentd-perf/internal/mcp"
)

// Options are what a Door needs. Upstreams, Metrics and BodyLimit are required.
type Options struct {
	Upstreams []Upstream

	Hosts   []string // host names beside localhost and loopback addresses, without port
	Origins []string // allowed Origin values, exactly as browsers send them
	Token   string   // the daemon's own token; "" means none is asked for

	BodyLimit  int64         // bytes of a request body
	Buffered   *mcp.Budget   // of bodies and held answers together; nil means no limit
	MaxStreams int           // open GET and listen streams; 0 means no limit
	ErrorsHTTP bool          // `errors: http`: failures of requests carry their HTTP status instead of 200
	KeepAlive  time.Duration // a comment on a stream that was quiet for so long; 0 means 15 s

	Metrics        *Metrics
	MetricsHandler http.Handler // served on /metrics; nil where metrics have a listener of their own
	MetricsToken   bool         // /metrics wants the token too

	Log *slog.Logger // nil means silent
}

// While the budget is spent, small messages that are owed no answer pass beside it: a cancellation ends a call that holds
// some of it, an answer to the server lets one go on. A model's longest answer is well below smallMessage; spareBytes has
// room for 64 of those, or thousands of cancellations.
const (
	smallMessage = 64 << 10
	spareBytes   = 4 << 20
)

// Upstream is one server as the door knows it.
type Upstream struct {
	Name           string
	URL            *url.URL
	URLs           []*url.URL // all of `urls`, of which URL is the first; nil: URL alone
	Caller         mcp.Caller
	Array          mcp.Caller  // answers the arrays of /rpc/<name>; nil: there is no such path
	Headers        http.Header // set on every request, in place of the agent's of the same name
	ForwardCookies bool        // `forward_cookies`
	RewriteOAuth   bool        // `oauth: rewrite`
	OldTransport   bool        // `transport: sse`: POSTs go to /mcp/<name>/message/<id>
	Plain          bool        // `protocol: jsonrpc`: nothing is at /mcp/<name>
}

// Door is the HTTP handler of the daemon. Make one with New.
type Door struct {
	opts      Options
	log       *slog.Logger
	upstreams map[string]*upstream
	only      *upstream // the one behind the alias /mcp, if there is just one
	guard     *guard
	agents    agents
	streams   *streams
	handler   http.Handler
	ids       requestIDs
	spare     *mcp.Budget // for small messages while opts.Buffered is spent
	draining  atomic.Bool
	refusals  perSecond // keeps the log of refusals short
}

// upstream is an Upstream with what the door remembers of it.
type upstream struct {
	Upstream
	metrics  *upstreamMetrics
	calls    calls
	endpoint http.HandlerFunc // of /mcp/<name>
	origin   []string         // of URL, as the value of an Origin header
	held     map[string]bool  // names of parameters in the queries of URLs: an agent does not set them

	metadata     atomic.Pointer[url.URL] // the last resource_metadata of the upstream's own origin (see oauth.go)
	unauthorized atomic.Bool             // it has answered a call with 401
}

// New builds the door. It fails on options that contradict each other.
func New(o Options) (*Door, error) {
	if o.BodyLimit <= 0 || o.Metrics == nil {
		return nil, errors.New("proxy: BodyLimit and Metrics are required")
	}
	if o.KeepAlive == 0 {
		o.KeepAlive = 15 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d := &Door{
		opts:      o,
		log:       o.Log,
		upstreams: make(map[string]*upstream, len(o.Upstreams)),
		guard:     newGuard(o),
		streams:   newStreams(o.MaxStreams),
		ids:       newRequestIDs(),
		spare:     mcp.NewBudget(spareBytes),
	}
	for _, u := range o.Upstreams {
		if _, twice := d.upstreams[u.Name]; twice {
			return nil, fmt.Errorf("proxy: two upstreams named %q", u.Name)
		}
		own := d.newUpstream(u)
		own.endpoint = d.guarded(func(w http.ResponseWriter, r *http.Request) { d.serve(w, r, own, false) })
		d.upstreams[u.Name] = own
	}
	if len(o.Upstreams) == 1 {
		d.only = d.upstreams[o.Upstreams[0].Name]
	}
	d.handler = d.routes()
	return d, nil
}

func (d *Door) newUpstream(u Upstream) *upstream {
	if u.URLs == nil {
		u.URLs = []*url.URL{u.URL}
	}
	return &upstream{Upstream: u, calls: calls{log: d.log}, metrics: d.opts.Metrics.upstream(u.Name), origin: []string{originOf(u.URL)}, held: namesIn(u.URLs)}
}

// ServeHTTP answers one request of an agent. Nearly all go to /mcp/<name>, which needs no router: chi copies each request to
// carry its parameters, which is a fifth of what the door allocates. A trailing slash is the same path without it.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if name, ok := strings.CutPrefix(r.URL.Path, endpointPath+"/"); ok {
		if u := d.upstreams[strings.TrimSuffix(name, "/")]; u != nil {
			u.endpoint(w, r)
			return
		}
	}
	d.handler.ServeHTTP(w, r)
}

// Drain makes the door not ready and ends its GET and listen streams, without a completion result, so that agents
// reconnect elsewhere or later. A stream on which an answer or a request of the server's may come for a call in flight ends
// with that call. Calls go on, and new ones are served, each as the last one of its connection; Refuse ends that, and the
// server's base context ends at the deadline what is left.
func (d *Door) Drain() {
	d.draining.Store(true)
	d.streams.drain()
}

// Refuse answers every new call with 1503. What belongs to calls in flight (answers to the server, notifications, the end
// of a session) still gets through.
func (d *Door) Refuse() { d.streams.refusing.Store(true) }

// InFlight returns how many calls have not ended; while the door drains, streams that are left open for calls count too.
func (d *Door) InFlight() int { return d.streams.inFlight() }

// Unowed returns how much is relayed now that is owed no answer: notifications, answers to the server, ends of sessions. While
// no call is in flight, nobody waits for it.
func (d *Door) Unowed() int { return int(d.streams.unowed.Load()) }

const (
	metadataPath = "/.well-known/oauth-protected-resource/mcp"
	endpointPath = "/mcp"
)

func (d *Door) routes() http.Handler {
	r := chi.NewRouter()
	for _, verb := range []string{http.MethodGet, http.MethodHead} {
		r.MethodFunc(verb, "/healthz", d.healthz)
		r.MethodFunc(verb, "/readyz", d.readyz)
		if d.opts.MetricsHandler != nil {
			r.Method(verb, "/metrics", d.guarded(d.serveMetrics))
		}
	}
	for _, slash := range []string{"", "/"} {
		r.Handle(endpointPath+slash, d.guarded(d.serveAlias))
		r.Handle(endpointPath+"/{name}/message/{id}"+slash, d.guarded(d.serveMessage))
		r.Handle(rpcPath+"/{name}"+slash, d.guarded(d.serveRPC))
		r.Handle(metadataPath+slash, d.guarded(d.serveAliasMetadata))
		r.Handle(metadataPath+"/{name}"+slash, d.guarded(d.serveMetadata))
	}
	r.NotFound(d.guarded(d.notFound))
	r.MethodNotAllowed(d.guarded(d.notAllowed))
	return r
}

func (d *Door) healthz(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") }

func (d *Door) readyz(w http.ResponseWriter, _ *http.Request) {
	if d.draining.Load() {
		plain(w, http.StatusServiceUnavailable, "draining")
		return
	}
	plain(w, http.StatusOK, "ready")
}

func (d *Door) serveMetrics(w http.ResponseWriter, r *http.Request) {
	h := d.opts.MetricsHandler
	if d.opts.MetricsToken {
		h = d.WithToken(h)
	}
	h.ServeHTTP(w, r)
}

// Guarded lets only requests through to next that name this daemon as their Host and come from no foreign page.
func (d *Door) Guarded(next http.Handler) http.Handler { return d.guarded(next.ServeHTTP) }

// WithToken lets only requests with the daemon's token through to next: in its own headers, or as `Authorization:
// Bearer`, which scrapers can send.
func (d *Door) WithToken(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !d.guard.hasToken(r, true) {
			d.refuse(w, r, refusedToken)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func (d *Door) serveAlias(w http.ResponseWriter, r *http.Request) {
	if d.only == nil {
		d.notFound(w, r)
		return
	}
	d.serve(w, r, d.only, true)
}

// serveMessage takes the POSTs of the HTTP+SSE transport (2024-11-05, basic/transports): the path is the one that the
// stage wrote into the stream's endpoint event.
func (d *Door) serveMessage(w http.ResponseWriter, r *http.Request) {
	u, ok := d.upstreams[chi.URLParam(r, "name")]
	if !ok || !u.OldTransport {
		d.notFound(w, r)
		return
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", "POST")
		plain(w, http.StatusMethodNotAllowed, "only POST here")
		return
	}
	x := d.begin(w, r, u)
	x.call.Endpoint = chi.URLParam(r, "id")
	x.post()
}

func (d *Door) serve(w http.ResponseWriter, r *http.Request, u *upstream, alias bool) {
	if u.Plain {
		d.opts.Metrics.refused[refusedPath].Inc()
		plain(w, http.StatusNotFound, fmt.Sprintf("upstream %q speaks plain JSON-RPC: use %s/%s", u.Name, rpcPath, u.Name))
		return
	}
	switch r.Method {
	case http.MethodPost, http.MethodGet, http.MethodDelete:
	default:
		w.Header().Set("Allow", "GET, POST, DELETE")
		d.opts.Metrics.refused[refusedVerb].Inc()
		plain(w, http.StatusMethodNotAllowed, "use GET, POST or DELETE")
		return
	}
	x := d.begin(w, r, u)
	x.alias = alias
	switch r.Method {
	case http.MethodPost:
		x.post()
	case http.MethodGet:
		x.get()
	default:
		x.end()
	}
}

func (d *Door) notFound(w http.ResponseWriter, r *http.Request) {
	d.opts.Metrics.refused[refusedPath].Inc()
	text := "nothing here: MCP servers are at /mcp/<name>, arrays of calls go to /rpc/<name>"
	name, ok := strings.CutPrefix(strings.TrimSuffix(r.URL.Path, "/"), endpointPath)
	switch {
	case ok && name == "" && d.only == nil:
		text = "there are several upstreams: use /mcp/<name>"
	case ok && len(name) > 1 && strings.LastIndexByte(name, '/') == 0:
		text = fmt.Sprintf("no upstream named %q is configured", name[1:])
	}
	plain(w, http.StatusNotFound, text)
}

func (d *Door) notAllowed(w http.ResponseWriter, _ *http.Request) {
	d.opts.Metrics.refused[refusedVerb].Inc()
	w.Header().Set("Allow", "GET, HEAD") // all paths with another set of methods answer for themselves
	plain(w, http.StatusMethodNotAllowed, "this path does not take that method")
}

// plain writes a one-line text answer in the daemon's own name.
func plain(w http.ResponseWriter, status int, text string) {
	body := "fluentd-perf: " + text + "\n"
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Del("Content-Length")
	w.WriteHeader(status)
	// An agent that has left reads nothing; there is nobody to tell.
	_, _ = w.Write([]byte(body))
}

// failureOf returns err as the *mcp.Failure that every stage returns; anything else is a bug in a stage.
func failureOf(err error) *mcp.Failure {
	var f *mcp.Failure
	if errors.As(err, &f) {
		return f
	}
	if errors.Is(err, context.Canceled) {
		return &mcp.Failure{Reason: mcp.ReasonCanceled, Sent: mcp.SentUnknown, Cause: err}
	}
	panic(fmt.Sprintf("proxy: a stage returned a %T that is no *mcp.Failure: %v (this is a bug)", err, err))
}
