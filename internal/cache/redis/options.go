package redis

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"fluentd-perf/internal/cache/tier"
)

// Options say which server a tier uses, and how much of it. The zero value of each field but URL and Prefix is useful.
type Options struct {
	// URL is redis://[user:password@]host[:6379][/db], rediss:// for TLS, or unix://[user:password@]/path?db=n. Of
	// parameters only db, and skip_verify with rediss, are taken.
	URL string
	// Timeout ends each call, with everything in it: waiting for a connection, dialling, answering. 0 means 50 ms; at
	// most 10 s.
	Timeout time.Duration
	// Pool is the most connections for calls. 0 means 16; at most 1024. One more carries what other daemons bump. All have
	// the name fluentd-perf on the server, where it allows names.
	Pool int
	// Lifetime ends each connection for calls, up to a tenth sooner or later, so that a tier whose address has moved finds out
	// although its connections hold. 0 means 5 min.
	Lifetime time.Duration
	// MaxValue is the most bytes of one value. 0 means 1 MiB; at most 64 MiB.
	MaxValue int
	// Prefix parts daemons that share a server and not a partition key: 1 to 64 letters, digits, - and _. Those with
	// the same Prefix share entries, generations and bumps.
	Prefix string
	// Listener receives what is bumped. Where both functions are nil, nothing is subscribed to.
	Listener tier.Listener
	// Pools shows the connections for calls, as redis. Nil means nobody looks.
	Pools *tier.Pools
	// Log gets a line when the link to the other daemons is lost and when it is back. Nil means silent.
	Log *slog.Logger
}

var prefixPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Validate says what is wrong with the options, all of it at once. It does not connect, does not look at Prefix, which
// the wiring makes, and never repeats the URL, in which a password may be.
func (o Options) Validate() error {
	_, err := o.server()
	return errors.Join(err,
		within("timeout", o.Timeout, 10*time.Second),
		within("pool", o.Pool, 1024),
		within("the size of an entry", o.MaxValue, 64<<20))
}

func within[T int | time.Duration](name string, v, limit T) error {
	if v < 0 || v > limit {
		return fmt.Errorf("%s: %v is not between 0 and %v", name, v, limit)
	}
	return nil
}

// complete checks the options and returns them with the defaults in.
func (o Options) complete() (Options, error) {
	err := o.Validate()
	if !prefixPattern.MatchString(o.Prefix) {
		err = errors.Join(err, fmt.Errorf("prefix %q: want 1 to 64 letters, digits, - and _", o.Prefix))
	}
	o.Timeout = cmp.Or(o.Timeout, 50*time.Millisecond)
	o.Pool = cmp.Or(o.Pool, 16)
	o.MaxValue = cmp.Or(o.MaxValue, 1<<20)
	o.Lifetime = cmp.Or(o.Lifetime, 5*time.Minute)
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	return o, err
}

// server reads the URL into the driver's options: where the server is and as whom, nothing else.
func (o Options) server() (*goredis.Options, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, errors.New("url: not a URL") // the cause repeats it, password and all
	}
	if err := checkURL(u); err != nil {
		return nil, fmt.Errorf("url: %w", err)
	}
	s, err := goredis.ParseURL(o.URL)
	if err != nil {
		return nil, fmt.Errorf("url: %s", strings.TrimPrefix(err.Error(), "redis: "))
	}
	if s.DB < 0 {
		return nil, fmt.Errorf("url: database %d is below 0", s.DB)
	}
	return s, nil
}

// checkURL refuses what the driver would take in silence.
func checkURL(u *url.URL) error {
	switch {
	case u.Scheme != "redis" && u.Scheme != "rediss" && u.Scheme != "unix":
		return fmt.Errorf("scheme %q is none of redis, rediss and unix", u.Scheme)
	case u.Scheme == "unix" && u.Host != "":
		return errors.New("a unix URL has three slashes: unix:///path")
	case u.Scheme != "unix" && u.Hostname() == "":
		return errors.New("no host")
	case u.Fragment != "":
		return errors.New("it has a fragment")
	}
	for name := range u.Query() {
		if name != "db" && (name != "skip_verify" || u.Scheme != "rediss") {
			return fmt.Errorf("parameter %q is not taken", name)
		}
	}
	return nil
}
