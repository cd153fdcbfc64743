package page

import (
	"fmt"
	"math"
	"strings"

	"fluentd-perf/internal/loadgen"
)

// shortest is the least time over which a rate is taken, in milliseconds: the end of a round may be a moment.
const shortest = 200

// step is the rate between two times of a round.
type step struct {
	from, to  float64 // ms since the round's start
	perSecond float64
	failed    int64
}

// steps makes rates of the counts of a round, each over at least least milliseconds. What is left at the end goes with the last one.
func steps(curve []loadgen.Point, least float64) (all []step) {
	var last loadgen.Point
	for i, p := range curve {
		took := float64(p.AtMs - last.AtMs)
		if took <= 0 || took < least && i < len(curve)-1 {
			continue
		}
		s := step{float64(last.AtMs), float64(p.AtMs), float64(p.Done-last.Done) / took * 1e3, p.Failed - last.Failed}
		if n := len(all); n > 0 && took < least {
			before := all[n-1]
			done := before.perSecond*(before.to-before.from) + s.perSecond*took
			s = step{before.from, s.to, done / (s.to - before.from), before.failed + s.failed}
			all = all[:n-1]
		}
		if s.perSecond < 0 || s.perSecond > drawable || s.to > drawable {
			return nil
		}
		all, last = append(all, s), p
	}
	return all
}

// throughput draws the calls a second of each target over time, the rounds one after the other. In each all targets begin at the
// same place, though they had their turns. It is nil where nothing was counted.
func throughput(run *loadgen.Run) *chart {
	starts, total := roundStarts(run)
	if total <= 0 || total > drawable {
		return nil
	}
	least := max(shortest, total*minStep/(right-left))
	c := newChart("Calls a second over time")
	c.Note = "The rounds one after the other. A target's turn in a round is drawn from where the round begins."
	drawn, highest := make([][][]step, len(run.Targets)), 0.0
	for i := range run.Targets {
		for _, r := range run.Targets[i].Rounds {
			s := steps(r.Curve, least)
			drawn[i] = append(drawn[i], s)
			for _, one := range s {
				highest = max(highest, one.perSecond)
			}
		}
	}
	if highest <= 0 {
		return nil
	}
	x, y := linear(total/1e3, left, right), linear(highest, bottom, top)
	x.to = total / 1e3
	for len(x.ticks) > 0 && x.ticks[len(x.ticks)-1] > x.to {
		x.ticks = x.ticks[:len(x.ticks)-1]
	}
	c.XLabel, c.YLabel = "seconds under load", "calls a second"
	c.XTicks, c.YTicks = x.marks(func(v float64) string { return fmt.Sprintf("%.4g", v) }), y.marks(thousands)
	for i := range run.Targets {
		c.drawSteps(&run.Targets[i], drawn[i], starts, x, y)
	}
	if len(c.Marks) > 0 {
		c.Note += " Circles are where calls failed."
	}
	c.Summary = strings.TrimSpace(c.Summary)
	return c
}

// drawSteps draws a target's rounds.
func (c *chart) drawSteps(t *loadgen.Result, rounds [][]step, starts []float64, x, y *axis) {
	lowest, highest := math.Inf(1), 0.0
	for n, steps := range rounds {
		var p polyline
		for _, s := range steps {
			from, to := x.at((starts[n]+s.from)/1e3), x.at((starts[n]+s.to)/1e3)
			at := y.at(s.perSecond)
			p.add(from, at)
			p.add(to, at)
			if s.failed > 0 {
				c.Marks = append(c.Marks, point{to, at})
			}
			lowest, highest = min(lowest, s.perSecond), max(highest, s.perSecond)
		}
		if p.Len() > 0 {
			c.Lines = append(c.Lines, line{class(t.Role), p.String()})
		}
	}
	if highest > 0 {
		c.addLegend(class(t.Role), t.Name)
		c.Summary += fmt.Sprintf("%s: between %s and %s. ", t.Name, number(lowest), number(highest))
	}
}

// roundStarts returns where each round begins if the longest turn of each is put behind that of the one before, and where the last
// one ends, in milliseconds.
func roundStarts(run *loadgen.Run) (starts []float64, total float64) {
	for n := range roundCount(run) {
		starts = append(starts, total)
		longest := int64(0)
		for _, t := range run.Targets {
			if n < len(t.Rounds) {
				for _, p := range t.Rounds[n].Curve {
					longest = max(longest, p.AtMs)
				}
			}
		}
		total += float64(longest)
	}
	return starts, total
}

func thousands(n float64) string {
	if n >= 1e4 {
		return fmt.Sprintf("%.4gk", n/1e3)
	}
	return fmt.Sprintf("%.4g", n)
}
