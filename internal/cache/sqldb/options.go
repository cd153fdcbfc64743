package sqldb

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// Defaults of the options that are zero.
const (
	DefaultTimeout  = 150 * time.Millisecond
	DefaultSweep    = time.Minute
	DefaultMaxValue = 1 << 20 // bytes of an entry, 1 MiB
	DefaultMaxBytes = 1 << 30 // of SQLite's files, 1 GiB
	MinMaxBytes     = 4 << 20 // of SQLite's files, 4 MiB

	DefaultPoolMax      = 4
	DefaultPoolLifetime = time.Hour
)

// Limits of the options.
const (
	maxTimeout  = 10 * time.Second
	maxMaxValue = 64 << 20 // bytes
	maxPool     = 1000     // connections
)

var prefixPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,48}$`)

// checkPrefix is not part of Validate: the wiring makes the prefix, not the operator.
func checkPrefix(prefix string) error {
	if !prefixPattern.MatchString(prefix) {
		return fmt.Errorf("prefix %q: want 1 to 48 letters, digits, - and _", prefix)
	}
	return nil
}

// SQLiteOptions say where the file is and what it may cost. The zero value of each field but Path and Prefix is useful.
type SQLiteOptions struct {
	Path     string        // of the file, in a directory that exists; -wal, -shm and .lock are beside it, all 0600
	Prefix   string        // names the partition key: under another one nothing that is in the file is found; 1 to 48 letters, digits, - and _
	MaxBytes int64         // of the file and its -wal together; 0 means DefaultMaxBytes, less than MinMaxBytes is refused
	Timeout  time.Duration // of a whole call; 0 means DefaultTimeout; at most 10 s
	MaxValue int           // bytes of a value; larger ones are left out; 0 means DefaultMaxValue, or an eighth of MaxBytes where that is less; at most 64 MiB
	Sweep    time.Duration // between two looks for what has expired; 0 means DefaultSweep
	Log      *slog.Logger  // nil means silent
}

// Validate reports what is wrong with the options, all of it at once. It touches no file, and does not look at Prefix.
func (o SQLiteOptions) Validate() error {
	var errs []error
	if o.Path == "" {
		errs = append(errs, errors.New("path: it is empty"))
	}
	if o.MaxBytes != 0 && o.MaxBytes < MinMaxBytes {
		errs = append(errs, fmt.Errorf("size: %d bytes are less than %d", o.MaxBytes, MinMaxBytes))
	} else if d := o.withDefaults(); int64(d.MaxValue) > d.MaxBytes/8 {
		errs = append(errs, fmt.Errorf("the size of an entry: %d is more than an eighth of the whole", d.MaxValue))
	}
	return errors.Join(append(errs, checkCommon(o.Timeout, o.Sweep, o.MaxValue))...)
}

func (o SQLiteOptions) withDefaults() SQLiteOptions {
	o.MaxBytes = cmp.Or(o.MaxBytes, DefaultMaxBytes)
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	o.MaxValue = cmp.Or(o.MaxValue, int(min(DefaultMaxValue, o.MaxBytes/8)))
	o.Sweep = cmp.Or(o.Sweep, DefaultSweep)
	o.Log = orSilent(o.Log)
	return o
}

// PostgresPool bounds the connections. One more, outside the pool, listens.
type PostgresPool struct {
	Max      int           // 0 means DefaultPoolMax; at most 1000
	Lifetime time.Duration // of a connection, up to a tenth more; 0 means DefaultPoolLifetime
}

// PostgresOptions say where the server is and what it may cost. The zero value of each field but URL and Prefix is
// useful.
type PostgresOptions struct {
	URL      string        // postgres://, as pgx takes it; LISTEN does not pass a PgBouncer in transaction mode
	Prefix   string        // daemons with different ones share nothing: 1 to 48 letters, digits, - and _
	Timeout  time.Duration // of a whole call; 0 means DefaultTimeout; at most 10 s
	MaxValue int           // bytes of a value; larger ones are left out; 0 means DefaultMaxValue; at most 64 MiB
	Pool     PostgresPool  //
	Sweep    time.Duration // between two looks for what has expired; 0 means DefaultSweep
	Listener tier.Listener // hears what daemons of the same Prefix bump; its functions may be nil
	Log      *slog.Logger  // nil means silent
}

// Validate reports what is wrong with the options, all of it at once. It does not connect, does not look at Prefix, and
// never repeats the URL, in which a password may be.
func (o PostgresOptions) Validate() error {
	_, err := o.withDefaults().config()
	return err
}

func (o PostgresOptions) withDefaults() PostgresOptions {
	o.Timeout = cmp.Or(o.Timeout, DefaultTimeout)
	o.MaxValue = cmp.Or(o.MaxValue, DefaultMaxValue)
	o.Pool.Max = cmp.Or(o.Pool.Max, DefaultPoolMax)
	o.Pool.Lifetime = cmp.Or(o.Pool.Lifetime, DefaultPoolLifetime)
	o.Sweep = cmp.Or(o.Sweep, DefaultSweep)
	o.Log = orSilent(o.Log)
	return o
}

func checkCommon(timeout, sweep time.Duration, maxValue int) error {
	return errors.Join(
		within("timeout", timeout, maxTimeout),
		within("the time between sweeps", sweep, 24*time.Hour),
		within("the size of an entry", maxValue, maxMaxValue))
}

func within[T int | int64 | time.Duration](name string, v, most T) error {
	if v < 0 || v > most {
		return fmt.Errorf("%s: %v is not between 0 and %v", name, v, most)
	}
	return nil
}

func orSilent(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
