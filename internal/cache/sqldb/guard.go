package sqldb

import (
	"math/rand/v2"
	"time"

	"fluentd-perf/internal/cache"
)

// An entry lives 25 h at most, so a token under which nobody wrote for longer guards nothing and may go: if it is asked
// for again, a new one is made.
const (
	tokenLife  = 26 * time.Hour
	tokenTouch = time.Hour // a token's last use is noted when the former note is older than this
)

// newToken returns a random token.
func newToken() cache.Token {
	for {
		if t := cache.Token(rand.Uint64()); t != 0 {
			return t
		}
	}
}
