package monitor

import (
	"unicode/utf8"

	tea "charm.land/bubbletea/v2"
)

// maxFilter bounds the filter, in bytes.
const maxFilter = 100

// key does what a key stands for. It closes what is open above the view first.
func (m *model) key(msg tea.KeyPressMsg) tea.Cmd {
	name := msg.String()
	switch {
	case name == "ctrl+c":
		return tea.Quit
	case name == "ctrl+z" && m.suspends:
		return tea.Suspend
	case name == "ctrl+z":
		m.say("no shell would have it go on: it is not suspended", 5)
		return nil
	case m.filtering:
		m.filterKey(name, msg.Text)
		return nil
	case m.help || m.showCopy:
		m.help, m.showCopy = false, false
		if name != "q" {
			return nil
		}
	}
	if m.move(name) {
		return nil
	}
	return m.command(name)
}

// command does what a key stands for that moves no cursor.
func (m *model) command(name string) tea.Cmd {
	switch name {
	case "q":
		return tea.Quit
	case "?":
		m.help = true
	case "/":
		m.filtering = m.upstream == ""
	case "tab":
		m.focus = (m.focus + 1) % paneCount
	case "enter":
		m.open()
	case "esc":
		m.back()
	case "p", "space":
		m.paused = !m.paused
	case "left", "right":
		return m.stepReplay(name)
	case "y":
		return m.ask()
	}
	return nil
}

// move moves the cursor of the pane that has the focus, and reports whether the key stands for that.
func (m *model) move(name string) bool {
	by := map[string]int{
		"up": -1, "k": -1, "down": 1, "j": 1, "pgup": -10, "pgdown": 10, "home": -1 << 30, "g": -1 << 30, "end": 1 << 30, "G": 1 << 30,
	}
	n, ok := by[name]
	if ok {
		m.cursors[m.focus] += n
		m.clamp()
	}
	return ok
}

// open opens the upstream at the cursor, or that of the call at the cursor.
func (m *model) open() {
	name := ""
	if call := m.chosenCall(); m.focus == callPane && call != nil {
		name = call.Upstream
	} else if r := m.chosen(); m.focus == upperPane && r != nil {
		name = r.now.Upstream
	}
	if name == "" || m.upstream != "" {
		return
	}
	m.upstream, m.focus, m.cursors = name, upperPane, [paneCount]int{}
}

// back closes the upstream that is open, with the cursor on it, or else ends the filter.
func (m *model) back() {
	if m.upstream == "" {
		m.filter = ""
		m.refresh()
		return
	}
	name := m.upstream
	m.upstream, m.focus, m.cursors = "", upperPane, [paneCount]int{}
	for i := range m.rows {
		if m.rows[i].now.Upstream == name {
			m.cursors[upperPane] = i
		}
	}
}

// filterKey edits the filter.
func (m *model) filterKey(name, text string) {
	switch name {
	case "enter":
		m.filtering = false
	case "esc":
		m.filtering, m.filter = false, ""
	case "backspace":
		_, last := utf8.DecodeLastRuneInString(m.filter)
		m.filter = m.filter[:len(m.filter)-last]
	default:
		if len(m.filter)+len(text) <= maxFilter {
			m.filter += Printable(text)
		}
	}
	m.refresh()
}

// stepReplay shows the sample before or after of a recording, and pauses it.
func (m *model) stepReplay(name string) tea.Cmd {
	if m.replay == nil || m.fetching { // which is about to step itself
		return nil
	}
	m.paused = true
	if name == "right" {
		return m.fetch()
	}
	m.notice = ""
	m.history = history{}
	for _, s := range m.replay.back() {
		m.history.add(s)
	}
	m.refresh()
	return nil
}
