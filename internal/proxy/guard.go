package proxy

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"
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

// guarded lets a request through to next that may enter.
func (h *Handler) guarded(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if h.mayEnter(w, r) {
			next(w, r)
		}
	}
}

// Guarded lets only requests through to next that name this daemon as their Host and come from no foreign page.
func (h *Handler) Guarded(next http.Handler) http.Handler { return h.guarded(next.ServeHTTP) }

// mayEnter checks Host and Origin, against DNS rebinding and foreign web pages (2025-11-25 and 2026-07-28,
// basic/transports, "Security Warning"): 403, whatever the path. Listed origins get their CORS headers. It reports false
// where the request has its answer.
func (h *Handler) mayEnter(w http.ResponseWriter, r *http.Request) bool {
	if !h.guard.allowsHost(r.Host) {
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

// allowsOrigin reports whether an Origin is listed, or is the daemon's own: Host has been checked, so no foreign page can
// have it. The daemon serves no pages, but clients that set the header by hand send this one.
func (g *guard) allowsOrigin(origin string, r *http.Request) bool {
	return g.origins[strings.ToLower(origin)] || isOwnOrigin(origin, r)
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

// refusal says why a request reached no upstream.
type refusal int

const (
	refusedHost refusal = iota
	refusedOrigin
	refusedToken
	refusedPath
	refusedVerb
	refusalCount
)

var refusalNames = [refusalCount]string{"host", "origin", "token", "path", "verb"}

var refusalTexts = [refusalCount]string{
	refusedHost:   "this Host is not served here (see `hosts` in the configuration)",
	refusedOrigin: "this Origin is not allowed (see `origins` in the configuration)",
	refusedToken:  "the daemon's token is missing or wrong: send it as `Proxy-Authorization: Bearer <token>` or `" + TokenHeader + ": <token>`",
}

// refuse answers 403, counts, and logs at most one line a second: whoever is refused may be hostile and many.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, why refusal) {
	if h.refusals.allow(time.Now()) {
		h.log.Warn("request refused", "why", refusalNames[why], "host", clip(r.Host), "origin", clip(r.Header.Get("Origin")),
			"remote", r.RemoteAddr)
	}
	h.reject(w, why, http.StatusForbidden, refusalTexts[why])
}

// clip bounds what a stranger can write into the log.
func clip(s string) string {
	const most = 100
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// perSecond lets one event a second through.
type perSecond struct{ last atomic.Int64 }

func (p *perSecond) allow(now time.Time) bool {
	second, last := now.Unix(), p.last.Load()
	return second != last && p.last.CompareAndSwap(last, second)
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
