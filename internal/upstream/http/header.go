package http

import (
	"net/http"
	"strings"

	"fluentd-perf/internal/http1/header"
)

var identity = []string{"identity"}

// asks is a call's header as it goes out: the call's own, unless that asks for another encoding of the answer.
func asks(l header.List) header.List {
	if value, fields := l.Find("Accept-Encoding"); fields == 1 && value == identity[0] {
		return l
	}
	l = l.Clone()
	l.Set("Accept-Encoding", identity[0])
	return l
}

// outgoing returns the header to send over http.Transport.
func outgoing(l header.List) http.Header {
	out := mapOf(l)
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

// mapOf returns a list as net/http has it.
func mapOf(l header.List) http.Header {
	h := make(http.Header, len(l)+1) // with User-Agent, where there is none. A map of up to 8 is half as many allocations
	values := make([]string, len(l)) // of all fields, one after the other
	for i, f := range l {
		values[i] = f.Value
		if name := http.CanonicalHeaderKey(f.Name); h[name] == nil {
			h[name] = values[i : i+1 : i+1]
		} else {
			h[name] = append(h[name], f.Value)
		}
	}
	return h
}

func isJSON(l header.List) bool { return isOf(l, "application/json") }

func isEvents(l header.List) bool { return isOf(l, "text/event-stream") }

// isOf reports whether a body is of the media type, whatever its parameters.
func isOf(l header.List, media string) bool {
	t, _, _ := strings.Cut(l.Get("Content-Type"), ";")
	return strings.EqualFold(strings.TrimSpace(t), media)
}
