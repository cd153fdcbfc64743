package flamegraph

import (
	"bufio"
	_ "embed" // the script and the style
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

//go:embed flame.js
var script string

//go:embed flame.css
var style string

// What is drawn, in the units of the file, which are pixels until the script makes it as wide as the window.
const (
	width     = 1200
	rowHeight = 18
	header    = 76   // above the frames
	footer    = 12   // below them
	letter    = 7.25 // the width of one
	maxFrames = 8000
	maxDepth  = 256
)

// Options say what stands above the graph.
type Options struct {
	Title string
	Notes []string // a line each, at most two are shown
	Main  string   // the import path of the program's own packages, which have a colour of their own
}

// Write draws the profile. The error is w's.
func (p *Profile) Write(w io.Writer, o Options) error {
	d := &drawing{Profile: p, w: bufio.NewWriter(w), main: o.Main}
	depth, left := d.choose()
	height := header + depth*rowHeight + footer
	fmt.Fprintf(d.w, `<?xml version="1.0" encoding="UTF-8"?>
<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" role="img" aria-labelledby="title">
<style>%s</style>
<rect class="back" width="100%%" height="100%%"/>
<text id="title" class="title" x="8" y="22">%s</text>
`, width, height, width, height, style, escape(o.Title))
	for i, note := range notes(o.Notes, left, len(d.shown)) {
		fmt.Fprintf(d.w, "<text class=\"note\" x=\"8\" y=\"%d\">%s</text>\n", 40+15*i, escape(note))
	}
	d.legend()
	fmt.Fprintf(d.w, "<text id=\"about\" class=\"note\" x=\"8\" y=\"%d\"> </text>\n<g id=\"tools\"/>\n<g id=\"frames\">\n", header-6)
	if p.Root.Total > 0 {
		d.frame(p.Root, 0, width, 0)
	}
	fmt.Fprintf(d.w, "</g>\n<script><![CDATA[\n%s]]></script>\n</svg>\n", script)
	return d.w.Flush()
}

// notes returns the lines above the graph. The last one says how many frames are not drawn.
func notes(all []string, left, shown int) []string {
	all = slices.Clone(all[:min(2, len(all))])
	if left == 0 {
		return all
	}
	text := fmt.Sprintf("%d of %d frames are left out: those that took least, and what is deeper than %d", left, left+shown, maxDepth)
	if len(all) < 2 {
		return append(all, text)
	}
	all[1] += "; " + text
	return all
}

// drawing is a graph that is being written.
type drawing struct {
	*Profile
	w     *bufio.Writer
	main  string
	shown map[*Node]bool
}

// choose chooses the frames that are drawn, and returns how many rows they take and how many are left out. At most maxFrames are: those that
// took most, and of those that took the same the ones that come first.
func (d *drawing) choose() (depth, left int) {
	var totals []int64
	d.Root.walk(0, func(n *Node, row int) bool {
		if left++; row < maxDepth {
			totals = append(totals, n.Total)
		}
		return true
	})
	least, same := int64(0), len(totals)
	if len(totals) > maxFrames {
		slices.Sort(totals)
		least = totals[len(totals)-maxFrames]
		more, _ := slices.BinarySearch(totals, least+1)
		same = maxFrames - (len(totals) - more)
	}
	d.shown = make(map[*Node]bool)
	d.Root.walk(0, func(n *Node, row int) bool {
		if row == maxDepth || n.Total < least {
			return false
		}
		if n.Total == least {
			same--
		}
		if same < 0 {
			return false
		}
		d.shown[n], depth = true, max(depth, row+1)
		return true
	})
	return depth, left - len(d.shown)
}

// walk visits a node and those below it that took anything, a frame before those that it calls; not those below one for which visit is false.
func (n *Node) walk(row int, visit func(n *Node, row int) bool) {
	if n.Total == 0 || !visit(n, row) {
		return
	}
	for _, c := range n.Children {
		c.walk(row+1, visit)
	}
}

// frame writes a node and those below it, each as wide as its part of all, in the order in which the script reads them: a frame before
// those that it calls.
func (d *drawing) frame(n *Node, x, w float64, row int) {
	if !d.shown[n] {
		return
	}
	y := header + row*rowHeight
	fmt.Fprintf(d.w, `<g class="frame %s"%s><title>%s</title><rect x="%.10g" y="%d" width="%.10g" height="%d"/><text x="%.2f" y="%d" data-name="%s">%s</text></g>`+"\n",
		d.class(n), d.fill(n), escape(d.about(n)), x, y, w, rowHeight-1, x+3, y+13, escape(short(n.Name)), escape(cut(short(n.Name), w)))
	for _, c := range n.Children {
		wide := w * part(c.Total, n.Total)
		d.frame(c, x, wide, row+1)
		x += wide
	}
}

// about is what is said of a frame: the function, where it is, and what it took.
func (d *drawing) about(n *Node) string {
	text := fmt.Sprintf("%s\n%s of %s (%s)", n.Name, Amount(n.Total, d.Unit), Amount(d.Root.Total, d.Unit), percent(d.Share(n.Total)))
	if n.Self > 0 && n.Self < n.Total {
		text += ", itself " + Amount(n.Self, d.Unit)
	}
	if d.Compared {
		text += fmt.Sprintf("\nbefore: %s (%s)", Amount(n.Old, d.Unit), percent(d.oldShare(n.Old)))
	}
	if n.File != "" {
		text += "\n" + n.File
	}
	return text
}

// class is the colour of a function: by whose it is.
func (d *drawing) class(n *Node) string {
	path := importPath(n.Name)
	first, _, _ := strings.Cut(path, "/")
	switch {
	case n == d.Root:
		return "root"
	case d.Compared:
		return "compared"
	case path == "main" || path == d.main || d.main != "" && strings.HasPrefix(path, d.main+"/"):
		return "own"
	case path == "runtime" || strings.HasPrefix(path, "runtime/") || path == "":
		return "runtime"
	case strings.Contains(first, "."):
		return "others"
	}
	return "standard"
}

// fill is the colour of a frame in a comparison: red where its part of all has grown, blue where it has shrunk, the more the stronger.
func (d *drawing) fill(n *Node) string {
	if !d.Compared || n == d.Root {
		return ""
	}
	change := d.Change(n)
	pale := 255 - int(math.Round(190*min(1, math.Sqrt(math.Abs(change)*4)))) // a quarter of all is as strong as it gets
	red, blue := 255, pale
	if change < 0 {
		red, blue = pale, 255
	}
	return fmt.Sprintf(` fill="rgb(%d,%d,%d)"`, red, pale, blue)
}

// Change returns by how much of all a node has grown, -1 to 1.
func (p *Profile) Change(n *Node) float64 { return p.Share(n.Total) - p.oldShare(n.Old) }

// legend says what the colours mean.
func (d *drawing) legend() {
	classes := [][2]string{{"own", "fluentd-perf"}, {"standard", "Go's library"}, {"runtime", "Go's runtime"}, {"others", "other libraries"}}
	fills := []string{"", "", "", ""}
	if d.Compared {
		classes = [][2]string{{"compared", "more than before"}, {"compared", "less than before"}}
		fills = []string{` fill="rgb(255,90,90)"`, ` fill="rgb(90,90,255)"`}
	}
	fmt.Fprint(d.w, `<g id="legend">`)
	for i, c := range classes {
		x := 340 + 145*i
		fmt.Fprintf(d.w, `<g class="%s"%s><rect x="%d" y="12" width="12" height="12"/></g><text class="note" x="%d" y="22">%s</text>`, c[0], fills[i], x, x+17, c[1])
	}
	fmt.Fprintln(d.w, "</g>")
}

// short is a function's name without the path to its package.
func short(name string) string {
	path := importPath(name)
	return name[strings.LastIndexByte(path, '/')+1:]
}

// cut returns as much of a name as has room.
func cut(name string, room float64) string {
	n := int((room - 6) / letter)
	switch {
	case utf8.RuneCountInString(name) <= n:
		return name
	case n < 3:
		return ""
	}
	return string([]rune(name)[:n-1]) + "…"
}

// escape makes a text one of XML's.
func escape(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes all
	return b.String()
}

func percent(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) }

// Amount writes a value with its unit, as people say it.
func Amount(n int64, unit string) string {
	switch v := float64(n); {
	case unit == "bytes":
		return scaled(v, 1<<10, "B", "KiB", "MiB", "GiB", "TiB")
	case unit == "nanoseconds":
		return scaled(v, 1000, "ns", "µs", "ms", "s")
	}
	return fmt.Sprint(n)
}

func scaled(v, step float64, units ...string) string {
	for len(units) > 1 && math.Abs(v) >= step {
		v, units = v/step, units[1:]
	}
	if v == math.Trunc(v) {
		return fmt.Sprintf("%.0f %s", v, units[0])
	}
	return fmt.Sprintf("%.2f %s", v, units[0])
}
