package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"fluentd-perf/internal/daemon"
	"fluentd-perf/internal/loadgen/accesslog"
)

// fromLogFlag has benchmark read a log and call nobody.
const fromLogFlag = "from-log"

// readLog shows what the traffic of an access log came to. No flag of a load goes with it.
func (f *benchmarkFlags) readLog(c *cobra.Command) error {
	var wrong error
	c.Flags().Visit(func(flag *pflag.Flag) {
		if flag.Name != fromLogFlag && flag.Name != "output" {
			wrong = daemon.UsageError{Err: fmt.Errorf("--%s calls nobody: leave --%s out", fromLogFlag, flag.Name)}
		}
	})
	if wrong != nil {
		return wrong
	}
	log := c.InOrStdin()
	if f.fromLog != "-" {
		file, err := os.Open(f.fromLog)
		if err != nil {
			return err
		}
		defer file.Close()
		log = file
	}
	report, err := accesslog.Read(log)
	if err != nil {
		return fmt.Errorf("reading the log: %w", err)
	}
	if report.Lines == 0 {
		return errors.New("there is no access line in it: the daemon writes them at --log-level info")
	}
	return writeOutput(c.OutOrStdout(), f.output, report, logTables)
}

// logTables writes what a log came to for people.
func logTables(w io.Writer, r *accesslog.Report) error {
	fmt.Fprintf(w, "%d access lines from %s to %s; %d other lines\n\n", r.Lines, r.From.Format(time.RFC3339), r.To.Format(time.RFC3339), r.Others)
	t := newTable(w)
	row(t, "SERVER", "CALLS", "FAILED", "WAITED", "HITS", "COLLAPSED", "SAVED", "HANDSHAKES", "TOOK", "CONNECTIONS", "TOOK", "DEAD SESSIONS", "TOOK")
	for _, s := range r.Servers {
		row(t, s.Name, s.Calls, s.Failed, seconds(s.Seconds), s.Hits, s.Collapsed, seconds(s.SavedSeconds), s.Handshakes, seconds(s.HandshakeTime),
			s.Connections, seconds(s.ConnectSeconds), s.DeadSessions, seconds(s.DeadSessionTime))
	}
	fmt.Fprintln(t)
	row(t, "POSSIBLE AT MOST", "CALLS", "TIME", "LISTS", "TIME", "READS", "TIME", "TOOLS", "TIME", "UNDER WAY", "TIME")
	for _, s := range r.Servers {
		p := s.Possible
		row(t, s.Name, p.Calls(), seconds(p.Seconds()), p.ListHits, seconds(p.ListSeconds), p.ReadHits, seconds(p.ReadSeconds),
			p.ToolHits, seconds(p.ToolSeconds), p.Coalescable, seconds(p.CoalescSeconds))
	}
	fmt.Fprintln(t)
	for _, n := range r.Notes {
		fmt.Fprintln(t, n)
	}
	return t.Flush()
}

// seconds writes a sum of times.
func seconds(s float64) string { return fmt.Sprintf("%.3g s", s) }
