package monitor

import (
	"fmt"
	"math"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/charmbracelet/x/ansi"

	"fluentd-perf/internal/api"
)

// Printable replaces what could move a terminal's cursor: names and errors may be other programs' words.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// glyphs are the characters beyond ASCII that the view uses, or what it uses for them.
type glyphs struct {
	levels []rune // of a sparkline, from nothing to most
	cut    string // ends what was too long
}

var (
	unicodeGlyphs = glyphs{[]rune("▁▂▃▄▅▆▇█"), "…"}
	asciiGlyphs   = glyphs{[]rune("_.-=+*%#"), "~"}
)

// glyphsFor returns the characters that a locale has, by the first of the variables that is set (POSIX, "Internationalization Variables").
func glyphsFor(env func(string) string) glyphs {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if locale := strings.ToLower(env(name)); locale != "" {
			if strings.Contains(locale, "utf-8") || strings.Contains(locale, "utf8") {
				return unicodeGlyphs
			}
			return asciiGlyphs
		}
	}
	return asciiGlyphs
}

// isDumb reports whether a terminal cannot move its cursor, by the variable for its kind.
func isDumb() bool { return os.Getenv("TERM") == "dumb" || os.Getenv("TERM") == "" }

// sparkline draws the last points in so many cells, the largest one full. What is not there yet is blank.
func (g *glyphs) sparkline(points []float64, cells int) string {
	if cells <= 0 {
		return ""
	}
	points = points[max(len(points)-cells, 0):]
	most := 0.0
	for _, p := range points {
		most = max(most, p)
	}
	line := []rune(strings.Repeat(" ", cells-len(points)))
	for _, p := range points {
		level := 0
		if most > 0 && p > 0 {
			level = min(1+int(p/most*float64(len(g.levels)-1)), len(g.levels)-1)
		}
		line = append(line, g.levels[level])
	}
	return string(line)
}

// fit makes a text, which is safe and may be styled, exactly so many cells wide.
func (g *glyphs) fit(text string, width int) string {
	if width <= 0 {
		return ""
	}
	text = ansi.Truncate(text, width, g.cut)
	return text + strings.Repeat(" ", max(width-ansi.StringWidth(text), 0))
}

// fitRight is fit with the text at the right.
func (g *glyphs) fitRight(text string, width int) string {
	text = ansi.Truncate(text, max(width, 0), g.cut)
	return strings.Repeat(" ", max(width-ansi.StringWidth(text), 0)) + text
}

// short writes a time in at most seven characters, "-" for none.
func short(d time.Duration) string {
	ms := float64(d) / float64(time.Millisecond)
	switch {
	case d <= 0:
		return "-"
	case ms < 9.995:
		return fmt.Sprintf("%.2fms", ms)
	case ms < 99.95:
		return fmt.Sprintf("%.1fms", ms)
	case ms < 999.5:
		return fmt.Sprintf("%.0fms", ms)
	case d < 59950*time.Millisecond:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	d = d.Round(time.Second)
	switch {
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%02dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// number writes how many, or how many a second.
func number(n float64) string {
	units := []string{"", "k", "M", "G", "T", "P"}
	for n >= 9999.5 && len(units) > 1 {
		n, units = n/1000, units[1:]
	}
	if n == math.Trunc(n) || n >= 99.95 {
		return fmt.Sprintf("%.0f%s", n, units[0])
	}
	return fmt.Sprintf("%.1f%s", n, units[0])
}

// percent writes a share, "-" where there is none. It rounds down: 100% means that there was nothing else.
func percent(share float64, known bool) string {
	switch {
	case !known:
		return "-"
	case share >= 1:
		return "100%"
	}
	tenths := int(share*1000 + 1e-9)
	return fmt.Sprintf("%d.%d%%", tenths/10, tenths%10)
}

// failedShare writes which share of the requests failed, "-" where there were none. It rounds up: 0.0% means that none did.
func failedShare(c *change) string {
	if c.failed == 0 || c.failed >= c.requests {
		return percent(share(c.failed, c.requests))
	}
	tenths := min((c.failed*1000+c.requests-1)/c.requests, 999)
	return fmt.Sprintf("%d.%d%%", tenths/10, tenths%10)
}

// cores writes how much of a core is used.
func cores(n float64) string { return fmt.Sprintf("%.1f%%", n*100) }

// size writes bytes, "-" where they are not known.
func size(bytes int64) string {
	switch {
	case bytes < 0:
		return "-"
	case bytes < 1<<10:
		return fmt.Sprintf("%d B", bytes)
	}
	n, units := float64(bytes)/(1<<10), []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	for n >= 999.95 && len(units) > 1 {
		n, units = n/(1<<10), units[1:]
	}
	return fmt.Sprintf("%.1f %s", n, units[0])
}

// breakers says the state of an upstream's circuits: the worst one's.
func breakers(endpoints []api.EndpointSample) string {
	open, half, text := 0, 0, "-"
	retry := int64(0)
	for _, e := range endpoints {
		switch e.Breaker {
		case "open":
			open, retry = open+1, max(retry, e.RetryMs)
		case "half-open":
			half++
		default:
			text = Printable(e.Breaker)
		}
	}
	switch all := len(endpoints); {
	case open > 0 && all > 1:
		return fmt.Sprintf("open %d/%d", open, all)
	case open > 0 && retry > 0:
		return "open " + short(time.Duration(retry)*time.Millisecond)
	case open > 0:
		return "open"
	case half > 0:
		return "half-open"
	}
	return text
}

func isOpen(endpoints []api.EndpointSample) bool {
	return strings.HasPrefix(breakers(endpoints), "open")
}
