package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"fluentd-perf/internal/daemon"
	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/page"
	"fluentd-perf/internal/loadgen/scenario"
	"fluentd-perf/internal/mcp"
)

// benchmarkServerVerb is the scripted server as a process.
const benchmarkServerVerb = "benchmark-server"

// eraAuto is the value of --era that means: as the server answers.
const eraAuto = "auto"

// benchmarkFlags are what was typed.
type benchmarkFlags struct {
	scenario.Options
	era    string
	target targetFlags
	choice scenario.Choice
	quiet  bool
	hgrm   string
	html   string
	output string

	fromLog string // "": a load is made
}

func benchmarkCommand() *cobra.Command {
	f := new(benchmarkFlags)
	c := &cobra.Command{
		Use: "benchmark", Short: "Measure what the daemon costs and saves", Args: cobra.NoArgs,
		Long: "Makes calls, checks every answer, and shows how many there were, how long they took and what they cost.\n" +
			"Without more it starts a server of its own that costs next to nothing, and a daemon in front of it, twice. Each round\n" +
			"puts the same load on the server directly and on both daemons: what differs between two daemons of one build is noise,\n" +
			"and no difference that is smaller is claimed.\n\n" +
			"Scenarios:\n" + scenario.Help() + "\n" +
			"Of a server of yours, at a URL or a command, it calls only the tool that you name, else tools/list. " + loadgen.KeyMark + " in --arguments becomes\n" +
			"another number in each call. A server that is not on this machine gets 5 calls a second and 2 at once, unless you say\n" +
			"that you may load it.\n\n" +
			"A closed loop makes the next call as soon as one is answered. --rate makes an open one: calls go out at their times,\n" +
			"whatever becomes of those before. Then there are two times: service, from the send, and intended, from when the call was\n" +
			"meant to be sent, in which a server's stall counts for all calls that it held back.\n\n" +
			"An interrupt (ctrl+c) ends it early: what is whole by then is shown.\n\n" +
			"Exit code 0: all calls were answered rightly and in time; 1: it could not be done, or no call succeeded; 2: the flags are\n" +
			"wrong, or ask for what is not allowed; 3: calls failed, over 1 % were sent late or not at all, or a target was missed.",
		Example: "  fluentd-perf benchmark\n" +
			"  fluentd-perf benchmark --scenario high_throughput --requests 1000\n" +
			"  fluentd-perf benchmark --rate 2000 --duration 10s\n" +
			"  fluentd-perf benchmark --daemon docs --tool search --arguments '{\"query\":\"cache\"}' --requests 100\n" +
			"  fluentd-perf benchmark --server http://127.0.0.1:8080/mcp -o json\n" +
			"  fluentd-perf benchmark --scenario stdio --command 'npx -y @modelcontextprotocol/server-filesystem /data'\n" +
			"  journalctl --user -u fluentd-perf | fluentd-perf benchmark --from-log -",
		RunE: func(c *cobra.Command, _ []string) error { return f.run(c) },
	}
	f.register(c)
	c.AddCommand(compareCommand())
	c.AddCommand(benchmarkReportCommand())
	return c
}

func (f *benchmarkFlags) register(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&f.Scenario, "scenario", "high_throughput", "what to measure")
	flags.IntVarP(&f.Concurrency, "concurrency", "c", 0, "calls at once; of an open loop at most (default by scenario)")
	flags.Int64VarP(&f.Requests, "requests", "n", 0, "calls to each target in each round (default by scenario)")
	flags.DurationVar(&f.Duration, "duration", 0, "how long each round lasts, in place of --requests")
	flags.Float64Var(&f.Rate, "rate", 0, "calls a second: an open loop")
	flags.IntVar(&f.Rounds, "rounds", 0, "rounds of all targets (default 5; at least 5 for comparing)")
	flags.IntVar(&f.Connections, "connections", 0, "sessions with a stream each, of connections and targets (default 1000 and 9900)")
	flags.StringVar(&f.era, "era", eraAuto, "legacy (up to 2025-11-25), modern (2026-07-28), or auto: as the server answers")
	flags.BoolVar(&f.UnixSocket, "unix-socket", false, "reach the daemons that are started over Unix sockets")
	flags.StringVar(&f.choice.Tool, "tool", "", "the `name` of the tool to call; of tool_latency without a server of yours filesystem, shell or compiler")
	flags.StringVar(&f.choice.Arguments, "arguments", "", "its arguments, a `JSON` object; left out, they are made up for a tool that says that it only reads")
	flags.BoolVar(&f.choice.Generate, "generate-arguments", false, "make arguments up for any tool")
	flags.StringVar(&f.hgrm, "hgrm", "", "write the distributions of times into this `directory`, as .hgrm files")
	flags.StringVar(&f.html, "html", "", "write the report into this `file`, as a page for people")
	flags.BoolVar(&f.quiet, "quiet", false, "do not show how far it is")
	flags.StringVar(&f.fromLog, fromLogFlag, "", "call nobody: show what the traffic in the daemon's log `file` came to; - is stdin")
	f.target.register(c)
	outputFlag(c, &f.output)
	completeWords(c, "scenario", scenario.Names()...)
	completeWords(c, "era", "legacy", "modern", eraAuto)
}

func (f *benchmarkFlags) run(c *cobra.Command) error {
	if c.Flags().Changed(fromLogFlag) {
		return f.readLog(c)
	}
	ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := f.prepare(ctx, c); err != nil {
		if ctx.Err() != nil {
			return errInterrupted
		}
		return err
	}
	view := newLiveView(c.ErrOrStderr(), f.quiet)
	f.Progress = view.show
	report, err := scenario.Run(ctx, f.Options)
	view.clear()
	if ctx.Err() != nil {
		err = errInterrupted
	}
	if err != nil && (report == nil || len(report.Runs) == 0) { // there is nothing to show
		return err
	}
	if err = errors.Join(f.write(c.OutOrStdout(), report), err); err != nil {
		return err
	}
	return judged(report)
}

// write writes a report to all places that the flags name.
func (f *benchmarkFlags) write(w io.Writer, report *loadgen.Report) error {
	if f.hgrm != "" {
		if err := writeHGRM(f.hgrm, report); err != nil {
			return err
		}
	}
	err := writeOutput(w, f.output, report, benchmarkTables)
	if err == nil && f.html != "" { // last: what was measured is not lost if it cannot be written
		err = writePage(f.html, page.Source{Report: report})
	}
	return err
}

var errInterrupted = errors.New("the benchmark was interrupted")

// prepare makes the options of the flags.
func (f *benchmarkFlags) prepare(ctx context.Context, c *cobra.Command) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	f.Version, f.Program, f.Own, f.OwnTool = buildVersion(), []string{program}, []string{program, benchmarkServerVerb}, f.choice.Tool
	if err := f.target.resolve(ctx, c, &f.Options); err != nil {
		return err
	}
	f.MaxProcesses, f.EraGiven = f.target.maxProcesses, f.era != eraAuto
	if err := errors.Join(f.choice.Validate(), f.checkTool()); err != nil {
		return daemon.UsageError{Err: err}
	}
	if err := f.Validate(); err != nil {
		return daemon.UsageError{Err: err}
	}
	f.target.lookAnswer(ctx, f.Server)
	if err := f.target.limit(c, &f.Options); err != nil {
		return err
	}
	if err := f.setEra(ctx); err != nil {
		return err
	}
	return f.setCall(ctx)
}

// checkTool returns what is wrong with --tool of the benchmark's own server.
func (f *benchmarkFlags) checkTool() error {
	switch {
	case f.choice.Tool == "" || f.Server != nil || f.Daemon != nil:
		return nil
	case f.Scenario != "tool_latency":
		return errors.New("--tool is for a server of yours: give --daemon, --server or --command, too; or for --scenario tool_latency")
	case f.choice.Arguments != "" || f.choice.Generate:
		return errors.New("the tools of the benchmark's own server have no arguments: leave --arguments and --generate-arguments out")
	}
	return nil
}

// setEra has all targets speak as --era says, or as they answer.
func (f *benchmarkFlags) setEra(ctx context.Context) (err error) {
	switch f.era {
	case "legacy":
		f.Era = mcp.EraLegacy
	case "modern":
		f.Era = mcp.EraModern
	case eraAuto:
		f.Era = mcp.EraModern
		if f.Scenario == "stdio" { // only of these a session has a process of its own
			f.Era = mcp.EraLegacy
		} else if at := f.endpoint(); at != nil {
			if f.Era, err = scenario.DetectEra(ctx, at.Target); err != nil {
				return fmt.Errorf("%s: %w", at.Target.Host, err)
			}
		}
	default:
		return daemon.UsageError{Err: fmt.Errorf("--era %q: use legacy, modern or %s", f.era, eraAuto)}
	}
	for _, at := range []*scenario.Endpoint{f.Daemon, f.Server} {
		if at != nil {
			at.Target = at.Target.With(f.Era)
		}
	}
	return nil
}

// endpoint is the user's own that is asked what the others need not be; nil where there is none.
func (f *benchmarkFlags) endpoint() *scenario.Endpoint {
	if f.Daemon != nil {
		return f.Daemon
	}
	return f.Server
}

// setCall makes the call of the tool that the user named.
func (f *benchmarkFlags) setCall(ctx context.Context) error {
	if f.choice.Tool == "" || f.endpoint() == nil {
		return nil
	}
	k, err := f.choice.Kind(ctx, f.endpoint().Target)
	if err != nil {
		return daemon.UsageError{Err: err}
	}
	f.Call = &k
	return nil
}

// exitNotGood is for a benchmark that was made and shows something wrong.
const exitNotGood = 3

// notGoodError says what is wrong with what was measured.
type notGoodError struct{ what []string }

// Error lists it.
func (e notGoodError) Error() string { return strings.Join(e.what, "\n") }

// judged returns an error where the figures of a report are not to be used, or a target was missed.
func judged(report *loadgen.Report) error {
	var wrong []string
	for _, run := range report.Runs {
		for _, p := range run.Problems {
			wrong = append(wrong, run.Name+": "+p)
		}
	}
	missed, unknown := 0, 0
	for _, g := range report.Goals {
		switch {
		case g.Unknown:
			unknown++
		case !g.Met:
			missed++
		}
	}
	if missed > 0 {
		wrong = append(wrong, fmt.Sprintf("%d of %d targets were missed", missed, len(report.Goals)))
	}
	if unknown > 0 {
		wrong = append(wrong, fmt.Sprintf("of %d of %d targets it is not known what came of them", unknown, len(report.Goals)))
	}
	if len(wrong) == 0 {
		return nil
	}
	return notGoodError{wrong}
}

// benchmarkServerCommand is the server that benchmark starts.
func benchmarkServerCommand() *cobra.Command {
	var stdio bool
	var tools string
	c := &cobra.Command{
		Use: benchmarkServerVerb, Short: "Be the server of a benchmark", Args: cobra.NoArgs, Hidden: true,
		RunE: func(c *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(c.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			context.AfterFunc(ctx, func() { _ = os.Stdin.Close() }) // which is how it ends in any case
			if stdio {
				return scenario.ServeLines(tools, os.Stdin, os.Stdout)
			}
			return scenario.ServeOwn(tools, os.Stdin, os.Stdout)
		},
	}
	c.Flags().BoolVar(&stdio, "stdio", false, "answer lines on stdin")
	c.Flags().StringVar(&tools, "tools", "", "the `directory` of the tools that do something")
	return c
}
