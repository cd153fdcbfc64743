package proxy

import (
	"net/http"
	"slices"
	"time"

	"fluentd-perf/internal/mcp"
)

// CallsNow are the calls of one upstream that are under way.
type CallsNow struct {
	Oldest []CallStatus // the oldest first
	Count  int          // of all, those that are not among Oldest included
}

// AllCalls returns what Calls returns for each upstream that has calls under way, by its name, in one pass over them: limit says of
// how many of an upstream more is told than their number.
func (h *Handler) AllCalls(limit func(upstream string) int) map[string]CallsNow {
	now, all := time.Now(), map[string]CallsNow{}
	for upstream, list := range h.inFlight.byUpstream() {
		slices.SortFunc(list, byAge)
		calls := CallsNow{Count: len(list)}
		for _, q := range list[:min(limit(upstream), len(list))] {
			calls.Oldest = append(calls.Oldest, q.callStatus(now))
		}
		all[upstream] = calls
	}
	return all
}

// byUpstream returns the requests by the names of their upstreams, in no order.
func (f *inFlight) byUpstream() map[string][]*request {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[string][]*request{}
	for q := range f.requests {
		all[q.upstream.Name] = append(all[q.upstream.Name], q)
	}
	return all
}

// CallRequest is the request of a call under way, without what it shows its server who it is.
type CallRequest struct {
	Verb    string            `json:"verb"`              // GET, POST or DELETE
	Path    string            `json:"path"`              // at the daemon, without the query
	Query   bool              `json:"query,omitempty"`   // there was one, which counts as a credential
	Headers map[string]string `json:"headers"`           // those that say how the message is to be read
	Left    []string          `json:"left,omitempty"`    // names of Authorization and Mcp-Session-Id, where the call has them
	Others  int               `json:"others,omitempty"`  // how many headers were left out besides
	Body    []byte            `json:"body,omitempty"`    // as it was sent; nil where it is left out
	Missing string            `json:"missing,omitempty"` // why the body is left out; "": it is not, or there is none
}

// maxCallBody bounds the body of a CallRequest, in bytes.
const maxCallBody = 64 << 10

// shownHeaders are the headers of a CallRequest, none of which may be a credential.
var shownHeaders = []string{"Accept", "Content-Type", "Mcp-Protocol-Version", "Mcp-Method", "Mcp-Name"}

// credentialHeaders are those of which a CallRequest has the name alone.
var credentialHeaders = []string{"Authorization", sessionHeader}

// CallRequest returns the request of a call under way by its id in log and error data; false where it has ended, or never was.
func (h *Handler) CallRequest(upstream, id string) (CallRequest, bool) {
	for _, q := range h.inFlight.of(upstream) {
		if q.id() == id {
			return requestOf(&q.call, upstream), true
		}
	}
	return CallRequest{}, false
}

func requestOf(c *mcp.Call, upstream string) CallRequest {
	r := CallRequest{Verb: c.Lane.Verb(), Path: endpointPath + "/" + upstream, Query: c.Query != "", Headers: map[string]string{}, Body: c.Body}
	if c.Lane == mcp.LaneArray {
		r.Path = rpcPath + "/" + upstream
	}
	if len(r.Body) > maxCallBody {
		r.Body, r.Missing = nil, "it is larger than 64 KiB"
	}
	seen := map[string]bool{} // by name, of which there may be several fields
	for _, f := range c.Header {
		name := http.CanonicalHeaderKey(f.Name)
		switch {
		case seen[name]:
		case slices.Contains(shownHeaders, name):
			r.Headers[name] = f.Value
		case slices.Contains(credentialHeaders, name):
			r.Left = append(r.Left, name)
		default:
			r.Others++
		}
		seen[name] = true
	}
	slices.Sort(r.Left)
	return r
}
