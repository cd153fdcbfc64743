package sqlite

import (
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// An entry lives 25 h at most, so what is older of tokens guards nothing and may go.
const (
	tokenLife  = 26 * time.Hour
	tokenTouch = time.Hour // a token's last use is noted when the former note is older than this
)

// tokenTable is the tokens of one file. The file belongs to this process alone, so the table in memory is the truth for
// readers. What the writer changes in the file it changes here after the commit and before it answers.
//
// A generation has a token of its own only while something is stored under it. Until then its token is made of a number that
// it shares with others, its slot's, which a bump of any of them replaces: who has read before that is refused.
type tokenTable struct {
	mu     sync.RWMutex // guards the following
	tokens map[tier.Generation]tokenState
	slots  [4096]uint64
}

type tokenState struct {
	token tier.Token
	used  int64 // unix seconds of the last noted write under it; 0 where neither the file nor the table has it
}

func newTokenTable() *tokenTable {
	t := &tokenTable{tokens: map[tier.Generation]tokenState{}}
	t.clearLocked()
	return t
}

// slotOf is the number of which the tokens are made of generations that have none of their own.
func (t *tokenTable) slotOf(g *tier.Generation) *uint64 {
	return &t.slots[binary.BigEndian.Uint16(g[:])%uint16(len(t.slots))]
}

// present fills tokens with those of the generations.
func (t *tokenTable) present(tokens []tier.Token, generations []tier.Generation) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for i := range generations {
		tokens[i] = t.ofLocked(&generations[i]).token
	}
}

// of returns a generation's token.
func (t *tokenTable) of(g *tier.Generation) tokenState {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.ofLocked(g)
}

func (t *tokenTable) ofLocked(g *tier.Generation) tokenState {
	if state, ok := t.tokens[*g]; ok {
		return state
	}
	return tokenState{token: tier.Token(*t.slotOf(g) ^ binary.BigEndian.Uint64(g[8:]))}
}

// settle takes over what a transaction has changed in the file.
func (t *tokenTable) settle(done *transaction) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if done.cleared {
		t.clearLocked()
	}
	for g := range done.bumped {
		*t.slotOf(&g) = rand.Uint64()
		delete(t.tokens, g)
	}
	maps.Copy(t.tokens, done.noted)
}

func (t *tokenTable) clearLocked() {
	clear(t.tokens)
	for i := range t.slots {
		t.slots[i] = rand.Uint64()
	}
}

// dropUnused forgets what the file has had no note of since the given time.
func (t *tokenTable) dropUnused(since time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.tokens, func(_ tier.Generation, state tokenState) bool { return state.used < since.Unix() })
}
