package dispatch

import (
	"math"
	"sync"
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

	mu      sync.Mutex // guards the following
	balance int64
	calls   [budgetSeconds]int64 // by the second, the current one at second % budgetSeconds
	recent  int64                // their sum
	second  int64                // since begun
}

func newBudget(share float64) *budget {
	return &budget{share: int64(math.Round(share * token)), begun: time.Now(), balance: budgetFloor}
}

// add notes a call.
func (b *budget) add(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.turnLocked(now)
	b.calls[b.second%budgetSeconds]++
	b.recent++
	b.putLocked(b.share)
}

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
	b.putLocked(token)
}

func (b *budget) putLocked(n int64) {
	b.balance = min(b.balance+n, max(budgetFloor, b.share*b.recent))
}

// turnLocked forgets the calls that are older than the window, and what they left.
func (b *budget) turnLocked(now time.Time) {
	second := int64(now.Sub(b.begun) / time.Second)
	if second <= b.second {
		return
	}
	for s := max(b.second, second-budgetSeconds) + 1; s <= second; s++ {
		b.recent -= b.calls[s%budgetSeconds]
		b.calls[s%budgetSeconds] = 0
	}
	b.second = second
	b.putLocked(0)
}
