package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"

	"fluentd-perf/internal/daemon"
	"fluentd-perf/internal/monitor"
)

// The bounds of monitor's --interval.
const (
	minInterval = 100 * time.Millisecond
	maxInterval = time.Minute
)

// monitorFlags are the flags of monitor.
type monitorFlags struct {
	socket             socketFlag
	interval, duration time.Duration
	output, replay     string
}

func monitorCommand() *cobra.Command {
	f := new(monitorFlags)
	c := &cobra.Command{
		Use: "monitor", Short: "Watch a running daemon: requests, latency, cache, breakers, queues, processes, calls", Args: cobra.NoArgs,
		Long: "Shows what a daemon does while it does it; ? lists the keys, q quits. Without a terminal it writes a line for each interval.\n" +
			"With --duration and --output it records: the daemon's own counters at each interval, and a summary, as JSON\n" +
			"(fluentd-perf schema --monitor). An interrupt ends a recording early. --replay shows one again.\n" +
			"A daemon that goes away is waited for; of another one that takes its place the counters begin at zero.\n" +
			"Exit code 0: done; 1: no daemon answers; 2: wrong flags.",
		Example: "  fluentd-perf monitor\n  fluentd-perf monitor --duration 60s --output metrics.json\n  fluentd-perf monitor --replay metrics.json",
		RunE:    func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	f.socket.register(c)
	c.Flags().DurationVar(&f.interval, "interval", monitor.DefaultInterval, "between two looks at the daemon, 100ms to 1m")
	c.Flags().DurationVar(&f.duration, "duration", 0, "end after that long; 0: when you quit")
	c.Flags().StringVar(&f.output, "output", "", "record into a `file` (JSON); needs --duration")
	c.Flags().StringVar(&f.replay, "replay", "", "show the recording in a `file` in place of a daemon")
	c.MarkFlagsMutuallyExclusive("output", "replay")
	c.MarkFlagsMutuallyExclusive("duration", "replay")
	return c
}

// check says which flags go together.
func (f *monitorFlags) check() error {
	var fault error
	switch {
	case f.interval < minInterval || f.interval > maxInterval:
		fault = fmt.Errorf("--interval %v: use %v to %v", f.interval, minInterval, maxInterval)
	case f.duration < 0:
		fault = fmt.Errorf("--duration %v: use a time above 0", f.duration)
	case f.output != "" && f.duration == 0:
		fault = errors.New("--output needs --duration: for how long to record")
	case f.output != "" && f.duration/f.interval > monitor.MaxSamples:
		fault = fmt.Errorf("--duration %v: a recording has at most %d intervals of %v; use --interval %v", f.duration, monitor.MaxSamples,
			f.interval, (f.duration/monitor.MaxSamples + time.Second - 1).Truncate(time.Second))
	default:
		return nil
	}
	return daemon.UsageError{Err: fault}
}

func (f *monitorFlags) run(c *cobra.Command) error {
	if err := errors.Join(f.check(), f.socket.check()); err != nil {
		return err
	}
	o := monitor.Options{
		Places: f.socket.places(), Program: buildVersion(), Interval: f.interval, Duration: f.duration, Record: f.output != "", Out: c.OutOrStdout(),
	}
	var err error
	if f.replay != "" {
		if o.Replay, err = readFile(f.replay, monitor.ReadRecording); err != nil {
			return err
		}
	}
	ctx, stop := monitorSignals(c.Context())
	defer stop()
	if f.output == "" {
		_, err = monitor.Run(ctx, o)
		return err
	}
	return record(ctx, c.ErrOrStderr(), f.output, o)
}

// monitorSignals returns a context that ends at the first signal that ends programs, so that the terminal is restored and a recording
// written; of a terminal that closes it hears nothing where nohup(1) said so. What comes daemon.SecondSignal later ends the process at once:
// until then it is the first one again.
func monitorSignals(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(parent, endingSignals()...)
	context.AfterFunc(ctx, func() { time.AfterFunc(daemon.SecondSignal, stop) })
	return ctx, stop
}

// record makes a recording and writes it into a file, which is opened first: a name that cannot be written is known before a minute is
// over. What was in it stays until there is something to write.
func record(ctx context.Context, told io.Writer, file string, o monitor.Options) (err error) {
	_, before := os.Stat(file)
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE, 0o600) // it has the names of tools and agents
	if err != nil {
		return daemon.UsageError{Err: fmt.Errorf("--output: %w", err)}
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	surviveBrokenPipes()
	switch {
	case o.IsTerminal():
	case isFile(o.Out, f): // a recording into a pipe is nothing else
		o.Out = io.Discard
	default: // whoever reads the lines may stall: the recording does not
		lines := newLineQueue(o.Out)
		defer lines.Close()
		o.Out = lines
	}
	recording, err := monitor.Run(ctx, o)
	if recording == nil {
		if errors.Is(before, os.ErrNotExist) {
			_ = os.Remove(file) // which is empty; err says why
		}
		return err
	}
	if err := errors.Join(err, writeRecording(f, recording)); err != nil {
		return err
	}
	fmt.Fprintf(told, "%s: %d samples, %s\n", file, len(recording.Samples), rounded(recording.Samples[len(recording.Samples)-1].At.Sub(recording.Samples[0].At)))
	return nil
}

// isFile reports whether what is written to is a file by another name, as /dev/stdout is one.
func isFile(w io.Writer, f *os.File) bool {
	out, ok := w.(*os.File)
	if !ok {
		return false
	}
	a, err := out.Stat()
	b, err2 := f.Stat()
	return err == nil && err2 == nil && os.SameFile(a, b)
}

// writeRecording writes into a file, of which nothing else stays, or into what is none, as /dev/stdout. Where the disk is full the file
// is left empty: half a recording is none.
func writeRecording(f *os.File, r *monitor.Recording) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return r.Write(f)
	}
	if err := f.Truncate(0); err != nil {
		return err
	}
	if err := r.Write(f); err != nil {
		return errors.Join(err, f.Truncate(0))
	}
	return nil
}
