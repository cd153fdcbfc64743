package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/loadgen/fastserver"
	"fluentd-perf/internal/mcp"
)

// stdioMode is what a daemon has of a server that is a command when the agents of a round start.
type stdioMode struct {
	name, title string
	different   bool // no agent is like another, so that nothing fits that is ready
	before      int  // agents that connect, ask for the tools and leave, one after the other, before those that count
	noList      bool // those ask for nothing: the answers to lists are not remembered then
	command     func(n int) command
	ready       func(api.UpstreamStatus, int) bool // what is waited for after them
}

// The modes of legacy servers, where each session has a process.
var stdioModes = []stdioMode{
	{name: "cold", title: "nothing is ready: a process starts for each agent", different: true,
		command: func(n int) command { return command{Processes: map[string]any{"max": n, "warm": 0}} }},
	{name: "spare", title: "a process for each agent was started ahead", before: 1, noList: true,
		command: func(n int) command { return command{Processes: map[string]any{"max": n, "warm": n, "lazy": false}} },
		ready: func(u api.UpstreamStatus, n int) bool {
			return u.Ready != nil && u.Ready.Spare == n && u.ProcessesNow == n
		}},
	{name: "remembered", title: "handshake and lists are known of two agents before: a process is needed for the first call", before: 2,
		command: func(n int) command { return command{Processes: map[string]any{"max": n}} },
		ready: func(u api.UpstreamStatus, _ int) bool {
			return u.Ready != nil && u.Ready.Spare > 0 && u.Ready.Spare == u.ProcessesNow
		}},
	{name: "shared", title: "sessions: shared, one process for all, which runs", before: 1,
		command: func(n int) command { return command{Shared: true, Processes: map[string]any{"max": n}} }},
}

// modernModes are those of agents without sessions, which share a process anyway.
var modernModes = []stdioMode{
	{name: "cold", title: "nothing is ready: one process starts for all agents", command: stdioModes[0].command},
	{name: "shared", title: "one process for all, which runs", before: 1, command: stdioModes[0].command},
}

// checkStdio returns what does not fit the scenario stdio.
func checkStdio(o *Options) error {
	switch {
	case o.Daemon != nil || o.Server != nil && o.Server.Target.Command == nil:
		return errors.New("the scenario stdio is for a server that is a command, and for daemons that it starts: leave --daemon and --server out, and give --command or nothing")
	case o.NoDaemon:
		return errors.New("the scenario stdio compares with a daemon: leave --direct out")
	case o.Requests > 0 || o.Duration > 0 || o.Rate > 0:
		return errors.New("the scenario stdio has --concurrency agents, each once in every one of --rounds: leave --requests, --duration and --rate out")
	}
	return nil
}

// stdioLab is what the scenario stdio has besides.
type stdioLab struct {
	*lab
	agents  int
	command loadgen.Command
	at      string // the directory in which it starts
	inherit []string
	call    *loadgen.Kind // the first call of an agent; nil: none
}

// stdio has agents start at once, in each of the modes.
func stdio(ctx context.Context, l *lab) (err error) {
	small := toolCall(fastserver.Small)
	s := &stdioLab{
		lab: l, agents: or(l.o.Concurrency, usualAgents), call: &small,
		command: loadgen.Command{Args: append(slices.Clone(l.o.Own), "--stdio")}, inherit: []string{"*"},
	}
	if l.o.Server != nil {
		s.command, s.inherit, s.call = *l.o.Server.Target.Command, l.o.InheritEnv, l.o.Call
	}
	if s.at, err = os.Getwd(); err != nil {
		return err
	}
	modes := stdioModes
	if l.o.Era != mcp.EraLegacy {
		modes = modernModes
		l.note("Agents of 2026-07-28 share one process: nothing is kept spare or remembered for them.")
	}
	if s.call == nil {
		l.note("No tool was called: --tool names the one that is each agent's first call.")
	}
	for _, mode := range modes {
		l.note("%s: %s.", mode.name, mode.title)
		if err := s.measureMode(ctx, mode); err != nil {
			return fmt.Errorf("%s: %w", mode.name, err)
		}
	}
	return nil
}

// measureMode runs the rounds of one mode: the command directly, and behind a daemon, twice. Daemons and processes live for one round,
// and nothing else runs meanwhile.
func (s *stdioLab) measureMode(ctx context.Context, mode stdioMode) error {
	e := experiment{
		name: fmt.Sprintf("%s, %d agents at once", mode.name, s.agents), rounds: s.o.rounds(),
		load: loadgen.Load{Loop: loadgen.Burst, Concurrency: s.agents, Requests: int64(s.agents)},
	}
	direct := loadgen.NewCommandTarget(s.command).With(s.o.Era)
	e.subjects = []*subject{
		{name: "direct", role: loadgen.RoleDirect, target: direct},
		{name: "daemon", role: loadgen.RoleDaemon, target: direct}, // until there is one
		{name: "daemon again", role: loadgen.RoleAgain, target: direct},
	}
	for round := 1; round <= e.rounds; round++ {
		order := slices.Clone(e.subjects)
		if round%2 == 0 {
			slices.Reverse(order)
		}
		for _, one := range order {
			s.o.Progress(Progress{Run: e.name, Target: one.name, Round: round, Rounds: e.rounds})
			if err := s.round(ctx, mode, one, round); err != nil {
				if ctx.Err() != nil {
					s.keep(&e)
				}
				return fmt.Errorf("%s: %w", one.name, err)
			}
		}
	}
	s.report.Runs = append(s.report.Runs, *e.result())
	return nil
}

// round has the agents of one round, and adds what they come to.
func (s *stdioLab) round(ctx context.Context, mode stdioMode, one *subject, number int) error {
	var d *daemonProcess
	if one.role != loadgen.RoleDirect {
		defer s.endDaemons()
		if err := s.startFor(ctx, mode, one); err != nil {
			return err
		}
		d = s.daemons[0]
	}
	own := loadgen.NewMeter(ctx, os.Getpid(), nil)
	own.Begin(ctx)
	var counts loadgen.ProcessCounts
	tally, err := loadgen.NewClients(one.target).RunAgents(ctx, loadgen.Agents{
		Number: s.agents, Call: s.call, Different: mode.different,
		Reached: func(step string, pids []int) { count(ctx, &counts, step, pids, d) },
	})
	if err != nil {
		return err
	}
	r := tally.Round()
	r.Round, r.Generator, r.Processes = number, own.End(ctx, tally.Requests()), &counts
	one.tallies, one.rounds = append(one.tallies, tally), append(one.rounds, r)
	return nil
}

// startFor starts a daemon for one round, and has it as the mode says.
func (s *stdioLab) startFor(ctx context.Context, mode stdioMode, one *subject) error {
	c := mode.command(s.agents)
	c.Args, c.Directory, c.InheritEnv = s.command.Args, s.at, s.inherit
	if err := s.startDaemons(ctx, false, inheritPath+"upstreams:\n  server: "+c.yaml()+"\n"); err != nil {
		return err
	}
	d := s.daemons[0]
	target, err := d.target("mcp", "server")
	if err != nil {
		return err
	}
	one.target, one.program = target.With(s.o.Era), &loadgen.Program{Version: d.version}
	for range mode.before {
		if err := s.before(ctx, mode, one.target); err != nil {
			return err
		}
	}
	if mode.ready == nil {
		return nil
	}
	why := ""
	err = d.awaits(ctx, readyTimeout, func() bool {
		u, err := d.commandStatus(ctx)
		if err == nil && u.Ready != nil {
			why = u.Ready.WithoutSpares
		}
		return err == nil && (why != "" || mode.ready(u, s.agents))
	})
	if why != "" {
		s.noteOnce("%s: no process was started ahead: %s", mode.name, why)
	}
	return err
}

// noteOnce adds a sentence that is not there yet.
func (l *lab) noteOnce(format string, args ...any) {
	if !slices.Contains(l.report.Notes, fmt.Sprintf(format, args...)) {
		l.note(format, args...)
	}
}

// readyTimeout is how long a daemon may take to start processes ahead, which it does one at a time.
const readyTimeout = 2 * time.Minute

// commandStatus returns what the daemon says of the command that it is in front of.
func (d *daemonProcess) commandStatus(ctx context.Context) (api.UpstreamStatus, error) {
	var status api.Status
	if err := api.Call(ctx, d.admin, api.CallStatus, api.StatusParams{Processes: true}, &status); err != nil {
		return api.UpstreamStatus{}, err
	}
	if len(status.Upstreams) != 1 {
		return api.UpstreamStatus{}, fmt.Errorf("the daemon has %d upstreams", len(status.Upstreams))
	}
	return status.Upstreams[0], nil
}

// count counts the server's processes at one step: those of the agents, or those of the daemon. What cannot be read is left out.
func count(ctx context.Context, c *loadgen.ProcessCounts, step string, pids []int, d *daemonProcess) {
	n, pss := len(pids), int64(0)
	if d == nil {
		if all, size, err := loadgen.Family(pids...); err == nil {
			n, pss = all, size
		}
	} else {
		u, _ := d.commandStatus(ctx) // without it there are none
		for _, p := range u.Processes {
			n += max(1, p.Processes)
			pss += p.PSS
		}
		if _, all, err := loadgen.Family(d.pid()); err == nil {
			c.DaemonPSS = all - pss
		}
	}
	if step == loadgen.StepListed {
		c.Listed, c.ListedPSS = n, pss
	} else {
		c.Called, c.CalledPSS = n, pss
	}
}

// before is one agent that leaves again before those that count.
func (s *stdioLab) before(ctx context.Context, mode stdioMode, t *loadgen.Target) error {
	p := loadgen.NewClients(t)
	defer p.Close(ctx)
	if mode.noList {
		return p.Open(ctx, 1)
	}
	_, err := p.Ask(ctx, loadgen.List())
	return err
}
