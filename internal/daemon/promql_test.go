package daemon

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// series are the samples of a scrape by what stands before their value.
type series map[string]float64

func scrapeOf(t *testing.T, addr string) (series, string) {
	t.Helper()
	res, err := http.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	all := series{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := cutLast(strings.TrimSpace(line)); ok && !strings.HasPrefix(line, "#") {
			if all[name], err = strconv.ParseFloat(value, 64); err != nil {
				t.Fatal(err)
			}
		}
	}
	return all, string(text)
}

func cutLast(line string) (before, after string, ok bool) {
	i := strings.LastIndexByte(line, ' ')
	if i < 0 {
		return "", "", false
	}
	return line[:i], line[i+1:], true
}

// sum adds up the series whose text has all of these parts.
func (s series) sum(parts ...string) (total float64) {
next:
	for name, v := range s {
		for _, p := range parts {
			if !strings.Contains(name, p) {
				continue next
			}
		}
		total += v
	}
	return total
}

// formulas are METRICS.md's queries, by the first words of what stands before each.
func formulas(t *testing.T) map[string]string {
	t.Helper()
	file, err := os.Open("../../METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	all, text, query, inside, begins := map[string]string{}, "", "", false, true
	for lines := bufio.NewScanner(file); lines.Scan(); {
		switch line := lines.Text(); {
		case line == "```promql":
			inside, query = true, ""
		case inside && line == "```":
			all[text], inside = query, false
		case inside:
			query += line + "\n"
		case line == "":
			begins = true
		case begins:
			text, _, _ = strings.Cut(strings.TrimSuffix(line, ":"), ",")
			begins = false
		}
	}
	return all
}

// vector is the value of an expression by its labels, as in `upstream="s"`.
type vector map[string]float64

// query evaluates the part of PromQL that METRICS.md uses, where rate is the growth from one scrape to another: the time
// between them cancels out, or is a second.
type query struct {
	before, after series
	rest          string
}

func (q *query) space() { q.rest = strings.TrimLeft(q.rest, " \n") }

func (q *query) take(text string) bool {
	q.space()
	rest, ok := strings.CutPrefix(q.rest, text)
	if ok {
		q.rest = rest
	}
	return ok
}

func (q *query) must(text string) {
	if !q.take(text) {
		panic(fmt.Sprintf("no %q before %q", text, q.rest))
	}
}

func (q *query) sumOf() vector {
	v := q.product()
	for {
		switch {
		case q.take("+"):
			v = join(v, q.product(), func(a, b float64) float64 { return a + b })
		case q.take("-"):
			v = join(v, q.product(), func(a, b float64) float64 { return a - b })
		default:
			return v
		}
	}
}

func (q *query) product() vector {
	v := q.factor()
	for q.take("/") {
		v = join(v, q.factor(), func(a, b float64) float64 { return a / b })
	}
	return v
}

// join matches one to one by equal labels.
func join(a, b vector, do func(a, b float64) float64) vector {
	v := vector{}
	for labels, x := range a {
		if y, ok := b[labels]; ok {
			v[labels] = do(x, y)
		}
	}
	return v
}

func (q *query) factor() vector {
	if q.take("(") {
		v := q.sumOf()
		q.must(")")
		return v
	}
	q.must("sum by (")
	labels, rest, _ := strings.Cut(q.rest, ")")
	q.rest = rest
	q.must("(rate(")
	selector, rest, _ := strings.Cut(q.rest, "[5m]))")
	q.rest = rest
	return q.sumBy(strings.Split(labels, ", "), selector)
}

var labelPattern = regexp.MustCompile(`(\w+)(=~|!~|!=|=)"([^"]*)"`)

func (q *query) sumBy(by []string, selector string) vector {
	name, matchers, _ := strings.Cut(selector, "{")
	v := vector{}
	for s, value := range q.after {
		own, labels, _ := strings.Cut(s, "{")
		if own != name {
			continue
		}
		has := map[string]string{}
		for _, l := range labelPattern.FindAllStringSubmatch(labels, -1) {
			has[l[1]] = l[3]
		}
		if !matches(has, matchers) {
			continue
		}
		key := make([]string, len(by))
		for i, l := range by {
			key[i] = l + `="` + has[l] + `"`
		}
		v[strings.Join(key, ",")] += value - q.before[s]
	}
	return v
}

func matches(has map[string]string, matchers string) bool {
	for _, m := range labelPattern.FindAllStringSubmatch(matchers, -1) {
		alike := regexp.MustCompile("^(?:" + m[3] + ")$").MatchString(has[m[1]])
		if strings.HasPrefix(m[2], "!") == alike {
			return false
		}
	}
	return true
}

// eval evaluates a whole query.
func eval(before, after series, text string) vector {
	q := query{before: before, after: after, rest: text}
	v := q.sumOf()
	if q.space(); q.rest != "" {
		panic("not understood: " + q.rest)
	}
	return v
}

// TestEval holds the evaluator itself.
func TestEval(t *testing.T) {
	before := series{`a{u="x",k="1"}`: 1}
	after := series{`a{u="x",k="1"}`: 3, `a{u="x",k="2"}`: 4, `a{u="y",k="2"}`: 6, `b{u="x"}`: 2, `b{u="y"}`: 4, `b{u="z"}`: 1, "c": 9}
	for text, want := range map[string]vector{
		`sum by (u) (rate(a[5m]))`:                                                           {`u="x"`: 6, `u="y"`: 6},
		`sum by (u) (rate(a{k="1"}[5m]))`:                                                    {`u="x"`: 2},
		`sum by (u) (rate(a{k!~"1|3"}[5m]))`:                                                 {`u="x"`: 4, `u="y"`: 6},
		`sum by (u, k) (rate(a{k=~"2|3"}[5m]))`:                                              {`u="x",k="2"`: 4, `u="y",k="2"`: 6},
		`sum by (u) (rate(a[5m])) - sum by (u) (rate(b[5m])) / sum by (u) (rate(b[5m]))`:     {`u="x"`: 5, `u="y"`: 5},
		"sum by (u) (rate(a[5m]))\n / (sum by (u) (rate(b[5m])) + sum by (u) (rate(b[5m])))": {`u="x"`: 1.5, `u="y"`: 0.75},
	} {
		if got := eval(before, after, text); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	if names := slices.Sorted(maps.Keys(formulas(t))); len(names) != 7 {
		t.Errorf("METRICS.md has the queries %q", names)
	}
}
