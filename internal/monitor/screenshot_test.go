package monitor

import (
	"encoding/xml"
	"fmt"
	"html"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"
)

// TestScreenshots holds the pictures of the documents to the view: 50 upstreams, some with names that try to be something else.
// `go test ./internal/monitor -update` draws them.
func TestScreenshots(t *testing.T) {
	for _, size := range [][2]int{{80, 24}, {200, 60}} {
		s := newScreen(t, newFakeDaemon(append(slices.Clone(hostile), names(50-len(hostile))...)...), size[0], size[1]).seconds(20)
		s.keys("down", "down", "down")
		s.text() // drawn anew
		got := picture(s.m.View().Content, size[0], size[1])
		if err := xml.Unmarshal([]byte(got), new(struct{})); err != nil {
			t.Error(err)
		}
		if size[0] == 80 && (!strings.Contains(got, ` red"`) || !strings.Contains(got, "?[2J?[H?[3") || !strings.Contains(got, "<rect")) {
			t.Error("no alarm, no name, or no cursor")
		}
		golden(t, fmt.Sprintf("../../../docs/monitor-%dx%d.svg", size[0], size[1]), got)
	}
}

// The measures of a cell of a picture, in pixels.
const (
	cellWidth  = 8.4
	cellHeight = 17
)

// look is how a cell looks: the styles of view.go.
type look struct{ bold, faint, underline, reverse, red, cyan bool }

// class are its classes in the picture.
func (l look) class() string {
	var all []string
	for name, on := range map[string]bool{"bold": l.bold, "faint": l.faint, "under": l.underline, "rev": l.reverse, "red": l.red, "cyan": l.cyan} {
		if on {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

// after is how cells look after a sequence that sets styles. Others are not in a view.
func (l look) after(sequence string) look {
	for code := range strings.SplitSeq(strings.TrimSuffix(strings.TrimPrefix(sequence, "\x1b["), "m"), ";") {
		n, _ := strconv.Atoi(code) // none is 0
		switch n {
		case 0:
			l = look{}
		case 1:
			l.bold = true
		case 2:
			l.faint = true
		case 4:
			l.underline = true
		case 7:
			l.reverse = true
		case 31:
			l.red = true
		case 36:
			l.cyan = true
		}
	}
	return l
}

// picture draws a screen as SVG: text in its cells, which needs nothing but the reader's own monospaced font.
func picture(screen string, columns, rows int) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %.0f %d" font-family="ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace" font-size="14">
<style>text{fill:#e6edf3;white-space:pre}.bold{font-weight:bold}.faint{opacity:.65}.under{text-decoration:underline}.red{fill:#ff7b72}.cyan{fill:#76e3ea}.rev{fill:#0d1117}</style>
<rect width="100%%" height="100%%" rx="6" fill="#0d1117"/>
`, float64(columns)*cellWidth+16, rows*cellHeight+16)
	for y, line := range strings.Split(screen, "\n") {
		drawLine(&b, line, y)
	}
	return b.String() + "</svg>\n"
}

// drawLine draws the runs of cells that look the same.
func drawLine(b *strings.Builder, line string, y int) {
	now, text, x, width := look{}, "", 0, 0
	flush := func() {
		left, top := 8+float64(x)*cellWidth, 8+y*cellHeight
		if now.reverse {
			fmt.Fprintf(b, `<rect x="%.1f" y="%d" width="%.1f" height="%d" fill="#e6edf3"/>`, left, top, float64(width)*cellWidth, cellHeight)
		}
		if strings.TrimSpace(text) != "" || now.underline {
			fmt.Fprintf(b, `<text class="%s" x="%.1f" y="%d" textLength="%.1f" lengthAdjust="spacingAndGlyphs" xml:space="preserve">%s</text>`+"\n",
				now.class(), left, top+13, float64(width)*cellWidth, html.EscapeString(text))
		}
		text, x, width = "", x+width, 0
	}
	state := byte(0)
	for line != "" {
		sequence, cells, n, next := ansi.DecodeSequence(line, state, nil)
		line, state = line[n:], next
		if cells == 0 && strings.HasPrefix(sequence, "\x1b[") {
			flush()
			now = now.after(sequence)
			continue
		}
		if cells > 1 { // by itself, so that a font with another idea of its width moves nothing else
			flush()
		}
		text, width = text+sequence, width+cells
		if cells > 1 {
			flush()
		}
	}
	flush()
}
