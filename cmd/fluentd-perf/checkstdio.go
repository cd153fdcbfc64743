package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"fluentd-perf/internal/config"
	"fluentd-perf/internal/daemon"
	"fluentd-perf/internal/upstream/stdio/process"
)

// stdioCheck says of servers that are commands what will probably not work, on the machine and in the environment where check
// runs.
type stdioCheck struct {
	upstreams []config.Upstream                    // that are commands
	servers   map[string]daemon.CommandEnvironment // by name
	environ   []string                             // NAME=value
	cgroups   string                               // where the hierarchy is, and the file that says which one is this process's
	cgroupOf  string
}

// newStdioCheck asks the login shell, where a daemon that is started from here would.
func newStdioCheck(ctx context.Context, cfg *config.Config, environ []string, loginLimit time.Duration) (stdioCheck, error) {
	commands := slices.DeleteFunc(slices.Clone(cfg.Upstreams), func(u config.Upstream) bool { return u.Stdio == nil })
	s := stdioCheck{commands, map[string]daemon.CommandEnvironment{}, environ, "/sys/fs/cgroup", "/proc/self/cgroup"}
	environments := daemon.NewEnvironments(daemon.EnvironmentOptions{Path: cfg.Processes.Path, Environ: environ, LoginLimit: loginLimit})
	defer environments.Close()
	for _, u := range commands {
		env, err := environments.Of(ctx, u.Stdio)
		if err != nil {
			return s, err
		}
		if env.Source == daemon.InheritedPath {
			env.Source = "PATH of this environment; a service manager may give the daemon another"
			if cfg.Processes.Path.Source == "" {
				env.Source = "PATH of this environment; under a service manager or a desktop it is your login shell's"
			}
		}
		s.servers[u.Name] = env
	}
	return s, nil
}

func (s stdioCheck) warnings() (all []config.Warning) {
	limited := []string{}
	for _, u := range s.upstreams {
		for _, text := range append(s.startWarnings(u), sharedWarnings(u)...) {
			all = append(all, config.Warning{Key: "upstreams." + u.Name, Text: text})
		}
		if u.Stdio.Processes.Memory > 0 || u.Stdio.Processes.Tasks > 0 {
			limited = append(limited, u.Name)
		}
	}
	all = append(all, s.environmentWarnings()...)
	if len(limited) > 0 && !s.delegated() && !s.scopes() {
		all = append(all, config.Warning{Key: "processes", Text: "a daemon started from here cannot hold " + strings.Join(limited, ", ") +
			" to memory and tasks: that needs a cgroup (v2) that a service manager delegates, as the user unit has, or a systemd-run --user that works"})
	}
	return all
}

// environmentWarnings says what of an environment servers do not get that they may need, and what is wrong with the login shell.
func (s stdioCheck) environmentWarnings() (all []config.Warning) {
	lacking, failures := map[string][]string{}, "" // servers by what they lack
	for _, name := range slices.Sorted(maps.Keys(s.servers)) {
		env, of := s.servers[name], "this environment"
		if env.Login {
			of = "the login shell's environment"
		}
		if names := strings.Join(env.LeftOut, ", "); names != "" {
			text := fmt.Sprintf("%s has %s", of, names)
			lacking[text] = append(lacking[text], name)
		}
		if err := errors.Join(env.Failures...); err != nil {
			failures = strings.ReplaceAll(err.Error(), "\n", "; ")
		}
	}
	if failures != "" {
		all = append(all, config.Warning{Key: "processes.path", Text: "an interactive login shell does not say its environment: " + failures})
	}
	for _, text := range slices.Sorted(maps.Keys(lacking)) {
		all = append(all, config.Warning{Key: "upstreams", Text: fmt.Sprintf("%s, which %s will not get: name in inherit_env what a server needs",
			text, strings.Join(lacking[text], ", "))})
	}
	return all
}

// startWarnings says what is in the way of one start, and what the daemon cannot reach behind it.
func (s stdioCheck) startWarnings(u config.Upstream) (all []string) {
	server := u.Stdio
	if info, err := os.Stat(server.Cwd); err != nil || !info.IsDir() {
		all = append(all, fmt.Sprintf("cwd %q is no directory", server.Cwd))
	}
	if why := s.notFound(u); why != "" {
		all = append(all, why)
	}
	if runsContainer(server.Command) {
		text := "starts a container, which the daemon cannot end by itself: it closes stdin and sends TERM to the client"
		if !slices.Contains(server.Command, "--rm") || !slices.Contains(server.Command, "--init") {
			text += "; write docker run -i --rm --init" // as process 1 of a container most programs ignore TERM
		}
		all = append(all, text)
	}
	return all
}

// runsContainer reports whether the processes of a server are somebody else's children.
func runsContainer(command []string) bool {
	return slices.Contains([]string{"docker", "podman", "nerdctl"}, filepath.Base(command[0])) && slices.Contains(command, "run")
}

// notFound says that the program is not there, with the directories searched and where they come from, or what it lacks, or "".
func (s stdioCheck) notFound(u config.Upstream) string {
	env := s.servers[u.Name]
	path, err := process.LookPath(u.Stdio.Command[0], u.Stdio.Cwd, env.All)
	if err == nil {
		if lack := process.Lack(path); lack != "" {
			return fmt.Sprintf("command %q: %s", u.Stdio.Command[0], lack)
		}
		return ""
	}
	missing := new(process.CommandError)
	if !errors.As(err, &missing) || len(missing.Searched) == 0 {
		return err.Error()
	}
	return fmt.Sprintf("%v (%s)", err, env.Source)
}

// pathLines say where the commands are looked for of servers that have no PATH of their own. Most often that is one place for all.
func (s stdioCheck) pathLines(w io.Writer) error {
	places := map[string][]string{} // names of servers
	for _, u := range s.upstreams {
		if _, own := u.Stdio.Env["PATH"]; !own {
			env := s.servers[u.Name]
			directories := strings.Join(filepath.SplitList(process.Lookup(env.All, "PATH")), ", ")
			place := fmt.Sprintf("looked for in %s (%s)\n", directories, env.Source)
			places[place] = append(places[place], u.Name)
		}
	}
	var err error
	for _, place := range slices.Sorted(maps.Keys(places)) {
		of := "commands are "
		if len(places) > 1 {
			of = "the commands of " + strings.Join(places[place], ", ") + " are "
		}
		_, werr := io.WriteString(w, "\n"+of+place)
		err = errors.Join(err, werr)
	}
	return err
}

// scopes reports whether systemd-run makes cgroups with limits for this user.
func (s stdioCheck) scopes() bool {
	_, err := process.FindScope(context.Background(), s.environ)
	return err == nil
}

// delegated reports whether this process may make cgroups with limits below its own.
func (s stdioCheck) delegated() bool {
	text, err := os.ReadFile(s.cgroupOf)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		own, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok || own == "/" {
			continue
		}
		dir := filepath.Join(s.cgroups, own)
		controllers, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
		has := strings.Fields(string(controllers))
		f, ferr := os.OpenFile(filepath.Join(dir, "cgroup.subtree_control"), os.O_WRONLY, 0) // nothing is written
		if ferr == nil {
			f.Close()
		}
		return err == nil && ferr == nil && slices.Contains(has, "memory") && slices.Contains(has, "pids")
	}
	return false
}
