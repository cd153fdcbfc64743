package proxy

import (
	"cmp"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"

	"fluentd-perf/internal/http1/header"
	"fluentd-perf/internal/mcp"
)

// Route is one server as the handler knows it.
type Route struct {
	Name           string
	URL            *url.URL   // nil: the server is at none, and has no OAuth metadata
	URLs           []*url.URL // all of `urls`, of which URL is the first; nil: URL alone
	Caller         mcp.Caller
	Array          mcp.Caller  // answers the arrays of /rpc/<name>; nil: there is no such path
	Headers        header.List // set on every request, in place of the agent's of the same name
	ForwardCookies bool        // `forward_cookies`
	RewriteOAuth   bool        // `oauth: rewrite`
	OldTransport   bool        // `transport: sse`: POSTs go to /mcp/<name>/message/<id>
	Plain          bool        // `protocol: jsonrpc`: nothing is at /mcp/<name>
	Users          *Users      // its requests; nil: nobody retires it
	PrivateTo      []uint32    // the users of this machine, root aside, that it is for; nil: whoever reaches the daemon
}

// Users are the requests of an upstream that are under way, over all Swaps that have it. The zero value is ready.
type Users struct {
	requests sync.RWMutex // each request has it for reading; Retire takes it and keeps it
	retired  bool         // guarded by inFlight.mu
}

// upstream is a Route with what requests to it need. It does not change, but for what it points to.
type upstream struct {
	Route
	origin string          // of URL, as the value of an Origin header
	fixed  map[string]bool // names of parameters in the queries of URLs: an agent does not set them

	replacesAuthorization bool // the operator's credential goes up in place of the agent's

	oauth  *oauthState // one for each name and URL, over all Swaps that have both
	meters *meters
}

// oauthState is what the handler has learned of a server's OAuth (see oauth.go).
type oauthState struct {
	metadata     atomic.Pointer[url.URL] // the last resource_metadata of the server's own origin
	unauthorized atomic.Bool             // it has answered a call with 401
}

// upstreams is the set of upstreams by which requests are routed. It does not change: Swap puts another in its place.
type upstreams struct {
	byName map[string]*upstream
	only   *upstream // the one behind the alias /mcp, if there is just one
}

// Swap routes requests by another list of upstreams from now on. A request under way keeps the upstream that it began with,
// to its end, and its Caller has to answer until then, if only with a failure; Retire waits for that. What the handler remembers of an upstream
// stays with its name (calls under way, metrics), what it knows of the server's OAuth with name and URL; the series of a name
// that is gone stay. Swap fails, and changes nothing, where two upstreams have the same name. It may be called while
// requests are served, and by several goroutines.
func (h *Handler) Swap(list []Route) error {
	h.swapping.Lock()
	defer h.swapping.Unlock()
	before, next := h.upstreams.Load(), &upstreams{byName: make(map[string]*upstream, len(list))}
	for _, u := range list {
		if next.byName[u.Name] != nil {
			return fmt.Errorf("proxy: two upstreams named %q", u.Name)
		}
		next.only = newUpstream(u, before.byName[u.Name], h.opts.Metrics)
		next.byName[u.Name] = next.only
	}
	if len(list) != 1 {
		next.only = nil
	}
	for name := range next.byName {
		h.opts.Metrics.streams.WithLabelValues(name) // from now on it is there, if only as 0
	}
	h.upstreams.Store(next)
	return nil
}

// Retire ends the streams of an upstream that no Swap has any more, as Drain does with all, and returns when its last request has
// ended. Calls end by themselves, and a stream on which something may come for a call of its session ends after that. It is called
// once for each Users.
func (h *Handler) Retire(u *Users) {
	h.inFlight.retire(u)
	u.requests.Lock() // and never unlocked: take passes it by
	h.inFlight.forget()
}

// take returns the upstream that find chooses among those that there are now, nil for none. The caller leaves it. Between the look
// and the lock it may be retired: then there is another set by now, in which it is not.
func (h *Handler) take(find func(*upstreams) *upstream) *upstream {
	for {
		if u := find(h.upstreams.Load()); u == nil || u.Users.requests.TryRLock() {
			return u
		}
	}
}

func (u *upstream) leave() { u.Users.requests.RUnlock() }

// newUpstream makes an upstream, with what is remembered of the one that had its name before, if there was one.
func newUpstream(u Route, before *upstream, m *Metrics) *upstream {
	if u.URLs == nil && u.URL != nil {
		u.URLs = []*url.URL{u.URL}
	}
	u.Users = cmp.Or(u.Users, new(Users))
	next := &upstream{
		Route: u, fixed: parameterNames(u.URLs),
		replacesAuthorization: u.Headers.Has("Authorization"), oauth: new(oauthState), meters: &meters{Metrics: m, upstream: u.Name},
	}
	if u.URL != nil {
		next.origin = mcp.Origin(u.URL)
	}
	if before != nil && before.URL != nil && u.URL != nil && before.URL.String() == u.URL.String() {
		next.oauth = before.oauth
	}
	return next
}
