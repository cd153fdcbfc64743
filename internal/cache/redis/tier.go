// Package redis is the cache tier on a Redis server, which many daemons can share.
//
// It promises what tier.Tier asks: an entry is written and answered only while all its tokens hold, one round trip a
// call, and an end to every call within Options.Timeout, whether the server is slow, hung, dead, full or sends what is no
// RESP. What cannot be read is a miss, and deleted. A server that was restarted, and may have come back with an older state
// from its disk, has new tokens, and so has one that took another's place: what was bumped stays bumped.
//
// It needs a single server (no cluster), version 5 or newer, with scripts allowed, and the clocks of the daemons together
// to within what they can bear: entries carry absolute times. It sees values as opaque bytes; who may read them, whether
// they are sealed, and when to stop asking a server that fails is the caller's business.
package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"fluentd-perf/internal/cache/tier"
)

// name is the tier's label.
const name = "redis"

// adapter is a tier on a Redis server.
type adapter struct {
	o      Options
	names  names
	client *goredis.Client
	dialer *dialer
	sender tier.Sender
	missed atomic.Bool // something was read before the link stood for the first time

	linking sync.WaitGroup // the link, where there is a Listener
}

// New makes a tier. It does not wait for the server, which may be dead; it returns an error where the options are unusable.
func New(o Options) (tier.Shared, error) {
	t, err := newAdapter(o)
	if err != nil {
		return nil, err
	}
	return t, nil
}

func newAdapter(o Options) (*adapter, error) {
	o, err := o.complete()
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	logging.Disable()       // the driver writes to stderr, for all its clients or for none
	server, _ := o.server() // it was good a moment ago
	t := &adapter{o: o, names: newNames(o.Prefix), dialer: newDialer(server), sender: tier.NewSender()}
	t.client = goredis.NewClient(t.callOptions())
	o.Pools.Add(name, t.pool, false)
	if o.Listener.Bumped != nil || o.Listener.Lost != nil {
		t.linking.Go(func() { (&link{t: t}).run(t.dialer.ctx) })
	}
	return t, nil
}

// Name implements tier.Tier.
func (t *adapter) Name() string { return name }

// pool says how the connections for calls are used. The one that receives what other daemons bump is not counted.
func (t *adapter) pool() tier.PoolStats {
	s := t.client.PoolStats()
	return tier.PoolStats{
		Open: int(s.TotalConns), Idle: int(s.IdleConns), Active: int(s.TotalConns - min(s.TotalConns, s.IdleConns)),
		Fresh: int64(s.Misses), Reused: int64(s.Hits),
	}
}

// Close ends the tier: its connections, and the subscription. It waits for no server.
func (t *adapter) Close() error {
	t.dialer.stop()
	t.linking.Wait()
	err := t.client.Close()
	t.dialer.wait()
	return err
}

// Linked implements tier.Shared.
func (t *adapter) Linked() bool { return t.dialer.one.Stands() }

// Read implements tier.Tier. It is one round trip, but for the first after a start of this daemon or the server.
func (t *adapter) Read(ctx context.Context, lookups []tier.Lookup) ([]tier.Found, error) {
	if len(lookups) == 0 {
		return nil, nil
	}
	c, err := t.readCall(lookups)
	if err != nil {
		return nil, fmt.Errorf("redis: reading: %w", err)
	}
	if !t.Linked() { // before the server is asked: whoever sees the link stand after that knows
		t.missed.Store(true)
	}
	var found []tier.Found
	err = t.do(ctx, "reading", func(ctx context.Context) error {
		cmds, err := t.eval(ctx, readScript, []call{c})
		if err != nil {
			return err
		}
		reply, err := cmds[0].StringSlice()
		if err != nil {
			return fmt.Errorf("%w: %w", errMalformed, err)
		}
		var unreadable []string
		found, unreadable, err = t.parse(reply, lookups)
		if len(unreadable) > 0 {
			_ = t.client.Unlink(ctx, unreadable...).Err() // if it stays, it is a miss again
		}
		return err
	})
	return found, err
}

// readCall builds the one call that reads all lookups.
func (t *adapter) readCall(lookups []tier.Lookup) (call, error) {
	c := newCall(len(lookups)*(1+tier.MaxGuards), 3)
	c.args = append(c.args, len(lookups), valueHeader(tier.MaxGuards)+t.o.MaxValue, rand.Text()[:slotSize])
	for _, l := range lookups {
		if n := len(l.Generations); n == 0 || n > tier.MaxGuards {
			return call{}, fmt.Errorf("%d generations guard a key, want 1 to %d", n, tier.MaxGuards)
		}
		c.keys = append(c.keys, t.names.value(l.Key))
	}
	for _, l := range lookups {
		for _, g := range l.Generations {
			c.keys = append(c.keys, t.names.token(g))
		}
	}
	return c, nil
}

// parse reads the answer to readCall: the values in their order, then the tokens in theirs. It returns the names of values
// that could not be read, too.
func (t *adapter) parse(parts []string, lookups []tier.Lookup) (found []tier.Found, unreadable []string, err error) {
	if len(parts) < len(lookups) {
		return nil, nil, errMalformed
	}
	values, tokens := parts[:len(lookups)], parts[len(lookups):]
	found = make([]tier.Found, len(lookups))
	now := time.Now()
	for i, l := range lookups {
		if len(tokens) < len(l.Generations) {
			return nil, nil, errMalformed
		}
		f := &found[i]
		if f.Tokens, err = parseTokens(tokens[:len(l.Generations)]); err != nil {
			return nil, nil, err
		}
		tokens = tokens[len(l.Generations):]
		if values[i] == "" {
			continue
		}
		e, ok := decode(l.Key, values[i])
		if !ok {
			unreadable = append(unreadable, t.names.value(l.Key))
			continue
		}
		if e.holds(f.Tokens) && now.Before(e.expires) {
			f.Value, f.Expires = []byte(e.value), e.expires
		}
	}
	return found, unreadable, nil
}

// Write implements tier.Tier. An entry whose time is over only removes the one that it replaces. Where some could not be
// stored, the others are; a call that came to its Timeout may have stored any of them.
func (t *adapter) Write(ctx context.Context, writes []tier.Write) error {
	calls := make([]call, 0, len(writes))
	var faults error
	now := time.Now()
	for i := range writes {
		c, err := t.writeCall(&writes[i], now)
		if err != nil {
			faults = fmt.Errorf("redis: writing: %w", err)
			continue
		}
		calls = append(calls, c)
	}
	if len(calls) == 0 {
		return faults
	}
	return errors.Join(faults, t.do(ctx, "writing", func(ctx context.Context) error {
		_, err := t.eval(ctx, writeScript, calls)
		return err
	}))
}

// writeCall builds the call that stores one entry, or removes what it replaces where its time is over.
func (t *adapter) writeCall(w *tier.Write, now time.Time) (call, error) {
	g := w.Guard
	if n := len(g.Generations); n == 0 || n > tier.MaxGuards || n != len(g.Tokens) {
		return call{}, fmt.Errorf("%d generations and %d tokens guard an entry, want 1 to %d of both",
			n, len(g.Tokens), tier.MaxGuards)
	}
	if len(w.Value) > t.o.MaxValue {
		return call{}, fmt.Errorf("an entry of %d bytes is over the limit of %d", len(w.Value), t.o.MaxValue)
	}
	c := newCall(1+len(g.Tokens), 2+len(g.Tokens))
	c.keys = append(c.keys, t.names.value(w.Key))
	expires := w.Expires.Round(0) // by the wall clock, as it is read
	if last := now.Add(tokenLife); expires.After(last) {
		expires = last // it dies with its tokens
	}
	if life := expires.Sub(now); life > 0 {
		c.args = append(c.args, encode(w, expires), life.Milliseconds()+1)
	} else {
		c.args = append(c.args, "", 0)
	}
	for i, gen := range g.Generations {
		c.keys = append(c.keys, t.names.token(gen))
		c.args = append(c.args, formatToken(g.Tokens[i]))
	}
	return c, nil
}

// chunk is how many keys one command of a longer list takes.
const chunk = 1024

// Bump implements tier.Tier. It removes the numbers of the slots and the tokens, and then notifies the other daemons; who
// reads next makes new ones. A full server allows all of it, as it would not were it one transaction. When it fails, any part
// may have happened.
func (t *adapter) Bump(ctx context.Context, generations []tier.Generation) error {
	return t.pipeline(ctx, "bumping", func(ctx context.Context, p goredis.Pipeliner) {
		for some := range slices.Chunk(generations, chunk) {
			slots, tokens := make([]string, len(some)), make([]string, len(some))
			for i, g := range some {
				tokens[i] = t.names.token(g)
				slots[i] = slotOf(tokens[i])
			}
			p.HDel(ctx, t.names.slots, slots...)
			p.Unlink(ctx, tokens...)
		}
		for some := range slices.Chunk(generations, chunk) {
			p.Publish(ctx, t.names.channel, t.sender.Message(some))
		}
	})
}

// Delete implements tier.Tier.
func (t *adapter) Delete(ctx context.Context, keys []tier.Key) error {
	return t.pipeline(ctx, "deleting", func(ctx context.Context, p goredis.Pipeliner) {
		for some := range slices.Chunk(keys, chunk) {
			values := make([]string, len(some))
			for i, k := range some {
				values[i] = t.names.value(k)
			}
			p.Unlink(ctx, values...)
		}
	})
}

// pipeline runs the commands that f queues, in one round trip. Without any it asks nothing.
func (t *adapter) pipeline(ctx context.Context, what string, f func(context.Context, goredis.Pipeliner)) error {
	return t.do(ctx, what, func(ctx context.Context) error {
		_, err := t.client.Pipelined(ctx, func(p goredis.Pipeliner) error { f(ctx, p); return nil })
		return err
	})
}

// do runs one call within the timeout, and once more where the server has turned out to be another.
func (t *adapter) do(ctx context.Context, what string, f func(context.Context) error) (err error) {
	within, cancel := context.WithTimeout(ctx, t.o.Timeout)
	defer cancel()
	defer func() {
		if err != nil {
			err = fmt.Errorf("redis: %s: %w", what, plain(ctx, err))
		}
	}()
	defer malformed(&err)
	if err = f(within); errors.Is(err, tier.ErrOtherServer) {
		err = f(within)
	}
	return err
}
