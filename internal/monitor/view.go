package monitor

import (
	"fmt"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"fluentd-perf/internal/api"
)

// The styles of the view. Bubble Tea leaves colours out where the terminal has none or NO_COLOR is set: nothing is said by them alone.
var (
	titleStyle  = lipgloss.NewStyle().Bold(true)
	headStyle   = lipgloss.NewStyle().Underline(true)
	chosenStyle = lipgloss.NewStyle().Reverse(true)
	alarmStyle  = lipgloss.NewStyle().Bold(true).Foreground(lipgloss.Red)
	dimStyle    = lipgloss.NewStyle().Faint(true)
	trendStyle  = lipgloss.NewStyle().Foreground(lipgloss.Cyan)
)

// The least that the view can be drawn in, in cells.
const (
	minWidth  = 40
	minHeight = 10
)

// View implements tea.Model. It draws after what may have changed something, which a tick does not.
func (m *model) View() tea.View {
	if m.view == "" {
		m.view = strings.Join(m.lines(), "\n")
	}
	v := tea.NewView(m.view)
	v.AltScreen = true
	v.WindowTitle = "fluentd-perf monitor"
	v.DisableBracketedPasteMode = true
	return v
}

// lines returns what is on the screen: as many lines as that has, none wider than it.
func (m *model) lines() []string {
	if m.width <= 0 || m.height <= 0 {
		return nil
	}
	var all []string
	switch {
	case m.width < minWidth || m.height < minHeight:
		all = []string{fmt.Sprintf("at least %dx%d, please", minWidth, minHeight)}
	case m.showCopy:
		all = m.copyLines()
	case m.help:
		all = m.helpLines()
	default:
		all = m.screen()
	}
	all = all[:min(len(all), m.height)]
	for i, l := range all {
		all[i] = m.glyphs.fit(l, m.width)
	}
	for len(all) < m.height {
		all = append(all, "")
	}
	return all
}

// screen returns the view itself: the state, the figures, a pane, the calls under way, and the keys.
func (m *model) screen() []string {
	all := []string{m.stateLine()}
	if m.history.sample == nil {
		return append(all, "", "waiting for the daemon")
	}
	all = append(all, m.figures()...)
	left := m.height - len(all) - 1
	calls := m.callPane(left)
	all = append(all, m.upperPane(left-len(calls))...)
	for len(all) < m.height-1-len(calls) {
		all = append(all, "")
	}
	return append(append(all, calls...), m.footer())
}

// stateLine says which daemon is watched, and how.
func (m *model) stateLine() string {
	if m.failure != "" {
		since := m.clock().Sub(m.failedAt).Round(time.Second)
		return alarmStyle.Render(m.glyphs.fit(fmt.Sprintf("NO ANSWER for %s: %s", since, m.failure), m.width))
	}
	s := m.history.sample
	if s == nil {
		return titleStyle.Render("fluentd-perf monitor")
	}
	state := "every " + m.interval.String()
	switch {
	case m.replay != nil:
		state = fmt.Sprintf("replay %d/%d, %s", m.replay.shown, len(m.replay.recording.Samples), s.At.Format(time.DateTime))
	case m.recorder != nil:
		state = fmt.Sprintf("recording, %d left", m.recorder.left)
	}
	if m.history.all.changes != nil {
		state += ", last " + m.shownTime()
	}
	if m.paused {
		state = "PAUSED, " + state
	}
	if s.Draining {
		state = "STOPPING, " + state
	}
	name := fmt.Sprintf("fluentd-perf %s  pid %d  up %s  %s", Printable(s.Version), s.PID, short(up(s)), Printable(strings.Join(s.Addresses, ", ")))
	room := m.width - len(state) - 2
	return titleStyle.Render(m.glyphs.fit(name, max(room, 0))) + "  " + state
}

// shownTime is over how much time the figures go: as many intervals as make up window, or one that is longer.
func (m *model) shownTime() string { return m.history.all.last().took.Round(time.Second).String() }

// lowHeight is below which some of the figures are left out, so that the panes have room.
const lowHeight = 18

// figures returns what happened in the last seconds at all upstreams, or at the one that is open.
func (m *model) figures() []string {
	t := &m.history.all
	if r := m.opened(); r != nil {
		t = r.track
	}
	c, now := t.last(), m.history.now(m.upstream)
	all := allKinds(c.durations)
	lines := []string{
		m.figure("requests", fmt.Sprintf("%s/s  failed %s  shed %s/s  retries %s/s", number(c.rate(float64(c.requests))),
			failedShare(&c), number(c.rate(float64(c.shed))), number(c.rate(float64(c.retries)))), t.requests),
		m.figure("latency", fmt.Sprintf("p50 %s  p95 %s  p99 %s", short(all.quantile(.5)), short(all.quantile(.95)), short(all.quantile(.99))), t.slow),
		m.figure("hits", percent(c.hitShare())+tiersOf(&c), t.hits),
		m.figure("now", fmt.Sprintf("in flight %d  queued %d  open breakers %d  processes %d %s",
			now.inFlight, now.queued, now.open, now.processes, size(now.resident)), nil),
		m.figure("saved", fmt.Sprintf("%s calls/s  %.2f s/s  coalesced %s/s", number(c.rate(float64(c.savedCalls))), c.rate(c.savedSeconds),
			number(c.rate(float64(c.coalesced)))), nil),
		m.figure("daemon", fmt.Sprintf("%s  cpu %s  cache %s", size(m.history.sample.Memory), cores(m.history.cpu), tierText(m.history.sample.Tiers)), nil),
	}
	if m.height < lowHeight {
		return lines[:3]
	}
	return lines
}

// tierText says what the tiers hold, and which of them are not used.
func tierText(tiers []api.TierSample) string {
	parts := make([]string, len(tiers))
	for i, t := range tiers {
		parts[i] = Printable(t.Tier) + " " + size(t.Bytes)
		if t.Breaker != "" && t.Breaker != "closed" {
			parts[i] += " (breaker " + Printable(t.Breaker) + ")"
		}
	}
	return strings.Join(parts, ", ")
}

// figure returns a line of figures, with a sparkline at its end where there is room.
func (m *model) figure(name, text string, points []float64) string {
	label := m.glyphs.fit(name, 9)
	if points == nil {
		return titleStyle.Render(label) + text
	}
	cells := min(m.width-9-50, maxPoints)
	if cells < 8 {
		return titleStyle.Render(label) + text
	}
	return titleStyle.Render(label) + m.glyphs.fit(text, m.width-9-cells-1) + " " + trendStyle.Render(m.glyphs.sparkline(points, cells))
}

// upperPane returns the table of upstreams, or what is known of the one that is open, in so many lines.
func (m *model) upperPane(height int) []string {
	if m.upstream != "" {
		return m.detailPane(height)
	}
	columns := fitColumns(upstreamColumns, m.width)
	first, last := visible(len(m.rows), m.cursors[upperPane], height-1)
	all := []string{m.head(header(m.glyphs, columns), upperPane, first, last, len(m.rows))}
	for i := first; i < last; i++ {
		all = append(all, m.rowLine(cells(m.glyphs, columns, &m.rows[i]), upperPane, i, isOpen(m.rows[i].now.Endpoints)))
	}
	if len(m.rows) == 0 {
		all = append(all, dimStyle.Render("no upstream has this in its name: "+Printable(m.filter)))
	}
	return all
}

// callPane returns the calls under way, in at most a third of so many lines: none where that is not worth it.
func (m *model) callPane(height int) []string {
	if height < 6 {
		return nil
	}
	calls := m.calls()
	shown := min(len(calls), max(height/3, 3)-1)
	first, last := visible(len(calls), m.cursors[callPane], shown)
	columns := fitColumns(callColumns, m.width)
	title := header(m.glyphs, columns)
	if len(calls) == 0 {
		title = "no calls under way"
	}
	all := []string{m.head(title, callPane, first, last, m.callCount())}
	for i := first; i < last; i++ {
		all = append(all, m.rowLine(cells(m.glyphs, columns, &calls[i]), callPane, i, false))
	}
	return all
}

// callCount returns how many calls are under way of what is shown, those that the daemon did not list included.
func (m *model) callCount() (n int) {
	for i := range m.rows {
		if u := m.rows[i].now; m.upstream == "" || m.upstream == u.Upstream {
			n += u.CallsNow
		}
	}
	return n
}

// head returns the titles of a pane. Where not all of it is shown, it says which part is, between the titles.
func (m *model) head(title string, p pane, first, last, all int) string {
	if last-first < all {
		title = m.withPart(title, fmt.Sprintf("%d-%d of %d", first+1, last, all), fmt.Sprintf("%d-%d/%d", first+1, last, all))
	}
	style := headStyle
	if m.focus == p {
		style = style.Bold(true)
	}
	return style.Render(m.glyphs.fit(title, m.width))
}

// withPart writes the first of some texts for which titles leave room, as far right as there is any. Where there is none, the last text is
// written over the end of the titles.
func (m *model) withPart(title string, texts ...string) string {
	title = m.glyphs.fit(title, m.width) + " "
	for _, text := range texts {
		if i := strings.LastIndex(title, strings.Repeat(" ", len(text)+2)); i >= 0 {
			return title[:i+1] + text + strings.TrimSuffix(title[i+1+len(text):], " ")
		}
	}
	text := texts[len(texts)-1]
	return m.glyphs.fit(title, m.width-len(text)-1) + " " + text
}

// rowLine returns a line of a pane: the one at the cursor is marked in the pane that has the focus.
func (m *model) rowLine(text string, p pane, index int, alarm bool) string {
	text = m.glyphs.fit(text, m.width)
	switch {
	case m.focus == p && m.cursors[p] == index:
		return chosenStyle.Render(text)
	case alarm:
		return alarmStyle.Render(text)
	}
	return text
}

// visible returns which of n lines are shown in a height, so that the one at the cursor is among them.
func visible(n, cursor, height int) (first, last int) {
	height = max(min(height, n), 0)
	first = max(min(cursor-height/2, n-height), 0)
	return first, first + height
}

// footer returns what was to be said, or the keys.
func (m *model) footer() string {
	switch {
	case m.filtering:
		return "/" + m.filter + "_  (enter keeps the filter, esc ends it)"
	case m.notice != "":
		return titleStyle.Render(m.notice)
	}
	keys := "enter open  / filter  tab calls  y copy  p pause  ? help  q quit"
	if m.upstream != "" {
		keys = "esc back  tab calls  y copy  p pause  ? help  q quit"
	}
	if m.replay != nil {
		keys = "left/right step  " + keys
	}
	if m.filter != "" {
		keys = "filter " + m.filter + " (esc ends it)  " + keys
	}
	return dimStyle.Render(m.glyphs.fit(keys, m.width))
}

// copyLines shows the command line that was copied.
func (m *model) copyLines() []string {
	all := []string{titleStyle.Render("copied to the clipboard, where the terminal lets programs do that; printed again at the end"), ""}
	all = append(all, strings.Split(ansi.Hardwrap(m.copied, m.width, true), "\n")...)
	all = append(all, "")
	for _, note := range m.notes {
		all = append(all, "- "+note)
	}
	return append(all, "", dimStyle.Render("any key goes back"))
}

// helpLines returns the page that ? shows.
func (m *model) helpLines() []string {
	return strings.Split(strings.ReplaceAll(helpText, "TIME", m.shownTime()), "\n")
}

const helpText = `fluentd-perf monitor

up down pgup pgdown   move (also k j), home end (g G) to the ends
tab                   between the upstreams and the calls under way
enter                 open the upstream at the cursor; esc goes back
/                     show only upstreams whose name has a text in it
y                     copy a call under way as a curl without credentials:
                      the one at the cursor, or the upstream's oldest one
p space               pause; left right step through a recording
q                     quit

Figures are of the last TIME. Latency is what agents waited. HITS is of
the requests that the cache could answer how many it did; SAVED are calls
that the server was spared, and the time it would have taken for them.
BREAKER open: the server is not called, with the time until the next try.
MEMORY is that of the processes of a server that is a command (RSS).

any key goes back`
