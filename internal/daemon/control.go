package daemon

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"fluentd-perf/internal/api"
	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/config"
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
		Version: d.version, Started: d.started, Now: time.Now(), Addresses: d.addresses(), Draining: d.draining.Load(),
		InFlight: d.total.InFlight(),
	}
	most := 1
	if p.Calls {
		most = maxStatusCalls
	}
	for _, r := range d.pipelines {
		s := r.status()
		s.Calls, s.CallsNow = d.handler.Calls(s.Upstream, most)
		a.Upstreams = append(a.Upstreams, s)
	}
	for _, t := range d.store.Stats(ctx, false).Tiers {
		a.Tiers = append(a.Tiers, api.Tier{
			Tier: t.Tier, Entries: t.Entries, Bytes: t.Bytes, Queue: t.Queue, Owed: t.Owed, Breaker: t.Breaker, Error: t.Error,
		})
	}
	return a, nil
}

func (r *pipeline) status() api.Upstream {
	s := api.Upstream{Upstream: r.upstream.Name, Status: r.dispatch.Status()}
	for _, u := range r.upstream.URLs {
		s.Hosts = append(s.Hosts, u.Host) // all else of a URL may be a secret
	}
	if r.session != nil && r.upstream.Sessions.Heal != config.HealOff { // which knows of none
		sessions := r.session.Status()
		s.Sessions = &sessions
	}
	return s
}

// openAdmin opens the admin socket. Without one the daemon works, but no verb finds it. One that another daemon has is taken
// when it is free.
func (d *daemon) openAdmin(dir, group string) {
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
		Path: filepath.Join(dir, SocketName), Group: group, Handlers: d.handlers(), CallTimeout: callTimeout, Log: d.log,
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
	}
}

// purgeTimeout is how long a purge waits for the tiers to be told.
const purgeTimeout = 2 * time.Second

func (d *daemon) purge(ctx context.Context, p api.CachePurgeParams) (api.CachePurge, error) {
	ctx, cancel := context.WithTimeout(ctx, purgeTimeout)
	defer cancel()
	purged, pending, err := d.store.Purge(ctx, p.Upstream, p.Method)
	if err != nil {
		return api.CachePurge{}, err
	}
	answer := api.CachePurge{Pending: pending}
	for _, one := range purged {
		answer.Purged = append(answer.Purged, api.Purged{Upstream: one.Upstream, Methods: one.Methods})
	}
	return answer, nil
}
