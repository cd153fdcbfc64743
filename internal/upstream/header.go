package upstream

import (
	"net/http"
	"strings"
)

var identity = []string{"identity"}

// outgoing returns the header to send: the call's own map where it is fit to be sent as it is, else a copy that is.
func outgoing(h http.Header) http.Header {
	if fit(h) {
		return h
	}
	out := make(http.Header, len(h)+2)
	for name, values := range h {
		out[name] = values
	}
	out["Accept-Encoding"] = identity
	// net/http holds the body back until the server says 100, or a second has passed.
	delete(out, "Expect")
	if _, ok := out["User-Agent"]; !ok {
		out["User-Agent"] = nil // else net/http sends its own
	}
	// A request with one of these is sent again by net/http after it was written, a tools/call as well. It looks for
	// this spelling only; on the wire case makes no difference (RFC 9110, 5.1).
	respell(out, "Idempotency-Key", "idempotency-key")
	respell(out, "X-Idempotency-Key", "x-idempotency-key")
	return out
}

func fit(h http.Header) bool {
	encoding := h["Accept-Encoding"]
	if len(encoding) != 1 || encoding[0] != "identity" {
		return false
	}
	if _, ok := h["User-Agent"]; !ok {
		return false
	}
	return h["Expect"] == nil && h["Idempotency-Key"] == nil && h["X-Idempotency-Key"] == nil
}

func respell(h http.Header, from, to string) {
	if values, ok := h[from]; ok {
		delete(h, from)
		h[to] = values
	}
}

// hopByHop are the fields of an answer that end at this hop (RFC 9110, 7.6.1), and their older kin.
var hopByHop = [...]string{
	"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authentication-Info", "Proxy-Connection", "Te", "Trailer",
	"Transfer-Encoding", "Upgrade",
}

// dropHopByHop takes them off, and what Connection names.
func dropHopByHop(h http.Header) {
	for _, line := range h["Connection"] {
		for token := range strings.SplitSeq(line, ",") {
			if token = strings.TrimSpace(token); token != "" {
				h.Del(token)
			}
		}
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
}

// mediaType returns the type of a Content-Type field without parameters, as sent.
func mediaType(h http.Header) string {
	values := h["Content-Type"]
	if len(values) == 0 {
		return ""
	}
	t, _, _ := strings.Cut(values[0], ";")
	return strings.TrimSpace(t)
}

func isJSON(h http.Header) bool { return strings.EqualFold(mediaType(h), "application/json") }

func isEvents(h http.Header) bool { return strings.EqualFold(mediaType(h), "text/event-stream") }
