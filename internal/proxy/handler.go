// Package proxy is the agents' side of the daemon: the HTTP handler behind the listener.
//
// It checks who may connect (Host, Origin, token, sizes), decodes each request once into an mcp.Call, hands it to the
// upstream's stages, and writes what comes back: a whole answer, a stream of events, or a failure in the shape that MCP
// clients understand. It promises that an agent sees no difference from the server but the headers that it adds, that a
// failure is never a silent close, and that everything from outside is bounded.
//
// What to do with a call (sessions, connections, retries) is the business of the stages behind mcp.Caller.
package proxy

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"golang.org/x/time/rate"

	"fluentd-perf/internal/mcp"
)

// Options are what a Handler needs. Metrics and BodyLimit are required.
type Options struct {
	Upstreams []Route // the first ones: Swap replaces them

	Hosts   []string // host names beside localhost and loopback addresses, without port
	Origins []string // allowed Origin values, exactly as browsers send them
	Token   string   // the daemon's own token; "" means none is asked for

	BodyLimit  int64       // bytes of a request body
	Buffered   *mcp.Budget // of bodies and held answers together; nil means no limit
	MaxStreams int         // open GET and listen streams; 0 means no limit
	ErrorsHTTP bool        // `errors: http`: failures of requests carry their HTTP status instead of 200

	Metrics        *Metrics
	MetricsHandler http.Handler // served on /metrics; nil where metrics have a listener of their own
	MetricsToken   bool         // /metrics wants the token too

	// Partition names who makes a call, which is then complete: it is asked once for each. nil: whoever wants to know it finds out.
	Partition func(*mcp.Call) [32]byte

	// Peer tells which user of this machine sent a request; an error where that cannot be told. It is asked for requests to
	// upstreams with PrivateTo alone. nil: it can never be told.
	Peer func(*http.Request) (uid uint32, err error)

	Log *slog.Logger // nil means silent
}

// Handler is the HTTP handler of the daemon. Make one with New.
type Handler struct {
	opts        Options
	guard       *guard
	routes      http.Handler
	upstreams   atomic.Pointer[upstreams] // never nil; what serves a request is of one Load
	swapping    sync.Mutex                // held by Swap
	agents      agents
	inFlight    *inFlight
	idPrefix    string        // of requests' ids: another with each start
	lastID      atomic.Uint64 // of a request
	smallBodies *mcp.Budget   // for small messages while opts.Buffered is spent
	draining    atomic.Bool
	refusals    rate.Sometimes // keeps the log of refusals short
	strangers   rate.Sometimes // and that of users whom an upstream is not for
}

// New builds the handler. It fails on options that contradict each other.
func New(o Options) (*Handler, error) {
	if o.BodyLimit <= 0 || o.Metrics == nil {
		return nil, errors.New("proxy: BodyLimit and Metrics are required")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	first := o.Upstreams
	o.Upstreams = nil // they are the set's from here on, and go with it
	h := &Handler{
		opts: o, guard: newGuard(o), inFlight: newInFlight(&o), refusals: rate.Sometimes{Interval: time.Second}, strangers: rate.Sometimes{Interval: time.Minute},
		idPrefix: strings.ToLower(rand.Text()[:8]) + "-", smallBodies: mcp.NewBudget(smallBodiesTotal),
	}
	h.upstreams.Store(new(upstreams))
	if err := h.Swap(first); err != nil {
		return nil, err
	}
	h.routes = h.newRoutes()
	return h, nil
}

// ServeHTTP answers one request of an agent. Nearly all go to /mcp/<name>, which needs no router: chi copies each request to
// carry its parameters, which is a fifth of what the handler allocates. A trailing slash is the same path without it.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if name, ok := strings.CutPrefix(r.URL.Path, endpointPath+"/"); ok {
		name = strings.TrimSuffix(name, "/")
		if u := h.take(func(set *upstreams) *upstream { return set.byName[name] }); u != nil {
			defer u.leave()
			if h.allowed(w, r) {
				h.serve(w, r, u, &endpoint)
			}
			return
		}
	}
	h.routes.ServeHTTP(w, r)
}

// Drain makes the handler not ready and ends its GET and listen streams, without a completion result, so that agents
// reconnect elsewhere or later. A stream on which an answer or a request of the server's may come for a call in flight ends
// with that call. Calls go on, and new ones are served, each as the last one of its connection; Refuse ends that, and the
// server's base context ends at the deadline what is left.
func (h *Handler) Drain() {
	h.draining.Store(true)
	h.inFlight.drain()
}

// Refuse answers every new call with 1503. What belongs to calls in flight (answers to the server, notifications, the end
// of a session) still gets through.
func (h *Handler) Refuse() { h.inFlight.refuse() }

// InFlight returns how many calls have not ended; while the handler drains, streams that are left open for calls count too.
func (h *Handler) InFlight() int {
	calls, _ := h.inFlight.count()
	return calls
}

// OneWay returns how many messages are relayed now that get no answer: notifications, answers to the server, ends of
// sessions. While no call is in flight, nobody waits for them.
func (h *Handler) OneWay() int {
	_, oneWay := h.inFlight.count()
	return oneWay
}

const (
	endpointPath = "/mcp"
	rpcPath      = "/rpc" // where clients send arrays of requests, for any upstream (docs/rpc.md)
)

// route is a kind of path that upstreams have.
type route struct {
	methods []string
	serve   func(*request)
	public  bool // without the daemon's token, unless the operator's credential goes up
}

var (
	endpoint = route{[]string{http.MethodGet, http.MethodPost, http.MethodDelete}, (*request).endpoint, false}
	messages = route{[]string{http.MethodPost}, (*request).message, false}
	arrays   = route{[]string{http.MethodPost}, (*request).array, false}  // no stream is at this path, and no session
	metadata = route{[]string{http.MethodGet}, (*request).metadata, true} // clients fetch it without their configured headers
)

// absent returns what to answer where an upstream has no such path, "" where it has.
func (to *route) absent(u *upstream) string {
	switch {
	case to == &endpoint && u.Plain:
		return fmt.Sprintf("upstream %q speaks plain JSON-RPC: use %s/%s", u.Name, rpcPath, u.Name)
	case to == &messages && !u.OldTransport, to == &metadata && u.URL == nil:
		return nothingHere
	case to == &arrays && u.Array == nil:
		return fmt.Sprintf("upstream %q takes no arrays: use %s/%s", u.Name, endpointPath, u.Name)
	}
	return ""
}

func (h *Handler) newRoutes() http.Handler {
	all := chi.NewRouter()
	all.Use(middleware.GetHead)
	all.Get("/healthz", h.healthz)
	all.Get("/readyz", h.readyz)
	r := all.With(h.Guarded)
	if metrics := h.opts.MetricsHandler; metrics != nil {
		if h.opts.MetricsToken {
			metrics = h.WithToken(metrics)
		}
		r.Method(http.MethodGet, "/metrics", metrics)
	}
	for _, slash := range []string{"", "/"} {
		r.Handle(endpointPath+slash, h.routed(&endpoint))
		r.Handle(endpointPath+"/{name}/message/{id}"+slash, h.routed(&messages))
		r.Handle(rpcPath+"/{name}"+slash, h.routed(&arrays))
		r.Handle(metadataPath+slash, h.routed(&metadata))
		r.Handle(metadataPath+"/{name}"+slash, h.routed(&metadata))
	}
	r.NotFound(h.notFound)
	r.MethodNotAllowed(func(w http.ResponseWriter, r *http.Request) {
		h.takes(w, r, http.MethodGet, http.MethodHead) // all paths with another set of methods answer for themselves
	})
	return all
}

// routed serves a path that names its upstream, or the alias, which has no name and is there while there is just one upstream.
func (h *Handler) routed(to *route) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if u := h.take(func(set *upstreams) *upstream { return set.of(r) }); u != nil {
			defer u.leave()
			h.serve(w, r, u, to)
			return
		}
		h.notFound(w, r)
	}
}

// of returns the upstream of a path, nil where there is none.
func (all *upstreams) of(r *http.Request) *upstream {
	if isAlias(r) {
		return all.only
	}
	name := chi.URLParam(r, "name")
	if r.URL.RawPath != "" { // then that is what chi routes by
		name, _ = url.PathUnescape(name) // what was no URL is no request
	}
	return all.byName[name]
}

// isAlias reports whether a path of a route names no upstream.
func isAlias(r *http.Request) bool {
	path := strings.TrimSuffix(r.URL.Path, "/")
	return path == endpointPath || path == metadataPath
}

// serve answers a request for a path of an upstream: all of them come by here.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, u *upstream, to *route) {
	if u.PrivateTo != nil && !h.admits(w, r, u) {
		return
	}
	if text := to.absent(u); text != "" {
		h.reject(w, refusedPath, http.StatusNotFound, text)
		return
	}
	public := to.public && !u.replacesAuthorization
	if !h.takes(w, r, to.methods...) || !public && !h.authorized(w, r, u.replacesAuthorization || to.public) {
		return
	}
	q := h.begin(w, r, u)
	defer q.finish()
	to.serve(q)
}

func (h *Handler) healthz(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") }

func (h *Handler) readyz(w http.ResponseWriter, _ *http.Request) {
	if h.draining.Load() {
		plain(w, http.StatusServiceUnavailable, "draining")
		return
	}
	plain(w, http.StatusOK, "ready")
}

const nothingHere = "nothing here: MCP servers are at /mcp/<name>, arrays of calls go to /rpc/<name>"

// notFound answers 404, and says what may have been meant.
func (h *Handler) notFound(w http.ResponseWriter, r *http.Request) {
	text := nothingHere
	path := strings.TrimSuffix(r.URL.Path, "/")
	name := path[strings.LastIndexByte(path, '/')+1:]
	switch parent := strings.TrimSuffix(path, name); {
	case path == endpointPath && len(h.upstreams.Load().byName) == 0:
		text = "no upstream is configured"
	case path == endpointPath:
		text = "there are several upstreams: use /mcp/<name>"
	case name != "" && (parent == endpointPath+"/" || parent == rpcPath+"/"):
		text = fmt.Sprintf("no upstream named %q is configured", name)
	}
	h.reject(w, refusedPath, http.StatusNotFound, text)
}

// takes reports whether the path takes the request's method, and answers 405 if it does not.
func (h *Handler) takes(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	if slices.Contains(methods, r.Method) {
		return true
	}
	allow := strings.Join(methods, ", ")
	w.Header().Set("Allow", allow)
	h.reject(w, refusedVerb, http.StatusMethodNotAllowed, "use "+allow)
	return false
}

// reject counts a request that reaches no upstream, and answers it.
func (h *Handler) reject(w http.ResponseWriter, why refusal, status int, text string) {
	h.opts.Metrics.refused.WithLabelValues(string(why)).Inc()
	plain(w, status, text)
}

// plain writes a one-line text answer in the daemon's own name.
func plain(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	// An agent that has left reads nothing.
	_, _ = w.Write([]byte("fluentd-perf: " + text + "\n"))
}
