package monitor

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"fluentd-perf/internal/api"
)

// endingSource ends the program in some way when it is asked and the view is shown.
type endingSource struct {
	*fakeDaemon
	shown <-chan struct{}
	end   func()
}

func (s *endingSource) next(context.Context, string) (*api.Sample, error) {
	<-s.shown
	s.end()
	return s.sample(), nil
}

// screenWriter collects what a terminal is sent, and tells when that has its second screen.
type screenWriter struct {
	bytes.Buffer
	shown chan struct{}
}

func (w *screenWriter) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte("\x1b[?1049h")) {
		close(w.shown)
	}
	return w.Buffer.Write(p)
}

// TestEndRestoresTheTerminal: a panic and a signal leave the second screen and show the cursor.
func TestEndRestoresTheTerminal(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	for _, c := range []struct {
		name string
		end  func()
		want error
	}{
		{"panic", func() { panic("a bug, planted by the test") }, tea.ErrProgramPanic},
		{"signal", cancel, nil},
	} {
		d, out := newFakeDaemon("a"), &screenWriter{shown: make(chan struct{})}
		g := unicodeGlyphs
		m := &model{ctx: ctx, source: &endingSource{d, out.shown, c.end}, interval: time.Millisecond, glyphs: &g, clock: time.Now}
		m.width, m.height = 80, 24
		in, typing := io.Pipe()
		err := m.runTerminal(&Options{In: in, Out: out}, d.sample())
		typing.Close()
		if !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		shown := out.String()
		if i := strings.LastIndex(shown, "\x1b[?1049h"); i < 0 || strings.LastIndex(shown, "\x1b[?1049l") < i || strings.LastIndex(shown, "\x1b[?25h") < i {
			t.Errorf("%s: the terminal is left as %q", c.name, shown)
		}
	}
}

// failingWriter is a pipe whose reader has left.
type failingWriter struct{}

func (failingWriter) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

// TestReplayIntoAPipe: a recording is written without waiting, and ends where nobody reads it.
func TestReplayIntoAPipe(t *testing.T) {
	recording, _ := recordFake(t)
	var out bytes.Buffer
	if got, err := Run(t.Context(), Options{Replay: recording, Interval: time.Hour, Out: &out}); err != nil || got != nil || strings.Count(out.String(), "req/s") != 18 {
		t.Errorf("%v, %v:\n%s", got, err, out.String())
	}
	if _, err := Run(t.Context(), Options{Replay: recording, Interval: time.Hour, Out: failingWriter{}}); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v", err)
	}
}
