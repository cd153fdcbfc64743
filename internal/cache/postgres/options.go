package postgres

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"fluentd-perf/internal/cache/tier"
)

// Limits of the options.
const (
	maxTimeout  = 10 * time.Second
	maxSweep    = 24 * time.Hour
	maxMaxValue = 64 << 20
	maxPool     = 1000
)

var prefixPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,48}$`)

// Options say where the server is and what it may cost. The zero value of each field but URL and Prefix is useful.
type Options struct {
	URL      string        // postgres://, as pgx takes it; LISTEN does not pass a PgBouncer in transaction mode
	Prefix   string        // daemons with different ones share nothing: 1 to 48 letters, digits, - and _
	Timeout  time.Duration // of a whole call; 0 means 150 ms; at most 10 s
	MaxValue int           // bytes of a value; larger ones are left out; 0 means 1 MiB; at most 64 MiB
	Pool     int           // connections at most; one more, outside the pool, listens; 0 means 4; at most 1000
	Lifetime time.Duration // of a connection of the pool, up to a tenth more; 0 means an hour
	Sweep    time.Duration // between two looks for what has expired; 0 means a minute; at most a day
	Listener tier.Listener // is told what daemons of the same Prefix bump; its functions may be nil
	Pools    *tier.Pools   // shows the connections of the pool, as postgres; nil: nobody looks
	Log      *slog.Logger  // nil means silent
}

// Validate reports what is wrong with the options, all of it at once. It does not connect, does not look at Prefix, which
// the wiring makes, and never repeats the URL, in which a password may be.
func (o Options) Validate() error {
	_, err := o.config()
	return err
}

// config checks the options and parses the URL. What the other options say of the pool is for configure.
func (o Options) config() (*pgxpool.Config, error) {
	config, err := parseURL(o.URL)
	err = errors.Join(err,
		check(0 <= o.Timeout && o.Timeout <= maxTimeout, "timeout: %v is not between 0 and %v", o.Timeout, maxTimeout),
		check(0 <= o.Sweep && o.Sweep <= maxSweep, "the time between sweeps: %v is not between 0 and %v", o.Sweep, maxSweep),
		check(0 <= o.MaxValue && o.MaxValue <= maxMaxValue, "the size of an entry: %d is not between 0 and %d", o.MaxValue, maxMaxValue),
		check(0 <= o.Pool && o.Pool <= maxPool, "pool.max: %d is not between 0 and %d", o.Pool, maxPool),
		check(0 <= o.Lifetime, "pool.lifetime: %v is less than 0", o.Lifetime))
	return config, err
}

func check(ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return fmt.Errorf(format, args...)
}

// parseURL is stricter than the driver, for which "user:pass?word@host" is a host named user. The driver's error begins
// with the URL, and with one that it cannot parse it does not know what in it is a password.
func parseURL(s string) (*pgxpool.Config, error) {
	u, err := url.Parse(s)
	if err != nil {
		return nil, errors.New("url: not a URL")
	}
	if u.Scheme != "postgres" && u.Scheme != "postgresql" {
		return nil, fmt.Errorf("url: scheme %q is not postgres", u.Scheme)
	}
	config, err := pgxpool.ParseConfig(s)
	if err == nil {
		return config, nil
	}
	text := err.Error()
	text = strings.TrimPrefix(text[strings.LastIndexByte(text, '`')+1:], ": ")
	if strings.HasPrefix(text, "failed to parse as URL") {
		text = "not the URL of a Postgres server"
	}
	return nil, errors.New("url: " + text)
}

func (o Options) withDefaults() Options {
	o.Timeout = cmp.Or(o.Timeout, 150*time.Millisecond)
	o.MaxValue = cmp.Or(o.MaxValue, 1<<20)
	o.Pool = cmp.Or(o.Pool, 4)
	o.Lifetime = cmp.Or(o.Lifetime, time.Hour)
	o.Sweep = cmp.Or(o.Sweep, time.Minute)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.Listener.Bumped == nil {
		o.Listener.Bumped = func([]tier.Generation) {}
	}
	if o.Listener.Moved == nil {
		o.Listener.Moved = func() {}
	}
	if o.Listener.Lost == nil {
		o.Listener.Lost = func() {}
	}
	return o
}
