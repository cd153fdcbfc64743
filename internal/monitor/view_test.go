package monitor

import (
	"regexp"
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"

	"fluentd-perf/internal/api"
)

// TestScreens holds the view in a small and in a large terminal, with few and with many upstreams.
func TestScreens(t *testing.T) {
	for _, c := range []struct {
		file                 string
		width, height, count int
		keys                 []string
	}{
		{"small.txt", 80, 24, 3, nil},
		{"large.txt", 200, 60, 3, nil},
		{"small-50.txt", 80, 24, 50, []string{"end"}},
		{"large-50.txt", 200, 60, 50, []string{"tab", "down", "down"}},
		{"small-detail.txt", 80, 24, 3, []string{"down", "down", "enter"}},
		{"large-detail.txt", 200, 60, 3, []string{"down", "down", "enter"}},
		{"small-open.txt", 80, 24, 3, []string{"down", "enter"}},
		{"small-help.txt", 80, 24, 3, []string{"?"}},
		{"small-filter.txt", 80, 24, 50, []string{"/", "4", "2", "enter"}},
		{"tiny.txt", 40, 10, 3, nil},
	} {
		s := newScreen(t, newFakeDaemon(names(c.count)...), c.width, c.height).seconds(20)
		s.keys(c.keys...)
		s.golden(c.file)
	}
}

// hostile are names that try to be something else for a terminal.
var hostile = []string{
	"\x1b[2J\x1b[H\x1b[31mred", "\x1b]0;title\x07", "\x9b31mc1", "\u009b31mc1", "a\nb\rc\td", "\u202egnp.exe", "x\x00\x7f\u00ad", "漢字漢字漢字漢字漢字漢字漢字漢字漢字漢字", "\xff\xfe", strings.Repeat("long", 300),
	"\x1bPq#0;2;0;0;0\x1b\\", "e\u0301\u0301\u0301",
}

// TestHostileNames: no text from outside gets a control character onto the screen, and every line still fits.
func TestHostileNames(t *testing.T) {
	for _, size := range [][2]int{{80, 24}, {200, 60}, {41, 11}} {
		d := newFakeDaemon(hostile...)
		s := newScreen(t, d, size[0], size[1])
		for range 3 {
			sample := d.sample()
			sample.Version, sample.Addresses = hostile[0], []string{hostile[1]}
			for i := range sample.Upstreams {
				u := &sample.Upstreams[i]
				u.Calls = []api.CallSampled{{Request: hostile[0], Upstream: u.Upstream, Method: hostile[1], Tool: hostile[2], Agent: hostile[3]}}
				u.Endpoints = []api.EndpointSample{{Host: hostile[0], Breaker: hostile[1], Failures: 1, Trouble: hostile[9]}}
				u.Requests, u.Methods = map[string]uint64{hostile[0]: uint64(d.second)}, map[string]uint64{hostile[1]: uint64(d.second)}
				u.Processes, u.ProcessesNow = []api.ProcessSampled{{State: hostile[0]}}, 1
				u.Cache["\x1b[5m"] = map[string]uint64{"hit": uint64(d.second)}
			}
			s.m.Update(sampleMsg{sample: sample})
		}
		harmless(t, s)
		if size[0] == 80 {
			s.golden("small-hostile.txt")
			for range hostile {
				s.keys("enter")
				harmless(t, s)
				s.keys("esc", "down")
			}
		}
		s.m.Update(sampleMsg{err: api.ErrNotFound})
		s.m.failure = oneLine(&api.RefusedError{Message: strings.Join(hostile, "\n")})
		harmless(t, s)
		s.keys("/", "\x1b[2J")
		harmless(t, s)
	}
}

// ownStyles are the sequences with which the view itself makes text bold, reverse, coloured, faint or underlined.
var ownStyles = regexp.MustCompile("\x1b\\[[0-9;]*m")

// harmless holds that nothing but the view's own styles is on a screen that could be taken for a command.
func harmless(t *testing.T, s *screenOf) {
	t.Helper()
	s.text()
	for _, line := range strings.Split(s.m.View().Content, "\n") {
		line = ownStyles.ReplaceAllString(line, "")
		if Printable(line) != line {
			t.Errorf("a line is not harmless: %q", line)
		}
	}
	if strings.Contains(s.m.View().Content, "\x1b[31mred") || strings.Contains(s.m.View().Content, "\x1b[5m") {
		t.Errorf("a name has coloured the screen")
	}
}

// TestEverySize: whatever the size, no line is too long and there are as many as the terminal has.
func TestEverySize(t *testing.T) {
	d := newFakeDaemon(names(50)...)
	s := newScreen(t, d, 80, 24).seconds(3)
	for _, page := range []struct {
		keys  []string
		shows string
	}{{nil, "server-01"}, {[]string{"enter"}, "ENDPOINT"}, {[]string{"?"}, "any key goes back"}, {[]string{"esc", "y"}, "curl -sS -X 'POST'"}} {
		s.keys(page.keys...)
		s.m.Update(tea.WindowSizeMsg{Width: 80, Height: 24})
		s.shows("the page", page.shows)
		for width := 1; width < 240; width += 37 {
			for height := 1; height < 70; height += 13 {
				s.m.Update(tea.WindowSizeMsg{Width: width, Height: height})
				s.text()
			}
		}
	}
}

// TestASCII: a locale without UTF-8 has a view without anything else than ASCII.
func TestASCII(t *testing.T) {
	for env, want := range map[string]string{"LC_ALL=C.UTF-8": "▁", "LANG=de_DE.utf8": "▁", "LC_ALL=C": "_", "LC_CTYPE=POSIX": "_", "": "_"} {
		name, value, _ := strings.Cut(env, "=")
		g := glyphsFor(func(asked string) string {
			if asked == name {
				return value
			}
			return ""
		})
		if got := string(g.levels[0]); got != want {
			t.Errorf("%q: %s, want %s", env, got, want)
		}
	}
	s := newScreen(t, newFakeDaemon(names(50)...), 100, 30)
	g := asciiGlyphs
	s.m.glyphs = &g
	if text := s.seconds(12).text(); strings.ContainsFunc(text, func(r rune) bool { return r > 127 }) {
		t.Errorf("not ASCII:\n%s", text)
	}
}

// TestSparkline: the largest is full, nothing is the lowest level, something never is, and what is not there yet is blank.
func TestSparkline(t *testing.T) {
	for _, c := range []struct {
		points []float64
		cells  int
		want   string
	}{
		{nil, 3, "   "}, {[]float64{0, 0}, 3, " ▁▁"}, {[]float64{1, 1000}, 2, "▂█"}, {[]float64{9, 1, 2, 4}, 2, "▅█"}, {[]float64{1}, 0, ""}, {[]float64{5, 5}, -1, ""},
	} {
		if got := unicodeGlyphs.sparkline(c.points, c.cells); got != c.want {
			t.Errorf("%v in %d: %q, want %q", c.points, c.cells, got, c.want)
		}
	}
}
