package login

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"fluentd-perf/internal/upstream/stdio/process"
)

// usualLimit is how long one run of the shell may take.
const usualLimit = 5 * time.Second

// Options are a Resolver's. A zero field stands for its default.
type Options struct {
	Environ []string      // the daemon's own environment, NAME=value; nil: os.Environ
	Limit   time.Duration // for one run of the shell, of which there are two at most; 5 s
	Log     *slog.Logger  // nil: silent
}

// Environment is what a Resolver has found.
type Environment struct {
	Words []string // NAME=value, a name once
	Shell string   // the shell that made it; "": none has, and it is the daemon's own with the usual directories behind its PATH
	// Failures say why it is not an interactive login shell's: of one run, where it is that of a login shell; of all.
	Failures []error
}

// Source says where PATH comes from, for people.
func (e Environment) Source() string {
	switch {
	case e.Shell == "":
		return "the daemon's PATH and the usual directories, since no login shell has said its own: " + e.reasons()
	case len(e.Failures) > 0:
		return "PATH of the login shell " + e.Shell + ", not interactive: " + e.reasons()
	}
	return "PATH of the login shell " + e.Shell
}

func (e Environment) reasons() string {
	texts := make([]string, len(e.Failures))
	for i, err := range e.Failures {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Resolver finds the environment once, when it is first asked for, and keeps it. All methods may be called at the same time.
type Resolver struct {
	opts Options
	ctx  context.Context // of the runs; ends with Close
	stop context.CancelFunc
	runs sync.WaitGroup

	mu      sync.Mutex // guards the following
	closed  bool
	current *resolution
}

// resolution is one time of finding it.
type resolution struct {
	done chan struct{} // closed when the following is there
	env  Environment
}

// New returns a Resolver. It runs nothing yet, and is to be closed.
func New(o Options) *Resolver {
	if o.Environ == nil {
		o.Environ = os.Environ()
	}
	o.Limit = cmp.Or(o.Limit, usualLimit)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	r := &Resolver{opts: o}
	r.ctx, r.stop = context.WithCancel(context.Background())
	return r
}

// Environment returns the environment, and waits for it where it is not known yet, as long as ctx lasts: at most twice the limit and
// a second. The error is ctx's alone, since something is always found. The caller does not change the words.
func (r *Resolver) Environment(ctx context.Context) (Environment, error) {
	r.mu.Lock()
	if r.current == nil {
		r.beginLocked()
	}
	one := r.current
	r.mu.Unlock()
	select {
	case <-one.done:
		return one.env, nil
	case <-ctx.Done():
		return Environment{}, ctx.Err()
	}
}

// Refresh has the environment found anew, for who asks from now on: start files may have changed.
func (r *Resolver) Refresh() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.beginLocked()
}

// Close ends what runs, and returns when nothing of it is left. Who waits gets the daemon's own environment.
func (r *Resolver) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.stop()
	r.runs.Wait()
}

func (r *Resolver) beginLocked() {
	one := &resolution{done: make(chan struct{})}
	r.current = one
	if r.closed {
		one.env = r.own([]error{errors.New("the daemon is stopping")})
		close(one.done)
		return
	}
	r.runs.Go(func() {
		begun := time.Now()
		env, end := r.resolve()
		one.env = env
		close(one.done) // nobody waits for the end of what the start files have left
		r.say(env, time.Since(begun))
		end()
	})
}

// say logs what was found, once.
func (r *Resolver) say(env Environment, took time.Duration) {
	took = took.Round(time.Millisecond)
	switch {
	case r.ctx.Err() != nil:
	case len(env.Failures) > 0:
		r.opts.Log.Warn("commands do not get the environment of an interactive login shell", "path", env.Source(), "took", took.String())
	default:
		r.opts.Log.Info("commands get the environment of the login shell", "shell", env.Shell, "took", took.String())
	}
}

// resolve finds the environment. end is to be called when it was handed on.
func (r *Resolver) resolve() (env Environment, end func()) {
	if process.Lookup(r.opts.Environ, resolvingName) != "" { // or this would go on and on
		return r.own([]error{errors.New("a start file of the login shell has started this daemon (" + resolvingName + ")")}), func() {}
	}
	user := thisAccount()
	environ := withDefaults(r.opts.Environ, user)
	shell, err := shellOf(environ, user)
	if err != nil {
		return r.own([]error{err}), func() {}
	}
	var failures []error
	for _, interactive := range []bool{true, false} {
		words, end, err := r.ask(shell, interactive, environ)
		if err == nil {
			return Environment{r.completed(words), shell, failures}, end
		}
		end()
		failures = append(failures, err)
	}
	return r.own(failures), func() {}
}

// ask runs the shell once. end is never nil.
func (r *Resolver) ask(shell string, interactive bool, environ []string) (words []string, end func(), err error) {
	ctx, cancel := context.WithTimeout(r.ctx, r.opts.Limit)
	defer cancel()
	run, err := start(ctx, shell, interactive, environ)
	if err != nil && ctx.Err() == context.DeadlineExceeded { // a busy machine did not even start it
		err = fmt.Errorf("%w (%v)", silent(invoke(shell, interactive, ""), r.opts.Limit), err)
	}
	if err != nil {
		return nil, func() {}, err
	}
	words, err = run.environment(ctx, r.opts.Limit)
	return words, run.end, err
}

// completed takes out of a shell's environment what is of the one run alone.
func (r *Resolver) completed(words []string) []string {
	words = withVariable(words, "TERM", process.Lookup(r.opts.Environ, "TERM"))
	words = withVariable(words, "PATH", lastingPath(process.Lookup(words, "PATH")))
	return slices.Sorted(slices.Values(words))
}

// own is the environment where no shell has made one.
func (r *Resolver) own(failures []error) Environment {
	return Environment{Words: withDirectories(withDefaults(r.opts.Environ, thisAccount())), Failures: failures}
}
