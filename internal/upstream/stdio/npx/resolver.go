package npx

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"fluentd-perf/internal/upstream/stdio/process"
)

const (
	installSlots   = 2 // of npm at the same time
	installTimeout = 30 * time.Minute
	repairPause    = 24 * time.Hour // between two repairs of one package
	repairWait     = time.Minute    // from the start of a repair: after that starts run what is there, which may work
)

// Options are a Resolver's. Start is required.
type Options struct {
	Dir   string                                                              // of the installs, absolute; made where it is missing; "": nothing is resolved
	Start func(ctx context.Context, s process.Spec) (*process.Process, error) // of npm and node
	Log   *slog.Logger                                                        // nil: silent
}

// Resolver installs the packages of all npx commands of a daemon. All methods may be called at the same time.
type Resolver struct {
	opts    Options
	store   store
	slots   *semaphore.Weighted // first come, first served
	ahead   *semaphore.Weighted // of what is installed for nobody yet: one at a time, so that starts find a slot
	local   manifests
	base    context.Context // of what runs for nobody in particular
	cancel  context.CancelFunc
	running sync.WaitGroup // jobs; none is added once closed

	mu       sync.Mutex // guards the following
	closed   bool
	jobs     map[string]*job // under way, by what they are about
	failures map[attempt]*failure
	settings map[string]*settings
	damaged  map[string]bool // by key and id of the install
	cleaned  time.Time
}

// New returns a Resolver. It is to be stopped.
func New(o Options) *Resolver {
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	r := &Resolver{
		opts: o, store: store{dir: o.Dir, uses: map[string]*use{}}, slots: semaphore.NewWeighted(installSlots),
		ahead: semaphore.NewWeighted(1),
		jobs:  map[string]*job{}, failures: map[attempt]*failure{}, settings: map[string]*settings{}, damaged: map[string]bool{},
	}
	r.base, r.cancel = context.WithCancel(context.Background())
	return r
}

// Stop ends what is under way, and begins nothing else. It returns at once.
func (r *Resolver) Stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	r.cancel()
}

// Wait returns when nothing is under way any more, after Stop.
func (r *Resolver) Wait() { r.running.Wait() }

// Clean removes what nobody has used for 30 days, behind the caller, at most once a day.
func (r *Resolver) Clean() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.opts.Dir == "" || time.Since(r.cleaned) < cleanPause {
		return
	}
	r.cleaned = time.Now()
	r.running.Go(r.store.clean)
}

// EntryOptions are what an Entry is about. A zero Refresh stands for its default.
type EntryOptions struct {
	Name    string        // the upstream's, for the log
	Command []string      // as it is written
	Dir     string        // in which it runs, absolute
	Env     []string      // of the server, NAME=value
	NPMEnv  []string      // of npm: the same without what the entry has by itself
	Refresh time.Duration // how old a version may be that is not an exact one, before it is looked up again; 24 h
}

// Entry is a command that may be npx.
type Entry struct {
	r    *Resolver
	opts EntryOptions

	mu      sync.Mutex // guards the following
	waiting *job       // for which the last Resolve waited
	logged  string     // the last reason that the log has
}

// Entry returns the handle of a command.
func (r *Resolver) Entry(o EntryOptions) *Entry {
	o.Refresh = cmp.Or(o.Refresh, 24*time.Hour)
	return &Entry{r: r, opts: o}
}

// plan is what an entry comes to as long as nothing changes.
type plan struct {
	request
	tools
	settings *settings
	key      string // of the package's folder
}

// errUnknown says that npm has to be asked first.
var errUnknown = errors.New("npm was not asked yet")

// plan decides whether a command is resolved, and by what. It looks at the disk each time: a project may get an .npmrc at any time. ask
// is called where npm's settings are not known. The error is an *AsWritten, or ask's.
func (e *Entry) plan(ask func(name string, t tools) error) (p plan, err error) {
	o := &e.opts
	if p.request, err = parse(o.Command); err != nil {
		return p, err
	}
	if e.r.opts.Dir == "" {
		return p, asWritten("the daemon has no cache directory")
	}
	if p.tools, err = findTools(o.Command[0], o.Dir, o.Env); err != nil {
		return p, err
	}
	if name := changedForNPM(o.Env, o.NPMEnv, nil); name != "" {
		return p, asWritten("the entry has its own %s, which npm reads", name)
	}
	user := userConfig(o.NPMEnv)
	if reason := e.r.local.inProject(o.Dir, p.wanted(), user); reason != "" {
		return p, asWritten("%s", reason)
	}
	name := settingsName(p.tools, o.NPMEnv)
	if p.settings = e.r.known(name); p.settings == nil {
		if err := ask(name, p.tools); err != nil {
			return p, err
		}
		if p.settings = e.r.known(name); p.settings == nil {
			return p, errors.New("npm's settings change all the time")
		}
	}
	p.key = keyOf(p.name, p.spec, p.settings.Platform, p.settings.Digest)
	return p, e.setReason(p, user)
}

// setReason says which of npm's settings is in the way. The error is an *AsWritten, or nil.
func (e *Entry) setReason(p plan, user string) error {
	s := p.settings
	if s.Reason != "" {
		return asWritten("%s", s.Reason)
	}
	if s.AsksNo && !p.yes {
		return asWritten("npm's setting yes is false, so npx installs nothing without -y")
	}
	if !sameFile(s.User, user) {
		return asWritten("npm's userconfig is %s", s.User)
	}
	if name := changedForNPM(e.opts.Env, e.opts.NPMEnv, s.Named); name != "" {
		return asWritten("npm's configuration refers to %s, which the entry has by itself", name)
	}
	return p.globalReason(p.wanted())
}

// globalReason says which global package is in the way. The error is an *AsWritten, or nil.
func (p plan) globalReason(w wanted) error {
	prefix := p.settings.Prefix
	if reason := inModules(filepath.Join(prefix, "lib", "node_modules"), filepath.Join(prefix, "bin"), w); reason != "" {
		return asWritten("%s", reason)
	}
	return nil
}

// wanted is what npx may find elsewhere than in a registry, before it is known what the package has.
func (r request) wanted() wanted {
	w := wanted{name: r.name, programs: []string{unscoped(r.name)}}
	if r.program != "" {
		w.programs = append(w.programs, r.program)
	}
	if word := r.String(); word != r.name || word != unscoped(word) { // npx looks for a program of the very word
		w.programs = append(w.programs, word)
	}
	return w
}

// userConfig is where npm looks for a person's .npmrc.
func userConfig(env []string) (path string) {
	for _, variable := range env {
		name, value, _ := strings.Cut(variable, "=")
		switch {
		case strings.EqualFold(name, "npm_config_userconfig"):
			return value
		case name == "HOME":
			path = filepath.Join(value, ".npmrc")
		}
	}
	return path
}

// Use is a package that a process is started from.
type Use struct {
	Command []string
	Env     []string // of the server: the install's programs lead PATH
	Package string   // name@version, exact

	r   *Resolver
	id  string // of the install, with its key
	end func()
}

// Release ends the use: nothing runs from it any more.
func (u *Use) Release() { u.end() }

// damageSigns stand in the stderr of a start from a damaged install.
var damageSigns = []string{"MODULE_NOT_FOUND", "EINTEGRITY"} // ERR_ before the first, in modules of ECMAScript

// Failed says that a start failed, with what stood in its stderr. An install that looks damaged is made again before the next start, once
// a day.
func (u *Use) Failed(stderr []string) {
	text := strings.Join(stderr, "\n")
	if !slices.ContainsFunc(damageSigns, func(sign string) bool { return strings.Contains(text, sign) }) {
		return
	}
	u.r.mu.Lock()
	defer u.r.mu.Unlock()
	u.r.damaged[u.id] = true
}

// Resolve returns what to run in place of the command, and installs it where it is not there. Where ctx ends first that goes on. The
// error is an *AsWritten where the command is to be run as it is.
func (e *Entry) Resolve(ctx context.Context) (*Use, error) {
	e.r.Clean()
	p, err := e.planned(ctx)
	if err != nil {
		return nil, e.explained(err)
	}
	rec, end, err := e.begin(ctx, p)
	if err != nil {
		return nil, err
	}
	u, err := e.use(p, rec.Installs[0], end)
	if err != nil {
		end()
		return nil, e.explained(err)
	}
	if p.due(rec, e.opts.Refresh) {
		e.update(p, behind)
	}
	return u, nil
}

// planned decides what an entry comes to, and asks npm for its settings where they are not known.
func (e *Entry) planned(ctx context.Context) (plan, error) {
	p, err := e.plan(func(name string, t tools) error {
		return e.wait(ctx, e.r.do(attempt{name, wait}, "asking npm for its settings", func(ctx context.Context) error {
			return e.r.learn(ctx, name, t, &e.opts)
		}))
	})
	if err != nil {
		return p, err
	}
	if broken := makeFolder(e.r.opts.Dir); broken != nil {
		return p, asWritten("the daemon has no cache directory: %v", broken)
	}
	return p, nil
}

// Prepare begins to install the package of an npx command where there is none yet, so that the first start does not wait for it, and
// returns at once. Packages are prepared one at a time. What is installed is neither looked up nor made again, and what fails is in the
// log alone.
func (e *Entry) Prepare() {
	if !isNPX(e.opts.Command) {
		return
	}
	e.r.mu.Lock()
	defer e.r.mu.Unlock()
	if !e.r.closed {
		e.r.running.Go(e.prepare)
	}
}

func (e *Entry) prepare() {
	ctx := e.r.base
	if e.r.ahead.Acquire(ctx, 1) != nil {
		return
	}
	defer e.r.ahead.Release(1)
	p, err := e.planned(ctx)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		if written := new(AsWritten); !errors.As(e.explained(err), &written) {
			e.r.opts.Log.Warn(failedForNobody[ahead], "upstream", e.opts.Name, "error", err)
		}
	default:
		if _, end, ok := e.r.store.begin(p.key); ok { // an entry that has it counts as a use: it is not to be cleaned away now
			end()
			return
		}
		<-e.update(p, ahead).done // which ends with ctx
	}
}

// begin begins a use of the latest install of a package, and installs it where there is none, or one that is damaged.
func (e *Entry) begin(ctx context.Context, p plan) (rec record, end func(), err error) {
	rec, end, ok := e.r.store.begin(p.key)
	if ok && e.r.toRepair(p.key, rec) {
		end()
		e.waitForRepair(ctx, e.update(p, repaired))
		rec, end, ok = e.r.store.begin(p.key)
	}
	for try := 0; !ok; try++ {
		if try == 3 {
			return rec, nil, fmt.Errorf("%s is removed as often as it is installed", p.request)
		}
		if err := e.wait(ctx, e.update(p, wait)); err != nil {
			return rec, nil, err
		}
		rec, end, ok = e.r.store.begin(p.key)
	}
	return rec, end, nil
}

// use makes a Use of an install. The error is an *AsWritten, or of a package that has no program for npx.
func (e *Entry) use(p plan, i install, end func()) (*Use, error) {
	program, err := p.program, error(nil)
	if program == "" {
		if program, err = choose(i.Bin, p.name); err != nil {
			return nil, err
		}
	}
	w := wanted{p.name, []string{program}}
	if reason := e.r.local.inProject(e.opts.Dir, w, p.settings.User); reason != "" {
		return nil, asWritten("%s", reason)
	}
	if err := p.globalReason(w); err != nil {
		return nil, err
	}
	folder := e.r.store.folder(p.key, i.ID)
	command, err := commandOf(folder, program, p.node)
	if err != nil {
		return nil, err
	}
	return &Use{
		Command: append(command, p.args...), Env: withPath(e.opts.Env, programsOf(folder)), Package: i.Name + "@" + i.Version,
		r: e.r, id: p.key + "/" + i.ID, end: end,
	}, nil
}

// explained logs why a command is run as it is written, once for each reason, and returns the error.
func (e *Entry) explained(err error) error {
	var written *AsWritten
	if !errors.As(err, &written) || written.Reason == "" {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.logged != written.Reason {
		e.logged = written.Reason
		e.r.opts.Log.Info("npx runs as it is written, and asks its registry at each start", "upstream", e.opts.Name, "reason", written.Reason)
	}
	return err
}

// wait waits for a job as long as the caller may.
func (e *Entry) wait(ctx context.Context, j *job) error {
	e.mu.Lock()
	e.waiting = j
	e.mu.Unlock()
	select {
	case <-j.done:
		return j.err
	case <-ctx.Done():
		return fmt.Errorf("%s goes on after %v: %w", j.what, time.Since(j.begun).Round(time.Second), ctx.Err())
	}
}

// waitForRepair waits for the repair of an install, unless it takes long: a registry that never answers is to hold up nobody for half an
// hour. Where it takes long or fails, what is there runs.
func (e *Entry) waitForRepair(ctx context.Context, j *job) {
	until, cancel := context.WithDeadline(ctx, j.begun.Add(repairWait))
	defer cancel()
	_ = e.wait(until, j)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.waiting == j && ctx.Err() == nil {
		e.waiting = nil // the start goes on without it
	}
}

// Doing says what a Resolve that has not returned waits for, "" where there is none.
func (e *Entry) Doing() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.waiting == nil || e.waiting.ended() {
		return ""
	}
	return fmt.Sprintf("%s, for %v so far", e.waiting.what, time.Since(e.waiting.begun).Round(100*time.Millisecond))
}

// Version returns the exact version that the next start would run, as name@version, and how many processes of this daemon run from that
// install. It is "" where the command would run as it is written, or nothing is installed yet. No program is run for it.
func (e *Entry) Version() (version string, uses int) {
	p, err := e.plan(func(string, tools) error { return errUnknown })
	if err != nil {
		return "", 0
	}
	installs := e.r.store.read(p.key).Installs
	if len(installs) == 0 {
		return "", 0
	}
	u, err := e.use(p, installs[0], func() {})
	if err != nil {
		return "", 0
	}
	return u.Package, e.r.store.count(p.key, installs[0].ID)
}

// Explain returns what an entry would be resolved to: the package as it is asked for, and the exact version where it is installed
// already. Nothing is written. The error is an *AsWritten, or says why npm cannot be asked.
func (e *Entry) Explain(ctx context.Context) (wanted, version string, err error) {
	p, err := e.plan(func(name string, t tools) error {
		s, err := e.r.ask(ctx, t, &e.opts)
		if err == nil {
			e.r.remember(name, s)
		}
		return err
	})
	if err != nil {
		return "", "", err
	}
	if installs := e.r.store.read(p.key).Installs; len(installs) > 0 {
		u, err := e.use(p, installs[0], func() {})
		if err != nil {
			return "", "", err
		}
		version = u.Package
	}
	return p.request.String(), version, nil
}

// toRepair reports whether the install in use is to be made again.
func (r *Resolver) toRepair(key string, rec record) bool {
	if len(rec.Installs) == 0 || time.Since(rec.Repaired) < repairPause {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.damaged[key+"/"+rec.Installs[0].ID]
}

// due reports whether the version is to be looked up again.
func (p plan) due(rec record, refresh time.Duration) bool {
	return !p.pinned() && time.Since(rec.Checked) >= refresh
}

// forget drops what is known of installs that are not there any more.
func (r *Resolver) forget(key string, rec record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	maps.DeleteFunc(r.damaged, func(id string, _ bool) bool {
		of, id, _ := strings.Cut(id, "/")
		return of == key && !rec.has(id)
	})
}
