package proxy

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// TokenHeader carries the daemon's own token where Proxy-Authorization cannot be set.
const TokenHeader = "Fluentd-Perf-Token"

// guard decides who may connect. It is read-only after newGuard.
type guard struct {
	hosts     map[string]bool // lower case, without port
	origins   map[string]bool
	token     string
	tokenHash [sha256.Size]byte
}

func newGuard(o Options) *guard {
	g := &guard{
		hosts:   map[string]bool{"localhost": true},
		origins: make(map[string]bool, len(o.Origins)),
		token:   o.Token, tokenHash: sha256.Sum256([]byte(o.Token)),
	}
	for _, h := range o.Hosts {
		g.hosts[strings.ToLower(strings.Trim(h, "[]"))] = true
	}
	for _, origin := range o.Origins {
		g.origins[strings.ToLower(origin)] = true
	}
	return g
}

// Guarded lets only requests through to next that name this daemon as their Host, or came by a Unix socket, and from no other site's page.
func (h *Handler) Guarded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.allowed(w, r) {
			next.ServeHTTP(w, r)
		}
	})
}

// allowed checks Host and Origin, against DNS rebinding and the pages of other sites (2025-11-25 and 2026-07-28,
// basic/transports, "Security Warning"): 403, whatever the path. Listed origins get their CORS headers. It reports false
// where the request has its answer.
func (h *Handler) allowed(w http.ResponseWriter, r *http.Request) bool {
	if !h.guard.allowsHost(r.Host) && !overUnix(r) {
		h.refuse(w, r, refusedHost)
		return false
	}
	origins, present := r.Header["Origin"]
	if !present {
		return true
	}
	if len(origins) != 1 || !h.guard.allowsOrigin(origins[0], r) {
		h.refuse(w, r, refusedOrigin)
		return false
	}
	allowOrigin(w.Header(), origins)
	if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
		preflight(w, r)
		return false
	}
	return true
}

// WithToken lets only requests with the daemon's token through to next: in its own headers, or as `Authorization:
// Bearer`, which scrapers can send.
func (h *Handler) WithToken(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.authorized(w, r, true) {
			next.ServeHTTP(w, r)
		}
	})
}

// allowsHost reports whether a Host header names this daemon: a loopback address, localhost, or a configured host, with
// any port.
func (g *guard) allowsHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	if g.hosts[host] {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// overUnix reports whether a request came by a Unix socket. Then any Host will do: clients have no name for the daemon there and send
// what they like (localhost, docker), and no page and no name server leads a browser to it. A web server in front of the
// socket has to look at Host by itself.
func overUnix(r *http.Request) bool {
	a, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && a.Network() == "unix"
}

// allowsOrigin reports whether an Origin is listed, or is the daemon's own: where Host is this daemon's, no other site's page can
// have it. The daemon serves no pages, but clients that set the header by hand send this one. Host is looked at again because over a
// Unix socket it may be anything, and a web server in front of it passes pages' requests on.
func (g *guard) allowsOrigin(origin string, r *http.Request) bool {
	return g.origins[strings.ToLower(origin)] || isOwnOrigin(origin, r) && g.allowsHost(r.Host)
}

// isOwnOrigin reports whether an Origin is the one under which the agent reached the daemon.
func isOwnOrigin(origin string, r *http.Request) bool { return strings.EqualFold(origin, ownOrigin(r)) }

// ownOrigin is the origin under which the agent reached the daemon. The guard checks Host.
func ownOrigin(r *http.Request) string {
	if r.TLS != nil {
		return "https://" + r.Host
	}
	return "http://" + r.Host
}

func (g *guard) isBearer(value string) bool {
	scheme, token, ok := strings.Cut(value, " ")
	return ok && strings.EqualFold(scheme, "bearer") && g.isToken(strings.TrimSpace(token))
}

// isToken compares in constant time; the hashes make the lengths equal.
func (g *guard) isToken(token string) bool {
	h := sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(h[:], g.tokenHash[:]) == 1
}

// authorized checks that the request proves itself to the daemon, and answers 403 if its token is missing or wrong: never 401,
// which would start OAuth in the agent. `Authorization` counts only where bearer says so: on other paths it belongs to the
// server.
func (h *Handler) authorized(w http.ResponseWriter, r *http.Request, bearer bool) bool {
	g := h.guard
	if g.token == "" || g.isToken(r.Header.Get(TokenHeader)) || g.isBearer(r.Header.Get("Proxy-Authorization")) ||
		bearer && g.isBearer(r.Header.Get("Authorization")) {
		return true
	}
	h.refuse(w, r, refusedToken)
	return false
}

// refusal says why a request reached no upstream. It is a label.
type refusal string

const (
	refusedHost   refusal = "host"
	refusedOrigin refusal = "origin"
	refusedToken  refusal = "token"
	refusedUser   refusal = "user"
	refusedPath   refusal = "path"
	refusedVerb   refusal = "verb"
)

var refusals = []refusal{refusedHost, refusedOrigin, refusedToken, refusedUser, refusedPath, refusedVerb}

// forbidden are the texts of the refusals that are answered with 403.
var forbidden = map[refusal]string{
	refusedHost:   "this Host is not served here (see `hosts` in the configuration)",
	refusedOrigin: "this Origin is not allowed (see `origins` in the configuration)",
	refusedToken:  "the daemon's token is missing or wrong: send it as `Proxy-Authorization: Bearer <token>` or `" + TokenHeader + ": <token>`",
}

// refuse answers 403, counts, and logs at most one line a second: whoever is refused may be hostile and many.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, why refusal) {
	h.refusals.Do(func() {
		h.opts.Log.Warn("request refused", "why", string(why), "host", clip(r.Host), "origin", clip(r.Header.Get("Origin")), "remote", r.RemoteAddr)
	})
	h.reject(w, why, http.StatusForbidden, forbidden[why])
}

// clip bounds what a client or a server can write into the log.
func clip(s string) string {
	const limit = 100
	if len(s) > limit {
		return s[:limit] + "..."
	}
	return s
}

// Values of the answers to web pages.
var (
	exposedHeaders = []string{"Mcp-Session-Id, MCP-Protocol-Version, Last-Event-ID, WWW-Authenticate, Retry-After, Server-Timing, Cache-Status"}
	varyOrigin     = []string{"Origin"}
)

// allowOrigin sets the CORS headers that let a listed web page read the answer. origin is the one value of its own.
func allowOrigin(h http.Header, origin []string) {
	h["Access-Control-Allow-Origin"] = origin
	h["Access-Control-Expose-Headers"] = exposedHeaders
	h["Vary"] = varyOrigin
}

// preflight answers a listed origin's OPTIONS: any header may be sent, since `Mcp-Param-*` names are the server's.
func preflight(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS")
	if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" {
		h.Set("Access-Control-Allow-Headers", asked)
	}
	if r.Header.Get("Access-Control-Request-Private-Network") == "true" {
		h.Set("Access-Control-Allow-Private-Network", "true")
	}
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
}
