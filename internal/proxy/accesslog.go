package proxy

import (
	"context"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"fluentd-perf/internal/mcp"
)

// id tells requests apart, over restarts too: it stands in the log and in error data.
func (q *request) id() string { return q.handler.idPrefix + strconv.FormatUint(q.seq, 16) }

// finish gives back what the request has reserved, counts it and writes its access line. It runs when an agent's connection is
// broken off too.
func (q *request) finish() {
	took, h, f := time.Since(q.call.Start), q.handler, q.failure
	h.opts.Buffered.Put(q.reserved)
	h.smallBodies.Put(q.reservedSmall)
	q.upstream.metrics.count(&q.call, q.outcome, q.hit, took)
	switch {
	case q.failed != nil:
		for reason, calls := range q.failed.Shed {
			h.opts.Metrics.countShed(q.upstream.Name, reason, calls)
		}
	case f != nil && f.Code == mcp.CodeOverloaded:
		h.opts.Metrics.countShed(q.upstream.Name, f.Reason, 1)
	}
	level := slog.LevelInfo
	if f != nil && isWarning(f.Reason) {
		level = slog.LevelWarn
	}
	if h.log.Enabled(context.Background(), level) {
		q.accessLine(level, took)
	}
}

// isWarning reports whether a failure is for those who look only at what goes wrong. That a server's circuit is open is said
// once, by its breaker.
func isWarning(r mcp.Reason) bool {
	return r != mcp.ReasonCanceled && r != mcp.ReasonDraining && r != mcp.ReasonBreakerOpen
}

// line is the attributes of one access line.
type line []slog.Attr

// text adds a string, where there is one.
func (l *line) text(name, s string) {
	if s != "" {
		*l = append(*l, slog.String(name, s))
	}
}

// milliseconds adds a duration as a number, with its unit in the name: log readers add numbers up, and no "1.2s" and "3ms".
func (l *line) milliseconds(name string, d time.Duration) {
	*l = append(*l, slog.Float64(name, float64(d.Microseconds())/1000))
}

// accessLine says everything about one request that is no secret: no header values, no params but a tool's name, no session id.
func (q *request) accessLine(level slog.Level, took time.Duration) {
	c, f := &q.call, q.failure
	l := make(line, 0, 28)
	l = append(l,
		slog.String("id", q.id()), slog.String("upstream", q.upstream.Name), slog.String("verb", q.in.Method),
		slog.String("method", methodLabel(c)), slog.String("outcome", q.outcome.String()), slog.Int("status", q.status),
		slog.Int64("in", q.bytesIn), slog.Int64("out", q.bytesOut))
	l.milliseconds("took_ms", took)
	l.text("remote", q.in.RemoteAddr)
	session := q.sessionHash()
	l.text("tool", toolName(c))
	l.text("agent", q.agent(session))
	l.text("session", session)
	if q.isToolResult {
		l = append(l, slog.Bool("isError", q.toolFailed))
	}
	if c.Lane != mcp.LaneArray { // of which each call has its own
		l.text("era", c.Era.String())
	}
	if q.failed != nil {
		l = append(l, slog.Int("failed_calls", q.failed.Calls))
	}
	l.text("version", clip(c.Version))
	for i, d := range [...]time.Duration{q.timing.Queue, q.timing.Connect, q.timing.FirstByte, q.timing.Upstream} {
		if d > 0 {
			l.milliseconds([...]string{"queue_ms", "connect_ms", "ttfb_ms", "answered_ms"}[i], d)
		}
	}
	l.text("cache", cacheStatus(q.w.Header()["Cache-Status"]))
	if c.Mismatch {
		l = append(l, slog.Bool("mismatch", true))
	}
	if f != nil {
		l = append(l, slog.String("reason", string(f.Reason)), slog.String("sent", string(f.Sent)))
		if f.Cause != nil {
			l = append(l, slog.String("cause", f.Cause.Error()))
		}
	}
	q.handler.log.LogAttrs(context.Background(), level, "request", l...)
}

// cacheStatus returns what this daemon's own cache did: its member of Cache-Status is the last one (RFC 9211, 2).
func cacheStatus(fields []string) string {
	if len(fields) == 0 {
		return ""
	}
	if did, own := strings.CutPrefix(fields[len(fields)-1], "fluentd-perf; "); own {
		return did
	}
	return ""
}
