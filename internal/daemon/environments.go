package daemon

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"slices"
	"time"

	"fluentd-perf/internal/config"
	"fluentd-perf/internal/upstream/stdio/login"
	"fluentd-perf/internal/upstream/stdio/process"
)

// Environments are what servers that are commands start from: the daemon's own environment, or the one that the user's login shell
// makes. All methods may be called at the same time.
type Environments struct {
	own   []string // the daemon's, NAME=value
	path  config.SearchPath
	tries bool // own, but the login shell's for a command that is not found
	login *login.Resolver
}

// CommandEnvironment is what one server starts with.
type CommandEnvironment struct {
	process.Environment
	NPM      []string // what npm installs packages with: nothing of the server's own is in it
	Source   string   // where its PATH comes from, for people
	Login    bool     // it is the login shell's, or what is used instead of that
	Failures []error  // why it is not all that an interactive login shell makes
}

// InheritedPath is the Source of the daemon's own PATH.
const InheritedPath = "the daemon's own PATH"

// EnvironmentOptions are what Environments are made of. A zero field stands for its default.
type EnvironmentOptions struct {
	Path       config.SearchPath // processes.path
	Environ    []string          // of the daemon, NAME=value; nil: os.Environ
	LoginLimit time.Duration     // for one run of a login shell, see login.Options
	Log        *slog.Logger      // nil: silent
}

// NewEnvironments returns those of a daemon in this process. They are to be closed.
func NewEnvironments(o EnvironmentOptions) *Environments {
	if o.Environ == nil {
		o.Environ = os.Environ()
	}
	e := &Environments{
		own: o.Environ, path: o.Path, login: login.New(login.Options{Environ: o.Environ, Limit: o.LoginLimit, Log: o.Log}),
	}
	if e.path.Source == "" {
		e.path.Source = config.PathInherit
		if e.tries = !startedWithoutShell(o.Environ, hasTerminal(), os.Getppid()); !e.tries {
			e.path.Source = config.PathLogin
		}
	}
	return e
}

// managerNames are variables by which a service manager knows what it has started. The last is launchd's.
var managerNames = []string{"NOTIFY_SOCKET", "INVOCATION_ID", "JOURNAL_STREAM", "XPC_SERVICE_NAME"}

// desktopNames are variables of whatever runs on a desktop.
var desktopNames = []string{"DISPLAY", "WAYLAND_DISPLAY", "XDG_CURRENT_DESKTOP"}

// startedWithoutShell reports whether no shell of the user's is behind an environment: a service manager or a desktop has made it. Who
// has a terminal has a shell, whatever else is there: terminals of a desktop are started by a service manager, too.
func startedWithoutShell(environ []string, terminal bool, parent int) bool {
	has := func(name string) bool {
		value := process.Lookup(environ, name)
		return value != "" && value != "0" // launchd's name of what it has not started
	}
	return !terminal && (parent == 1 || slices.ContainsFunc(managerNames, has) || slices.ContainsFunc(desktopNames, has))
}

// hasTerminal reports whether this process has a controlling terminal.
func hasTerminal() bool {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return false
	}
	_ = tty.Close() // nothing was written
	return true
}

// Close ends a login shell that runs, and returns when nothing of it is left.
func (e *Environments) Close() { e.login.Close() }

// waits reports whether a server's environment is the login shell's.
func (e *Environments) waits(server *config.Stdio) bool {
	return e.path.Source == config.PathLogin || e.tries && e.notFound(server)
}

// notFound reports whether a command is in none of the directories of the daemon's own PATH. A login shell is no help with a server
// that has a PATH of its own.
func (e *Environments) notFound(server *config.Stdio) bool {
	if _, ok := server.Env["PATH"]; ok {
		return false
	}
	_, err := process.LookPath(server.Command[0], server.Cwd, e.own)
	missing := new(process.CommandError)
	return errors.As(err, &missing) && len(missing.Searched) > 0
}

// Of returns the environment of a server. It waits for the login shell where that is asked, as long as ctx lasts; the error is
// ctx's alone.
func (e *Environments) Of(ctx context.Context, server *config.Stdio) (CommandEnvironment, error) {
	from, of, err := e.from(ctx, e.waits(server))
	if err != nil {
		return CommandEnvironment{}, err
	}
	if _, ok := server.Env["PATH"]; ok {
		of.Source = "PATH of its env"
	}
	of.Environment, of.NPM = ServerEnvironment(from, server, e.path.Directories), npmEnvironment(from, e.path.Directories)
	return of, nil
}

// from returns what a server's environment is taken from, and what is to be said of that.
func (e *Environments) from(ctx context.Context, ofLogin bool) (environ []string, of CommandEnvironment, err error) {
	switch {
	case ofLogin:
		env, err := e.login.Environment(ctx)
		return env.Words, CommandEnvironment{Source: env.Source(), Login: true, Failures: env.Failures}, err
	case e.path.Source == config.PathList:
		return e.own, CommandEnvironment{Source: "processes.path"}, nil
	}
	return e.own, CommandEnvironment{Source: InheritedPath}, nil
}
