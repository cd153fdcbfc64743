package sqlite

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// Limits of the options.
const (
	maxTimeout  = 10 * time.Second
	maxSweep    = 24 * time.Hour
	maxMaxValue = 64 << 20
	minMaxBytes = 4 << 20
)

var prefixPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,48}$`)

// Options say where the file is and what it may cost. The zero value of each field but Path and Prefix is useful.
type Options struct {
	Path     string        // of the file, in a directory that exists; -wal, -shm and .lock are beside it, all 0600
	Prefix   string        // names the partition key: under another one nothing that is in the file is found; 1 to 48 letters, digits, - and _
	MaxBytes int64         // of the file and its -wal together; 0 means 1 GiB, less than 4 MiB is refused
	Timeout  time.Duration // of a whole call; 0 means 150 ms; at most 10 s
	MaxValue int           // bytes of a value; larger ones are left out; 0 means 1 MiB, or an eighth of MaxBytes where that is less; at most 64 MiB, and an eighth of MaxBytes
	Sweep    time.Duration // between two looks for what has expired; 0 means a minute; at most a day
	Pools    *tier.Pools   // shows the file's connections, as sqlite; nil: nobody looks
	Log      *slog.Logger  // nil means silent
}

// Validate reports what is wrong with the options, all of it at once. It touches no file, and does not look at Prefix: the
// wiring makes that, not the operator.
func (o Options) Validate() error {
	d := o.withDefaults()
	return errors.Join(
		check(o.Path != "", "path: it is empty"),
		check(d.MaxBytes >= minMaxBytes, "size: %d bytes are less than %d", d.MaxBytes, minMaxBytes),
		check(int64(d.MaxValue) <= max(d.MaxBytes, minMaxBytes)/8, "the size of an entry: %d is more than an eighth of the whole", d.MaxValue),
		check(0 <= o.MaxValue && o.MaxValue <= maxMaxValue, "the size of an entry: %d is not between 0 and %d", o.MaxValue, maxMaxValue),
		check(0 <= o.Timeout && o.Timeout <= maxTimeout, "timeout: %v is not between 0 and %v", o.Timeout, maxTimeout),
		check(0 <= o.Sweep && o.Sweep <= maxSweep, "the time between sweeps: %v is not between 0 and %v", o.Sweep, maxSweep))
}

func check(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

func (o Options) withDefaults() Options {
	o.MaxBytes = cmp.Or(o.MaxBytes, 1<<30)
	o.Timeout = cmp.Or(o.Timeout, 150*time.Millisecond)
	o.MaxValue = cmp.Or(o.MaxValue, int(min(1<<20, o.MaxBytes/8)))
	o.Sweep = cmp.Or(o.Sweep, time.Minute)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	return o
}
