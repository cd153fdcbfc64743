package dispatch

import (
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// The budget of what is sent a second time.
const (
	token         = 1_000_000 // one sending
	budgetFloor   = 3 * token
	budgetSeconds = 10 // how long a request counts
)

// budget bounds how often calls are sent again. It begins with three tokens. Each call adds a share of one, each sending
// beyond a call's first takes one, and no more is ever kept than three or the share of the calls of the last ten seconds,
// whichever is more.
//
// So of any number of calls since it was made, no more than the share and three are sent again; and after a quiet time no
// more than three are at once, however many there were before.
type budget struct {
	share int64 // of a token, that a call adds
	begun time.Time

	second atomic.Int64 // since begun; changed under mu
	noted  atomic.Int64 // calls of that second that are in none of the following yet

	mu      sync.Mutex // guards the following
	balance int64
	calls   [budgetSeconds]int64 // by the second, the current one at second % budgetSeconds
	recent  int64                // their sum
}

func newBudget(share float64) *budget {
	return &budget{share: int64(math.Round(share * token)), begun: time.Now(), balance: budgetFloor}
}

// add notes a call. It takes the lock once a second: what calls add together is what they add one by one.
func (b *budget) add(now time.Time) {
	if b.at(now) > b.second.Load() {
		b.mu.Lock()
		b.turnLocked(now)
		b.mu.Unlock()
	}
	b.noted.Add(1)
}

// at is a time as a second.
func (b *budget) at(now time.Time) int64 { return int64(now.Sub(b.begun) / time.Second) }

// take reports whether one may be sent again.
func (b *budget) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turnLocked(now)
	if b.balance < token {
		return false
	}
	b.balance -= token
	return true
}

// giveBack undoes a take: nothing was sent.
func (b *budget) giveBack() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.countLocked()
	b.putLocked(token)
}

// countLocked counts what was noted.
func (b *budget) countLocked() {
	n := b.noted.Swap(0)
	b.calls[b.second.Load()%budgetSeconds] += n
	b.recent += n
	b.putLocked(n * b.share)
}

func (b *budget) putLocked(n int64) {
	b.balance = min(b.balance+n, max(budgetFloor, b.share*b.recent))
}

// turnLocked counts what was noted, and forgets the calls that are older than the window, and what they left.
func (b *budget) turnLocked(now time.Time) {
	b.countLocked()
	second, last := b.at(now), b.second.Load()
	if second <= last {
		return
	}
	for s := max(last, second-budgetSeconds) + 1; s <= second; s++ {
		b.recent -= b.calls[s%budgetSeconds]
		b.calls[s%budgetSeconds] = 0
	}
	b.second.Store(second)
	b.putLocked(0)
}
