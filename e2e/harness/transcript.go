// Transcripts of dialogues: what must differ is replaced, all else is compared.

package harness

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Line is one line of a transcript, as dialogue.mjs prints it: a step with its outcome and all that the client received
// meanwhile, or a scenario's HTTP exchanges, or an expectation of the scenario's own that did not hold.
type Line struct {
	URL      string          `json:"url,omitempty"`
	Scenario string          `json:"scenario"`
	Step     string          `json:"step,omitempty"`
	Outcome  json.RawMessage `json:"outcome,omitempty"`
	Received []Group         `json:"received,omitempty"`
	HTTP     []string        `json:"http,omitempty"`
	Fault    string          `json:"fault,omitempty"`
}

// String returns the line as JSON, the form in which lines are compared.
func (l Line) String() string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(l); err != nil {
		panic(err)
	}
	return strings.TrimSpace(b.String())
}

// Transcript is what a client saw in one scenario.
type Transcript struct {
	scenario string
	Lines    []string
	faults   []string
}

// Play is what a client saw at one URL: a transcript of each scenario, in the order in which they were played.
type Play struct {
	url         string
	Transcripts []*Transcript
}

// NewPlay begins the play of a client at a URL, which is left out where plays are compared.
func NewPlay(url string) *Play { return &Play{url: url} }

// Replace writes another text for what differs between plays.
func (p *Play) Replace(old *regexp.Regexp, replacement string) {
	for _, tr := range p.Transcripts {
		for i := range tr.Lines {
			tr.Lines[i] = old.ReplaceAllString(tr.Lines[i], replacement)
		}
	}
}

// Without leaves a scenario out.
func (p *Play) Without(scenario string) *Play {
	return &Play{p.url, slices.DeleteFunc(slices.Clone(p.Transcripts), func(tr *Transcript) bool { return tr.scenario == scenario })}
}

// Add adds a line to its scenario's transcript.
func (p *Play) Add(l Line) {
	if last := len(p.Transcripts) - 1; last < 0 || p.Transcripts[last].scenario != l.Scenario {
		p.Transcripts = append(p.Transcripts, &Transcript{scenario: l.Scenario})
	}
	tr := p.Transcripts[len(p.Transcripts)-1]
	if l.Fault != "" {
		tr.faults = append(tr.faults, l.Fault)
		return
	}
	l.URL = ""
	tr.Lines = append(tr.Lines, l.String())
}

// ParsePlays sorts the lines that dialogue.mjs has printed by their URLs.
func ParsePlays(t testing.TB, printed []byte, urls ...string) []*Play {
	t.Helper()
	plays := make([]*Play, len(urls))
	byURL := map[string]*Play{}
	for i, url := range urls {
		plays[i] = &Play{url: url}
		byURL[url] = plays[i]
	}
	for text := range bytes.Lines(printed) {
		var l Line
		if err := json.Unmarshal(text, &l); err != nil || byURL[l.URL] == nil {
			t.Fatalf("not a line of a transcript: %v\n%s", err, text)
		}
		byURL[l.URL].Add(l)
	}
	return plays
}

// What differs between two plays of the same dialogue, and the name that stands for it. Those with a %d are numbered in
// the order in which a transcript first shows them, so that one value in place of another is still seen.
var unsteady = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<uuid %d>"},
	{regexp.MustCompile(`\b[0-9a-f]{32}\b`), "<hex %d>"},
	{regexp.MustCompile(`\b[A-Z2-7]{26}\b`), "<id %d>"},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`), "<time>"},
	{clock, "<clock>"},
	{regexp.MustCompile(`"ttlMs":\d+`), `"ttlMs":<ms>`}, // a cache gives what is left of it
}

var (
	clock = regexp.MustCompile(`\d{1,2}:\d\d:\d\d [AP]M`)
	blob  = regexp.MustCompile(`"blob":"([A-Za-z0-9+/=]+)"`)
)

// Steady replaces what differs between plays in all lines of one transcript. url is the address that the client used, or
// empty where it does not show.
func Steady(lines []string, url string) []string {
	names := map[string]string{}
	seen := map[string]int{}
	out := make([]string, len(lines))
	for i, text := range lines {
		if url != "" {
			text = strings.ReplaceAll(text, url, "<url>")
		}
		text = blob.ReplaceAllStringFunc(text, readableBlob)
		for _, u := range unsteady {
			text = u.pattern.ReplaceAllStringFunc(text, func(found string) string {
				if !strings.Contains(u.name, "%d") {
					return u.name
				}
				if names[found] == "" {
					seen[u.name]++
					names[found] = fmt.Sprintf(u.name, seen[u.name])
				}
				return names[found]
			})
		}
		out[i] = text
	}
	return out
}

// readableBlob opens a blob that has a time of day in it.
func readableBlob(field string) string {
	data, err := base64.StdEncoding.DecodeString(blob.FindStringSubmatch(field)[1])
	if err != nil || !clock.Match(data) {
		return field
	}
	return fmt.Sprintf(`"blob":%q`, data)
}

// ComparePlays runs one subtest for each scenario: no faults, and the same lines both ways.
func ComparePlays(t *testing.T, direct, through *Play) {
	t.Helper()
	if len(direct.Transcripts) == 0 || len(direct.Transcripts) != len(through.Transcripts) {
		t.Fatalf("%d scenarios directly, %d through the daemon", len(direct.Transcripts), len(through.Transcripts))
	}
	for i, d := range direct.Transcripts {
		t.Run(strings.ReplaceAll(d.scenario, " ", "_"), func(t *testing.T) {
			tr := through.Transcripts[i]
			for _, fault := range d.faults {
				t.Errorf("directly: %s", fault)
			}
			for _, fault := range tr.faults {
				t.Errorf("through the daemon: %s", fault)
			}
			want, got := asDirect(d.Lines, tr.Lines)
			Diff(t, Steady(want, direct.url), Steady(got, through.url))
		})
	}
}

// asDirect puts in the place of each exchange whose answer the daemon had at hand one that the direct play has of the same
// request and more than the other play: such an answer is JSON where the server frames a stream, and carries no header of
// the server's. It returns both plays, with the exchanges sorted in lines where something was put.
func asDirect(direct, through []string) (want, got []string) {
	want, got = slices.Clone(direct), slices.Clone(through)
	for i := range min(len(direct), len(through)) {
		var d, g Line
		if !strings.Contains(got[i], CachedMark) || json.Unmarshal([]byte(want[i]), &d) != nil || json.Unmarshal([]byte(got[i]), &g) != nil {
			continue
		}
		left := slices.Clone(d.HTTP)
		take := func(which func(string) bool) (taken string, found bool) {
			at := slices.IndexFunc(left, which)
			if at < 0 {
				return "", false
			}
			taken = left[at]
			left = slices.Delete(left, at, at+1)
			return taken, true
		}
		for _, own := range g.HTTP {
			take(func(text string) bool { return text == own })
		}
		for j, own := range g.HTTP {
			request, outcome, _ := strings.Cut(own, " -> ")
			plain := request + " -> " + strings.Replace(outcome, " "+CachedMark, "", 1)
			same, ok := take(func(text string) bool { return text != own && text == plain })
			if !ok && outcome == "200 application/json "+CachedMark {
				same, ok = take(func(text string) bool { return strings.HasPrefix(text, request+" -> 200 ") })
			}
			if ok {
				g.HTTP[j] = same
			}
		}
		slices.Sort(d.HTTP)
		slices.Sort(g.HTTP)
		want[i], got[i] = d.String(), g.String()
	}
	return want, got
}

// Diff reports the first lines that differ.
func Diff(t *testing.T, direct, through []string) {
	t.Helper()
	for i := range max(len(direct), len(through)) {
		d, g := at(direct, i), at(through, i)
		if d == g {
			continue
		}
		from := 0
		for from < min(len(d), len(g)) && d[from] == g[from] {
			from++
		}
		t.Errorf("line %d differs at byte %d\ndirectly:           %s\nthrough the daemon: %s", i+1, from, Around(d, from), Around(g, from))
		return
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(no such line)"
}

// Around cuts a line to its beginning and what lies around an offset.
func Around(s string, i int) string {
	const head, before, after = 80, 120, 400
	if i <= head+before {
		return s[:min(len(s), i+after)]
	}
	return s[:head] + " ... " + s[i-before:min(len(s), i+after)]
}
