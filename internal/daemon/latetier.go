package daemon

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"fluentd-perf/internal/cache/tier"
)

// lateTier is an embedded tier that may not be there yet: its file could not be opened at start (a full disk, rights).
// Whoever asks it meanwhile gets an error at once, and it is tried again behind that.
type lateTier struct {
	make func() (tier.Embedded, error)
	tier atomic.Pointer[tier.Embedded]

	mu      sync.Mutex // guards the following
	opening bool
	closed  bool
	err     error // of the last try
	wg      sync.WaitGroup
}

var errLate = errors.New("the database file is not open yet")

func newLateTier(open func() (tier.Embedded, error)) *lateTier {
	return &lateTier{make: open, err: errLate}
}

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
func (l *lateTier) get() (tier.Embedded, error) {
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

// with calls f with the tier, if it is there.
func (l *lateTier) with(f func(tier.Embedded) error) error {
	t, err := l.get()
	if err != nil {
		return err
	}
	return f(t)
}

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
	return l.with(func(t tier.Embedded) error { return t.Write(ctx, writes) })
}

// Bump implements tier.Tier.
func (l *lateTier) Bump(ctx context.Context, generations []tier.Generation) error {
	return l.with(func(t tier.Embedded) error { return t.Bump(ctx, generations) })
}

// BumpAll implements tier.Embedded.
func (l *lateTier) BumpAll(ctx context.Context) error {
	return l.with(func(t tier.Embedded) error { return t.BumpAll(ctx) })
}

// Delete implements tier.Tier.
func (l *lateTier) Delete(ctx context.Context, keys []tier.Key) error {
	return l.with(func(t tier.Embedded) error { return t.Delete(ctx, keys) })
}

// Holds implements tier.Embedded.
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
