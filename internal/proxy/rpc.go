package proxy

import (
	"fmt"
	"net/http"

	"github.com/go-chi/chi/v5"

	"fluentd-perf/internal/mcp"
)

// rpcPath is where clients send arrays of requests, for any upstream (design/resilience.md, "Batches").
const rpcPath = "/rpc"

// serveRPC takes a client's array. It is POST and nothing else: no stream is at this path, and no session.
func (d *Door) serveRPC(w http.ResponseWriter, r *http.Request) {
	name := chi.URLParam(r, "name")
	u, ok := d.upstreams[name]
	switch {
	case !ok:
		d.opts.Metrics.refused[refusedPath].Inc()
		plain(w, http.StatusNotFound, fmt.Sprintf("no upstream named %q is configured", name))
	case u.Array == nil:
		d.opts.Metrics.refused[refusedPath].Inc()
		plain(w, http.StatusNotFound, fmt.Sprintf("upstream %q takes no arrays: use %s/%s", name, endpointPath, name))
	case r.Method != http.MethodPost:
		d.opts.Metrics.refused[refusedVerb].Inc()
		w.Header().Set("Allow", "POST")
		plain(w, http.StatusMethodNotAllowed, "use POST")
	default:
		d.begin(w, r, u).array()
	}
}

// array relays an array whole: it is taken apart by the stage behind. Of what era an element is, that stage finds out, so
// the header goes on with the session that only legacy has.
func (x *exchange) array() {
	if !x.door.authorized(x.w, x.r, x.up) {
		return
	}
	defer x.finish()
	c := &x.call
	c.Lane, c.Request = mcp.LaneArray, x.requestID()
	body, ok := x.readBody()
	if !ok {
		return
	}
	if x.spared > 0 {
		x.fail(tooMuchBuffered())
		return
	}
	c.Body = body
	x.decodeHeader()
	if mcp.IsEncoded(c.Header) {
		x.refuseEncoding()
		return
	}
	x.relayCall(x.up.Array)
}

// refuseEncoding answers an array that cannot be taken apart as it came (RFC 9110, 15.5.16 and 12.5.3).
func (x *exchange) refuseEncoding() {
	x.w.Header()["Accept-Encoding"] = identityEncoding
	x.status, x.outcome = http.StatusUnsupportedMediaType, outcomeHTTPError
	plain(x.w, x.status, "an encoded body cannot be taken apart: send it without Content-Encoding")
}
