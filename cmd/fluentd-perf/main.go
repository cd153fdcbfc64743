// Command fluentd-perf is a local daemon between AI agents and MCP servers. This package is flags and output,
// a file per verb; internal/daemon puts the parts together.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"strings"

	"fluentd-perf/internal/daemon"
	"fluentd-perf/internal/upstream/stdio/login"

	"github.com/spf13/cobra"
)

// version is set by the Makefile; without it the module's own build information speaks.
var version = ""

// Exit codes: 0 done, 1 it failed while running, 2 it was asked for the impossible (flags, configuration).
const (
	exitFailed = 1
	exitUsage  = 2
)

// A process that was started as the guard of stdio servers does not get here: see package guard.
func main() {
	login.PrintIfAsked()
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// run is main without the process: it returns the exit code. No verb ever waits for whoever reads stderr.
func run(args []string, stdout, stderr io.Writer) int {
	lines := newLineQueue(stderr)
	defer lines.Close()
	root := rootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(lines)
	err := root.Execute()
	if err == nil {
		return 0
	}
	fmt.Fprintln(lines, err)
	var usage daemon.UsageError
	var notGood notGoodError
	var worse worseError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &notGood):
		return exitNotGood
	case errors.As(err, &worse):
		return exitWorse
	}
	return exitFailed
}

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:                        "fluentd-perf",
		Short:                      "A local daemon between AI agents and MCP servers",
		SilenceUsage:               true,
		SilenceErrors:              true,
		SuggestionsMinimumDistance: 2,
		Version:                    buildVersion(), // --version: what people try first
	}
	root.SetVersionTemplate(versionLine())
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		if before := c.Flags().Args(); !c.HasParent() && len(before) > 0 { // a flag of a verb that there is not
			return daemon.UsageError{Err: knownVerb(c, before)}
		}
		return daemon.UsageError{Err: fmt.Errorf("%w; see %s --help", err, c.CommandPath())}
	})
	root.AddCommand(serveCommand(), demoCommand(), demoServerCommand(), checkCommand(), schemaCommand(), statusCommand(), benchmarkCommand(), benchmarkServerCommand(), profileCommand(), cacheStatsCommand(), cachePurgeCommand(), monitorCommand(), versionCommand(), healthcheckCommand())
	root.Args = wrongUsage(knownVerb)
	root.RunE = func(c *cobra.Command, _ []string) error { return c.Help() }
	for _, verb := range root.Commands() {
		verb.Args = wrongUsage(verb.Args)
	}
	return root
}

// knownVerb refuses a first argument: it is no verb, or it would not have come here.
func knownVerb(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	meant := "see " + root.CommandPath() + " --help"
	if near := root.SuggestionsFor(args[0]); len(near) > 0 {
		meant = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return fmt.Errorf("unknown command %q; %s", args[0], meant)
}

// wrongUsage makes what a verb does not take the typist's error.
func wrongUsage(takes cobra.PositionalArgs) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if err := takes(c, args); err != nil {
			return daemon.UsageError{Err: err}
		}
		return nil
	}
}

// logFlags are the flags of every verb that runs the daemon.
type logFlags struct{ level, format string }

func (f *logFlags) register(c *cobra.Command) {
	c.Flags().StringVar(&f.level, "log-level", "info", "debug, info, warn or error; at warn a request that went well leaves no line")
	c.Flags().StringVar(&f.format, "log-format", "text", "text or json")
	completeWords(c, "log-level", "debug", "info", "warn", "error")
	completeWords(c, "log-format", "text", "json")
}

// logger returns the log that is written to w. Where w is a lineQueue, the log says how many lines were lost.
func (f *logFlags) logger(w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.level)); err != nil {
		return nil, daemon.UsageError{Err: fmt.Errorf("--log-level %q: use debug, info, warn or error", f.level)}
	}
	handler, err := f.handler(w, level)
	if err != nil {
		return nil, err
	}
	if queue, ok := w.(*lineQueue); ok {
		queue.reportBy(f.lostReport)
		handler = queuedHandler{handler, queue}
	}
	return slog.New(handler), nil
}

func (f *logFlags) handler(w io.Writer, level slog.Level) (slog.Handler, error) {
	o := &slog.HandlerOptions{Level: level}
	switch f.format {
	case "text":
		return slog.NewTextHandler(w, o), nil
	case "json":
		return slog.NewJSONHandler(w, o), nil
	}
	return nil, daemon.UsageError{Err: fmt.Errorf("--log-format %q: use text or json", f.format)}
}

// lostReport makes the line that stands where lines are missing. It is there at every level.
func (f *logFlags) lostReport(lost uint64) []byte {
	var line bytes.Buffer
	if handler, err := f.handler(&line, slog.LevelWarn); err == nil {
		slog.New(handler).Warn("log lines were lost here: they were not read in time, or could not be written", "lines", lost)
	}
	return line.Bytes()
}

// buildVersion returns what is running: the Makefile's version, else the module's, else the revision.
func buildVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return "devel"
}

const platform = runtime.GOOS + "/" + runtime.GOARCH

func versionLine() string {
	return fmt.Sprintf("fluentd-perf %s (%s, %s)\n", buildVersion(), runtime.Version(), platform)
}

func versionCommand() *cobra.Command {
	var output string
	c := &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if output == "json" {
				return writeJSON(c.OutOrStdout(), map[string]string{"version": buildVersion(), "go": runtime.Version(), "platform": platform})
			}
			_, err := io.WriteString(c.OutOrStdout(), versionLine())
			return err
		},
	}
	outputFlag(c, &output)
	return c
}
