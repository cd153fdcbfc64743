package daemon

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/config"
	"fluentd-perf/internal/upstream/stdio"
	"fluentd-perf/internal/upstream/stdio/npx"
	"fluentd-perf/internal/upstream/stdio/process"
)

// PackagesDirectory is where the packages of npx commands are in a cache directory; "" in none.
func PackagesDirectory(cache string) string {
	if cache == "" {
		return ""
	}
	return filepath.Join(cache, "packages")
}

// npmEnvironment is what npm gets of an environment, to install packages: what ServerEnvironment gives every npx, and nothing of an
// entry's own, nor what changes with each login.
func npmEnvironment(from, path []string) []string {
	return ServerEnvironment(from, &config.Stdio{Command: []string{"npm"}}, path).Lasting
}

// newNPXEntry makes what resolves the command, which starts with env; nil where it is to be run as it is written.
func (p *pipeline) newNPXEntry(env *CommandEnvironment) *npx.Entry {
	c := &p.entry
	if !c.Stdio.Resolve {
		return nil
	}
	return p.processes.packages.Entry(npx.EntryOptions{
		Name: c.Name, Command: c.Stdio.Command, Dir: c.Stdio.Cwd, Env: env.All, Refresh: c.Stdio.Processes.Refresh, NPMEnv: env.NPM,
	})
}

// prepare begins to install what the pipeline's command needs and has not, behind everything else: the first agent of a new entry is not to
// wait for npm. No process of the server is started.
func (p *pipeline) prepare() {
	if p.stdio != nil && p.stdio.npx != nil {
		p.stdio.npx.Prepare()
	}
}

// resolved returns what to start: of an npx command the program of the installed package, which is in use until the Use is released,
// else the command as it is written. The key is whose history of starts it has: another version begins anew.
func (s *stdioServer) resolved(ctx context.Context) (spec process.Spec, key string, use *npx.Use, err error) {
	spec, key = s.spec, s.identity
	if s.npx == nil {
		return spec, key, nil, nil
	}
	var written *npx.AsWritten
	switch use, err = s.npx.Resolve(ctx); {
	case errors.As(err, &written):
		return spec, key, nil, nil
	case err != nil:
		return spec, key, nil, err
	}
	spec.Command, spec.Env = use.Command, use.Env
	return spec, key + " " + use.Package, use, nil
}

// doing implements stdio.PoolOptions.Doing.
func (s *stdioServer) doing() string {
	if s.npx == nil {
		return ""
	}
	return s.npx.Doing()
}

// packageVersion is the exact version of the package that the next start runs, as name@version, and how many processes run from it; ""
// where the command runs as it is written, or nothing is installed yet.
func (s *stdioServer) packageVersion() (version string, uses int) {
	if s.npx == nil {
		return "", 0
	}
	return s.npx.Version()
}

// origin is what is known of the start of a process.
type origin struct {
	resolved bool        // it runs an installed package, without npx
	onDisk   string      // stdioServer.onDisk, right before the start
	answered atomic.Bool // it has answered its first message
}

// started implements stdio.PoolOptions.Started.
func (s *stdioServer) started(p stdio.Process, took time.Duration, ahead bool) {
	r := p.(running)
	r.answered.Store(true)
	kind := coldStart
	if r.resolved {
		kind = resolvedStart
	}
	s.times.started(kind, took, ahead)
}

// follow ends the use of a package with the process that runs from it. Where that has ended before it answered, the package may be
// damaged.
func (r running) follow(use *npx.Use) {
	<-r.Done()
	if !r.answered.Load() {
		use.Failed(r.Stderr())
	}
	<-r.Gone()
	use.Release()
}

// packageStatus says what is installed; nil where nothing is.
func (p *processes) packageStatus() *api.Packages {
	if p == nil {
		return nil
	}
	t := p.packages.Totals()
	if t == (npx.Totals{}) {
		return nil
	}
	return &api.Packages{Installs: t.Installs, InUse: t.InUse, Bytes: t.Bytes}
}

// purgePackages removes what is installed and not in use.
func (d *daemon) purgePackages(ctx context.Context) api.CachePurge {
	answer := api.CachePurge{Purged: []api.Purged{}, Pending: []string{}, Packages: &api.PurgedPackages{}}
	if d.processes == nil {
		return answer
	}
	removed, left := d.processes.packages.Purge(ctx)
	answer.Packages = &api.PurgedPackages{Removed: removed.Installs, Bytes: removed.Bytes, Left: left.Installs}
	return answer
}
