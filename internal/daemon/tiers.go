package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/breaker"
	"fluentd-perf/internal/cache"
	"fluentd-perf/internal/cache/memory"
	"fluentd-perf/internal/cache/postgres"
	"fluentd-perf/internal/cache/redis"
	"fluentd-perf/internal/cache/sqlite"
	"fluentd-perf/internal/cache/tier"
	"fluentd-perf/internal/cache/worker"
	"fluentd-perf/internal/config"
	"fluentd-perf/internal/mcp"
)

// tierTimeout bounds what goes on behind the calls of agents; their reads have the configured timeout.
const tierTimeout = 2 * time.Second

// sealed is how much larger an entry is in a slow tier than the answer in it, at most.
const sealed = 1 << 10

// openCache makes the tiers, one behind the other. A tier that cannot be reached is a warning.
func (d *daemon) openCache(cfg *config.Config, stateDir string, breakers *breaker.Metrics, reg prometheus.Registerer, buffers *mcp.BufferPool) error {
	state, err := openState(stateDir, cfg.Cache.PartitionKey.Value, d.log)
	if err != nil {
		return err
	}
	d.state = state
	d.sayState()
	if d.joined.Store(!d.state.Waits()); d.state.Waits() {
		d.takeOver.add(d.joinState)
	}
	store, err := cache.NewStore(cache.StoreOptions{
		Memory: memory.Options{Size: cfg.Cache.Memory.Size, MaxEntry: cfg.Cache.Memory.MaxEntry},
		State:  d.state, Inert: cfg.Cache.InertHeaders, Base: d.base, Buffers: buffers, Metrics: cache.NewMetrics(reg), Log: d.log,
	})
	if err != nil {
		return err
	}
	d.store = store
	start, cancel := context.WithTimeout(d.base, linkTimeout)
	defer cancel()
	t := tiers{
		daemon: d, breakers: breakers, pools: tier.NewPools(reg), prefix: d.state.KeyID(),
		maxValue: int(cfg.Cache.Memory.MaxEntry) + sealed, start: start,
	}
	if err := t.addRedis(cfg.Cache.Redis); err != nil {
		return err
	}
	switch db := cfg.Cache.Database; db.Kind {
	case config.DatabasePostgres:
		return t.addPostgres(db)
	case config.DatabaseSQLite:
		t.addSQLite(db)
	}
	return nil
}

// sayState logs what the state directory has told.
func (d *daemon) sayState() {
	for _, w := range d.state.Warnings() {
		d.log.Warn(w)
	}
	if d.state.Unclean() {
		d.log.Info("the last run did not end cleanly: what the embedded database kept is not used", "directory", d.state.Dir())
	}
}

// openState opens the state directory. Without one nothing outlives this process. Where another daemon has it, its key is
// used at once, and the rest when it is free.
func openState(dir, key string, log *slog.Logger) (*cache.State, error) {
	state, err := cache.OpenState(dir, []byte(key))
	switch {
	case err != nil && dir != "":
		log.Warn("doing without a state directory: the embedded database is not used, and the next start knows nothing of this one",
			"directory", dir, "error", err)
		return openState("", key, log)
	case err == nil && state.Waits():
		log.Warn("the cache is in memory alone until the state directory is free: another daemon has it, which drains perhaps", "directory", dir)
	}
	return state, err
}

// tiers adds what the configuration names to a daemon's store.
type tiers struct {
	*daemon
	breakers *breaker.Metrics
	pools    *tier.Pools
	prefix   string // of stored names: the partition key's id
	maxValue int
	start    context.Context // ends when a start has waited long enough for links
}

func (t *tiers) add(tier tier.Tier, id string, timeout time.Duration, private, shared bool) {
	t.store.Add(worker.Options{
		Tier: tier, ID: id, Timeout: timeout, Private: private, Shared: shared,
		Breaker: breaker.NewTier(tier.Name(), t.breakers, t.log),
	})
}

// addressOf is a URL without the user and the password in it.
func addressOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "" // the adapter says what is wrong with it
	}
	return u.Scheme + "://" + u.Host + u.Path
}

func (t *tiers) addRedis(c config.Redis) error {
	if c.URL.Value == "" {
		return nil
	}
	tier, err := redis.New(redis.Options{
		URL: c.URL.Value, Timeout: max(c.Timeout, tierTimeout), Pool: c.Pool, MaxValue: t.maxValue, Prefix: t.prefix,
		Listener: t.store.Listener(), Pools: t.pools, Log: t.log,
	})
	if err != nil {
		return UsageError{Err: fmt.Errorf("cache.redis: %w", err)}
	}
	t.add(tier, addressOf(c.URL.Value), c.Timeout, true, true)
	awaitLink(t.start, tier)
	return nil
}

func (t *tiers) addPostgres(c config.Database) error {
	tier, err := postgres.Open(postgres.Options{
		URL: c.URL.Value, Timeout: max(c.Timeout, tierTimeout), MaxValue: t.maxValue, Prefix: t.prefix,
		Pool: c.PoolMax, Lifetime: c.PoolLifetime, Listener: t.store.Listener(), Pools: t.pools, Log: t.log,
	})
	if err != nil {
		return UsageError{Err: fmt.Errorf("cache.database: %w", err)}
	}
	t.add(tier, addressOf(c.URL.Value), c.Timeout, c.PrivateReads, true)
	awaitLink(t.start, tier)
	return nil
}

// linkTimeout is how long a start waits for servers that other daemons share: the first answers after a restart come from
// there, and memory does not forget them because the link stood up after them.
const linkTimeout = time.Second

// awaitLink waits for a tier's link until ctx ends. One that is not there by then is used later.
func awaitLink(ctx context.Context, tier tier.Shared) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !tier.Linked() && ctx.Err() == nil {
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// addSQLite opens the embedded tier, where there is a directory for it.
func (t *tiers) addSQLite(c config.Database) {
	path := c.Path.Value
	if !filepath.IsAbs(path) {
		if t.state.Dir() == "" {
			t.log.Warn("there is no database tier: it needs a state directory of the daemon's own", "file", path)
			return
		}
		path = filepath.Join(t.state.Dir(), path)
	}
	late := newLateTier(func() (tier.Embedded, error) {
		if !t.joined.Load() {
			return nil, errors.New("another daemon has the state directory")
		}
		return sqlite.Open(sqlite.Options{
			Path: path, Prefix: t.prefix, MaxBytes: c.Size, Timeout: max(c.Timeout, tierTimeout),
			MaxValue: int(min(int64(t.maxValue), c.Size/8)), Pools: t.pools, Log: t.log,
		})
	})
	t.late = late
	if err := late.open(); err != nil && !t.state.Waits() {
		t.log.Warn("the database tier cannot be used for now", "file", path, "error", err)
	}
	t.add(late, "sqlite:"+path, c.Timeout, c.PrivateReads, false)
}

// closeCache writes what waits for the tiers, and saves what is kept over a restart.
func (d *daemon) closeCache(timeout time.Duration) {
	if d.store != nil {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		if err := d.store.Close(ctx); err != nil {
			d.log.Warn("closing the cache", "error", err)
		}
	}
	if d.state != nil {
		if err := d.state.Close(); err != nil {
			d.log.Warn("closing the state directory", "error", err)
		}
	}
}
