package loadgen

import (
	"cmp"
	"fmt"
	"math"
	"time"
)

// figureTexts are the figures of ratios in words.
var figureTexts = map[string]string{
	FigurePerSecond: "calls a second", FigureP50: "p50", FigureP99: "p99", FigureCPU: "CPU of a call",
	FigureAllocs: "allocations of a call", FigureAllocBytes: "bytes of a call",
}

// FigureText returns the figure of a ratio in words, one that is not known as it is.
func (r *Ratio) FigureText() string { return FigureText(r.Figure) }

// FigureText returns a figure in words, one that is not known as it is.
func FigureText(figure string) string { return cmp.Or(figureTexts[figure], figure) }

// IntervalText writes the interval that holds the ratio; "-" of a single round.
func (r *Ratio) IntervalText() string {
	if r.High <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f - %s", r.Low, Bounded(r.High, 100, "%.2f"))
}

// Claims says whether a difference may be claimed of one of the run's ratios: two targets of the same build have none, one that is
// within the noise is none, whatever a report from elsewhere says, and figures that are not to be used show none.
func (run *Run) Claims(r *Ratio) bool { return len(run.Problems) == 0 && run.differs(r) }

func (run *Run) differs(r *Ratio) bool {
	return r.Claimed && r.Noise > 0 && math.Abs(math.Log(r.Median)) > math.Log1p(r.Noise) && !run.isRepetition(r.Of)
}

// Difference says of one of the run's ratios how large the noise is, and which difference is claimed beside it. The noise is "-" where
// it was not measured; then no difference is claimed.
func (run *Run) Difference(r *Ratio) (noise, difference string) {
	switch {
	case run.isRepetition(r.Of):
		return "-", "none: the same build"
	case r.Noise <= 0:
		return "-", "-"
	}
	noise, difference = Bounded(100*r.Noise, 1000, "%.0f")+" %", "within the noise"
	switch {
	case run.Claims(r):
		difference = fmt.Sprintf("%+.0f %%", 100*(r.Median-1))
	case run.differs(r):
		difference = "not to be used"
	}
	return noise, difference
}

// Bounded writes a number, or that it is above a bound: of two rounds nothing much can be said.
func Bounded(n, bound float64, format string) string {
	if n > bound {
		return fmt.Sprintf("> %.0f", bound)
	}
	return fmt.Sprintf(format, n)
}

func (run *Run) isRepetition(name string) bool {
	for _, t := range run.Targets {
		if t.Name == name {
			return t.Role == RoleAgain
		}
	}
	return false
}

// LoadText says what the load of each round is.
func (run *Run) LoadText() string {
	l := run.Load
	text := fmt.Sprintf("a %s loop, %d at once", l.Loop, l.Concurrency)
	switch l.Loop {
	case Open:
		text = fmt.Sprintf("an open loop of %g calls a second, at most %d at once", l.Rate, l.Concurrency)
	case Burst:
		text = fmt.Sprintf("bursts of %d", l.Concurrency)
	}
	if l.MaxRate > 0 {
		text += fmt.Sprintf(", at most %g a second", l.MaxRate)
	}
	rounds := 0
	if len(run.Targets) > 0 {
		rounds = len(run.Targets[0].Rounds)
	}
	amount := fmt.Sprintf("%d calls", l.Requests)
	if l.Requests == 0 {
		amount = fmt.Sprintf("%.1f s", float64(l.DurationMs)/1e3)
	}
	return fmt.Sprintf("%s; %s to each target in each of %d rounds", text, amount, rounds)
}

// Texts writes hits, shared answers and misses; nothing where no cache said anything. An answer without a word of a cache is one that
// the server gave.
func (c CacheCounts) Texts() (hits, shared, misses string) {
	if c.Hits+c.Collapsed+c.Misses == 0 {
		return "", "", ""
	}
	return fmt.Sprint(c.Hits), fmt.Sprint(c.Collapsed), fmt.Sprint(c.Misses + c.None)
}

// Distribution is one of a round's distributions of times, with its name.
type Distribution struct {
	Name string
	*Latency
}

// Distributions returns those of a round that are to be shown.
func (r *Round) Distributions() (all []Distribution) {
	add := func(name string, l *Latency) {
		if l != nil {
			all = append(all, Distribution{name, l})
		}
	}
	if r.Processes == nil { // else it is that of the agents' last step
		add("service", r.Service)
	}
	add("intended", r.Intended)
	add("hits", r.Hits)
	if r.Hits != nil { // else they are all
		add("misses", r.Misses)
	}
	for _, k := range r.Kinds {
		if k.Part || len(r.Kinds) > 1 && r.Kinds[1].Part == r.Kinds[0].Part { // else it is all of them
			add(k.Name, k.Service)
		}
	}
	return all
}

// GotText writes what came of a goal.
func (g *Goal) GotText() string {
	if g.Unknown {
		return "not known"
	}
	return fmt.Sprintf("%.4g", g.Got)
}

// AgainText writes what the same build came to again; "-" where it was not tried.
func (g *Goal) AgainText() string {
	if g.Again == nil {
		return "-"
	}
	return fmt.Sprintf("%.4g", *g.Again)
}

// TimeText writes a time of a call, which is in microseconds.
func TimeText(micros float64) string {
	d := time.Duration(micros * 1e3)
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%.0f µs", micros)
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.2f ms", micros/1e3)
	case d < time.Second:
		return fmt.Sprintf("%.1f ms", micros/1e3)
	}
	return fmt.Sprintf("%.2f s", micros/1e6)
}
