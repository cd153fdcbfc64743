package proxy

import (
	"fmt"
	"net/http"
	"net/url"
	"sync/atomic"

	"fluentd-perf/internal/mcp"
)

// Upstream is one server as the handler knows it.
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

// upstream is an Upstream with what requests to it need. It does not change, but for what it points to.
type upstream struct {
	Upstream
	origin []string        // of URL, as the value of an Origin header
	fixed  map[string]bool // names of parameters in the queries of URLs: an agent does not set them

	replacesAuthorization bool // the operator's credential goes up in place of the agent's

	metrics *upstreamMetrics // one for each name, over all Swaps that have it
	calls   *calls           // likewise
	oauth   *oauthState      // likewise, while URL is the same
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
// to its end, and its Caller has to answer until then, if only with a failure. What the handler remembers of an upstream
// stays with its name (calls under way, metrics), what it knows of the server's OAuth with name and URL; the series of a name
// that is gone stay. Swap fails, and changes nothing, where two upstreams have the same name. It may be called while
// requests are served, and by several goroutines.
func (h *Handler) Swap(list []Upstream) error {
	h.swapping.Lock()
	defer h.swapping.Unlock()
	before, next := h.upstreams.Load(), &upstreams{byName: make(map[string]*upstream, len(list))}
	for _, u := range list {
		if next.byName[u.Name] != nil {
			return fmt.Errorf("proxy: two upstreams named %q", u.Name)
		}
		next.only = h.newUpstream(u, before.byName[u.Name])
		next.byName[u.Name] = next.only
	}
	if len(list) != 1 {
		next.only = nil
	}
	h.upstreams.Store(next)
	return nil
}

// newUpstream makes an upstream, with what is remembered of the one that had its name before, if there was one.
func (h *Handler) newUpstream(u Upstream, before *upstream) *upstream {
	if u.URLs == nil {
		u.URLs = []*url.URL{u.URL}
	}
	next := &upstream{
		Upstream: u, origin: []string{originOf(u.URL)}, fixed: parameterNames(u.URLs), replacesAuthorization: len(u.Headers["Authorization"]) > 0,
		metrics: h.opts.Metrics.upstream(u.Name), calls: &calls{log: h.log}, oauth: new(oauthState),
	}
	if before != nil {
		next.metrics, next.calls = before.metrics, before.calls
		if before.URL.String() == u.URL.String() {
			next.oauth = before.oauth
		}
	}
	return next
}
