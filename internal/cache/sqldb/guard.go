package sqldb

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// An entry lives entryLife at most, so what is older of tokens guards nothing and may go.
const (
	entryLife  = 25 * time.Hour
	tokenLife  = 26 * time.Hour
	tokenTouch = time.Hour // a token's last use is noted when the former note is older than this
)

// backgroundTimeout is of what nobody waits for on a request's way.
const backgroundTimeout = 5 * time.Second

// derived makes the token of a generation that has none of its own of a number that it shares with others; and of the token
// the number.
func derived(number uint64, g *tier.Generation) tier.Token {
	return tier.Token(number ^ binary.BigEndian.Uint64(g[8:]))
}

// newToken returns a random token.
func newToken() tier.Token {
	for {
		if t := tier.Token(rand.Uint64()); t != 0 {
			return t
		}
	}
}

// outage is why there is no usable database, for those who ask meanwhile.
type outage struct{ cause atomic.Pointer[error] }

// set keeps the cause.
func (o *outage) set(cause error) { o.cause.Store(&cause) }

// err returns ErrUnavailable with the last cause, if one is known yet.
func (o *outage) err() error {
	if cause := o.cause.Load(); cause != nil && *cause != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, *cause)
	}
	return ErrUnavailable
}

// complaint is a line of the log about what may happen any number of times: once a minute at most.
type complaint struct {
	mu     sync.Mutex // guards the following
	said   time.Time
	unsaid int
}

// say writes the line, with how many times it happened since the last one.
func (c *complaint) say(log *slog.Logger, line string, times int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unsaid += times
	if now := time.Now(); now.Sub(c.said) >= time.Minute {
		log.Warn(line, "times", c.unsaid, "error", err)
		c.said, c.unsaid = now, 0
	}
}
