package monitor

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"fluentd-perf/internal/api"
)

// column is one of a table. Where not all fit, those with the lowest rank are left out.
type column[Row any] struct {
	title string
	width int
	wider int  // may be that much wider, in the order of the columns
	right bool // numbers
	rank  int  // the smaller, the sooner it is there
	cell  func(g *glyphs, r *Row, width int) string
}

// fitColumns returns the columns that a width has room for, with what is left over given to those that take it.
func fitColumns[Row any](all []column[Row], width int) []column[Row] {
	byRank := slices.SortedFunc(slices.Values(all), func(a, b column[Row]) int { return a.rank - b.rank })
	shown, left := map[string]bool{}, width+1
	for _, c := range byRank {
		if left < c.width+1 {
			break
		}
		shown[c.title], left = true, left-c.width-1
	}
	fit := slices.DeleteFunc(slices.Clone(all), func(c column[Row]) bool { return !shown[c.title] })
	for i := range fit {
		more := min(fit[i].wider, left)
		fit[i].width, left = fit[i].width+more, left-more
	}
	return fit
}

// header returns the titles of columns.
func header[Row any](g *glyphs, columns []column[Row]) string {
	return line(g, columns, func(c column[Row]) string { return c.title })
}

// cells returns a line of a table.
func cells[Row any](g *glyphs, columns []column[Row], r *Row) string {
	return line(g, columns, func(c column[Row]) string { return c.cell(g, r, c.width) })
}

func line[Row any](g *glyphs, columns []column[Row], text func(column[Row]) string) string {
	parts := make([]string, len(columns))
	for i, c := range columns {
		if c.right {
			parts[i] = g.fitRight(text(c), c.width)
		} else {
			parts[i] = g.fit(text(c), c.width)
		}
	}
	return strings.Join(parts, " ")
}

// text makes a cell of a function that needs no width.
func text[Row any](f func(r *Row) string) func(*glyphs, *Row, int) string {
	return func(_ *glyphs, r *Row, _ int) string { return f(r) }
}

// upstreamColumns are those of the table of upstreams.
var upstreamColumns = []column[row]{
	{"UPSTREAM", 12, 28, false, 0, text(func(r *row) string { return Printable(r.now.Upstream) })},
	{"REQ/S", 6, 2, true, 1, text(func(r *row) string { return number(r.last.rate(float64(r.last.requests))) })},
	{"TREND", 6, 54, false, 8, func(g *glyphs, r *row, width int) string { return g.sparkline(r.track.requests, width) }},
	{"P50", 7, 0, true, 6, text(func(r *row) string { return short(r.all.quantile(.5)) })},
	{"P95", 7, 0, true, 2, text(func(r *row) string { return short(r.all.quantile(.95)) })},
	{"P99", 7, 0, true, 9, text(func(r *row) string { return short(r.all.quantile(.99)) })},
	{"FAILED", 6, 0, true, 10, text(func(r *row) string { return failedShare(&r.last) })},
	{"HITS", 6, 0, true, 3, text(func(r *row) string { return percent(r.last.hitShare()) })},
	{"SAVED/S", 7, 0, true, 11, text(func(r *row) string { return number(r.last.rate(float64(r.last.savedCalls))) })},
	{"COALESCED/S", 11, 0, true, 12, text(func(r *row) string { return number(r.last.rate(float64(r.last.coalesced))) })},
	{"CALLS", 5, 0, true, 5, text(func(r *row) string { return fmt.Sprint(r.now.CallsNow) })},
	{"QUEUE", 5, 0, true, 5, text(func(r *row) string { return fmt.Sprint(r.now.Queued) })},
	{"OLDEST", 7, 0, true, 13, text(oldest)},
	{"BREAKER", 10, 0, false, 4, text(func(r *row) string { return breakers(r.now.Endpoints) })},
	{"SESSIONS", 8, 0, true, 15, text(func(r *row) string { return fmt.Sprint(r.now.Sessions) })},
	{"PROCESSES", 9, 0, true, 14, text(func(r *row) string { return fmt.Sprint(r.now.ProcessesNow) })},
	{"MEMORY", 9, 0, true, 7, text(func(r *row) string { return size(r.resident) })},
}

func oldest(r *row) string {
	if len(r.now.Calls) == 0 {
		return "-"
	}
	return age(r.now.Calls[0].AgeMs)
}

// age writes the time that something has lasted, which may be nothing yet.
func age(ms int64) string {
	if ms < 1000 {
		return fmt.Sprintf("%dms", max(ms, 0))
	}
	return short(time.Duration(ms) * time.Millisecond)
}

// callColumns are those of the calls under way.
var callColumns = []column[api.CallSampled]{
	{"UNDER WAY", 9, 0, true, 0, text(func(c *api.CallSampled) string { return age(c.AgeMs) })},
	{"UPSTREAM", 12, 28, false, 1, text(func(c *api.CallSampled) string { return Printable(c.Upstream) })},
	{"METHOD", 14, 10, false, 2, text(func(c *api.CallSampled) string { return Printable(c.Method) })},
	{"TOOL", 12, 30, false, 3, text(func(c *api.CallSampled) string { return Printable(c.Tool) })},
	{"AGENT", 14, 30, false, 4, text(func(c *api.CallSampled) string { return Printable(c.Agent) })},
	{"REQUEST", 12, 8, false, 5, text(func(c *api.CallSampled) string { return Printable(c.Request) })},
}
