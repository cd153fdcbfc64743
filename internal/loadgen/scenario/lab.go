package scenario

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"fluentd-perf/internal/loadgen"
	"fluentd-perf/internal/mcp"
)

// lab is what a benchmark has: its processes, and the report that it makes.
type lab struct {
	o       *Options
	dir     string
	started int // daemons, so far: each has a directory of its own
	server  *serverProcess
	daemons []*daemonProcess // the second one is the same again
	report  *loadgen.Report
}

// Run measures what the options say. The report is there with an error, too, as far as it is made: the error is ctx's, says that
// something could not be started, or is loadgen.ErrNoSuccess.
func Run(ctx context.Context, o Options) (report *loadgen.Report, err error) {
	s, err := o.find()
	if err != nil {
		return nil, err
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	begun := time.Now()
	l := &lab{o: &o, report: &loadgen.Report{
		Schema: loadgen.SchemaID, Scenario: s.name, Machine: loadgen.ThisMachine(), Started: begun.UTC(),
		Program: loadgen.Program{Version: o.Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH},
		Runs:    []loadgen.Run{},
	}}
	if l.dir, err = directory(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	o.Progress(Progress{})
	if l.server, err = startServer(ctx, l.dir, o.Own); err != nil {
		return l.report, err
	}
	err = s.run(ctx, l)
	l.report.TookMs = time.Since(begun).Milliseconds()
	return l.report, err
}

func (l *lab) endDaemons() {
	for _, d := range l.daemons {
		d.end()
	}
	l.daemons = nil
}

func (l *lab) close() error {
	l.endDaemons()
	if l.server != nil {
		l.server.end()
	}
	return os.RemoveAll(l.dir)
}

// note adds a sentence to the report.
func (l *lab) note(format string, args ...any) {
	l.report.Notes = append(l.report.Notes, fmt.Sprintf(format, args...))
}

// startDaemons starts the daemon, and the same again where a comparison needs it.
func (l *lab) startDaemons(ctx context.Context, again bool, yaml string) error {
	names := []string{"daemon"}
	if again {
		names = append(names, "daemon-again")
	}
	for _, name := range names {
		l.started++
		name = fmt.Sprintf("%s-%d", name, l.started)
		d, err := startDaemon(ctx, l.dir, name, l.o, yaml)
		if err != nil {
			return err
		}
		l.daemons = append(l.daemons, d)
	}
	return nil
}

// subject is a target with what is known of its process.
type subject struct {
	name    string
	role    loadgen.Role
	target  *loadgen.Target
	program *loadgen.Program
	pid     int
	metrics *loadgen.Target // where the daemon's /metrics is; nil where there is no daemon

	same    *subject // whose clients it uses, because it is that one again; nil: it has its own
	clients *loadgen.Clients
	meter   *loadgen.Meter
	tallies []*loadgen.Tally
	rounds  []loadgen.Round
	streams *loadgen.Streams // nil: none
	idle    *loadgen.StreamCounts
}

// fresh returns the same subjects without rounds and connections.
func fresh(all []*subject) []*subject {
	made := make(map[*subject]*subject, len(all))
	for _, s := range all {
		made[s] = &subject{name: s.name, role: s.role, target: s.target, program: s.program, pid: s.pid, metrics: s.metrics, same: made[s.same]}
	}
	others := make([]*subject, len(all))
	for i, s := range all {
		others[i] = made[s]
	}
	return others
}

// again is the same subject once more, over the same connections and in the same sessions: what differs between the two is noise.
func (s *subject) again() *subject {
	other := fresh([]*subject{s})[0]
	other.name, other.role, other.same = s.name+" again", loadgen.RoleAgain, s
	return other
}

// path is the path of the scripted server for an era. Only legacy servers have sessions.
func path(era mcp.Era) string {
	if era == mcp.EraLegacy {
		return "/session"
	}
	return "/mcp"
}

// upstream is the daemon's name for what a scenario calls.
type upstream struct {
	kind, name string  // kind is mcp or rpc
	path       string  // on the scripted server
	era        mcp.Era // the scenario's own
}

// ownSubjects are the scripted server, the daemon in front of it, and the same daemon again, as far as they were started.
func (l *lab) ownSubjects(up upstream) ([]*subject, error) {
	direct, err := loadgen.NewTarget("http://"+l.server.address+up.path, "")
	if err != nil {
		return nil, err
	}
	return l.subjectsOf(direct.With(up.era), up)
}

// subjectsOf are the server at a target, the daemon in front of it, and the same daemon again, as far as they were started.
func (l *lab) subjectsOf(direct *loadgen.Target, up upstream) ([]*subject, error) {
	all := []*subject{{name: "direct", role: loadgen.RoleDirect, target: direct}}
	if direct.Command == nil {
		all[0].pid = l.server.pid()
	}
	for i, d := range l.daemons {
		target, err := d.target(up.kind, up.name)
		if err != nil {
			return nil, err
		}
		s := &subject{name: "daemon", role: loadgen.RoleDaemon, target: target.With(up.era), pid: d.pid(), metrics: target, program: &loadgen.Program{Version: d.version}}
		if i > 0 {
			s.name, s.role = "daemon again", loadgen.RoleAgain
		}
		all = append(all, s)
	}
	if len(l.daemons) == 0 {
		all = append(all, all[0].again())
	}
	return all, nil
}

// subjects are what the user's own options name, or the scripted server and daemons that are started here.
func (l *lab) subjects(ctx context.Context, concurrency int) ([]*subject, error) {
	o := l.o
	if o.Server == nil && o.Daemon == nil {
		if !o.NoDaemon {
			if err := l.startDaemons(ctx, true, l.config(concurrency)); err != nil {
				return nil, err
			}
		}
		return l.ownSubjects(upstream{"mcp", "mcp", path(o.Era), o.Era})
	}
	var all []*subject
	if o.Server != nil {
		all = append(all, &subject{name: "direct", role: loadgen.RoleDirect, target: o.Server.Target, pid: o.Server.PID})
	}
	switch {
	case o.Daemon != nil:
		s := &subject{name: "daemon", role: loadgen.RoleDaemon, target: o.Daemon.Target, pid: o.Daemon.PID}
		if !o.Daemon.Elsewhere {
			s.metrics = o.Daemon.Target
		}
		if o.Daemon.Version != "" {
			s.program = &loadgen.Program{Version: o.Daemon.Version}
		}
		return append(all, s, s.again()), nil
	case o.NoDaemon:
		return append(all, all[0].again()), nil
	}
	return l.before(ctx, all, concurrency)
}

// before adds daemons that are started in front of the user's server.
func (l *lab) before(ctx context.Context, all []*subject, concurrency int) ([]*subject, error) {
	server := l.o.Server.Target
	yaml, err := l.o.serverConfig(concurrency)
	if err != nil {
		return nil, err
	}
	if err := l.startDaemons(ctx, true, yaml); err != nil {
		return nil, err
	}
	for i, d := range l.daemons {
		target, err := d.target("mcp", "server")
		if err != nil {
			return nil, err
		}
		target = target.With(server.Era)
		target.Fields, target.Limit = server.Fields, server.Limit
		s := &subject{name: "daemon", role: loadgen.RoleDaemon, target: target, pid: d.pid(), metrics: target, program: &loadgen.Program{Version: d.version}}
		if i > 0 {
			s.name, s.role = "daemon again", loadgen.RoleAgain
		}
		all = append(all, s)
	}
	return all, nil
}
