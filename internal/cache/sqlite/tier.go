package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"fluentd-perf/internal/cache/tier"
)

// backgroundTimeout is of what nobody waits for on a request's way.
const backgroundTimeout = 5 * time.Second

// adapter is a tier in one file that belongs to this process alone. A file that is corrupt, or not ours, is renamed, with
// .corrupt or .foreign at its end (one of each is kept), and a new one begun: at the start, and whenever an error says so.
type adapter struct {
	opt    Options
	codec  tier.Codec
	lock   *os.File
	waited func(time.Duration) // for a connection

	current   atomic.Pointer[state]
	stop      context.CancelFunc // of what keeps a file open
	keeper    sync.WaitGroup
	evictions atomic.Int64
	calls     atomic.Int64
	damaged   atomic.Int64 // entries

	warnDamaged, warnFull rate.Sometimes
}

// state is the open file, or why there is none.
type state struct {
	file *file
	err  error
}

// Open opens the tier. The error says that another process has it, which option is wrong or what is wrong with the directory. A disk that is full or fails is none: calls fail until it is better.
func Open(opt Options) (tier.Embedded, error) {
	t, err := openTier(opt)
	if err != nil {
		return nil, err
	}
	return t, nil
}

func openTier(opt Options) (_ *adapter, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("sqlite: %w", err)
		}
	}()
	err = errors.Join(opt.Validate(), check(prefixPattern.MatchString(opt.Prefix), "prefix %q: want 1 to 48 letters, digits, - and _", opt.Prefix))
	if err != nil {
		return nil, err
	}
	opt = opt.withDefaults()
	if opt.Path, err = filepath.Abs(opt.Path); err != nil {
		return nil, err
	}
	lock, err := lockFile(opt.Path + ".lock")
	if err != nil {
		return nil, err
	}
	t := &adapter{opt: opt, codec: tier.Codec{MaxValue: opt.MaxValue}, lock: lock}
	t.warnDamaged.Interval, t.warnFull.Interval = time.Minute, time.Minute
	f, failed := t.open()
	if fatalAtStart(failed) {
		return nil, errors.Join(failed, lock.Close())
	}
	t.use(f, failed)
	t.waited = opt.Pools.Add("sqlite", t.pool, true) // a scrape may ask at once
	ctx, cancel := context.WithCancel(context.Background())
	t.stop = cancel
	t.keeper.Go(func() { t.keepOpen(ctx, f, failed) })
	return t, nil
}

// use has calls use the file from now on, or fail where there is none for the reason in err.
func (t *adapter) use(f *file, err error) {
	if f == nil {
		err = fmt.Errorf("sqlite: %w: %w", errUnavailable, err)
	}
	t.current.Store(&state{f, err})
}

// Name returns "database".
func (t *adapter) Name() string { return "database" }

// Read implements tier.Tier. Nothing is asked of the file where it has none of the keys.
func (t *adapter) Read(ctx context.Context, lookups []tier.Lookup) ([]tier.Found, error) {
	if len(lookups) == 0 {
		return nil, nil
	}
	s := t.current.Load()
	if s.file == nil {
		return nil, s.err
	}
	found, err := s.file.read(ctx, lookups)
	if err != nil {
		return nil, fmt.Errorf("sqlite: read: %w", err)
	}
	return found, nil
}

// Write implements tier.Tier. After an error some of the entries may have been stored, and others may be still.
func (t *adapter) Write(ctx context.Context, writes []tier.Write) error {
	return t.change(ctx, t.opt.Timeout, "write", t.changesOf(writes)...)
}

// Bump implements tier.Tier. It comes before writes that wait.
func (t *adapter) Bump(ctx context.Context, generations []tier.Generation) error {
	if len(generations) == 0 {
		return nil
	}
	return t.change(ctx, t.opt.Timeout, "bump", &change{bump: slices.Clone(generations), urgent: true})
}

// BumpAll gives every generation a new token: no entry that was written before is answered again. For the start after
// an unclean end, when bumps may have been lost. It may take up to 5 s; while it fails, the tier answers as before.
func (t *adapter) BumpAll(ctx context.Context) error {
	return t.change(ctx, backgroundTimeout, "bump all", &change{bumpAll: true, urgent: true})
}

// Delete implements tier.Tier.
func (t *adapter) Delete(ctx context.Context, keys []tier.Key) error {
	if len(keys) == 0 {
		return nil
	}
	return t.change(ctx, t.opt.Timeout, "delete", &change{remove: slices.Clone(keys)})
}

func (t *adapter) change(ctx context.Context, limit time.Duration, what string, changes ...*change) error {
	if len(changes) == 0 {
		return nil
	}
	s := t.current.Load()
	if s.file == nil {
		return s.err
	}
	if err := s.file.change(ctx, limit, changes); err != nil {
		return fmt.Errorf("sqlite: %s: %w", what, err)
	}
	return nil
}

// Holds implements tier.Embedded.
func (t *adapter) Holds() tier.Stats {
	stats := tier.Stats{Entries: -1, Bytes: -1, Evictions: t.evictions.Load()}
	if f := t.current.Load().file; f != nil {
		stats.Entries, stats.Bytes = f.contents.entries(), f.bytes.Load()
	}
	return stats
}

// pool says how the connections are used: the readers and the one writer, which are open before anybody calls.
func (t *adapter) pool() tier.PoolStats {
	stats := tier.PoolStats{Reused: t.calls.Load()}
	if f := t.current.Load().file; f != nil {
		stats.Open, stats.Active = readers+1, int(f.reading.Load()+f.writing.Load())
		stats.Idle = stats.Open - stats.Active
	}
	return stats
}

// Close implements tier.Tier. What was written is on the disk afterwards. It waits at most 5 s for a disk that hangs.
func (t *adapter) Close() (err error) {
	t.stop()
	t.keeper.Wait()
	if f := t.current.Load().file; f != nil {
		t.use(nil, os.ErrClosed)
		err = f.close()
	}
	if err = errors.Join(err, t.lock.Close()); err != nil {
		return fmt.Errorf("sqlite: close: %w", err)
	}
	return nil
}
