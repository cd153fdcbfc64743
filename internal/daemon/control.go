package daemon

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/cache"
)

// SocketName is the admin socket in the runtime directory.
const SocketName = "admin.sock"

// callTimeout is how long the daemon gives itself to answer a verb, which waits for longer: where it can say that it took too
// long, it does.
const callTimeout = 8 * time.Second

// maxStatusCalls bounds the calls that are told of one upstream.
const maxStatusCalls = 1000

// status says what the daemon does now.
func (d *daemon) status(ctx context.Context, p api.StatusParams) (api.Status, error) {
	a := api.Status{
		Version: d.version, PID: os.Getpid(), Started: d.started, Now: time.Now(), Addresses: d.addresses(), Draining: d.draining.Load(),
		InFlight: d.total.InFlight(),
	}
	limit := 1
	if p.Calls {
		limit = maxStatusCalls
	}
	use := d.usage(p.Processes)
	for _, p := range d.routed() {
		s := p.status(use, a.Now)
		if p.stdio != nil { // what a sample has no need of: it looks into many files
			s.Package, _ = p.stdio.packageVersion()
		}
		s.Calls, s.CallsNow = d.handler.Calls(s.Upstream, limit)
		a.Upstreams = append(a.Upstreams, s)
	}
	a.Tiers = d.store.Stats(ctx, false).Tiers
	a.Packages = d.processes.packageStatus()
	if p.Memory {
		a.Memory = d.memory(ctx, &a)
	}
	return a, nil
}

// openAdmin opens the admin socket. Without one the daemon works, but no verb finds it. One that another daemon has is taken
// when it is free.
func (d *daemon) openAdmin(dir, group string) {
	d.adminGroup = group != ""
	if dir == "" || d.tryAdmin(dir, group) {
		return
	}
	d.log.Warn("another daemon has the admin socket: verbs reach that one until it ends; for two at a time name another --runtime-dir for this one",
		"directory", dir)
	d.takeOver.add(func() bool {
		done := !api.Locked(filepath.Join(dir, SocketName)) && d.tryAdmin(dir, group)
		if done {
			d.serveAdmin()
		}
		return done
	})
}

// tryAdmin opens the admin socket, or says why there is none; false where another daemon has it.
func (d *daemon) tryAdmin(dir, group string) bool {
	own, err := api.Open(api.Options{
		Path: filepath.Join(dir, SocketName), Group: group, Handlers: d.handlers(), CallTimeout: callTimeout, Long: longCalls, Log: d.log,
	})
	switch {
	case errors.Is(err, api.ErrInUse):
		return false
	case err != nil:
		d.log.Warn("there is no admin socket: verbs such as cache-stats do not reach this daemon", "error", err)
	default:
		d.admin = own
		d.log.Info("the admin socket is open", "socket", own.Path())
	}
	return true
}

// handlers are what the daemon answers to the verbs, each from several goroutines.
func (d *daemon) handlers() map[string]api.Handler {
	return map[string]api.Handler{
		api.CallCacheStats: api.Handle(func(ctx context.Context, p api.CacheStatsParams) (cache.Stats, error) {
			return d.store.Stats(ctx, p.Detailed), nil
		}),
		api.CallStatus:     api.Handle(d.status),
		api.CallCachePurge: api.Handle(d.purge),
		api.CallProfile:    api.Handle(d.profile),
		api.CallSample:     api.Handle(d.sample),
		api.CallRequest:    api.Handle(d.request),
	}
}

// purgeTimeout is how long a purge waits for the tiers to be told.
const purgeTimeout = 2 * time.Second

func (d *daemon) purge(ctx context.Context, p api.CachePurgeParams) (api.CachePurge, error) {
	ctx, cancel := context.WithTimeout(ctx, purgeTimeout)
	defer cancel()
	if p.Packages {
		return d.purgePackages(ctx), nil
	}
	purged, pending, err := d.store.Purge(ctx, p.Upstream, p.Method)
	if err != nil {
		return api.CachePurge{}, err
	}
	// Programs go through the lists: empty ones are there, too.
	answer := api.CachePurge{Purged: []api.Purged{}, Pending: append([]string{}, pending...)}
	for _, name := range slices.Sorted(maps.Keys(purged)) {
		answer.Purged = append(answer.Purged, api.Purged{Upstream: name, Methods: purged[name]})
	}
	return answer, nil
}
