package sqldb

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"time"

	"fluentd-perf/internal/cache/tier"
)

// tokenTable is the tokens of one SQLite file. The file belongs to this process alone, so the table in memory is the
// truth for readers. What the writer changes in the file it changes here after the commit and before it answers.
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
	t.clear()
	return t
}

// slotOf is which slot a generation has.
func slotOf(g *tier.Generation) uint16 { return binary.BigEndian.Uint16(g[:]) % 4096 }

// present fills tokens with those of the generations.
func (t *tokenTable) present(tokens []tier.Token, generations []tier.Generation) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for i := range generations {
		tokens[i] = t.ofLocked(&generations[i]).token
	}
}

// of returns a generation's token.
func (t *tokenTable) of(g tier.Generation) tokenState {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.ofLocked(&g)
}

func (t *tokenTable) ofLocked(g *tier.Generation) tokenState {
	if state, ok := t.tokens[*g]; ok {
		return state
	}
	return tokenState{token: derived(t.slots[slotOf(g)], g)}
}

// noted says that the file now has the token.
func (t *tokenTable) noted(g tier.Generation, state tokenState) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.tokens[g] = state
}

// drop forgets a generation's token, and its slot's number.
func (t *tokenTable) drop(g tier.Generation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.slots[slotOf(&g)] = rand.Uint64()
	delete(t.tokens, g)
}

// clear forgets all of them.
func (t *tokenTable) clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.tokens)
	for i := range t.slots {
		t.slots[i] = rand.Uint64()
	}
}

// dropUnused forgets what the file has had no note of since the given time.
func (t *tokenTable) dropUnused(since time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for g, state := range t.tokens {
		if state.used < since.Unix() {
			delete(t.tokens, g)
		}
	}
}
