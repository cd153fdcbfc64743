package memory

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync"

	"fluentd-perf/internal/cache/tier"
)

// maxTokens bounds the tokens that are kept. Beyond it some is forgotten that is not pinned. What was stored under it is served
// on while its slot's number is the same, and is a miss after that.
const maxTokens = 100_000

// Tokens are the present tokens of generations. They are safe for concurrent use.
//
// A generation has a token of its own while something is stored under it, a pinned one always. That of another one is made of a
// number that it shares with others, its slot's, so that asking leaves nothing behind. A bump replaces the number and forgets
// the token: neither who read before, nor what was stored, has it again.
type Tokens struct {
	mu    sync.RWMutex // guards the following
	by    map[tier.Generation]token
	slots [4096]uint64
}

type token struct {
	tier.Token
	pinned bool
}

func newTokens() *Tokens {
	t := &Tokens{by: make(map[tier.Generation]token)}
	t.BumpAll()
	return t
}

// Read appends the present tokens.
func (t *Tokens) Read(generations []tier.Generation, into []tier.Token) []tier.Token {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for i := range generations {
		into = append(into, t.ofLocked(&generations[i]))
	}
	return into
}

// Hold reports whether the generations have these tokens now.
func (t *Tokens) Hold(generations []tier.Generation, want []tier.Token) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.holdLocked(generations, want)
}

// Bump replaces tokens: what was stored under those before is stale.
func (t *Tokens) Bump(generations []tier.Generation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range generations {
		t.bumpLocked(&generations[i])
	}
}

// BumpAll replaces every token: all that is stored is stale.
func (t *Tokens) BumpAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range t.slots {
		t.slots[i] = rand.Uint64()
	}
	for g := range t.by {
		t.bumpLocked(&g)
	}
}

// Pin gives generations tokens that are not forgotten, however many others there are.
func (t *Tokens) Pin(generations []tier.Generation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range generations {
		t.by[generations[i]] = token{t.ofLocked(&generations[i]), true}
	}
}

// slot is where the number of a generation is.
func (t *Tokens) slot(g *tier.Generation) *uint64 {
	return &t.slots[binary.BigEndian.Uint16(g[:])%uint16(len(t.slots))]
}

func (t *Tokens) ofLocked(g *tier.Generation) tier.Token {
	if own, ok := t.by[*g]; ok {
		return own.Token
	}
	return tier.Token(*t.slot(g) ^ binary.BigEndian.Uint64(g[8:]))
}

func (t *Tokens) holdLocked(generations []tier.Generation, want []tier.Token) bool {
	if len(generations) != len(want) {
		return false
	}
	for i := range generations {
		if t.ofLocked(&generations[i]) != want[i] {
			return false
		}
	}
	return true
}

func (t *Tokens) bumpLocked(g *tier.Generation) {
	if t.by[*g].pinned {
		t.by[*g] = token{newToken(), true}
		return
	}
	*t.slot(g) = rand.Uint64()
	delete(t.by, *g)
}

// keep has the guard's generations have tokens of their own, if its tokens hold.
func (t *Tokens) keep(g *tier.Guard) {
	t.mu.RLock()
	missing := slices.ContainsFunc(g.Generations, func(g tier.Generation) bool { _, ok := t.by[g]; return !ok })
	t.mu.RUnlock()
	if !missing {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.holdLocked(g.Generations, g.Tokens) {
		return
	}
	for i, name := range g.Generations {
		if _, ok := t.by[name]; !ok {
			t.makeRoomLocked()
			t.by[name] = token{Token: g.Tokens[i]}
		}
	}
}

func (t *Tokens) makeRoomLocked() {
	for some, own := range t.by {
		if len(t.by) < maxTokens {
			return
		}
		if !own.pinned {
			delete(t.by, some)
		}
	}
}

// newToken returns a token that was never there before.
func newToken() tier.Token {
	for {
		if t := tier.Token(rand.Uint64()); t != 0 {
			return t
		}
	}
}
