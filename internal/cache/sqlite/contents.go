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

// contents is what is known of one file without asking it: which rows of entries it has, so that who asks for another one
// need not ask the file and nobody counts them, and the tokens. The file belongs to this process alone, so this is the truth
// for readers. What the writer changes in the file it changes here after the commit and before it answers.
//
// A generation has a token of its own only while something is stored under it. Until then its token is made of a number that
// it shares with others, its slot's, which a bump of any of them replaces: who has read before that is refused.
type contents struct {
	mu     sync.RWMutex // guards the following
	rows   map[int64]struct{}
	tokens map[tier.Generation]tokenState
	slots  [4096]uint64
}

type tokenState struct {
	token tier.Token
	used  int64 // unix seconds of the last noted write under it; 0 where neither the file nor tokens has it
}

func newContents() *contents {
	c := &contents{rows: map[int64]struct{}{}, tokens: map[tier.Generation]tokenState{}}
	c.clearTokensLocked()
	return c
}

// rowOf is the rowid of a key's entry.
func rowOf(key *tier.Key) int64 { return int64(binary.BigEndian.Uint64(key[:])) }

// hasAny reports whether there may be an entry for one of the lookups.
func (c *contents) hasAny(lookups []tier.Lookup) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for i := range lookups {
		if _, ok := c.rows[rowOf(&lookups[i].Key)]; ok {
			return true
		}
	}
	return false
}

// entries is how many rows of entries there are.
func (c *contents) entries() int64 {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return int64(len(c.rows))
}

// slotOf is the number of which the tokens are made of generations that have none of their own.
func (c *contents) slotOf(g *tier.Generation) *uint64 {
	return &c.slots[binary.BigEndian.Uint16(g[:])%uint16(len(c.slots))]
}

// present fills tokens with those of the generations.
func (c *contents) present(tokens []tier.Token, generations []tier.Generation) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for i := range generations {
		tokens[i] = c.tokenLocked(&generations[i]).token
	}
}

// token returns a generation's token.
func (c *contents) token(g *tier.Generation) tokenState {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.tokenLocked(g)
}

func (c *contents) tokenLocked(g *tier.Generation) tokenState {
	if state, ok := c.tokens[*g]; ok {
		return state
	}
	return tokenState{token: tier.Token(*c.slotOf(g) ^ binary.BigEndian.Uint64(g[8:]))}
}

// adopt takes over what a transaction has changed in the file.
func (c *contents) adopt(done *transaction) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, there := range done.rows {
		if there {
			c.rows[id] = struct{}{}
		} else {
			delete(c.rows, id)
		}
	}
	if done.cleared {
		c.clearTokensLocked()
	}
	for g := range done.bumped {
		*c.slotOf(&g) = rand.Uint64()
		delete(c.tokens, g)
	}
	maps.Copy(c.tokens, done.noted)
}

func (c *contents) clearTokensLocked() {
	clear(c.tokens)
	for i := range c.slots {
		c.slots[i] = rand.Uint64()
	}
}

// dropUnused forgets the tokens that the file has had no note of since the given time.
func (c *contents) dropUnused(since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.tokens, func(_ tier.Generation, state tokenState) bool { return state.used < since.Unix() })
}
