package redis

import (
	"errors"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

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
