package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"strings"

	"fluentd-perf/internal/config"
	"fluentd-perf/internal/daemon"
	"fluentd-perf/internal/upstream/stdio/npx"
	"fluentd-perf/internal/upstream/stdio/process"
)

// npxCommand is what the command of an upstream comes to that is npx.
type npxCommand struct {
	Upstream  string `json:"upstream"`
	Package   string `json:"package,omitempty"`   // as it is asked for; "" where npx runs as it is written
	Installed string `json:"installed,omitempty"` // name@version, exact; "" where it is not installed yet
	Reason    string `json:"reason,omitempty"`    // why npx runs as it is written
}

// npxCheck says which commands run without npx, and which packages have no exact version.
type npxCheck struct {
	commands []npxCommand
	unpinned []string // packages, with their upstreams
}

// newNPXCheck looks at all commands as a daemon would that is started from here. It installs nothing.
func newNPXCheck(ctx context.Context, stdio stdioCheck) (check npxCheck) {
	guard := process.NewGuard(process.Options{})
	resolver := npx.New(npx.Options{Dir: daemon.PackagesDirectory(daemon.CacheDirectory()), Start: guard.Start})
	defer func() {
		resolver.Stop()
		guard.Close(ctx)
		resolver.Wait()
	}()
	for _, u := range stdio.upstreams {
		for _, name := range npx.Unpinned(u.Stdio.Command) {
			check.unpinned = append(check.unpinned, name+" of "+u.Name)
		}
		env := stdio.servers[u.Name]
		if _, err := process.LookPath(u.Stdio.Command[0], u.Stdio.Cwd, env.All); err != nil || !u.Stdio.Resolve { // which is said of every command
			continue
		}
		entry := resolver.Entry(npx.EntryOptions{
			Name: u.Name, Command: u.Stdio.Command, Dir: u.Stdio.Cwd, Env: env.All, NPMEnv: env.NPM,
		})
		if one, ok := explain(ctx, entry); ok {
			one.Upstream = u.Name
			check.commands = append(check.commands, one)
		}
	}
	return check
}

// explain says what an entry comes to; false where it is no npx command.
func explain(ctx context.Context, entry *npx.Entry) (c npxCommand, ok bool) {
	var err error
	c.Package, c.Installed, err = entry.Explain(ctx)
	written := new(npx.AsWritten)
	switch {
	case err == nil:
	case !errors.As(err, &written):
		c.Reason = err.Error()
	case written.Reason == "":
		return c, false
	default:
		c.Reason = written.Reason
	}
	return c, true
}

func (n npxCheck) warnings() (all []config.Warning) {
	for _, c := range n.commands {
		if c.Reason != "" {
			all = append(all, config.Warning{Key: "upstreams." + c.Upstream, Text: "npx runs as it is written, and asks its registry at each start: " + c.Reason})
		}
	}
	if len(n.unpinned) > 0 {
		all = append(all, config.Warning{Key: "upstreams", Text: "no exact version has " + strings.Join(n.unpinned, ", ") +
			": what is published next, runs next; write name@1.2.3 with npx, name==1.2.3 or name@1.2.3 with uvx"})
	}
	return all
}

// table writes what each npx command comes to.
func (n npxCheck) table(w io.Writer) error {
	if len(n.commands) == 0 {
		return nil
	}
	t := newTable(w)
	row(t, "")
	row(t, "NPX COMMAND OF", "PACKAGE", "INSTALLED", "RUNS")
	for _, c := range n.commands {
		runs := "without npx"
		if c.Reason != "" {
			runs = "as it is written: " + c.Reason
		}
		row(t, c.Upstream, cmp.Or(c.Package, "-"), cmp.Or(c.Installed, "-"), runs)
	}
	return t.Flush()
}
