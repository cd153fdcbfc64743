package monitor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"fluentd-perf/internal/api"
)

// source is where samples come from.
type source interface {
	// next returns the next sample, errEnd behind the last one. upstream is the one that is looked at closely, "" for none.
	next(ctx context.Context, upstream string) (*api.Sample, error)
	// request returns the request of a call under way.
	request(ctx context.Context, upstream, id string) (api.Request, error)
}

// errEnd means that there are no more samples.
var errEnd = errors.New("the recording ends here")

// The messages of the model, besides those of Bubble Tea.
type (
	// tickMsg says that it is time for the next sample.
	tickMsg struct{}
	// sampleMsg is a sample, or why there is none, and when that was.
	sampleMsg struct {
		sample *api.Sample
		err    error
		at     time.Time
	}
	// requestMsg is the request of a call, or why it cannot be had.
	requestMsg struct {
		request api.Request
		err     error
	}
)

// pane is a part of the view with a cursor of its own.
type pane int

const (
	upperPane pane = iota // upstreams, or what is known of one
	callPane              // calls under way
	paneCount
)

// model is the live view. Bubble Tea has one goroutine change it.
type model struct {
	ctx      context.Context
	source   source
	interval time.Duration
	replay   *replay // the source, where that is a recording
	recorder *recorder
	glyphs   *glyphs
	clock    func() time.Time // the present; a test's own
	suspends bool             // ctrl+z does
	hungUp   func() bool      // the terminal has gone away; nil: it cannot

	view          string // what is on the screen; "": it is to be drawn anew
	width, height int
	history       history
	rows          []row  // of the upstreams that the filter lets pass, in the order of the configuration
	fetching      bool   // a sample was asked for and has not come yet
	asking        bool   // and a request to copy
	failure       string // why there is no answer; "": there is one
	failedAt      time.Time
	notice        string // for people, until the next key or for some samples
	noticeFor     int    // samples
	paused        bool

	upstream  string // that is open; "": all are shown
	focus     pane
	cursors   [paneCount]int
	filter    string
	filtering bool // keys go to the filter
	help      bool
	copied    string   // the command line that was copied last
	notes     []string // on it
	showCopy  bool
}

// row is what the view knows of an upstream.
type row struct {
	now      *api.UpstreamSample
	last     change
	all      durations
	track    *track
	resident int64
}

// Init implements tea.Model. The first sample is there already.
func (m *model) Init() tea.Cmd { return m.tick() }

func (m *model) tick() tea.Cmd {
	return tea.Tick(m.interval, func(time.Time) tea.Msg { return tickMsg{} })
}

// fetch asks for the next sample, unless that is under way.
func (m *model) fetch() tea.Cmd {
	if m.fetching {
		return nil
	}
	m.fetching = true
	upstream, now := m.upstream, m.clock
	return func() tea.Msg {
		s, err := m.source.next(m.ctx, upstream)
		return sampleMsg{s, err, now()}
	}
}

// Update implements tea.Model.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	if _, ok := msg.(tickMsg); !ok {
		m.view = ""
	}
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tickMsg:
		if m.hungUp != nil && m.hungUp() {
			return m, tea.Quit
		}
		if m.paused && m.replay != nil {
			return m, m.tick()
		}
		return m, tea.Batch(m.fetch(), m.tick())
	case sampleMsg:
		m.fetching = false
		return m, m.take(msg)
	case requestMsg:
		m.asking = false
		return m, m.copyRequest(msg)
	case tea.KeyPressMsg:
		return m, m.key(msg)
	}
	return m, nil
}

// take takes the next sample, or that there is none. It ends the program with the last one of a recording that is made.
func (m *model) take(msg sampleMsg) tea.Cmd {
	switch {
	case errors.Is(msg.err, errEnd):
		m.paused = true
		m.say("the recording ends here; left goes back, q quits", 1<<30)
		return nil
	case msg.err != nil && m.ctx.Err() == nil:
		if m.failure == "" {
			m.failedAt = msg.at
		}
		m.failure = oneLine(msg.err)
	case msg.sample != nil:
		m.failure = ""
		m.show(msg.sample)
	}
	if m.recorder != nil && m.recorder.add(msg.sample, msg.err, msg.at) {
		return tea.Quit
	}
	return nil
}

// oneLine writes an error of several lines in one, and harmless.
func oneLine(err error) string {
	return Printable(strings.Join(strings.Fields(strings.ReplaceAll(err.Error(), "\n", " ")), " "))
}

// show takes a sample into the view, unless that is paused: what happens meanwhile is then shown as one interval.
func (m *model) show(s *api.Sample) {
	if m.noticeFor--; m.noticeFor <= 0 {
		m.notice = ""
	}
	if m.paused && m.replay == nil {
		return
	}
	if next := m.history.add(s); next.restarted {
		m.say(next.note(s), 10)
	}
	if m.replay != nil {
		if gap, ok := m.replay.gapBefore(s); ok {
			m.say(fmt.Sprintf("no answer from %s to %s: %s", gap.From.Format(time.TimeOnly), gap.To.Format(time.TimeOnly), Printable(gap.Reason)), 5)
		}
	}
	m.refresh()
}

// say shows a notice for some samples.
func (m *model) say(notice string, samples int) { m.notice, m.noticeFor = notice, samples }

// refresh makes the rows anew, and keeps each cursor on what it was on, or in its place where that is not there any more.
func (m *model) refresh() {
	defer m.keepCursors()()
	m.rows = m.rows[:0]
	if m.history.sample == nil {
		return
	}
	for i := range m.history.sample.Upstreams {
		u := &m.history.sample.Upstreams[i]
		if !strings.Contains(strings.ToLower(u.Upstream), strings.ToLower(m.filter)) {
			continue
		}
		t := m.history.trackOf(u.Upstream)
		last := t.last()
		m.rows = append(m.rows, row{u, last, allKinds(last.durations), t, m.history.resident(u.Upstream)})
	}
}

// keepCursors notes what the cursors are on. What it returns puts them on that again. A cursor among the calls that nobody has moved stays on
// the oldest one while the other pane has the focus.
func (m *model) keepCursors() (restore func()) {
	upstream, call := "", m.callAt()
	if all := m.calls(); call == nil && m.cursors[callPane] > 0 && m.cursors[callPane] < len(all) {
		call = &all[m.cursors[callPane]]
	}
	if r := m.chosen(); r != nil && m.upstream == "" {
		upstream = r.now.Upstream
	}
	return func() {
		put := func(p pane, index int) {
			if index >= 0 {
				m.cursors[p] = index
			}
		}
		if upstream != "" {
			put(upperPane, slices.IndexFunc(m.rows, func(r row) bool { return r.now.Upstream == upstream }))
		}
		if call != nil {
			put(callPane, slices.IndexFunc(m.calls(), func(c api.CallSampled) bool { return c.Upstream == call.Upstream && c.Request == call.Request }))
		}
		m.clamp()
	}
}

// clamp keeps the cursors where there is something.
func (m *model) clamp() {
	limits := [paneCount]int{len(m.rows), len(m.calls())}
	if m.upstream != "" {
		limits[upperPane] = len(m.details(m.width))
	}
	for p := range m.cursors {
		m.cursors[p] = max(min(m.cursors[p], limits[p]-1), 0)
	}
}

// opened returns the row of the upstream that is open; nil where it is not there any more.
func (m *model) opened() *row {
	for i := range m.rows {
		if m.rows[i].now.Upstream == m.upstream {
			return &m.rows[i]
		}
	}
	return nil
}

// chosen returns the upstream that the cursor is on, or that is open.
func (m *model) chosen() *row {
	if m.upstream != "" {
		return m.opened()
	}
	if i := m.cursors[upperPane]; i < len(m.rows) {
		return &m.rows[i]
	}
	return nil
}

// calls returns the calls under way of what is shown, the oldest first.
func (m *model) calls() (all []api.CallSampled) {
	for i := range m.rows {
		if u := m.rows[i].now; m.upstream == "" || m.upstream == u.Upstream {
			all = append(all, u.Calls...)
		}
	}
	slices.SortStableFunc(all, func(a, b api.CallSampled) int { return cmp.Compare(b.AgeMs, a.AgeMs) })
	return all
}

// callAt returns the call that the cursor is on, nil where that is not among the calls.
func (m *model) callAt() *api.CallSampled {
	if i := m.cursors[callPane]; m.focus == callPane {
		if calls := m.calls(); i < len(calls) {
			return &calls[i]
		}
	}
	return nil
}

// chosenCall returns the call that y copies: the one at the cursor, else the oldest of the chosen upstream.
func (m *model) chosenCall() *api.CallSampled {
	if m.focus == callPane {
		return m.callAt()
	}
	if r := m.chosen(); r != nil && len(r.now.Calls) > 0 {
		return &r.now.Calls[0]
	}
	return nil
}

// ask asks for the request of the chosen call.
func (m *model) ask() tea.Cmd {
	call := m.chosenCall()
	switch {
	case m.replay != nil:
		m.say("a recording has no requests: only those of a daemon that runs can be copied", 5)
		return nil
	case call == nil:
		m.say("no call is under way there", 5)
		return nil
	}
	if m.asking { // the source answers one at a time
		return nil
	}
	m.asking = true
	upstream, id := call.Upstream, call.Request
	return func() tea.Msg {
		r, err := m.source.request(m.ctx, upstream, id)
		return requestMsg{r, err}
	}
}

// copyRequest has the terminal copy a request as a command line, and shows it: not every terminal does.
func (m *model) copyRequest(msg requestMsg) tea.Cmd {
	line, notes, err := "", []string(nil), msg.err
	if err == nil {
		line, notes, err = curl(m.history.sample.Addresses, msg.request)
	}
	if err != nil {
		m.say("not copied: "+oneLine(err), 5)
		return nil
	}
	m.copied, m.notes, m.showCopy = line, notes, true
	return tea.SetClipboard(line)
}
