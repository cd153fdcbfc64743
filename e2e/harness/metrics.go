package harness

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// BreakerState is the state of the circuit breaker of an upstream's first endpoint: 0, 1 or 2.
func (d *Daemon) BreakerState(upstream string) float64 {
	d.T.Helper()
	return d.Scrape()[fmt.Sprintf(`fluentd_perf_breaker_state{endpoint="0",upstream=%q}`, upstream)]
}

// Asked is how many reads of a tier came to one of the outcomes.
func (m Metrics) Asked(tier string, outcomes ...string) (n int) {
	for _, outcome := range outcomes {
		n += int(m.Sum("fluentd_perf_cache_requests_total", fmt.Sprintf("tier=%q", tier), fmt.Sprintf("outcome=%q", outcome)))
	}
	return n
}

// Metrics is one scrape: series as exposed -> value.
type Metrics map[string]float64

// Scrape reads /metrics.
func (d *Daemon) Scrape() Metrics {
	d.T.Helper()
	res, err := HTTPClient.Get(d.URL("/metrics"))
	if err != nil {
		d.T.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	m, err := readMetrics(res.Body)
	if err != nil || res.StatusCode != 200 {
		d.T.Fatalf("/metrics: %d, %v", res.StatusCode, err)
	}
	return m
}

var errExposition = errors.New("not a line of the text exposition format")

func readMetrics(r io.Reader) (Metrics, error) {
	m := Metrics{}
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

// Sum adds up the series of a metric whose labels contain all of these, as in `method="ping"`.
func (m Metrics) Sum(name string, labels ...string) float64 {
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

// Has reports whether a metric of that name is exposed, histograms included.
func (m Metrics) Has(name string) bool {
	for series := range m {
		series, _, _ = strings.Cut(series, "{")
		if series == name || series == name+"_count" {
			return true
		}
	}
	return false
}

// Minus returns by how much each series grew since an earlier scrape.
func (m Metrics) Minus(earlier Metrics) Metrics {
	grown := Metrics{}
	for series, v := range m {
		grown[series] = v - earlier[series]
	}
	return grown
}
