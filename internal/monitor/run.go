package monitor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/term"

	"fluentd-perf/internal/api"
)

// DefaultInterval is between two samples where Options do not say.
const DefaultInterval = time.Second

// maxFrames bounds how often a second the view is drawn, which is then only what has changed: keys are answered at once for people, and
// a slow link is not filled. Bubble Tea looks that often whether there is something to draw.
const maxFrames = 10

// Options say what is watched and where it is shown.
type Options struct {
	Places   []api.Place   // where a daemon's socket may be
	Replay   *Recording    // is shown in place of a daemon; nil: a daemon is
	Program  string        // version of this program, for the recording
	Interval time.Duration // between two samples; 0: DefaultInterval
	Duration time.Duration // for how long; 0: until the person ends it
	Record   bool          // keep the samples: Duration / Interval is at most MaxSamples then

	In  io.Reader // a terminal's keys; nil: os.Stdin
	Out io.Writer // the view where it is a terminal that can move its cursor, else lines
}

// Run shows what the daemon does until Duration has passed, the person ends it or ctx ends, and returns the recording, if one was to be
// made and there is a sample. Its error says why no daemon can be watched: of the first sample, since a daemon that goes away later is
// waited for.
func Run(ctx context.Context, o Options) (*Recording, error) {
	o.Interval = cmp.Or(o.Interval, DefaultInterval)
	m := o.model(ctx)
	s, err := m.source.next(ctx, "")
	if err != nil {
		return nil, err
	}
	if o.IsTerminal() {
		err = m.runTerminal(&o, s)
	} else {
		err = m.runPlain(&o, s)
	}
	if m.recorder == nil || !o.Record || len(m.recorder.recording.Samples) == 0 {
		return nil, err
	}
	m.recorder.endGap(m.clock())
	return &m.recorder.recording, err
}

func (o *Options) model(ctx context.Context) *model {
	g := glyphsFor(os.Getenv)
	m := &model{ctx: ctx, interval: o.Interval, glyphs: &g, clock: time.Now, source: newDaemonSource(o.Places), suspends: canSuspend()}
	if o.Replay != nil {
		m.replay = &replay{recording: o.Replay}
		m.source = m.replay
	}
	if o.Duration > 0 {
		m.recorder = newRecorder(o.Program, o.Interval, o.Duration)
		m.recorder.counts = !o.Record
		m.recorder.until = m.clock().Add(o.Duration + 2*answerTimeout)
	}
	return m
}

// IsTerminal reports whether Out is a terminal that the view can be shown in.
func (o *Options) IsTerminal() bool {
	file, ok := o.Out.(term.File)
	return ok && term.IsTerminal(file.Fd()) && !isDumb()
}

// runTerminal shows the view. Bubble Tea restores the terminal at the end and at a panic. Signals end ctx (its own handler knows neither
// SIGHUP nor that one may be sent twice), and that has it quit as a key does: where it is killed, by a context of its own too, it closes
// what it reads from while it reads.
func (m *model) runTerminal(o *Options, first *api.Sample) error {
	m.Update(sampleMsg{sample: first, at: m.clock()})
	options := []tea.ProgramOption{tea.WithOutput(o.Out), tea.WithFPS(maxFrames), tea.WithoutSignalHandler()}
	if o.In != nil {
		options = append(options, tea.WithInput(o.In))
	}
	if file, ok := o.Out.(term.File); ok {
		m.hungUp = func() bool { return hungUp(file.Fd()) }
	}
	program := tea.NewProgram(m, options...)
	stop := redrawWhenResumed(program)
	left := context.AfterFunc(m.ctx, program.Quit)
	_, err := program.Run()
	left()
	stop()
	if m.copied != "" {
		fmt.Fprintln(o.Out, m.copied)
	}
	return err
}

// runPlain writes a line for each interval. Where a recording is made that goes on when nobody reads the lines any more.
func (m *model) runPlain(o *Options, first *api.Sample) error {
	ticker := time.NewTicker(o.Interval)
	defer ticker.Stop()
	msg := sampleMsg{sample: first, at: m.clock()}
	for {
		text, last := m.plain(msg)
		if _, err := io.WriteString(o.Out, text); err != nil && (m.recorder == nil || m.recorder.counts) {
			return err
		}
		if last || m.ctx.Err() != nil {
			return nil
		}
		if m.replay == nil {
			select {
			case <-ticker.C:
			case <-m.ctx.Done():
				return nil
			}
		}
		msg.sample, msg.err = m.source.next(m.ctx, "")
		msg.at = m.clock()
	}
}

// plain returns the lines that say what is new, and whether there is no more.
func (m *model) plain(msg sampleMsg) (text string, last bool) {
	switch s := msg.sample; {
	case errors.Is(msg.err, errEnd) || msg.err != nil && m.ctx.Err() != nil:
		return "", true
	case msg.err != nil:
		if m.failure == "" {
			text = fmt.Sprintf("%s  no answer: %s\n", msg.at.Format(time.TimeOnly), oneLine(msg.err))
		}
		m.failure = "said"
	default:
		m.failure = ""
		next := m.history.add(s)
		if next.restarted {
			text = fmt.Sprintf("%s  %s\n", s.At.Format(time.TimeOnly), next.note(s))
		}
		if next.upstreams != nil {
			text += m.history.line(s, &next.all) + "\n"
		}
	}
	return text, m.recorder != nil && m.recorder.add(msg.sample, msg.err, msg.at)
}
