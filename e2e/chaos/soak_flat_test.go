// What flat is, and the plot.

package chaos

import (
	"encoding/xml"
	"fmt"
	"html"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"fluentd-perf/internal/api"
)

// curve is one figure over the time of a soak.
type curve struct {
	name, unit string
	held       bool    // it must be flat
	slack      float64 // by which it may grow besides maxGrowth, in its unit
	at         []time.Duration
	values     []float64
}

// maxGrowth is by which share the median of the last fifth of a soak may be above that of the second one: the first fifth is for what a
// daemon keeps for good, pools and caches; the bound is for what it does at the moment, which is not the same in two fifths.
const maxGrowth = 0.10

func (s *curve) add(at time.Duration, value float64) {
	s.at, s.values = append(s.at, at), append(s.values, value)
}

// fifth is the median of a fifth of the time, counted from 0; false where there is no value.
func (s *curve) fifth(n int) (float64, bool) {
	if len(s.at) == 0 {
		return 0, false
	}
	var all []float64
	for i, at := range s.at {
		if min(int(5*at/max(s.at[len(s.at)-1], 1)), 4) == n {
			all = append(all, s.values[i])
		}
	}
	if len(all) == 0 {
		return 0, false
	}
	slices.Sort(all)
	return all[len(all)/2], true
}

// flat returns an error where one that must be flat is not, or has nothing to say so by.
func (s *curve) flat() error {
	early, known := s.fifth(1)
	late, still := s.fifth(4)
	switch {
	case !s.held:
		return nil
	case !known || !still:
		return fmt.Errorf("%s: no values", s.name)
	case late > early*(1+maxGrowth)+s.slack:
		return fmt.Errorf("%s grew from %.4g to %.4g %s, by more than %.0f %% and %g", s.name, early, late, s.unit, 100*maxGrowth, s.slack)
	}
	return nil
}

func (s *curve) String() string {
	var parts []string
	for n := range 5 {
		if median, ok := s.fifth(n); ok {
			parts = append(parts, fmt.Sprintf("%.4g", median))
		}
	}
	return fmt.Sprintf("%s: %s %s (medians of the fifths)", s.name, strings.Join(parts, ", "), s.unit)
}

// Measures of the plot, in pixels.
const (
	plotWidth  = 760
	plotLeft   = 60
	plotRight  = 640
	plotHeight = 90 // of a curve
	plotStep   = 130
)

// plot draws each curve over the time, from zero, with the medians of the two fifths that are compared.
func plot(title string, all []curve) string {
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="13">
<style>svg{background:#fff}text{fill:#1b1f24}polyline{fill:none;stroke:#0b6bcb;stroke-width:1.3}.fifth{fill:#eef1f4}.median{stroke:#b5460f;stroke-width:2}.axis{stroke:#c9d1d9}@media(prefers-color-scheme:dark){svg{background:#0d1117}text{fill:#e6e8eb}polyline{stroke:#6cb6ff}.fifth{fill:#1d242d}.median{stroke:#f5a05a}.axis{stroke:#424a53}}</style>
<text x="8" y="22" font-weight="bold">%s</text>
`, plotWidth, 40+plotStep*len(all), html.EscapeString(title))
	for i := range all {
		all[i].draw(&b, 44+plotStep*i)
	}
	return b.String() + "</svg>\n"
}

// draw draws one curve below a height.
func (s *curve) draw(b *strings.Builder, top int) {
	most, length := 1.0, time.Duration(1)
	if len(s.at) > 0 {
		most, length = max(slices.Max(s.values)*1.05, 1), max(s.at[len(s.at)-1], 1)
	}
	x := func(share float64) float64 { return plotLeft + (plotRight-plotLeft)*share }
	y := func(value float64) float64 { return float64(top+16+plotHeight) - plotHeight*value/most }
	fmt.Fprintf(b, `<text x="8" y="%d">%s</text>`+"\n", top+8, html.EscapeString(s.name))
	for _, n := range []int{1, 4} {
		median, ok := s.fifth(n)
		if !ok || !s.held {
			continue
		}
		from, to := x(float64(n)/5), x(float64(n+1)/5)
		fmt.Fprintf(b, `<rect class="fifth" x="%.0f" y="%d" width="%.0f" height="%d"/><line class="median" x1="%.0f" x2="%.0f" y1="%.1f" y2="%.1f"/><text x="%.0f" y="%d" text-anchor="middle">%.4g</text>`+"\n",
			from, top+16, to-from, plotHeight, from, to, y(median), y(median), (from+to)/2, top+12, median)
	}
	fmt.Fprintf(b, `<line class="axis" x1="%d" x2="%d" y1="%d" y2="%d"/><text x="%d" y="%d">0</text><text x="%d" y="%d">%.4g %s</text><text x="%d" y="%d" text-anchor="end">%.1f min</text><polyline points="`,
		plotLeft, plotRight, top+16+plotHeight, top+16+plotHeight, plotLeft-14, top+16+plotHeight, plotRight+6, top+26, most/1.05, html.EscapeString(s.unit), plotRight, top+16+plotHeight+13, length.Minutes())
	for i, at := range s.at {
		fmt.Fprintf(b, "%.1f,%.1f ", x(float64(at)/float64(length)), y(s.values[i]))
	}
	b.WriteString("\"/>\n")
}

// TestFlat: noise and a warm-up are flat, growth is not, and nothing is no proof.
func TestFlat(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 1))
	of := func(value func(minute float64) float64) *curve {
		s := &curve{name: "memory", unit: "MiB", held: true, slack: 6}
		for i := range 200 {
			s.add(time.Duration(i)*6*time.Second, value(float64(i)/10)+20*r.Float64())
		}
		return s
	}
	for name, c := range map[string]struct {
		s    *curve
		flat bool
	}{
		"noise":        {of(func(float64) float64 { return 60 }), true},
		"warm-up":      {of(func(minute float64) float64 { return 60 - 50*max(0, 1-minute) }), true},
		"falling":      {of(func(minute float64) float64 { return 60 - minute }), true},
		"a MiB/minute": {of(func(minute float64) float64 { return 60 + minute }), false},
		"a step":       {of(func(minute float64) float64 { return 60 + 20*float64(int(minute)/13) }), false},
		"nothing":      {&curve{name: "memory", held: true}, false},
		"not held":     {&curve{name: "requests"}, true},
	} {
		if err := c.s.flat(); (err == nil) != c.flat {
			t.Errorf("%s: %v (%s)", name, err, c.s)
		}
	}
}

// TestSoakCurves: subscriptions that come are no growth, and what is held without one is.
func TestSoakCurves(t *testing.T) {
	t.Parallel()
	of := func(leaked func(i int) int) []api.Sample {
		samples := make([]api.Sample, 100)
		for i := range samples {
			credentials, streams := i/4, i/5
			samples[i] = api.Sample{
				UpMs: int64(i) * 1000, Goroutines: 100 + credentials + streams + leaked(i), Descriptors: 100 + streams + leaked(i),
				Upstreams: []api.UpstreamSample{{}, {Upstream: "s", Subscriptions: credentials, Listening: streams}},
			}
		}
		return samples
	}
	faults := func(samples []api.Sample) (all []string) {
		for _, c := range soakCurves(samples) {
			if c.flat() != nil {
				all = append(all, c.name)
			}
		}
		return all
	}
	many := func(i int) int { return i }
	if got := faults(of(func(int) int { return 0 })); got != nil {
		t.Errorf("grown by subscriptions alone: %q", got)
	}
	if got := faults(of(many)); len(got) != 2 || !strings.HasPrefix(got[0], "goroutines") || !strings.HasPrefix(got[1], "descriptors") {
		t.Errorf("one more each second, and what is not flat is %q", got)
	}
}

// TestSubscribed: a soak in which the daemon subscribed to nothing, or for too many, is none.
func TestSubscribed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		subscriptions, streams int
		good                   bool
	}{{0, 0, false}, {5, 0, false}, {32, 1, true}, {33, 33, false}} {
		samples := []api.Sample{{}, {Upstreams: []api.UpstreamSample{{}, {Upstream: "s", Subscriptions: c.subscriptions, Listening: c.streams}}}}
		if err := subscribed(samples); (err == nil) != c.good {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestPlot: the plot is XML that asks nobody for anything, also of a soak that ended at once.
func TestPlot(t *testing.T) {
	t.Parallel()
	s := curve{name: "a<b", unit: "MiB", held: true}
	for i := range 50 {
		s.add(time.Duration(i)*time.Second, float64(40+i%3))
	}
	for _, all := range [][]curve{{s, {name: "nothing"}}, nil} {
		got := plot("20m of agents & faults", all)
		if err := xml.Unmarshal([]byte(got), new(struct{})); err != nil {
			t.Errorf("%v\n%s", err, got)
		}
		if strings.Contains(strings.ReplaceAll(got, `xmlns="http://www.w3.org/2000/svg"`, ""), "http") || strings.Contains(got, "NaN") || strings.Contains(got, "Inf") {
			t.Error(got)
		}
		if all != nil && strings.Count(got, `class="median"`) != 2 {
			t.Errorf("no medians:\n%s", got)
		}
	}
}
