//go:build linux

package bench

import (
	"encoding/xml"
	"fmt"
	"html"
	"slices"
	"strings"
	"testing"
)

// Measures of the chart, in pixels.
const (
	chartWidth = 640
	barLeft    = 150
	barRight   = 520
	barStep    = 30
)

// chart draws the CPU of a call of each peer that has any as a bar with its value: the median, and a line from the lowest to the highest.
func chart(title string, peers []peer) string {
	drawn := slices.DeleteFunc(slices.Clone(peers), func(p peer) bool { return len(p.rounds) == 0 || p.fault != nil || p.rounds[0].cpu == 0 })
	longest := 0.0
	for _, p := range drawn {
		longest = max(longest, slices.Max(p.cpus()))
	}
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="14">
<style>text{fill:#1b1f24}rect{fill:#c9d1d9}.daemon{fill:#b5460f}line{stroke:#57606a}@media(prefers-color-scheme:dark){text{fill:#e6e8eb}rect{fill:#424a53}.daemon{fill:#f5a05a}line{stroke:#9aa0a6}}</style>
<text x="8" y="22">%s</text>
`, chartWidth, 40+barStep*len(drawn), html.EscapeString(title))
	for i, p := range drawn {
		all, y, class := p.cpus(), 40+barStep*i, ""
		if strings.HasPrefix(p.name, "daemon") {
			class = ` class="daemon"`
		}
		at := func(cpu float64) float64 { return barLeft + (barRight-barLeft)*cpu/longest }
		fmt.Fprintf(&b, `<text x="8" y="%d">%s</text><rect%s x="%d" y="%d" width="%.0f" height="18"/><line x1="%.0f" x2="%.0f" y1="%d" y2="%d"/><text x="%.0f" y="%d">%.0f µs</text>`+"\n",
			y+14, html.EscapeString(p.name), class, barLeft, y, at(middle(all))-barLeft, at(slices.Min(all)), at(slices.Max(all)), y+9, y+9, at(slices.Max(all))+8, y+14, middle(all))
	}
	return b.String() + "</svg>\n"
}

// cpus are the rounds' CPU of a call.
func (p *peer) cpus() (all []float64) {
	for _, r := range p.rounds {
		all = append(all, r.cpu)
	}
	return all
}

// TestChart draws a bar for each peer that has a process of its own, as XML.
func TestChart(t *testing.T) {
	peers := []peer{{name: "direct", rounds: []figures{{}}}, {name: "daemon", rounds: []figures{{cpu: 100}, {cpu: 120}, {cpu: 90}}}, {name: "a<b", rounds: []figures{{cpu: 50}}}, {name: "failed"}}
	got := chart("CPU & calls", peers)
	if err := xml.Unmarshal([]byte(got), new(struct{})); err != nil {
		t.Error(err)
	}
	for _, want := range []string{`<rect class="daemon" x="150" y="40" width="308" height="18"/>`, `<line x1="428" x2="520" y1="49" y2="49"/>`, ">100 µs<", ">a&lt;b<", `<rect x="150" y="70" width="154"`, "CPU &amp; calls"} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nhas no %s", got, want)
		}
	}
	if strings.Contains(got, "direct") || strings.Contains(got, "failed") {
		t.Errorf("a bar of nothing: %s", got)
	}
}
