package sqldb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// SQLite is a tier in one file that belongs to this process alone. A file that is corrupt, or not ours, is renamed, with
// .corrupt or .foreign at its end (one of each is kept), and a new one begun: at the start, and whenever an error says so.
type SQLite struct {
	opt   SQLiteOptions
	codec codec
	lock  *os.File

	current   atomic.Pointer[sqliteFile] // nil while there is none to use
	outage    outage                     // while there is none
	broken    chan brokenFile
	stop      chan struct{}
	keeper    sync.WaitGroup
	evictions atomic.Int64
	calls     atomic.Uint64
	waits     *waits
	damage    complaint
	noRoom    complaint
}

// OpenSQLite opens the tier. The error is ErrInUse where another process has it, or says which option is wrong or what
// is wrong with the directory. A disk that is full or fails is none: calls fail until it is better.
func OpenSQLite(opt SQLiteOptions) (*SQLite, error) {
	if err := errors.Join(opt.Validate(), checkPrefix(opt.Prefix)); err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	opt = opt.withDefaults()
	path, err := filepath.Abs(opt.Path)
	if err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	opt.Path = path
	s := &SQLite{opt: opt, codec: codec{opt.MaxValue}, waits: newWaits("sqlite"), broken: make(chan brokenFile, 1), stop: make(chan struct{})}
	if err := s.start(); err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	return s, nil
}

// start opens the file and begins to keep it open.
func (s *SQLite) start() error {
	lock, err := lockFile(s.opt.Path + ".lock")
	if err != nil {
		return err
	}
	f, err := s.open()
	if fatalAtStart(err) {
		return errors.Join(err, lock.Close())
	}
	s.lock = lock
	s.outage.set(err)
	s.current.Store(f)
	s.keeper.Go(func() { s.keep(f) }) // where f is nil it tries again, and says what comes of it
	return nil
}

// Name returns "database".
func (s *SQLite) Name() string { return "database" }

// file returns the open file.
func (s *SQLite) file() (*sqliteFile, error) {
	if f := s.current.Load(); f != nil {
		return f, nil
	}
	return nil, fmt.Errorf("sqlite: %w", s.outage.err())
}

// Read implements cache.Tier. Nothing is asked of the file where its index has none of the keys.
func (s *SQLite) Read(ctx context.Context, lookups []tier.Lookup) ([]tier.Found, error) {
	if len(lookups) == 0 {
		return nil, nil
	}
	f, err := s.file()
	if err != nil {
		return nil, err
	}
	r := newReading(lookups, s.codec.most())
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("sqlite: read: %w", err)
	}
	if f.rows.hasAny(r.keys) {
		if err := f.query(ctx, s.opt.Timeout, r.read); err != nil {
			return nil, fmt.Errorf("sqlite: read: %w", err)
		}
	}
	return f.found(r, lookups), nil
}

// Write implements cache.Tier. After an error some of the entries may have been stored, and others may be still.
func (s *SQLite) Write(ctx context.Context, writes []tier.Write) error {
	if len(writes) == 0 {
		return nil
	}
	return s.change(ctx, "write", s.writeOps(writes)...)
}

// Bump implements cache.Tier. It comes before writes that wait.
func (s *SQLite) Bump(ctx context.Context, generations []tier.Generation) error {
	if len(generations) == 0 {
		return nil
	}
	return s.change(ctx, "bump", &change{bump: append([]tier.Generation(nil), generations...), urgent: true})
}

// BumpAll gives every generation a new token: no entry that was written before is answered again. For the start after
// an unclean end, when bumps may have been lost. It may take up to 5 s; while it fails, the tier answers as before.
func (s *SQLite) BumpAll(ctx context.Context) error {
	return s.changeWithin(ctx, backgroundTimeout, "bump all", &change{bumpAll: true, urgent: true})
}

// Delete implements cache.Tier.
func (s *SQLite) Delete(ctx context.Context, keys []tier.Key) error {
	if len(keys) == 0 {
		return nil
	}
	return s.change(ctx, "delete", &change{remove: append([]tier.Key(nil), keys...)})
}

func (s *SQLite) change(ctx context.Context, what string, changes ...*change) error {
	return s.changeWithin(ctx, s.opt.Timeout, what, changes...)
}

func (s *SQLite) changeWithin(ctx context.Context, limit time.Duration, what string, changes ...*change) error {
	f, err := s.file()
	if err != nil {
		return err
	}
	if err := f.change(ctx, limit, changes); err != nil {
		return fmt.Errorf("sqlite: %s: %w", what, err)
	}
	return nil
}

// Holds implements cache.Holder.
func (s *SQLite) Holds() tier.Stats {
	f := s.current.Load()
	if f == nil {
		return tier.Stats{Entries: -1, Bytes: -1, Evictions: s.evictions.Load()}
	}
	return tier.Stats{Entries: f.rows.len(), Bytes: f.bytes.Load(), Evictions: s.evictions.Load()}
}

// Pool says how the connections are used: the readers and the one writer.
func (s *SQLite) Pool() PoolStats {
	stats := PoolStats{Reused: s.calls.Load()}
	if f := s.current.Load(); f != nil {
		stats.Open = sqliteReaders + 1
		stats.Active = int(f.reading.Load() + f.writing.Load())
		stats.Idle = stats.Open - stats.Active
	}
	return stats
}

// Close implements cache.Tier. What was written is on the disk afterwards. It waits at most 5 s for a disk that hangs.
func (s *SQLite) Close() error {
	close(s.stop)
	s.keeper.Wait()
	var err error
	if f := s.current.Swap(nil); f != nil {
		err = f.close()
	}
	if err = errors.Join(err, s.lock.Close()); err != nil {
		return fmt.Errorf("sqlite: close: %w", err)
	}
	return nil
}
