package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/daemon"
	"fluentd-perf/internal/flamegraph"
	"fluentd-perf/internal/loadgen/scenario"
	"fluentd-perf/internal/profiler"
)

// maxProfile bounds a raw profile that is read, in bytes.
const maxProfile = 64 << 20

// shownFunctions is how many functions people are shown.
const shownFunctions = 15

// profileFlags are what was typed.
type profileFlags struct {
	kind          string
	duration      time.Duration
	toolExecution bool
	target        targetFlags
	choice        scenario.Choice
	concurrency   int
	output        []string
	pprof, diff   string

	old *flamegraph.Profile // of diff; nil: none
	svg string              // of output; "": none
}

func profileCommand() *cobra.Command {
	f := new(profileFlags)
	c := &cobra.Command{
		Use: "profile", Short: "Show where a running daemon's time and memory go", Args: cobra.NoArgs,
		Long: "Has a running daemon record a profile of itself, and shows the functions that took most. Without --tool-execution it\n" +
			"just watches. With it, it makes calls meanwhile, by the rules of benchmark: to the daemon that --daemon names, of the\n" +
			"tool that --tool names, else tools/list; without --daemon it starts a daemon and a server of its own, and looks at\n" +
			"that daemon.\n\n" +
			"Kinds:\n" +
			"  cpu         where the time on processors went\n" +
			"  heap        who allocated what is in use now\n" +
			"  allocs      who allocated meanwhile, in use or not\n" +
			"  block       where goroutines waited: for locks, channels, conditions\n" +
			"  mutex       who held locks for which others waited\n" +
			"  goroutines  where all goroutines are now\n\n" +
			"--output with a file that ends with .svg writes an interactive flame graph: one file that needs nothing else, for a\n" +
			"browser. --diff compares with a raw profile that --pprof has written.\n\n" +
			"Exit code 0: done; 1: it could not be done, as where another profile is being recorded; 2: the flags are wrong, or ask\n" +
			"for what is not allowed.",
		Example: "  fluentd-perf profile --duration 30s --output profile.svg\n" +
			"  fluentd-perf profile --tool-execution --output profile.svg\n" +
			"  fluentd-perf profile --tool-execution --daemon docs --tool search --arguments '{\"query\":\"cache\"}'\n" +
			"  fluentd-perf profile --kind mutex --pprof old.pb.gz\n" +
			"  fluentd-perf profile --kind mutex --diff old.pb.gz --output diff.svg",
		PreRunE: func(*cobra.Command, []string) error { return f.prepareFiles() },
		RunE:    func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	flags := c.Flags()
	flags.StringVar(&f.kind, "kind", string(profiler.CPU), profiler.Words())
	flags.DurationVar(&f.duration, "duration", 10*time.Second, fmt.Sprintf("how long to look; heap and goroutines are looked at at its end, and without --tool-execution at once; at most %v", profiler.MaxDuration))
	flags.BoolVar(&f.toolExecution, "tool-execution", false, "make calls meanwhile")
	flags.StringVar(&f.choice.Tool, "tool", "", "the `name` of the tool to call")
	flags.StringVar(&f.choice.Arguments, "arguments", "", "its arguments, a `JSON` object; left out, they are made up for a tool that says that it only reads")
	flags.BoolVar(&f.choice.Generate, "generate-arguments", false, "make arguments up for any tool")
	flags.IntVarP(&f.concurrency, "concurrency", "c", 0, fmt.Sprintf("calls at once (default %d)", scenario.DriveConcurrency))
	flags.StringArrayVarP(&f.output, "output", "o", []string{"table"}, "table, json, or a `file` that ends with .svg; may be repeated")
	flags.StringVar(&f.pprof, "pprof", "", "write the raw profile into this `file`, for go tool pprof")
	flags.StringVar(&f.diff, "diff", "", "compare with the raw profile in this `file`")
	f.target.registerDaemon(c)
	completeWords(c, "kind", strings.Split(profiler.Words(), ", ")...)
	return c
}

// prepareFiles looks at what the flags say by themselves, and reads the old profile: nothing is recorded for something that cannot be
// shown.
func (f *profileFlags) prepareFiles() error {
	kind := profiler.Kind(f.kind)
	load := f.target.daemon != "" || f.choice != scenario.Choice{} || f.concurrency != 0 || len(f.target.headers) > 0 || len(f.target.mayLoad) > 0
	var files []string
	for _, o := range f.output {
		if strings.HasSuffix(o, ".svg") {
			files = append(files, o)
		} else if o != "table" && o != "json" {
			return daemon.UsageError{Err: fmt.Errorf("--output %q: use table, json or a file that ends with .svg", o)}
		}
	}
	switch {
	case !slices.Contains(profiler.Kinds(), kind):
		return daemon.UsageError{Err: fmt.Errorf("--kind %q: use %s", f.kind, profiler.Words())}
	case f.duration <= 0 || f.duration > profiler.MaxDuration:
		return daemon.UsageError{Err: fmt.Errorf("--duration %v: it is more than nothing and at most %v", f.duration, profiler.MaxDuration)}
	case len(files) > 1:
		return daemon.UsageError{Err: errors.New("--output: give one file")}
	case f.concurrency < 0:
		return daemon.UsageError{Err: errors.New("a negative number makes no load")}
	case load && !f.toolExecution:
		return daemon.UsageError{Err: errors.New("--daemon, --tool, --header and the like say what is called with --tool-execution: give that, too")}
	case f.choice.Validate() != nil:
		return daemon.UsageError{Err: f.choice.Validate()}
	case f.choice.Tool != "" && f.target.daemon == "":
		return daemon.UsageError{Err: errors.New("--tool is for a server of yours: give --daemon, too")}
	case f.toolExecution && f.target.daemon == "" && (f.target.socket.path != "" || f.target.socket.runtime != "" || len(f.target.headers) > 0 || len(f.target.mayLoad) > 0):
		return daemon.UsageError{Err: errors.New("without --daemon a daemon of its own is called and looked at: leave --socket, --runtime-dir, --header and --i-may-load out")}
	}
	f.svg = strings.Join(files, "")
	if f.diff == "" {
		return nil
	}
	data, err := readBounded(f.diff, maxProfile)
	if err != nil {
		return err
	}
	if f.old, err = profiler.Parse(data, kind); err != nil {
		return daemon.UsageError{Err: fmt.Errorf("--diff %s: %w", f.diff, err)}
	}
	return nil
}

// readBounded reads a file that is no larger than so many bytes.
func readBounded(name string, limit int64) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than %s", name, size(limit))
	}
	return data, err
}

func (f *profileFlags) run(c *cobra.Command) error {
	ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c.SetContext(ctx)
	made, load, err := f.record(ctx, c)
	switch {
	case ctx.Err() != nil:
		return errors.New("the profile was interrupted")
	case err != nil:
		return err
	}
	raw, err := made.Raw()
	if err != nil {
		return err
	}
	if f.pprof != "" {
		if err := writeFile(f.pprof, func(w io.Writer) error { _, err := w.Write(raw); return err }); err != nil {
			return err
		}
	}
	p, err := profiler.Parse(raw, made.Kind)
	if err != nil {
		return err
	}
	report := profiler.NewReport(made.Kind, p, f.old)
	report.Daemon, report.Load = profiler.Daemon{Version: made.Version, PID: made.PID}, load
	if f.svg != "" {
		if err := f.draw(p, report); err != nil {
			return err
		}
	}
	return f.show(c.OutOrStdout(), report)
}

// record has the daemon record a profile, and makes calls meanwhile where that is wanted.
func (f *profileFlags) record(ctx context.Context, c *cobra.Command) (made api.Profile, load *profiler.Load, err error) {
	if !f.toolExecution {
		return made, nil, f.ask(c, &f.target.socket, &made)
	}
	o, err := f.options(ctx, c)
	if err != nil {
		return made, nil, err
	}
	round, err := scenario.Drive(ctx, o, func(ctx context.Context, socket string) error {
		at := f.target.socket
		if socket != "" {
			at = socketFlag{path: socket}
		}
		if profiler.Kind(f.kind).State() { // as it is under way
			select {
			case <-time.After(f.duration):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		own := *c
		own.SetContext(ctx)
		return f.ask(&own, &at, &made)
	})
	if err == nil && round.Failed > 0 {
		fmt.Fprintf(c.ErrOrStderr(), "%d of %d calls failed; the first one: %s\n", round.Failed, round.Requests, printable(round.FirstFault))
	}
	return made, &profiler.Load{Calls: round.Succeeded, Failed: round.Failed, PerSecond: round.PerSecond}, err
}

func (f *profileFlags) ask(c *cobra.Command, socket *socketFlag, made *api.Profile) error {
	socket.timeout = f.duration + askTimeout
	return socket.ask(c, api.CallProfile, api.ProfileParams{Kind: profiler.Kind(f.kind), DurationMs: f.duration.Milliseconds()}, made)
}

// options say what is called, and that it may be.
func (f *profileFlags) options(ctx context.Context, c *cobra.Command) (o scenario.Options, err error) {
	program, err := os.Executable()
	if err != nil {
		return o, err
	}
	o = scenario.Options{Version: buildVersion(), Concurrency: f.concurrency, Program: []string{program}, Own: []string{program, benchmarkServerVerb}}
	if f.target.daemon == "" {
		return o, nil
	}
	if err := f.target.resolve(ctx, c, &o); err != nil {
		return o, err
	}
	if o.Daemon.PID == 0 {
		return o, daemon.UsageError{Err: fmt.Errorf("a daemon is looked at by its admin socket, and the daemon at that one is not at %s: give its --socket or --runtime-dir", f.target.daemon)}
	}
	o.Scenario, o.MaxProcesses = "high_throughput", f.target.maxProcesses // the one whose rules these are
	if err := o.Validate(); err != nil {
		return o, daemon.UsageError{Err: err}
	}
	if err := f.target.limit(c, &o); err != nil {
		return o, err
	}
	era, err := scenario.DetectEra(ctx, o.Daemon.Target)
	if err != nil {
		return o, fmt.Errorf("%s: %w", o.Daemon.Target.Host, err)
	}
	o.Daemon.Target = o.Daemon.Target.With(era)
	k, err := f.choice.Kind(ctx, o.Daemon.Target)
	if err != nil {
		return o, daemon.UsageError{Err: err}
	}
	o.Call = &k
	return o, nil
}

// draw writes the flame graph.
func (f *profileFlags) draw(p *flamegraph.Profile, r *profiler.Report) error {
	o := flamegraph.Options{Title: "fluentd-perf: " + f.kind, Main: "fluentd-perf", Notes: []string{summary(r)}}
	if f.old != nil {
		p.Compare(f.old)
		o.Notes = append(o.Notes, "compared with "+f.diff+": red is a larger part of all than there, blue a smaller one")
	}
	return writeFile(f.svg, func(w io.Writer) error { return p.Write(w, o) })
}

// show prints the report as every --output says that is no file.
func (f *profileFlags) show(w io.Writer, r *profiler.Report) error {
	if slices.Contains(f.output, "json") {
		return writeJSON(w, r)
	}
	fmt.Fprintln(w, summary(r))
	if f.svg != "" {
		fmt.Fprintf(w, "flame graph: %s (open it in a browser)\n", printable(f.svg))
	}
	fmt.Fprintln(w)
	t := newTable(w)
	cells := []any{"ITSELF", "%", "WITH CALLEES", "%"}
	if r.OldTotal != nil {
		cells = append(cells, "% BEFORE", "CHANGE")
	}
	row(t, append(cells, "FUNCTION")...)
	for _, fn := range f.shown(r) {
		cells := []any{flamegraph.Amount(fn.Self, r.Unit), share(fn.Self, r.Total), flamegraph.Amount(fn.Total, r.Unit), share(fn.Total, r.Total)}
		if r.OldTotal != nil {
			cells = append(cells, share(*fn.OldSelf, *r.OldTotal), fmt.Sprintf("%+.1f", 100*grown(r, fn)))
		}
		row(t, append(cells, fn.Name)...)
	}
	return t.Flush()
}

// shown are the functions that people see: those that took most themselves, in a comparison those whose part of all has changed most.
func (f *profileFlags) shown(r *profiler.Report) []flamegraph.Function {
	all := slices.Clone(r.Functions)
	if r.OldTotal != nil {
		slices.SortStableFunc(all, func(a, b flamegraph.Function) int {
			return cmp.Compare(max(grown(r, b), -grown(r, b)), max(grown(r, a), -grown(r, a)))
		})
	}
	return all[:min(len(all), shownFunctions)]
}

// grown is by how much of all a function takes more by itself than before.
func grown(r *profiler.Report, fn flamegraph.Function) float64 {
	return fraction(fn.Self, r.Total) - fraction(*fn.OldSelf, *r.OldTotal)
}

func fraction(n, all int64) float64 {
	if all == 0 {
		return 0
	}
	return float64(n) / float64(all)
}

func share(n, all int64) string { return fmt.Sprintf("%.1f", 100*fraction(n, all)) }

// summary is what was recorded, in a line.
func summary(r *profiler.Report) string {
	text := fmt.Sprintf("%s: %s", r.Kind, flamegraph.Amount(r.Total, r.Unit))
	if r.DurationMs > 0 {
		text += fmt.Sprintf(" in %s", rounded(time.Duration(r.DurationMs*1e6)))
	}
	text += fmt.Sprintf(", fluentd-perf %s, process %d", printable(r.Daemon.Version), r.Daemon.PID)
	if r.Load != nil {
		text += fmt.Sprintf(", under %.1f calls a second", r.Load.PerSecond)
	}
	return text
}
