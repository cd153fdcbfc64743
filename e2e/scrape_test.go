package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// metrics is one scrape: series as exposed -> value.
type metrics map[string]float64

// scrape reads /metrics.
func (d *sidecar) scrape() metrics {
	d.t.Helper()
	res, err := oneShot.Get(d.url("/metrics"))
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	m, err := readMetrics(res.Body)
	if err != nil || res.StatusCode != 200 {
		d.t.Fatalf("/metrics: %d, %v", res.StatusCode, err)
	}
	return m
}

var errExposition = errors.New("not a line of the text exposition format")

func readMetrics(r io.Reader) (metrics, error) {
	m := metrics{}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		line := lines.Text()
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		if i < 0 {
			return nil, fmt.Errorf("%w: %q", errExposition, line)
		}
		v, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("%w: %q", errExposition, line)
		}
		m[line[:i]] = v
	}
	return m, lines.Err()
}

// sum adds up the series of a metric whose labels contain all of these, as in `method="ping"`.
func (m metrics) sum(name string, labels ...string) float64 {
	total := 0.0
next:
	for series, v := range m {
		if series != name && !strings.HasPrefix(series, name+"{") {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(series, l) {
				continue next
			}
		}
		total += v
	}
	return total
}

// has reports whether a metric of that name is exposed, histograms included.
func (m metrics) has(name string) bool {
	for series := range m {
		series, _, _ = strings.Cut(series, "{")
		if series == name || series == name+"_count" {
			return true
		}
	}
	return false
}
