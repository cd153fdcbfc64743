package process

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"fluentd-perf/internal/upstream/stdio/guard"
)

const (
	scopeTimeout = 5 * time.Second // of one try whether systemd makes scopes
	scopeAgain   = time.Minute     // after one that failed, before the next
	busVariable  = "XDG_RUNTIME_DIR"
)

// Scope is how the user's systemd makes a cgroup for a start, a transient scope, where the daemon has no cgroup to divide.
type Scope struct {
	program string   // systemd-run, which replaces itself by the command: pid, pipes and environment stay
	options []string // of all scopes
}

// FindScope tries in an environment whether systemd makes scopes. It takes 5 s at most. The error says why it does not.
func FindScope(ctx context.Context, environ []string) (*Scope, error) {
	return findScope(ctx, environ, scopeTimeout)
}

func findScope(ctx context.Context, environ []string, limit time.Duration) (*Scope, error) {
	program, err := LookPath(guard.ScopeProgram, "/", environ)
	if err != nil {
		return nil, err
	}
	nothing, err := LookPath("true", "/", environ)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s := &Scope{program: program, options: append([]string{"--user", "--scope", "--quiet", "--collect"}, boundTo(ownUnit())...)}
	// The option is in systemd since 254. Before that arguments were passed on as they are; by now `$VAR` and `${VAR}` in them are
	// replaced by default.
	const verbatim = "--expand-environment=no"
	plain := s.options
	s.options = append(slices.Clone(plain), verbatim)
	out, err := s.try(ctx, environ, nothing)
	if err != nil && bytes.Contains(out, []byte("expand-environment")) {
		s.options = plain
		out, err = s.try(ctx, environ, nothing)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %s", program, err, bytes.TrimSpace(out[:min(len(out), 200)]))
	}
	return s, nil
}

// try runs a command that does nothing.
func (s *Scope) try(ctx context.Context, environ []string, nothing string) ([]byte, error) {
	argv := s.command("a try", 64<<20, 16, nothing)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	// What asks the user's systemd is the socket in XDG_RUNTIME_DIR. A bus by another way would not be there for the servers.
	cmd.Env, cmd.WaitDelay = without(environ, "DBUS_SESSION_BUS_ADDRESS"), time.Second
	return cmd.CombinedOutput()
}

// command is the command that runs another one in a scope with limits, 0 for none. The name is all of it that the journal gets to see.
func (s *Scope) command(name string, memory int64, tasks int, command ...string) []string {
	all := append([]string{s.program}, s.options...)
	all = append(all, "--description=fluentd-perf: "+name)
	if memory > 0 {
		all = append(all, "-p", "MemoryMax="+strconv.FormatInt(memory, 10))
	}
	if tasks > 0 {
		all = append(all, "-p", "TasksMax="+strconv.Itoa(tasks))
	}
	return slices.Concat(all, []string{"--"}, command)
}

// start is the start of a resolved command in a scope. systemd-run itself asks the daemon's bus; what it runs gets its own variable back.
func (s *Scope) start(r resolved, bus string) resolved {
	through := *s
	if own := Lookup(r.Env, busVariable); own != bus {
		through.options = append(slices.Clone(s.options), "--setenv="+busVariable+"="+own)
		r.Env = append(without(r.Env, busVariable), busVariable+"="+bus)
	}
	r.Command = through.command(r.Name, r.Memory, r.Tasks, append([]string{r.path}, r.Command[1:]...)...)
	r.path, r.scoped = s.program, true
	return r
}

// without returns an environment without a variable.
func without(env []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(variable string) bool { return strings.HasPrefix(variable, name+"=") })
}

// boundTo are the options of a scope that ends with a unit, and not before it: what is left of a server when systemd has killed daemon
// and guard together. systemd unquotes the names.
func boundTo(unit string) []string {
	if unit == "" {
		return nil
	}
	unit = strings.ReplaceAll(unit, `\`, `\\`)
	return []string{"-p", "BindsTo=" + unit, "-p", "Before=" + unit, "-p", "TimeoutStopSec=2"}
}

// ownUnit returns the unit of the user's systemd to which the daemon belongs, a service or a scope; "" where it belongs to none.
func ownUnit() string {
	membership, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	return unitOf(string(membership), os.Getuid())
}

// unitOf finds it in the cgroup (v2) of the process. What is below a unit is the unit's own business.
func unitOf(membership string, uid int) string {
	for line := range strings.Lines(membership) {
		path, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::")
		if !ok {
			continue
		}
		_, below, _ := strings.Cut(path, "/user@"+strconv.Itoa(uid)+".service/")
		for name := range strings.SplitSeq(below, "/") {
			if strings.HasSuffix(name, ".service") || strings.HasSuffix(name, ".scope") {
				return strings.TrimPrefix(name, "_") // so systemd marks names that the kernel has for itself
			}
		}
	}
	return ""
}

// isScript reports whether a program is one for a shell that the system does not know as such: a text without a `#!` line. The kernel
// refuses it, and systemd-run would give it to /bin/sh.
func isScript(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var begin [256]byte
	n, err := io.ReadFull(f, begin[:])
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return false
	}
	return !bytes.HasPrefix(begin[:n], []byte("#!")) && bytes.IndexByte(begin[:n], 0) < 0
}

// scopeTry is one try whether systemd makes scopes, for all who wait for it.
type scopeTry struct {
	over  chan struct{} // closed when the following are there
	scope *Scope        // nil: it makes none
	again time.Time     // where it makes none: when the next try may be
}

// isStale reports whether there is to be another try.
func (t *scopeTry) isStale() bool {
	select {
	case <-t.over:
		return t.scope == nil && !time.Now().Before(t.again)
	default:
		return false
	}
}

// awaitScope waits until it is known whether a start with limits needs a scope, and can have one: not long, and until ctx ends at most.
// The scope is nil where it needs or can have none.
func (g *Guard) awaitScope(ctx context.Context, s Spec) (*Scope, error) {
	if g.cgroup != "" || !g.scopes || s.Memory <= 0 && s.Tasks <= 0 {
		return nil, nil
	}
	t := g.currentTry()
	if t == nil {
		return nil, ErrClosed
	}
	select {
	case <-t.over:
		return t.scope, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// currentTry returns the last try, or begins another where that is due; nil where the Guard is closed.
func (g *Guard) currentTry() *scopeTry {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.try != nil && !g.try.isStale() {
		return g.try
	}
	if g.closed {
		return nil
	}
	t := &scopeTry{over: make(chan struct{})}
	g.try = t
	g.all.Go(func() { g.tryScope(t) })
	return t
}

// tryScope tries it in the daemon's own environment. The log gets the first of several failures in a row.
func (g *Guard) tryScope(t *scopeTry) {
	scope, err := findScope(g.base, os.Environ(), g.scopeTimeout)
	g.mu.Lock()
	t.scope, t.again = scope, time.Now().Add(scopeAgain)
	first := err != nil && !g.noScope
	g.noScope = err != nil
	g.mu.Unlock()
	close(t.over)
	if first {
		g.log.Warn("processes.memory and processes.tasks have no effect: the daemon has no cgroup of its own, and systemd-run makes none", "error", err)
	}
}

// noteNotRun notes that systemd-run failed, which had worked before: the next start tries it again.
func (g *Guard) noteNotRun() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.try == nil {
		return
	}
	select {
	case <-g.try.over:
		g.try = nil
	default: // it is being tried
	}
}

// limited returns a start in a scope where it has limits and nothing else holds it to them. It waits as awaitScope does.
func (g *Guard) limited(ctx context.Context, r resolved) (resolved, error) {
	scope, err := g.awaitScope(ctx, r.Spec)
	if scope == nil || err != nil {
		return r, err
	}
	if isScript(r.path) {
		return r, &CommandError{Command: r.Command[0], Err: syscall.ENOEXEC}
	}
	return scope.start(r, os.Getenv(busVariable)), nil
}
