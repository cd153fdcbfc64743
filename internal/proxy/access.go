package proxy

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/mcp"
)

// requestIDs makes ids that tell requests apart over restarts too: they stand in the log and in error data.
type requestIDs struct {
	prefix string
	n      atomic.Uint64
}

func newRequestIDs() requestIDs {
	var b [4]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return requestIDs{prefix: hex.EncodeToString(b[:]) + "-"}
}

func (r *requestIDs) next() uint64 { return r.n.Add(1) }

func (x *exchange) requestID() string { return x.door.ids.prefix + strconv.FormatUint(x.seq, 16) }

// note keeps what went wrong for the access line and the metrics.
func (x *exchange) note(f *mcp.Failure) {
	x.failure = f
	x.outcome = outcomeOfReason(f.Reason)
}

// finish counts the request and writes its access line. It runs when an agent's connection is aborted too.
func (x *exchange) finish() {
	took := time.Since(x.call.Start)
	x.door.opts.Buffered.Put(x.held)
	x.door.spare.Put(x.spared)
	x.up.metrics.count(&x.call, x.outcome, x.hit, took)
	switch {
	case x.failed != nil:
		for reason, calls := range x.failed.Shed {
			x.door.opts.Metrics.shedding(x.up.Name, reason, calls)
		}
	case x.failure != nil && x.failure.Code == mcp.CodeOverloaded:
		x.door.opts.Metrics.shedding(x.up.Name, x.failure.Reason, 1)
	}
	level := slog.LevelInfo
	if x.failure != nil && isNews(x.failure.Reason) {
		level = slog.LevelWarn
	}
	if x.door.log.Enabled(context.Background(), level) {
		x.accessLine(level, took)
	}
}

// isNews reports whether a failure is for those who look at what goes wrong only. That a server is left alone is said once,
// by its breaker.
func isNews(r mcp.Reason) bool {
	return r != mcp.ReasonCanceled && r != mcp.ReasonDraining && r != mcp.ReasonBreakerOpen
}

// accessLine says everything about one request that is no secret: no header values, no params but a tool's name, no session id.
func (x *exchange) accessLine(level slog.Level, took time.Duration) {
	c, t := &x.call, x.timing
	attrs := make([]slog.Attr, 0, 28)
	attrs = append(attrs,
		slog.String("id", x.requestID()), slog.String("upstream", x.up.Name), slog.String("verb", x.r.Method),
		slog.String("method", methodLabel(c)), slog.String("outcome", x.outcome.String()), slog.Int("status", x.status),
		slog.Int64("in", x.in), slog.Int64("out", x.out), milliseconds("took_ms", took), slog.String("remote", x.r.RemoteAddr),
	)
	attrs = x.appendWho(attrs)
	if c.Lane != mcp.LaneArray { // of which each call has its own
		attrs = append(attrs, slog.String("era", c.Era.String()))
	}
	if x.failed != nil {
		attrs = append(attrs, slog.Int("failed_calls", x.failed.Calls))
	}
	if c.Version != "" {
		attrs = append(attrs, slog.String("version", clip(c.Version)))
	}
	for _, part := range [...]struct {
		name string
		d    time.Duration
	}{{"queue_ms", t.Queue}, {"connect_ms", t.Connect}, {"ttfb_ms", t.FirstByte}, {"answered_ms", t.Upstream}} {
		if part.d > 0 {
			attrs = append(attrs, milliseconds(part.name, part.d))
		}
	}
	if did := cacheStatus(x.w.Header()["Cache-Status"]); did != "" {
		attrs = append(attrs, slog.String("cache", did))
	}
	if c.Mismatch {
		attrs = append(attrs, slog.Bool("mismatch", true))
	}
	if f := x.failure; f != nil {
		attrs = append(attrs, slog.String("reason", string(f.Reason)), slog.String("sent", string(f.Sent)))
		if f.Cause != nil {
			attrs = append(attrs, slog.String("cause", f.Cause.Error()))
		}
	}
	x.door.log.LogAttrs(context.Background(), level, "request", attrs...)
}

// appendWho says which tool was called, by whom, in which session, and whether the tool failed; as far as it is known.
func (x *exchange) appendWho(attrs []slog.Attr) []slog.Attr {
	session := x.session()
	for _, part := range [...]struct{ name, text string }{
		{"tool", toolName(&x.call)}, {"agent", x.agent(session)}, {"session", session},
	} {
		if part.text != "" {
			attrs = append(attrs, slog.String(part.name, part.text))
		}
	}
	if x.tool != toolUnknown {
		attrs = append(attrs, slog.Bool("isError", x.tool == toolFailed))
	}
	return attrs
}

// milliseconds is a duration as a number, with its unit in the name: log readers add numbers up, and no "1.2s" and "3ms".
func milliseconds(name string, d time.Duration) slog.Attr {
	return slog.Float64(name, float64(d.Microseconds())/1000)
}

// cacheStatus returns what this daemon's own cache did: its member of Cache-Status is the last one (RFC 9211, 2).
func cacheStatus(fields []string) string {
	if len(fields) == 0 {
		return ""
	}
	did, own := strings.CutPrefix(fields[len(fields)-1], "fluentd-perf; ")
	if !own {
		return ""
	}
	return did
}

// serverTiming puts what is known of the time on the answer (W3C Server-Timing; milliseconds), beside the server's own.
func (x *exchange) serverTiming(h http.Header, t mcp.Timing) {
	var buf [160]byte
	addServerTiming(h, []string{string(x.appendTimings(buf[:0], t))})
}

func addServerTiming(h http.Header, value []string) {
	const name = "Server-Timing"
	if own := h[name]; len(own) > 0 {
		value = append(own[:len(own):len(own)], value...)
	}
	h[name] = value
}

func (x *exchange) appendTimings(b []byte, t mcp.Timing) []byte {
	b = appendTiming(b, "queue", t.Queue)
	b = appendTiming(b, "connect", t.Connect)
	b = appendTiming(b, "ttfb", t.FirstByte)
	b = appendTiming(b, "upstream", t.Upstream)
	return appendTiming(b, "total", time.Since(x.call.Start))
}

func appendTiming(b []byte, name string, d time.Duration) []byte {
	if d <= 0 {
		return b
	}
	if len(b) > 0 {
		b = append(b, ", "...)
	}
	b = append(append(b, name...), ";dur="...)
	us := d.Microseconds()
	b = append(strconv.AppendInt(b, us/1000, 10), '.')
	us %= 1000
	return append(b, byte('0'+us/100), byte('0'+us/10%10), byte('0'+us%10))
}
