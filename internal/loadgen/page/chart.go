package page

import (
	"fmt"
	"math"
	"strings"

	"fluentd-perf/internal/loadgen"
)

// The drawing, in units of the SVG: about a pixel each on a phone, more on a wide screen. Text stays readable on both.
const (
	width, height = 360, 250
	left, right   = 52, 350
	top, bottom   = 12, 212

	minStep  = 2.0 // between two points of a curve
	maxTicks = 6   // about
)

// drawable bounds figures that are drawn; nothing that was measured is above.
const drawable = 1e15

// The classes of lines in page.css. dashed comes behind another one.
const (
	classDirect = "direct"
	classDaemon = "daemon"
	classAgain  = "again"
	classOther  = "other"
	dashed      = " dashed"
)

// chart is a drawing of lines over two axes.
type chart struct {
	Title, Note   string
	Summary       string // what it shows, for those who do not see it
	XLabel        string
	YLabel        string
	XTicks        []tick
	YTicks        []tick
	Lines         []line
	Marks         []point // intervals in which calls failed
	Legend        []legendEntry
	Width, Height int
	Left, Right   int
	Top, Bottom   int
}

type tick struct {
	At    string
	Label string
}

type line struct{ Class, Points string }

type point struct{ X, Y string }

type legendEntry struct{ Class, Name string }

func newChart(title string) *chart {
	return &chart{Title: title, Width: width, Height: height, Left: left, Right: right, Top: top, Bottom: bottom}
}

// addLegend names a kind of lines once.
func (c *chart) addLegend(class, name string) {
	for _, e := range c.Legend {
		if e.Class == class && e.Name == name {
			return
		}
	}
	c.Legend = append(c.Legend, legendEntry{class, name})
}

// class is how a target's lines look. The same build once more has the daemon's colour, and a thin line.
func class(role loadgen.Role) string {
	switch role {
	case loadgen.RoleDirect:
		return classDirect
	case loadgen.RoleDaemon:
		return classDaemon
	case loadgen.RoleAgain:
		return classAgain
	}
	return classOther
}

// axis maps values between from and to onto units of the drawing.
type axis struct {
	from, to    float64
	start, end  float64
	logarithmic bool
	ticks       []float64
}

func (a *axis) at(value float64) string {
	from, to := a.from, a.to
	if a.logarithmic {
		value, from, to = math.Log10(value), math.Log10(from), math.Log10(to)
	}
	share := min(max((value-from)/(to-from), 0), 1)
	return coordinate(a.start + share*(a.end-a.start))
}

func (a *axis) marks(label func(float64) string) (all []tick) {
	for _, v := range a.ticks {
		all = append(all, tick{a.at(v), label(v)})
	}
	return all
}

// linear returns an axis from zero to a round number that is at least the highest value.
func linear(highest, start, end float64) *axis {
	step := math.Pow(10, math.Floor(math.Log10(highest)))
	for _, finer := range []float64{10, 5, 2} { // as fine as there is room
		if highest/(step/finer) <= maxTicks {
			step /= finer
			break
		}
	}
	for highest/step > maxTicks {
		step *= 2
	}
	a := &axis{to: step * math.Ceil(highest/step), start: start, end: end}
	for n := 0.0; n*step <= a.to*(1+1e-9); n++ {
		a.ticks = append(a.ticks, n*step)
	}
	return a
}

// logarithmic returns an axis between round numbers that have both values between them.
func logarithmic(lowest, highest, start, end float64) *axis {
	digits := []float64{1, 2, 5}
	if highest/lowest > 100 {
		digits = digits[:1]
	}
	a := &axis{logarithmic: true, start: start, end: end}
	for decade := math.Floor(math.Log10(lowest)); ; decade++ {
		for _, d := range digits {
			v := d * math.Pow(10, decade)
			if v <= lowest {
				a.ticks = a.ticks[:0]
			}
			a.ticks = append(a.ticks, v)
			if v >= highest && len(a.ticks) > 1 {
				a.from, a.to = a.ticks[0], v
				return a
			}
		}
	}
}

func coordinate(n float64) string { return fmt.Sprintf("%.1f", n) }

// polyline writes points as SVG has them.
type polyline struct{ strings.Builder }

func (p *polyline) add(x, y string) {
	if p.Len() > 0 {
		p.WriteByte(' ')
	}
	p.WriteString(x + "," + y)
}
