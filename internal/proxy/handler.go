// Package proxy is the agents' side of the daemon: the HTTP handler behind the listener.
//
// It checks who may connect (Host, Origin, token, sizes), decodes each request once into an mcp.Call, hands it to the
// upstream's stages, and writes what comes back: a whole answer, a stream of events, or a failure in the shape that MCP
// clients understand. It promises that an agent cannot tell it from the server but for the headers it adds, that a
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

	"fluentd-perf/internal/mcp"
)

// Options are what a Handler needs. Metrics and BodyLimit are required.
type Options struct {
	Upstreams []Upstream // the first ones: Swap replaces them

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

// Handler is the HTTP handler of the daemon. Make one with New.
type Handler struct {
	opts        Options
	log         *slog.Logger
	guard       *guard
	routes      http.Handler
	upstreams   atomic.Pointer[upstreams] // never nil; what serves a request is of one Load
	swapping    sync.Mutex                // held by Swap
	agents      agents
	streams     *streams
	idPrefix    string        // of requests' ids: another with each start
	lastID      atomic.Uint64 // of a request
	smallBodies *mcp.Budget   // for small messages while opts.Buffered is spent
	draining    atomic.Bool
	refusals    perSecond // keeps the log of refusals short
}

// New builds the handler. It fails on options that contradict each other.
func New(o Options) (*Handler, error) {
	if o.BodyLimit <= 0 || o.Metrics == nil {
		return nil, errors.New("proxy: BodyLimit and Metrics are required")
	}
	if o.KeepAlive == 0 {
		o.KeepAlive = 15 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	first := o.Upstreams
	o.Upstreams = nil // they are the set's from here on, and go with it
	h := &Handler{
		opts: o, log: o.Log, guard: newGuard(o), streams: newStreams(o.MaxStreams),
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
		if u := h.upstreams.Load().byName[strings.TrimSuffix(name, "/")]; u != nil {
			if h.mayEnter(w, r) {
				h.serve(w, r, u, false)
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
	h.streams.drain()
}

// Refuse answers every new call with 1503. What belongs to calls in flight (answers to the server, notifications, the end
// of a session) still gets through.
func (h *Handler) Refuse() { h.streams.refusing.Store(true) }

// InFlight returns how many calls have not ended; while the handler drains, streams that are left open for calls count too.
func (h *Handler) InFlight() int { return h.streams.inFlight() }

// OneWay returns how many messages are relayed now that get no answer: notifications, answers to the server, ends of
// sessions. While no call is in flight, nobody waits for them.
func (h *Handler) OneWay() int { return int(h.streams.oneWay.Load()) }

const (
	endpointPath = "/mcp"
	rpcPath      = "/rpc" // where clients send arrays of requests, for any upstream (docs/rpc.md)
)

func (h *Handler) newRoutes() http.Handler {
	metrics := h.opts.MetricsHandler
	if metrics != nil && h.opts.MetricsToken {
		metrics = h.WithToken(metrics)
	}
	r := chi.NewRouter()
	for _, method := range []string{http.MethodGet, http.MethodHead} {
		r.MethodFunc(method, "/healthz", h.healthz)
		r.MethodFunc(method, "/readyz", h.readyz)
		if metrics != nil {
			r.Method(method, "/metrics", h.Guarded(metrics))
		}
	}
	for _, slash := range []string{"", "/"} {
		r.Handle(endpointPath+slash, h.aliased(h.serve))
		r.Handle(endpointPath+"/{name}/message/{id}"+slash, h.named(h.serveMessage))
		r.Handle(rpcPath+"/{name}"+slash, h.named(h.serveRPC))
		r.Handle(metadataPath+slash, h.aliased(h.serveMetadata))
		r.Handle(metadataPath+"/{name}"+slash, h.named(h.serveMetadata))
	}
	r.NotFound(h.guarded(h.notFound))
	r.MethodNotAllowed(h.guarded(func(w http.ResponseWriter, r *http.Request) {
		h.takes(w, r, http.MethodGet, http.MethodHead) // all paths with another set of methods answer for themselves
	}))
	return r
}

// upstreamHandler serves a path of an upstream; alias says that the path has not named it.
type upstreamHandler func(w http.ResponseWriter, r *http.Request, u *upstream, alias bool)

// named serves a path that names its upstream.
func (h *Handler) named(serve upstreamHandler) http.HandlerFunc {
	return h.guarded(func(w http.ResponseWriter, r *http.Request) {
		name, err := url.PathUnescape(chi.URLParam(r, "name"))
		if u := h.upstreams.Load().byName[name]; u != nil && err == nil {
			serve(w, r, u, false)
			return
		}
		h.notFound(w, r)
	})
}

// aliased serves a path without a name, which is there while there is just one upstream.
func (h *Handler) aliased(serve upstreamHandler) http.HandlerFunc {
	return h.guarded(func(w http.ResponseWriter, r *http.Request) {
		if u := h.upstreams.Load().only; u != nil {
			serve(w, r, u, true)
			return
		}
		h.notFound(w, r)
	})
}

func (h *Handler) healthz(w http.ResponseWriter, _ *http.Request) { plain(w, http.StatusOK, "ok") }

func (h *Handler) readyz(w http.ResponseWriter, _ *http.Request) {
	if h.draining.Load() {
		plain(w, http.StatusServiceUnavailable, "draining")
		return
	}
	plain(w, http.StatusOK, "ready")
}

// serve takes what comes to the MCP endpoint of an upstream.
func (h *Handler) serve(w http.ResponseWriter, r *http.Request, u *upstream, alias bool) {
	if u.Plain {
		h.reject(w, refusedPath, http.StatusNotFound, fmt.Sprintf("upstream %q speaks plain JSON-RPC: use %s/%s", u.Name, rpcPath, u.Name))
		return
	}
	if !h.takes(w, r, http.MethodGet, http.MethodPost, http.MethodDelete) || !h.authorized(w, r, u.replacesAuthorization) {
		return
	}
	q := h.begin(w, r, u)
	defer q.finish()
	q.alias = alias
	switch r.Method {
	case http.MethodPost:
		q.post()
	case http.MethodGet:
		q.get()
	default:
		q.delete()
	}
}

// serveMessage takes the POSTs of the HTTP+SSE transport (2024-11-05, basic/transports): the path is the one that the
// stage wrote into the stream's endpoint event.
func (h *Handler) serveMessage(w http.ResponseWriter, r *http.Request, u *upstream, _ bool) {
	if !u.OldTransport {
		h.notFound(w, r)
		return
	}
	if !h.takes(w, r, http.MethodPost) || !h.authorized(w, r, u.replacesAuthorization) {
		return
	}
	q := h.begin(w, r, u)
	defer q.finish()
	q.call.Endpoint = chi.URLParam(r, "id")
	q.post()
}

// serveRPC takes a client's array. It is POST and nothing else: no stream is at this path, and no session.
func (h *Handler) serveRPC(w http.ResponseWriter, r *http.Request, u *upstream, _ bool) {
	if u.Array == nil {
		h.reject(w, refusedPath, http.StatusNotFound, fmt.Sprintf("upstream %q takes no arrays: use %s/%s", u.Name, endpointPath, u.Name))
		return
	}
	if !h.takes(w, r, http.MethodPost) || !h.authorized(w, r, u.replacesAuthorization) {
		return
	}
	q := h.begin(w, r, u)
	defer q.finish()
	q.array()
}

// notFound answers 404, and says what may have been meant.
func (h *Handler) notFound(w http.ResponseWriter, r *http.Request) {
	text := "nothing here: MCP servers are at /mcp/<name>, arrays of calls go to /rpc/<name>"
	path := strings.TrimSuffix(r.URL.Path, "/")
	name := path[strings.LastIndexByte(path, '/')+1:]
	switch parent := strings.TrimSuffix(path, name); {
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
	h.opts.Metrics.refused[why].Inc()
	plain(w, status, text)
}

// plain writes a one-line text answer in the daemon's own name.
func plain(w http.ResponseWriter, status int, text string) {
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Del("Content-Length")
	w.WriteHeader(status)
	// An agent that has left reads nothing; there is nobody to tell.
	_, _ = w.Write([]byte("fluentd-perf: " + text + "\n"))
}
