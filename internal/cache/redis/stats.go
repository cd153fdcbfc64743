package redis

import (
	"context"
	"errors"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"fluentd-perf/internal/cache"
)

// countable is how many keys of everybody a database may have for Stats to look through them.
const countable = 50_000

// Stats implements cache.Tier. On a database with more than 50,000 keys of everybody nothing is known, since only looking
// at all would tell. Evictions are never known: the server counts them for everybody together. It takes a round trip for
// 1,000 keys, each within the timeout.
func (t *Tier) Stats(ctx context.Context) (cache.TierStats, error) {
	s := cache.TierStats{Entries: -1, Bytes: -1, Evictions: -1}
	var keys int64
	err := t.do(ctx, "counting", func(ctx context.Context) (err error) {
		keys, err = t.client.DBSize(ctx).Result()
		return err
	})
	if err != nil || keys > countable {
		return s, err
	}
	sum := cache.TierStats{Evictions: -1}
	for cursor, trips := uint64(0), 0; ; trips++ {
		err := t.do(ctx, "counting", func(ctx context.Context) (err error) {
			cursor, err = t.count(ctx, cursor, &sum)
			return err
		})
		switch {
		case err != nil:
			return s, err
		case cursor == 0:
			return sum, nil
		case trips > countable/100:
			return s, fmt.Errorf("redis: counting: %w: no end after %d trips", errRubbish, trips)
		}
	}
}

// count looks at some keys and adds ours to the sum.
func (t *Tier) count(ctx context.Context, from uint64, sum *cache.TierStats) (next uint64, err error) {
	keys, next, err := t.client.Scan(ctx, from, t.names.values+"*", 1000).Result()
	if err != nil || len(keys) == 0 {
		return next, err
	}
	sizes := make([]*goredis.IntCmd, len(keys))
	_, err = t.client.Pipelined(ctx, func(p goredis.Pipeliner) error {
		for i, k := range keys {
			sizes[i] = p.StrLen(ctx, k)
		}
		return nil
	})
	for _, n := range sizes {
		if n.Err() == nil && n.Val() > 0 { // else it went in between, or is none of ours
			sum.Entries++
			sum.Bytes += n.Val()
		}
	}
	if err != nil && !isReply(err) {
		return 0, err
	}
	return next, nil
}

// isReply says whether an error is the server's answer to a command.
func isReply(err error) bool {
	var reply goredis.Error
	return errors.As(err, &reply)
}

// PoolStats is what the connections of the tier do. Counts are since its start.
type PoolStats struct {
	Open, Idle, Active int64         // connections now: all, those that wait for a call, those in a call
	Fresh, Reused      int64         // calls that dialled, and calls that found a connection
	Timeouts           int64         // calls that gave up waiting for a free connection
	Waits              int64         // calls that waited for one and got it
	Waited             time.Duration // how long those waited together
}

// PoolStats reads the pool. It is quick, and asks nobody. The connection that hears of bumps is not among them.
func (t *Tier) PoolStats() PoolStats {
	s := t.client.PoolStats()
	return PoolStats{
		Open: int64(s.TotalConns), Idle: int64(s.IdleConns), Active: max(int64(s.TotalConns)-int64(s.IdleConns), 0),
		Fresh: int64(s.Misses), Reused: int64(s.Hits), Timeouts: int64(s.Timeouts),
		Waits: int64(s.WaitCount), Waited: time.Duration(s.WaitDurationNs),
	}
}
