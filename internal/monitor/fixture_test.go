package monitor

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"go.uber.org/goleak"

	"fluentd-perf/internal/api"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) {
	flag.Parse()
	goleak.VerifyTestMain(m)
}

// began is when the daemon of the tests was started.
var began = time.Date(2026, 11, 30, 9, 0, 0, 0, time.UTC)

// fakeDaemon makes samples of a daemon that does the same every second.
type fakeDaemon struct {
	names   []string
	started time.Time
	pid     int
	second  int // since started
	failing bool
}

func newFakeDaemon(names ...string) *fakeDaemon {
	return &fakeDaemon{names: names, started: began, pid: 4242, second: 3600}
}

// sample returns the next one, a second later.
func (d *fakeDaemon) sample() *api.Sample {
	d.second++
	s := &api.Sample{
		At: d.started.Add(time.Duration(d.second) * time.Second), Started: d.started, UpMs: int64(d.second) * 1000, PID: d.pid, Version: "1.2.3", Addresses: []string{"127.0.0.1:7300"},
		Memory: 80 << 20, CPUMs: int64(d.second) * 25,
	}
	for i, name := range d.names {
		s.Upstreams = append(s.Upstreams, d.upstream(i, name))
	}
	s.Tiers = []api.TierSample{{Tier: "memory", Entries: 120, Bytes: 1 << 20}}
	return s
}

// upstream is one that has more requests the later it is in the list, and a wave in its rate.
func (d *fakeDaemon) upstream(i int, name string) api.UpstreamSample {
	waves, rest := d.second/8, d.second%8 // in second s there are 10+5*(s%8) requests, of each upstream that many times more
	n := uint64(i+1) * uint64(10*d.second+5*(28*waves+rest*(rest-1)/2))
	hits := n / 2
	u := api.UpstreamSample{
		Upstream: name, Requests: map[string]uint64{"ok": n - n/50, "connect": n / 50}, Methods: map[string]uint64{"tools/call": n / 2, "tools/list": n - n/2},
		Durations: map[string]api.Histogram{
			"hit":  {Count: hits, Sum: float64(hits) * 0.0003, Schema: 3, Buckets: [][2]int64{{-93, int64(hits)}}},
			"call": {Count: n - hits, Sum: float64(n-hits) * 0.02, Schema: 3, Buckets: [][2]int64{{-45, int64((n - hits) / 2)}, {-40, int64(n-hits) - int64((n-hits)/2)}}},
		},
		Server:     map[string]api.Histogram{"call": {Count: n - hits, Sum: float64(n-hits) * 0.018, Schema: 3, Buckets: [][2]int64{{-46, int64(n - hits)}}}},
		Cache:      map[string]map[string]uint64{"memory": {"hit": hits, "miss": n - hits}, "redis": {"hit": n / 10}},
		SavedCalls: hits, SavedSeconds: float64(hits) * 0.02, Coalesced: n / 20,
		InFlight: i % 4, Queued: i % 3, CallsNow: 2, Sessions: i, Endpoints: []api.EndpointSample{{Host: "up" + fmt.Sprint(i) + ".example:443", Breaker: "closed"}},
		Calls: []api.CallSampled{
			{Request: fmt.Sprintf("r%d-1", i), Upstream: name, AgeMs: int64(60_000 / (i + 1)), Method: "tools/call", Tool: "search", Agent: "claude-code"},
			{Request: fmt.Sprintf("r%d-2", i), Upstream: name, AgeMs: 120, Method: "tools/list", Agent: "127.0.0.1:5000"},
		},
	}
	switch i {
	case 1:
		u.Endpoints = []api.EndpointSample{{Host: "/usr/bin/npx", Breaker: "open", RetryMs: 4200, Failures: 7, Trouble: "the server hung up"}}
	case 2:
		u.ProcessesNow = 2
		u.Processes = []api.ProcessSampled{{PID: 100, AgeMs: 90_000, State: "busy", Sessions: 1, Processes: 3, RSS: 120 << 20, CPUMs: 1500}, {PID: 101, AgeMs: 80_000, State: "spare", Processes: 1, RSS: 60 << 20}}
	}
	return u
}

func (d *fakeDaemon) next(context.Context, string) (*api.Sample, error) {
	if d.failing {
		return nil, fmt.Errorf("no running fluentd-perf was found; tried\n  /run/x (--socket): no such file")
	}
	return d.sample(), nil
}

func (d *fakeDaemon) request(_ context.Context, upstream, id string) (api.Request, error) {
	return api.Request{Verb: "POST", Path: "/mcp/" + upstream, Headers: map[string]string{"Content-Type": "application/json"},
		Left: []string{"Authorization"}, Others: 2, Body: []byte(`{"jsonrpc":"2.0","id":"` + id + `"}`)}, nil
}

// names returns so many names of upstreams.
func names(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("server-%02d", i))
	}
	return all
}

// screenOf is the view of a source in a terminal of a size, driven without one.
type screenOf struct {
	t *testing.T
	m *model
	d *fakeDaemon
}

func newScreen(t *testing.T, d *fakeDaemon, width, height int) *screenOf {
	t.Helper()
	g := unicodeGlyphs
	s := &screenOf{t, &model{ctx: t.Context(), source: d, interval: time.Second, glyphs: &g, clock: func() time.Time { return d.started.Add(time.Duration(d.second) * time.Second) }}, d}
	s.m.Update(tea.WindowSizeMsg{Width: width, Height: height})
	return s
}

// seconds passes some of them.
func (s *screenOf) seconds(n int) *screenOf {
	for range n {
		sample, err := s.m.source.next(s.m.ctx, s.m.upstream)
		s.m.Update(sampleMsg{sample, err, s.m.clock()})
	}
	return s
}

var keyCodes = map[string]rune{"enter": tea.KeyEnter, "esc": tea.KeyEscape, "tab": tea.KeyTab, "down": tea.KeyDown, "up": tea.KeyUp, "pgdown": tea.KeyPgDown,
	"end": tea.KeyEnd, "home": tea.KeyHome, "left": tea.KeyLeft, "right": tea.KeyRight, "backspace": tea.KeyBackspace, "space": tea.KeySpace}

// keys presses keys, by their names or as text, and runs what they ask for.
func (s *screenOf) keys(all ...string) tea.Msg {
	var last tea.Msg
	for _, key := range all {
		msg := tea.KeyPressMsg{Text: key, Code: []rune(key)[0]}
		if code, ok := keyCodes[key]; ok {
			msg = tea.KeyPressMsg{Code: code}
		}
		_, cmd := s.m.Update(msg)
		for cmd != nil {
			last = cmd()
			_, cmd = s.m.Update(last)
		}
	}
	return last
}

// text returns what is on the screen without colours. It holds that each line fits.
func (s *screenOf) text() string {
	s.t.Helper()
	s.m.view = "" // a test may have changed the model itself
	view := s.m.View().Content
	lines := strings.Split(view, "\n")
	if len(lines) != s.m.height {
		s.t.Errorf("%d lines in a terminal of %d", len(lines), s.m.height)
	}
	for i, l := range lines {
		if w := ansi.StringWidth(l); w > s.m.width {
			s.t.Errorf("line %d is %d wide in a terminal of %d: %q", i, w, s.m.width, l)
		}
		lines[i] = strings.TrimRight(ansi.Strip(l), " ")
	}
	return strings.Join(lines, "\n") + "\n"
}

// golden compares the screen with a file. `go test ./internal/monitor -update` writes it.
func (s *screenOf) golden(name string) {
	s.t.Helper()
	golden(s.t, name, s.text())
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", name, got, want)
	}
}
