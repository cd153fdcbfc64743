package e2e

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

// line is one line of a transcript, as dialogue.mjs prints it: a step with its outcome and all that the client received
// meanwhile, or a scenario's HTTP exchanges, or an expectation of the scenario's own that did not hold.
type line struct {
	URL      string          `json:"url,omitempty"`
	Scenario string          `json:"scenario"`
	Step     string          `json:"step,omitempty"`
	Outcome  json.RawMessage `json:"outcome,omitempty"`
	Received []group         `json:"received,omitempty"`
	HTTP     []string        `json:"http,omitempty"`
	Fault    string          `json:"fault,omitempty"`
}

// group holds the messages that one stream orders: a name and the messages as received.
type group [2]json.RawMessage

// String returns the line as JSON, the form in which lines are compared.
func (l line) String() string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(l); err != nil {
		panic(err)
	}
	return strings.TrimSpace(b.String())
}

// transcript is what a client saw in one scenario.
type transcript struct {
	scenario string
	lines    []string
	faults   []string
}

// play is what a client saw at one URL: a transcript of each scenario, in the order in which they were played.
type play struct {
	url         string
	transcripts []*transcript
}

// without leaves a scenario out.
func (p *play) without(scenario string) *play {
	return &play{p.url, slices.DeleteFunc(slices.Clone(p.transcripts), func(tr *transcript) bool { return tr.scenario == scenario })}
}

// add adds a line to its scenario's transcript.
func (p *play) add(l line) {
	if last := len(p.transcripts) - 1; last < 0 || p.transcripts[last].scenario != l.Scenario {
		p.transcripts = append(p.transcripts, &transcript{scenario: l.Scenario})
	}
	tr := p.transcripts[len(p.transcripts)-1]
	if l.Fault != "" {
		tr.faults = append(tr.faults, l.Fault)
		return
	}
	l.URL = ""
	tr.lines = append(tr.lines, l.String())
}

// parse sorts the lines that dialogue.mjs has printed by their URLs.
func parse(t testing.TB, printed []byte, urls ...string) []*play {
	t.Helper()
	plays := make([]*play, len(urls))
	byURL := map[string]*play{}
	for i, url := range urls {
		plays[i] = &play{url: url}
		byURL[url] = plays[i]
	}
	for text := range bytes.Lines(printed) {
		var l line
		if err := json.Unmarshal(text, &l); err != nil || byURL[l.URL] == nil {
			t.Fatalf("not a line of a transcript: %v\n%s", err, text)
		}
		byURL[l.URL].add(l)
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

// steady replaces what differs between plays in all lines of one transcript. url is the address that the client used, or
// empty where it does not show.
func steady(lines []string, url string) []string {
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

// compare runs one subtest for each scenario: no faults, and the same lines both ways.
func compare(t *testing.T, direct, through *play) {
	t.Helper()
	if len(direct.transcripts) == 0 || len(direct.transcripts) != len(through.transcripts) {
		t.Fatalf("%d scenarios directly, %d through the daemon", len(direct.transcripts), len(through.transcripts))
	}
	for i, d := range direct.transcripts {
		t.Run(strings.ReplaceAll(d.scenario, " ", "_"), func(t *testing.T) {
			tr := through.transcripts[i]
			for _, fault := range d.faults {
				t.Errorf("directly: %s", fault)
			}
			for _, fault := range tr.faults {
				t.Errorf("through the daemon: %s", fault)
			}
			want, got := asDirect(d.lines, tr.lines)
			diff(t, steady(want, direct.url), steady(got, through.url))
		})
	}
}

// asDirect puts in the place of each exchange whose answer the daemon had at hand one that the direct play has of the same
// request and more than the other play: such an answer is JSON where the server frames a stream, and carries no header of
// the server's. It returns both plays, with the exchanges sorted in lines where something was put.
func asDirect(direct, through []string) (want, got []string) {
	want, got = slices.Clone(direct), slices.Clone(through)
	for i := range min(len(direct), len(through)) {
		var d, g line
		if !strings.Contains(got[i], cachedMark) || json.Unmarshal([]byte(want[i]), &d) != nil || json.Unmarshal([]byte(got[i]), &g) != nil {
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
			plain := request + " -> " + strings.Replace(outcome, " "+cachedMark, "", 1)
			same, ok := take(func(text string) bool { return text != own && text == plain })
			if !ok && outcome == "200 application/json "+cachedMark {
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

// diff reports the first lines that differ.
func diff(t *testing.T, direct, through []string) {
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
		t.Errorf("line %d differs at byte %d\ndirectly:           %s\nthrough the daemon: %s", i+1, from, around(d, from), around(g, from))
		return
	}
}

func at(lines []string, i int) string {
	if i < len(lines) {
		return lines[i]
	}
	return "(no such line)"
}

// around cuts a line to its beginning and what lies around an offset.
func around(s string, i int) string {
	const head, before, after = 80, 120, 400
	if i <= head+before {
		return s[:min(len(s), i+after)]
	}
	return s[:head] + " ... " + s[i-before:min(len(s), i+after)]
}

func TestSteady(t *testing.T) {
	got := steady([]string{
		`{"url":"http://127.0.0.1:7300/mcp/up","session":"2525354b-a9b9-44c0-abff-0f50773aa4be"}`,
		`{"a":"11111111-a9b9-44c0-abff-0f50773aa4be","b":"2525354b-a9b9-44c0-abff-0f50773aa4be","at":"2026-11-23T18:39:04.872Z"}`,
		`{"id":"ABCDEFGHIJKLMNOPQRSTUVWXYZ","task":"4836464477f4b122b4d5fdef554c823e","text":"at 6:39:04 PM"}`,
		`{"blob":"YXQgNjozOTowNCBQTQ=="}`,
		`{"blob":"aGVsbG8="}`,
	}, "http://127.0.0.1:7300/mcp/up")
	want := []string{
		`{"url":"<url>","session":"<uuid 1>"}`,
		`{"a":"<uuid 2>","b":"<uuid 1>","at":"<time>"}`,
		`{"id":"<id 1>","task":"<hex 1>","text":"at <clock>"}`,
		`{"blob":"at <clock>"}`,
		`{"blob":"aGVsbG8="}`,
	}
	diff(t, want, got)
}

func TestAsDirect(t *testing.T) {
	direct := []string{`{"scenario":"a","http":["POST ping -> 200 text/event-stream","POST tools/list -> 200 text/event-stream session","POST tools/list -> 200 text/event-stream session"]}`}
	for through, same := range map[string]bool{
		`{"scenario":"a","http":["POST ping -> 200 text/event-stream","POST tools/list -> 200 application/json cached","POST tools/list -> 200 text/event-stream session"]}`:          true,
		`{"scenario":"a","http":["POST ping -> 200 text/event-stream","POST tools/list -> 200 text/event-stream session cached","POST tools/list -> 200 text/event-stream session"]}`: true,
		`{"scenario":"a","http":["POST ping -> 200 text/event-stream","POST tools/list -> 400 application/json cached","POST tools/list -> 200 text/event-stream session"]}`:          false,
		`{"scenario":"a","http":["POST ping -> 200 text/event-stream","POST tools/list -> 200 application/json cached"]}`:                                                             false,
		`{"scenario":"a","http":["POST ping -> 200 application/json","POST tools/list -> 200 application/json cached","POST tools/list -> 200 text/event-stream session"]}`:           false,
		`{"scenario":"a","http":["POST ping -> 200 text/event-stream","POST tools/list -> 200 application/json","POST tools/list -> 200 text/event-stream session"]}`:                 false,
	} {
		if want, got := asDirect(direct, []string{through}); (got[0] == want[0]) != same {
			t.Errorf("the same: %v, of %s", !same, through)
		}
	}
}
