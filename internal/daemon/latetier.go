package daemon

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"fluentd-perf/internal/cache/tier"
)

// embedded is a tier in a file of the daemon's own.
type embedded interface {
	tier.Tier
	tier.Holder
	BumpAll(context.Context) error
	Collector() prometheus.Collector
}

// lateTier is an embedded tier that may not be there yet: its file could not be opened at start (a full disk, rights).
// Whoever asks it meanwhile gets an error at once, and it is tried again behind that.
type lateTier struct {
	make func() (embedded, error)
	tier atomic.Pointer[embedded]

	mu      sync.Mutex // guards the following
	opening bool
	closed  bool
	err     error // of the last try
	wg      sync.WaitGroup
}

var errLate = errors.New("the database file is not open yet")

func newLateTier(open func() (embedded, error)) *lateTier { return &lateTier{make: open, err: errLate} }

// open tries now.
func (l *lateTier) open() error {
	tier, err := l.make()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.opening = false
	l.err = err
	if err == nil {
		l.tier.Store(&tier)
	}
	return err
}

// get returns the tier, or begins another try and returns why the last one failed.
func (l *lateTier) get() (embedded, error) {
	if t := l.tier.Load(); t != nil {
		return *t, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.opening && !l.closed {
		l.opening = true
		l.wg.Go(func() { _ = l.open() }) // the next one to ask sees what came of it
	}
	return nil, l.err
}

// Name implements tier.Tier.
func (l *lateTier) Name() string { return "database" }

// Read implements tier.Tier.
func (l *lateTier) Read(ctx context.Context, lookups []tier.Lookup) ([]tier.Found, error) {
	t, err := l.get()
	if err != nil {
		return nil, err
	}
	return t.Read(ctx, lookups)
}

// Write implements tier.Tier.
func (l *lateTier) Write(ctx context.Context, writes []tier.Write) error {
	t, err := l.get()
	if err != nil {
		return err
	}
	return t.Write(ctx, writes)
}

// Bump implements tier.Tier.
func (l *lateTier) Bump(ctx context.Context, generations []tier.Generation) error {
	t, err := l.get()
	if err != nil {
		return err
	}
	return t.Bump(ctx, generations)
}

// BumpAll makes every entry old.
func (l *lateTier) BumpAll(ctx context.Context) error {
	t, err := l.get()
	if err != nil {
		return err
	}
	return t.BumpAll(ctx)
}

// Delete implements tier.Tier.
func (l *lateTier) Delete(ctx context.Context, keys []tier.Key) error {
	t, err := l.get()
	if err != nil {
		return err
	}
	return t.Delete(ctx, keys)
}

// Holds implements tier.Holder.
func (l *lateTier) Holds() tier.Stats {
	if t := l.tier.Load(); t != nil {
		return (*t).Holds()
	}
	return tier.Stats{Entries: -1, Bytes: -1, Evictions: -1}
}

// Close implements tier.Tier.
func (l *lateTier) Close() error {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.wg.Wait()
	if t := l.tier.Load(); t != nil {
		return (*t).Close()
	}
	return nil
}

// Describe implements prometheus.Collector: see the adapters' collectors, which describe nothing.
func (l *lateTier) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (l *lateTier) Collect(ch chan<- prometheus.Metric) {
	if t := l.tier.Load(); t != nil {
		(*t).Collector().Collect(ch)
	}
}
