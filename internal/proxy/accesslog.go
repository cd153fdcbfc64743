package proxy

import (
	"cmp"
	"context"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"fluentd-perf/internal/mcp"
)

// id tells requests apart, over restarts too: it is in the log and in error data.
func (q *request) id() string { return q.handler.idPrefix + strconv.FormatUint(q.seq, 16) }

// finish gives back what the request has reserved, counts it and writes its access line. It runs when an agent's connection is
// broken off too.
func (q *request) finish() {
	took, h := time.Since(q.call.Start), q.handler
	q.release()
	if q.status == 0 && q.failure == nil { // a panic goes by: net/http logs it
		q.note(mcp.InternalFailure(nil))
	}
	q.upstream.meters.count(q, took)
	level := slog.LevelInfo
	if f := q.failure; f != nil && isWarning(f.Reason) {
		level = slog.LevelWarn
	}
	if h.opts.Log.Enabled(context.Background(), level) {
		q.accessLine(level, took)
	}
}

// isWarning reports whether a failure is for those who look only at what goes wrong. That a server's circuit is open is said
// once, by its breaker.
func isWarning(r mcp.Reason) bool {
	return r != mcp.ReasonCanceled && r != mcp.ReasonDraining && r != mcp.ReasonBreakerOpen
}

// when returns an attribute where there is something to say, else the empty one, which slog leaves out.
func when(there bool, a slog.Attr) slog.Attr {
	if there {
		return a
	}
	return slog.Attr{}
}

func text(name, s string) slog.Attr { return when(s != "", slog.String(name, s)) }

// milliseconds is a duration as a number, with its unit in the name: log readers add numbers up, and no "1.2s" and "3ms".
func milliseconds(name string, d time.Duration) slog.Attr {
	return slog.Float64(name, float64(d.Microseconds())/1000)
}

// accessLine says everything about one request that is no secret: no header values, no params but a tool's name, no session id.
func (q *request) accessLine(level slog.Level, took time.Duration) {
	c, t, session, cause := &q.call, &q.timing, q.sessionHash(), ""
	f := cmp.Or(q.failure, new(mcp.Failure))
	if f.Cause != nil {
		cause = f.Cause.Error()
	}
	q.handler.opts.Log.LogAttrs(context.Background(), level, "request",
		slog.String("id", q.id()), slog.String("upstream", q.upstream.Name), slog.String("verb", q.in.Method),
		slog.String("method", methodLabel(c)), slog.String("outcome", string(q.outcome)), slog.Int("status", q.status),
		slog.Int64("in", q.bytesIn), slog.Int64("out", q.bytesOut), milliseconds("took_ms", took),
		text("remote", q.in.RemoteAddr), text("tool", toolName(c)), text("agent", q.agent(session)), text("session", session),
		when(q.isToolResult, slog.Bool("isError", q.toolFailed)),
		when(c.Lane != mcp.LaneArray, slog.String("era", c.Era.String())), // of an array each call has its own
		when(q.failed.Calls > 0, slog.Int("failed_calls", q.failed.Calls)), text("version", clip(c.Version)),
		when(t.Queue > 0, milliseconds("queue_ms", t.Queue)), when(t.Connect > 0, milliseconds("connect_ms", t.Connect)),
		when(t.FirstByte > 0, milliseconds("ttfb_ms", t.FirstByte)), when(t.Upstream > 0, milliseconds("answered_ms", t.Upstream)),
		text("cache", cacheStatus(q.w.Header()["Cache-Status"])), when(c.Mismatch, slog.Bool("mismatch", true)),
		text("reason", string(f.Reason)), text("sent", string(f.Sent)), text("cause", cause))
}

// cacheStatus returns what this daemon's own cache did: its member of Cache-Status is the last one (RFC 9211, 2).
func cacheStatus(fields []string) string {
	if len(fields) == 0 {
		return ""
	}
	if did, own := strings.CutPrefix(fields[len(fields)-1], "fluentd-perf; "); own {
		return clip(did)
	}
	return ""
}
