package page

import (
	"fmt"
	"math"
	"strings"

	"fluentd-perf/internal/loadgen"
)

// perDecade is how many points the curve of a distribution has while the calls beyond fall to a tenth.
const perDecade = 20

// distribution is a curve of the spectrum.
type distribution struct {
	class     string
	latency   *loadgen.Latency
	histogram *loadgen.Histogram
}

// spectrum draws the times of each target over the share of calls that were no slower. The axis is logarithmic in the share of
// those that were: 90 %, 99 % and 99.9 % are equally far apart. It is nil where nothing has times.
func spectrum(run *loadgen.Run) *chart {
	c := newChart("Latency by percentile")
	var all []distribution
	for i := range run.Targets {
		t := &run.Targets[i]
		for _, d := range []struct {
			latency     *loadgen.Latency
			class, name string
		}{{t.Sum.Service, class(t.Role), "service"}, {t.Sum.Intended, class(t.Role) + dashed, "from the intended send"}} {
			if drawn, ok := decoded(d.class, d.latency); ok {
				all = append(all, drawn)
				c.addLegend(d.class, t.Name+", "+d.name)
				c.Summary += fmt.Sprintf("%s, %s: p50 %s, p99 %s, at most %s. ", t.Name, d.name, loadgen.TimeText(d.latency.P50), loadgen.TimeText(d.latency.P99), loadgen.TimeText(d.latency.Max))
			}
		}
	}
	if len(all) == 0 {
		return nil
	}
	c.Summary = strings.TrimSpace(c.Summary)
	c.drawSpectrum(all)
	return c
}

// decoded returns a distribution, if it makes sense.
func decoded(class string, l *loadgen.Latency) (distribution, bool) {
	if l == nil {
		return distribution{}, false
	}
	h, err := l.Histogram()
	if err != nil || h.Count() < 1 {
		return distribution{}, false
	}
	return distribution{class, l, h}, true
}

func (c *chart) drawSpectrum(all []distribution) {
	lowest, highest, count := math.Inf(1), 0.0, int64(1)
	for _, d := range all {
		lowest, highest, count = min(lowest, microsAt(d.histogram, 0)), max(highest, microsAt(d.histogram, 100)), max(count, d.histogram.Count())
	}
	decades := max(1, math.Log10(float64(count)))
	x := &axis{to: decades, start: left, end: right}
	for n := 0.0; n <= decades; n += math.Ceil(decades / maxTicks) {
		x.ticks = append(x.ticks, n)
	}
	y := logarithmic(lowest, highest, bottom, top)
	c.XLabel, c.YLabel = "% of the calls were no slower", "time, logarithmic"
	c.XTicks, c.YTicks = x.marks(percentText), y.marks(shortTime)
	for _, d := range all {
		var p polyline
		end := math.Log10(float64(d.histogram.Count()))
		for n := 0; float64(n)/perDecade < end; n++ {
			at := float64(n) / perDecade
			p.add(x.at(at), y.at(microsAt(d.histogram, 100*(1-math.Pow(10, -at)))))
		}
		p.add(x.at(end), y.at(microsAt(d.histogram, 100)))
		c.Lines = append(c.Lines, line{d.class, p.String()})
	}
}

// microsAt reads a percentile. Less than a microsecond is not told apart.
func microsAt(h *loadgen.Histogram, percent float64) float64 {
	return max(1, float64(h.At(percent))/1e3)
}

// percentText names a place on the axis of percentiles by how many times ten fewer calls are beyond.
func percentText(decade float64) string {
	switch n := int(decade); n {
	case 0:
		return "0"
	case 1:
		return "90"
	case 2:
		return "99"
	default:
		return "99." + strings.Repeat("9", n-2)
	}
}

// shortTime names a round time, which is in microseconds.
func shortTime(micros float64) string {
	switch {
	case micros < 1e3:
		return fmt.Sprintf("%.4g µs", micros)
	case micros < 1e6:
		return fmt.Sprintf("%.4g ms", micros/1e3)
	}
	return fmt.Sprintf("%.4g s", micros/1e6)
}
