package http

import (
	"maps"
	"net/http"
	"slices"
	"strings"

	"fluentd-perf/internal/mcp"
)

var identity = []string{"identity"}

// outgoing returns the header to send over http.Transport: the call's own map where it is fit to be sent as it is, else a copy that is.
func outgoing(h http.Header) http.Header {
	if fit(h) {
		return h
	}
	out := make(http.Header, len(h)+2)
	maps.Copy(out, h)
	out["Accept-Encoding"] = identity
	// net/http holds the body back until the server says 100, or a second has passed.
	delete(out, "Expect")
	if _, ok := out["User-Agent"]; !ok {
		out["User-Agent"] = nil // else net/http sends its own
	}
	// A request with one of these is sent again by net/http after it was written, a tools/call as well. It looks for
	// this spelling only; on the wire case makes no difference (RFC 9110, 5.1).
	for _, name := range [...]string{"Idempotency-Key", "X-Idempotency-Key"} {
		if values, ok := out[name]; ok {
			delete(out, name)
			out[strings.ToLower(name)] = values
		}
	}
	return out
}

func fit(h http.Header) bool {
	_, agent := h["User-Agent"]
	return agent && slices.Equal(h["Accept-Encoding"], identity) && h["Expect"] == nil &&
		h["Idempotency-Key"] == nil && h["X-Idempotency-Key"] == nil
}

// dropHopByHop takes the fields of an answer off that end here, and what Connection names.
func dropHopByHop(h http.Header) {
	mcp.DropConnectionNamed(h, h["Connection"])
	for name := range h {
		if mcp.IsHopByHop(name) {
			delete(h, name)
		}
	}
}

func isJSON(h http.Header) bool { return isOf(h, "application/json") }

func isEvents(h http.Header) bool { return isOf(h, "text/event-stream") }

// isOf reports whether a body is of the media type, whatever its parameters.
func isOf(h http.Header, media string) bool {
	t, _, _ := strings.Cut(h.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(t), media)
}
