package monitor

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"fluentd-perf/internal/api"
)

// detailPane returns what is known of the upstream that is open, in so many lines; the cursor says which part.
func (m *model) detailPane(height int) []string {
	lines := m.details(m.width)
	shown := max(height-1, 0)
	first := max(min(m.cursors[upperPane], len(lines)-shown), 0)
	last := min(first+shown, len(lines))
	all := []string{m.head(Printable(m.upstream), upperPane, first, last, len(lines))}
	return append(all, lines[first:last]...)
}

// details returns all that is known of the upstream that is open.
func (m *model) details(width int) []string {
	r := m.opened()
	if r == nil {
		return []string{"the daemon has no such upstream any more"}
	}
	var all []string
	for _, part := range [][]string{m.endpointLines(r, width), m.processLines(r, width), m.kindLines(r),
		countLines("OUTCOME", r.last.outcomes, &r.last), countLines("METHOD", r.last.methods, &r.last)} {
		if len(part) > 0 {
			all = append(append(all, part...), "")
		}
	}
	return all
}

// endpointColumns are those of an upstream's endpoints.
var endpointColumns = []column[api.EndpointSample]{
	{"ENDPOINT", 24, 40, false, 0, text(func(e *api.EndpointSample) string { return Printable(cmp.Or(e.Host, "-")) })},
	{"BREAKER", 12, 0, false, 1, text(func(e *api.EndpointSample) string { return breakers([]api.EndpointSample{*e}) })},
	{"IN FLIGHT", 9, 0, true, 2, text(func(e *api.EndpointSample) string { return fmt.Sprint(e.InFlight) })},
}

// endpointLines returns the endpoints, each with what is wrong with it.
func (m *model) endpointLines(r *row, width int) []string {
	columns := fitColumns(endpointColumns, width)
	all := []string{header(m.glyphs, columns)}
	for i := range r.now.Endpoints {
		e := &r.now.Endpoints[i]
		all = append(all, cells(m.glyphs, columns, e))
		if e.Failures > 0 {
			all = append(all, alarmStyle.Render(m.glyphs.fit(fmt.Sprintf("  failed %d times: %s", e.Failures, Printable(e.Trouble)), width)))
		}
	}
	return all
}

// kindLines returns how long requests took by kind, and how much of that the server did.
func (m *model) kindLines(r *row) []string {
	kinds := slices.Sorted(maps.Keys(r.last.durations))
	if len(kinds) == 0 {
		return []string{"no request has ended in the last seconds"}
	}
	all := []string{fmt.Sprintf("%-10s %8s %8s %8s %8s %12s %12s", "KIND", "REQ/S", "P50", "P95", "P99", "SERVER P50", "SERVER P95")}
	for _, kind := range kinds {
		d, server := r.last.durations[kind], r.last.server[kind]
		all = append(all, fmt.Sprintf("%-10s %8s %8s %8s %8s %12s %12s", Printable(kind), number(r.last.rate(float64(d.count))),
			short(d.quantile(.5)), short(d.quantile(.95)), short(d.quantile(.99)), short(server.quantile(.5)), short(server.quantile(.95))))
	}
	return all
}

// countLines returns counts of the last seconds, the largest first.
func countLines(title string, counts map[string]uint64, c *change) []string {
	if len(counts) == 0 {
		return nil
	}
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), strings.Compare(a, b))
	})
	all := []string{fmt.Sprintf("%-24s %8s %8s", title, "REQ/S", "SHARE")}
	for _, name := range names {
		all = append(all, fmt.Sprintf("%-24s %8s %8s", Printable(name), number(c.rate(float64(counts[name]))), percent(share(counts[name], c.requests))))
	}
	return all
}

// processColumns are those of a stdio server's processes.
var processColumns = []column[api.ProcessSampled]{
	{"PID", 8, 0, true, 0, text(func(p *api.ProcessSampled) string { return fmt.Sprint(p.PID) })},
	{"AGE", 8, 0, true, 2, text(func(p *api.ProcessSampled) string { return age(p.AgeMs) })},
	{"STATE", 8, 0, false, 3, text(func(p *api.ProcessSampled) string { return Printable(p.State) })},
	{"MEMORY", 10, 0, true, 1, text(func(p *api.ProcessSampled) string { return size(known(p.RSS)) })},
	{"CPU", 8, 0, true, 4, text(func(p *api.ProcessSampled) string { return short(time.Duration(p.CPUMs) * time.Millisecond) })},
	{"SESSIONS", 8, 0, true, 5, text(func(p *api.ProcessSampled) string { return fmt.Sprint(p.Sessions) })},
	{"PROCESSES", 9, 0, true, 6, text(func(p *api.ProcessSampled) string { return fmt.Sprint(p.Processes) })},
}

func (m *model) processLines(r *row, width int) []string {
	list := m.history.processes[r.now.Upstream]
	if len(list) == 0 {
		return nil
	}
	columns := fitColumns(processColumns, width)
	all := []string{header(m.glyphs, columns)}
	for i := range list {
		all = append(all, cells(m.glyphs, columns, &list[i]))
	}
	return all
}
