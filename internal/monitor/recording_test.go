package monitor

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/jsonschema-go/jsonschema"

	"fluentd-perf/internal/api"
)

// record makes a recording of a fake daemon: of some seconds, with a restart and with a time without answers.
func recordFake(t *testing.T) (*Recording, []byte) {
	t.Helper()
	d := newFakeDaemon(names(3)...)
	r := newRecorder("1.2.3", time.Second, 20*time.Second)
	for i := range 21 {
		switch i {
		case 8:
			d.started, d.second, d.pid = d.started.Add(2*time.Hour), 0, 77
		case 12, 13:
			d.second++
			if r.add(nil, errors.New("nobody\nanswers"), d.started.Add(time.Duration(d.second)*time.Second)) {
				t.Fatal("it ends too early")
			}
			continue
		}
		if last := r.add(d.sample(), nil, time.Time{}); last != (i == 20) {
			t.Fatalf("after %d: %v", i, last)
		}
	}
	var text bytes.Buffer
	if err := r.recording.Write(&text); err != nil {
		t.Fatal(err)
	}
	return &r.recording, text.Bytes()
}

// TestRecording: what is in a recording, and that it is read back.
func TestRecording(t *testing.T) {
	r, text := recordFake(t)
	back, err := ReadRecording(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(back.Samples) != 19 || back.Summary.Restarts != 1 || len(back.Gaps) != 1 || back.Gaps[0].Reason != "nobody answers" || back.Gaps[0].To.Sub(back.Gaps[0].From) != 3*time.Second {
		t.Errorf("%d samples, %+v, %+v", len(back.Samples), back.Summary, back.Gaps)
	}
	// Seven seconds of the first daemon, from its second 3601 to 3608, and the thirteen of the second.
	of := func(d *fakeDaemon, second int) uint64 {
		d.second = second
		u := d.upstream(1, "")
		return u.Requests["ok"] + u.Requests["connect"]
	}
	d := newFakeDaemon()
	want := of(d, 3608) - of(d, 3601) + of(d, 13)
	got := back.Summary.Upstreams[1]
	if got.Name != "server-01" || got.Requests != want || got.RequestsPerSecond != float64(want)/back.Summary.Seconds {
		t.Errorf("%+v, want %d", got, want)
	}
	if all := back.Summary.All; all.MaxInFlight != 3 || all.MaxQueued != 3 || all.Requests <= want || all.Latency.Count == 0 || all.Cache.HitShare < .55 || all.Cache.HitShare > .65 {
		t.Errorf("%+v", all)
	}
	if r.Schema != SchemaID {
		t.Errorf("$schema %q", r.Schema)
	}
}

// TestAnotherDaemon: the counters of a daemon that ran before the recording begin where it comes in; those of one that was started later at zero.
func TestAnotherDaemon(t *testing.T) {
	d := newFakeDaemon("a")
	other := func(started time.Time, second, pid int) { d.started, d.second, d.pid = started, second, pid }
	count := func() uint64 { u := d.upstream(0, "a"); return u.Requests["ok"] + u.Requests["connect"] }
	var samples []api.Sample
	var want uint64
	seconds := func(n int) {
		for range n {
			before := count()
			samples = append(samples, *d.sample())
			want += count() - before
		}
	}
	seconds(1)
	want = 0
	seconds(3)
	other(began.Add(-9*time.Hour), 10*3600+10, 77) // it has run for ten hours
	samples = append(samples, *d.sample())
	seconds(3)
	other(began.Add(3700*time.Second), 0, 78)
	seconds(4)
	sum := summarize(samples)
	if sum.All.Requests != want || sum.Restarts != 2 || sum.All.RequestsPerSecond > 2*float64(want)/11 {
		t.Errorf("%+v, want %d requests", sum, want)
	}
}

// TestClockStep: rates and the length of a recording are of the daemon's own time, whatever happens to the clock.
func TestClockStep(t *testing.T) {
	d := newFakeDaemon("a")
	var samples []api.Sample
	for i := range 9 {
		s := d.sample()
		if i >= 4 {
			s.At = s.At.Add(-time.Hour)
		}
		samples = append(samples, *s)
	}
	sum := summarize(samples)
	if sum.Seconds != 8 || sum.All.Requests == 0 || sum.All.RequestsPerSecond != float64(sum.All.Requests)/8 || sum.Restarts != 0 {
		t.Errorf("%+v", sum)
	}
	var h history
	for i := range samples {
		if c := h.add(&samples[i]).all; i > 0 && c.rate(float64(c.requests)) < 10 {
			t.Errorf("sample %d: %d requests in %v", i, c.requests, c.took)
		}
	}
}

// TestRecordingEnds: it does after its duration, with fewer samples, where the daemon takes seconds to answer.
func TestRecordingEnds(t *testing.T) {
	d, r := newFakeDaemon("a"), newRecorder("1", time.Second, 10*time.Second)
	r.until = began.Add(10 * time.Second)
	for i, at := range []time.Duration{0, 5, 10, 15} {
		var sample *api.Sample
		err := errors.New("no answer")
		if i == 0 {
			sample, err = d.sample(), nil
		}
		if last := r.add(sample, err, began.Add(at*time.Second)); last != (i == 3) {
			t.Errorf("after %d s: %v", at, last)
		}
	}
	if len(r.recording.Gaps) != 1 || len(r.recording.Samples) != 1 {
		t.Errorf("%+v", r.recording)
	}
}

// TestSchema holds the committed schema to the types, and a recording to the schema. `go test ./internal/monitor -update` writes it.
func TestSchema(t *testing.T) {
	want, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	const file = "../../docs/monitor.schema.json"
	if *update {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil || string(got) != string(want) {
		t.Errorf("%s is not what the types say (%v): go test ./internal/monitor -update", file, err)
	}
	var s jsonschema.Schema
	if err := json.Unmarshal(want, &s); err != nil {
		t.Fatal(err)
	}
	resolved, err := s.Resolve(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, text := recordFake(t)
	var value map[string]any
	if err := json.Unmarshal(text, &value); err != nil {
		t.Fatal(err)
	}
	if err := resolved.Validate(value); err != nil {
		t.Error(err)
	}
	value["$schema"] = "urn:other"
	if resolved.Validate(value) == nil {
		t.Error("another schema's recording is let pass")
	}
	value["$schema"], value["surprise"] = SchemaID, 1
	if resolved.Validate(value) == nil {
		t.Error("a member that the schema does not have is let pass")
	}
}

// TestReadRecording: what is no recording is said.
func TestReadRecording(t *testing.T) {
	for text, want := range map[string]string{
		"": "it is no recording", "[]": "it is no recording", `{"$schema":"urn:other"}`: `its $schema is "urn:other"`, `{"$schema":"` + SchemaID + `"}`: "it has no samples",
	} {
		if _, err := ReadRecording(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// TestEmptySummary: of one sample nothing can be said, and nothing is not a number.
func TestEmptySummary(t *testing.T) {
	for _, samples := range [][]api.Sample{nil, {*newFakeDaemon("a").sample()}} {
		r := Recording{Samples: samples}
		if err := r.Write(new(bytes.Buffer)); err != nil || r.Summary.All.Requests != 0 || math.IsNaN(r.Summary.All.RequestsPerSecond) {
			t.Errorf("%v, %+v", err, r.Summary)
		}
	}
}

// replayScreen is the view of a recording.
func replayScreen(t *testing.T) *screenOf {
	t.Helper()
	recording, _ := recordFake(t)
	s := newScreen(t, newFakeDaemon(), 120, 30)
	s.m.replay = &replay{recording: recording}
	s.m.source = s.m.replay
	return s
}

// TestReplay: a recording is shown as it was, forth and back, with the restart and the time without answers; behind its end is nothing.
func TestReplay(t *testing.T) {
	s := replayScreen(t).seconds(8)
	s.golden("replay.txt")
	before := s.text()
	s.seconds(1)
	s.shows("the restart", "replay 9/19", "the daemon was restarted")
	s.keys("left")
	if got := strings.ReplaceAll(s.text(), "PAUSED, replay", "replay"); !sameWords(got, before) {
		t.Errorf("back:\n%s\nbefore:\n%s", got, before)
	}
	s.keys("right")
	s.shows("on", "PAUSED, replay 9/19")
	s.seconds(4)
	s.shows("the gap", "no answer from", "nobody answers")
	s.seconds(10)
	s.shows("the end", "the recording ends here", "replay 19/19")
	s.keys("y")
	s.shows("y", "a recording has no requests")
	for range 30 {
		s.keys("left")
	}
	s.shows("the beginning", "replay 1/19")
}

// sameWords compares two screens but for the room between words.
func sameWords(a, b string) bool {
	return strings.Join(strings.Fields(a), " ") == strings.Join(strings.Fields(b), " ")
}

// TestPlain: the lines without a terminal.
func TestPlain(t *testing.T) {
	d := newFakeDaemon(names(3)...)
	s := newScreen(t, d, 0, 0)
	var text strings.Builder
	for i := range 8 {
		switch i {
		case 3, 4:
			d.failing = true
		case 5:
			d.failing = false
		case 7:
			d.started, d.second, d.pid = d.started.Add(2*time.Hour), 0, 77
		}
		sample, err := d.next(t.Context(), "")
		line, last := s.m.plain(sampleMsg{sample, err, s.m.clock()})
		if last {
			t.Error("it ends")
		}
		text.WriteString(line)
	}
	golden(t, "plain.txt", text.String())
}

// TestCurl: a command line is of printable characters in one line, has no credentials, and a shell takes it for what it says.
func TestCurl(t *testing.T) {
	nasty := "it's \"$(touch x)\" `y` \\ \u009b\u202e \U000e0001 漢"
	body, err := json.Marshal(map[string]any{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": map[string]string{"text": nasty}})
	if err != nil {
		t.Fatal(err)
	}
	r := api.Request{Verb: "POST", Path: "/mcp/it's", Headers: map[string]string{"Mcp-Name": "x\x1b[2J'"}, Left: []string{"Authorization", "Mcp-Session-Id"},
		Body: append([]byte("\n "), body...)}
	line, notes, err := curl([]string{"unix:/run/it's.sock"}, r)
	if err != nil {
		t.Fatal(err)
	}
	if Printable(line) != line || len(notes) != 2 {
		t.Errorf("%q, %q", line, notes)
	}
	sh := exec.Command("/bin/sh", "-c", "curl() { printf '%s\\n' \"$@\"; }; "+line)
	sh.Env = []string{"AUTHORIZATION=own", "MCP_SESSION_ID=mine"}
	out, err := sh.Output()
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	want := []string{"-sS", "--unix-socket", "/run/it's.sock", "-X", "POST", "http://localhost/mcp/it's", "-H", "Mcp-Name: x?[2J'", "-H", "Authorization: own", "-H", "Mcp-Session-Id: mine", "--data-raw"}
	if strings.Join(words[:len(words)-1], "\n") != strings.Join(want, "\n") {
		t.Errorf("the shell has %q", words)
	}
	var back struct{ Params struct{ Text string } }
	if err := json.Unmarshal([]byte(words[len(words)-1]), &back); err != nil || back.Params.Text != nasty {
		t.Errorf("the body is %s (%v)", words[len(words)-1], err)
	}
	if _, _, err := curl(nil, api.Request{Body: []byte("{\"a\":\"\xe9\"}")}); err == nil {
		t.Error("a body in Latin-1 is copied as something else")
	}
	if _, _, err := curl(nil, api.Request{Body: []byte("{\x1b")}); err == nil {
		t.Error("what is no JSON is copied")
	}
	if _, notes, _ := curl(nil, api.Request{Missing: "it is too large", Query: true, Others: 3}); len(notes) != 3 {
		t.Errorf("%q", notes)
	}
}

// TestBaseURL: where a daemon is reached.
func TestBaseURL(t *testing.T) {
	for address, want := range map[string]string{
		"127.0.0.1:7300": "http://127.0.0.1:7300", "0.0.0.0:80": "http://127.0.0.1:80", "[::]:80": "http://[::1]:80", ":80": "http://127.0.0.1:80", "odd": "http://odd", "box:1": "http://box:1",
	} {
		if got, _ := baseURL([]string{address}); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}
