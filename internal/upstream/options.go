package upstream

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"fluentd-perf/internal/mcp"
)

// complete checks the options and puts the defaults in.
func (o *Options) complete() error {
	if err := o.checkURL(); err != nil {
		return err
	}
	if err := errors.Join(o.Pool.complete(), o.Timeouts.complete(), o.completeLimits()); err != nil {
		return err
	}
	if o.Connections == nil {
		o.Connections = unbounded{}
	}
	if o.Buffers == nil {
		o.Buffers = new(mcp.BufferPool)
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	if o.Times == nil {
		o.Times = new(mcp.RecentTimes)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.RoundTripper == nil {
		o.RoundTripper = func(t TransportOptions) http.RoundTripper { return NewTransport(t) }
	}
	return nil
}

func (o *Options) checkURL() error {
	switch u := o.URL; {
	case u == nil:
		return errors.New("no URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("scheme %q of the URL is neither http nor https", u.Scheme)
	case u.Hostname() == "":
		return errors.New("the URL has no host")
	case u.User != nil:
		return errors.New("the URL has a user: credentials belong in headers")
	case u.Fragment != "":
		return errors.New("the URL has a fragment")
	}
	return nil
}

func (p *PoolOptions) complete() error {
	if p.MaxConnections == 0 {
		p.MaxConnections = 256
	}
	if p.MaxIdle == 0 {
		p.MaxIdle = p.MaxConnections // fewer would dial anew in every burst above them
	}
	err := errors.Join(
		positive("Pool.IdleTimeout", &p.IdleTimeout, 90*time.Second),
		positive("Pool.MaxAge", &p.MaxAge, 5*time.Minute),
	)
	if p.MaxConnections < 0 || p.MaxIdle < 0 {
		err = errors.Join(err, errors.New("Pool.MaxConnections or Pool.MaxIdle is negative"))
	} else if p.MaxIdle > p.MaxConnections {
		err = errors.Join(err, errors.New("Pool.MaxIdle is above Pool.MaxConnections"))
	}
	return err
}

func (t *Timeouts) complete() error {
	return errors.Join(
		positive("Timeouts.Connect", &t.Connect, 5*time.Second),
		positive("Timeouts.Handshake", &t.Handshake, 55*time.Second),
		positive("Timeouts.FirstByte", &t.FirstByte, 55*time.Second),
		positive("Timeouts.Call", &t.Call, 30*time.Minute),
		positive("Timeouts.Idle", &t.Idle, 5*time.Minute),
	)
}

func (o *Options) completeLimits() error {
	err := errors.Join(
		positive("CheckBody", &o.CheckBody, 4<<20),
		positive("EventLimit", &o.EventLimit, 16<<20),
	)
	if max(o.CheckBody, o.EventLimit) > maxLimit {
		err = errors.Join(err, fmt.Errorf("CheckBody or EventLimit is above %d", maxLimit))
	}
	return err
}

// maxLimit keeps what is scanned well within mcp.Scan's 2 GiB.
const maxLimit = 1 << 30

// positive puts the default in place of zero and refuses what is below it.
func positive[T ~int64](name string, value *T, byDefault T) error {
	if *value == 0 {
		*value = byDefault
	}
	if *value < 0 {
		return fmt.Errorf("%s is negative", name)
	}
	return nil
}
